//! What goes out: histories that the peer asked for, what is offered to it unasked, and what is new,
//! page by page out of the store. Nothing is queued for a peer: a page is read when the socket has
//! taken the one before, and a slow peer costs a position in the store and no memory.
//!
//! Runs on blocking threads; it never touches a socket.

use std::{
    collections::{HashSet, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use spore_protocol::{
    Kind, ObjectId, Reject, SignedObject, TaskId,
    legacy::{History, LegacyMessage, ObjectFrame},
};
use spore_storage::{ObjectText, Position, RecordSummary, Store, StoreError};

use super::{known::Known, legible};
use crate::limits::{INTRODUCED, PAGE_BYTES, PAGE_OBJECTS, WALKS};

/// Both directions of a session look into it: the one that reads notes what came, the feed leaves it out.
pub(super) type SharedKnown = Arc<Mutex<Known>>;

/// Locks what is known of a peer.
pub(super) fn lock(known: &SharedKnown) -> MutexGuard<'_, Known> {
    // Sets of numbers are right after any panic.
    known.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Something to send beside what is new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Answer a request.
    Answer { history: History, since: u64 },
    /// Everything that the peer lacks.
    Offer,
    /// The profiles that the peer lacks, for which there is no request.
    Profiles,
}

/// A walk through all objects of a kind.
#[derive(Debug)]
struct Walk {
    kind: Kind,
    from: Option<Position>,
    /// The request that it answers.
    answers: Option<(History, u64)>,
    /// Objects sent.
    count: u64,
    /// Roots that went ahead of their turn.
    ahead: HashSet<ObjectId>,
}

impl Walk {
    fn offered(kind: Kind) -> Self {
        Self { kind, from: None, answers: None, count: 0, ahead: HashSet::new() }
    }

    fn answering(history: History, since: u64) -> Self {
        // Just before everything of that time for records, just after it for the others.
        let from = match history {
            History::Records => (since, ObjectId([0; 32])),
            History::Controls | History::Tasks if since == 0 => (0, ObjectId([0; 32])),
            History::Controls | History::Tasks => (since, ObjectId([u8::MAX; 32])),
        };
        Self { from: Some(from), answers: Some((history, since)), ..Self::offered(history.kind()) }
    }
}

/// Bytes to write, and what they were.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub bytes: Vec<u8>,
    /// Objects in it.
    pub objects: u64,
    /// All is sent: nothing was to be read any more.
    pub idle: bool,
}

/// What is still to be sent over a connection.
#[derive(Debug)]
pub(super) struct Feed {
    known: SharedKnown,
    walks: VecDeque<Walk>,
    /// The last change that was dealt with.
    log: u64,
    introduced: HashSet<TaskId>,
}

impl Feed {
    /// `log`: the change after which what is new begins.
    pub fn new(known: SharedKnown, log: u64) -> Self {
        Self { known, walks: VecDeque::new(), log, introduced: HashSet::new() }
    }

    /// Adds something to send. An answer that is to be given in full already serves two requests.
    pub fn order(&mut self, order: Order) {
        match order {
            Order::Answer { history, since } => {
                // The first may have begun, and then lacks what came since.
                let waits = |walk: &Walk| walk.answers == Some((history, since));
                if self.walks.len() < WALKS && !self.walks.iter().skip(1).any(waits) {
                    self.walks.push_back(Walk::answering(history, since));
                }
            }
            // Tasks before their records, records before what is said of them.
            Order::Offer => {
                let kinds = [Kind::Task, Kind::Experiment, Kind::Control];
                self.walks.extend(kinds.map(Walk::offered));
            }
            Order::Profiles => self.walks.push_back(Walk::offered(Kind::Profile)),
        }
    }

    /// Up to where the log has been sent.
    pub fn log(&self) -> u64 {
        self.log
    }

    /// The next page.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next(&mut self, store: &Store) -> Result<Page, StoreError> {
        match self.walks.pop_front() {
            Some(walk) => self.walk_on(store, walk),
            None => self.follow_log(store),
        }
    }

    fn walk_on(&mut self, store: &Store, mut walk: Walk) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let positions = store.page(walk.kind, walk.from, PAGE_OBJECTS)?;
        let mut ended = positions.len() < PAGE_OBJECTS;
        for (at, position) in positions.iter().enumerate() {
            walk.from = Some(*position);
            let kind = walk.kind;
            self.put(store, &mut page, Some(&mut walk), kind, position.1)?;
            if page.bytes.len() >= PAGE_BYTES {
                ended &= at + 1 == positions.len();
                break;
            }
        }
        match (ended, walk.answers) {
            (false, _) => self.walks.push_front(walk),
            (true, Some((history, since))) => {
                let marker = LegacyMessage::SyncResponse { history, since, count: walk.count };
                // A marker is a few numbers and always fits.
                page.bytes.extend(marker.encode().unwrap_or_default());
            }
            (true, None) => {}
        }
        Ok(page)
    }

    fn follow_log(&mut self, store: &Store) -> Result<Page, StoreError> {
        let mut page = Page::default();
        let changes = store.changes_since(self.log, PAGE_OBJECTS)?;
        page.idle = changes.is_empty();
        for change in changes {
            self.log = change.sequence;
            self.put(store, &mut page, None, change.kind, change.id)?;
            if page.bytes.len() >= PAGE_BYTES {
                break;
            }
        }
        Ok(page)
    }

    /// Puts an object into a page, unless the peer has it or could not read it.
    fn put(
        &mut self,
        store: &Store,
        page: &mut Page,
        mut walk: Option<&mut Walk>,
        kind: Kind,
        id: ObjectId,
    ) -> Result<(), StoreError> {
        // Who asks gets what it was sent before, too: it may have lost it since.
        let has = match &walk {
            Some(walk) if walk.answers.is_some() => self.heard(&id) || walk.ahead.contains(&id),
            _ => self.has(&id),
        };
        if has {
            return Ok(());
        }
        let appended = if kind == Kind::Experiment {
            let Some((summary, text)) = store.record_text(&id.into())? else { return Ok(()) };
            if summary.stray || !legible::record(&summary, &text) {
                return Ok(());
            }
            self.introduce(store, page, walk.as_deref_mut(), &summary)?;
            self.append_record(page, &summary, &text)
        } else {
            // A profile may have been replaced meanwhile.
            let Some(object) = store.object(kind, &id)? else { return Ok(()) };
            legible::other(&object) && self.append(page, id, ObjectFrame::of(&object, None))
        };
        if let Some(walk) = walk
            && appended
        {
            walk.count += 1;
        }
        Ok(())
    }

    // Each locks for the one question alone: a guard must not live on in the condition that asks.

    fn has(&self, id: &ObjectId) -> bool {
        lock(&self.known).has(id)
    }

    fn heard(&self, id: &ObjectId) -> bool {
        lock(&self.known).heard(id)
    }

    /// Sends a task's manifest and its root ahead of the first record of it: the reference refuses a
    /// root when it has any other record of the task already.
    fn introduce(
        &mut self,
        store: &Store,
        page: &mut Page,
        walk: Option<&mut Walk>,
        record: &RecordSummary,
    ) -> Result<(), StoreError> {
        if self.introduced.contains(&record.task_id) {
            return Ok(());
        }
        if self.introduced.len() >= INTRODUCED {
            self.introduced.clear();
        }
        self.introduced.insert(record.task_id);
        let manifest = ObjectId::from(record.task_id);
        if !self.has(&manifest)
            && let Some(SignedObject::Task(manifest)) = store.object(Kind::Task, &manifest)?
        {
            let (id, object) = (manifest.id(), SignedObject::Task(manifest));
            if legible::other(&object) {
                self.append(page, id, ObjectFrame::of(&object, None));
            }
        }
        let root = store.task(&record.task_id)?.and_then(|task| task.root).filter(|root| *root != record.id);
        let Some(root) = root.filter(|root| !self.has(&(*root).into())) else { return Ok(()) };
        let Some((summary, text)) = store.record_text(&root)? else { return Ok(()) };
        if legible::record(&summary, &text)
            && self.append_record(page, &summary, &text)
            && let Some(walk) = walk
            && walk.kind == Kind::Experiment
        {
            walk.count += 1;
            walk.ahead.insert(root.into());
        }
        Ok(())
    }

    fn append_record(&self, page: &mut Page, summary: &RecordSummary, text: &ObjectText) -> bool {
        let derived = (summary.version <= 1).then_some(summary.task_id);
        let id = summary.id.into();
        self.append(page, id, Some(ObjectFrame::record(id, &text.canonical, &text.signature, derived)))
    }

    fn append(&self, page: &mut Page, id: ObjectId, frame: Option<ObjectFrame<'_>>) -> bool {
        let appended: Result<(), Reject> =
            frame.ok_or(Reject::UnknownKind).and_then(|frame| frame.append_to(&mut page.bytes));
        if let Err(reject) = &appended {
            tracing::debug!(id = %id.short(), %reject, "an object does not fit the legacy wire");
            return false;
        }
        lock(&self.known).tell(&id);
        page.objects += 1;
        true
    }
}
