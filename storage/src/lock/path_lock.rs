//! Holds the path of a directory beside the directory itself.
//!
//! On Linux an abstract socket bears the name of the path. The kernel gives a name to one holder and takes it back when
//! the holder ends, and nothing is written anywhere. The name has the device and inode of the parent directory, so that
//! containers which share the network but have disks of their own do not meet. Elsewhere nothing is held.

use std::path::Path;

use crate::error::{Result, StoreError};

/// Held until it is dropped.
pub struct PathLock {
    #[cfg(target_os = "linux")]
    _socket: std::os::unix::net::UnixListener,
}

impl PathLock {
    /// None where the path cannot be held: the system has no such names, or refuses them.
    ///
    /// # Errors
    /// [`StoreError::Locked`] while another process holds the path.
    #[cfg(target_os = "linux")]
    pub fn acquire(dir: &Path) -> Result<Option<Self>> {
        use std::os::{
            linux::net::SocketAddrExt,
            unix::net::{SocketAddr, UnixListener},
        };
        let Some(name) = name(dir) else { return Ok(None) };
        let Ok(address) = SocketAddr::from_abstract_name(name.as_bytes()) else { return Ok(None) };
        match UnixListener::bind_addr(&address) {
            Ok(socket) => Ok(Some(Self { _socket: socket })),
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                let holder = "a process that still uses the directory that was here before".to_owned();
                Err(StoreError::Locked { holder })
            }
            Err(_) => Ok(None),
        }
    }

    /// Always None here.
    ///
    /// # Errors
    /// None.
    #[cfg(not(target_os = "linux"))]
    pub fn acquire(_: &Path) -> Result<Option<Self>> {
        Ok(None)
    }
}

/// The name for a directory: its parent, and its own name as a hash, because names are short.
#[cfg(target_os = "linux")]
fn name(dir: &Path) -> Option<String> {
    use std::os::unix::{ffi::OsStrExt, fs::MetadataExt};

    use sha2::{Digest, Sha256};

    let dir = dir.canonicalize().ok()?;
    let parent = std::fs::metadata(dir.parent()?).ok()?;
    let hash = hex::encode(Sha256::digest(dir.file_name()?.as_bytes()));
    Some(format!("spore-{:x}-{:x}-{hash}", parent.dev(), parent.ino()))
}
