//! The base script of a new task: a file, an artifact of the node, or the usual one.

use std::{io::Read as _, path::Path};

use spore_api::{query::Query, route::Route};
use spore_base::script_text;
use spore_protocol::ArtifactType;

use super::{CliError, ErrorKind, access::NodeAccess};
use crate::genesis;

/// Longest base script that is read, in bytes. The language itself allows fewer.
const MAX_SCRIPT: u64 = 1 << 20;

/// Reads the script of a file, with its line ends and without a byte order mark as scripts are stored.
///
/// # Errors
/// When the file cannot be read, is too long or is not UTF-8.
pub fn read(file: &Path) -> Result<String, CliError> {
    let failed = |e: &std::io::Error| CliError::io(file.display(), e);
    let mut bytes = Vec::new();
    // Not by the length of the file: devices and pipes tell none.
    let opened = std::fs::File::open(file).map_err(|e| failed(&e))?;
    opened.take(MAX_SCRIPT + 1).read_to_end(&mut bytes).map_err(|e| failed(&e))?;
    if bytes.len() as u64 > MAX_SCRIPT {
        return Err(CliError::usage(format!("{} has more than {MAX_SCRIPT} bytes", file.display())));
    }
    let text = script_text::decode(&bytes).map_err(|e| CliError::usage(format!("{}: {e}", file.display())))?;
    let script = script_text::normal(text);
    if let Some(note) = script.note {
        super::warn(&format!("{}: {note}", file.display()));
    }
    Ok(script.text.into_owned())
}

/// The script with a CID, which the node must have.
///
/// # Errors
/// When the node does not have it, or it is not text.
pub async fn stored(source: &NodeAccess, cid: &str) -> Result<String, CliError> {
    let bytes =
        source.text(&Route::Artifact(cid.to_owned()), &Query::default()).await.map_err(|error| match error.kind {
            ErrorKind::NotFound => {
                error.hint("`spore show ID` prints the CID of an experiment's script; `--base FILE` reads a file")
            }
            _ => error,
        })?;
    String::from_utf8(bytes)
        .map_err(|_| CliError::usage(format!("the artifact {cid} is not a script: it is not UTF-8")))
}

/// The script of a task for which none is given: the built-in task's, or none where this node cannot run it. The reference
/// begins with the script of its package in the same way.
pub const fn usual(artifact_type: &ArtifactType) -> &'static str {
    match artifact_type {
        ArtifactType::Starlark => genesis::SCRIPT,
        ArtifactType::Python | ArtifactType::Other(_) => "",
    }
}
