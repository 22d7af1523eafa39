//! The artifacts that a bounded cache dropped: a list in `artifacts/dropped`. A service that fetches artifacts before
//! they are needed skips these, because there was no room for them.
//!
//! The list is a convenience: losing it breaks nothing. An artifact that is stored again leaves the list.

use std::{
    collections::{HashSet, VecDeque},
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use spore_protocol::Cid;

use super::list_file::{ListFile, ListText};
use crate::error::Result;

/// Most addresses remembered: some 5 MB of memory and of disk. Beyond that, the oldest are forgotten.
const MAX_DROPPED: usize = 1 << 16;

/// The list. The file is read at the first use.
pub struct DroppedList {
    file: ListFile,
    held: Mutex<Option<Addresses>>,
}

#[derive(Default)]
struct Addresses {
    /// In the order in which they were dropped. May hold addresses that are no longer in `dropped`.
    order: VecDeque<Cid>,
    dropped: HashSet<Cid>,
    /// Whether the file differs.
    changed: bool,
}

impl DroppedList {
    pub fn new(root: &Path) -> Self {
        Self { file: ListFile::new(root, "dropped", MAX_DROPPED), held: Mutex::new(None) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Addresses) -> T) -> T {
        let mut held: MutexGuard<'_, Option<Addresses>> = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        act(held.get_or_insert_with(|| self.read()))
    }

    /// The addresses in the file. An unreadable line only has the effect that its artifact may be fetched again.
    fn read(&self) -> Addresses {
        let mut addresses = Addresses::default();
        if let Ok(ListText::Text(text)) = self.file.read() {
            text.lines().filter_map(|line| line.parse().ok()).for_each(|cid| addresses.add(cid));
        }
        addresses.changed = false;
        addresses
    }

    pub fn contains(&self, cid: &Cid) -> bool {
        self.with(|held| held.dropped.contains(cid))
    }

    pub fn is_full(&self) -> bool {
        self.with(|held| held.order.len() >= MAX_DROPPED)
    }

    pub fn add(&self, cid: Cid) {
        self.with(|held| held.add(cid));
    }

    pub fn forget(&self, cid: &Cid) {
        self.with(|held| held.changed |= held.dropped.remove(cid));
    }

    /// Writes the file if the list changed.
    pub fn save(&self) -> Result<()> {
        self.with(|held| {
            if !held.changed {
                return Ok(());
            }
            held.order.retain(|cid| held.dropped.contains(cid));
            self.file.write(&held.order)?;
            held.changed = false;
            Ok(())
        })
    }
}

impl Addresses {
    fn add(&mut self, cid: Cid) {
        if !self.dropped.insert(cid) {
            return;
        }
        // An address that was forgotten and is dropped again is here twice, and is only forgotten sooner.
        self.order.push_back(cid);
        self.changed = true;
        while self.order.len() > MAX_DROPPED
            && let Some(first) = self.order.pop_front()
        {
            self.dropped.remove(&first);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn dropped_artifact_is_remembered_until_it_is_stored_again() {
        let dir = tempfile::tempdir().unwrap();
        let [a, b, c] = [b"a", b"b", b"c"].map(|bytes| Cid::of(bytes));
        let dropped = DroppedList::new(dir.path());
        dropped.add(a);
        dropped.add(b);
        dropped.forget(&a);
        dropped.save().unwrap();
        let again = DroppedList::new(dir.path());
        assert_eq!([a, b, c].map(|cid| again.contains(&cid)), [false, true, false]);
        fs::write(dir.path().join("dropped"), format!("spoilt\n{c}\n")).unwrap();
        assert!(DroppedList::new(dir.path()).contains(&c));
    }

    #[test]
    fn full_list_forgets_the_oldest_address() {
        let dir = tempfile::tempdir().unwrap();
        let dropped = DroppedList::new(dir.path());
        let cid = |number: usize| Cid::of(&number.to_be_bytes());
        (0..=MAX_DROPPED).for_each(|number| dropped.add(cid(number)));
        dropped.save().unwrap();
        let again = DroppedList::new(dir.path());
        assert!(again.is_full());
        assert!(!again.contains(&cid(0)) && again.contains(&cid(1)) && again.contains(&cid(MAX_DROPPED)));
    }
}
