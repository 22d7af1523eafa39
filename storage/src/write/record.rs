//! A record on its way in: placed by its parent, stored with its indexes, joined to its tree.

use spore_protocol::{Record, RecordId, Reject, Signed, SignedObject, lineage};

use super::Batch;
use crate::{
    columns::Column,
    db::Source,
    error::Result,
    keys, read,
    types::{Outcome, Scope},
    values::{self, Facts, Publisher, Standing, encode},
};

/// What placing a record came to.
pub(super) enum Placed {
    Stored,
    Missing(RecordId),
    Bad(Reject),
}

impl Batch<'_> {
    pub(super) fn insert_record(&mut self, record: &Signed<Record>, received_at: u64) -> Result<Outcome> {
        let id = RecordId::from(record.id());
        if let Some(held) = self.view.get(Column::Pending, &id.0)? {
            return Ok(Outcome::Pending { missing: values::decode::<values::Held>(&held)?.parent });
        }
        let outcome = match self.place(record, received_at)? {
            Placed::Missing(missing) => {
                self.hold(record, missing, received_at)?;
                return Ok(Outcome::Pending { missing });
            }
            Placed::Stored => {
                self.release(id, None)?;
                Outcome::New
            }
            Placed::Bad(reject) => {
                self.release(id, Some(reject.clone()))?;
                Outcome::Rejected(reject)
            }
        };
        Ok(outcome)
    }

    /// Stores the record if its parent is here and the lineage rules allow it.
    pub(super) fn place(&mut self, record: &Signed<Record>, received_at: u64) -> Result<Placed> {
        let id = RecordId::from(record.id());
        let parent = match record.parent {
            Some(parent) => match read::facts(&self.view, &parent)? {
                Some(facts) => Some(facts),
                None => return Ok(Placed::Missing(parent)),
            },
            None => None,
        };
        let place = match lineage::place(id, record, parent.as_ref().map(Facts::as_parent)) {
            Ok(place) => place,
            Err(reject) => return Ok(Placed::Bad(reject)),
        };
        let sequence = self.store_object(&SignedObject::Experiment(record.clone()), Some(place.task_id))?;
        let facts = Facts::of(id, record, place, received_at, sequence);
        self.index(&facts)?;
        self.adopt_events(&facts)?;
        match &parent {
            None => self.plant(&facts)?,
            Some(parent) if !read::standing(&self.view, &parent.id)?.stray => self.join(&facts, Some(parent))?,
            Some(_) => {}
        }
        Ok(Placed::Stored)
    }

    /// The indexes that depend on this record alone. It stands apart until it is joined.
    fn index(&mut self, facts: &Facts) -> Result<()> {
        let id = &facts.id;
        self.view.put(Column::Records, id.0.to_vec(), encode(facts)?);
        self.put_standing(id, Standing::APART);
        if let Some(parent) = &facts.parent {
            self.view.put(Column::Children, keys::child(parent, id), Vec::new());
        }
        for scope in [Scope::All, Scope::Task(facts.task_id), Scope::Node(facts.node_id)] {
            self.view.put(Column::Timeline, keys::timeline(scope, facts.timestamp, id), Vec::new());
        }
        self.tally.experiments += 1;
        self.count_publisher(facts)?;
        // Also makes the class known where only strays have it.
        self.class(facts)?;
        self.task(&facts.task_id)?.strays += 1;
        Ok(())
    }

    fn count_publisher(&mut self, facts: &Facts) -> Result<()> {
        let key = keys::publisher(&facts.task_id, &facts.node_id, &keys::class(&facts.class));
        let publisher = match self.view.get(Column::Publishers, &key)? {
            Some(bytes) => {
                let mut known: Publisher = values::decode(&bytes)?;
                known.experiments += 1;
                known.first = known.first.min(facts.timestamp);
                known.last = known.last.max(facts.timestamp);
                known
            }
            None => {
                if self
                    .view
                    .keys(Column::Publishers, &keys::publisher_prefix(&facts.task_id, &facts.node_id))?
                    .is_empty()
                {
                    self.task(&facts.task_id)?.nodes += 1;
                }
                Publisher { class: facts.class.clone(), experiments: 1, first: facts.timestamp, last: facts.timestamp }
            }
        };
        self.view.put(Column::Publishers, key, encode(&publisher)?);
        Ok(())
    }
}
