//! A batch being made, which reads its own writes: what lets a parent and its child come together.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use crate::{
    columns::Column,
    db::{Source, Visit},
    error::Result,
};

type Entries = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

/// Puts and deletions over what lies below. Nothing reaches the disk from here.
pub struct Overlay<'a> {
    below: &'a dyn Source,
    columns: BTreeMap<Column, Entries>,
}

impl<'a> Overlay<'a> {
    pub fn new(below: &'a dyn Source) -> Self {
        Self { below, columns: BTreeMap::new() }
    }

    pub fn put(&mut self, column: Column, key: Vec<u8>, value: Vec<u8>) {
        self.columns.entry(column).or_default().insert(key, Some(value));
    }

    pub fn delete(&mut self, column: Column, key: Vec<u8>) {
        self.columns.entry(column).or_default().insert(key, None);
    }

    /// Every entry, for the database to apply: a deletion has no value.
    pub fn entries(&self) -> impl Iterator<Item = (Column, &[u8], Option<&[u8]>)> {
        self.columns.iter().flat_map(|(column, entries)| {
            entries.iter().map(|(key, value)| (*column, key.as_slice(), value.as_deref()))
        })
    }
}

impl Source for Overlay<'_> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        match self.columns.get(&column).and_then(|entries| entries.get(key)) {
            Some(value) => Ok(value.clone()),
            None => self.below.get(column, key),
        }
    }

    fn each(&self, column: Column, prefix: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let entries = self.columns.get(&column).into_iter().flat_map(|entries| entries.range::<[u8], _>(from));
        let mut above = entries.take_while(|(key, _)| key.starts_with(prefix)).peekable();
        let mut stopped = false;
        self.below.each(column, prefix, &mut |key, value| {
            while let Some((new_key, new_value)) = above.next_if(|(new_key, _)| new_key.as_slice() < key) {
                if let Some(new_value) = new_value
                    && visit(new_key, new_value)?.is_break()
                {
                    stopped = true;
                    return Ok(ControlFlow::Break(()));
                }
            }
            let flow = match above.next_if(|(new_key, _)| new_key.as_slice() == key) {
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
