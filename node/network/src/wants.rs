//! Objects that the store knows of and misses: parents of held records, bodies of announcements.

use std::collections::{BTreeMap, BTreeSet};

use libp2p::PeerId;
use spore_ingest::{Origin, Want};
use spore_protocol::{Kind, ObjectId};

use super::{
    fetch,
    limits::{OBJECTS_PER_REQUEST, WANTED},
    work::Context,
};

/// Wants gathered until the next tick, so that those of one kind from one peer are one request.
#[derive(Debug, Default)]
pub struct Wants {
    gathered: BTreeMap<(Kind, Option<PeerId>), BTreeSet<ObjectId>>,
    count: usize,
}

impl Wants {
    /// Adds one, unless there are [`WANTED`] already.
    pub fn add(&mut self, want: Want) {
        if self.count < WANTED && self.gathered.entry((want.kind, want.from)).or_default().insert(want.id) {
            self.count += 1;
        }
    }

    /// Takes the next group for one request.
    pub fn next(&mut self) -> Option<(Kind, Option<PeerId>, Vec<ObjectId>)> {
        let mut group = self.gathered.first_entry()?;
        let (kind, from) = *group.key();
        let ids: Vec<_> = group.get().iter().take(OBJECTS_PER_REQUEST).copied().collect();
        for id in &ids {
            group.get_mut().remove(id);
        }
        if group.get().is_empty() {
            group.remove();
        }
        self.count = self.count.saturating_sub(ids.len());
        Some((kind, from, ids))
    }
}

/// Asks these peers, one after the other, for what is still missing.
pub async fn fetch_from(context: Context, kind: Kind, mut ids: Vec<ObjectId>, peers: Vec<PeerId>) {
    for peer in peers {
        ids = fetch::not_had(&context, kind, ids).await;
        if ids.is_empty() {
            return;
        }
        // What does not fit one answer is left to the next peer, or to the next look for missing parents.
        if let Err(lost) = fetch::objects(&context, peer, kind, ids.clone(), Origin::Sync(peer)).await {
            tracing::debug!(%peer, %lost, "wanted objects");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_are_grouped_deduplicated_and_bounded() {
        let mut wants = Wants::default();
        let peer = PeerId::random();
        let want = |n: u32, from| {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&n.to_be_bytes());
            Want { kind: Kind::Experiment, id: ObjectId(id), from }
        };
        for n in 0..10 {
            wants.add(want(n, Some(peer)));
            wants.add(want(n, Some(peer)));
            wants.add(want(n, None));
        }
        let (_, from, ids) = wants.next().unwrap();
        assert_eq!((from, ids.len()), (None, 10));
        let (_, from, ids) = wants.next().unwrap();
        assert_eq!((from, ids.len()), (Some(peer), 10));
        assert_eq!(wants.next(), None);
        for n in 0..2 * WANTED as u32 {
            wants.add(want(n, None));
        }
        let total: usize = std::iter::from_fn(|| wants.next()).map(|(_, _, ids)| ids.len()).sum();
        assert_eq!(total, WANTED);
    }
}
