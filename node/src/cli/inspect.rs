//! `spore inspect`: verifies signed objects.
//!
//! Reads one JSON object or many as a stream, so that only one object at a time is in memory.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::PathBuf,
};

use clap::Args as ClapArgs;
use serde_json::json;
use spore_protocol::{
    Kind, Reject,
    json::{Map, Value},
    legacy::carried,
    signed::MAX_OBJECT_BYTES,
};

use super::{CliError, Context, text};
use crate::import::{lines, texts::TextReader};

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
    let mut objects = TextReader::new(BufReader::with_capacity(1 << 16, source), MAX_TEXT);
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
    let signed = match lines::object(text, kind) {
        Ok(signed) => signed,
        Err(reason) => return claimed(text, kind, reason),
    };
    let (kind, id, signer) = (Some(signed.kind()), Some(signed.id().to_string()), Some(signed.signer().to_string()));
    Inspection { kind, id, signer, reason: signed.verify().err() }
}

/// The result for an object that cannot be read, with the kind, id and signer that it claims.
fn claimed(text: &[u8], kind: Option<Kind>, reason: Reject) -> Inspection {
    let (message, payload) = lines::unwrapped(text);
    let kind = kind.or_else(|| message.as_deref().and_then(carried));
    let map = match payload {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_of_an_export_is_read_like_the_object_in_it() {
        let alice = spore_protocol::fixtures::identity(1);
        let profile = spore_protocol::fixtures::sign(&alice, &spore_protocol::fixtures::profile(&alice, "Alice"));
        let signed = spore_protocol::VerifiedObject::from(profile).into_signed();
        let (bare, mut line) = (signed.to_json().into_bytes(), Vec::new());
        spore_api::objects::append_line(&signed, None, &mut line).unwrap();
        for text in [&bare, &line] {
            let inspection = examine(text, None);
            assert_eq!((inspection.kind, inspection.reason), (Some(Kind::Profile), None));
            assert_eq!(inspection.id, Some(signed.id().to_string()));
        }
        let changed = String::from_utf8(line).unwrap().replace("Alice", "Alicia");
        let inspection = examine(changed.as_bytes(), None);
        assert_eq!((inspection.kind, inspection.reason.is_some()), (Some(Kind::Profile), true));
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
