//! The file of blocked signers and tasks, the signed form in which operators share it, and the service that reads the
//! file again when it changes.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use libp2p::identity::{Keypair, PublicKey, ed25519};
use serde::{Deserialize, Serialize};
use spore_base::{
    private_file::{FileError, read_text, write_private},
    shutdown::{Shutdown, stopped},
};
use spore_ingest::blocks::{BLOCKED, BlockList, Blocks};
use spore_protocol::{Identity, NodeId};
use tokio::time::timeout;

/// The first line of what is signed, and the format's name. No other signed text of this program begins so: objects are
/// JSON.
const FORMAT: &str = "spore deny list 1";

/// Most signers and most tasks of a list, each.
pub const LIMIT: usize = BLOCKED;

/// Interval at which a running node looks at the file.
const LOOK: Duration = Duration::from_secs(2);

/// Largest file that is read: two full lists of 64 digits, quotation marks and spaces.
pub const MAX_BYTES: usize = 2 * BLOCKED * 80 + 4096;

/// Why a shared list cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum SharedListError {
    #[error("not a deny list: {0}")]
    Malformed(String),
    #[error("the signature of the deny list is not valid for the key that it names")]
    BadSignature,
    #[error("the deny list has more than {BLOCKED} signers or tasks")]
    TooLong,
}

/// The contents of the file. Ids are lower-case hex.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct ListFile {
    signers: Vec<String>,
    tasks: Vec<String>,
}

/// A list that its maker signed. Ids and signature are lower-case hex.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SharedList {
    format: String,
    signers: Vec<String>,
    tasks: Vec<String>,
    /// The key of the maker.
    by: String,
    /// Ed25519 over [`signed_text`].
    signature: String,
}

/// The file of a data directory.
#[derive(Clone, Debug)]
pub struct BlockFile(PathBuf);

impl BlockFile {
    pub const fn new(path: PathBuf) -> Self {
        Self(path)
    }

    /// The list. Empty when there is no file.
    ///
    /// # Errors
    /// When the file cannot be read, or holds something else.
    pub fn load(&self) -> Result<BlockList, FileError> {
        let Some(text) = read_text(&self.0)? else { return Ok(BlockList::default()) };
        let corrupt = |reason: String| FileError::Corrupt { path: self.0.clone(), reason };
        let file: ListFile = serde_json::from_str(&text).map_err(|e| corrupt(e.to_string()))?;
        list(&file.signers, &file.tasks).map_err(|e| corrupt(e.to_string()))
    }

    /// Replaces the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&self, list: &BlockList) -> Result<(), FileError> {
        let (signers, tasks) = texts(list);
        let text = serde_json::to_string_pretty(&ListFile { signers, tasks })
            .map_err(|e| FileError::Corrupt { path: self.0.clone(), reason: e.to_string() })?;
        write_private(&self.0, text.as_bytes())
    }

    fn changed(&self) -> Option<std::time::SystemTime> {
        std::fs::metadata(&self.0).and_then(|meta| meta.modified()).ok()
    }
}

/// Puts the file's list in force whenever the file changes, until the node stops. A file that cannot be read leaves the
/// list as it is.
pub async fn watch(file: BlockFile, blocks: Blocks, mut shutdown: Shutdown) {
    let mut seen = file.changed();
    while timeout(LOOK, stopped(&mut shutdown)).await.is_err() {
        let now = file.changed();
        if now == seen {
            continue;
        }
        seen = now;
        match file.load() {
            Ok(list) => {
                tracing::info!(signers = list.signers.len(), tasks = list.tasks.len(), "the block list changed");
                blocks.set(list);
            }
            Err(error) => tracing::warn!(%error, "cannot read the block list: the previous list stays in force"),
        }
    }
}

fn texts(list: &BlockList) -> (Vec<String>, Vec<String>) {
    (list.signers.iter().map(ToString::to_string).collect(), list.tasks.iter().map(ToString::to_string).collect())
}

fn list(signers: &[String], tasks: &[String]) -> Result<BlockList, SharedListError> {
    if signers.len() > BLOCKED || tasks.len() > BLOCKED {
        return Err(SharedListError::TooLong);
    }
    let wrong = |id: &str| SharedListError::Malformed(format!("{id:.80?} is not an id of 64 hex digits"));
    Ok(BlockList {
        signers: signers.iter().map(|id| id.parse().map_err(|_| wrong(id))).collect::<Result<_, _>>()?,
        tasks: tasks.iter().map(|id| id.parse().map_err(|_| wrong(id))).collect::<Result<_, _>>()?,
    })
}

/// The text that is signed: the format's name, then a line for each signer and each task, sorted.
fn signed_text(list: &BlockList) -> String {
    let mut text = format!("{FORMAT}\n");
    for signer in &list.signers {
        // Writing to a string never fails.
        let _ = writeln!(text, "signer {signer}");
    }
    for task in &list.tasks {
        let _ = writeln!(text, "task {task}");
    }
    text
}

/// The list as JSON, signed.
///
/// # Errors
/// When the key cannot sign.
pub fn export(list: &BlockList, identity: &Identity) -> Result<String, SharedListError> {
    let failed = |e: &dyn std::fmt::Display| SharedListError::Malformed(e.to_string());
    let key = Keypair::ed25519_from_bytes(identity.seed()).map_err(|e| failed(&e))?;
    let signature = key.sign(signed_text(list).as_bytes()).map_err(|e| failed(&e))?;
    let (signers, tasks) = texts(list);
    let (by, signature) = (identity.node_id().to_string(), hex::encode(signature));
    let shared = SharedList { format: FORMAT.to_owned(), signers, tasks, by, signature };
    serde_json::to_string_pretty(&shared).map_err(|e| failed(&e))
}

/// Reads a signed list. Returns it and who signed it.
///
/// # Errors
/// [`SharedListError`].
pub fn import(text: &str) -> Result<(BlockList, NodeId), SharedListError> {
    let malformed = |reason: &str| SharedListError::Malformed(reason.to_owned());
    let shared: SharedList = serde_json::from_str(text).map_err(|e| malformed(&e.to_string()))?;
    if shared.format != FORMAT {
        return Err(malformed("its format is another one"));
    }
    let list = list(&shared.signers, &shared.tasks)?;
    let by: NodeId = shared.by.parse().map_err(|_| malformed("`by` is not a key"))?;
    let key = ed25519::PublicKey::try_from_bytes(by.as_bytes()).map_err(|_| malformed("`by` is not a key"))?;
    let signature = hex::decode(&shared.signature).map_err(|_| SharedListError::BadSignature)?;
    if PublicKey::from(key).verify(signed_text(&list).as_bytes(), &signature) {
        Ok((list, by))
    } else {
        Err(SharedListError::BadSignature)
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::TaskId;

    use super::*;

    fn some_list() -> BlockList {
        BlockList { signers: [NodeId([1; 32]), NodeId([2; 32])].into(), tasks: [TaskId([3; 32])].into() }
    }

    #[test]
    fn file_gives_back_the_list_and_no_file_is_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = BlockFile::new(folder.path().join("blocked.json"));
        assert_eq!(file.load().unwrap(), BlockList::default());
        file.save(&some_list()).unwrap();
        assert_eq!(file.load().unwrap(), some_list());
        std::fs::write(folder.path().join("blocked.json"), r#"{"signers":["ab"]}"#).unwrap();
        assert!(file.load().unwrap_err().to_string().contains("64 hex digits"));
    }

    #[test]
    fn shared_list_is_taken_as_signed_and_refused_when_changed() {
        let identity = Identity::from_seed(&[7; 32]);
        let text = export(&some_list(), &identity).unwrap();
        assert_eq!(import(&text), Ok((some_list(), identity.node_id())));
        let changed = text.replace(&NodeId([1; 32]).to_string(), &NodeId([9; 32]).to_string());
        assert_eq!(import(&changed), Err(SharedListError::BadSignature));
        let other_key =
            text.replace(&identity.node_id().to_string(), &Identity::from_seed(&[8; 32]).node_id().to_string());
        assert_eq!(import(&other_key), Err(SharedListError::BadSignature));
        assert!(matches!(import("{}"), Err(SharedListError::Malformed(_))));
    }
}
