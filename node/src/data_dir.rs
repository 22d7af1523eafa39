//! The data directory: the paths of a node's files, and the contents of the small ones.
//!
//! No other module names these paths. `spore_base::private_file` writes the files. Reading never creates anything.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use spore_base::{
    private_file::{FileError, create_private_dir, read_text, write_private},
    random,
};

/// Random bytes of the API token. The hex text has twice as many digits.
const TOKEN_BYTES: usize = 32;

/// The contents of `node.json`, which a running node writes for commands on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningNode {
    pub pid: u32,
    /// Address of the API on this machine, such as `127.0.0.1:8470`.
    pub address: String,
    /// The address serves the explorer too.
    pub explorer: bool,
    /// Unix seconds.
    pub started: u64,
}

/// A dataset that a user added: a name for an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NamedDataset {
    pub name: String,
    /// Lower-case hex.
    pub cid: String,
    /// Bytes.
    pub size: u64,
}

/// A data directory, which need not exist yet.
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

    /// The file of peers of the existing network that were once connected, one a line.
    pub fn known_peers(&self) -> PathBuf {
        self.root.join("known_peer")
    }

    /// The libp2p peers that earlier runs reached.
    pub fn reached_peers(&self) -> PathBuf {
        self.root.join("reached_peers")
    }

    /// The signers and tasks that the operator blocks, in JSON.
    pub fn blocked(&self) -> PathBuf {
        self.root.join("blocked.json")
    }

    /// The process that runs the node, see [`crate::process_file`].
    pub fn process(&self) -> PathBuf {
        self.root.join("process.json")
    }

    /// The output of a node that runs in the background.
    pub fn log(&self) -> PathBuf {
        self.root.join("node.log")
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

    /// The devices that this node tried and measured, in JSON.
    pub fn devices(&self) -> PathBuf {
        self.root.join("device.json")
    }

    /// The directory in which experiments run. The engine empties it.
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// Makes the directory. Only its owner can read it.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn create(&self) -> Result<(), FileError> {
        create_private_dir(&self.root)
    }

    /// The token that requests which change the node must send. Makes one if there is none.
    ///
    /// # Errors
    /// When the token cannot be read or written.
    pub fn token_or_new(&self) -> Result<String, FileError> {
        if let Some(token) = self.read_token()? {
            return Ok(token);
        }
        let path = self.token();
        let token = hex::encode(random::secret::<TOKEN_BYTES>().map_err(FileError::io(&path))?);
        write_private(&path, token.as_bytes())?;
        Ok(token)
    }

    /// The API token, if there is one.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read_token(&self) -> Result<Option<String>, FileError> {
        Ok(read_text(&self.token())?.map(|text| text.trim().to_owned()).filter(|token| !token.is_empty()))
    }

    /// Announces this node to other commands, until [`DataDir::forget_node`].
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn announce_node(&self, node: &RunningNode) -> Result<(), FileError> {
        let text = serde_json::to_string_pretty(node)
            .map_err(|e| FileError::Corrupt { path: self.node(), reason: e.to_string() })?;
        write_private(&self.node(), text.as_bytes())
    }

    /// Whether the file says what [`DataDir::announce_node`] wrote for this node.
    pub fn is_announced(&self, node: &RunningNode) -> bool {
        self.announced().as_ref() == Some(node)
    }

    fn announced(&self) -> Option<RunningNode> {
        serde_json::from_str(&fs::read_to_string(self.node()).ok()?).ok()
    }

    /// Removes what [`DataDir::announce_node`] wrote for this node. The file of another node stays.
    pub fn forget_node(&self, node: &RunningNode) {
        if !self.is_announced(node) {
            return;
        }
        if let Err(error) = fs::remove_file(self.node()) {
            tracing::debug!(%error, "node.json was not removed");
        }
    }

    /// The node that runs on this directory. The file of a killed node does not count, because its process is gone. If
    /// another program has the process id by now, it does not answer as a node.
    pub fn running_node(&self) -> Option<RunningNode> {
        let node = self.announced()?;
        let pid = rustix::process::Pid::from_raw(i32::try_from(node.pid).ok()?)?;
        match rustix::process::test_kill_process(pid) {
            Ok(()) | Err(rustix::io::Errno::PERM) => Some(node),
            Err(_) => None,
        }
    }

    /// The datasets that the user added, oldest first.
    ///
    /// # Errors
    /// When the list cannot be read.
    pub fn datasets(&self) -> Result<Vec<NamedDataset>, FileError> {
        let path = self.datasets_file();
        let Some(text) = read_text(&path)? else { return Ok(Vec::new()) };
        serde_json::from_str(&text).map_err(|e| FileError::Corrupt { path, reason: e.to_string() })
    }

    /// Adds a dataset to the list. A dataset of the same name is replaced.
    ///
    /// # Errors
    /// When the list cannot be read or written.
    pub fn add_dataset(&self, dataset: NamedDataset) -> Result<(), FileError> {
        let mut datasets = self.datasets()?;
        datasets.retain(|known| known.name != dataset.name);
        datasets.push(dataset);
        let path = self.datasets_file();
        let text = serde_json::to_string_pretty(&datasets)
            .map_err(|e| FileError::Corrupt { path: path.clone(), reason: e.to_string() })?;
        write_private(&path, text.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn dead_node_is_not_running() {
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
        data.forget_node(&RunningNode { started: 2, ..node.clone() });
        assert!(data.is_announced(&node), "the file of another node stays");
        data.forget_node(&node);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn token_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        assert_eq!(data.read_token().unwrap(), None);
        let token = data.token_or_new().unwrap();
        assert_eq!(token.len(), 2 * TOKEN_BYTES);
        assert_eq!(data.token_or_new().unwrap(), token);
        assert_eq!(mode(&dir.path().join("api_token")), 0o600);
    }

    #[test]
    fn dataset_name_moves_to_its_newest_artifact() {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::new(dir.path());
        for cid in ["aa", "bb"] {
            data.add_dataset(NamedDataset { name: "books".into(), cid: cid.into(), size: 1 }).unwrap();
        }
        let cids: Vec<_> = data.datasets().unwrap().into_iter().map(|d| d.cid).collect();
        assert_eq!(cids, ["bb"]);
    }
}
