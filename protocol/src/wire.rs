//! Messages of our own network, for gossip and catch-up: CBOR of (kind, canonical bytes, signature).
//! A large object travels by gossip as (kind, id, size), and receivers fetch its body from the peer that
//! announced it.
//!
//! The signed bytes travel as they are. No node serialises an object again. Each message has one encoding,
//! the shortest CBOR, and others are refused.

use crate::{
    Kind, ObjectId, Reject, SignedObject,
    cbor::{self, Bytes},
};

/// Largest object that a gossip message carries in full, in canonical bytes. A larger one is announced.
pub const MAX_INLINE_BYTES: usize = 64 * 1024;

/// Largest gossip message in bytes: an object in full, its signature and the CBOR around them.
pub const MAX_MESSAGE_BYTES: usize = MAX_INLINE_BYTES + 256;

/// A gossip message.
#[allow(clippy::large_enum_variant, reason = "announcements are rare, and a box for each object costs more")]
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// An object in full.
    Object(SignedObject),
    /// An object of `size` canonical bytes, to be fetched from the announcing peer.
    Announce { kind: Kind, id: ObjectId, size: u64 },
}

impl Message {
    /// The message for an object: in full up to [`MAX_INLINE_BYTES`], else an announcement.
    pub fn of(object: SignedObject) -> Self {
        let size = object.canonical().len();
        if size <= MAX_INLINE_BYTES {
            return Self::Object(object);
        }
        Self::Announce { kind: object.kind(), id: object.id(), size: size as u64 }
    }

    /// The object's own id, so that one object from two peers is one message.
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Object(object) => object.id(),
            Self::Announce { id, .. } => *id,
        }
    }

    /// The bytes of the message.
    ///
    /// # Errors
    /// Never in practice: plain bytes always encode.
    pub fn encode(&self) -> Result<Vec<u8>, Reject> {
        match self {
            Self::Object(object) => encode_object(object),
            Self::Announce { kind, id, size } => {
                cbor::encode(&(kind.code(), Bytes::new(&id.0), *size)).map_err(|e| Reject::Malformed(e.to_string()))
            }
        }
    }

    /// Reads a message.
    ///
    /// # Errors
    /// [`Reject::TooLarge`], [`Reject::Malformed`], or what is wrong with the object.
    pub fn decode(bytes: &[u8]) -> Result<Self, Reject> {
        if bytes.len() > MAX_MESSAGE_BYTES {
            return Err(Reject::TooLarge { size: bytes.len(), limit: MAX_MESSAGE_BYTES });
        }
        if let Ok((kind, id, size)) = cbor::decode::<(u8, &Bytes, u64)>(bytes, MAX_MESSAGE_BYTES) {
            let id = (**id).try_into().map(ObjectId).map_err(|_| Reject::Malformed("an id is 32 bytes".into()))?;
            let message = Self::Announce { kind: kind_of(kind)?, id, size };
            return only_encoding(bytes, &message.encode()?).map(|()| message);
        }
        decode_object(bytes, MAX_MESSAGE_BYTES).map(Self::Object)
    }
}

/// The bytes of one object in full, of any size, as catch-up sends it.
///
/// # Errors
/// Never in practice: plain bytes always encode.
pub fn encode_object(object: &SignedObject) -> Result<Vec<u8>, Reject> {
    let parts = (object.kind().code(), Bytes::new(object.canonical()), Bytes::new(object.signature()));
    cbor::encode(&parts).map_err(|e| Reject::Malformed(e.to_string()))
}

/// Reads one object in full, of at most `limit` bytes.
///
/// # Errors
/// [`Reject::Malformed`], or what is wrong with the object.
pub fn decode_object(bytes: &[u8], limit: usize) -> Result<SignedObject, Reject> {
    let (kind, canonical, signature) =
        cbor::decode::<(u8, &Bytes, &Bytes)>(bytes, limit).map_err(|e| Reject::Malformed(e.to_string()))?;
    let signature = (**signature).try_into().map_err(|_| Reject::Malformed("a signature is 64 bytes".into()))?;
    let object = SignedObject::from_canonical(kind_of(kind)?, canonical, signature)?;
    only_encoding(bytes, &encode_object(&object)?).map(|()| object)
}

/// Checks that a message has its one encoding. Gossip forwards a message byte for byte: if several
/// encodings were valid, a stricter node would punish the peer that forwarded one.
fn only_encoding(bytes: &[u8], expected: &[u8]) -> Result<(), Reject> {
    if bytes == expected { Ok(()) } else { Err(Reject::Malformed("not the shortest CBOR of the message".into())) }
}

fn kind_of(code: u8) -> Result<Kind, Reject> {
    Kind::from_code(code).ok_or_else(|| Reject::Malformed(format!("unknown kind {code}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{VerifiedObject, fixtures};

    #[test]
    fn message_with_text_or_numbers_in_place_of_bytes_is_refused() {
        let identity = fixtures::identity(1);
        let object =
            VerifiedObject::from(fixtures::sign(&identity, &fixtures::profile(&identity, "one"))).into_signed();
        let bytes = encode_object(&object).unwrap();
        assert_eq!(Message::decode(&bytes), Ok(Message::Object(object.clone())));
        let (kind, signature) = (object.kind().code(), Bytes::new(object.signature()));
        let text = cbor::encode(&(kind, std::str::from_utf8(object.canonical()).unwrap(), signature)).unwrap();
        let numbers = cbor::encode(&(kind, object.canonical().to_vec(), signature)).unwrap();
        for other in [text, numbers] {
            assert!(matches!(Message::decode(&other), Err(Reject::Malformed(_))));
        }
        // 0x18 0x04 is a longer spelling of the kind 4.
        let longer = [&[0x83, 0x18, 4], &bytes[2..]].concat();
        assert_eq!(bytes[..2], [0x83, 4]);
        assert!(matches!(Message::decode(&longer), Err(Reject::Malformed(_))));
    }
}
