//! What the sessions, the service and the API share: the book, bans, slots and who is connected.
//!
//! One mutex, held for moments: nothing in here waits or touches a socket.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use spore_base::peer_address::{PeerAddress, subject};
use spore_ingest::SessionId;
use tokio::sync::mpsc;

use super::{
    bans::{Bans, Consequence, Offence},
    book::{Book, Source},
    limits::{GIVING_WAY, SAFE_FOR, SESSION_COMMANDS, SYNC_MARKS},
    link::{Direction, Ended, Link, SessionCommand, SessionStats},
    slots::{NoSlot, Opening, Slots},
};

/// How far the last complete synchronisation with a peer came. Unix seconds, the greatest timestamps of
/// what the peer sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncMark {
    pub records: u64,
    pub controls: u64,
    pub tasks: u64,
    /// When it was complete.
    pub at: Instant,
    /// When everything was last asked for, and came.
    pub full: Instant,
    /// The peer has what the store's log says up to this number.
    pub through: u64,
}

/// A connected legacy peer, for people.
#[derive(Clone, Debug)]
pub struct BridgePeer {
    pub link: Link,
    pub connected: Duration,
    pub stats: SessionStats,
    pub points: u32,
}

/// Why a connection is not wanted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("it is banned for another {} s because of what came from it", .0.as_secs() + 1)]
    Banned(Duration),
    #[error(transparent)]
    NoSlot(#[from] NoSlot),
    #[error("it is connected already, as {0}")]
    Connected(PeerAddress),
    #[error("it is this node itself")]
    Own,
}

/// The way to what is shared. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HubHandle(Arc<Mutex<Hub>>);

#[derive(Debug)]
struct Hub {
    book: Book,
    /// By [`subject`]: whoever has that address.
    bans: Bans<IpAddr>,
    /// Peers that the operator named answer for what they do on the connections that we dial, and for
    /// nothing else: what a stranger does behind the same router must not cut them off.
    named: Bans<PeerAddress>,
    slots: Slots,
    open: BTreeMap<SessionId, Open>,
    opened: u64,
    marks: HashMap<PeerAddress, SyncMark>,
    listening: Vec<SocketAddr>,
}

#[derive(Debug)]
struct Open {
    link: Link,
    opening: Opening,
    since: Instant,
    stats: SessionStats,
    commands: mpsc::Sender<SessionCommand>,
    /// Another connection has its slot now.
    gave_way: bool,
}

/// Who answers for what happens on a connection.
enum Culprit {
    Named(PeerAddress),
    Address(IpAddr),
}

impl Culprit {
    fn of(direction: &Direction, remote: SocketAddr, opening: Opening) -> Self {
        match direction {
            Direction::Dialled(address) if opening == Opening::Named => Self::Named(address.clone()),
            _ => Self::Address(subject(remote.ip())),
        }
    }
}

impl Open {
    fn culprit(&self) -> Culprit {
        Culprit::of(&self.link.direction, self.link.remote, self.opening)
    }
}

/// What sessions use.
impl HubHandle {
    /// Notes what the peer did, and says whether its connection ends. The session that is told
    /// [`Consequence::Drop`] ends itself; others with the same address are told to close, but not
    /// those with peers that the operator named.
    pub fn penalise(&self, link: &Link, offence: Offence) -> Consequence {
        let (mut hub, now) = (self.lock(), Instant::now());
        let opening = hub.open.get(&link.id).map_or(Opening::Accepted, |open| open.opening);
        let ip = match Culprit::of(&link.direction, link.remote, opening) {
            Culprit::Named(address) => return hub.named.penalise(&address, offence, now),
            Culprit::Address(ip) => ip,
        };
        let consequence = hub.bans.penalise(&ip, offence, now);
        if consequence == Consequence::Drop {
            let same = |open: &&Open| matches!(open.culprit(), Culprit::Address(other) if other == ip);
            for open in hub.open.values().filter(same) {
                // A session whose queue is full is stuck, and its own time limits end it.
                let _ = open.commands.try_send(SessionCommand::Close);
            }
        }
        consequence
    }

    /// What to answer a peer at `to` that asks for others: those that we dialled and are connected with.
    pub fn dialled_peers(&self, to: IpAddr) -> Vec<PeerAddress> {
        self.lock().book.to_exchange(to)
    }

    /// Takes note of the peers that the one at `from` spoke of. Most of them may be ignored.
    pub fn heard_of(&self, from: IpAddr, peers: Vec<PeerAddress>) {
        self.lock().book.hear(from, peers, Instant::now());
    }

    /// How far the last complete synchronisation with the peer at this address came. Only a peer that
    /// was dialled can be known again: of one that dialled us the address says too little.
    pub fn sync_mark(&self, peer: &PeerAddress) -> Option<SyncMark> {
        self.lock().marks.get(peer).copied()
    }

    /// Remembers a complete synchronisation.
    pub fn set_sync_mark(&self, peer: &PeerAddress, mark: SyncMark) {
        let mut hub = self.lock();
        if hub.marks.len() >= SYNC_MARKS && !hub.marks.contains_key(peer) {
            let oldest = hub.marks.iter().min_by_key(|(_, mark)| mark.at).map(|(peer, _)| peer.clone());
            oldest.map(|oldest| hub.marks.remove(&oldest));
        }
        hub.marks.insert(peer.clone(), mark);
    }

    /// Notes what a session counts. It is for people: now and then is enough.
    pub fn report(&self, session: SessionId, stats: SessionStats) {
        if let Some(open) = self.lock().open.get_mut(&session) {
            open.stats = stats;
        }
    }
}

/// What the service and its handle use.
impl HubHandle {
    pub(super) fn new(book: Book) -> Self {
        Self(Arc::new(Mutex::new(Hub {
            book,
            bans: Bans::default(),
            named: Bans::default(),
            slots: Slots::default(),
            open: BTreeMap::new(),
            opened: 0,
            marks: HashMap::new(),
            listening: Vec::new(),
        })))
    }

    /// The book, for whoever does nothing else meanwhile.
    pub(super) fn with_book<T>(&self, use_it: impl FnOnce(&mut Book) -> T) -> T {
        use_it(&mut self.lock().book)
    }

    pub(super) fn listens_on(&self, addresses: Vec<SocketAddr>) {
        self.lock().listening = addresses;
    }

    /// Where legacy peers are listened for.
    pub(super) fn listening(&self) -> Vec<SocketAddr> {
        self.lock().listening.clone()
    }

    /// Whether a dial of the peer at this IP address makes sense now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, address: &PeerAddress, ip: IpAddr) -> Result<(), Refusal> {
        let hub = self.lock();
        let culprit = match hub.book.source(address) {
            Some(Source::Named) => Culprit::Named(address.clone()),
            _ => Culprit::Address(subject(ip)),
        };
        hub.allows(&culprit, Instant::now())
    }

    /// Lets the peer off everything: the operator names it.
    pub(super) fn pardon(&self, address: &PeerAddress) {
        let mut hub = self.lock();
        hub.named.pardon(address);
        if let Some(ip) = address.ip() {
            hub.bans.pardon(&subject(ip));
        }
    }

    /// Admits a connection that another opened.
    ///
    /// # Errors
    /// When it is banned or there is no slot for it.
    pub(super) fn accept(&self, remote: SocketAddr) -> Result<(Link, mpsc::Receiver<SessionCommand>), Refusal> {
        self.lock().admit(Direction::Accepted, remote, Opening::Accepted, Instant::now())
    }

    /// Admits a connection that we opened under `address`, from `local`.
    ///
    /// # Errors
    /// When it is banned, a second one to the same peer, or leads to this node.
    pub(super) fn dialled(
        &self,
        address: &PeerAddress,
        local: SocketAddr,
        remote: SocketAddr,
    ) -> Result<(Link, mpsc::Receiver<SessionCommand>), Refusal> {
        let mut hub = self.lock();
        if hub.listening.iter().any(|listening| leads_here(local, remote, *listening)) {
            return Err(Refusal::Own);
        }
        let twin = hub.open.values().find_map(|open| match &open.link.direction {
            Direction::Dialled(other) if open.link.remote == remote => Some(other.clone()),
            _ => None,
        });
        if let Some(twin) = twin {
            hub.book.is_twin(address, &twin);
            return Err(Refusal::Connected(twin));
        }
        let opening = if hub.book.source(address) == Some(Source::Named) { Opening::Named } else { Opening::Found };
        let now = Instant::now();
        let admitted = hub.admit(Direction::Dialled(address.clone()), remote, opening, now)?;
        hub.book.connected(address, now);
        Ok(admitted)
    }

    /// A session has ended: its slot is free, and a peer that we had dialled is dialled again in time.
    pub(super) fn closed(&self, session: SessionId, random: u64) {
        let mut hub = self.lock();
        let Some(open) = hub.open.remove(&session) else { return };
        if !open.gave_way {
            hub.slots.release(open.link.remote.ip(), open.opening);
        }
        if let Direction::Dialled(address) = &open.link.direction {
            hub.book.closed(address, Instant::now(), random);
        }
    }

    /// A dial led nowhere. Gives the number of failures in a row.
    pub(super) fn failed(&self, address: &PeerAddress, random: u64) -> u32 {
        let mut hub = self.lock();
        let others = !hub.open.is_empty();
        hub.book.failed(address, others, Instant::now(), random)
    }

    /// Forgets points and bans that are over.
    pub(super) fn tidy(&self) {
        let (mut hub, now) = (self.lock(), Instant::now());
        hub.bans.tidy(now);
        hub.named.tidy(now);
    }

    /// Queues of the sessions with the peer of this address, whoever opened them.
    pub(super) fn sessions_with(&self, address: &PeerAddress) -> Vec<mpsc::Sender<SessionCommand>> {
        let hub = self.lock();
        let with = |open: &&Open| match &open.link.direction {
            Direction::Dialled(dialled) => dialled == address || PeerAddress::from(open.link.remote) == *address,
            Direction::Accepted => PeerAddress::from(open.link.remote) == *address,
        };
        hub.open.values().filter(with).map(|open| open.commands.clone()).collect()
    }

    /// Queues of all sessions, the longest connected first.
    pub(super) fn sessions(&self) -> Vec<mpsc::Sender<SessionCommand>> {
        self.lock().open.values().map(|open| open.commands.clone()).collect()
    }

    /// Who is connected, the longest first.
    pub(super) fn snapshot(&self) -> Vec<BridgePeer> {
        let (hub, now) = (self.lock(), Instant::now());
        let peer = |open: &Open| BridgePeer {
            link: open.link.clone(),
            connected: now.saturating_duration_since(open.since),
            stats: open.stats,
            points: match open.culprit() {
                Culprit::Named(address) => hub.named.points(&address, now),
                Culprit::Address(ip) => hub.bans.points(&ip, now),
            },
        };
        hub.open.values().map(peer).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        // Nothing that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    fn admit(
        &mut self,
        direction: Direction,
        remote: SocketAddr,
        opening: Opening,
        now: Instant,
    ) -> Result<(Link, mpsc::Receiver<SessionCommand>), Refusal> {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        self.allows(&Culprit::of(&direction, remote, opening), now)?;
        match self.slots.take(remote.ip(), opening) {
            Err(NoSlot::Accepted) if self.make_way(now) => self.slots.take(remote.ip(), opening)?,
            taken => taken?,
        }
        self.opened += 1;
        let link = Link { id: SessionId(self.opened), direction, remote };
        let (commands, queue) = mpsc::channel(SESSION_COMMANDS);
        let stats = SessionStats::default();
        let open = Open { link: link.clone(), opening, since: now, stats, commands, gave_way: false };
        self.open.insert(link.id, open);
        Ok((link, queue))
    }

    fn allows(&self, culprit: &Culprit, now: Instant) -> Result<(), Refusal> {
        let left = match culprit {
            Culprit::Named(address) => self.named.banned(address, now),
            Culprit::Address(ip) => self.bans.banned(ip, now),
        };
        left.map_or(Ok(()), |left| Err(Refusal::Banned(left)))
    }

    /// Closes the accepted connection that has brought and taken least, for it might only be there to
    /// keep others out. False where each is new, or enough are closing.
    fn make_way(&mut self, now: Instant) -> bool {
        if self.open.values().filter(|open| open.gave_way).count() >= GIVING_WAY {
            return false;
        }
        let is_idle = |open: &&mut Open| {
            let safe = now.saturating_duration_since(open.since) < SAFE_FOR;
            open.opening == Opening::Accepted && !open.gave_way && !safe
        };
        let least = self.open.values_mut().filter(is_idle).min_by_key(|open| open.stats.received + open.stats.sent);
        // A session whose queue is full might not end soon.
        let Some(least) = least.filter(|open| open.commands.try_send(SessionCommand::Close).is_ok()) else {
            return false;
        };
        least.gave_way = true;
        self.slots.release(least.link.remote.ip(), least.opening);
        true
    }
}

/// Whether a connection from `local` to `remote` reaches the socket that `listening` is bound to in
/// this same process: its port, at an address of this machine that the socket covers. Nobody else can
/// be bound there.
fn leads_here(local: SocketAddr, remote: SocketAddr, listening: SocketAddr) -> bool {
    let (local, remote, bound) = (local.ip().to_canonical(), remote, listening.ip().to_canonical());
    let to = remote.ip().to_canonical();
    let this_machine = to.is_loopback() || to == local;
    remote.port() == listening.port() && (to == bound || (bound.is_unspecified() && this_machine))
}

impl Ended {
    /// Whether people who look closely should hear of it.
    pub(super) const fn is_noteworthy(self) -> bool {
        matches!(self, Self::Misbehaved | Self::Overloaded | Self::Stalled | Self::TimedOut)
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
