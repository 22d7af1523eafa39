//! A node's Ed25519 key: signs objects; its public half is the node's name.

use std::cell::Cell;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::{NodeId, Object, Reject, Signed, Verified};

/// A signing key. Reading, keeping and protecting its file is the node's business.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl std::fmt::Debug for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Identity({})", self.node_id().short())
    }
}

impl Identity {
    /// The key of a 32-byte seed, which must come from a secure source.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The secret seed, for the identity file and libp2p's key pair only.
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    pub fn node_id(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    /// Signs an object that names this node as its signer.
    ///
    /// # Errors
    /// [`Reject::BadSignature`] when the object names another signer, and whatever
    /// [`Signed::from_canonical`] finds wrong with its fields.
    pub fn sign<T: Object>(&self, object: &T) -> Result<Verified<T>, Reject> {
        let canonical = object.canonical();
        let signature = self.key.sign(canonical.as_bytes()).to_bytes();
        Signed::<T>::from_canonical(canonical.as_bytes(), signature)?.verify()
    }
}

/// Strict verification: canonical S, no small-order keys. One rule everywhere.
pub(crate) fn verify(node: &NodeId, bytes: &[u8], signature: &[u8; 64], field: &'static str) -> Result<(), Reject> {
    let key = verifying_key(node).ok_or(Reject::BadKey { field })?;
    let signature = ed25519_dalek::Signature::from_bytes(signature);
    key.verify_strict(bytes, &signature).map_err(|_| Reject::BadSignature)
}

thread_local! {
    /// The key that this thread unpacked last. Histories come in runs of one publisher's objects, and
    /// unpacking a key takes a tenth of the time of checking a signature.
    static LAST_KEY: Cell<Option<VerifyingKey>> = const { Cell::new(None) };
}

fn verifying_key(node: &NodeId) -> Option<VerifyingKey> {
    let last = LAST_KEY.get().filter(|key| key.as_bytes() == node.as_bytes());
    let key = last.or_else(|| VerifyingKey::from_bytes(node.as_bytes()).ok())?;
    LAST_KEY.set(Some(key));
    Some(key)
}
