//! What catch-up with a peer brought nothing, so that the next session leaves it out: the objects that the peer has dropped
//! and still names, and the comparisons in which nothing else differed.
//!
//! Remembered by peer: another one may have what this one lacks. A comparison counts while the digests of both sides are the
//! same.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use libp2p::PeerId;
use spore_protocol::{Kind, ObjectId, TaskId};
use spore_storage::TaskDigest;

use crate::limits::{FRUITLESS, FRUITLESS_TIME};

/// Digests of a task or a shard: this node's, and the peer's.
pub type Digests = (Option<TaskDigest>, TaskDigest);

/// What was compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compared {
    Task(TaskId),
    Shard(u8),
}

/// What is remembered of all peers. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Fruitless(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    absent: Recent<(PeerId, Kind, ObjectId), ()>,
    compared: Recent<(PeerId, Compared), Digests>,
}

/// The newest entries, [`FRUITLESS`] at most.
#[derive(Debug)]
struct Recent<K, V> {
    entries: HashMap<K, (V, Instant)>,
    order: VecDeque<K>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { entries: HashMap::new(), order: VecDeque::new() }
    }
}

impl<K: Hash + Eq + Copy, V: Copy> Recent<K, V> {
    fn add(&mut self, key: K, value: V, now: Instant) {
        if self.entries.insert(key, (value, now)).is_none() {
            self.order.push_back(key);
        }
        if self.order.len() > FRUITLESS
            && let Some(oldest) = self.order.pop_front()
        {
            self.entries.remove(&oldest);
        }
    }

    fn get(&self, key: &K, now: Instant) -> Option<V> {
        let (value, since) = self.entries.get(key)?;
        (now.saturating_duration_since(*since) < FRUITLESS_TIME).then_some(*value)
    }
}

impl Fruitless {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A peer named these objects in a comparison and does not have them.
    pub fn note_absent(&self, peer: PeerId, kind: Kind, ids: &[ObjectId], now: Instant) {
        let mut inner = self.lock();
        ids.iter().for_each(|id| inner.absent.add((peer, kind, *id), (), now));
    }

    /// Whether a peer does not have an object that it names.
    pub fn is_absent(&self, peer: PeerId, kind: Kind, id: ObjectId, now: Instant) -> bool {
        self.lock().absent.get(&(peer, kind, id), now).is_some()
    }

    /// A comparison with a peer brought nothing, and left nothing open.
    pub fn note(&self, peer: PeerId, compared: Compared, digests: Digests, now: Instant) {
        self.lock().compared.add((peer, compared), digests, now);
    }

    /// Whether nothing changed on either side since a comparison that brought nothing.
    pub fn knows(&self, peer: PeerId, compared: Compared, digests: Digests, now: Instant) -> bool {
        self.lock().compared.get(&(peer, compared), now) == Some(digests)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comparison_is_left_out_until_a_side_changes_or_it_is_long_ago() {
        let (fruitless, now, peer) = (Fruitless::default(), Instant::now(), PeerId::random());
        let (task, digests) = (Compared::Task(TaskId([1; 32])), (Some([1; 16]), [2; 16]));
        fruitless.note(peer, task, digests, now);
        assert!(fruitless.knows(peer, task, digests, now));
        assert!(!fruitless.knows(peer, task, (None, [2; 16]), now), "this side changed");
        assert!(!fruitless.knows(peer, task, (Some([1; 16]), [3; 16]), now), "the other side changed");
        assert!(!fruitless.knows(PeerId::random(), task, digests, now), "another peer may have what this one lacks");
        assert!(!fruitless.knows(peer, Compared::Shard(1), digests, now));
        assert!(!fruitless.knows(peer, task, digests, now + FRUITLESS_TIME));
    }

    #[test]
    fn absent_objects_are_remembered_by_peer_within_bounds() {
        let (fruitless, now, peer) = (Fruitless::default(), Instant::now(), PeerId::random());
        let id = |number: u32| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ObjectId(id)
        };
        fruitless.note_absent(peer, Kind::Task, &[id(0)], now);
        let is_absent = |peer, kind| fruitless.is_absent(peer, kind, id(0), now);
        assert!(is_absent(peer, Kind::Task) && !is_absent(peer, Kind::Profile));
        assert!(!is_absent(PeerId::random(), Kind::Task));
        let others: Vec<_> = (1..=FRUITLESS as u32).map(id).collect();
        fruitless.note_absent(peer, Kind::Task, &others, now);
        assert!(!is_absent(peer, Kind::Task) && fruitless.lock().absent.entries.len() == FRUITLESS);
    }
}
