//! The four signed objects as one idea: canonical bytes, an id that is their hash, a signature.
//!
//! [`Signed`] is what came from somewhere and is well formed; [`Verified`] is what also bears a
//! valid signature, and only [`Signed::verify`] makes one.

use std::{fmt, ops::Deref, sync::Arc};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{
    ControlEvent, NodeId, NodeProfile, ObjectId, Record, Reject, TaskManifest,
    fields::Fields,
    identity,
    json::{Map, Value},
};

/// Largest canonical form of any object: what fits the legacy codec's 10 MiB frame.
pub const MAX_OBJECT_BYTES: usize = 10 * 1024 * 1024 - 4096;

/// Which of the four objects.
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

    /// Its name in files, frames and output.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Experiment => "experiment",
            Self::Control => "control",
            Self::Task => "task",
            Self::Profile => "profile",
        }
    }

    /// Its number on the wire and in keys; never reused.
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

    /// Tells the kind of a JSON object by a field that only this kind has.
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

/// One of the four signed objects.
pub trait Object: Clone + fmt::Debug + Send + Sync + 'static + Sized {
    const KIND: Kind;
    /// The field that holds the id, which is not signed.
    const ID_FIELD: &'static str;
    /// The field that names the signer's key.
    const SIGNER_FIELD: &'static str;

    /// Reads the signed fields.
    ///
    /// # Errors
    /// A missing, unknown or ill-typed field.
    fn read(fields: &mut FieldReader) -> Result<Self, Reject>;

    /// Every signed field, for canonical bytes.
    fn signed_fields(&self) -> Map;

    /// The text that is signed: canonical JSON of the signed fields.
    fn canonical(&self) -> String {
        Value::Object(self.signed_fields()).canonical()
    }

    fn signer(&self) -> NodeId;

    /// The signer's claim, in Unix seconds.
    fn timestamp(&self) -> u64;

    /// Removes fields that travel with the object without being signed.
    fn strip_unsigned(_fields: &mut Map) {}

    /// Rules beyond types, between the object's own fields.
    ///
    /// # Errors
    /// The broken rule.
    fn check(&self) -> Result<(), Reject> {
        Ok(())
    }
}

/// Fields of an object being read; only this crate's objects can take from it.
pub struct FieldReader(pub(crate) Fields);

/// Fields as they may have been when they were signed.
pub(crate) type Spelling = [(String, Value); 2];

/// A well-formed object with its canonical bytes, id and a signature not yet checked.
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
    /// Reads an object as it travels in JSON, with its id and signature.
    ///
    /// # Errors
    /// Whatever is wrong with the text, the fields, or the id, which must be the content's hash.
    pub fn from_json(bytes: &[u8]) -> Result<Self, Reject> {
        check_size(bytes.len())?;
        Self::from_value(Value::parse(bytes)?)
    }

    /// As [`Signed::from_json`], from JSON already parsed.
    ///
    /// # Errors
    /// As [`Signed::from_json`].
    pub fn from_value(value: Value) -> Result<Self, Reject> {
        Self::from_spellings(value, |_| Vec::new())
    }

    /// As [`Signed::from_value`], where fields may have been spelled otherwise when they were signed:
    /// `others` gives what to put into their place, one attempt after the other. The attempt whose
    /// hash is the id is what was signed.
    pub(crate) fn from_spellings(value: Value, others: impl FnOnce(&Map) -> Vec<Spelling>) -> Result<Self, Reject> {
        let Value::Object(map) = value else { return Err(Reject::NotAnObject) };
        let mut fields = Fields(map);
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
            // What is wrong with the fields says more than that nothing fits.
            Self::assemble(value, id, canonical.as_bytes(), signature)?;
            return Err(Reject::IdMismatch { actual });
        }
        Self::assemble(value, id, canonical.as_bytes(), signature)
    }

    /// Reads canonical bytes as they travel on our own network and lie in the store.
    ///
    /// # Errors
    /// As [`Signed::from_json`], and [`Reject::NotCanonical`] when they are not canonical.
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
        let mut reader = FieldReader(Fields(map));
        let object = T::read(&mut reader)?;
        reader.0.finish()?;
        object.check()?;
        Ok(Self { object, id, canonical: canonical.into(), signature })
    }

    /// Checks the signature, strictly.
    ///
    /// # Errors
    /// [`Reject::BadSignature`] or [`Reject::BadKey`].
    pub fn verify(self) -> Result<Verified<T>, Reject> {
        identity::verify(&self.object.signer(), &self.canonical, &self.signature, T::SIGNER_FIELD)?;
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

    /// The object as it travels in JSON: canonical fields plus id and signature.
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

/// An object whose signature has been checked. Made by [`Signed::verify`] alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Verified<T: Object>(Signed<T>);

impl<T: Object> Deref for Verified<T> {
    type Target = Signed<T>;

    fn deref(&self) -> &Signed<T> {
        &self.0
    }
}

impl<T: Object> Verified<T> {
    pub fn into_signed(self) -> Signed<T> {
        self.0
    }
}

/// A well-formed object of any kind, its signature not yet checked.
#[derive(Clone, Debug, PartialEq)]
pub enum SignedObject {
    Experiment(Signed<Record>),
    Control(Signed<ControlEvent>),
    Task(Signed<TaskManifest>),
    Profile(Signed<NodeProfile>),
}

/// Evaluates one expression on the `Signed<T>` inside a [`SignedObject`], whichever kind it is.
macro_rules! for_each_kind {
    ($object:expr, $signed:ident => $result:expr) => {
        match $object {
            SignedObject::Experiment($signed) => $result,
            SignedObject::Control($signed) => $result,
            SignedObject::Task($signed) => $result,
            SignedObject::Profile($signed) => $result,
        }
    };
}

impl SignedObject {
    /// Reads the JSON of an object of any kind. Without `kind`, the fields decide which kind it is.
    ///
    /// # Errors
    /// As [`Signed::from_json`], or [`Reject::UnknownKind`].
    pub fn from_json(bytes: &[u8], kind: Option<Kind>) -> Result<Self, Reject> {
        check_size(bytes.len())?;
        let value = Value::parse(bytes)?;
        let Value::Object(map) = &value else { return Err(Reject::NotAnObject) };
        let kind = kind.or_else(|| Kind::detect(map)).ok_or(Reject::UnknownKind)?;
        Self::from_value_as(kind, value)
    }

    /// Reads parsed JSON of a known kind.
    ///
    /// # Errors
    /// As [`Signed::from_value`].
    pub fn from_value_as(kind: Kind, value: Value) -> Result<Self, Reject> {
        match kind {
            Kind::Experiment => Signed::from_value(value).map(Self::Experiment),
            Kind::Control => Signed::from_value(value).map(Self::Control),
            Kind::Task => Signed::from_value(value).map(Self::Task),
            Kind::Profile => Signed::from_value(value).map(Self::Profile),
        }
    }

    /// Reads the canonical bytes of an object of a known kind.
    ///
    /// # Errors
    /// As [`Signed::from_canonical`].
    pub fn from_canonical(kind: Kind, canonical: &[u8], signature: [u8; 64]) -> Result<Self, Reject> {
        match kind {
            Kind::Experiment => Signed::from_canonical(canonical, signature).map(Self::Experiment),
            Kind::Control => Signed::from_canonical(canonical, signature).map(Self::Control),
            Kind::Task => Signed::from_canonical(canonical, signature).map(Self::Task),
            Kind::Profile => Signed::from_canonical(canonical, signature).map(Self::Profile),
        }
    }

    /// Checks the signature, strictly.
    ///
    /// # Errors
    /// As [`Signed::verify`].
    pub fn verify(self) -> Result<VerifiedObject, Reject> {
        for_each_kind!(self, signed => signed.verify().map(VerifiedObject::from))
    }

    pub fn kind(&self) -> Kind {
        match self {
            Self::Experiment(_) => Kind::Experiment,
            Self::Control(_) => Kind::Control,
            Self::Task(_) => Kind::Task,
            Self::Profile(_) => Kind::Profile,
        }
    }

    pub fn id(&self) -> ObjectId {
        for_each_kind!(self, signed => signed.id())
    }

    pub fn signer(&self) -> NodeId {
        for_each_kind!(self, signed => signed.signer())
    }

    /// The signer's claim, in Unix seconds.
    pub fn timestamp(&self) -> u64 {
        for_each_kind!(self, signed => signed.timestamp())
    }

    /// The bytes that were signed.
    pub fn canonical(&self) -> &Arc<[u8]> {
        for_each_kind!(self, signed => signed.canonical())
    }

    pub fn signature(&self) -> &[u8; 64] {
        for_each_kind!(self, signed => signed.signature())
    }

    /// The object as it travels in JSON: canonical fields plus id and signature.
    pub fn to_json(&self) -> String {
        for_each_kind!(self, signed => signed.to_json())
    }
}

/// An object of any kind whose signature has been checked.
///
/// Made by [`SignedObject::verify`], or from the [`Verified`] object of one kind; nothing else can.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedObject(SignedObject);

impl Deref for VerifiedObject {
    type Target = SignedObject;

    fn deref(&self) -> &SignedObject {
        &self.0
    }
}

impl VerifiedObject {
    /// Gives up the proof that the signature is valid, and returns the object.
    pub fn into_signed(self) -> SignedObject {
        self.0
    }
}

macro_rules! from_verified {
    ($($kind:ident($object:ty)),*) => {
        $(impl From<Verified<$object>> for VerifiedObject {
            fn from(verified: Verified<$object>) -> Self { Self(SignedObject::$kind(verified.0)) }
        })*
    };
}
from_verified!(Experiment(Record), Control(ControlEvent), Task(TaskManifest), Profile(NodeProfile));

fn hash(canonical: &[u8]) -> ObjectId {
    ObjectId(Sha256::digest(canonical).into())
}

fn check_size(size: usize) -> Result<(), Reject> {
    if size > MAX_OBJECT_BYTES { Err(Reject::TooLarge { size, limit: MAX_OBJECT_BYTES }) } else { Ok(()) }
}

fn parse_signature(text: &str) -> Result<[u8; 64], Reject> {
    let mut bytes = [0; 64];
    hex::decode_to_slice(text, &mut bytes).map_err(|_| Reject::SignatureNotHex)?;
    Ok(bytes)
}
