//! Objects whose timestamps are a little too far ahead: kept aside until they are due. Until then no other node gets them
//! from here, so that the nodes on both sides of a clock difference never disagree about them.

use std::collections::BTreeMap;

use spore_protocol::SignedObject;

use super::{
    Origin,
    limits::{EARLY, EARLY_BYTES, HELD_AHEAD_SECONDS},
};

/// Objects by the time at which they are due, in Unix seconds.
#[derive(Debug, Default)]
pub(super) struct EarlyObjects {
    queue: BTreeMap<(u64, u64), (Origin, SignedObject)>,
    bytes: usize,
    added: u64,
}

impl EarlyObjects {
    /// Keeps an object within the bounds. Those that are due last are dropped first: catch-up brings them again.
    pub fn hold(&mut self, origin: Origin, object: SignedObject) {
        let due = object.timestamp().saturating_sub(HELD_AHEAD_SECONDS);
        self.added += 1;
        self.bytes += object.canonical().len();
        self.queue.insert((due, self.added), (origin, object));
        while self.queue.len() > EARLY || self.bytes > EARLY_BYTES {
            let Some((_, (_, last))) = self.queue.pop_last() else { return };
            self.bytes = self.bytes.saturating_sub(last.canonical().len());
        }
    }

    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Removes up to `limit` objects that are due at `now`.
    pub fn due(&mut self, now: u64, limit: usize) -> Vec<(Origin, SignedObject)> {
        let mut due = Vec::new();
        while due.len() < limit
            && let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= now)
        {
            let (origin, object) = entry.remove();
            self.bytes = self.bytes.saturating_sub(object.canonical().len());
            due.push((origin, object));
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::fixtures::{identity, record, sign};

    use super::*;

    fn at(timestamp: u64) -> SignedObject {
        let mut record = record(&identity(1), None, None);
        record.timestamp = timestamp;
        SignedObject::Experiment(sign(&identity(1), &record).into_signed())
    }

    #[test]
    fn early_objects_come_back_in_order_when_they_are_due() {
        let mut early = EarlyObjects::default();
        for timestamp in [9000, 8000, 10_000] {
            early.hold(Origin::Import, at(timestamp));
        }
        let mut times =
            |now, limit| early.due(now, limit).into_iter().map(|(_, object)| object.timestamp()).collect::<Vec<_>>();
        assert_eq!(times(8000 - HELD_AHEAD_SECONDS - 1, 9), []);
        assert_eq!(times(9000 - HELD_AHEAD_SECONDS, 1), [8000]);
        assert_eq!(times(9000 - HELD_AHEAD_SECONDS, 9), [9000]);
        assert_eq!(times(u64::MAX, 9), [10_000]);
        assert!(early.is_empty() && early.bytes == 0);
    }

    #[test]
    fn early_objects_are_bounded_and_the_last_due_go_first() {
        let mut early = EarlyObjects::default();
        for timestamp in 0..=EARLY as u64 {
            early.hold(Origin::Import, at(100_000 + timestamp));
        }
        let due = early.due(u64::MAX, usize::MAX);
        assert_eq!(
            (due.len(), due.last().map(|(_, object)| object.timestamp())),
            (EARLY, Some(100_000 + EARLY as u64 - 1))
        );
    }
}
