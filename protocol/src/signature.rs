//! Checks Ed25519 signatures, strictly.

use std::cell::Cell;

use ed25519_dalek::{Signature, VerifyingKey};

use crate::{NodeId, Reject};

/// Verifies strictly: canonical S, no small-order keys. All nodes must agree on what is valid, so there
/// is no other rule anywhere.
pub(crate) fn verify(node: &NodeId, bytes: &[u8], signature: &[u8; 64], field: &'static str) -> Result<(), Reject> {
    let key = verifying_key(node).ok_or(Reject::BadKey { field })?;
    let signature = Signature::from_bytes(signature);
    key.verify_strict(bytes, &signature).map_err(|_| Reject::BadSignature)
}

thread_local! {
    /// The key that this thread decompressed last. Many objects in a row have the same signer, and
    /// decompressing a key takes a tenth of the time of checking a signature.
    static LAST_KEY: Cell<Option<VerifyingKey>> = const { Cell::new(None) };
}

fn verifying_key(node: &NodeId) -> Option<VerifyingKey> {
    let last = LAST_KEY.get().filter(|key| key.as_bytes() == node.as_bytes());
    let key = last.or_else(|| VerifyingKey::from_bytes(node.as_bytes()).ok())?;
    LAST_KEY.set(Some(key));
    Some(key)
}
