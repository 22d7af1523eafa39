//! A scan of a column that continues after damage.
//!
//! RocksDB stops a scan at a block with a wrong checksum. This scan finds the entries after the block by trying later
//! keys at growing distances, and then the lowest key that can be read.

use crate::{
    columns::Column,
    db::{KeyScanner, KeyValues},
    error::{Result, StoreError},
};

/// The next step of a scan.
pub enum ScanStep {
    Entry(Box<[u8]>, Box<[u8]>),
    /// Nothing can be read here, for this reason. The next step is after the damage.
    Damage(String),
}

/// A scan that ends only at the end of the column.
pub struct SalvageScan<'a> {
    source: &'a dyn KeyScanner,
    column: Column,
    entries: Option<KeyValues<'a>>,
    /// No entry below this key is still to come.
    from: Vec<u8>,
}

impl<'a> SalvageScan<'a> {
    pub fn new(source: &'a dyn KeyScanner, column: Column) -> Self {
        Self::from(source, column, &[])
    }

    /// Begins at the key `from`.
    pub fn from(source: &'a dyn KeyScanner, column: Column, from: &[u8]) -> Self {
        // When the scan cannot even begin, the error is its first step.
        let entries = source.scan(column, from).unwrap_or_else(|error| Box::new(std::iter::once(Err(error))));
        Self { source, column, entries: Some(entries), from: from.to_vec() }
    }

    /// Continues after the damage at `self.from`, if there are entries.
    fn skip(&mut self) {
        self.entries = None;
        if let Some(from) = self.next_readable() {
            self.entries = self.source.scan(self.column, &from).ok();
            self.from = from;
        }
    }

    /// The lowest key from which the column can be read again, exact to [`WIDTH`] bytes.
    fn next_readable(&self) -> Option<Vec<u8>> {
        let start = wide(&self.from);
        let readable = |key: &Wide| {
            let first = self.source.scan(self.column, key).map(|mut entries| entries.next());
            matches!(first, Ok(None | Some(Ok(_))))
        };
        let mut unreadable = start;
        let farther = (0..WIDTH * 8).map_while(|power| plus_power_of_two(&start, power));
        let mut found = farther.chain([[0xff; WIDTH]]).find(|key| {
            let good = readable(key);
            if !good {
                unreadable = *key;
            }
            good
        })?;
        loop {
            let between = middle(&unreadable, &found);
            if between == unreadable {
                return Some(found.to_vec());
            }
            if readable(&between) {
                found = between;
            } else {
                unreadable = between;
            }
        }
    }
}

/// Bytes of a key that the search distinguishes. Most keys begin with a task or a node and a time, which these bytes
/// contain. The search tries at most a thousand keys after each damage.
const WIDTH: usize = 64;

/// The first bytes of a key as a big-endian number, filled with zeros.
type Wide = [u8; WIDTH];

fn wide(key: &[u8]) -> Wide {
    let mut bytes = [0; WIDTH];
    bytes.iter_mut().zip(key).for_each(|(to, from)| *to = *from);
    bytes
}

/// None when the sum is too large.
fn plus_power_of_two(number: &Wide, power: usize) -> Option<Wide> {
    let mut sum = *number;
    let mut carry = 1 << (power % 8);
    for byte in sum.iter_mut().rev().skip(power / 8) {
        let (with, over) = byte.overflowing_add(carry);
        (*byte, carry) = (with, over.into());
        if carry == 0 {
            return Some(sum);
        }
    }
    None
}

/// The number halfway between two numbers, rounded down.
fn middle(a: &Wide, b: &Wide) -> Wide {
    let (mut sum, mut carry) = ([0; WIDTH], 0u16);
    for (to, (a, b)) in sum.iter_mut().zip(a.iter().zip(b)).rev() {
        let [over, low] = (u16::from(*a) + u16::from(*b) + carry).to_be_bytes();
        (*to, carry) = (low, over.into());
    }
    for byte in &mut sum {
        let odd = *byte & 1;
        *byte = *byte >> 1 | (carry as u8) << 7;
        carry = odd.into();
    }
    sum
}

/// Whether the error is caused by damage, and not by a full disk or a fault of this program.
fn is_damage(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt(_) | StoreError::Rocks(_))
}

impl Iterator for SalvageScan<'_> {
    type Item = Result<ScanStep>;

    fn next(&mut self) -> Option<Self::Item> {
        match self.entries.as_mut()?.next()? {
            Ok((key, value)) => {
                self.from.clear();
                self.from.extend_from_slice(&key);
                // The lowest key above.
                self.from.push(0);
                Some(Ok(ScanStep::Entry(key, value)))
            }
            Err(error) if is_damage(&error) => {
                self.skip();
                Some(Ok(ScanStep::Damage(error.into_reason())))
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
    use crate::db::{KeyOrder, KeyReader, Visit};

    /// Entries, and ranges of keys that cannot be read.
    struct DamagedColumn {
        entries: BTreeMap<Vec<u8>, Vec<u8>>,
        bad: Vec<(Vec<u8>, Vec<u8>)>,
    }

    impl KeyReader for DamagedColumn {
        fn get(&self, _: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
            Ok(self.entries.get(key).cloned())
        }

        fn walk(&self, _: Column, _: &[u8], _: Option<&[u8]>, _: KeyOrder, visit: &mut Visit<'_>) -> Result<()> {
            let _: ControlFlow<()> = visit(&[], &[])?;
            Ok(())
        }
    }

    impl KeyScanner for DamagedColumn {
        fn scan<'a>(&'a self, _: Column, from: &[u8]) -> Result<KeyValues<'a>> {
            let entries = self.entries.range(from.to_vec()..).map(|(key, value)| {
                let bad = self.bad.iter().any(|(first, last)| first <= key && key <= last);
                if bad {
                    Err(crate::error::Damage::Value("rot").into())
                } else {
                    Ok((key.as_slice().into(), value.as_slice().into()))
                }
            });
            Ok(Box::new(entries))
        }
    }

    fn read(damaged: &DamagedColumn) -> (Vec<Vec<u8>>, usize) {
        let (mut keys, mut damages) = (Vec::new(), 0);
        for step in SalvageScan::new(damaged, Column::Log) {
            match step.unwrap() {
                ScanStep::Entry(key, _) => keys.push(key.to_vec()),
                ScanStep::Damage(_) => damages += 1,
            }
        }
        (keys, damages)
    }

    #[test]
    fn search_calculates_with_large_numbers() {
        let number = |n: u16| wide(&[[0; WIDTH - 2].as_slice(), &n.to_be_bytes()].concat());
        assert_eq!(plus_power_of_two(&number(0xff), 0), Some(number(0x100)));
        assert_eq!(plus_power_of_two(&number(0x1234), 9), Some(number(0x1434)));
        assert_eq!(plus_power_of_two(&[0xff; WIDTH], 3), None);
        assert_eq!(middle(&number(0x1ff), &number(0x300)), number(0x27f));
        assert_eq!(middle(&[0xff; WIDTH], &[0xff; WIDTH]), [0xff; WIDTH]);
        assert_eq!(middle(&number(7), &number(8)), number(7));
    }

    #[test]
    fn scan_finds_every_entry_outside_the_damage() {
        let number = |n: u64| n.to_be_bytes().to_vec();
        let hash = |n: u64| <[u8; 32]>::from(<sha2::Sha256 as sha2::Digest>::digest(n.to_be_bytes())).to_vec();
        for key in [&number as &dyn Fn(u64) -> Vec<u8>, &hash] {
            let entries: BTreeMap<_, _> = (0..300).map(|n| (key(n), vec![1])).collect();
            let sorted: Vec<_> = entries.keys().cloned().collect();
            for bad in [vec![], vec![(0, 3)], vec![(10, 10), (12, 40), (41, 41)], vec![(290, 299)], vec![(0, 299)]] {
                let is_bad = |at: usize| bad.iter().any(|(first, last)| (*first..=*last).contains(&at));
                let expected: Vec<_> = (0..300).filter(|at| !is_bad(*at)).map(|at| sorted[at].clone()).collect();
                let bad = bad.iter().map(|(first, last)| (sorted[*first].clone(), sorted[*last].clone())).collect();
                let (keys, damages) = read(&DamagedColumn { entries: entries.clone(), bad });
                assert_eq!(keys, expected);
                assert_eq!(damages == 0, expected.len() == 300);
            }
        }
    }

    /// All keys begin with the same 33 bytes, as in a task's timeline.
    #[test]
    fn scan_finds_entries_of_the_same_scope_after_the_damage() {
        let key = |n: u64| [[7; 33].as_slice(), &n.to_be_bytes(), &[n as u8 ^ 0x5a; 32]].concat();
        let entries: BTreeMap<_, _> = (0..300).map(|n| (key(n), vec![1])).collect();
        let bad = vec![(key(10), key(12)), (key(100), key(180))];
        let expected: Vec<_> = (0..300).filter(|n| !matches!(n, 10..=12 | 100..=180)).map(key).collect();
        assert_eq!(read(&DamagedColumn { entries, bad }), (expected, 2));
    }
}
