//! A column read from end to end, around what is damaged.
//!
//! RocksDB stops a scan at a block whose checksum is wrong. The entries behind the block are found
//! again by trying later keys, at growing distances, and then the nearest that works.

use crate::{
    columns::Column,
    db::{Entries, Scan},
    error::{Result, StoreError},
};

/// What comes next in a column.
pub enum Step {
    Entry(Box<[u8]>, Box<[u8]>),
    /// Here nothing can be read, for this reason; the next step is behind it.
    Damage(String),
}

/// A scan of a column that ends at its end only.
pub struct Readable<'a> {
    source: &'a dyn Scan,
    column: Column,
    entries: Option<Entries<'a>>,
    /// No entry below this has yet to come.
    from: Vec<u8>,
}

impl<'a> Readable<'a> {
    pub fn new(source: &'a dyn Scan, column: Column) -> Self {
        // A scan that cannot even begin has that as its first step.
        let entries = source.scan(column, &[]).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        Self { source, column, entries: Some(entries), from: Vec::new() }
    }

    /// Goes on behind the damage at `from`, if anything is there.
    fn skip(&mut self) {
        self.entries = None;
        if let Some(from) = self.next_readable() {
            self.entries = self.source.scan(self.column, &from).ok();
            self.from = from;
        }
    }

    /// The least key from which the column can be read again, to 16 bytes.
    fn next_readable(&self) -> Option<Vec<u8>> {
        let start = leading_number(&self.from);
        let readable = |distance: u128| {
            let key = start.saturating_add(distance).to_be_bytes();
            let first = self.source.scan(self.column, &key).map(|mut entries| entries.next());
            matches!(first, Ok(None | Some(Ok(_))))
        };
        let farthest = u128::MAX - start;
        let mut unreadable = 0;
        let mut found = 1.min(farthest);
        while !readable(found) {
            if found == farthest {
                return None;
            }
            unreadable = found;
            found = found.saturating_mul(2).min(farthest);
        }
        while found - unreadable > 1 {
            let middle = unreadable + (found - unreadable) / 2;
            if readable(middle) {
                found = middle;
            } else {
                unreadable = middle;
            }
        }
        Some((start + found).to_be_bytes().to_vec())
    }
}

/// The first 16 bytes of a key as a number, zeros where it is shorter.
fn leading_number(key: &[u8]) -> u128 {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    u128::from_be_bytes(bytes)
}

/// Whether the failure is the disk's, and not that of the program or a full disk.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::Rocks(_))
}

impl Iterator for Readable<'_> {
    type Item = Result<Step>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.entries.as_mut()?.next()? {
            Ok((key, value)) => {
                self.from.clear();
                self.from.extend_from_slice(&key);
                // The least key above.
                self.from.push(0);
                Some(Ok(Step::Entry(key, value)))
            }
            Err(error) if is_damage(&error) => {
                self.skip();
                Some(Ok(Step::Damage(error.into_reason())))
            }
            Err(error) => {
                self.entries = None;
                Some(Err(error))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, ops::ControlFlow};

    use super::*;
    use crate::db::{Source, Visit, Way};

    /// Entries, and stretches of keys that cannot be read.
    struct Rotten {
        entries: BTreeMap<Vec<u8>, Vec<u8>>,
        bad: Vec<(Vec<u8>, Vec<u8>)>,
    }

    impl Source for Rotten {
        fn get(&self, _: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
            Ok(self.entries.get(key).cloned())
        }

        fn walk(&self, _: Column, _: &[u8], _: Option<&[u8]>, _: Way, visit: &mut Visit<'_>) -> Result<()> {
            let _: ControlFlow<()> = visit(&[], &[])?;
            Ok(())
        }
    }

    impl Scan for Rotten {
        fn scan<'a>(&'a self, _: Column, from: &[u8]) -> Result<Entries<'a>> {
            let entries = self.entries.range(from.to_vec()..).map(|(key, value)| {
                let bad = self.bad.iter().any(|(first, last)| first <= key && key <= last);
                if bad { Err(StoreError::corrupt("rot")) } else { Ok((key.as_slice().into(), value.as_slice().into())) }
            });
            Ok(Box::new(entries))
        }
    }

    fn read(rotten: &Rotten) -> (Vec<Vec<u8>>, usize) {
        let (mut keys, mut damages) = (Vec::new(), 0);
        for step in Readable::new(rotten, Column::Log) {
            match step.unwrap() {
                Step::Entry(key, _) => keys.push(key.to_vec()),
                Step::Damage(_) => damages += 1,
            }
        }
        (keys, damages)
    }

    #[test]
    fn every_entry_outside_the_damage_is_found() {
        let number = |n: u64| n.to_be_bytes().to_vec();
        let hash = |n: u64| <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(n.to_be_bytes())).to_vec();
        for key in [&number as &dyn Fn(u64) -> Vec<u8>, &hash] {
            let entries: BTreeMap<_, _> = (0..300).map(|n| (key(n), vec![1])).collect();
            let sorted: Vec<_> = entries.keys().cloned().collect();
            for bad in [vec![], vec![(0, 3)], vec![(10, 10), (12, 40), (41, 41)], vec![(290, 299)], vec![(0, 299)]] {
                let is_bad = |at: usize| bad.iter().any(|(first, last)| (*first..=*last).contains(&at));
                let expected: Vec<_> = (0..300).filter(|at| !is_bad(*at)).map(|at| sorted[at].clone()).collect();
                let bad = bad.iter().map(|(first, last)| (sorted[*first].clone(), sorted[*last].clone())).collect();
                let (keys, damages) = read(&Rotten { entries: entries.clone(), bad });
                assert_eq!(keys, expected);
                assert_eq!(damages == 0, expected.len() == 300);
            }
        }
    }
}
