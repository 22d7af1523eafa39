//! This repository's own files, for the tidy rules.

use std::path::{Path, PathBuf};

/// Folders that hold what was built or fetched.
const NOT_OURS: [&str; 6] = [".git", "target", "node_modules", "dist", "test-results", "vectors"];

/// A text file of the repository.
pub struct Source {
    /// From the repository's root, with `/`.
    pub path: String,
    pub text: String,
}

impl Source {
    /// Whether it lies in this folder or is this file.
    pub fn within(&self, place: &str) -> bool {
        self.path == place
            || self.path.strip_prefix(place).is_some_and(|rest| rest.starts_with('/') || place.ends_with('/'))
    }
}

/// The repository's root.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the repository").to_owned()
}

/// All text files of ours whose names end so, in order of their paths.
pub fn files(endings: &[&str]) -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), &mut found);
    found.sort();
    let wanted = found.into_iter().filter(|path| endings.iter().any(|ending| path.to_string_lossy().ends_with(ending)));
    wanted
        .filter_map(|path| {
            let text = std::fs::read_to_string(&path).ok()?;
            let path = path.strip_prefix(root()).ok()?.to_string_lossy().replace('\\', "/");
            Some(Source { path, text })
        })
        .collect()
}

fn collect(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("the repository can be read").flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            if !NOT_OURS.contains(&name.to_string_lossy().as_ref()) {
                collect(&path, found);
            }
        } else {
            found.push(path);
        }
    }
}
