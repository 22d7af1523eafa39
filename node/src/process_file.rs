//! `process.json`: the process that runs the node of a data directory, from its first moment to its last.
//!
//! The process holds a lock on the file for as long as it lives, and the operating system releases the lock when it ends,
//! however it ends. The text in the file counts only while the lock is held and while the process that it names began when
//! the text says: a number alone may be another program's by now. `node.json` is another file: it appears when the API
//! answers, and goes when the node stops.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use rustix::process::{Pid, Signal};
use serde::{Deserialize, Serialize};

/// Most bytes that are read of the file. A command line is far shorter.
const MOST_BYTES: usize = 64 * 1024;

/// Who looks after the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Place {
    /// A terminal, or another program that started it.
    Foreground,
    /// Nobody: `spore start` left it running.
    Background,
    /// A service manager.
    Service,
}

/// The process of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeProcess {
    pub pid: u32,
    /// When the process began, in the system's own unit since its start. None where the system does not tell.
    pub began: Option<u64>,
    pub place: Place,
    /// The flags of the run, without the data directory.
    pub words: Vec<String>,
}

impl NodeProcess {
    /// This process.
    pub fn own(place: Place, words: Vec<String>) -> Self {
        let pid = std::process::id();
        Self { pid, began: began(pid), place, words }
    }

    /// The process that holds the file. None when no node runs.
    pub fn running(path: &Path) -> Option<Self> {
        // A process that has just taken the lock may not have written its text yet: the old text names one that is gone.
        is_held(path).then(|| Self::last(path)).flatten().filter(Self::lives)
    }

    /// The process that wrote the file last, whether it has ended or not. None when there is no such file.
    pub fn last(path: &Path) -> Option<Self> {
        let text = fs::read(path).ok().filter(|text| text.len() <= MOST_BYTES)?;
        serde_json::from_slice(&text).ok()
    }

    fn lives(&self) -> bool {
        let exists = || self.id().is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok());
        match self.began {
            Some(began) => self::began(self.pid) == Some(began),
            None => exists(),
        }
    }

    fn id(&self) -> Option<Pid> {
        Pid::from_raw(i32::try_from(self.pid).ok()?)
    }

    /// Sends the process a signal, if it still holds the file at `path`. Returns false when it has ended.
    ///
    /// # Errors
    /// When the system refuses, as for another user's process.
    pub fn signal(&self, path: &Path, signal: Signal) -> io::Result<bool> {
        let Some(pid) = self.id() else { return Ok(false) };
        let sent = match Handle::open(pid) {
            // The handle stands for one process. What holds the file now is the process of the handle.
            Ok(handle) if Self::running(path).as_ref() == Some(self) => handle.send(signal),
            Ok(_) => return Ok(false),
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => Ok(true),
            Err(rustix::io::Errno::SRCH) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// A process that stays the same one although its number may be given away.
#[cfg(target_os = "linux")]
struct Handle(Option<rustix::fd::OwnedFd>, Pid);

#[cfg(target_os = "linux")]
impl Handle {
    fn open(pid: Pid) -> rustix::io::Result<Self> {
        match rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()) {
            Ok(handle) => Ok(Self(Some(handle), pid)),
            // A sandbox may lack the call. The comparison that follows leaves microseconds to another process.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => Ok(Self(None, pid)),
            Err(error) => Err(error),
        }
    }

    fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        match &self.0 {
            Some(handle) => rustix::process::pidfd_send_signal(handle, signal),
            None => rustix::process::kill_process(self.1, signal),
        }
    }
}

#[cfg(not(target_os = "linux"))]
struct Handle(Pid);

#[cfg(not(target_os = "linux"))]
impl Handle {
    #[allow(clippy::unnecessary_wraps, reason = "opening can fail on other systems")]
    const fn open(pid: Pid) -> rustix::io::Result<Self> {
        Ok(Self(pid))
    }

    fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        rustix::process::kill_process(self.0, signal)
    }
}

/// The hold of this process on the file. It ends with this value.
#[derive(Debug)]
pub struct ProcessLock(#[allow(dead_code, reason = "the lock lasts as long as the open file")] File);

impl ProcessLock {
    /// Takes the file for this process. None when another process has it.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn take(path: &Path, process: &NodeProcess) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let mut file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        file.set_len(0)?;
        file.rewind()?;
        file.write_all(&serde_json::to_vec(process)?)?;
        Ok(Some(Self(file)))
    }
}

/// Whether a process holds the file.
pub fn is_held(path: &Path) -> bool {
    File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// When a process began, in ticks since the start of the system. None where the system does not tell, and for a process
/// that is gone.
fn began(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name of the program, in brackets, may hold spaces and brackets. `starttime` is the 20th word behind it.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn process_counts_only_while_it_holds_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        assert_eq!(NodeProcess::running(&path), None);
        let own = NodeProcess::own(Place::Foreground, vec!["--no-train".into()]);
        let lock = ProcessLock::take(&path, &own).unwrap().unwrap();
        assert!(ProcessLock::take(&path, &own).unwrap().is_none(), "another has it");
        assert_eq!(NodeProcess::running(&path), Some(own.clone()));
        drop(lock);
        assert_eq!(NodeProcess::running(&path), None, "the text of an ended process says nothing");
        assert!(ProcessLock::take(&path, &own).unwrap().is_some());
    }

    #[test]
    fn number_that_another_process_has_by_now_gets_no_signal() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        let mut child = Command::new("sleep").arg("60").stdin(Stdio::null()).spawn().unwrap();
        // The file is held by somebody, with the text of a former process whose number the child has now.
        let stale = NodeProcess { pid: child.id(), began: Some(1), place: Place::Background, words: Vec::new() };
        let _lock = ProcessLock::take(&path, &stale).unwrap().unwrap();
        if began(child.id()).is_some() {
            assert_eq!(NodeProcess::running(&path), None);
            assert!(!stale.signal(&path, Signal::KILL).unwrap());
        }
        assert_eq!(child.try_wait().unwrap(), None, "the other program lives");
        child.kill().unwrap();
        child.wait().unwrap();
    }

    #[test]
    fn text_that_is_no_process_is_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("process.json");
        let own = NodeProcess::own(Place::Service, Vec::new());
        let _lock = ProcessLock::take(&path, &own).unwrap().unwrap();
        for text in ["", "{", "{\"pid\": 1}"] {
            fs::write(&path, text).unwrap();
            assert_eq!(NodeProcess::running(&path), None, "{text}");
        }
    }
}
