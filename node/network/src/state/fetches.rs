//! Fetches: objects that are wanted by id, and artifacts, from which peers.
//!
//! Never here: the requests themselves (`jobs::wanted`, `jobs::artifact`).

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use libp2p::PeerId;
use rand_chacha::ChaCha8Rng;
use spore_base::{fetch::FetchError, peer_id::node_of};
use spore_ingest::Want;
use spore_protocol::{Cid, Kind, NodeId, ObjectId};

use super::connected::ConnectedPeers;
use crate::limits::{FETCH_PEERS, FETCHES, FETCHING, OBJECTS_PER_REQUEST, WANT_PEERS, WANT_TASKS, WANTED};

/// Who waits for an artifact. The network task knows the caller behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallerId(pub u64);

/// Events of this machine.
#[derive(Clone, Debug)]
pub enum FetchEvent {
    /// An object is wanted.
    Want(Want),
    /// A peer's first connection is here.
    Joined,
    /// A [`FetchEffect::FetchObjects`] ended, whatever it brought.
    ObjectsEnded,
    /// A caller waits for an artifact of at most `limit` bytes. The node `hint` is asked first, if it is connected.
    Artifact {
        cid: Cid,
        hint: Option<NodeId>,
        limit: u64,
        caller: CallerId,
    },
    /// A [`FetchEffect::FetchArtifact`] ended.
    ArtifactEnded(Cid, Result<(), FetchError>),
    Tick,
}

/// Effects of this machine.
#[derive(Clone, Debug)]
pub enum FetchEffect {
    /// Ask these peers, one after the other, for what is still missing of these objects, and report
    /// [`FetchEvent::ObjectsEnded`].
    FetchObjects { kind: Kind, ids: Vec<ObjectId>, peers: Vec<PeerId> },
    /// Read from the store which parents are missing, and report each with [`FetchEvent::Want`].
    LookForMissing,
    /// Fetch an artifact from the first of these peers that has it, and report [`FetchEvent::ArtifactEnded`].
    FetchArtifact { cid: Cid, limit: u64, peers: Vec<PeerId> },
    /// The caller's artifact is in the store, or does not come.
    Answer(CallerId, Result<(), FetchError>),
}

/// Wanted objects and artifacts.
#[derive(Debug, Default)]
pub struct Fetches {
    wanted: Wanted,
    /// Requests for wanted objects under way.
    requests: usize,
    /// Callers that wait, by artifact: at most [`FETCHES`] artifacts. Callers are as many as the node's own tasks.
    callers: HashMap<Cid, Vec<CallerId>>,
    /// Artifacts that wait until fewer are being fetched.
    queue: VecDeque<(Cid, u64, Vec<PeerId>)>,
    /// Artifacts being fetched.
    fetching: usize,
}

impl Fetches {
    /// Takes in what happened. `peers`: the connected ones.
    pub fn handle(&mut self, event: FetchEvent, peers: &ConnectedPeers, random: &mut ChaCha8Rng) -> Vec<FetchEffect> {
        match event {
            FetchEvent::Want(want) => {
                self.wanted.add(want);
                Vec::new()
            }
            // The new peer may have the parents of held records. `ingest` repeats what stays missing.
            FetchEvent::Joined => vec![FetchEffect::LookForMissing],
            FetchEvent::ObjectsEnded => {
                self.requests = self.requests.saturating_sub(1);
                Vec::new()
            }
            FetchEvent::Tick => self.request_wanted(peers, random),
            FetchEvent::Artifact { cid, hint, limit, caller } => {
                if let Some(callers) = self.callers.get_mut(&cid) {
                    callers.push(caller);
                    return Vec::new();
                }
                if self.callers.len() >= FETCHES {
                    return vec![FetchEffect::Answer(caller, Err(FetchError::Busy(cid)))];
                }
                self.callers.insert(cid, vec![caller]);
                let mut from = peers.shuffled(random);
                from.sort_by_key(|peer| hint.is_none() || node_of(peer) != hint);
                from.truncate(FETCH_PEERS);
                self.queue.push_back((cid, limit, from));
                self.start_artifacts().collect()
            }
            FetchEvent::ArtifactEnded(cid, result) => {
                self.fetching = self.fetching.saturating_sub(1);
                let callers = self.callers.remove(&cid).unwrap_or_default().into_iter();
                let mut effects: Vec<_> = callers.map(|caller| FetchEffect::Answer(caller, result.clone())).collect();
                effects.extend(self.start_artifacts());
                effects
            }
        }
    }

    fn request_wanted(&mut self, peers: &ConnectedPeers, random: &mut ChaCha8Rng) -> Vec<FetchEffect> {
        let mut effects = Vec::new();
        if peers.len() == 0 {
            return effects;
        }
        while self.requests < WANT_TASKS {
            let Some((kind, from, ids)) = self.wanted.next() else { break };
            let first = from.filter(|peer| peers.contains(peer));
            let others = peers.shuffled(random).into_iter().filter(|peer| Some(*peer) != first).take(WANT_PEERS);
            effects.push(FetchEffect::FetchObjects { kind, ids, peers: first.into_iter().chain(others).collect() });
            self.requests += 1;
        }
        effects
    }

    fn start_artifacts(&mut self) -> impl Iterator<Item = FetchEffect> {
        std::iter::from_fn(|| {
            let (cid, limit, peers) = (self.fetching < FETCHING).then(|| self.queue.pop_front())??;
            self.fetching += 1;
            Some(FetchEffect::FetchArtifact { cid, limit, peers })
        })
    }
}

/// Wanted objects, gathered until the next tick, so that those of one kind from one peer are one request.
#[derive(Debug, Default)]
struct Wanted {
    groups: BTreeMap<(Kind, Option<PeerId>), BTreeSet<ObjectId>>,
    count: usize,
}

impl Wanted {
    /// Adds one, unless there are [`WANTED`] already.
    fn add(&mut self, want: Want) {
        if self.count < WANTED && self.groups.entry((want.kind, want.from)).or_default().insert(want.id) {
            self.count += 1;
        }
    }

    /// Takes the next group, for one request.
    fn next(&mut self) -> Option<(Kind, Option<PeerId>, Vec<ObjectId>)> {
        let mut group = self.groups.first_entry()?;
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

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use spore_base::{peer_id::peer_id, random};
    use spore_protocol::Identity;

    use super::*;

    fn want(n: u32, from: Option<PeerId>) -> Want {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        Want { kind: Kind::Experiment, id: ObjectId(id), from }
    }

    #[test]
    fn wants_are_grouped_deduplicated_and_bounded() {
        let mut wanted = Wanted::default();
        let peer = PeerId::random();
        for n in 0..10 {
            wanted.add(want(n, Some(peer)));
            wanted.add(want(n, Some(peer)));
            wanted.add(want(n, None));
        }
        let (_, from, ids) = wanted.next().unwrap();
        assert_eq!((from, ids.len()), (None, 10));
        let (_, from, ids) = wanted.next().unwrap();
        assert_eq!((from, ids.len()), (Some(peer), 10));
        assert_eq!(wanted.next(), None);
        for n in 0..2 * WANTED as u32 {
            wanted.add(want(n, None));
        }
        let total: usize = std::iter::from_fn(|| wanted.next()).map(|(_, _, ids)| ids.len()).sum();
        assert_eq!(total, WANTED);
    }

    #[test]
    fn wanted_object_is_asked_of_its_source_first_and_of_few_others() {
        let ids: Vec<_> = (0..10).map(|_| PeerId::random()).collect();
        let (peers, mut random) = (ConnectedPeers::of(&ids, Instant::now()), random::seeded(1));
        let mut fetches = Fetches::default();
        fetches.handle(FetchEvent::Want(want(1, Some(ids[3]))), &peers, &mut random);
        assert!(fetches.handle(FetchEvent::Tick, &ConnectedPeers::default(), &mut random).is_empty(), "nobody to ask");
        match fetches.handle(FetchEvent::Tick, &peers, &mut random).as_slice() {
            [FetchEffect::FetchObjects { peers, ids: wanted, .. }] => {
                assert_eq!((peers[0], peers.len(), wanted.len()), (ids[3], 1 + WANT_PEERS, 1));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn requests_for_wanted_objects_are_bounded() {
        let sources: Vec<_> = (0..2 * WANT_TASKS).map(|_| PeerId::random()).collect();
        let (peers, mut random) = (ConnectedPeers::of(&sources, Instant::now()), random::seeded(1));
        let mut fetches = Fetches::default();
        for peer in &sources {
            fetches.handle(FetchEvent::Want(want(1, Some(*peer))), &peers, &mut random);
        }
        assert_eq!(fetches.handle(FetchEvent::Tick, &peers, &mut random).len(), WANT_TASKS);
        assert!(fetches.handle(FetchEvent::Tick, &peers, &mut random).is_empty());
        fetches.handle(FetchEvent::ObjectsEnded, &peers, &mut random);
        assert_eq!(fetches.handle(FetchEvent::Tick, &peers, &mut random).len(), 1);
    }

    #[test]
    fn hinted_node_is_asked_first_for_an_artifact() {
        let hint = Identity::from_seed(&[7; 32]).node_id();
        let hinted = peer_id(&hint).unwrap();
        let mut ids: Vec<_> = (0..2 * FETCH_PEERS).map(|_| PeerId::random()).collect();
        ids.push(hinted);
        let (peers, mut random) = (ConnectedPeers::of(&ids, Instant::now()), random::seeded(1));
        let event = FetchEvent::Artifact { cid: Cid([1; 32]), hint: Some(hint), limit: 5, caller: CallerId(1) };
        match Fetches::default().handle(event, &peers, &mut random).as_slice() {
            [FetchEffect::FetchArtifact { peers, limit: 5, .. }] => {
                assert_eq!((peers[0], peers.len()), (hinted, FETCH_PEERS));
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn callers_share_one_fetch_and_fetches_are_bounded() {
        let (peers, mut random) = (ConnectedPeers::default(), random::seeded(1));
        let mut fetches = Fetches::default();
        let mut ask = |fetches: &mut Fetches, cid: u8, caller| {
            let event = FetchEvent::Artifact { cid: Cid([cid; 32]), hint: None, limit: 5, caller: CallerId(caller) };
            fetches.handle(event, &peers, &mut random)
        };
        let started: usize = (0..FETCHES as u8).map(|n| ask(&mut fetches, n, u64::from(n)).len()).sum();
        assert_eq!(started, FETCHING);
        assert!(ask(&mut fetches, 0, 1000).is_empty(), "the second caller waits with the first");
        let effects = ask(&mut fetches, 200, 1001);
        assert!(matches!(effects.as_slice(), [FetchEffect::Answer(CallerId(1001), Err(FetchError::Busy(_)))]));
        let ended = FetchEvent::ArtifactEnded(Cid([0; 32]), Ok(()));
        let effects = fetches.handle(ended, &peers, &mut random);
        let answered = effects.iter().filter(|one| matches!(one, FetchEffect::Answer(CallerId(0 | 1000), Ok(()))));
        assert_eq!(answered.count(), 2);
        assert!(matches!(effects.last(), Some(FetchEffect::FetchArtifact { .. })), "the next one starts");
    }
}
