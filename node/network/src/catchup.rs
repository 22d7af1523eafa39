//! Catch-up sessions: which peers to reconcile with and when, and one session's course.
//!
//! A session only learns: what the peer misses it fetches in a session of its own, which both
//! sides start on every new connection, every [`limits::RECONCILE_INTERVAL`] with a random peer,
//! and when told of news. So objects cross a healed partition in one session, and each node
//! that learned something tells its other peers, which then do the same, until nobody learns
//! anything new.

use std::{
    collections::{BTreeSet, HashMap, HashSet, VecDeque},
    time::Instant,
};

use libp2p::PeerId;
use spore_ingest::{Disposition, Origin};
use spore_protocol::{Reject, TaskId, cbor::Bytes};
use spore_storage::StoreError;

use super::{
    exchange::Lost,
    fetch,
    items::Items,
    limits::{MAX_TASKS, SESSION_LIMIT, SESSION_PAUSE, SESSION_TASKS, SESSIONS, SETTLE},
    messages::{Scope, SyncAnswer, SyncRequest},
    sync::{Effect, End, Event, Reconciliation},
    work::{Context, Work, read},
};

/// What a session is to compare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    Everything,
    Tasks(BTreeSet<TaskId>),
}

impl Plan {
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

/// Sessions wanted and running. One for a peer at most, [`SESSIONS`] overall.
#[derive(Debug, Default)]
pub struct Sessions {
    /// Peers with a plan, in the order in which they asked. Bounded by the connected peers.
    order: VecDeque<PeerId>,
    plans: HashMap<PeerId, Plan>,
    /// Sessions to be wanted at a later time.
    later: HashMap<PeerId, (Instant, Plan)>,
    running: HashSet<PeerId>,
    ended: HashMap<PeerId, Instant>,
}

impl Sessions {
    /// Wants a session with a connected peer.
    pub fn want(&mut self, peer: PeerId, plan: Plan) {
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

    /// Wants a session now, and another one once gossip has settled: a message that is forwarded
    /// between a subscription and the next heartbeat reaches the mesh of before.
    pub fn want_and_settle(&mut self, peer: PeerId, plan: Plan, now: Instant) {
        let later = match self.later.remove(&peer) {
            Some((_, before)) => before.merge(plan.clone()),
            None => plan.clone(),
        };
        self.later.insert(peer, (now + SETTLE, later));
        self.want(peer, plan);
    }

    /// The next session to start now, if there is room for one.
    pub fn next(&mut self, now: Instant) -> Option<(PeerId, Plan)> {
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

    /// Whether none is running.
    pub fn idle(&self) -> bool {
        self.running.is_empty()
    }

    /// A session ended, perhaps after its peer had gone: so what no longer matters is dropped here.
    pub fn over(&mut self, peer: PeerId, now: Instant) {
        self.ended.retain(|_, end| now.duration_since(*end) < SESSION_PAUSE);
        if self.running.remove(&peer) {
            self.ended.insert(peer, now);
        }
    }

    /// The peer is no longer connected. A running session ends by itself.
    pub fn gone(&mut self, peer: PeerId) {
        self.order.retain(|other| *other != peer);
        self.plans.remove(&peer);
        self.later.remove(&peer);
        self.ended.remove(&peer);
    }
}

/// Runs one session to its end and tells the network task.
pub async fn run(context: Context, peer: PeerId, plan: Plan) {
    let started = Instant::now();
    let mut session = Session { context: &context, peer, accepted: 0, held: 0 };
    let end = tokio::time::timeout(SESSION_LIMIT, session.compare(plan)).await.unwrap_or(Err(Lost));
    if session.accepted + session.held > 0 {
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(%peer, new = session.accepted, held = session.held, seconds, "caught up");
    }
    if end.is_err() {
        tracing::debug!(%peer, "catch-up ended early");
    }
    context.tell(Work::SessionOver(peer)).await;
}

struct Session<'a> {
    context: &'a Context,
    peer: PeerId,
    accepted: u64,
    held: u64,
}

impl Session<'_> {
    async fn compare(&mut self, plan: Plan) -> Result<(), Lost> {
        let tasks: Vec<TaskId> = match plan {
            Plan::Tasks(tasks) => tasks.into_iter().collect(),
            Plan::Everything => {
                self.scope(Scope::Tasks).await?;
                self.scope(Scope::Profiles).await?;
                self.peers_tasks().await?
            }
        };
        for task in tasks {
            self.scope(Scope::Records(task)).await?;
            self.scope(Scope::Controls(task)).await?;
        }
        Ok(())
    }

    /// The tasks that the peer holds anything of: legacy ones have no manifest to learn them by.
    async fn peers_tasks(&self) -> Result<Vec<TaskId>, Lost> {
        match self.context.ask_sync(self.peer, SyncRequest::Tasks).await? {
            SyncAnswer::Tasks(tasks) if tasks.len() <= MAX_TASKS => Ok(tasks),
            _ => self.bad("not a list of tasks").await,
        }
    }

    async fn bad<T>(&self, what: &str) -> Result<T, Lost> {
        self.context.penalise(self.peer, Reject::Malformed(what.to_owned())).await;
        Err(Lost)
    }

    /// Drives the state machine for one scope.
    async fn scope(&mut self, scope: Scope) -> Result<(), Lost> {
        let store = self.context.store.clone();
        let start = move || Reconciliation::start(&Items::new(store.sync_set(scope.stored())?));
        let (mut machine, mut effect) = read(start).await.ok_or(Lost)?;
        loop {
            let event = match effect {
                Effect::Ask(message) => self.ask(scope, message).await,
                Effect::Fetch(batch) => self.fetch(scope, batch).await?,
                Effect::Done(End::Complete) => return Ok(()),
                Effect::Done(End::Lost) => return Err(Lost),
                Effect::Done(End::Bad(bad)) => return self.bad(&bad.to_string()).await,
                Effect::Done(End::Endless) => return self.bad("catch-up without an end").await,
                Effect::Done(End::Failed(error)) => {
                    tracing::error!(%error, "cannot read the store");
                    return Err(Lost);
                }
            };
            let store = self.context.store.clone();
            let handle = move || {
                let effect = machine.handle(event, &Items::new(store.sync_set(scope.stored())?));
                Ok::<_, StoreError>((machine, effect))
            };
            (machine, effect) = read(handle).await.ok_or(Lost)?;
        }
    }

    async fn ask(&self, scope: Scope, message: Vec<u8>) -> Event {
        let request = SyncRequest::Reconcile { scope, message: Bytes(message) };
        match self.context.ask_sync(self.peer, request).await {
            Ok(SyncAnswer::Reconcile(answer)) => Event::Answer(answer.0),
            Ok(_) | Err(Lost) => Event::Lost,
        }
    }

    async fn fetch(&mut self, scope: Scope, batch: Vec<spore_protocol::ObjectId>) -> Result<Event, Lost> {
        let missing = fetch::not_had(self.context, scope.kind(), batch).await;
        if missing.is_empty() {
            return Ok(Event::Fetched { left: Vec::new() });
        }
        let origin = Origin::Sync(self.peer);
        let Ok(fetched) = fetch::objects(self.context, self.peer, scope.kind(), missing, origin).await else {
            return if self.context.work.is_closed() { Err(Lost) } else { Ok(Event::Lost) };
        };
        for (_, disposition) in &fetched.came {
            match disposition {
                Disposition::Accepted => self.accepted += 1,
                Disposition::Pending => self.held += 1,
                _ => {}
            }
        }
        Ok(Event::Fetched { left: fetched.left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_session_a_peer_and_plans_merge() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        let (a, b) = (PeerId::random(), PeerId::random());
        sessions.want(a, Plan::Tasks([TaskId([1; 32])].into()));
        sessions.want(b, Plan::Everything);
        sessions.want(a, Plan::Tasks([TaskId([2; 32])].into()));
        let both = Plan::Tasks([TaskId([1; 32]), TaskId([2; 32])].into());
        assert_eq!(sessions.next(now), Some((a, both)));
        sessions.want(a, Plan::Everything);
        assert_eq!(sessions.next(now), Some((b, Plan::Everything)));
        assert_eq!(sessions.next(now), None);
        sessions.over(a, now);
        assert_eq!(sessions.next(now), None, "a pause between two sessions with one peer");
        assert_eq!(sessions.next(now + SESSION_PAUSE), Some((a, Plan::Everything)));
        sessions.gone(a);
        sessions.over(b, now);
        assert_eq!(sessions.next(now + SESSION_PAUSE), None);
    }

    #[test]
    fn a_second_session_follows_once_gossip_has_settled() {
        let mut sessions = Sessions::default();
        let (now, peer) = (Instant::now(), PeerId::random());
        sessions.want_and_settle(peer, Plan::Everything, now);
        assert_eq!(sessions.next(now), Some((peer, Plan::Everything)));
        sessions.over(peer, now);
        assert_eq!(sessions.next(now + SESSION_PAUSE), None);
        assert_eq!(sessions.next(now + SETTLE), Some((peer, Plan::Everything)));
        assert_eq!(sessions.next(now + 9 * SETTLE), None);
    }

    #[test]
    fn peers_that_vanish_within_a_session_are_forgotten() {
        let mut sessions = Sessions::default();
        let now = Instant::now();
        for _ in 0..3 {
            let peer = PeerId::random();
            sessions.want(peer, Plan::Everything);
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
            sessions.want(PeerId::random(), Plan::Everything);
        }
        let started = std::iter::from_fn(|| sessions.next(Instant::now())).count();
        assert_eq!(started, SESSIONS);
    }
}
