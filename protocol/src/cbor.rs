//! CBOR (RFC 8949), for messages of our own network and for values in the store.
//!
//! The only file that names `serde_cbor`, which is no longer maintained upstream: replacing it
//! changes this file alone.

use serde::{Deserialize, Serialize};
/// Byte strings, owned and borrowed. Without these types serde writes bytes as an array of numbers.
/// They write a byte string; they read text and arrays of numbers too.
pub use serde_bytes::{ByteArray, ByteBuf, Bytes};

/// Why bytes are not the CBOR of the expected type.
#[derive(Debug, thiserror::Error)]
pub enum CborError {
    #[error("{size} bytes are more than the limit of {limit}")]
    TooLarge { size: usize, limit: usize },
    #[error("malformed CBOR: {0}")]
    Malformed(String),
}

/// The CBOR of a value.
///
/// # Errors
/// [`CborError::Malformed`] when the `Serialize` of the value fails.
pub fn encode<T: Serialize>(value: &T) -> Result<Vec<u8>, CborError> {
    serde_cbor::ser::to_vec_packed(value).map_err(|e| CborError::Malformed(e.to_string()))
}

/// Reads one value from at most `limit` bytes, without bytes after the value. The decoder refuses
/// more than 128 levels of nesting.
///
/// # Errors
/// [`CborError`] for too many bytes, a wrong type, or bytes after the value.
pub fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8], limit: usize) -> Result<T, CborError> {
    if bytes.len() > limit {
        return Err(CborError::TooLarge { size: bytes.len(), limit });
    }
    serde_cbor::from_slice(bytes).map_err(|e| CborError::Malformed(e.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_bytes_and_bytes_after_the_value_are_refused() {
        let mut bytes = encode(&(1u8, Bytes::new(&[1, 2]))).unwrap();
        assert_eq!(bytes, [0x82, 1, 0x42, 1, 2], "a byte string of two bytes, not an array of numbers");
        assert_eq!(decode::<(u8, ByteBuf)>(&bytes, 99).unwrap(), (1, ByteBuf::from([1, 2])));
        assert!(matches!(decode::<(u8, ByteBuf)>(&bytes, 2), Err(CborError::TooLarge { .. })));
        bytes.push(0);
        assert!(decode::<(u8, ByteBuf)>(&bytes, 99).is_err());
    }
}
