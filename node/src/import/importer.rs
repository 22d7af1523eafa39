//! The single place where imported objects enter the store and are counted.

use std::collections::BTreeMap;

use futures::future::join_all;
use spore_ingest::{Disposition, IngestClosed, IngestHandle, MAX_AHEAD_SECONDS, Origin};
use spore_protocol::{Kind, ObjectId, RecordId, Reject, SignedObject};
use spore_storage::Store;

use super::{ImportError, ImportKind, ImportObserver, Notice, NoticeOutcome, Tallies, Tally};

/// Pending records that are remembered. When there are more, each is looked up again. The store keeps half as many
/// pending records, so this always frees half of the places.
const HELD: usize = 100_000;

/// The destination of imported objects.
pub enum Destination<'a> {
    /// The store, through its ingest service.
    Store { store: &'a Store, ingest: &'a IngestHandle },
    /// A dry run: objects are verified, and looked up in the store if there is one. Checks that need the parents of a
    /// record are left out.
    DryRun {
        store: Option<&'a Store>,
        /// Unix seconds.
        now: u64,
    },
}

/// One item of a source.
pub struct ImportItem {
    pub kind: ImportKind,
    /// The id that the source gives.
    pub id: String,
    /// The line of the file.
    pub line: Option<u64>,
    /// The object, or the stable name of the reason and a sentence about it.
    pub object: Result<SignedObject, (&'static str, String)>,
}

/// The facts about a submitted object that a report needs.
struct Submitted {
    kind: ImportKind,
    id: ObjectId,
    parent: Option<RecordId>,
    line: Option<u64>,
}

impl Submitted {
    fn of(object: &SignedObject, line: Option<u64>) -> Self {
        let parent = match object {
            SignedObject::Experiment(record) => record.parent,
            _ => None,
        };
        Self { kind: object.kind().into(), id: object.id(), parent, line }
    }
}

/// Imports items and counts them.
pub struct Importer<'a> {
    destination: Destination<'a>,
    observer: &'a mut dyn ImportObserver,
    tallies: Tallies,
    /// Records that were pending when they were submitted.
    held: Vec<Submitted>,
}

impl<'a> Importer<'a> {
    pub fn new(destination: Destination<'a>, observer: &'a mut dyn ImportObserver) -> Self {
        Self { destination, observer, tallies: BTreeMap::new(), held: Vec::new() }
    }

    pub fn destination(&self) -> &Destination<'a> {
        &self.destination
    }

    pub fn tally(&mut self, kind: ImportKind) -> &mut Tally {
        self.tallies.entry(kind).or_default()
    }

    /// Reports the progress of a kind to the observer.
    pub fn progress(&mut self, kind: ImportKind, total: Option<u64>) {
        let tally = *self.tally(kind);
        self.observer.progress(kind, &tally, total);
    }

    /// Counts and reports a rejected item.
    pub fn refuse(&mut self, kind: ImportKind, id: &str, line: Option<u64>, reason: &'static str, detail: String) {
        self.tally(kind).refused += 1;
        self.observer.notice(&Notice {
            outcome: NoticeOutcome::Refused,
            kind,
            id: id.to_owned(),
            line,
            reason,
            detail,
        });
    }

    /// Imports a batch. Bad items are counted and reported.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub async fn take(&mut self, batch: Vec<ImportItem>) -> Result<(), ImportError> {
        let (mut sent, mut objects) = (Vec::with_capacity(batch.len()), Vec::with_capacity(batch.len()));
        for ImportItem { kind, id, line, object } in batch {
            self.tally(kind).found += 1;
            match object {
                Ok(object) => {
                    sent.push(Submitted::of(&object, line));
                    objects.push(object);
                }
                Err((reason, detail)) => self.refuse(kind, &id, line, reason, detail),
            }
        }
        let answers: Vec<Disposition> = match &self.destination {
            Destination::Store { ingest, .. } => {
                let submitted = objects.into_iter().map(|object| ingest.submit(Origin::Import, object));
                join_all(submitted).await.into_iter().collect::<Result<_, IngestClosed>>()?
            }
            Destination::DryRun { store, now } => {
                objects.into_iter().map(|object| check(*store, object, *now)).collect::<Result<_, ImportError>>()?
            }
        };
        for (sent, answer) in sent.into_iter().zip(answers) {
            self.count(sent, answer)?;
        }
        if self.held.len() > HELD { self.look_again(false) } else { Ok(()) }
    }

    fn count(&mut self, sent: Submitted, answer: Disposition) -> Result<(), ImportError> {
        match answer {
            Disposition::Accepted => self.tally(sent.kind).imported += 1,
            Disposition::Known => self.tally(sent.kind).already_here += 1,
            Disposition::Pending => self.held.push(sent),
            Disposition::Rejected(reject) => {
                self.refuse(sent.kind, &sent.id.to_string(), sent.line, reject.code(), reject.to_string());
            }
            Disposition::Later(deferral) => {
                self.refuse(sent.kind, &sent.id.to_string(), sent.line, "later", deferral.to_string());
            }
            Disposition::Failed(failure) => return Err(ImportError::Undecided(failure)),
        }
        Ok(())
    }

    /// Looks pending records up again. Those that are still pending at the `end` of an import are counted.
    fn look_again(&mut self, end: bool) -> Result<(), ImportError> {
        let Destination::Store { store, .. } = self.destination else { return Ok(()) };
        for held in std::mem::take(&mut self.held) {
            let Submitted { kind, id, parent, line } = held;
            if store.contains(Kind::Experiment, &id)? {
                self.tally(kind).imported += 1;
            } else if !store.is_pending(&id.into())? {
                let detail = "an ancestor was rejected, or there were too many pending records".into();
                self.refuse(kind, &id.to_string(), line, "parent_refused", detail);
            } else if end {
                self.tally(kind).waiting += 1;
                let parent = parent.map(|parent| parent.to_string()).unwrap_or_default();
                self.observer.notice(&Notice {
                    outcome: NoticeOutcome::Waiting,
                    kind,
                    id: id.to_string(),
                    line,
                    reason: "parent_missing",
                    detail: format!("its parent {parent} is missing"),
                });
            } else {
                self.held.push(held);
            }
        }
        Ok(())
    }

    /// Ends the import and returns the counts.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn finish(mut self) -> Result<Tallies, ImportError> {
        self.look_again(true)?;
        Ok(self.tallies)
    }
}

/// The answer of the ingest service in a dry run, as far as it does not depend on the parents of the object.
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
