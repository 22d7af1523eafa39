//! The files of a node's signing key: `identity/private_key`, the 32-byte seed in hex, and `identity/node_id`.
//!
//! The Python implementation uses the same files, so a key can move between the two programs. The key leaves this
//! module only as an [`Identity`]. No message and no log line may contain it.

use std::path::{Path, PathBuf};

use spore_base::{
    private_file::{FileError, create_private_dir, make_private, read_text, write_private, write_private_once},
    random,
};
use spore_protocol::{Identity, NodeId};

const KEY: &str = "private_key";
const NODE_ID: &str = "node_id";

/// Why the node's key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    File(#[from] FileError),
    /// The message does not quote the file, which may hold most of a key.
    #[error("{}: not 64 hex digits", .0.display())]
    Malformed(PathBuf),
    #[error("{}: there is no key", .0.display())]
    Missing(PathBuf),
}

/// Reads the identity in `dir`. None when there is no key. Changes nothing.
///
/// # Errors
/// When the key cannot be read or is not a hex text of 32 bytes.
pub fn load(dir: &Path) -> Result<Option<Identity>, KeyError> {
    let path = dir.join(KEY);
    let Some(text) = read_text(&path)? else { return Ok(None) };
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| KeyError::Malformed(path))?;
    Ok(Some(Identity::from_seed(&seed)))
}

/// The node's identity, and facts about its key file.
#[derive(Debug)]
pub struct LoadedIdentity {
    pub identity: Identity,
    /// [`load_or_create`] made the key.
    pub created: bool,
    /// Other users could read the key until now.
    pub was_loose: bool,
}

/// Reads the identity in `dir`, or makes one. Two processes that start together get the same key.
///
/// # Errors
/// As [`load`], and when files cannot be written.
pub fn load_or_create(dir: &Path) -> Result<LoadedIdentity, KeyError> {
    create_private_dir(dir)?;
    let path = dir.join(KEY);
    let created = read_text(&path)?.is_none();
    if created {
        let seed = random::secret::<32>().map_err(FileError::io(&path))?;
        write_private_once(&path, hex::encode(seed).as_bytes())?;
    }
    let identity = load(dir)?.ok_or_else(|| KeyError::Missing(path.clone()))?;
    let was_loose = make_private(&path)? | make_private(dir)?;
    let node_id = identity.node_id().to_string();
    let shown = dir.join(NODE_ID);
    if read_text(&shown)?.is_none_or(|text| text.trim() != node_id) {
        write_private(&shown, node_id.as_bytes())?;
    }
    Ok(LoadedIdentity { identity, created, was_loose })
}

/// Copies the key of `from` to `to`. A key that is in `to` already stays. Changes nothing in `from`.
///
/// # Errors
/// As [`load_or_create`], and when there is no key in `from`.
pub fn adopt(from: &Path, to: &Path) -> Result<NodeId, KeyError> {
    let path = from.join(KEY);
    // A file that is not a key is not copied.
    let text = load(from)?.and(read_text(&path)?);
    let text = text.ok_or(KeyError::Missing(path))?;
    create_private_dir(to)?;
    write_private_once(&to.join(KEY), text.trim().as_bytes())?;
    Ok(load_or_create(to)?.identity.node_id())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("identity");
        assert!(load(&home).unwrap().is_none());
        assert!(!home.exists(), "reading creates nothing");
        let first = load_or_create(&home).unwrap();
        let again = load_or_create(&home).unwrap();
        assert!(first.created && !again.created);
        assert_eq!(first.identity.node_id(), again.identity.node_id());
        assert_eq!(fs::read_to_string(home.join(NODE_ID)).unwrap(), first.identity.node_id().to_string());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&home), mode(&home.join(KEY))), (0o700, 0o600));
    }

    #[test]
    fn readable_key_is_made_private_and_reported() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        fs::set_permissions(dir.path().join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load_or_create(dir.path()).unwrap().was_loose);
        assert!(!load_or_create(dir.path()).unwrap().was_loose);
    }

    #[test]
    fn damaged_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY), "not a key").unwrap();
        let error = load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("private_key") && !error.contains("not a key"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(KEY)).unwrap(), "not a key");
    }

    #[test]
    fn adopted_key_is_private_and_never_replaced() {
        let (from, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let to = dir.path().join("identity");
        assert!(adopt(from.path(), &to).is_err() && !to.exists());
        fs::write(from.path().join(KEY), "07".repeat(32) + "\n").unwrap();
        fs::set_permissions(from.path().join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
        let seven = Identity::from_seed(&[7; 32]).node_id();
        assert_eq!(adopt(from.path(), &to).unwrap(), seven);
        assert_eq!(fs::metadata(to.join(KEY)).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(from.path()).unwrap().count(), 1, "nothing is written there");
        fs::write(from.path().join(KEY), "08".repeat(32)).unwrap();
        assert_eq!(adopt(from.path(), &to).unwrap(), seven, "ours stays");
    }

    #[test]
    fn key_file_of_the_python_implementation_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY), "07".repeat(32) + "\n").unwrap();
        assert_eq!(load(dir.path()).unwrap().unwrap().node_id(), Identity::from_seed(&[7; 32]).node_id());
    }
}
