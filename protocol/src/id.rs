//! Identifiers: 32 bytes, written as lower-case hex, with one type for each meaning.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

/// Text that is not 64 lower-case hex digits.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected 64 lower-case hex digits, got {0:?}")]
pub struct BadId(pub String);

fn parse_hex(text: &str) -> Option<[u8; 32]> {
    let lower = text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let mut bytes = [0; 32];
    (lower && hex::decode_to_slice(text, &mut bytes).is_ok()).then_some(bytes)
}

macro_rules! id {
    ($($(#[$doc:meta])+ $name:ident),* $(,)?) => {$(
        $(#[$doc])+
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first eight hex digits, for people.
            pub fn short(&self) -> String {
                self.to_string().chars().take(8).collect()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl FromStr for $name {
            type Err = BadId;

            fn from_str(text: &str) -> Result<Self, BadId> {
                parse_hex(text).map(Self).ok_or_else(|| BadId(text.chars().take(80).collect()))
            }
        }

        /// Hex text in human-readable formats such as JSON, a byte string in others such as CBOR.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() { s.collect_str(self) } else { s.serialize_bytes(&self.0) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    String::deserialize(d)?.parse().map_err(D::Error::custom)
                } else {
                    crate::cbor::ByteArray::deserialize(d).map(|bytes| Self(bytes.into_array()))
                }
            }
        }
    )*};
}

id! {
    /// SHA-256 of an experiment record's canonical bytes.
    RecordId,
    /// SHA-256 of a task manifest's canonical bytes. In a legacy task without a manifest, the id of the
    /// record that founded the task.
    TaskId,
    /// SHA-256 of a control event's canonical bytes.
    EventId,
    /// SHA-256 of a node profile's canonical bytes.
    ProfileId,
    /// SHA-256 of the canonical bytes of a signed object of any kind.
    ObjectId,
    /// SHA-256 of the bytes of an artifact: a script, a dataset or an evaluator's description.
    Cid,
    /// A node's Ed25519 public key.
    NodeId,
}

impl Cid {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

macro_rules! object_id {
    ($($name:ident),*) => {$(
        impl From<$name> for ObjectId { fn from(id: $name) -> Self { Self(id.0) } }
        impl From<ObjectId> for $name { fn from(id: ObjectId) -> Self { Self(id.0) } }
    )*};
}
object_id!(RecordId, TaskId, EventId, ProfileId);

/// A legacy task has the id of the record that founded it.
impl From<RecordId> for TaskId {
    fn from(id: RecordId) -> Self {
        Self(id.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_is_lower_case_hex_of_64_digits() {
        let text = "ab".repeat(32);
        assert_eq!(text.parse::<Cid>().unwrap().to_string(), text);
        for bad in ["", "ab", &"AB".repeat(32), &"ab".repeat(33), &"zz".repeat(32)] {
            assert!(bad.parse::<Cid>().is_err(), "{bad}");
        }
    }
}
