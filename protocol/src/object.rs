//! A signed object of any kind.
//!
//! [`SignedObject`] and [`VerifiedObject`] are [`Signed`] and [`Verified`](crate::Verified) for all four kinds.

use std::{ops::Deref, sync::Arc};

use crate::{
    ControlEvent, Kind, NodeId, NodeProfile, Object, ObjectId, Record, Reject, Signed, TaskManifest, Verified,
    json::Value, signed::check_size,
};

/// A well-formed object of any kind. Its signature is not checked yet.
#[derive(Clone, Debug, PartialEq)]
pub enum SignedObject {
    Experiment(Signed<Record>),
    Control(Signed<ControlEvent>),
    Task(Signed<TaskManifest>),
    Profile(Signed<NodeProfile>),
}

/// Evaluates one expression on the `Signed<T>` in a [`SignedObject`] of any kind.
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

    /// Checks the signature.
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

    /// When the object was made, in Unix seconds, as its signer says.
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

    /// The object in JSON: its signed fields, id and signature.
    pub fn to_json(&self) -> String {
        for_each_kind!(self, signed => signed.to_json())
    }
}

/// An object of any kind whose signature has been checked.
///
/// [`SignedObject::verify`] makes one, and so does `From` the [`Verified`] object of one kind. Nothing
/// else can.
#[derive(Clone, Debug, PartialEq)]
pub struct VerifiedObject(SignedObject);

impl Deref for VerifiedObject {
    type Target = SignedObject;

    fn deref(&self) -> &SignedObject {
        &self.0
    }
}

impl VerifiedObject {
    /// Returns the object without the proof that its signature is valid.
    pub fn into_signed(self) -> SignedObject {
        self.0
    }
}

macro_rules! from_verified {
    ($($kind:ident($object:ty)),*) => {
        $(impl From<Verified<$object>> for VerifiedObject {
            fn from(verified: Verified<$object>) -> Self { Self(SignedObject::$kind(verified.into_signed())) }
        })*
    };
}
from_verified!(Experiment(Record), Control(ControlEvent), Task(TaskManifest), Profile(NodeProfile));
