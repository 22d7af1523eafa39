//! What this node's owner wants kept, whatever else goes: a short list in `artifacts/pins`, one
//! address a line. A local choice, so it is in no column that is computed from the objects.

use std::{
    collections::BTreeSet,
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use spore_protocol::Cid;

use super::{failed, writer};
use crate::error::{Result, StoreError};

/// Most pins kept: a person makes them one by one, and the list is rewritten with each.
const MAX_PINS: usize = 10_000;

/// Largest list read: as many lines of 65 bytes.
const MAX_FILE: u64 = 65 * MAX_PINS as u64;

/// The pins, read when first asked for.
pub struct Pins {
    path: PathBuf,
    held: Mutex<Option<BTreeSet<Cid>>>,
}

impl Pins {
    pub fn new(root: &Path) -> Self {
        Self { path: root.join("pins"), held: Mutex::new(None) }
    }

    fn load(&self) -> Result<MutexGuard<'_, Option<BTreeSet<Cid>>>> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_none() {
            *held = Some(self.read()?);
        }
        Ok(held)
    }

    fn read(&self) -> Result<BTreeSet<Cid>> {
        match fs::metadata(&self.path) {
            Ok(file) if file.len() > MAX_FILE => return Err(self.unreadable("is too long")),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(BTreeSet::new()),
            Err(error) => return Err(failed("read", &self.path, error)),
        }
        let text = fs::read_to_string(&self.path).map_err(|e| failed("read", &self.path, e))?;
        text.lines().map(|line| line.parse().map_err(|_| self.unreadable("has a line that is no address"))).collect()
    }

    /// Guessing would unpin what somebody wants to keep.
    fn unreadable(&self, why: &str) -> StoreError {
        StoreError::corrupt(format!("the list of pins {} {why}; correct or remove it", self.path.display()))
    }

    pub fn all(&self) -> Result<BTreeSet<Cid>> {
        Ok(self.load()?.clone().unwrap_or_default())
    }

    pub fn contains(&self, cid: &Cid) -> Result<bool> {
        Ok(self.load()?.as_ref().is_some_and(|pins| pins.contains(cid)))
    }

    /// Adds or takes out one; false where nothing changed. Durable when this returns.
    pub fn set(&self, cid: &Cid, pinned: bool) -> Result<bool> {
        self.change(|pins| if pinned { pins.insert(*cid) } else { pins.remove(cid) })
    }

    /// Adds all of these, or none where they are too many.
    pub fn add(&self, more: &BTreeSet<Cid>) -> Result<bool> {
        self.change(|pins| {
            let before = pins.len();
            pins.extend(more);
            pins.len() > before
        })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<Cid>) -> bool) -> Result<bool> {
        let mut held = self.load()?;
        let mut pins = held.clone().unwrap_or_default();
        if !change(&mut pins) {
            return Ok(false);
        }
        if pins.len() > MAX_PINS {
            return Err(StoreError::TooManyPins { limit: MAX_PINS });
        }
        let text: String = pins.iter().map(|cid| format!("{cid}\n")).collect();
        if let Some(root) = self.path.parent() {
            fs::create_dir_all(root).map_err(|e| failed("create", root, e))?;
            writer::replace(root, &self.path, text.as_bytes())?;
            writer::sync_folder(root)?;
        }
        *held = Some(pins);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_outlive_the_process_and_a_spoilt_list_is_not_guessed_at() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (Cid::of(b"a"), Cid::of(b"b"));
        let pins = Pins::new(dir.path());
        assert!(pins.set(&a, true).unwrap() && pins.set(&b, true).unwrap());
        assert!(!pins.set(&a, true).unwrap());
        assert!(pins.set(&b, false).unwrap() && !pins.set(&b, false).unwrap());
        assert_eq!(Pins::new(dir.path()).all().unwrap(), BTreeSet::from([a]));
        assert!(!pins.add(&BTreeSet::from([a])).unwrap());
        let too_many = (0..MAX_PINS as u64).map(|n| Cid::of(&n.to_be_bytes())).collect();
        assert!(matches!(pins.add(&too_many), Err(StoreError::TooManyPins { .. })));
        assert_eq!(pins.all().unwrap(), BTreeSet::from([a]), "all or none");
        assert!(pins.add(&BTreeSet::from([a, b])).unwrap());
        assert_eq!(Pins::new(dir.path()).all().unwrap(), BTreeSet::from([a, b]));
        fs::write(dir.path().join("pins"), "not an address\n").unwrap();
        assert!(matches!(Pins::new(dir.path()).all(), Err(StoreError::Corrupt { .. })));
    }
}
