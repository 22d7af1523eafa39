//! Announces changes of the store to its listeners, within a bound of bytes.

use std::collections::VecDeque;

use tokio::sync::broadcast;

use super::{
    StoreEvent,
    limits::{EVENT_BYTES, SMALL_EVENT_BYTES},
};

/// The events that the slowest listener has not taken yet, and their bytes.
#[derive(Debug)]
pub(super) struct Announcer {
    events: broadcast::Sender<StoreEvent>,
    /// Bytes of the last events, the oldest first. At least those that some listener has not taken.
    sizes: VecDeque<usize>,
    bytes: usize,
}

impl Announcer {
    pub const fn new(events: broadcast::Sender<StoreEvent>) -> Self {
        Self { events, sizes: VecDeque::new(), bytes: 0 }
    }

    /// Announces a change. False when the object is too large to be held for a listener that is far behind. The change
    /// log has the change all the same.
    pub fn announce(&mut self, event: StoreEvent) -> bool {
        let size = event.object.canonical().len();
        while self.sizes.len() > self.events.len() {
            self.bytes = self.bytes.saturating_sub(self.sizes.pop_front().unwrap_or_default());
        }
        if size > SMALL_EVENT_BYTES && self.bytes.saturating_add(size) > EVENT_BYTES {
            return false;
        }
        // Sending fails only when nobody listens.
        if self.events.send(event).is_ok() {
            self.sizes.push_back(size);
            self.bytes = self.bytes.saturating_add(size);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::{
        SignedObject,
        fixtures::{identity, record, sign},
    };
    use spore_storage::Store;

    use super::*;
    use crate::{Origin, limits::EVENTS};

    /// The event of a record with so long a diff, as the store reports it.
    fn event(bytes: usize) -> StoreEvent {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let mut record = record(&identity(1), None, None);
        record.diff = "d".repeat(bytes);
        let verified = sign(&identity(1), &record);
        let object = SignedObject::Experiment(verified.clone().into_signed());
        let change = *store.insert(&[verified.into()], record.timestamp).unwrap().changes.first().unwrap();
        StoreEvent { change, object, origin: Origin::Import }
    }

    #[test]
    fn slow_listener_holds_a_bounded_number_of_bytes() {
        let (events, mut slow) = broadcast::channel(EVENTS);
        let mut announcer = Announcer::new(events);
        let (large, small) = (event(9 << 20), event(100));
        let announced = (0..20).filter(|_| announcer.announce(large.clone())).count();
        assert_eq!(announced, EVENT_BYTES / (9 << 20));
        assert!(announcer.announce(small), "small ones are bounded by their number");
        while slow.try_recv().is_ok() {}
        assert!(announcer.announce(large));
    }
}
