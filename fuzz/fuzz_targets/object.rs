//! Target: any JSON as an object of each kind.
//!
//! Random bytes never contain the right id of an object, so each input is read twice: as it is, and
//! without id and signature, as canonical bytes.
#![no_main]

use std::fmt::Debug;

use libfuzzer_sys::fuzz_target;
use spore_fuzz::bounded;
use spore_protocol::{
    ControlEvent, Kind, NodeProfile, Object, Record, Signed, SignedObject, TaskManifest,
    json::Value,
    wire::{Message, decode_object, encode_object},
};

fuzz_target!(|bytes: &[u8]| {
    bounded(bytes, |bytes| {
        if let Ok(object) = SignedObject::from_json(bytes, None) {
            round_trips(&object);
        }
    });
    if let Ok(value) = Value::parse(bytes) {
        as_kind::<Record>(&value);
        as_kind::<ControlEvent>(&value);
        as_kind::<TaskManifest>(&value);
        as_kind::<NodeProfile>(&value);
    }
});

fn as_kind<T: Object + Debug + PartialEq>(value: &Value) {
    if let Ok(object) = SignedObject::from_value_as(T::KIND, value.clone()) {
        round_trips(&object);
    }
    let Value::Object(mut fields) = value.clone() else { return };
    fields.remove(T::ID_FIELD);
    fields.remove("signature");
    let canonical = Value::Object(fields).canonical();
    let Ok(signed) = Signed::<T>::from_canonical(canonical.as_bytes(), [7; 64]) else { return };
    assert_eq!(signed.canonical().as_ref(), canonical.as_bytes());
    assert_eq!(Value::parse(canonical.as_bytes()).map(|value| value.canonical()), Ok(canonical.clone()));

    // The fields that were read are written the same, except for the spelling of numbers.
    let written = Value::Object(signed.object().signed_fields()).canonical();
    let again = Signed::<T>::from_canonical(written.as_bytes(), [7; 64]).expect("fields that were written can be read");
    assert_eq!(again.object(), signed.object());

    let object =
        SignedObject::from_canonical(T::KIND, canonical.as_bytes(), [7; 64]).expect("the same bytes were read before");
    round_trips(&object);
    // No key that the fuzzer finds has made a signature of 64 sevens.
    assert!(object.verify().is_err());
}

/// Asserts that the object comes out unchanged of each form in which it travels.
fn round_trips(object: &SignedObject) {
    let json = object.to_json();
    assert_eq!(SignedObject::from_json(json.as_bytes(), Some(object.kind())).as_ref(), Ok(object));
    let bytes = encode_object(object).expect("plain bytes always encode");
    assert_eq!(decode_object(&bytes, bytes.len()).as_ref(), Ok(object));
    let message = Message::of(object.clone());
    assert_eq!(message.id(), object.id());
    let bytes = message.encode().expect("plain bytes always encode");
    assert_eq!(Message::decode(&bytes).as_ref(), Ok(&message));
    assert_eq!(Kind::from_code(object.kind().code()), Some(object.kind()));
}
