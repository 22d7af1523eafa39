//! `spore inspect`: are these signed objects what they claim to be?
//!
//! Reads one JSON object or many, one after another, as a stream: memory stays at one object,
//! however long the file.

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

/// Bytes of one object's text: its canonical form at the largest, six times over, for that is what
/// `\u00e9` takes where the text could have held two bytes.
const MAX_TEXT: usize = 6 * MAX_OBJECT_BYTES;

/// Check signed objects: id, signature, fields
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// A file of JSON objects, one or many; `-` reads standard input
    file: PathBuf,
    /// The objects' kind, where their fields do not tell: experiment, control, task or profile
    #[arg(long)]
    kind: Option<Kind>,
    /// Print one JSON object a line, with kind, id, valid and reason
    #[arg(long)]
    json: bool,
}

/// What was found of one object.
struct Finding {
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
    let mut objects = Objects::new(BufReader::with_capacity(1 << 16, source));
    let (mut total, mut invalid) = (0u64, 0u64);
    while let Some(text) = objects.next().map_err(|e| CliError::io(args.file.display(), &e))? {
        total += 1;
        let finding = match text {
            Ok(text) => examine(&text, args.kind),
            Err(reason) => Finding { kind: args.kind, id: None, signer: None, reason: Some(reason) },
        };
        invalid += u64::from(finding.reason.is_some());
        print(&mut context.out, &finding, objects.line, args.json)?;
    }
    context.out.flush()?;
    if total == 0 {
        return Err(
            CliError::failed("no object to inspect").hint("give JSON objects such as the API's `signed` field shows")
        );
    }
    if invalid > 0 {
        return Err(CliError::failed(format!("{invalid} of {total} objects are not valid")));
    }
    Ok(())
}

fn examine(text: &[u8], kind: Option<Kind>) -> Finding {
    let signed = match SignedObject::from_json(text, kind) {
        Ok(signed) => signed,
        Err(reason) => return claimed(text, kind, reason),
    };
    let (kind, id, signer) = (Some(signed.kind()), Some(signed.id().to_string()), Some(signed.signer().to_string()));
    Finding { kind, id, signer, reason: signed.verify().err() }
}

/// An object that cannot be read still says what it claims to be.
fn claimed(text: &[u8], kind: Option<Kind>, reason: Reject) -> Finding {
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
    Finding { kind, id, signer, reason: Some(reason) }
}

fn print(out: &mut dyn Write, finding: &Finding, line: u64, as_json: bool) -> io::Result<()> {
    let kind = finding.kind.map(Kind::name);
    let valid = finding.reason.is_none();
    if as_json {
        let reason = finding.reason.as_ref();
        let object = json!({
            "kind": kind, "id": finding.id, "signer": finding.signer, "valid": valid,
            "reason": reason.map(Reject::code), "detail": reason.map(ToString::to_string), "line": line,
        });
        return writeln!(out, "{object}");
    }
    let unknown = || "unknown".to_owned();
    writeln!(out, "{} {}", kind.unwrap_or("object"), text::line(&finding.id.clone().unwrap_or_else(unknown)))?;
    writeln!(out, "  signer  {}", text::line(&finding.signer.clone().unwrap_or_else(unknown)))?;
    match &finding.reason {
        None => writeln!(out, "  valid   yes: the id is its content's hash and the signature is its signer's"),
        Some(reason) => {
            writeln!(out, "  valid   no: {} ({}, line {line})", text::line(&reason.to_string()), reason.code())
        }
    }
}

/// Cuts a stream into JSON texts: objects by their braces, anything else by its line.
struct Objects<R> {
    source: R,
    /// Where the newest text began.
    line: u64,
    /// Lines passed so far.
    newlines: u64,
}

impl<R: BufRead> Objects<R> {
    fn new(source: R) -> Self {
        Self { source, line: 1, newlines: 0 }
    }

    /// The next text; none at the end.
    fn next(&mut self) -> io::Result<Option<Result<Vec<u8>, Reject>>> {
        let mut text = Vec::new();
        let mut scan = Scan::default();
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

/// Where in a JSON text the stream is.
#[derive(Default)]
struct Scan {
    depth: u64,
    in_string: bool,
    escaped: bool,
}

impl Scan {
    /// Takes a byte; says whether the text ends with it.
    fn take(&mut self, byte: u8) -> bool {
        if self.in_string {
            let closes = byte == b'"' && !self.escaped;
            self.escaped = byte == b'\\' && !self.escaped;
            // No JSON string goes over a line's end, so a quote left open harms its own line only.
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
        // A small buffer, so that texts go over its edges.
        let mut objects = Objects::new(BufReader::with_capacity(3, input.as_bytes()));
        let mut found = Vec::new();
        while let Some(text) = objects.next().unwrap() {
            found.push(String::from_utf8(text.unwrap()).unwrap().trim().to_owned());
        }
        found
    }

    #[test]
    fn one_object_many_lines_or_many_objects_one_line() {
        assert_eq!(texts("{\n \"a\": {\"b\": \"}\\\"{\"}\n}\n"), ["{\n \"a\": {\"b\": \"}\\\"{\"}\n}"]);
        assert_eq!(texts("{\"a\":1}\n{\"b\":2}\n\n{\"c\":3}"), ["{\"a\":1}", "{\"b\":2}", "{\"c\":3}"]);
        assert_eq!(texts("{\"a\":1} {\"b\":2}"), ["{\"a\":1}", "{\"b\":2}"]);
        assert_eq!(texts(" \n \n"), [""; 0]);
    }

    #[test]
    fn a_broken_line_harms_no_other() {
        assert_eq!(texts("nonsense\n{\"a\":\"open\n{\"b\":2}\n"), ["nonsense", "{\"a\":\"open", "{\"b\":2}"]);
    }

    #[test]
    fn an_endless_text_is_refused_and_the_next_one_found() {
        let big = format!("{{\"a\":\"{}\"}}\n{{}}", "x".repeat(MAX_TEXT));
        let mut objects = Objects::new(BufReader::new(big.as_bytes()));
        assert!(matches!(objects.next().unwrap(), Some(Err(Reject::TooLarge { .. }))));
        assert_eq!(objects.next().unwrap().unwrap().unwrap(), b"{}");
    }

    #[test]
    fn every_vector_gets_its_verdict() {
        let text = include_str!("../../../tests/vectors/objects.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let cases = vectors["cases"].as_array().or_else(|| vectors.as_array()).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let kind = case["kind"].as_str().and_then(|kind| kind.parse().ok());
            let finding = examine(case["json"].as_str().unwrap().as_bytes(), kind);
            assert_eq!(finding.reason.is_none(), case["valid"].as_bool().unwrap_or(true), "{case}");
        }
    }
}
