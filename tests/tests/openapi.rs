//! Requests made up by the OpenAPI document, against a real node: no answer is a server's error, and each has a status, a
//! type and a shape that the document describes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use spore_tests::{TestNet, command, seed::SeededTask, skip::skip};

/// Seconds for making up requests. The document has some thirty routes that read.
const BUDGET: &str = "30";
/// Bounds a hang on a busy machine.
const LIMIT: Duration = Duration::from_secs(240);

/// The program that makes up requests: `SPORE_SCHEMATHESIS`, or the one that `scripts/setup` installs.
fn schemathesis() -> Option<PathBuf> {
    let cache = || {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
    };
    let installed = || Some(cache()?.join("spore/schemathesis/bin/schemathesis"));
    let found = std::env::var_os("SPORE_SCHEMATHESIS").map(PathBuf::from).or_else(installed);
    let found = found.filter(|program| program.is_file());
    if found.is_none() {
        skip("schemathesis is not here: scripts/setup installs it, or SPORE_SCHEMATHESIS names it");
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_to_made_up_requests_are_as_the_document_says() {
    let Some(program) = schemathesis() else { return };
    let mut net = TestNet::new();
    SeededTask::new(3, 20).store(&net.dir_of("ours"));
    let node = net.start("ours", None, &["--no-train"]).await;
    let mut run = Command::new(program);
    run.current_dir(net.dir()).arg("run").arg(net.node(node).url("/api/v1/openapi.json"));
    run.args([
        "--no-color",
        "--max-time",
        BUDGET,
        "--max-examples",
        "20",
        "--seed",
        "1",
        "--no-shrink",
        "--workers",
        "1",
    ]);
    run.args([
        "--checks",
        "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance",
    ]);
    run.args(["--phases", "coverage,fuzzing", "--suppress-health-check", "all", "--warnings", "off"]);
    // The stream of events does not end, and requests that write need the token.
    run.args(["--include-method", "GET", "--exclude-path", "/api/v1/events", "--request-timeout", "20"]);
    let output = command::run_within(run, b"", LIMIT);
    output.expect_code(0);
}
