//! No circle of imports: inside each folder of a crate, modules use each other in one direction only.
//!
//! A module here is a file or a folder. Uses between a module and its own parent do not count: a parent declares its
//! children, and children may use what the parent holds. A name that the parent only re-exports counts as a use of the
//! module that the name comes from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use spore_tests::code::{Code, code};

/// A module's place in its crate, such as `["repair", "walk"]`. The crate's root is empty.
type Module = Vec<String>;

/// The crate's source folder and the module of a file, such as `node/api/src` and `["upkeep", "shapes"]`.
fn place(path: &str) -> Option<(String, Module)> {
    let (folder, rest) = path.split_once("/src/").map(|(crate_name, rest)| (format!("{crate_name}/src"), rest))?;
    let rest = rest.strip_suffix(".rs")?;
    let mut module: Module = rest.split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        module.pop();
    }
    Some((folder, module))
}

/// The modules of one crate, with the paths that each one uses.
type Paths = BTreeMap<Module, Vec<String>>;

fn crates() -> BTreeMap<String, Paths> {
    let mut crates: BTreeMap<String, Paths> = BTreeMap::new();
    for (source, Code { paths, .. }) in code() {
        if let Some((folder, module)) = place(&source.path) {
            let paths = paths.into_iter().map(|(path, _)| path);
            crates.entry(folder).or_default().entry(module).or_default().extend(paths);
        }
    }
    crates
}

/// Makes a path absolute inside its crate. None for a path that leads out of the crate.
fn absolute(module: &Module, path: &str, crate_modules: &Paths) -> Option<Vec<String>> {
    let mut segments: Vec<_> = path.split("::").map(str::to_owned).collect();
    let first = segments.first()?.clone();
    let mut base = match first.as_str() {
        "crate" => Vec::new(),
        "self" => module.clone(),
        "super" => module[..module.len().checked_sub(1)?].to_vec(),
        // A child of this module.
        name if crate_modules.contains_key(&[module.as_slice(), &[name.to_owned()]].concat()) => {
            return Some([module.as_slice(), &segments].concat());
        }
        _ => return None,
    };
    segments.remove(0);
    while segments.first().is_some_and(|segment| segment == "super") {
        base.pop()?;
        segments.remove(0);
    }
    base.extend(segments);
    Some(base)
}

/// The longest beginning of a path that is a module.
fn module_of(path: &[String], crate_modules: &Paths) -> Module {
    let is_module = |length: &usize| crate_modules.contains_key(&path[..*length]);
    path[..(0..=path.len()).rev().find(is_module).unwrap_or(0)].to_vec()
}

/// Names that a module imports or re-exports from its own children, with the children's modules.
fn names_of_children(paths: &Paths) -> BTreeMap<(Module, String), Module> {
    let mut names = BTreeMap::new();
    for (module, used) in paths {
        for path in used.iter().filter_map(|path| absolute(module, path, paths)) {
            let from = module_of(&path, paths);
            if from.len() > module.len() && from.starts_with(module) && path.len() > from.len() {
                names.insert((module.clone(), path[from.len()].clone()), from);
            }
        }
    }
    names
}

/// Uses between modules of the same folder: folder, user, used.
fn uses(paths: &Paths) -> BTreeSet<(Module, String, String)> {
    let names = names_of_children(paths);
    let mut found = BTreeSet::new();
    for (user, used) in paths {
        for path in used.iter().filter_map(|path| absolute(user, path, paths)) {
            let mut target = module_of(&path, paths);
            if let Some(name) = path.get(target.len())
                && let Some(from) = names.get(&(target.clone(), name.clone()))
            {
                target.clone_from(from);
            }
            let common = user.iter().zip(&target).take_while(|(a, b)| a == b).count();
            if let (Some(a), Some(b)) = (user.get(common), target.get(common)) {
                found.insert((user[..common].to_vec(), a.clone(), b.clone()));
            }
        }
    }
    found
}

/// The modules of a folder that use each other in a circle: what is left when modules that use none of the others, or
/// that none of the others uses, are taken away one after the other.
fn circle(mut arrows: BTreeSet<(String, String)>) -> BTreeSet<String> {
    loop {
        let users: BTreeSet<_> = arrows.iter().map(|(user, _)| user.clone()).collect();
        let used: BTreeSet<_> = arrows.iter().map(|(_, used)| used.clone()).collect();
        let before = arrows.len();
        arrows.retain(|(a, b)| used.contains(a) && users.contains(b));
        if arrows.len() == before {
            return arrows.into_iter().flat_map(|(a, b)| [a, b]).collect();
        }
    }
}

#[test]
fn modules_use_each_other_in_one_direction() {
    let mut found = Vec::new();
    for (folder, paths) in crates() {
        let mut folders: BTreeMap<Module, BTreeSet<(String, String)>> = BTreeMap::new();
        for (place, user, used) in uses(&paths) {
            folders.entry(place).or_default().insert((user, used));
        }
        for (place, arrows) in folders {
            let circle: Vec<_> = circle(arrows).into_iter().collect();
            if !circle.is_empty() {
                found.push(format!("{folder}/{}: {}", place.join("/"), circle.join(", ")));
            }
        }
    }
    assert!(found.is_empty(), "circles of imports:\n  {}", found.join("\n  "));
}

#[test]
fn import_circle_is_reported_and_a_chain_is_not() {
    let arrows = |list: &[(&str, &str)]| list.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
    assert!(circle(arrows(&[("a", "b"), ("b", "c"), ("a", "c")])).is_empty());
    let found = circle(arrows(&[("a", "b"), ("b", "c"), ("c", "b"), ("c", "d")]));
    assert_eq!(found.into_iter().collect::<Vec<_>>(), ["b", "c"]);
}
