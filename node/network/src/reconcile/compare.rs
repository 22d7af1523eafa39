//! One message of a reconciliation: made, answered, or read by the side that wants to learn.
//!
//! Neither side keeps anything between two messages. The answering side may therefore answer any message again, and
//! its set may change in between.

use std::collections::HashSet;

use sha2::{Digest, Sha256};
use spore_protocol::ObjectId;

use super::{
    BadMessage, CompareError,
    set::ItemSet,
    wire::{Content, FINGERPRINT_BYTES, Fingerprint, RangeBound, RangeWriter, Ranges, VERSION, VERSIONS, write_number},
};
use crate::limits::FRAME_BYTES;

/// Smaller ranges that a range with another fingerprint is split into. The crate `negentropy` uses the same number;
/// the protocol leaves it to each side.
const SPLIT: usize = 16;
/// Items below which a range is listed instead of split: then each part would hold one or two.
const LISTED: usize = 2 * SPLIT;
/// Bytes of a frame kept free for what ends it: a skipped range, the bound and count of a list, and the fingerprint of
/// all that is left. These take at most 150.
const RESERVED: usize = 200;

/// A set, compared with what a message says about another one.
pub struct Comparison<S> {
    set: S,
    /// Bytes of the longest message that this side sends or answers.
    frame: usize,
}

/// What reading a message is for.
enum Side<'a> {
    /// To answer it.
    Responder,
    /// To add the ids that the other side alone has.
    Learner(&'a mut Vec<ObjectId>),
}

impl<S: ItemSet> Comparison<S> {
    pub fn new(set: S) -> Self {
        Self { set, frame: FRAME_BYTES }
    }

    #[cfg(test)]
    pub fn with_frame(self, frame: usize) -> Self {
        Self { frame, ..self }
    }

    #[cfg(test)]
    pub fn set(&self) -> &S {
        &self.set
    }

    /// The first message of the side that wants to learn.
    ///
    /// # Errors
    /// When the set cannot be read.
    pub fn initiate(&self) -> Result<Vec<u8>, CompareError> {
        let mut reply = RangeReply::new(&self.set, self.frame);
        reply.split(0, self.set.len(), RangeBound::END)?;
        Ok(reply.message.finish())
    }

    /// Answers a message of the side that wants to learn.
    ///
    /// # Errors
    /// [`CompareError::Bad`] is the sender's fault.
    pub fn answer(&self, message: &[u8]) -> Result<Vec<u8>, CompareError> {
        if message.len() > self.frame {
            // Each range costs a search in the set.
            return Err(BadMessage::new("longer than a frame").into());
        }
        let body = match message.split_first() {
            Some((&VERSION, body)) => body,
            // The protocol's way to say which version this side speaks.
            Some((version, _)) if VERSIONS.contains(version) => return Ok(vec![VERSION]),
            _ => return Err(BadMessage::new("no version of negentropy").into()),
        };
        self.read(body, Side::Responder)
    }

    /// Reads an answer. Adds the ids that the other side alone has to `needed`, and returns the next message, or `None`
    /// when both sets are compared in full.
    ///
    /// # Errors
    /// [`CompareError::Bad`] is the sender's fault.
    pub fn learn(&self, answer: &[u8], needed: &mut Vec<ObjectId>) -> Result<Option<Vec<u8>>, CompareError> {
        let Some((&VERSION, body)) = answer.split_first() else {
            return Err(BadMessage::new("not version 1 of negentropy").into());
        };
        let next = self.read(body, Side::Learner(needed))?;
        // A version byte alone: no range is left.
        Ok((next.len() > 1).then_some(next))
    }

    fn read(&self, body: &[u8], mut side: Side<'_>) -> Result<Vec<u8>, CompareError> {
        let mut reply = RangeReply::new(&self.set, self.frame);
        let mut begin = 0;
        for range in Ranges::new(body) {
            let (bound, content) = range?;
            let end = self.place(begin, &bound)?;
            match (content, &mut side) {
                (Content::Skip, _) => reply.skip(bound),
                (Content::Fingerprint(theirs), _) => {
                    if theirs == fingerprint(&self.set, begin, end)? {
                        reply.skip(bound);
                    } else {
                        reply.split(begin, end, bound)?;
                    }
                }
                // The sender compares. It gets our ids, whatever its own are.
                (Content::Ids(_), Side::Responder) => reply.list(begin, end, bound)?,
                (Content::Ids(theirs), Side::Learner(needed)) => {
                    needed.extend(self.unknown(begin, end, theirs)?);
                    reply.skip(bound);
                }
            }
            if reply.full {
                break;
            }
            begin = end;
        }
        Ok(reply.message.finish())
    }

    /// The place at which a range ends that begins at `begin`.
    fn place(&self, begin: usize, bound: &RangeBound) -> Result<usize, CompareError> {
        let size = self.set.len();
        if bound.timestamp == u64::MAX {
            return Ok(size);
        }
        Ok(self.set.place_of(bound.timestamp, &bound.id)?.max(begin).min(size))
    }

    /// The ids of a list that are not in the range, each once.
    fn unknown(&self, begin: usize, end: usize, list: &[[u8; 32]]) -> Result<Vec<ObjectId>, CompareError> {
        let mut unknown: HashSet<ObjectId> = list.iter().map(|id| ObjectId(*id)).collect();
        if !unknown.is_empty() {
            self.set.each(begin, end, &mut |_, id| {
                unknown.remove(&id);
                !unknown.is_empty()
            })?;
        }
        Ok(unknown.into_iter().collect())
    }
}

/// A message being written.
struct RangeReply<'a, S> {
    set: &'a S,
    message: RangeWriter,
    /// Bytes of the message after which nothing but its end may follow.
    room: usize,
    /// End of the ranges that need no answer and stand between the last range written and the next one. They are
    /// written as one range, and not at all at the end of a message.
    skipped: Option<RangeBound>,
    /// Place of the last bound written.
    written: usize,
    /// The message has its end.
    full: bool,
}

impl<'a, S: ItemSet> RangeReply<'a, S> {
    fn new(set: &'a S, frame: usize) -> Self {
        let room = frame.saturating_sub(RESERVED);
        Self { set, message: RangeWriter::new(), room, skipped: None, written: 0, full: false }
    }

    fn skip(&mut self, bound: RangeBound) {
        self.skipped = Some(bound);
    }

    fn write_skipped(&mut self) {
        if let Some(bound) = self.skipped.take() {
            self.message.skip(&bound);
        }
    }

    /// Describes a range that differs: by the ids of a small range, otherwise by fingerprints of its parts.
    fn split(&mut self, begin: usize, end: usize, bound: RangeBound) -> Result<(), CompareError> {
        let before = self.message.len();
        self.write_skipped();
        if end - begin < LISTED {
            self.message.ids(&bound, &self.ids(begin, end)?);
        } else {
            self.parts(begin, end, bound)?;
        }
        if self.message.len() > self.room {
            // This range does not fit: the other side asks again for all from here on.
            self.message.truncate(before);
            return self.end();
        }
        self.written = end;
        Ok(())
    }

    fn parts(&mut self, begin: usize, end: usize, bound: RangeBound) -> Result<(), CompareError> {
        let (each, longer) = ((end - begin) / SPLIT, (end - begin) % SPLIT);
        let mut from = begin;
        for part in 0..SPLIT {
            let to = from + each + usize::from(part < longer);
            let part_end = if to == end { bound } else { self.bound_at(to)? };
            let fingerprint = fingerprint(self.set, from, to)?;
            self.message.fingerprint(&part_end, &fingerprint);
            from = to;
        }
        Ok(())
    }

    /// The bound between the item before a place and the one at it.
    fn bound_at(&self, place: usize) -> Result<RangeBound, CompareError> {
        let mut pair = Vec::with_capacity(2);
        self.set.each(place.saturating_sub(1), place + 1, &mut |timestamp, id| {
            pair.push((timestamp, id));
            true
        })?;
        match pair.as_slice() {
            [last, next] => Ok(RangeBound::between(*last, *next)),
            // The set is shorter than it said: its end is the only bound that is right for certain.
            _ => Ok(RangeBound::END),
        }
    }

    fn ids(&self, begin: usize, end: usize) -> Result<Vec<ObjectId>, CompareError> {
        let mut ids = Vec::with_capacity(end - begin);
        self.set.each(begin, end, &mut |_, id| {
            ids.push(id);
            true
        })?;
        Ok(ids)
    }

    /// Lists the ids of a range, as many as there is room for. The rest of the range belongs to what is left.
    fn list(&mut self, begin: usize, end: usize, bound: RangeBound) -> Result<(), CompareError> {
        let before = self.message.len();
        let room = self.room.saturating_sub(before) / 32 + usize::from(before <= self.room);
        self.write_skipped();
        let (mut ids, mut next) = (Vec::new(), None);
        self.set.each(begin, end, &mut |timestamp, id| {
            if ids.len() == room {
                next = Some((timestamp, id));
            } else {
                ids.push(id);
            }
            next.is_none()
        })?;
        self.written = begin + ids.len();
        self.message.ids(&next.map_or(bound, RangeBound::before), &ids);
        if self.message.len() > self.room { self.end() } else { Ok(()) }
    }

    /// Ends the message with the fingerprint of all items that no range describes.
    fn end(&mut self) -> Result<(), CompareError> {
        let left = fingerprint(self.set, self.written, self.set.len())?;
        self.message.fingerprint(&RangeBound::END, &left);
        self.full = true;
        Ok(())
    }
}

/// The protocol's fingerprint of a range: the beginning of a hash of the sum of its ids and their number.
fn fingerprint(set: &impl ItemSet, begin: usize, end: usize) -> Result<Fingerprint, CompareError> {
    let mut input = set.sum(begin, end)?.to_vec();
    write_number(end.saturating_sub(begin) as u64, &mut input);
    let digest: [u8; 32] = Sha256::digest(&input).into();
    let mut fingerprint = [0; FINGERPRINT_BYTES];
    for (to, from) in fingerprint.iter_mut().zip(digest) {
        *to = from;
    }
    Ok(fingerprint)
}
