//! The bytes of a negentropy message, protocol version 1.
//!
//! A message is a version byte and a list of ranges. The ranges follow each other without a gap, so each names only its
//! end. An end is a [`RangeBound`], followed by what the sender states about its own items in that range:
//!
//! ```text
//! message   = version (1 byte) range*
//! range     = bound mode content
//! bound     = timestamp (number) length (number) id prefix (length bytes)
//! timestamp = 0 for "no end", otherwise 1 + the difference to the previous bound's timestamp
//! mode      = number: 0 skip, 1 fingerprint (16 bytes), 2 ids (count as a number, 32 bytes each)
//! number    = groups of seven bits, the most significant first; all bytes but the last have the eighth bit set
//! ```
//!
//! Never here: comparing anything.

use spore_protocol::ObjectId;

use super::BadMessage;

/// Version 1 of the protocol.
pub const VERSION: u8 = 0x61;
/// Version bytes that the protocol reserves for itself.
pub const VERSIONS: std::ops::RangeInclusive<u8> = 0x60..=0x6f;
/// Bytes of an id.
pub const ID_BYTES: usize = 32;
/// Bytes of a fingerprint.
pub const FINGERPRINT_BYTES: usize = 16;
/// A digest of the ids in a range.
pub type Fingerprint = [u8; FINGERPRINT_BYTES];

const SKIP: u64 = 0;
const FINGERPRINT: u64 = 1;
const IDS: u64 = 2;
/// Bytes of the largest number: 64 bits in groups of seven.
const NUMBER_BYTES: usize = 10;

/// The exclusive end of a range: all (timestamp, id) pairs before it belong to the range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeBound {
    pub timestamp: u64,
    /// The prefix, filled up with zeros.
    pub id: ObjectId,
    /// Bytes of the prefix, 0 to 32.
    length: usize,
}

impl RangeBound {
    /// Behind every item.
    pub const END: Self = Self { timestamp: u64::MAX, id: ObjectId([0; ID_BYTES]), length: 0 };

    /// Right before an item.
    pub fn before(item: (u64, ObjectId)) -> Self {
        Self { timestamp: finite(item.0), id: item.1, length: ID_BYTES }
    }

    /// The shortest bound between two items that follow each other.
    pub fn between(last: (u64, ObjectId), next: (u64, ObjectId)) -> Self {
        let shared = last.1.0.iter().zip(next.1.0).take_while(|(a, b)| **a == *b).count();
        let length = if finite(last.0) == finite(next.0) { (shared + 1).min(ID_BYTES) } else { 0 };
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(next.1.0).take(length) {
            *to = from;
        }
        Self { timestamp: finite(next.0), id: ObjectId(id), length }
    }
}

/// The largest timestamp means "no end", so no item may have it.
fn finite(timestamp: u64) -> u64 {
    timestamp.min(u64::MAX - 1)
}

/// What the sender states about its items in a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content<'a> {
    /// Nothing: the range needs no more work.
    Skip,
    /// The fingerprint of all of them.
    Fingerprint(Fingerprint),
    /// All of their ids.
    Ids(&'a [[u8; ID_BYTES]]),
}

/// Reads the ranges of a message one by one. Ends after the first error.
#[derive(Debug)]
pub struct Ranges<'a> {
    rest: &'a [u8],
    timestamp: u64,
}

impl<'a> Ranges<'a> {
    /// `body`: a message behind its version byte.
    pub fn new(body: &'a [u8]) -> Self {
        Self { rest: body, timestamp: 0 }
    }

    fn range(&mut self) -> Result<(RangeBound, Content<'a>), BadMessage> {
        let end = self.bound()?;
        let content = match self.number()? {
            SKIP => Content::Skip,
            FINGERPRINT => {
                let bytes = self.bytes(FINGERPRINT_BYTES)?;
                Content::Fingerprint(bytes.try_into().map_err(|_| BadMessage::TRUNCATED)?)
            }
            IDS => {
                let count = usize::try_from(self.number()?).map_err(|_| BadMessage::TRUNCATED)?;
                let bytes = self.bytes(count.checked_mul(ID_BYTES).ok_or(BadMessage::TRUNCATED)?)?;
                Content::Ids(bytes.as_chunks().0)
            }
            _ => return Err(BadMessage::new("unknown mode of a range")),
        };
        Ok((end, content))
    }

    fn bound(&mut self) -> Result<RangeBound, BadMessage> {
        self.timestamp = match self.number()? {
            0 => u64::MAX,
            more => self.timestamp.saturating_add(more - 1),
        };
        let length = usize::try_from(self.number()?).ok().filter(|length| *length <= ID_BYTES);
        let length = length.ok_or(BadMessage::new("a bound longer than an id"))?;
        let mut id = [0; ID_BYTES];
        for (to, from) in id.iter_mut().zip(self.bytes(length)?) {
            *to = *from;
        }
        Ok(RangeBound { timestamp: self.timestamp, id: ObjectId(id), length })
    }

    fn number(&mut self) -> Result<u64, BadMessage> {
        let mut number = 0u64;
        for _ in 0..NUMBER_BYTES {
            let (byte, rest) = self.rest.split_first().ok_or(BadMessage::TRUNCATED)?;
            self.rest = rest;
            let shifted = number.checked_mul(128).ok_or(BadMessage::new("a number beyond 64 bits"))?;
            number = shifted | u64::from(byte & 0x7f);
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BadMessage::new("a number beyond 64 bits"))
    }

    fn bytes(&mut self, count: usize) -> Result<&'a [u8], BadMessage> {
        let (bytes, rest) = self.rest.split_at_checked(count).ok_or(BadMessage::TRUNCATED)?;
        self.rest = rest;
        Ok(bytes)
    }
}

impl<'a> Iterator for Ranges<'a> {
    type Item = Result<(RangeBound, Content<'a>), BadMessage>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let range = self.range();
        if range.is_err() {
            self.rest = &[];
        }
        Some(range)
    }
}

/// Writes a message range by range.
#[derive(Debug)]
pub struct RangeWriter {
    bytes: Vec<u8>,
    /// Of the last bound written.
    timestamp: u64,
}

impl RangeWriter {
    /// A message without ranges.
    pub fn new() -> Self {
        Self { bytes: vec![VERSION], timestamp: 0 }
    }

    /// Bytes written.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Removes what was written since the message had `length` bytes. Only a range that ends at [`RangeBound::END`] may
    /// follow: its timestamp is not relative to the bound before.
    pub fn truncate(&mut self, length: usize) {
        self.bytes.truncate(length);
    }

    pub fn skip(&mut self, end: &RangeBound) {
        self.bound(end);
        self.number(SKIP);
    }

    pub fn fingerprint(&mut self, end: &RangeBound, fingerprint: &Fingerprint) {
        self.bound(end);
        self.number(FINGERPRINT);
        self.bytes.extend_from_slice(fingerprint);
    }

    pub fn ids(&mut self, end: &RangeBound, ids: &[ObjectId]) {
        self.bound(end);
        self.number(IDS);
        self.number(ids.len() as u64);
        for id in ids {
            self.bytes.extend_from_slice(&id.0);
        }
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    fn bound(&mut self, bound: &RangeBound) {
        let timestamp = match bound.timestamp {
            u64::MAX => 0,
            // Bounds come in order, and no finite one is the largest number.
            finite => finite.saturating_sub(self.timestamp).saturating_add(1),
        };
        self.timestamp = bound.timestamp;
        self.number(timestamp);
        self.number(bound.length as u64);
        self.bytes.extend(bound.id.0.iter().take(bound.length));
    }

    fn number(&mut self, number: u64) {
        write_number(number, &mut self.bytes);
    }
}

/// Appends a number as messages and fingerprints write it.
pub fn write_number(number: u64, bytes: &mut Vec<u8>) {
    let groups = (64 - number.leading_zeros()).div_ceil(7).max(1);
    for group in (0..groups).rev() {
        let bits = (number >> (7 * group)) as u8 & 0x7f;
        bytes.push(if group > 0 { bits | 0x80 } else { bits });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn id(first: u8, second: u8) -> ObjectId {
        let mut id = [7; ID_BYTES];
        id[0] = first;
        id[1] = second;
        ObjectId(id)
    }

    #[test]
    fn message_is_written_byte_for_byte_as_the_protocol_says() {
        let mut writer = RangeWriter::new();
        writer.skip(&RangeBound::between((99, id(1, 1)), (200, id(2, 2))));
        writer.fingerprint(&RangeBound::between((200, id(2, 2)), (200, id(2, 3))), &[9; FINGERPRINT_BYTES]);
        writer.ids(&RangeBound::END, &[id(5, 5)]);
        let fingerprint = [9; FINGERPRINT_BYTES];
        let expected: Vec<u8> =
            [&[0x61, 0x81, 0x49, 0, 0][..], &[1, 2, 2, 3, 1], &fingerprint, &[0, 0, 2, 1], &id(5, 5).0].concat();
        assert_eq!(writer.finish(), expected);
    }

    #[test]
    fn bound_between_two_items_separates_them() {
        let (a, b) = ((5, id(1, 1)), (5, id(1, 2)));
        assert_eq!(RangeBound::between(a, b), RangeBound { timestamp: 5, id: ObjectId(prefix(&[1, 2])), length: 2 });
        assert_eq!(
            RangeBound::between((4, id(1, 1)), a),
            RangeBound { timestamp: 5, id: ObjectId([0; 32]), length: 0 }
        );
        assert!(RangeBound::before((u64::MAX, id(1, 1))).timestamp < RangeBound::END.timestamp);
    }

    fn prefix(bytes: &[u8]) -> [u8; ID_BYTES] {
        let mut id = [0; ID_BYTES];
        id[..bytes.len()].copy_from_slice(bytes);
        id
    }

    #[test]
    fn malformed_ranges_are_refused() {
        for (bytes, why) in [
            (&[0x80][..], "a number that does not end"),
            (&[0x81, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], "a number of 71 bits"),
            (&[0x83, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x00], "a number of 65 bits"),
            (&[0, 33], "a bound longer than an id"),
            (&[0, 2, 1], "a short bound"),
            (&[0, 0], "no mode"),
            (&[0, 0, 3], "an unknown mode"),
            (&[0, 0, 1, 1, 2, 3], "a short fingerprint"),
            (&[0, 0, 2, 1, 0], "a short id"),
            (&[0, 0, 2, 0x81, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f], "more ids than fit"),
        ] {
            let ranges: Vec<_> = Ranges::new(bytes).collect();
            assert!(matches!(ranges.as_slice(), [Err(_)]), "{why}: {ranges:?}");
        }
    }

    proptest! {
        #[test]
        fn numbers_round_trip(number: u64) {
            let mut bytes = Vec::new();
            write_number(number, &mut bytes);
            let mut reader = Ranges::new(&bytes);
            prop_assert_eq!(reader.number(), Ok(number));
            prop_assert!(reader.rest.is_empty());
        }

        #[test]
        fn ranges_round_trip(
            items in proptest::collection::btree_set((0u64..50, any::<[u8; 32]>()), 2..40),
            modes in proptest::collection::vec(0u8..3, 40),
        ) {
            let items: Vec<_> = items.into_iter().map(|(timestamp, id)| (timestamp, ObjectId(id))).collect();
            let mut writer = RangeWriter::new();
            let mut bounds: Vec<_> = items.windows(2).map(|pair| RangeBound::between(pair[0], pair[1])).collect();
            bounds.push(RangeBound::END);
            let listed = [items[0].1, items[1].1];
            let raw = listed.map(|id| id.0);
            for (bound, mode) in bounds.iter().zip(&modes) {
                match mode {
                    0 => writer.skip(bound),
                    1 => writer.fingerprint(bound, &[3; FINGERPRINT_BYTES]),
                    _ => writer.ids(bound, &listed),
                }
            }
            let bytes = writer.finish();
            let read: Vec<_> = Ranges::new(&bytes[1..]).collect::<Result<_, _>>().unwrap();
            let expected: Vec<_> = bounds.iter().zip(&modes).map(|(bound, mode)| (*bound, match mode {
                0 => Content::Skip,
                1 => Content::Fingerprint([3; FINGERPRINT_BYTES]),
                _ => Content::Ids(&raw),
            })).collect();
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn any_bytes_are_ranges_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bound = bytes.len();
            prop_assert!(Ranges::new(&bytes).count() <= bound);
        }
    }
}
