//! Signed objects of one kind: canonical bytes, an id that is their hash, and a signature.
//!
//! A [`Signed`] object is well formed, its signature is not checked yet. A [`Verified`] object also has
//! a valid signature. Only [`Signed::verify`] makes one, so a function that takes a `Verified` object
//! needs no check of its own.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    NodeId, ObjectId, Reject,
    json::{Map, Value},
    signature,
};

pub use crate::fields::FieldReader;

/// Largest canonical form of an object, in bytes. With id and signature it still fits a legacy frame
/// of 10 MiB.
pub const MAX_OBJECT_BYTES: usize = 10 * 1024 * 1024 - 4096;

/// The kind of a signed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Experiment,
    Control,
    Task,
    Profile,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::Experiment, Self::Control, Self::Task, Self::Profile];

    /// Name in files, frames and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::Control => "control",
            Self::Task => "task",
            Self::Profile => "profile",
        }
    }

    /// Number on the wire and in database keys. Never reused for another kind.
    pub const fn code(self) -> u8 {
        match self {
            Self::Experiment => 1,
            Self::Control => 2,
            Self::Task => 3,
            Self::Profile => 4,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }

    /// The kind of a JSON object, by a field that only this kind has.
    pub fn detect(map: &Map) -> Option<Self> {
        let has = |name: &str| map.contains_key(name);
        if has("val_bpb") || has("code_cid") {
            Some(Self::Experiment)
        } else if has("payload") {
            Some(Self::Control)
        } else if has("created_by") || has("goal") {
            Some(Self::Task)
        } else if has("display_name") {
            Some(Self::Profile)
        } else {
            None
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == text)
            .ok_or_else(|| format!("unknown kind {text:?}: one of experiment, control, task, profile"))
    }
}

/// The content of one kind of signed object.
pub trait Object: Clone + fmt::Debug + Send + Sync + 'static + Sized {
    const KIND: Kind;
    /// Name of the field that holds the id. The id is not signed.
    const ID_FIELD: &'static str;
    /// Name of the field that holds the signer's node id.
    const SIGNER_FIELD: &'static str;

    /// Reads the signed fields. The caller checks that none is left.
    ///
    /// # Errors
    /// [`Reject::MissingField`] or [`Reject::WrongType`].
    fn read(fields: &mut FieldReader) -> Result<Self, Reject>;

    /// All signed fields.
    fn signed_fields(&self) -> Map;

    /// The text that is signed: canonical JSON of the signed fields.
    fn canonical(&self) -> String {
        Value::Object(self.signed_fields()).canonical()
    }

    fn signer(&self) -> NodeId;

    /// When the object was made, in Unix seconds, as its signer says.
    fn timestamp(&self) -> u64;

    /// Removes the fields that travel with the object and are not signed.
    fn strip_unsigned(_fields: &mut Map) {}

    /// Checks rules between fields, beyond their types.
    ///
    /// # Errors
    /// The first rule that is broken.
    fn check(&self) -> Result<(), Reject> {
        Ok(())
    }
}

/// Two fields as they may have been spelled when the object was signed.
pub(crate) type Spelling = [(String, Value); 2];

/// A well-formed object with its canonical bytes, its id and a signature that is not checked yet.
#[derive(Clone)]
pub struct Signed<T> {
    object: T,
    id: ObjectId,
    canonical: Arc<[u8]>,
    signature: [u8; 64],
}

impl<T: Object> fmt::Debug for Signed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", T::KIND, self.id.short())
    }
}

impl<T: Object> PartialEq for Signed<T> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id && self.signature == other.signature
    }
}

impl<T> Deref for Signed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T: Object> Signed<T> {
    /// Reads an object in JSON, with its id and signature.
    ///
    /// # Errors
    /// What is wrong with the text, the fields or the id, which must be the hash of the signed fields.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Reject> {
        check_size(bytes.len())?;
        Self::from_value(Value::parse(bytes)?)
    }

    /// Reads an object out of parsed JSON, with its id and signature.
    ///
    /// # Errors
    /// As [`Signed::from_json`].
    pub fn from_value(value: Value) -> Result<Self, Reject> {
        Self::from_spellings(value, |_| Vec::new())
    }

    /// As [`Signed::from_value`], for JSON in which numbers may have lost their signed spelling. When
    /// the hash of the fields is not the id, each spelling that `others` returns is tried. The spelling
    /// whose hash is the id is the one that was signed.
    pub(crate) fn from_spellings(value: Value, others: impl FnOnce(&Map) -> Vec<Spelling>) -> Result<Self, Reject> {
        let Value::Object(map) = value else { return Err(Reject::NotAnObject) };
        let mut fields = FieldReader(map);
        let claimed = fields.text(T::ID_FIELD)?;
        let signature = parse_signature(&fields.text("signature")?)?;
        T::strip_unsigned(&mut fields.0);
        let mut value = Value::Object(fields.0);
        let canonical = value.canonical();
        check_size(canonical.len())?;
        let id = hash(canonical.as_bytes());
        let actual = id.to_string();
        if actual != claimed {
            let others = if let Value::Object(map) = &value { others(map) } else { Vec::new() };
            for spelling in others {
                if let Value::Object(map) = &mut value {
                    map.extend(spelling);
                }
                let canonical = value.canonical();
                let id = hash(canonical.as_bytes());
                if id.to_string() == claimed {
                    return Self::assemble(value, id, canonical.as_bytes(), signature);
                }
            }
            // An error in the fields says more to the user than an id that does not match.
            Self::assemble(value, id, canonical.as_bytes(), signature)?;
            return Err(Reject::IdMismatch { actual });
        }
        Self::assemble(value, id, canonical.as_bytes(), signature)
    }

    /// Reads canonical bytes, the form on our own network and in the store.
    ///
    /// # Errors
    /// As [`Signed::from_json`], and [`Reject::NotCanonical`] for another spelling of the same JSON.
    pub fn from_canonical(canonical: &[u8], signature: [u8; 64]) -> Result<Self, Reject> {
        check_size(canonical.len())?;
        let value = Value::parse(canonical)?;
        if value.canonical().as_bytes() != canonical {
            return Err(Reject::NotCanonical);
        }
        Self::assemble(value, hash(canonical), canonical, signature)
    }

    fn assemble(value: Value, id: ObjectId, canonical: &[u8], signature: [u8; 64]) -> Result<Self, Reject> {
        let Value::Object(map) = value else { return Err(Reject::NotAnObject) };
        let mut reader = FieldReader(map);
        let object = T::read(&mut reader)?;
        reader.finish()?;
        object.check()?;
        Ok(Self { object, id, canonical: canonical.into(), signature })
    }

    /// Checks the signature by the strict rule (docs/protocol.md).
    ///
    /// # Errors
    /// [`Reject::BadSignature`] or [`Reject::BadKey`].
    pub fn verify(self) -> Result<Verified<T>, Reject> {
        signature::verify(&self.object.signer(), &self.canonical, &self.signature, T::SIGNER_FIELD)?;
        Ok(Verified(self))
    }

    pub fn id(&self) -> ObjectId {
        self.id
    }

    /// The bytes that were signed.
    pub fn canonical(&self) -> &Arc<[u8]> {
        &self.canonical
    }

    pub fn signature(&self) -> &[u8; 64] {
        &self.signature
    }

    pub fn object(&self) -> &T {
        &self.object
    }

    /// The object in JSON: its signed fields, id and signature.
    pub fn to_json(&self) -> String {
        let mut fields = match Value::parse(&self.canonical) {
            Ok(Value::Object(map)) => map,
            _ => self.object.signed_fields(),
        };
        fields.insert(T::ID_FIELD.to_owned(), Value::String(self.id.to_string()));
        fields.insert("signature".to_owned(), Value::String(hex::encode(self.signature)));
        Value::Object(fields).canonical()
    }
}

/// An object whose signature has been checked. Only [`Signed::verify`] makes one.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified<T: Object>(Signed<T>);

impl<T: Object> Deref for Verified<T> {
    type Target = Signed<T>;

    fn deref(&self) -> &Signed<T> {
        &self.0
    }
}

impl<T: Object> Verified<T> {
    /// Returns the object without the proof that its signature is valid.
    pub fn into_signed(self) -> Signed<T> {
        self.0
    }
}

fn hash(canonical: &[u8]) -> ObjectId {
    ObjectId(Sha256::digest(canonical).into())
}

/// Refuses a text or canonical form that is too large.
pub(crate) fn check_size(size: usize) -> Result<(), Reject> {
    if size > MAX_OBJECT_BYTES { Err(Reject::TooLarge { size, limit: MAX_OBJECT_BYTES }) } else { Ok(()) }
}

fn parse_signature(text: &str) -> Result<[u8; 64], Reject> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Reject::SignatureNotHex)?;
    Ok(bytes)
}
