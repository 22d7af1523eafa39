//! What the network does by the clock: redialling, forgiving, reconciling, telling news, starting
//! the sessions and requests that wait for their turn.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use libp2p::swarm::dial_opts::DialOpts;
use spore_base::random;
use spore_ingest::Want;
use spore_protocol::Kind;
use tokio::sync::oneshot;

use super::{
    catchup::{self, Plan},
    limits,
    messages::SyncRequest,
    service::Service,
    wants,
    work::{Work, read},
};

/// When each thing that comes round was last done.
pub(super) struct Clock {
    reconciled: Instant,
    told: Instant,
    discovered: Instant,
}

impl Clock {
    pub fn new(now: Instant) -> Self {
        Self { reconciled: now, told: now, discovered: now }
    }
}

impl Service {
    pub fn on_tick(&mut self, now: Instant) {
        self.published = 0;
        self.redial(now);
        for (peer, points) in self.penalties.forgive(now) {
            self.set_score(peer, points);
        }
        for peer in self.penalties.served(now) {
            self.swarm.behaviour_mut().refused.unblock_peer(peer);
        }
        if passed(&mut self.clock.reconciled, now, limits::RECONCILE_INTERVAL)
            && let Some(peer) = self.peers.shuffled(random::number).first()
        {
            self.sessions.want(*peer, Plan::Everything);
        }
        let wait = if self.sessions.idle() { limits::NEWS_INTERVAL } else { limits::NEWS_BUSY_INTERVAL };
        if self.news && passed(&mut self.clock.told, now, wait) {
            self.news = false;
            self.tell_news();
        }
        if self.peers.len() < limits::TARGET_PEERS
            && passed(&mut self.clock.discovered, now, limits::DISCOVERY_INTERVAL)
        {
            self.dial_discovered();
        }
        self.fetch_wanted();
        while let Some((peer, plan)) = self.sessions.next(now) {
            self.spawned.spawn(catchup::run(self.context.clone(), peer, plan));
        }
    }

    fn redial(&mut self, now: Instant) {
        for (at, address) in self.bootstrap.due(now) {
            let options = DialOpts::from(address.clone());
            let connection = options.connection_id();
            match self.swarm.dial(options) {
                Ok(()) => self.bootstrap.dialling(at, connection),
                Err(error) => {
                    tracing::debug!(%address, %error, "cannot dial");
                    self.bootstrap.failed_at_once(at, now, random::number());
                }
            }
        }
    }

    fn tell_news(&mut self) {
        for peer in self.peers.shuffled(random::number) {
            let (reply, _) = oneshot::channel();
            let request = self.swarm.behaviour_mut().sync.send_request(&peer, SyncRequest::News);
            self.sync.asked(request, reply);
        }
    }

    /// A new peer may have the parents of held records. `ingest` repeats what stays missing.
    pub fn look_for_missing(&mut self) {
        let (context, store, missed) = (self.context.clone(), self.context.store.clone(), self.missed.clone());
        self.spawned.spawn(async move {
            let missing = read(move || missed.next(&store, limits::MISSING)).await.unwrap_or_default();
            for id in missing {
                context.tell(Work::Want(Want { kind: Kind::Experiment, id: id.into(), from: None })).await;
            }
        });
    }

    fn fetch_wanted(&mut self) {
        if self.peers.len() == 0 {
            return;
        }
        while let Ok(turn) = Arc::clone(&self.wanting).try_acquire_owned() {
            let Some((kind, from, ids)) = self.wanted.next() else { return };
            let first = from.filter(|peer| self.peers.contains(peer));
            let others = self
                .peers
                .shuffled(random::number)
                .into_iter()
                .filter(|peer| Some(*peer) != first)
                .take(limits::WANT_PEERS);
            let peers: Vec<_> = first.into_iter().chain(others).collect();
            let context = self.context.clone();
            self.spawned.spawn(async move {
                wants::fetch_from(context, kind, ids, peers).await;
                drop(turn);
            });
        }
    }
}

/// Whether an interval has passed; if so, the next one begins.
fn passed(last: &mut Instant, now: Instant, interval: Duration) -> bool {
    let over = now.duration_since(*last) >= interval;
    if over {
        *last = now;
    }
    over
}
