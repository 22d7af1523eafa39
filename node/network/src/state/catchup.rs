//! Catch-up: with which peer to reconcile, when, and about what.
//!
//! A session only learns. What the peer lacks the peer fetches in a session of its own. Both sides start one on every
//! new connection; each node also starts one every [`RECONCILE_INTERVAL`] with a random peer, and one with each peer
//! that announces news. So objects cross a healed partition in one session, and each node that learned something
//! announces news to its other peers, which then do the same, until no node learns anything new.
//!
//! Never here: the course of one session (`jobs::session`).

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Instant,
};

use libp2p::PeerId;
use rand_chacha::ChaCha8Rng;
use spore_protocol::TaskId;

use super::connected::ConnectedPeers;
use crate::limits::{
    NEWS_BUSY_INTERVAL, NEWS_INTERVAL, RECONCILE_INTERVAL, SESSION_PAUSE, SESSION_TASKS, SESSIONS, SETTLE, WANT_PEERS,
};

/// What a session is to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionPlan {
    Everything,
    Tasks(BTreeSet<TaskId>),
}

impl SessionPlan {
    fn merge(self, other: Self) -> Self {
        match (self, other) {
            (Self::Tasks(mut tasks), Self::Tasks(more)) => {
                tasks.extend(more);
                if tasks.len() > SESSION_TASKS { Self::Everything } else { Self::Tasks(tasks) }
            }
            _ => Self::Everything,
        }
    }
}

/// Events of this machine.
#[derive(Clone, Debug)]
pub enum CatchupEvent {
    /// A peer's first connection is here.
    Joined(PeerId),
    /// A peer's last connection closed. A running session ends by itself.
    Left(PeerId),
    /// This node follows a new task.
    TaskFollowed(TaskId),
    /// A peer announced that it has objects which gossip may not have brought here.
    PeerHasNews(PeerId),
    /// Some peers may lack an object that gossip does not bring them.
    NotEverywhere,
    SessionEnded(PeerId),
    Tick,
}

/// Effects of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CatchupEffect {
    /// Run a session, and report [`CatchupEvent::SessionEnded`].
    StartSession(PeerId, SessionPlan),
    /// Announce news to these peers, which start sessions with this node.
    AnnounceNews(Vec<PeerId>),
}

/// Sessions wanted and running, and the timers of catch-up.
#[derive(Debug)]
pub struct Catchup {
    sessions: Sessions,
    /// There is news to announce.
    news: bool,
    reconciled: Instant,
    announced: Instant,
}

impl Catchup {
    pub fn new(now: Instant) -> Self {
        Self { sessions: Sessions::default(), news: false, reconciled: now, announced: now }
    }

    /// Takes in what happened. `peers`: the connected ones, this event included.
    pub fn handle(
        &mut self,
        event: CatchupEvent,
        peers: &ConnectedPeers,
        random: &mut ChaCha8Rng,
        now: Instant,
    ) -> Vec<CatchupEffect> {
        match event {
            CatchupEvent::Joined(peer) => self.sessions.want_and_settle(peer, SessionPlan::Everything, now),
            CatchupEvent::Left(peer) => self.sessions.gone(peer),
            CatchupEvent::TaskFollowed(task) => {
                for peer in peers.shuffled(random).into_iter().take(WANT_PEERS) {
                    self.sessions.want_and_settle(peer, SessionPlan::Tasks([task].into()), now);
                }
            }
            CatchupEvent::PeerHasNews(peer) => self.sessions.want(peer, SessionPlan::Everything),
            CatchupEvent::NotEverywhere => self.news = true,
            CatchupEvent::SessionEnded(peer) => self.sessions.over(peer, now),
            CatchupEvent::Tick => return self.tick(peers, random, now),
        }
        Vec::new()
    }

    fn tick(&mut self, peers: &ConnectedPeers, random: &mut ChaCha8Rng, now: Instant) -> Vec<CatchupEffect> {
        let mut effects = Vec::new();
        if now.duration_since(self.reconciled) >= RECONCILE_INTERVAL {
            self.reconciled = now;
            if let Some(peer) = peers.shuffled(random).first() {
                self.sessions.want(*peer, SessionPlan::Everything);
            }
        }
        let interval = if self.sessions.idle() { NEWS_INTERVAL } else { NEWS_BUSY_INTERVAL };
        if self.news && now.duration_since(self.announced) >= interval {
            (self.news, self.announced) = (false, now);
            effects.push(CatchupEffect::AnnounceNews(peers.shuffled(random)));
        }
        while let Some((peer, plan)) = self.sessions.next(now) {
            effects.push(CatchupEffect::StartSession(peer, plan));
        }
        effects
    }
}

/// Sessions wanted and running: at most one for a peer, and at most [`SESSIONS`] running.
#[derive(Debug, Default)]
struct Sessions {
    /// Peers with a plan, in the order in which they asked. Bounded by the connected peers.
    order: VecDeque<PeerId>,
    plans: HashMap<PeerId, SessionPlan>,
    /// Sessions to be wanted at a later time.
    later: HashMap<PeerId, (Instant, SessionPlan)>,
    running: HashSet<PeerId>,
    ended: HashMap<PeerId, Instant>,
}

impl Sessions {
    /// Wants a session with a connected peer.
    fn want(&mut self, peer: PeerId, plan: SessionPlan) {
        match self.plans.remove(&peer) {
            Some(before) => {
                self.plans.insert(peer, before.merge(plan));
            }
            None => {
                self.order.push_back(peer);
                self.plans.insert(peer, plan);
            }
        }
    }

    /// Wants a session now, and another one once gossip has settled: a message that is forwarded between a subscription
    /// and the next heartbeat reaches only the mesh of before.
    fn want_and_settle(&mut self, peer: PeerId, plan: SessionPlan, now: Instant) {
        let later = match self.later.remove(&peer) {
            Some((_, before)) => before.merge(plan.clone()),
            None => plan.clone(),
        };
        self.later.insert(peer, (now + SETTLE, later));
        self.want(peer, plan);
    }

    /// The next session to start now, if there is room for one.
    fn next(&mut self, now: Instant) -> Option<(PeerId, SessionPlan)> {
        let due: Vec<_> = self.later.iter().filter(|(_, (at, _))| *at <= now).map(|(peer, _)| *peer).collect();
        for peer in due {
            if let Some((_, plan)) = self.later.remove(&peer) {
                self.want(peer, plan);
            }
        }
        if self.running.len() >= SESSIONS {
            return None;
        }
        let rested = |peer: &PeerId| self.ended.get(peer).is_none_or(|end| now.duration_since(*end) >= SESSION_PAUSE);
        let at = self.order.iter().position(|peer| !self.running.contains(peer) && rested(peer))?;
        let peer = self.order.remove(at)?;
        let plan = self.plans.remove(&peer)?;
        self.running.insert(peer);
        Some((peer, plan))
    }

    /// Whether no session is running.
    fn idle(&self) -> bool {
        self.running.is_empty()
    }

    /// A session ended, perhaps after its peer had gone. Pauses that have passed are forgotten here.
    fn over(&mut self, peer: PeerId, now: Instant) {
        self.ended.retain(|_, end| now.duration_since(*end) < SESSION_PAUSE);
        if self.running.remove(&peer) {
            self.ended.insert(peer, now);
        }
    }

    /// The peer is no longer connected.
    fn gone(&mut self, peer: PeerId) {
        self.order.retain(|other| *other != peer);
        self.plans.remove(&peer);
        self.later.remove(&peer);
        self.ended.remove(&peer);
    }
}

#[cfg(test)]
mod tests {
    use spore_base::random;

    use super::*;

    /// A catch-up, its peers, and what it is driven by.
    struct Driven {
        catchup: Catchup,
        peers: ConnectedPeers,
        random: ChaCha8Rng,
        now: Instant,
    }

    impl Driven {
        fn with(peers: &[PeerId]) -> Self {
            let now = Instant::now();
            let peers = ConnectedPeers::of(peers, now);
            Self { catchup: Catchup::new(now), peers, random: random::seeded(1), now }
        }

        fn handle(&mut self, event: CatchupEvent) -> Vec<CatchupEffect> {
            self.catchup.handle(event, &self.peers, &mut self.random, self.now)
        }

        fn tick_after(&mut self, time: std::time::Duration) -> Vec<CatchupEffect> {
            self.now += time;
            self.handle(CatchupEvent::Tick)
        }
    }

    const SOON: std::time::Duration = std::time::Duration::from_millis(1);

    #[test]
    fn new_peer_is_compared_with_at_once_and_after_gossip_has_settled() {
        let peer = PeerId::random();
        let mut driven = Driven::with(&[peer]);
        assert_eq!(driven.handle(CatchupEvent::Joined(peer)), []);
        let start = CatchupEffect::StartSession(peer, SessionPlan::Everything);
        assert_eq!(driven.tick_after(SOON), std::slice::from_ref(&start));
        driven.handle(CatchupEvent::SessionEnded(peer));
        assert_eq!(driven.tick_after(SESSION_PAUSE), []);
        assert_eq!(driven.tick_after(SETTLE), [start]);
    }

    #[test]
    fn news_is_announced_once_to_everybody_and_less_often_during_a_session() {
        let peers = [PeerId::random(), PeerId::random()];
        let mut driven = Driven::with(&peers);
        driven.handle(CatchupEvent::NotEverywhere);
        assert_eq!(driven.tick_after(SOON), []);
        match driven.tick_after(NEWS_INTERVAL).as_slice() {
            [CatchupEffect::AnnounceNews(to)] => assert_eq!(BTreeSet::from_iter(to), BTreeSet::from_iter(&peers)),
            other => panic!("{other:?}"),
        }
        assert_eq!(driven.tick_after(NEWS_INTERVAL), []);
        driven.handle(CatchupEvent::PeerHasNews(peers[0]));
        assert!(matches!(driven.tick_after(SOON).as_slice(), [CatchupEffect::StartSession(..)]));
        driven.handle(CatchupEvent::NotEverywhere);
        assert_eq!(driven.tick_after(NEWS_INTERVAL), []);
        assert!(matches!(driven.tick_after(NEWS_BUSY_INTERVAL).as_slice(), [CatchupEffect::AnnounceNews(_)]));
    }

    #[test]
    fn random_peer_is_compared_with_at_every_interval() {
        let peers = [PeerId::random(), PeerId::random(), PeerId::random()];
        let mut driven = Driven::with(&peers);
        assert_eq!(driven.tick_after(SOON), []);
        let mut met = BTreeSet::new();
        for _ in 0..50 {
            match driven.tick_after(RECONCILE_INTERVAL).as_slice() {
                [CatchupEffect::StartSession(peer, SessionPlan::Everything)] => {
                    met.insert(*peer);
                    driven.handle(CatchupEvent::SessionEnded(*peer));
                }
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(met.len(), peers.len());
    }

    #[test]
    fn few_peers_are_asked_about_a_new_task() {
        let peers: Vec<_> = (0..2 * WANT_PEERS).map(|_| PeerId::random()).collect();
        let mut driven = Driven::with(&peers);
        let task = TaskId([3; 32]);
        driven.handle(CatchupEvent::TaskFollowed(task));
        let started = driven.tick_after(SOON);
        assert_eq!(started.len(), WANT_PEERS);
        let plan = SessionPlan::Tasks([task].into());
        assert!(started.iter().all(|one| matches!(one, CatchupEffect::StartSession(_, found) if *found == plan)));
    }

    #[test]
    fn peer_has_one_session_and_its_plans_merge() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let (a, b) = (PeerId::random(), PeerId::random());
        sessions.want(a, SessionPlan::Tasks([TaskId([1; 32])].into()));
        sessions.want(b, SessionPlan::Everything);
        sessions.want(a, SessionPlan::Tasks([TaskId([2; 32])].into()));
        let both = SessionPlan::Tasks([TaskId([1; 32]), TaskId([2; 32])].into());
        assert_eq!(sessions.next(now), Some((a, both)));
        sessions.want(a, SessionPlan::Everything);
        assert_eq!(sessions.next(now), Some((b, SessionPlan::Everything)));
        assert_eq!(sessions.next(now), None);
        sessions.over(a, now);
        assert_eq!(sessions.next(now), None, "two sessions with one peer have a pause between them");
        assert_eq!(sessions.next(now + SESSION_PAUSE), Some((a, SessionPlan::Everything)));
        sessions.gone(a);
        sessions.over(b, now);
        assert_eq!(sessions.next(now + SESSION_PAUSE), None);
    }

    #[test]
    fn second_session_follows_once_gossip_has_settled() {
        let mut sessions = Sessions::default();
        let (now, peer) = (Instant::now(), PeerId::random());
        sessions.want_and_settle(peer, SessionPlan::Everything, now);
        assert_eq!(sessions.next(now), Some((peer, SessionPlan::Everything)));
        sessions.over(peer, now);
        assert_eq!(sessions.next(now + SESSION_PAUSE), None);
        assert_eq!(sessions.next(now + SETTLE), Some((peer, SessionPlan::Everything)));
        assert_eq!(sessions.next(now + 9 * SETTLE), None);
    }

    #[test]
    fn peers_that_vanish_within_a_session_are_forgotten() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        for _ in 0..3 {
            let peer = PeerId::random();
            sessions.want(peer, SessionPlan::Everything);
            sessions.next(now).unwrap();
            sessions.gone(peer);
            sessions.over(peer, now);
        }
        sessions.over(PeerId::random(), now + SESSION_PAUSE);
        assert!(sessions.ended.is_empty());
    }

    #[test]
    fn sessions_are_bounded() {
        let mut sessions = Sessions::default();
        for _ in 0..2 * SESSIONS {
            sessions.want(PeerId::random(), SessionPlan::Everything);
        }
        let started = std::iter::from_fn(|| sessions.next(Instant::now())).count();
        assert_eq!(started, SESSIONS);
    }
}
