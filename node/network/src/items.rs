//! A set of (timestamp, id) as negentropy compares it, whether its sums are kept or have to be made.
//!
//! The crate takes a fingerprint of what it is let visit, and lets nobody give one. Its fingerprint
//! of a stretch is the sum of the ids and their number, and the number is the stretch's length: so one
//! item that bears the sum of all gives the same, and a stretch that is only summed is visited as
//! that one item. Which visits these are follows from the message: negentropy looks up the end of each
//! range once, in order, visits a range that lists ids first to compare and then, when it answers, to
//! list its own, and sums in all other visits of more than a few items. What a comparison finds is of
//! use to the asking side alone, and there only where ids are listed: other comparisons visit nothing,
//! or else an empty node would have all items read to it in each round.
//!
//! Never here: which scopes there are, what is done about what differs.

use std::cell::RefCell;

use negentropy::{Bound, Error, Id, Item, Negentropy, NegentropyStorageBase};
use spore_protocol::ObjectId;
use spore_storage::{StoreError, SyncSet};

use super::limits::FRAME_BYTES;

/// Items below which negentropy lists a stretch instead of splitting it. Visiting these one by one is
/// right whatever they are visited for.
const LISTED: usize = 32;

/// A message that is not negentropy's, or names what cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("malformed catch-up message: {0}")]
pub struct BadMessage(String);

impl BadMessage {
    pub fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

/// Why sets could not be compared, or a request not be answered.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// The other side's fault.
    #[error(transparent)]
    Bad(#[from] BadMessage),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// (timestamp, id) pairs in this order.
pub trait Ordered {
    fn len(&self) -> usize;

    /// Visits the items from one place up to another, each with its place, until `visit` says false.
    ///
    /// # Errors
    /// When they cannot be read, as for all questions here.
    fn each(
        &self,
        begin: usize,
        end: usize,
        visit: &mut dyn FnMut(u64, ObjectId, usize) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError>;

    /// How many items come before this timestamp and id.
    ///
    /// # Errors
    /// When they cannot be read.
    fn place_of(&self, timestamp: u64, id: &ObjectId) -> Result<usize, StoreError>;

    /// The sum of the ids from one place up to another, as little-endian numbers modulo 2^256.
    ///
    /// # Errors
    /// When they cannot be read.
    fn sum(&self, begin: usize, end: usize) -> Result<[u8; 32], StoreError>;
}

impl Ordered for SyncSet<'_> {
    fn len(&self) -> usize {
        self.len()
    }

    fn each(
        &self,
        begin: usize,
        end: usize,
        visit: &mut dyn FnMut(u64, ObjectId, usize) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.each(begin, end, visit)
    }

    fn place_of(&self, timestamp: u64, id: &ObjectId) -> Result<usize, StoreError> {
        self.place_of(timestamp, id)
    }

    fn sum(&self, begin: usize, end: usize) -> Result<[u8; 32], StoreError> {
        self.sum(begin, end)
    }
}

/// A set for one message: made for it and dropped after it.
pub struct Items<S> {
    set: S,
    reading: RefCell<Reading>,
}

/// What one message has come to.
#[derive(Default)]
struct Reading {
    /// For each range of the message, from the last to the first, how many ids it lists, if it does.
    lists: Vec<Option<u64>>,
    side: Side,
    /// Visits of the present range for its items that are left.
    left: usize,
    /// Whether the next of these is a comparison that nobody learns from.
    idle: bool,
    /// What negentropy has no error for.
    failed: Option<StoreError>,
}

/// Whose message is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Side {
    /// Nobody's: the first is made.
    #[default]
    Initiating,
    Answering,
    Learning,
}

impl<S: Ordered> Items<S> {
    pub fn new(set: S) -> Self {
        Self { set, reading: RefCell::default() }
    }

    /// The first message of the side that wants to learn.
    ///
    /// # Errors
    /// When the set cannot be read.
    pub fn initiate(&self) -> Result<Vec<u8>, CompareError> {
        self.compare(&[], Side::Initiating, |machine| machine.initiate())
    }

    /// Answers one message of the side that wants to learn.
    ///
    /// # Errors
    /// A bad message is the sender's fault.
    pub fn answer(&self, message: &[u8]) -> Result<Vec<u8>, CompareError> {
        if message.len() > FRAME_BYTES {
            // Each range of it costs a search.
            return Err(BadMessage::new("longer than a frame").into());
        }
        self.compare(message, Side::Answering, |machine| machine.reconcile(message))
    }

    /// Reads an answer: adds what the other side alone has to `needed`, and gives the message to go on
    /// with, if there is more to compare.
    ///
    /// # Errors
    /// A bad answer is the sender's fault.
    pub fn learn(&self, answer: &[u8], needed: &mut Vec<ObjectId>) -> Result<Option<Vec<u8>>, CompareError> {
        let (mut theirs_missing, mut ours_missing) = (Vec::new(), Vec::new());
        let next = self.compare(answer, Side::Learning, |machine| {
            machine.set_initiator();
            machine.reconcile_with_ids(answer, &mut theirs_missing, &mut ours_missing)
        })?;
        needed.extend(ours_missing.into_iter().map(|id| ObjectId(id.to_bytes())));
        Ok(next)
    }

    fn compare<T>(
        &self,
        message: &[u8],
        side: Side,
        with: impl FnOnce(&mut Negentropy<'_, Self>) -> Result<T, Error>,
    ) -> Result<T, CompareError> {
        let mut lists = listing(message);
        lists.reverse();
        *self.reading.borrow_mut() = Reading { lists, side, ..Reading::default() };
        let result = Negentropy::borrowed(self, FRAME_BYTES as u64).and_then(|mut machine| with(&mut machine));
        match self.reading.take().failed {
            Some(failed) => Err(failed.into()),
            None => result.map_err(|error| BadMessage(error.to_string()).into()),
        }
    }

    /// Notes what only this side can know of, for which any error stands.
    fn noted<T>(&self, result: Result<T, StoreError>) -> Result<T, Error> {
        result.map_err(|failed| {
            self.reading.borrow_mut().failed.get_or_insert(failed);
            Error::BadRange
        })
    }
}

impl<S: Ordered> NegentropyStorageBase for Items<S> {
    fn size(&self) -> Result<usize, Error> {
        Ok(self.set.len())
    }

    fn get_item(&self, place: usize) -> Result<Option<Item>, Error> {
        let mut found = None;
        self.noted(self.set.each(place, place.saturating_add(1), &mut |timestamp, id, _| {
            found = Some(item(timestamp, id));
            Ok(false)
        }))?;
        Ok(found)
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        visit: &mut dyn FnMut(Item, usize) -> Result<bool, Error>,
    ) -> Result<(), Error> {
        let listed = {
            let mut reading = self.reading.borrow_mut();
            let listed = reading.left > 0;
            reading.left = reading.left.saturating_sub(1);
            if listed && std::mem::take(&mut reading.idle) {
                return Ok(());
            }
            listed
        };
        if !listed && end.saturating_sub(begin) >= LISTED {
            let sum = self.noted(self.set.sum(begin, end))?;
            return visit(item(0, ObjectId(sum)), begin).map(drop);
        }
        let mut refused = None;
        self.noted(self.set.each(begin, end, &mut |timestamp, id, place| {
            Ok(visit(item(timestamp, id), place).unwrap_or_else(|error| {
                refused = Some(error);
                false
            }))
        }))?;
        refused.map_or(Ok(()), Err)
    }

    fn find_lower_bound(&self, first: usize, last: usize, value: &Bound) -> usize {
        {
            let mut reading = self.reading.borrow_mut();
            // Where the message could not be read, visiting one by one is never wrong.
            let listed = reading.lists.pop().unwrap_or(Some(u64::MAX));
            (reading.left, reading.idle) = match (listed, reading.side) {
                (None, _) | (_, Side::Initiating) => (0, false),
                (Some(_), Side::Answering) => (2, true),
                (Some(ids), Side::Learning) => (1, ids == 0),
            };
        }
        if value.item.timestamp == u64::MAX {
            return last;
        }
        let id = ObjectId(value.item.id.to_bytes());
        let place = self.noted(self.set.place_of(value.item.timestamp, &id));
        place.map_or(first, |place| place.max(first).min(last))
    }
}

fn item(timestamp: u64, id: ObjectId) -> Item {
    // The largest timestamp means "no bound" on the wire, so no item may have it.
    Item::with_timestamp_and_id(timestamp.min(u64::MAX - 1), Id::from_byte_array(id.0))
}

/// For each range of a message, in order, how many ids it lists, if it does; up to where the message
/// is malformed.
fn listing(message: &[u8]) -> Vec<Option<u64>> {
    let mut rest = message.get(1..).unwrap_or_default();
    let mut lists = Vec::new();
    while let Some(listed) = range(&mut rest) {
        lists.push(listed);
    }
    lists
}

/// The outer option: whether a range could be read.
fn range(rest: &mut &[u8]) -> Option<Option<u64>> {
    const FINGERPRINT: u64 = negentropy::FINGERPRINT_SIZE as u64;
    const ID: u64 = negentropy::ID_SIZE as u64;
    let _timestamp = number(rest)?;
    let prefix = number(rest)?;
    skip(rest, prefix)?;
    match number(rest)? {
        0 => Some(None),
        1 => skip(rest, FINGERPRINT).map(|()| None),
        2 => {
            let ids = number(rest)?;
            skip(rest, ids.checked_mul(ID)?).map(|()| Some(ids))
        }
        _ => None,
    }
}

/// Big-endian groups of seven bits, all but the last with the eighth bit set.
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    loop {
        let (byte, behind) = rest.split_first()?;
        *rest = behind;
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
}

fn skip(rest: &mut &[u8], bytes: u64) -> Option<()> {
    *rest = rest.get(usize::try_from(bytes).ok()?..)?;
    Some(())
}

#[cfg(test)]
pub(super) mod tests;
