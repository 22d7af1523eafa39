//! The artifacts that the node's owner wants to keep: a list in `artifacts/pins`.
//!
//! A pin is a local choice. No column holds it, because the columns are computed from the objects.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use spore_protocol::Cid;

use super::list_file::{ListFile, ListText};
use crate::error::{PinsFault, Result, StoreError};

/// Most pins. A person makes them one by one, and each change rewrites the list.
const MAX_PINS: usize = 10_000;

/// The pins. The file is read at the first use.
pub struct Pins {
    file: ListFile,
    pinned: Mutex<Option<BTreeSet<Cid>>>,
}

impl Pins {
    pub fn new(root: &Path) -> Self {
        Self { file: ListFile::new(root, "pins", MAX_PINS), pinned: Mutex::new(None) }
    }

    fn load(&self) -> Result<MutexGuard<'_, Option<BTreeSet<Cid>>>> {
        let mut pinned = self.pinned.lock().unwrap_or_else(PoisonError::into_inner);
        if pinned.is_none() {
            *pinned = Some(self.read()?);
        }
        Ok(pinned)
    }

    /// A list with a bad line is refused: ignoring the line could unpin an artifact that the owner wants to keep.
    fn read(&self) -> Result<BTreeSet<Cid>> {
        let bad = |fault| StoreError::BadPins { path: self.file.path().to_path_buf(), fault };
        match self.file.read()? {
            ListText::TooLong => Err(bad(PinsFault::TooLong)),
            ListText::Text(text) => {
                text.lines().map(|line| line.parse().map_err(|_| bad(PinsFault::BadLine))).collect()
            }
        }
    }

    pub fn all(&self) -> Result<BTreeSet<Cid>> {
        Ok(self.load()?.clone().unwrap_or_default())
    }

    pub fn contains(&self, cid: &Cid) -> Result<bool> {
        Ok(self.load()?.as_ref().is_some_and(|pinned| pinned.contains(cid)))
    }

    /// Adds or removes one pin. False when nothing changed. On disk when this returns.
    pub fn set(&self, cid: &Cid, pin: bool) -> Result<bool> {
        self.change(|pinned| if pin { pinned.insert(*cid) } else { pinned.remove(cid) })
    }

    /// Adds all of these pins, or none where the list would get too long.
    pub fn add(&self, more: &BTreeSet<Cid>) -> Result<bool> {
        self.change(|pinned| {
            let before = pinned.len();
            pinned.extend(more);
            pinned.len() > before
        })
    }

    fn change(&self, change: impl FnOnce(&mut BTreeSet<Cid>) -> bool) -> Result<bool> {
        let mut held = self.load()?;
        let mut pinned = held.clone().unwrap_or_default();
        if !change(&mut pinned) {
            return Ok(false);
        }
        if pinned.len() > MAX_PINS {
            return Err(StoreError::TooManyPins { limit: MAX_PINS });
        }
        self.file.write(&pinned)?;
        *held = Some(pinned);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn pins_survive_a_restart_and_a_bad_list_is_refused() {
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
        let path = dir.path().join("pins");
        for (text, expected) in
            [("not an address\n".to_owned(), PinsFault::BadLine), ("x".repeat(700_000), PinsFault::TooLong)]
        {
            fs::write(&path, text).unwrap();
            let refused = Pins::new(dir.path()).all();
            assert!(matches!(&refused, Err(StoreError::BadPins { fault, .. }) if *fault == expected), "{refused:?}");
        }
    }
}
