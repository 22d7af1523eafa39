//! What a bounded cache dropped: a list in `artifacts/dropped`, one address a line, so that what
//! fetches artifacts beforehand does not fetch at once what there was no room for.
//!
//! A convenience: nothing breaks where it is lost, and an artifact that comes back is forgotten.

use std::{
    collections::{HashSet, VecDeque},
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use spore_protocol::Cid;

use super::{failed, writer};
use crate::error::Result;

/// Addresses remembered: some 5 MB of memory and of disk. Beyond, those dropped first are forgotten.
const MAX_DROPPED: usize = 1 << 16;

/// Largest list read: as many lines of 65 bytes.
const MAX_FILE: u64 = 65 * MAX_DROPPED as u64;

/// The list, read when first asked for.
pub struct Dropped {
    path: PathBuf,
    held: Mutex<Option<Held>>,
}

#[derive(Default)]
struct Held {
    /// In the order in which they went; also some that came back.
    order: VecDeque<Cid>,
    gone: HashSet<Cid>,
    /// Not yet on disk.
    changed: bool,
}

impl Dropped {
    pub fn new(root: &Path) -> Self {
        Self { path: root.join("dropped"), held: Mutex::new(None) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Held) -> T) -> T {
        let mut held: MutexGuard<'_, Option<Held>> = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        act(held.get_or_insert_with(|| read(&self.path)))
    }

    pub fn contains(&self, cid: &Cid) -> bool {
        self.with(|held| held.gone.contains(cid))
    }

    pub fn is_full(&self) -> bool {
        self.with(|held| held.order.len() >= MAX_DROPPED)
    }

    pub fn add(&self, cid: Cid) {
        self.with(|held| held.add(cid));
    }

    pub fn forget(&self, cid: &Cid) {
        self.with(|held| held.changed |= held.gone.remove(cid));
    }

    /// Puts on disk what changed.
    pub fn save(&self) -> Result<()> {
        self.with(|held| {
            if !held.changed {
                return Ok(());
            }
            held.order.retain(|cid| held.gone.contains(cid));
            let text: String = held.order.iter().map(|cid| format!("{cid}\n")).collect();
            if let Some(root) = self.path.parent() {
                fs::create_dir_all(root).map_err(|e| failed("create", root, e))?;
                writer::replace(root, &self.path, text.as_bytes())?;
            }
            held.changed = false;
            Ok(())
        })
    }
}

impl Held {
    fn add(&mut self, cid: Cid) {
        if !self.gone.insert(cid) {
            return;
        }
        // One that came back and goes again stands twice, which only forgets it sooner.
        self.order.push_back(cid);
        self.changed = true;
        while self.order.len() > MAX_DROPPED
            && let Some(first) = self.order.pop_front()
        {
            self.gone.remove(&first);
        }
    }
}

/// What can be read of the list: a wrong line only lets an artifact be fetched again.
fn read(path: &Path) -> Held {
    let short = fs::metadata(path).is_ok_and(|file| file.len() <= MAX_FILE);
    let text = if short { fs::read_to_string(path).unwrap_or_default() } else { String::new() };
    let mut held = Held::default();
    text.lines().filter_map(|line| line.parse().ok()).for_each(|cid| held.add(cid));
    held.changed = false;
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_remembered_until_it_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Cid::of(bytes));
        let dropped = Dropped::new(dir.path());
        dropped.add(a);
        dropped.add(b);
        dropped.forget(&a);
        dropped.save().unwrap();
        let again = Dropped::new(dir.path());
        assert_eq!([a, b, c].map(|cid| again.contains(&cid)), [false, true, false]);
        fs::write(dir.path().join("dropped"), format!("spoilt\n{c}\n")).unwrap();
        assert!(Dropped::new(dir.path()).contains(&c));
    }

    #[test]
    fn the_first_are_forgotten_when_there_are_too_many() {
        let dir = tempfile::tempdir().unwrap();
        let dropped = Dropped::new(dir.path());
        let cid = |number: usize| Cid::of(&number.to_be_bytes());
        (0..=MAX_DROPPED).for_each(|number| dropped.add(cid(number)));
        dropped.save().unwrap();
        let again = Dropped::new(dir.path());
        assert!(again.is_full());
        assert!(!again.contains(&cid(0)) && again.contains(&cid(1)) && again.contains(&cid(MAX_DROPPED)));
    }
}
