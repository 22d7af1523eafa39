//! `spore inspect`: verifies signed objects.
//!
//! Reads one JSON object or many as a stream, so that only one object at a time is in memory.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
};

use clap::Args as ClapArgs;
use serde_json::json;
use spore_protocol::{
    Kind, Reject, SignedObject,
    json::{Map, Value},
    signed::MAX_OBJECT_BYTES,
};

use super::{CliError, Context, text};

/// Bytes of the text of one object: six times the largest canonical form. An escape such as `\u00e9` takes six bytes
/// for one.
const MAX_TEXT: usize = 6 * MAX_OBJECT_BYTES;

/// Verify signed objects: id, signature and fields
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A file of one or many JSON objects; `-` reads standard input
    file: PathBuf,
    /// The kind of the objects, if their fields do not show it: experiment, control, task or profile
    #[arg(long)]
    kind: Option<Kind>,
    /// Print a line of JSON for each object, with kind, id, valid and reason
    #[arg(long)]
    json: bool,
}

/// The result for one object.
struct Inspection {
    kind: Option<Kind>,
    id: Option<String>,
    signer: Option<String>,
    reason: Option<Reject>,
}

pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source: Box<dyn Read> = if args.file.as_os_str() == "-" {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&args.file).map_err(|e| CliError::io(args.file.display(), &e))?)
    };
    let mut objects = TextReader::new(BufReader::with_capacity(1 << 16, source));
    let (mut total, mut invalid) = (0u64, 0u64);
    while let Some(text) = objects.next().map_err(|e| CliError::io(args.file.display(), &e))? {
        total += 1;
        let inspection = match text {
            Ok(text) => examine(&text, args.kind),
            Err(reason) => Inspection { kind: args.kind, id: None, signer: None, reason: Some(reason) },
        };
        invalid += u64::from(inspection.reason.is_some());
        print(&mut context.out, &inspection, objects.line, args.json)?;
    }
    context.out.flush()?;
    if total == 0 {
        return Err(CliError::failed("there is no object to inspect")
            .hint("pass JSON objects like those of `spore export`, or the `signed` field of `spore show --json`"));
    }
    if invalid > 0 {
        return Err(CliError::failed(format!("{invalid} of {total} objects are not valid")));
    }
    Ok(())
}

fn examine(text: &[u8], kind: Option<Kind>) -> Inspection {
    let signed = match SignedObject::from_json(text, kind) {
        Ok(signed) => signed,
        Err(reason) => return claimed(text, kind, reason),
    };
    let (kind, id, signer) = (Some(signed.kind()), Some(signed.id().to_string()), Some(signed.signer().to_string()));
    Inspection { kind, id, signer, reason: signed.verify().err() }
}

/// The result for an object that cannot be read, with the kind, id and signer that it claims.
fn claimed(text: &[u8], kind: Option<Kind>, reason: Reject) -> Inspection {
    let map = match Value::parse(text) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    };
    let field = |name: &str| match map.get(name) {
        Some(Value::String(text)) => Some(text.clone()),
        _ => None,
    };
    let kind = kind.or_else(|| Kind::detect(&map));
    let (id, signer) = match kind {
        Some(Kind::Task) => (field("task_id"), field("created_by")),
        _ => (field("id"), field("node_id")),
    };
    Inspection { kind, id, signer, reason: Some(reason) }
}

fn print(out: &mut dyn Write, inspection: &Inspection, line: u64, as_json: bool) -> io::Result<()> {
    let kind = inspection.kind.map(Kind::name);
    let valid = inspection.reason.is_none();
    if as_json {
        let reason = inspection.reason.as_ref();
        let object = json!({
            "kind": kind, "id": inspection.id, "signer": inspection.signer, "valid": valid,
            "reason": reason.map(Reject::code), "detail": reason.map(ToString::to_string), "line": line,
        });
        return writeln!(out, "{object}");
    }
    let unknown = || "unknown".to_owned();
    writeln!(out, "{} {}", kind.unwrap_or("object"), text::line(&inspection.id.clone().unwrap_or_else(unknown)))?;
    writeln!(out, "  signer  {}", text::line(&inspection.signer.clone().unwrap_or_else(unknown)))?;
    match &inspection.reason {
        None => writeln!(out, "  valid   yes: id and signature match the content"),
        Some(reason) => {
            writeln!(out, "  valid   no: {} ({}, line {line})", text::line(&reason.to_string()), reason.code())
        }
    }
}

/// Splits a stream into JSON texts: objects by their braces, anything else by lines.
struct TextReader<R> {
    source: R,
    /// The line on which the newest text began.
    line: u64,
    /// Line ends so far.
    newlines: u64,
}

impl<R: BufRead> TextReader<R> {
    fn new(source: R) -> Self {
        Self { source, line: 1, newlines: 0 }
    }

    /// The next text. None at the end of the stream.
    fn next(&mut self) -> io::Result<Option<Result<Vec<u8>, Reject>>> {
        let mut text = Vec::new();
        let mut scan = JsonPosition::default();
        let mut too_large = 0usize;
        loop {
            let chunk = self.source.fill_buf()?;
            if chunk.is_empty() {
                break;
            }
            let mut used = 0;
            let mut complete = false;
            for &byte in chunk {
                used += 1;
                self.newlines += u64::from(byte == b'\n');
                if text.is_empty() && too_large == 0 && byte.is_ascii_whitespace() {
                    continue;
                }
                if text.is_empty() && too_large == 0 {
                    self.line = self.newlines + 1;
                }
                if text.len() < MAX_TEXT {
                    text.push(byte)
                } else {
                    too_large += 1
                }
                complete = scan.take(byte);
                if complete {
                    break;
                }
            }
            self.source.consume(used);
            if complete {
                break;
            }
        }
        if too_large > 0 {
            return Ok(Some(Err(Reject::TooLarge { size: text.len() + too_large, limit: MAX_TEXT })));
        }
        Ok(if text.is_empty() { None } else { Some(Ok(text)) })
    }
}

/// The position of the stream in a JSON text.
#[derive(Default)]
struct JsonPosition {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl JsonPosition {
    /// Advances by one byte. Returns whether the text ends with it.
    fn take(&mut self, byte: u8) -> bool {
        if self.in_string {
            let closes = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            // No JSON string contains a line end, so a missing quote spoils its own line only.
            if closes || byte == b'\n' {
                self.in_string = false;
            }
            if byte != b'\n' {
                return false;
            }
            self.escaped = false;
            self.depth = 0;
            return true;
        }
        match byte {
            b'"' => self.in_string = true,
            b'{' | b'[' => self.depth += 1,
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                return self.depth == 0;
            }
            b'\n' => return self.depth == 0,
            _ => {}
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(input: &str) -> Vec<String> {
        // The buffer is small, so that texts cross its edges.
        let mut objects = TextReader::new(BufReader::with_capacity(3, input.as_bytes()));
        let mut found = Vec::new();
        while let Some(text) = objects.next().unwrap() {
            found.push(String::from_utf8(text.unwrap()).unwrap().trim().to_owned());
        }
        found
    }

    #[test]
    fn objects_may_share_a_line_or_span_several() {
        assert_eq!(texts("{\n \"a\": {\"b\": \"}\\\"{\"}\n}\n"), ["{\n \"a\": {\"b\": \"}\\\"{\"}\n}"]);
        assert_eq!(texts("{\"a\":1}\n{\"b\":2}\n\n{\"c\":3}"), ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
        assert_eq!(texts("{\"a\":1} {\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(texts(" \n \n"), [""; 0]);
    }

    #[test]
    fn broken_line_spoils_no_other() {
        assert_eq!(texts("nonsense\n{\"a\":\"open\n{\"b\":2}\n"), ["nonsense", "{\"a\":\"open", "{\"b\":2}"]);
    }

    #[test]
    fn too_long_text_is_rejected_and_the_next_one_found() {
        let big = format!("{{\"a\":\"{}\"}}\n{{}}", "x".repeat(MAX_TEXT));
        let mut objects = TextReader::new(BufReader::new(big.as_bytes()));
        assert!(matches!(objects.next().unwrap(), Some(Err(Reject::TooLarge { .. }))));
        assert_eq!(objects.next().unwrap().unwrap().unwrap(), b"{}");
    }

    #[test]
    fn every_test_vector_gets_its_result() {
        let text = include_str!("../../../tests/vectors/objects.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["cases"].as_array().or_else(|| vectors.as_array()).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let kind = case["kind"].as_str().and_then(|kind| kind.parse().ok());
            let inspection = examine(case["json"].as_str().unwrap().as_bytes(), kind);
            assert_eq!(inspection.reason.is_none(), case["valid"].as_bool().unwrap_or(true), "{case}");
        }
    }
}
