//! Where a node's signing key is kept: `identity/private_key`, the 32-byte seed in hex, and beside
//! it `identity/node_id`, as the Python implementation keeps them, so that a key can move.
//!
//! The key never leaves this module but as an [`Identity`]; no message or log may hold it.

use std::path::Path;

use spore_base::{
    private_file::{FileError, create_private_dir, make_private, read_text, write_private, write_private_once},
    random,
};
use spore_protocol::{Identity, NodeId};

const KEY: &str = "private_key";
const NODE_ID: &str = "node_id";

/// Reads the identity in `dir`; none when there is no key. Changes nothing.
///
/// # Errors
/// A key that cannot be read or is no hex text of 32 bytes.
pub fn load(dir: &Path) -> Result<Option<Identity>, FileError> {
    let path = dir.join(KEY);
    let Some(text) = read_text(&path)? else { return Ok(None) };
    let mut seed = [0; 32];
    hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| FileError::Corrupt {
        path,
        reason: "not 64 hex digits; restore the key from a copy, or move the file away to start with a new identity"
            .into(),
    })?;
    Ok(Some(Identity::from_seed(&seed)))
}

/// What [`load_or_create`] found.
#[derive(Debug)]
pub struct Found {
    pub identity: Identity,
    /// The key was made just now.
    pub created: bool,
    /// Other users could read the key until now.
    pub was_loose: bool,
}

/// Reads the identity in `dir`, or makes one. Two processes that start together end with one key.
///
/// # Errors
/// As [`load`], and when files cannot be written.
pub fn load_or_create(dir: &Path) -> Result<Found, FileError> {
    create_private_dir(dir)?;
    let path = dir.join(KEY);
    let created = read_text(&path)?.is_none();
    if created {
        let seed = random::secret::<32>().map_err(FileError::io(&path))?;
        write_private_once(&path, hex::encode(seed).as_bytes())?;
    }
    let identity =
        load(dir)?.ok_or_else(|| FileError::Corrupt { path: path.clone(), reason: "the key vanished".into() })?;
    let was_loose = make_private(&path)? | make_private(dir)?;
    let node_id = identity.node_id().to_string();
    let shown = dir.join(NODE_ID);
    if read_text(&shown)?.is_none_or(|text| text.trim() != node_id) {
        write_private(&shown, node_id.as_bytes())?;
    }
    Ok(Found { identity, created, was_loose })
}

/// Takes over the key that lies in `from`, unless one lies in `to`: that one stays. Changes nothing in
/// `from`.
///
/// # Errors
/// As [`load_or_create`]; also where there is no key to take over.
pub fn adopt(from: &Path, to: &Path) -> Result<NodeId, FileError> {
    let path = from.join(KEY);
    // Whatever is no key is not copied.
    let text = load(from)?.and(read_text(&path)?);
    let text = text.ok_or_else(|| FileError::Corrupt { path, reason: "there is no key".into() })?;
    create_private_dir(to)?;
    write_private_once(&to.join(KEY), text.trim().as_bytes())?;
    Ok(load_or_create(to)?.identity.node_id())
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt};

    use super::*;

    #[test]
    fn a_key_is_made_once_and_kept_private() {
        let dir = tempfile::tempdir().unwrap();
        let home = dir.path().join("identity");
        assert!(load(&home).unwrap().is_none());
        assert!(!home.exists(), "looking creates nothing");
        let first = load_or_create(&home).unwrap();
        let again = load_or_create(&home).unwrap();
        assert!(first.created && !again.created);
        assert_eq!(first.identity.node_id(), again.identity.node_id());
        assert_eq!(fs::read_to_string(home.join(NODE_ID)).unwrap(), first.identity.node_id().to_string());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&home), mode(&home.join(KEY))), (0o700, 0o600));
    }

    #[test]
    fn a_readable_key_is_made_private_and_told_of() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create(dir.path()).unwrap();
        fs::set_permissions(dir.path().join(KEY), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(load_or_create(dir.path()).unwrap().was_loose);
        assert!(!load_or_create(dir.path()).unwrap().was_loose);
    }

    #[test]
    fn a_damaged_key_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY), "not a key").unwrap();
        let error = load_or_create(dir.path()).unwrap_err().to_string();
        assert!(error.contains("private_key") && !error.contains("not a key"), "{error}");
        assert_eq!(fs::read_to_string(dir.path().join(KEY)).unwrap(), "not a key");
    }

    #[test]
    fn a_key_is_taken_over_once_and_is_private_then() {
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
    fn the_python_implementations_key_file_is_read() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(KEY), "07".repeat(32) + "\n").unwrap();
        assert_eq!(load(dir.path()).unwrap().unwrap().node_id(), Identity::from_seed(&[7; 32]).node_id());
    }
}
