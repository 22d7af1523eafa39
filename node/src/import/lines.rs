//! Lines of signed objects, as `spore export` writes and `spore import` reads them. A line is the body of the frame in
//! which the existing network sends the object.

use std::io::{self, BufRead};

use spore_protocol::{
    Kind, Reject, SignedObject,
    frame::{Frame, MAX_BODY_BYTES},
    json::{Map, Value},
    legacy::carried,
};

use super::{
    ImportError, ImportItem, ImportKind, Importer,
    pages::{ImportStopped, Pages, take_all},
    texts::TextReader,
};

/// Bytes of a line. A frame has the same limit.
const MAX_LINE: usize = MAX_BODY_BYTES;

/// Characters of an id in a report. An id has 64; the rest of a longer text would only fill the report.
const MAX_ID: usize = 100;

/// Imports every line of `source`. Messages call the source `name`.
///
/// # Errors
/// When the source cannot be read or the store cannot be written.
pub async fn take(
    source: Box<dyn BufRead + Send>,
    name: String,
    importer: &mut Importer<'_>,
) -> Result<(), ImportError> {
    let mut texts = TextReader::new(source, MAX_LINE);
    let read = take_all(importer, None, move |pages| read_all(&mut texts, pages)).await?;
    read.map_err(|source| ImportError::Read { what: format!("cannot read {name}"), source })
}

fn read_all(texts: &mut TextReader<Box<dyn BufRead + Send>>, pages: &mut Pages) -> io::Result<()> {
    while let Some(text) = texts.next()? {
        let entry = match text {
            Ok(text) => read(&text, texts.line),
            Err(reject) => bad(ImportKind::Lines, String::new(), texts.line, reject),
        };
        if let Err(ImportStopped) = pages.push(entry) {
            break;
        }
    }
    Ok(())
}

fn bad(kind: ImportKind, id: String, line: u64, reject: Reject) -> ImportItem {
    ImportItem { kind, id, line: Some(line), object: Err((reject.code(), reject.to_string())) }
}

/// The message type of a line and the object in it. A text without a frame has no type and is the object itself.
pub fn unwrapped(text: &[u8]) -> (Option<String>, Result<Value, Reject>) {
    match Value::parse(text) {
        Ok(Value::Object(map)) if is_bare(&map) => (None, Ok(Value::Object(map))),
        Ok(_) => match Frame::decode(text) {
            Ok(Frame { kind, payload }) => (Some(kind), Ok(payload)),
            Err(reject) => (None, Err(reject)),
        },
        Err(reject) => (None, Err(reject)),
    }
}

/// Whether a JSON object is the frame around a signed object. A control event has a payload too, and a signature.
fn is_frame(map: &Map) -> bool {
    map.contains_key("payload") && !map.contains_key("signature")
}

/// Whether a JSON object is a signed object without a frame around it.
fn is_bare(map: &Map) -> bool {
    !is_frame(map) && Kind::detect(map).is_some()
}

/// The signed object of a text: a line of an export, or the object alone.
///
/// # Errors
/// What is wrong with the text.
pub fn object(text: &[u8], kind: Option<Kind>) -> Result<SignedObject, Reject> {
    if !matches!(Value::parse(text), Ok(Value::Object(map)) if is_frame(&map)) {
        return SignedObject::from_json(text, kind);
    }
    let (message, payload) = unwrapped(text);
    let payload = payload?;
    let event = || match &payload {
        Value::Object(map) => Kind::detect(map).filter(|kind| *kind == Kind::Control),
        _ => None,
    };
    let kind = kind.or_else(|| message.as_deref().and_then(carried)).or_else(event).ok_or(Reject::UnknownKind)?;
    SignedObject::from_value_as(kind, payload)
}

/// Reads one text.
fn read(text: &[u8], line: u64) -> ImportItem {
    if let Ok(Value::Object(map)) = Value::parse(text)
        && is_bare(&map)
        && let Some(kind) = Kind::detect(&map)
    {
        let id = claimed_id(kind, &Value::Object(map));
        return match SignedObject::from_json(text, Some(kind)) {
            Ok(object) => ImportItem { kind: kind.into(), id, line: Some(line), object: Ok(object) },
            Err(reject) => bad(kind.into(), id, line, reject),
        };
    }
    let Frame { kind: message, payload } = match Frame::decode(text) {
        Ok(frame) => frame,
        Err(reject) => return bad(ImportKind::Lines, String::new(), line, reject),
    };
    let event = || match &payload {
        Value::Object(map) => Kind::detect(map).filter(|kind| *kind == Kind::Control),
        _ => None,
    };
    let Some(kind) = carried(&message).or_else(event) else {
        return bad(ImportKind::Lines, String::new(), line, Reject::UnknownKind);
    };
    let id = claimed_id(kind, &payload);
    match SignedObject::from_value_as(kind, payload) {
        Ok(SignedObject::Control(event)) if event.kind.name() != message => {
            let what = format!("the line is a {message}, but its event has another type");
            bad(kind.into(), id, line, Reject::Malformed(what))
        }
        Ok(object) => ImportItem { kind: kind.into(), id, line: Some(line), object: Ok(object) },
        Err(reject) => bad(kind.into(), id, line, reject),
    }
}

fn claimed_id(kind: Kind, payload: &Value) -> String {
    let field = if kind == Kind::Task { "task_id" } else { "id" };
    match payload {
        Value::Object(map) => match map.get(field) {
            Some(Value::String(id)) if id.len() <= MAX_ID => id.clone(),
            _ => String::new(),
        },
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_object_is_read_like_a_line() {
        let alice = spore_protocol::fixtures::identity(1);
        let profile = spore_protocol::fixtures::sign(&alice, &spore_protocol::fixtures::profile(&alice, "Alice"));
        let signed = spore_protocol::VerifiedObject::from(profile).into_signed();
        let entry = read(signed.to_json().as_bytes(), 3);
        assert_eq!((entry.kind, entry.id), (ImportKind::Profiles, signed.id().to_string()));
        assert!(entry.object.is_ok());
    }

    #[test]
    fn line_that_is_not_an_object_is_reported_with_its_number() {
        for (text, reason) in [
            ("nonsense", "not_json"),
            ("[]", "not_an_object"),
            (r#"{"type":"ping","payload":{}}"#, "unknown_kind"),
            (r#"{"type":"experiment"}"#, "missing_field"),
            (r#"{"type":"experiment","payload":{"id":"x"}}"#, "missing_field"),
            (r#"{"type":"task","payload":[]}"#, "not_an_object"),
        ] {
            let entry = read(text.as_bytes(), 7);
            assert_eq!(entry.object.unwrap_err().0, reason, "{text}");
            assert_eq!(entry.line, Some(7));
        }
        let entry = read(br#"{"type":"task","payload":{"task_id":"claimed"}}"#, 1);
        assert_eq!((entry.kind, entry.id.as_str()), (ImportKind::Tasks, "claimed"));
    }
}
