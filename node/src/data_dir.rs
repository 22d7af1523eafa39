//! The data directory: where everything of one node lies, and how its small files are written.
//!
//! Paths are named here and nowhere else. Small files are written to a temporary name, flushed and
//! renamed, so that a crash leaves the old one or the new one, and are readable by their owner
//! alone. Reading never creates anything.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// Bytes of randomness in the API token, as hex twice as many digits.
const TOKEN_BYTES: usize = 32;

/// A file of the data directory could not be used.
#[derive(Debug, thiserror::Error)]
pub enum DataDirError {
    #[error("{path}: {source}", path = path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: {reason}", path = path.display())]
    Corrupt { path: PathBuf, reason: String },
}

impl DataDirError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A running node, as it tells of itself in `node.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningNode {
    pub pid: u32,
    /// Where its API answers on this machine, such as `127.0.0.1:8470`.
    pub address: String,
    /// The address serves the explorer too.
    pub explorer: bool,
    /// Unix seconds.
    pub started: u64,
}

/// A dataset that was added by hand: a name for an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dataset {
    pub name: String,
    /// Lower-case hex.
    pub cid: String,
    /// Bytes.
    pub size: u64,
}

/// A data directory, whether or not it exists yet.
#[derive(Clone, Debug)]
pub struct DataDir {
    root: PathBuf,
}

impl DataDir {
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn config(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    pub fn identity(&self) -> PathBuf {
        self.root.join("identity")
    }

    /// Peers of the existing network that were once connected, one a line.
    pub fn known_peers(&self) -> PathBuf {
        self.root.join("known_peer")
    }

    fn token(&self) -> PathBuf {
        self.root.join("api_token")
    }

    fn node(&self) -> PathBuf {
        self.root.join("node.json")
    }

    fn datasets_file(&self) -> PathBuf {
        self.root.join("datasets.json")
    }

    /// Where experiments run; emptied by whoever runs them.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Makes the directory, for its owner alone.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<(), DataDirError> {
        create_private_dir(&self.root)
    }

    /// The token that writing requests to the API must bear; made when there is none.
    ///
    /// # Errors
    /// When it cannot be read or made.
    pub fn token_or_new(&self) -> Result<String, DataDirError> {
        if let Some(token) = self.read_token()? {
            return Ok(token);
        }
        let path = self.token();
        let mut bytes = [0; TOKEN_BYTES];
        getrandom::fill(&mut bytes)
            .map_err(|e| DataDirError::Io { path: path.clone(), source: io::Error::other(e) })?;
        let token = hex::encode(bytes);
        write_private(&path, token.as_bytes())?;
        Ok(token)
    }

    /// The API token, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_token(&self) -> Result<Option<String>, DataDirError> {
        Ok(read_text(&self.token())?.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()))
    }

    /// Tells other commands of this node until [`DataDir::forget_node`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce_node(&self, node: &RunningNode) -> Result<(), DataDirError> {
        let text = serde_json::to_string_pretty(node)
            .map_err(|e| DataDirError::Corrupt { path: self.node(), reason: e.to_string() })?;
        write_private(&self.node(), text.as_bytes())
    }

    /// Removes what [`DataDir::announce_node`] wrote.
    pub fn forget_node(&self) {
        if let Err(error) = fs::remove_file(self.node()) {
            tracing::debug!(%error, "node.json was not removed");
        }
    }

    /// The node that runs on this directory. What a killed node left behind does not count: its
    /// process is gone. (Should another program have its number by now, it does not answer as a node.)
    pub fn running_node(&self) -> Option<RunningNode> {
        let text = fs::read_to_string(self.node()).ok()?;
        let node: RunningNode = serde_json::from_str(&text).ok()?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(node.pid).ok()?)?;
        match rustix::process::test_kill_process(pid) {
            Ok(()) | Err(rustix::io::Errno::PERM) => Some(node),
            Err(_) => None,
        }
    }

    /// Datasets added by hand, oldest first.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn datasets(&self) -> Result<Vec<Dataset>, DataDirError> {
        let path = self.datasets_file();
        let Some(text) = read_text(&path)? else { return Ok(Vec::new()) };
        serde_json::from_str(&text).map_err(|e| DataDirError::Corrupt { path, reason: e.to_string() })
    }

    /// Adds a name to the list, or gives an old name its new artifact.
    ///
    /// # Errors
    /// When the list cannot be read or written.
    pub fn add_dataset(&self, dataset: Dataset) -> Result<(), DataDirError> {
        let mut datasets = self.datasets()?;
        datasets.retain(|known| known.name != dataset.name);
        datasets.push(dataset);
        let path = self.datasets_file();
        let text = serde_json::to_string_pretty(&datasets)
            .map_err(|e| DataDirError::Corrupt { path: path.clone(), reason: e.to_string() })?;
        write_private(&path, text.as_bytes())
    }
}

/// A text file's content; none when there is no such file.
///
/// # Errors
/// Any other reason why it cannot be read.
pub fn read_text(path: &Path) -> Result<Option<String>, DataDirError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(DataDirError::io(path)(e)),
    }
}

/// Makes a directory (and its parents) with mode 0700.
///
/// # Errors
/// When it cannot be made.
pub fn create_private_dir(path: &Path) -> Result<(), DataDirError> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(DataDirError::io(path))
}

/// Replaces a file in one step, mode 0600.
///
/// # Errors
/// When it cannot be written; the old file is then still there.
pub fn write_private(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    let temporary = write_temporary(path, bytes)?;
    fs::rename(&temporary, path).map_err(DataDirError::io(path))?;
    sync_parent(path)
}

/// Makes a file in one step, mode 0600, unless there is one: then that one is left alone.
///
/// # Errors
/// When it cannot be written.
pub fn write_private_once(path: &Path, bytes: &[u8]) -> Result<(), DataDirError> {
    let temporary = write_temporary(path, bytes)?;
    let linked = fs::hard_link(&temporary, path);
    fs::remove_file(&temporary).map_err(DataDirError::io(&temporary))?;
    match linked {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(DataDirError::io(path)(e)),
        _ => sync_parent(path),
    }
}

/// Takes everybody else's rights off a file. Says whether there were any.
///
/// # Errors
/// When its mode cannot be read or changed.
pub fn make_private(path: &Path) -> Result<bool, DataDirError> {
    let mode = fs::metadata(path).map_err(DataDirError::io(path))?.permissions().mode();
    let loose = mode & 0o077 != 0;
    if loose {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700)).map_err(DataDirError::io(path))?;
    }
    Ok(loose)
}

fn write_temporary(path: &Path, bytes: &[u8]) -> Result<PathBuf, DataDirError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    // One left by a killed process of the same number would have its mode and owner.
    let _ = fs::remove_file(&temporary);
    let written = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    if let Err(e) = written {
        let _ = fs::remove_file(&temporary);
        return Err(DataDirError::io(path)(e));
    }
    Ok(temporary)
}

fn sync_parent(path: &Path) -> Result<(), DataDirError> {
    match path.parent() {
        Some(parent) => File::open(parent).and_then(|dir| dir.sync_all()).map_err(DataDirError::io(parent)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn small_files_are_private_and_replaced_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(mode(&path), 0o600);
        write_private_once(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two", "a file that is there stays");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no temporary file is left");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(make_private(&path).unwrap());
        assert!(!make_private(&path).unwrap());
        assert_eq!(mode(&path), 0o600);
    }

    #[test]
    fn a_dead_node_is_not_running() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        assert_eq!(data.running_node(), None);
        let mut node =
            RunningNode { pid: std::process::id(), address: "127.0.0.1:1".into(), explorer: true, started: 1 };
        data.announce_node(&node).unwrap();
        assert_eq!(data.running_node(), Some(node.clone()));
        let mut child = std::process::Command::new("true").spawn().unwrap();
        node.pid = child.id();
        child.wait().unwrap();
        data.announce_node(&node).unwrap();
        assert_eq!(data.running_node(), None);
        data.forget_node();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn the_token_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        assert_eq!(data.read_token().unwrap(), None);
        let token = data.token_or_new().unwrap();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        assert_eq!(data.token_or_new().unwrap(), token);
        assert_eq!(mode(&dir.path().join("api_token")), 0o600);
    }

    #[test]
    fn a_dataset_name_moves_to_its_newest_artifact() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        for cid in ["aa", "bb"] {
            data.add_dataset(Dataset { name: "books".into(), cid: cid.into(), size: 1 }).unwrap();
        }
        let cids: Vec<_> = data.datasets().unwrap().into_iter().map(|d| d.cid).collect();
        assert_eq!(cids, ["bb"]);
    }
}
