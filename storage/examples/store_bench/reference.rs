//! The existing network's own program on the same records, for comparing ingestion.

use std::{
    error::Error,
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use spore_protocol::{SignedObject, json::Value};

use crate::signed_file::SignedHistory;

/// Records given to the reference. It takes some seconds for them, and no less for each later one.
pub const RECORDS: usize = 2_000;

/// The environment variable that names the Python with the reference installed.
const VARIABLE: &str = "SPORE_REFERENCE";

/// What the reference measured.
pub struct ReferenceResult {
    /// Records a second, verified and inserted.
    pub rate: f64,
    /// Seconds for the frontier of a task of [`RECORDS`] records.
    pub frontier_s: f64,
}

/// Runs the reference. None where it is not installed.
///
/// # Errors
/// When the reference is installed and fails.
pub fn run(folder: &Path, history: &SignedHistory) -> Result<Option<ReferenceResult>, Box<dyn Error>> {
    let Some(python) = std::env::var_os(VARIABLE).filter(|python| !python.is_empty()) else {
        eprintln!("the reference is not measured: {VARIABLE} names no Python that has it (scripts/setup installs it)");
        return Ok(None);
    };
    let (list, database) = (folder.join("reference.jsonl"), folder.join("reference.db"));
    let mut file = fs::File::create(&list)?;
    // Manifests come first, and are few.
    let objects = history.decode(0..2 * RECORDS)?;
    let records = objects.iter().filter(|object| matches!(object, SignedObject::Experiment(_)));
    for record in records.take(RECORDS) {
        writeln!(file, "{}", record.to_json())?;
    }
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/reference/insert.py");
    let output = Command::new(python).arg(program).args([&list, &database]).output()?;
    for file in ["reference.jsonl", "reference.db", "reference.db-wal", "reference.db-shm"] {
        // Only the first two always exist.
        let _ = fs::remove_file(folder.join(file));
    }
    if !output.status.success() {
        return Err(format!("the reference failed: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    let Ok(Value::Object(output_map)) = Value::parse(&output.stdout) else {
        return Err("the reference printed no figures".into());
    };
    let number = |name: &str| match output_map.get(name) {
        Some(Value::Float(number)) => Ok(*number),
        Some(Value::Int(number)) => Ok(*number as f64),
        _ => Err(format!("the reference did not print {name}")),
    };
    Ok(Some(ReferenceResult { rate: number("records")? / number("insert_s")?, frontier_s: number("frontier_s")? }))
}
