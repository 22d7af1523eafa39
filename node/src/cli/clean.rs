//! `spore clean`: removes what a node has gathered, and with `--all` the node itself.
//!
//! Only files of a node are removed, by their names: a directory that holds anything else keeps it.

use std::{
    fs,
    io::{self, BufRead as _, IsTerminal as _, Write},
    path::{Path, PathBuf},
};

use clap::Args as ClapArgs;
use spore_storage::Store;

use super::{CliError, Context, ErrorKind, text};
use crate::process_file;

/// What a node gathers: it comes again from other nodes, except results that no other node has.
const GATHERED: [&str; 17] = [
    "store",
    "store.replaced",
    "store.building",
    "store.ready",
    "store.scratch",
    "artifacts",
    "work",
    "import",
    "datasets.json",
    "device.json",
    "known_peer",
    "reached_peers",
    "node.json",
    "node.log",
    "node.log.1",
    "node.log.2",
    "config.draft.toml",
];
/// What makes the node this node. A key cannot be made again.
const OWN: [&str; 4] = ["identity", "config.toml", "blocked.json", "api_token"];
/// Files that say who holds the directory. They go last.
const HOLDS: [&str; 2] = ["process.json", "LOCK"];

/// Remove the store, the artifacts and the log of the node; the key and the configuration stay
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Remove the key and the configuration, too. The key cannot be made again
    #[arg(long)]
    all: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
}

/// Removes the files after asking.
///
/// # Errors
/// When a node runs, when the answer is no, or when a file cannot be removed.
pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let root = context.data.root().to_owned();
    if process_file::is_held(&context.data.process()) || Store::is_held(&root) {
        return Err(CliError::new(ErrorKind::Locked, format!("a process uses {}", root.display()))
            .hint("end it first: `spore stop`"));
    }
    let names = GATHERED.iter().chain(OWN.iter().filter(|_| args.all)).chain(HOLDS.iter().filter(|_| args.all));
    let found: Vec<PathBuf> =
        names.map(|name| root.join(name)).filter(|path| fs::symlink_metadata(path).is_ok()).collect();
    if found.is_empty() {
        return Ok(writeln!(context.out, "There is nothing to remove in {}.", root.display())?);
    }
    for path in &found {
        writeln!(context.out, "  {:>10}  {}", text::size(size(path)), path.display())?;
    }
    if args.all {
        writeln!(context.out, "The node's key is among them. It cannot be made again.")?;
    }
    context.out.flush()?;
    if !args.yes && !confirmed(&mut context.out)? {
        return Err(CliError::failed("nothing was removed"));
    }
    for path in &found {
        remove(path).map_err(|e| CliError::io(path.display(), &e))?;
    }
    if args.all {
        // A directory that holds other files stays.
        let _ = fs::remove_dir(&root);
    }
    Ok(writeln!(context.out, "Removed {}.", text::count(found.len() as u64, "entry", "entries"))?)
}

/// Asks a person.
fn confirmed(out: &mut dyn Write) -> Result<bool, CliError> {
    if !io::stdin().is_terminal() {
        return Err(CliError::usage("there is nobody to ask").hint("`--yes` removes them without asking"));
    }
    write!(out, "Remove them? [y/N] ")?;
    out.flush()?;
    let mut line = String::new();
    io::stdin().lock().read_line(&mut line).map_err(|e| CliError::io("cannot read the answer", &e))?;
    Ok(matches!(line.trim(), "y" | "Y" | "yes"))
}

/// Removes a file, a link or a folder. What a link points at stays.
fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// Bytes of a file, or of the files in a folder. Links are not followed.
fn size(path: &Path) -> u64 {
    let mut bytes = 0;
    let mut left = vec![path.to_owned()];
    while let Some(path) = left.pop() {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => {
                left.extend(fs::read_dir(&path).into_iter().flatten().flatten().map(|e| e.path()))
            }
            Ok(meta) => bytes += meta.len(),
            Err(_) => {}
        }
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data_dir::DataDir;

    fn clean(dir: &Path, all: bool) -> Result<(), CliError> {
        run(&Args { all, yes: true }, &mut Context { data: DataDir::new(dir), out: Box::new(io::sink()) })
    }

    #[test]
    fn key_and_foreign_files_stay_unless_the_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("data");
        fs::create_dir_all(dir.join("store")).unwrap();
        fs::create_dir_all(dir.join("identity")).unwrap();
        for name in ["store/x", "identity/private_key", "config.toml", "node.log", "mine.txt"] {
            fs::write(dir.join(name), "x").unwrap();
        }
        let elsewhere = tempfile::tempdir().unwrap();
        fs::write(elsewhere.path().join("kept"), "x").unwrap();
        std::os::unix::fs::symlink(elsewhere.path(), dir.join("artifacts")).unwrap();
        clean(&dir, false).unwrap();
        let names = || {
            let mut names: Vec<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["config.toml", "identity", "mine.txt"]);
        assert!(elsewhere.path().join("kept").exists(), "a link is removed, and not what it points at");
        clean(&dir, true).unwrap();
        assert_eq!(names(), ["mine.txt"]);
        fs::remove_file(dir.join("mine.txt")).unwrap();
        fs::write(dir.join("config.toml"), "").unwrap();
        clean(&dir, true).unwrap();
        assert!(!dir.exists());
    }
}
