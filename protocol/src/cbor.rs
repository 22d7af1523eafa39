//! CBOR (RFC 8949), for what travels on our own network and for values in the store.
//!
//! The only file that names `serde_cbor`, which is no longer maintained upstream: swapping it is
//! a change to this file.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de, de::DeserializeOwned};

/// Bytes that are not the CBOR of the expected type.
#[derive(Debug, thiserror::Error)]
pub enum CborError {
    #[error("{size} bytes, more than the {limit} allowed here")]
    TooLarge { size: usize, limit: usize },
    #[error("malformed CBOR: {0}")]
    Malformed(String),
}

/// The CBOR of a value.
///
/// # Errors
/// When the value's own `Serialize` fails.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CborError> {
    serde_cbor::ser::to_vec_packed(value).map_err(|e| CborError::Malformed(e.to_string()))
}

/// Reads one value from at most `limit` bytes, all of which it must use up.
/// Nesting beyond 128 levels is refused by the decoder.
///
/// # Errors
/// [`CborError`] for too many bytes, wrong types or trailing ones.
pub fn decode<T: DeserializeOwned>(bytes: &[u8], limit: usize) -> Result<T, CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLarge { size: bytes.len(), limit });
    }
    serde_cbor::from_slice(bytes).map_err(|e| CborError::Malformed(e.to_string()))
}

/// A byte string (serde would write a plain `Vec<u8>` as an array of numbers).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bytes(pub Vec<u8>);

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Bytes;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a byte string")
            }
            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Bytes, E> {
                Ok(Bytes(bytes.to_vec()))
            }
            fn visit_byte_buf<E: de::Error>(self, bytes: Vec<u8>) -> Result<Bytes, E> {
                Ok(Bytes(bytes))
            }
        }
        d.deserialize_byte_buf(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trailing_bytes_and_oversize_are_refused() {
        let mut bytes = encode(&(1u8, Bytes(vec![1, 2]))).unwrap();
        assert_eq!(decode::<(u8, Bytes)>(&bytes, 99).unwrap().1.0, [1, 2]);
        assert!(matches!(decode::<(u8, Bytes)>(&bytes, 2), Err(CborError::TooLarge { .. })));
        bytes.push(0);
        assert!(decode::<(u8, Bytes)>(&bytes, 99).is_err());
    }
}
