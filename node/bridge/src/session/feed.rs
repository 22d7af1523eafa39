//! The objects that go out, page by page from the store: histories that the peer asked for, objects that are offered
//! to it, and new objects.
//!
//! No object is queued for a peer. A page is read when the socket has accepted the page before, so a slow peer costs a
//! position in the store and no memory. The feed runs on blocking threads and never touches a socket.

use std::collections::{HashSet, VecDeque};

use spore_protocol::{
    Kind, ObjectId, Reject, SignedObject, TaskId,
    legacy::{History, LegacyMessage, ObjectFrame},
};
use spore_storage::{ObjectText, Position, RecordSummary, Store, StoreError};

use super::{
    known::{SharedIds, lock},
    legible,
};
use crate::limits::{INTRODUCED, PAGE_BYTES, PAGE_OBJECTS, WALKS};

/// Something to send besides new objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delivery {
    /// The history that the peer asked for.
    History { history: History, since: u64 },
    /// Everything that the peer lacks, except profiles.
    Offer,
    /// The profiles that the peer lacks. The protocol has no request for profiles.
    Profiles,
}

/// A walk through all objects of one kind.
#[derive(Debug)]
struct HistoryWalk {
    kind: Kind,
    from: Option<Position>,
    /// The request that the walk answers. None for an offer.
    answers: Option<(History, u64)>,
    /// Objects sent.
    count: u64,
    /// Roots that were sent before their position was reached.
    ahead: HashSet<ObjectId>,
}

impl HistoryWalk {
    fn offered(kind: Kind) -> Self {
        Self { kind, from: None, answers: None, count: 0, ahead: HashSet::new() }
    }

    fn answering(history: History, since: u64) -> Self {
        // The reference reads `since` in two ways: records from this time on, all others after it.
        let from = match history {
            History::Records => (since, ObjectId([0; 32])),
            History::Controls | History::Tasks if since == 0 => (0, ObjectId([0; 32])),
            History::Controls | History::Tasks => (since, ObjectId([u8::MAX; 32])),
        };
        Self { from: Some(from), answers: Some((history, since)), ..Self::offered(history.kind()) }
    }
}

/// Frames to write.
#[derive(Debug, Default)]
pub(super) struct FeedPage {
    pub bytes: Vec<u8>,
    /// Objects in the page.
    pub objects: u64,
    /// Everything is sent: there was nothing left to read.
    pub idle: bool,
}

/// What is still to be sent over one connection.
#[derive(Debug)]
pub(super) struct ObjectFeed {
    ids: SharedIds,
    walks: VecDeque<HistoryWalk>,
    /// Sequence number of the last change that was handled.
    log: u64,
    introduced: HashSet<TaskId>,
}

impl ObjectFeed {
    /// `log`: new objects are those of the changes after this sequence number.
    pub fn new(ids: SharedIds, log: u64) -> Self {
        Self { ids, walks: VecDeque::new(), log, introduced: HashSet::new() }
    }

    /// Adds something to send. A walk that has not begun serves a second request of the same kind as well.
    pub fn add(&mut self, delivery: Delivery) {
        match delivery {
            Delivery::History { history, since } => {
                // The first walk may have begun, and lacks what came since.
                let waits = |walk: &HistoryWalk| walk.answers == Some((history, since));
                if self.walks.len() < WALKS && !self.walks.iter().skip(1).any(waits) {
                    self.walks.push_back(HistoryWalk::answering(history, since));
                }
            }
            // Tasks come before their records, and records before the events about them.
            Delivery::Offer => {
                let kinds = [Kind::Task, Kind::Experiment, Kind::Control];
                self.walks.extend(kinds.map(HistoryWalk::offered));
            }
            Delivery::Profiles => self.walks.push_back(HistoryWalk::offered(Kind::Profile)),
        }
    }

    /// Sequence number up to which the change log has been sent.
    pub fn log(&self) -> u64 {
        self.log
    }

    /// The next page.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next(&mut self, store: &Store) -> Result<FeedPage, StoreError> {
        match self.walks.pop_front() {
            Some(walk) => self.walk_on(store, walk),
            None => self.follow_log(store),
        }
    }

    fn walk_on(&mut self, store: &Store, mut walk: HistoryWalk) -> Result<FeedPage, StoreError> {
        let mut page = FeedPage::default();
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
                // A marker is a few numbers and always fits a frame.
                page.bytes.extend(marker.encode().unwrap_or_default());
            }
            (true, None) => {}
        }
        Ok(page)
    }

    fn follow_log(&mut self, store: &Store) -> Result<FeedPage, StoreError> {
        let mut page = FeedPage::default();
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

    /// Adds an object to a page, unless the peer has it or could not read it.
    fn put(
        &mut self,
        store: &Store,
        page: &mut FeedPage,
        mut walk: Option<&mut HistoryWalk>,
        kind: Kind,
        id: ObjectId,
    ) -> Result<(), StoreError> {
        // A peer that asks for a history gets again what it was sent before, because it may have lost that since.
        let has = match &walk {
            Some(walk) if walk.answers.is_some() => self.was_received(&id) || walk.ahead.contains(&id),
            _ => self.peer_has(&id),
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
            // The store may have replaced a profile meanwhile.
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

    // Each of these two locks for one question alone: a guard in a condition would live as long as its body.

    fn peer_has(&self, id: &ObjectId) -> bool {
        lock(&self.ids).peer_has(id)
    }

    fn was_received(&self, id: &ObjectId) -> bool {
        lock(&self.ids).was_received(id)
    }

    /// Sends the manifest and the root of a task before its first record: the reference refuses a root when it has any
    /// other record of the task already.
    fn introduce(
        &mut self,
        store: &Store,
        page: &mut FeedPage,
        walk: Option<&mut HistoryWalk>,
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
        if !self.peer_has(&manifest)
            && let Some(SignedObject::Task(manifest)) = store.object(Kind::Task, &manifest)?
        {
            let (id, object) = (manifest.id(), SignedObject::Task(manifest));
            if legible::other(&object) {
                self.append(page, id, ObjectFrame::of(&object, None));
            }
        }
        let root = store.task(&record.task_id)?.and_then(|task| task.root).filter(|root| *root != record.id);
        let Some(root) = root.filter(|root| !self.peer_has(&(*root).into())) else { return Ok(()) };
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

    fn append_record(&self, page: &mut FeedPage, summary: &RecordSummary, text: &ObjectText) -> bool {
        let derived = (summary.version <= 1).then_some(summary.task_id);
        let id = summary.id.into();
        self.append(page, id, Some(ObjectFrame::record(id, &text.canonical, &text.signature, derived)))
    }

    fn append(&self, page: &mut FeedPage, id: ObjectId, frame: Option<ObjectFrame<'_>>) -> bool {
        let appended: Result<(), Reject> =
            frame.ok_or(Reject::UnknownKind).and_then(|frame| frame.append_to(&mut page.bytes));
        if let Err(reject) = &appended {
            tracing::debug!(id = %id.short(), %reject, "an object does not fit a frame of the legacy protocol");
            return false;
        }
        lock(&self.ids).add_sent(&id);
        page.objects += 1;
        true
    }
}
