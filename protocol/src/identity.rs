//! A node's Ed25519 key pair. The private key signs objects, the public key is the node's id.

use ed25519_dalek::{Signer, SigningKey};

use crate::{NodeId, Object, Reject, Signed, Verified};

/// A signing key. The node reads, writes and protects its file.
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
    /// The key of a 32-byte seed. The seed of a real node must come from a secure random source.
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The secret seed. Only for the identity file and for libp2p's key pair.
    pub fn seed(&self) -> [u8; 32] {
        self.key.to_bytes()
    }

    pub fn node_id(&self) -> NodeId {
        NodeId(self.key.verifying_key().to_bytes())
    }

    /// Signs an object that names this node as its signer.
    ///
    /// # Errors
    /// [`Reject::BadSignature`] when the object names another signer, and the errors of
    /// [`Signed::from_canonical`] for invalid fields.
    pub fn sign<T: Object>(&self, object: &T) -> Result<Verified<T>, Reject> {
        let canonical = object.canonical();
        let signature = self.key.sign(canonical.as_bytes()).to_bytes();
        Signed::<T>::from_canonical(canonical.as_bytes(), signature)?.verify()
    }
}
