//! The rules of the house, checked over the repository's own files. `CONTRIBUTING.md` tells
//! them to people; an exception stands in one of the tables below with its reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeSet, process::Command};

use spore_tests::source::{Source, files, root};
use syn::{spanned::Spanned as _, visit::Visit};

/// Lines of a source file, about: past that, look for the second idea in it.
const FILE_LINES: usize = 500;
/// Lines of a function, about.
const FUNCTION_LINES: usize = 60;
/// Lines of a test, which may tell a scenario from its beginning to its end.
const TEST_LINES: usize = 100;

/// Files and functions that are longer, and why. A function is named `FILE::NAME`.
const LONGER: &[(&str, &str)] = &[
    ("explorer-ui/src/lib/api/types.ts", "generated from node/openapi.json"),
    ("node/src/api/view.rs", "the one conversion of what the store holds into the API's shapes"),
    ("node/src/cli/experiment.rs::print", "a line for each fact of an experiment"),
    ("node/src/runtime.rs::start", "every part of a node in the order of its start"),
    ("trainer/src/exec/backward.rs::node_gradient", "one arm for each operation of the graph"),
    ("trainer/src/exec/backward.rs::binary_gradient", "one arm for each operation of two operands"),
    ("trainer/src/exec/pass.rs::evaluate", "one arm for each operation of the graph"),
];

/// Members and what they may use of each other.
const ARROWS: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("storage", &["spore-protocol"]),
    ("trainer", &["spore-protocol"]),
    ("node", &["spore-protocol", "spore-storage", "spore-trainer"]),
    ("tests", &["spore-protocol", "spore-storage"]),
];

/// What a crate never holds, by the dependencies that it would need.
const FORBIDDEN: &[(&str, &[&str])] = &[
    (
        "protocol",
        &[
            "tokio",
            "libp2p",
            "rocksdb",
            "burn",
            "wgpu",
            "warp",
            "reqwest",
            "getrandom",
            "rand_chacha",
            "rustix",
            "tracing",
        ],
    ),
    ("storage", &["tokio", "libp2p", "burn", "wgpu", "warp", "reqwest", "starlark", "clap"]),
    ("trainer", &["tokio", "libp2p", "rocksdb", "warp", "reqwest", "clap"]),
    ("node", &["rocksdb", "burn", "burn-wgpu", "wgpu", "starlark", "serde_cbor", "ed25519-dalek"]),
];

/// Paths in code, and the places that alone may name them, outside tests.
const ONLY_IN: &[(&str, &[&str], &str)] = &[
    ("serde_cbor", &["protocol/src/cbor.rs"], "it is unmaintained: swapping it must be a change to one file"),
    ("std::env", &["node/src/cli", "node/src/main.rs", "tests/"], "libraries are told, they do not look around"),
    ("env::var", &["node/src/cli", "node/src/main.rs", "tests/"], "libraries are told, they do not look around"),
    ("std::net", &["node/", "tests/"], "only the node speaks to others"),
    (
        "std::process::exit",
        &["node/src/cli", "node/src/main.rs", "trainer/src/worker"],
        "one place decides how a process ends",
    ),
    ("rocksdb", &["storage/src"], "one crate knows the database"),
    ("libp2p", &["node/src"], "one crate knows the network"),
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

const CLIPPY_DENIALS: [&str; 7] =
    ["unwrap_used", "expect_used", "panic", "todo", "unimplemented", "indexing_slicing", "dbg_macro"];

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

fn rust_sources() -> Vec<Source> {
    files(&[".rs"]).into_iter().filter(|source| !source.within("patches")).collect()
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
            let forbidden =
                FORBIDDEN.iter().find(|(crate_name, _)| crate_name == member).map_or(&[][..], |(_, names)| names);
            if name.starts_with("spore-") && !allowed.contains(&name.as_str()) || forbidden.contains(&name.as_str()) {
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

/// What one file's code does, told apart into tests and the rest.
#[derive(Default)]
struct Code {
    in_test: bool,
    /// Paths as written, such as `std::env::var`, with their lines.
    paths: Vec<(String, usize)>,
    macros: Vec<(String, usize)>,
    functions: Vec<(String, usize, bool)>,
    /// Attributes that allow a denied lint and do not say why.
    bare_allows: Vec<usize>,
}

fn is_test(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|attribute| match &attribute.meta {
        syn::Meta::List(list) => list.path.is_ident("cfg") && list.tokens.to_string().contains("test"),
        syn::Meta::Path(path) => path.segments.last().is_some_and(|last| last.ident == "test"),
        syn::Meta::NameValue(_) => false,
    }) || attributes.iter().any(|a| a.path().segments.last().is_some_and(|last| last.ident == "test"))
}

impl Code {
    /// Visits below an item, remembering whether it is a test's.
    fn below(&mut self, attributes: &[syn::Attribute], visit: impl FnOnce(&mut Self)) {
        let outer = self.in_test;
        self.in_test |= is_test(attributes);
        visit(self);
        self.in_test = outer;
    }

    fn function(&mut self, signature: &syn::Signature, block: &syn::Block) {
        let (start, end) = (signature.span().start().line, block.span().end().line);
        self.functions.push((signature.ident.to_string(), end - start + 1, self.in_test));
    }

    fn path(&mut self, path: String, line: usize) {
        if !self.in_test {
            self.paths.push((path, line));
        }
    }

    fn use_tree(&mut self, prefix: &str, tree: &syn::UseTree) {
        let join = |name: &syn::Ident| if prefix.is_empty() { name.to_string() } else { format!("{prefix}::{name}") };
        match tree {
            syn::UseTree::Path(path) => self.use_tree(&join(&path.ident), &path.tree),
            syn::UseTree::Name(name) => self.path(join(&name.ident), name.ident.span().start().line),
            syn::UseTree::Rename(name) => self.path(join(&name.ident), name.ident.span().start().line),
            syn::UseTree::Glob(glob) => self.path(prefix.to_owned(), glob.span().start().line),
            syn::UseTree::Group(group) => group.items.iter().for_each(|tree| self.use_tree(prefix, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Code {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        self.below(&item.attrs, |code| syn::visit::visit_item_mod(code, item));
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.below(&item.attrs, |code| {
            code.function(&item.sig, &item.block);
            syn::visit::visit_item_fn(code, item);
        });
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.below(&item.attrs, |code| {
            code.function(&item.sig, &item.block);
            syn::visit::visit_impl_item_fn(code, item);
        });
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.below(&item.attrs, |code| code.use_tree("", &item.tree));
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let names: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        // A lone name is no crate's path but a variable's or a function's.
        if names.len() > 1 {
            self.path(names.join("::"), path.span().start().line);
        }
        syn::visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast syn::Macro) {
        let name = item.path.segments.last().map(|segment| segment.ident.to_string()).unwrap_or_default();
        if !self.in_test {
            self.macros.push((name, item.span().start().line));
        }
        syn::visit::visit_macro(self, item);
    }

    fn visit_attribute(&mut self, attribute: &'ast syn::Attribute) {
        if let syn::Meta::List(list) = &attribute.meta
            && (list.path.is_ident("allow") || list.path.is_ident("expect"))
        {
            let lints = list.tokens.to_string();
            if CLIPPY_DENIALS.iter().any(|lint| lints.contains(lint)) && !lints.contains("reason") && !self.in_test {
                self.bare_allows.push(attribute.span().start().line);
            }
        }
    }
}

/// Each Rust file with what its code does. Files that only tests use are tests throughout.
fn code() -> Vec<(Source, Code)> {
    let parse = |source: Source| {
        let file = syn::parse_file(&source.text).unwrap_or_else(|e| panic!("{}: {e}", source.path));
        let test_file = source.path.contains("/tests/") || source.path.ends_with("/tests.rs");
        let mut code = Code { in_test: test_file, ..Code::default() };
        code.visit_file(&file);
        (source, code)
    };
    rust_sources().into_iter().map(parse).collect()
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
fn nothing_is_left_unfinished_and_only_the_command_line_prints() {
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
fn the_changelog_has_a_place_for_the_next_entry() {
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
fn documents_lead_to_what_is_there() {
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
fn nothing_names_a_place_on_somebodys_machine() {
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
fn exceptions_name_what_is_there() {
    let mut present: BTreeSet<_> =
        files(&[".rs", ".ts", ".svelte", ".mjs"]).into_iter().map(|source| source.path).collect();
    for (source, code) in code() {
        present.extend(code.functions.into_iter().map(|(name, ..)| format!("{}::{name}", source.path)));
    }
    let gone = LONGER.iter().filter(|(name, _)| !present.contains(*name));
    let found: Vec<_> = gone.map(|(name, why)| format!("{name} ({why})")).collect();
    report("no such file or function", &found);
}
