//! The rules of the repository, checked over the repository's own files. `CONTRIBUTING.md` tells
//! them to people; an exception stands in one of the tables below with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, process::Command};

use spore_tests::{
    code::{CLIPPY_DENIALS, code, rust_sources},
    source::{Source, files, root},
};

/// Lines of a source file, about: past that, look for the second idea in it.
const FILE_LINES: usize = 500;
/// Lines of a function, about.
const FUNCTION_LINES: usize = 60;
/// Lines of a test, which may tell a scenario from its beginning to its end.
const TEST_LINES: usize = 100;

/// Files and functions that are longer, and why. A function is named `FILE::NAME`.
const LONGER: &[(&str, &str)] = &[("explorer-ui/src/lib/api/types.ts", "generated from node/openapi.json")];

/// Members and what they may use of each other.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("storage", &["spore-protocol"]),
    ("trainer", &["spore-protocol"]),
    ("node/base", &["spore-protocol"]),
    ("node/ingest", &["spore-base", "spore-protocol", "spore-storage"]),
    ("node/network", &["spore-base", "spore-ingest", "spore-protocol", "spore-storage"]),
    ("node/bridge", &["spore-base", "spore-ingest", "spore-protocol", "spore-storage"]),
    ("node/lab", &["spore-base", "spore-ingest", "spore-protocol", "spore-storage", "spore-trainer"]),
    ("node/api", &["spore-base", "spore-ingest", "spore-protocol", "spore-storage"]),
    (
        "node",
        &[
            "spore-api",
            "spore-base",
            "spore-bridge",
            "spore-ingest",
            "spore-lab",
            "spore-network",
            "spore-protocol",
            "spore-storage",
            "spore-trainer",
        ],
    ),
    ("tests", &["spore-protocol", "spore-storage"]),
];

/// What a crate never holds, by the dependencies that it would need. `node` stands for the crates inside it too.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "protocol",
        &["tokio", "libp2p", "rocksdb", "burn", "wgpu", "warp", "reqwest", "rand", "rand_chacha", "rustix", "tracing"],
    ),
    ("storage", &["tokio", "libp2p", "burn", "wgpu", "warp", "reqwest", "starlark", "clap"]),
    ("trainer", &["tokio", "libp2p", "rocksdb", "warp", "reqwest", "clap"]),
    ("node", &["rocksdb", "burn", "burn-wgpu", "wgpu", "starlark", "serde_cbor", "ed25519-dalek"]),
    ("node/base", &["libp2p", "warp", "reqwest", "clap"]),
    ("node/ingest", &["libp2p", "warp", "reqwest", "clap"]),
    ("node/network", &["warp", "reqwest", "clap"]),
    ("node/bridge", &["libp2p", "warp", "reqwest", "clap"]),
    ("node/lab", &["libp2p", "clap"]),
    ("node/api", &["libp2p", "clap"]),
];

/// Paths in code, and the places that alone may name them, outside tests.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("serde_cbor", &["protocol/src/cbor.rs"], "it is unmaintained: swapping it must be a change to one file"),
    (
        "std::env",
        &["node/src/cli", "node/src/main.rs", "tests/"],
        "libraries get values as arguments and do not read the environment",
    ),
    (
        "env::var",
        &["node/src/cli", "node/src/main.rs", "tests/"],
        "libraries get values as arguments and do not read the environment",
    ),
    ("std::net", &["node/", "tests/"], "only the node speaks to others"),
    (
        "std::process::exit",
        &["node/src/cli", "node/src/main.rs", "trainer/src/worker"],
        "one place decides how a process ends",
    ),
    ("rocksdb", &["storage/src"], "one crate knows the database"),
    ("libp2p", &["node/network", "node/src"], "one crate knows the network"),
    ("burn", &["trainer/"], "a relay builds without it"),
    ("starlark", &["trainer/src/lang"], "one module knows the interpreter"),
    ("clap", &["node/src/cli", "node/src/main.rs"], "the command line is the CLI's"),
    ("ed25519_dalek", &["protocol/src"], "one rule decides what a valid signature is"),
];

/// Outside tests the protocol is pure.
const IMPURE: [&str; 6] = ["std::time", "std::fs", "std::net", "std::env", "std::thread", "std::process"];

/// Macros that print, and where they may.
const PRINTING: [&str; 4] = ["println", "eprintln", "print", "eprint"];
const PRINTERS: [&str; 4] = ["node/src/cli", "node/src/main.rs", "trainer/examples", "tests/"];

/// The packages of the project's design.
const DESIGN: [&str; 12] = [
    "libp2p",
    "tokio",
    "serde",
    "serde_cbor",
    "ed25519-dalek",
    "sha2",
    "rocksdb",
    "clap",
    "warp",
    "burn",
    "burn-wgpu",
    "reqwest",
];

fn manifest(path: &str) -> toml::Table {
    std::fs::read_to_string(root().join(path)).unwrap().parse().unwrap()
}

/// Fails with all that was found, one a line.
fn report(rule: &str, found: &[String]) {
    assert!(found.is_empty(), "{rule}:\n  {}", found.join("\n  "));
}

/// Examples, benchmarks and build scripts are programs: they print and look around as such.
fn is_program(source: &Source) -> bool {
    source.path.ends_with("/build.rs") || ["/examples/", "/benches/"].iter().any(|folder| source.path.contains(folder))
}

fn excused(name: &str) -> bool {
    LONGER.iter().any(|(excused, _)| *excused == name)
}

#[test]
fn crates_use_each_other_only_along_the_arrows() {
    let mut found = Vec::new();
    for (member, allowed) in ARROWS {
        let manifest = manifest(&format!("{member}/Cargo.toml"));
        let names = |section: &str| {
            manifest.get(section).and_then(|s| s.as_table()).into_iter().flat_map(|s| s.keys().cloned())
        };
        let used: Vec<_> = names("dependencies").chain(names("dev-dependencies")).collect();
        for name in &used {
            let inside = |place: &str| *member == place || member.starts_with(&format!("{place}/"));
            let mut forbidden = FORBIDDEN.iter().filter(|(place, _)| inside(place)).flat_map(|(_, names)| *names);
            let dev = manifest.get("dev-dependencies").is_some_and(|table| table.get(name).is_some());
            let arrow = !name.starts_with("spore-") || allowed.contains(&name.as_str());
            if !arrow || forbidden.any(|forbidden| forbidden == name) && !dev {
                found.push(format!("{member} must not use {name}"));
            }
        }
    }
    report("docs/architecture.md draws the arrows", &found);
    let members = manifest("Cargo.toml")["workspace"]["members"].as_array().unwrap().len();
    assert_eq!(members, ARROWS.len(), "every member stands in ARROWS");
}

#[test]
fn a_relay_builds_without_the_trainer() {
    let trainer = &manifest("node/Cargo.toml")["dependencies"]["spore-trainer"];
    assert_eq!(trainer.get("optional").and_then(toml::Value::as_bool), Some(true));
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let tree = Command::new(cargo)
        .args([
            "tree",
            "-p",
            "spore-node",
            "--no-default-features",
            "-e",
            "normal",
            "--offline",
            "--locked",
            "--prefix",
            "none",
        ])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<_> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"libp2p"), "{tree}");
    for heavy in ["spore-trainer", "burn", "wgpu", "starlark", "cubecl"] {
        assert!(!names.contains(&heavy), "a relay needs {heavy}");
    }
}

#[test]
fn dependencies_are_those_of_the_design_or_argued() {
    let workspace = manifest("Cargo.toml");
    let used = workspace["workspace"]["dependencies"].as_table().unwrap();
    for name in DESIGN {
        assert!(used.contains_key(name), "the design asks for {name}");
    }
    let argued = std::fs::read_to_string(root().join("docs/adr/0005-dependencies.md")).unwrap();
    let silent = used.keys().filter(|name| !DESIGN.contains(&name.as_str()) && !name.starts_with("spore-"));
    let silent: Vec<_> = silent.filter(|name| !argued.contains(&format!("`{name}`"))).cloned().collect();
    report("docs/adr/0005-dependencies.md says why for each of", &silent);
}

#[test]
fn clippy_denies_what_can_panic_in_every_crate() {
    let workspace = manifest("Cargo.toml");
    let lints = &workspace["workspace"]["lints"];
    for lint in CLIPPY_DENIALS {
        assert_eq!(lints["clippy"][lint].as_str(), Some("deny"), "{lint}");
    }
    assert_eq!(lints["rust"]["unsafe_code"].as_str(), Some("deny"));
    for (member, _) in ARROWS {
        let manifest = manifest(&format!("{member}/Cargo.toml"));
        assert_eq!(manifest["lints"]["workspace"].as_bool(), Some(true), "{member}");
    }
}

#[test]
fn files_are_short_enough_to_hold_one_idea() {
    let long = |source: &Source| source.text.lines().count() > FILE_LINES && !excused(&source.path);
    let found: Vec<_> = files(&[".rs", ".ts", ".svelte", ".mjs"])
        .iter()
        .filter(|source| long(source))
        .map(|source| format!("{}: {} lines", source.path, source.text.lines().count()))
        .collect();
    report(&format!("more than {FILE_LINES} lines"), &found);
}

#[test]
fn every_file_says_what_it_is_for() {
    let silent = |source: &&Source| !source.text.trim_start().starts_with("//!");
    let found: Vec<_> = rust_sources().iter().filter(silent).map(|source| source.path.clone()).collect();
    report("these do not open with `//!`", &found);
}

#[test]
fn functions_are_short_enough_to_hold_one_idea() {
    let mut found = Vec::new();
    for (source, code) in code() {
        for (name, lines, in_test) in &code.functions {
            let limit = if *in_test { TEST_LINES } else { FUNCTION_LINES };
            let name = format!("{}::{name}", source.path);
            if *lines > limit && !excused(&name) {
                found.push(format!("{name}: {lines} lines, more than {limit}"));
            }
        }
    }
    report("long functions", &found);
}

#[test]
fn each_outside_thing_is_named_in_its_own_place_only() {
    let mut found = Vec::new();
    for (source, code) in code() {
        for (path, line) in &code.paths {
            for (thing, places, reason) in ONLY_IN {
                let named = path == thing || path.starts_with(&format!("{thing}::"));
                if named && !is_program(&source) && !places.iter().any(|place| source.within(place)) {
                    found.push(format!("{}:{line}: {path} ({reason})", source.path));
                }
            }
            if source.within("protocol/src") && IMPURE.iter().any(|thing| path.starts_with(thing)) {
                found.push(format!("{}:{line}: {path} (the protocol is pure)", source.path));
            }
        }
    }
    report("named in the wrong place", &found);
}

#[test]
fn code_is_finished_and_only_the_command_line_prints() {
    let mut found = Vec::new();
    for (source, code) in code() {
        for (name, line) in &code.macros {
            let unfinished = ["todo", "unimplemented", "dbg"].contains(&name.as_str());
            let printer = is_program(&source) || PRINTERS.iter().any(|place| source.within(place));
            let prints = PRINTING.contains(&name.as_str()) && !printer;
            if unfinished || prints {
                found.push(format!("{}:{line}: {name}!", source.path));
            }
        }
        found.extend(
            code.bare_allows.iter().map(|line| format!("{}:{line}: an allowed denial without its reason", source.path)),
        );
    }
    report("unfinished, printing or unexplained", &found);
}

#[test]
fn changelog_has_an_unreleased_section() {
    let text = std::fs::read_to_string(root().join("CHANGELOG.md")).unwrap();
    assert!(text.contains("\n## [Unreleased]\n"));
}

/// Targets of a Markdown file's links.
fn links(text: &str) -> Vec<String> {
    let target = |rest: &str| rest.split([')', ' ', '#']).next().unwrap_or_default().to_owned();
    text.split("](")
        .skip(1)
        .map(target)
        .filter(|target| !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:"))
        .collect()
}

#[test]
fn links_in_documents_lead_to_existing_files() {
    let mut found = Vec::new();
    for source in files(&[".md"]) {
        let folder = root().join(&source.path).parent().unwrap().to_owned();
        let broken = links(&source.text).into_iter().filter(|target| !folder.join(target).exists());
        found.extend(broken.map(|target| format!("{}: {target}", source.path)));
    }
    for source in rust_sources() {
        for (_, rest) in source.text.match_indices("docs/").map(|(at, _)| source.text.split_at(at)) {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && !"/-_.".contains(c)).unwrap_or(rest.len());
            let name = rest[..end].trim_end_matches('.');
            if !mentioned_exists(name) {
                found.push(format!("{}: {name}", source.path));
            }
        }
    }
    report("links to nowhere", &found);
}

/// Whether a name in `docs/` is a file or folder, or the number of a decision such as `docs/adr/0003`.
fn mentioned_exists(name: &str) -> bool {
    let path = root().join(name);
    let begins = |entry: std::io::Result<std::fs::DirEntry>| {
        entry.is_ok_and(|entry| {
            entry.file_name().to_string_lossy().starts_with(path.file_name().unwrap().to_string_lossy().as_ref())
        })
    };
    path.exists()
        || name.starts_with("docs/adr/")
            && path.parent().is_some_and(|folder| folder.read_dir().is_ok_and(|mut all| all.any(begins)))
}

#[test]
fn sources_contain_no_absolute_paths() {
    // Put together here, so that this file does not find itself.
    let places: Vec<_> = ["home", "root", "Users", "work"].iter().map(|name| format!("/{name}/")).collect();
    let mut found = Vec::new();
    for source in files(&["", ".rs", ".md", ".toml", ".ts", ".svelte", ".mjs", ".json", ".star", ".yml"]) {
        for (number, line) in source.text.lines().enumerate() {
            let absolute = places.iter().any(|place| {
                let at = line.find(place.as_str());
                // After a letter, digit or dot it is part of a relative path or an address.
                at.is_some_and(|at| !line[..at].ends_with(|c: char| c.is_alphanumeric() || "._-~})".contains(c)))
            });
            if absolute {
                found.push(format!("{}:{}: {}", source.path, number + 1, line.trim()));
            }
        }
    }
    report("absolute paths", &found);
}

#[test]
fn exceptions_are_still_needed() {
    let mut lines: BTreeMap<String, usize> = files(&[".rs", ".ts", ".svelte", ".mjs"])
        .into_iter()
        .map(|source| (source.path.clone(), source.text.lines().count()))
        .collect();
    for (source, code) in code() {
        lines.extend(code.functions.into_iter().map(|(name, lines, _)| (format!("{}::{name}", source.path), lines)));
    }
    let limit = |name: &str| if name.contains("::") { FUNCTION_LINES } else { FILE_LINES };
    let stale = LONGER.iter().filter(|(name, _)| lines.get(*name).is_none_or(|lines| *lines <= limit(name)));
    let found: Vec<_> = stale.map(|(name, why)| format!("{name} ({why})")).collect();
    report("gone, or short enough without an exception", &found);
}

/// First words that turn a test's name into a riddle, and prepositions. See `docs/style.md`.
const RIDDLES: [&str; 31] = [
    "what", "of", "that", "whatever", "whoever", "nothing", "about", "above", "across", "after", "against", "among",
    "around", "at", "before", "behind", "below", "beside", "between", "beyond", "by", "for", "from", "in", "into",
    "on", "through", "to", "under", "with", "without",
];

#[test]
fn test_names_say_what_holds() {
    let mut found = Vec::new();
    for source in rust_sources() {
        for (number, name) in test_names(&source.text) {
            let first = name.split('_').next().unwrap_or_default();
            if RIDDLES.contains(&first) {
                found.push(format!("{}:{number}: {name}", source.path));
            }
        }
    }
    report("test names must begin with their subject (docs/style.md)", &found);
}

/// Functions that follow an attribute ending in `test]`, also inside macros such as `proptest!`, with their lines.
fn test_names(text: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut marked = false;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.starts_with("#[") {
            let attribute = line.trim_start_matches("#[").split(['(', ']']).next().unwrap_or_default();
            marked |= attribute.rsplit("::").next() == Some("test");
        } else if let Some(rest) = line.strip_prefix("async fn ").or_else(|| line.strip_prefix("fn ")) {
            if marked {
                found.push((number + 1, rest.split(['(', '<']).next().unwrap_or_default().to_owned()));
            }
            marked = false;
        }
    }
    found
}
