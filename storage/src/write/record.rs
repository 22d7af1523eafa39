//! Inserts records: places a record by its parent, stores it with its indexes, and joins it to its tree.

use spore_protocol::{HardwareClass, Kind, Record, RecordId, Reject, Signed, lineage};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::KeyReader,
    error::Result,
    keys::{self, TimeList},
    lookup,
    types::InsertOutcome,
    values::{self, LineageFault, Publisher, RecordRow, WorkMark, encode_record},
    words,
};

/// The result of placing a record.
pub(super) enum Placed {
    Stored,
    Missing(RecordId),
    Bad(Reject),
}

impl InsertBatch<'_> {
    pub(super) fn insert_record(&mut self, record: &Signed<Record>, received_at: u64) -> Result<InsertOutcome> {
        let id = RecordId::from(record.id());
        if self.tally.pending > 0
            && let Some(held) = self.view.get(Column::Pending, &id.0)?
        {
            return Ok(InsertOutcome::Pending { missing: values::decode::<values::PendingEntry>(&held)?.parent });
        }
        if self.tally.refused > 0
            && let Some(flaw) = lookup::refusal(&self.view, &id)?
        {
            return Ok(InsertOutcome::Rejected(flaw.reject()));
        }
        let outcome = match self.place(record, received_at)? {
            Placed::Missing(missing) => {
                self.add_pending(record, missing, received_at)?;
                return Ok(InsertOutcome::Pending { missing });
            }
            Placed::Stored => {
                self.release(id, None)?;
                InsertOutcome::New
            }
            Placed::Bad(reject) => {
                self.refuse(&id, &reject)?;
                self.release(id, Some(reject.clone()))?;
                InsertOutcome::Rejected(reject)
            }
        };
        Ok(outcome)
    }

    /// Stores the record if its parent is stored and the lineage rules allow it.
    pub(super) fn place(&mut self, record: &Signed<Record>, received_at: u64) -> Result<Placed> {
        let id = RecordId::from(record.id());
        let (mut parent, mut parent_number, mut joins) = (None, 0, false);
        if let Some(parent_id) = record.parent {
            let Some(number) = self.number_of(&parent_id)? else {
                let flaw = lookup::refusal(&self.view, &parent_id)?;
                return Ok(flaw.map(LineageFault::reject).map_or(Placed::Missing(parent_id), Placed::Bad));
            };
            let row = self.row(number)?;
            (parent, parent_number, joins) = (Some(row.as_parent()), number, !row.summary.stray);
        }
        let place = match lineage::place(id, record, parent) {
            Ok(place) => place,
            Err(reject) => return Ok(Placed::Bad(reject)),
        };
        let number = self.store(Kind::Experiment, record.id(), encode_record(record), Some(place.task_id))?;
        let row = RecordRow::of(id, record, place, received_at, number, parent_number);
        self.index(&row)?;
        self.index_words(record, number);
        self.cache.rows.insert(row.clone());
        self.changed_rows.insert(number);
        if parent.is_none() {
            self.add_root(number)?;
        } else if joins {
            self.join(number, Some(record.object()))?;
        }
        self.attach_early_events(&row)?;
        if self.seeds.contains(&row.summary.node_id) {
            self.unjudged.insert(number);
        }
        Ok(Placed::Stored)
    }

    /// Adds the record to the indexes that depend on it alone. It is a stray until it joins.
    fn index(&mut self, row: &RecordRow) -> Result<()> {
        let (s, moment) = (&row.summary, row.moment());
        let class = keys::class(&s.class);
        if row.parent_number > 0 {
            let head: &[u8; 8] = class.first_chunk().unwrap_or(&[0; 8]);
            self.view.put(Column::Children, keys::child(row.parent_number, &moment), head.to_vec());
        }
        let mark = WorkMark::Published(None).encode();
        self.view.put(Column::WorksOf, keys::work_of(&s.node_id, &class, row.number()), mark);
        for listing in [TimeList::Records, TimeList::NodeRecords(s.node_id)] {
            self.add_to_list(listing, &moment, Vec::new())?;
        }
        let point = row.point(&class).encode();
        self.add_to_list(TimeList::TaskRecords(s.task_id), &moment, point)?;
        self.tally.counted.add(s.status);
        self.count_publisher(row)?;
        // Also creates a class that only strays have.
        self.class(&s.task_id, &s.class)?.records += 1;
        self.task(&s.task_id)?.strays += 1;
        self.rank_changed.insert(s.task_id);
        Ok(())
    }

    fn index_words(&mut self, record: &Record, number: u64) {
        let mut left = words::MAX_WORDS;
        for word in [&record.description, &record.hypothesis].into_iter().flat_map(|text| words::words(text)) {
            if left == 0 {
                break;
            }
            left -= usize::from(self.note_word(&word, number));
        }
    }

    /// The sequence number of a stored record.
    fn number_of(&self, id: &RecordId) -> Result<Option<u64>> {
        match self.cache.rows.number_of(id) {
            Some(number) => Ok(Some(number)),
            None => lookup::number_of(&self.view, Kind::Experiment, &(*id).into()),
        }
    }

    fn count_publisher(&mut self, row: &RecordRow) -> Result<()> {
        let (s, class) = (&row.summary, keys::class(&row.summary.class));
        for task in [None, Some(s.task_id)] {
            let key = keys::publisher(task.as_ref(), &s.node_id, &class);
            let publisher = self.publisher(key, &s.class)?;
            publisher.experiments += 1;
            publisher.first = publisher.first.min(s.timestamp);
            publisher.last = publisher.last.max(s.timestamp);
            let node = self.node(task, s.node_id)?;
            node.experiments += 1;
            let newcomer = node.experiments == 1;
            if let (Some(task), true) = (task, newcomer) {
                self.task(&task)?.nodes += 1;
            }
        }
        Ok(())
    }

    /// What a node published in a class, also when that is nothing yet.
    pub(super) fn publisher(&mut self, key: Vec<u8>, class: &HardwareClass) -> Result<&mut Publisher> {
        self.cache.publishers.touch(key, |key| {
            let known = self.view.get(Column::Publishers, key)?;
            let none = || Ok(Publisher { class: class.clone(), experiments: 0, first: u64::MAX, last: 0 });
            known.map_or_else(none, |bytes| values::decode(&bytes))
        })
    }
}
