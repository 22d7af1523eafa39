//! The writes of a batch over the database below. A batch reads its own writes through it, so that a parent and its
//! child may come in one batch.

use std::{
    cmp::Ordering,
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader, Visit},
    error::Result,
};

/// The edits of a column: a value, or none for a deletion.
type Edits = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Writes and deletions over a reader. Nothing reaches the disk from here.
pub struct Overlay<'a> {
    below: &'a dyn KeyReader,
    columns: BTreeMap<Column, Edits>,
}

impl<'a> Overlay<'a> {
    pub fn new(below: &'a dyn KeyReader) -> Self {
        Self { below, columns: BTreeMap::new() }
    }

    pub fn put(&mut self, column: Column, key: Vec<u8>, value: Vec<u8>) {
        self.columns.entry(column).or_default().insert(key, Some(value));
    }

    pub fn delete(&mut self, column: Column, key: Vec<u8>) {
        self.columns.entry(column).or_default().insert(key, None);
    }

    /// Every edit, for the database to apply. A deletion has no value.
    pub fn entries(&self) -> impl Iterator<Item = (Column, &[u8], Option<&[u8]>)> + Clone {
        self.columns.iter().flat_map(|(column, entries)| {
            entries.iter().map(|(key, value)| (*column, key.as_slice(), value.as_deref()))
        })
    }

    /// The column's own edits within a walk, in the walk's order.
    fn above<'b>(
        &'b self,
        column: Column,
        prefix: &'b [u8],
        from: Option<&[u8]>,
        way: KeyOrder,
    ) -> Box<dyn Iterator<Item = Edit<'b>> + 'b> {
        let Some(entries) = self.columns.get(&column) else { return Box::new(std::iter::empty()) };
        let entry = |(key, value): (&'b Vec<u8>, &'b Option<Vec<u8>>)| (key.as_slice(), value.as_deref());
        let inside = move |(key, _): &Edit<'b>| key.starts_with(prefix);
        match way {
            KeyOrder::Ascending => {
                let lowest = from.filter(|from| *from > prefix).unwrap_or(prefix);
                let range = (Bound::Included(lowest), Bound::Unbounded);
                Box::new(entries.range::<[u8], _>(range).map(entry).take_while(inside))
            }
            KeyOrder::Descending => {
                let end = after(prefix);
                let highest = match (from, &end) {
                    (Some(from), _) if from.starts_with(prefix) => Bound::Included(from),
                    (Some(from), _) if from < prefix => return Box::new(std::iter::empty()),
                    (_, Some(end)) => Bound::Excluded(end.as_slice()),
                    (_, None) => Bound::Unbounded,
                };
                let range = (Bound::Unbounded, highest);
                Box::new(entries.range::<[u8], _>(range).rev().map(entry).take_while(inside))
            }
        }
    }
}

/// A key, without a value where it is deleted.
type Edit<'b> = (&'b [u8], Option<&'b [u8]>);

/// The lowest key above all keys that start with `prefix`. None when there is no such key.
fn after(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return Some(end);
        }
    }
    None
}

impl KeyReader for Overlay<'_> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.columns.get(&column).and_then(|entries| entries.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(column, key),
        }
    }

    fn walk(
        &self,
        column: Column,
        prefix: &[u8],
        from: Option<&[u8]>,
        way: KeyOrder,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let mut above = self.above(column, prefix, from, way).peekable();
        let order = |a: &[u8], b: &[u8]| if way == KeyOrder::Ascending { a.cmp(b) } else { b.cmp(a) };
        let mut stopped = false;
        self.below.walk(column, prefix, from, way, &mut |key, value| {
            while let Some((new_key, new_value)) = above.next_if(|(new_key, _)| order(new_key, key) == Ordering::Less) {
                if let Some(new_value) = new_value
                    && visit(new_key, new_value)?.is_break()
                {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            let flow = match above.next_if(|(new_key, _)| *new_key == key) {
                Some((_, Some(new_value))) => visit(key, new_value)?,
                Some((_, None)) => ControlFlow::Continue(()),
                None => visit(key, value)?,
            };
            stopped = flow.is_break();
            Ok(flow)
        })?;
        if stopped {
            return Ok(());
        }
        for (key, value) in above {
            if let Some(value) = value
                && visit(key, value)?.is_break()
            {
                break;
            }
        }
        Ok(())
    }
}
