//! Target: any frame body as a message of the legacy wire.
//!
//! Random bytes never contain the right id of an object, so a payload is read twice: as it is, and with
//! the right id.
#![no_main]

use libfuzzer_sys::fuzz_target;
use spore_fuzz::bounded;
use spore_protocol::{
    Kind, Reject, SignedObject, TaskId,
    frame::{Frame, HEADER_BYTES},
    json::Value,
    legacy::{LegacyMessage, ObjectFrame, carried},
    oracle::body_length,
};

fuzz_target!(|body: &[u8]| {
    bounded(body, |body| {
        let Ok(frame) = Frame::decode(body) else { return };
        if let Some(object) = object_of(&frame) {
            round_trips(&object);
        }
        if let Ok(Some(message)) = LegacyMessage::decode(frame) {
            let bytes = message.encode().expect("a message that was read can be written");
            assert_eq!(read(&bytes), Ok(Some(message)));
        }
    });
});

/// The object in a frame's payload, with the right id.
fn object_of(frame: &Frame) -> Option<SignedObject> {
    let kind = carried(&frame.kind)?;
    let Value::Object(mut fields) = frame.payload.clone() else { return None };
    fields.remove(if kind == Kind::Task { "task_id" } else { "id" });
    fields.remove("signature");
    SignedObject::from_canonical(kind, Value::Object(fields).canonical().as_bytes(), [7; 64]).ok()
}

/// Asserts that the object comes out of its frame unchanged, also if the frame names the task of a record
/// that does not sign one. An event of a type that the reference does not know has no frame.
fn round_trips(object: &SignedObject) {
    let message = LegacyMessage::Object(object.clone());
    let Ok(bytes) = message.encode() else {
        let SignedObject::Control(event) = object else { panic!("{object:?} cannot be written") };
        assert!(!event.kind.is_known());
        assert_eq!(message.encode(), Err(Reject::UnknownKind));
        return;
    };
    assert_eq!(read(&bytes).as_ref(), Ok(&Some(message.clone())));
    let mut derived = Vec::new();
    let frame = ObjectFrame::of(object, Some(TaskId([9; 32]))).expect("the object was written before");
    frame.append_to(&mut derived).expect("the object fits a frame");
    assert_eq!(read(&derived), Ok(Some(message)));
}

/// Reads the message in a whole frame.
fn read(frame: &[u8]) -> Result<Option<LegacyMessage>, Reject> {
    let (header, body) = frame.split_at(HEADER_BYTES);
    let length = body_length(header.try_into().expect("a header has four bytes"))?;
    assert_eq!(length, body.len());
    LegacyMessage::decode(Frame::decode(body)?)
}
