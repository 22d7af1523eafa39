//! Lines of signed objects, as `spore export` writes and `spore import` reads them. A line is the body of the frame in
//! which the existing network sends the object.

use std::io::{self, BufRead};

use spore_protocol::{
    Kind, Reject, SignedObject, TaskId,
    frame::{Frame, HEADER_BYTES, MAX_BODY_BYTES},
    json::Value,
    legacy::{ObjectFrame, carried},
};

use super::{
    ImportError, ImportItem, ImportKind, Importer,
    pages::{ImportStopped, Pages, take_all},
};

/// Bytes of a line. A frame has the same limit.
const MAX_LINE: usize = MAX_BODY_BYTES;

/// Characters of an id in a report. An id has 64; the rest of a longer text would only fill the report.
const MAX_ID: usize = 100;

/// Appends the line of an object. `task` is the derived task of a version 1 record.
///
/// # Errors
/// [`Reject::TooLarge`]. A stored object is never too large.
pub fn write(object: &SignedObject, task: Option<TaskId>, out: &mut Vec<u8>) -> Result<(), Reject> {
    match (ObjectFrame::of(object, task), object) {
        (Some(frame), _) => write_frame(&frame, out),
        // An event of a type that only a later version knows.
        (None, object) => {
            let kind = match object {
                SignedObject::Control(event) => event.kind.name().to_owned(),
                other => other.kind().name().to_owned(),
            };
            let payload = Value::parse(object.to_json().as_bytes())?;
            let bytes = Frame { kind, payload }.encode()?;
            out.extend(bytes.iter().skip(HEADER_BYTES));
            out.push(b'\n');
            Ok(())
        }
    }
}

/// Appends the line of an object frame.
///
/// # Errors
/// As [`write`].
pub fn write_frame(frame: &ObjectFrame<'_>, out: &mut Vec<u8>) -> Result<(), Reject> {
    let start = out.len();
    frame.append_to(out)?;
    out.drain(start..start + HEADER_BYTES);
    out.push(b'\n');
    Ok(())
}

/// Imports every line of `source`. Messages call the source `name`.
///
/// # Errors
/// When the source cannot be read or the store cannot be written.
pub async fn take(
    source: Box<dyn BufRead + Send>,
    name: String,
    importer: &mut Importer<'_>,
) -> Result<(), ImportError> {
    let mut lines = LineReader { source, number: 0 };
    let read = take_all(importer, None, move |pages| read_all(&mut lines, pages)).await?;
    read.map_err(|source| ImportError::Read { what: format!("cannot read {name}"), source })
}

fn read_all(lines: &mut LineReader<Box<dyn BufRead + Send>>, pages: &mut Pages) -> io::Result<()> {
    while let Some(text) = lines.next()? {
        let entry = match text {
            Ok(text) if text.iter().all(u8::is_ascii_whitespace) => continue,
            Ok(text) => read(&text, lines.number),
            Err(size) => {
                bad(ImportKind::Lines, String::new(), lines.number, Reject::TooLarge { size, limit: MAX_LINE })
            }
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

/// Reads one line.
fn read(text: &[u8], line: u64) -> ImportItem {
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

/// Splits a stream into lines. A line longer than [`MAX_LINE`] is not kept in memory.
struct LineReader<R> {
    source: R,
    /// The number of the newest line, starting with 1.
    number: u64,
}

impl<R: BufRead> LineReader<R> {
    /// The next line without its end, or the size of a line that is too long. None at the end of the stream.
    fn next(&mut self) -> io::Result<Option<Result<Vec<u8>, usize>>> {
        let (mut text, mut size) = (Vec::new(), 0);
        loop {
            let chunk = self.source.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let part = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            size += part.len();
            if size <= MAX_LINE {
                text.extend_from_slice(part);
            } else {
                text = Vec::new();
            }
            let used = part.len() + usize::from(end.is_some());
            self.source.consume(used);
            if end.is_some() {
                self.number += 1;
                return Ok(Some(if size <= MAX_LINE { Ok(text) } else { Err(size) }));
            }
        }
        if size == 0 {
            return Ok(None);
        }
        self.number += 1;
        Ok(Some(if size <= MAX_LINE { Ok(text) } else { Err(size) }))
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_are_counted_and_long_ones_are_not_kept() {
        let long = "x".repeat(MAX_LINE + 1);
        let fits = "y".repeat(MAX_LINE);
        let text = format!("a\n\n{long}\n{fits}\nlast");
        let mut lines = LineReader { source: BufReader::with_capacity(1000, text.as_bytes()), number: 0 };
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push((lines.number, line.map(|text| text.len())));
        }
        assert_eq!(found, [(1, Ok(1)), (2, Ok(0)), (3, Err(MAX_LINE + 1)), (4, Ok(MAX_LINE)), (5, Ok(4))]);
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
