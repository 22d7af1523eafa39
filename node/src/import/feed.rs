//! The one place where imported objects go in, and where what became of them is counted.

use std::collections::BTreeMap;

use futures::future::join_all;
use spore_ingest::{Disposition, IngestClosed, IngestHandle, MAX_AHEAD_SECONDS, Origin};
use spore_protocol::{Kind, ObjectId, RecordId, Reject, SignedObject};
use spore_storage::Store;

use super::{Fate, ImportError, Notice, Part, Tallies, Tally, Witness};

/// Records remembered because they waited for a parent when they went in. Past it each is looked up
/// again; the store keeps half as many waiting, so this always makes room.
const HELD: usize = 100_000;

/// Where objects go.
pub enum Way<'a> {
    /// Into the store, by its one door.
    Door { store: &'a Store, ingest: &'a IngestHandle },
    /// Nowhere: they are checked, and looked up in the store if there is one. What follows from
    /// their parents is not known then.
    Nowhere {
        store: Option<&'a Store>,
        /// Unix seconds.
        now: u64,
    },
}

/// Something that a source holds.
pub struct Entry {
    pub part: Part,
    /// What the source calls it.
    pub id: String,
    /// Of the file it is in.
    pub line: Option<u64>,
    /// The object, or the stable name of what is wrong and a sentence on it.
    pub object: Result<SignedObject, (&'static str, String)>,
}

/// An object on its way in, by what is said of it afterwards.
struct Sent {
    part: Part,
    id: ObjectId,
    parent: Option<RecordId>,
    line: Option<u64>,
}

impl Sent {
    fn of(object: &SignedObject, line: Option<u64>) -> Self {
        let parent = match object {
            SignedObject::Experiment(record) => record.parent,
            _ => None,
        };
        Self { part: object.kind().into(), id: object.id(), parent, line }
    }
}

/// Takes entries in and counts them.
pub struct Feed<'a> {
    way: Way<'a>,
    witness: &'a mut dyn Witness,
    tallies: Tallies,
    /// Records that waited for their parents when they went in.
    held: Vec<Sent>,
}

impl<'a> Feed<'a> {
    pub fn new(way: Way<'a>, witness: &'a mut dyn Witness) -> Self {
        Self { way, witness, tallies: BTreeMap::new(), held: Vec::new() }
    }

    pub fn way(&self) -> &Way<'a> {
        &self.way
    }

    pub fn tally(&mut self, part: Part) -> &mut Tally {
        self.tallies.entry(part).or_default()
    }

    /// Tells the witness how far a part is.
    pub fn progress(&mut self, part: Part, total: Option<u64>) {
        let tally = *self.tally(part);
        self.witness.progress(part, &tally, total);
    }

    /// Counts and tells what is refused.
    pub fn refuse(&mut self, part: Part, id: &str, line: Option<u64>, reason: &'static str, detail: String) {
        self.tally(part).refused += 1;
        self.witness.notice(&Notice { outcome: Fate::Refused, part, id: id.to_owned(), line, reason, detail });
    }

    /// Takes a batch in.
    ///
    /// # Errors
    /// When the store cannot be read or written. What is wrong with an entry is counted and told.
    pub async fn take(&mut self, batch: Vec<Entry>) -> Result<(), ImportError> {
        let (mut sent, mut objects) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for Entry { part, id, line, object } in batch {
            self.tally(part).found += 1;
            match object {
                Ok(object) => {
                    sent.push(Sent::of(&object, line));
                    objects.push(object);
                }
                Err((reason, detail)) => self.refuse(part, &id, line, reason, detail),
            }
        }
        let answers: Vec<Disposition> = match &self.way {
            Way::Door { ingest, .. } => {
                let submitted = objects.into_iter().map(|object| ingest.submit(Origin::Import, object));
                join_all(submitted).await.into_iter().collect::<Result<_, IngestClosed>>()?
            }
            Way::Nowhere { store, now } => {
                objects.into_iter().map(|object| check(*store, object, *now)).collect::<Result<_, ImportError>>()?
            }
        };
        for (sent, answer) in sent.into_iter().zip(answers) {
            self.count(sent, answer)?;
        }
        if self.held.len() > HELD { self.look_again(false) } else { Ok(()) }
    }

    fn count(&mut self, sent: Sent, answer: Disposition) -> Result<(), ImportError> {
        match answer {
            Disposition::Accepted => self.tally(sent.part).imported += 1,
            Disposition::Known => self.tally(sent.part).already_here += 1,
            Disposition::Pending => self.held.push(sent),
            Disposition::Rejected(reject) => {
                self.refuse(sent.part, &sent.id.to_string(), sent.line, reject.code(), reject.to_string());
            }
            Disposition::Failed(failure) => return Err(ImportError::Undecided(failure)),
        }
        Ok(())
    }

    /// Looks up what became of records that waited for a parent. At the `end` of an import those
    /// that still do are counted.
    fn look_again(&mut self, end: bool) -> Result<(), ImportError> {
        let Way::Door { store, .. } = self.way else { return Ok(()) };
        for held in std::mem::take(&mut self.held) {
            let Sent { part, id, parent, line } = held;
            if store.contains(Kind::Experiment, &id)? {
                self.tally(part).imported += 1;
            } else if !store.is_pending(&id.into())? {
                let detail = "what it descends from was refused, or too many records waited for their parents".into();
                self.refuse(part, &id.to_string(), line, "parent_refused", detail);
            } else if end {
                self.tally(part).waiting += 1;
                let parent = parent.map(|parent| parent.to_string()).unwrap_or_default();
                self.witness.notice(&Notice {
                    outcome: Fate::Waiting,
                    part,
                    id: id.to_string(),
                    line,
                    reason: "parent_missing",
                    detail: format!("its parent {parent} is not here"),
                });
            } else {
                self.held.push(held);
            }
        }
        Ok(())
    }

    /// Ends the import and gives the numbers.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn finish(mut self) -> Result<Tallies, ImportError> {
        self.look_again(true)?;
        Ok(self.tallies)
    }
}

/// What the door would say, as far as it can be known without the object's parents.
fn check(store: Option<&Store>, object: SignedObject, now: u64) -> Result<Disposition, ImportError> {
    if let Some(store) = store
        && store.contains(object.kind(), &object.id())?
    {
        return Ok(Disposition::Known);
    }
    let ahead = object.timestamp().saturating_sub(now);
    if ahead > MAX_AHEAD_SECONDS {
        return Ok(Disposition::Rejected(Reject::FromTheFuture { ahead }));
    }
    Ok(object.verify().map_or_else(Disposition::Rejected, |_| Disposition::Accepted))
}
