//! What the sessions, the service and the API share: the book, bans, slots and who is connected.
//!
//! One mutex, held for moments: nothing in here waits or touches a socket.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

use super::{
    address::PeerAddress,
    bans::{Bans, Consequence, Offence},
    book::{Book, Source},
    limits::{SESSION_COMMANDS, SYNC_MARKS},
    link::{Direction, Ended, Link, SessionCommand, SessionId, SessionStats},
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
    #[error("the address is banned for another {} s because of what came from it", .0.as_secs() + 1)]
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
    bans: Bans,
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
}

/// What sessions use.
impl HubHandle {
    /// Notes what a peer at the address did, and says whether its connections end. The session that is
    /// told [`Consequence::Drop`] ends itself; others with the same address are told to close.
    pub fn penalise(&self, ip: IpAddr, offence: Offence) -> Consequence {
        let mut hub = self.lock();
        let consequence = hub.bans.penalise(ip, offence, Instant::now());
        if consequence == Consequence::Drop {
            let subject = super::address::subject(ip);
            for open in hub.open.values().filter(|open| super::address::subject(open.link.remote.ip()) == subject) {
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

    /// Whether a dial to the IP address makes sense now.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn check(&self, ip: IpAddr) -> Result<(), Refusal> {
        match self.lock().bans.banned(ip, Instant::now()) {
            Some(left) => Err(Refusal::Banned(left)),
            None => Ok(()),
        }
    }

    /// Lets the address off everything: the operator names it.
    pub(super) fn pardon(&self, ip: IpAddr) {
        self.lock().bans.pardon(ip);
    }

    /// Admits a connection that another opened.
    ///
    /// # Errors
    /// When it is banned or there is no slot for it.
    pub(super) fn accept(&self, remote: SocketAddr) -> Result<(Link, mpsc::Receiver<SessionCommand>), Refusal> {
        self.lock().admit(Direction::Accepted, remote, Opening::Accepted)
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
            return Err(Refusal::Connected(twin));
        }
        let opening = if hub.book.source(address) == Some(Source::Named) { Opening::Named } else { Opening::Found };
        let admitted = hub.admit(Direction::Dialled(address.clone()), remote, opening)?;
        hub.book.connected(address, Instant::now());
        Ok(admitted)
    }

    /// A session has ended: its slot is free, and a peer that we had dialled is dialled again in time.
    pub(super) fn closed(&self, session: SessionId, random: u64) {
        let mut hub = self.lock();
        let Some(open) = hub.open.remove(&session) else { return };
        hub.slots.release(open.link.remote.ip(), open.opening);
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
        self.lock().bans.tidy(Instant::now());
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
            points: hub.bans.points(open.link.remote.ip(), now),
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
    ) -> Result<(Link, mpsc::Receiver<SessionCommand>), Refusal> {
        let now = Instant::now();
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        if let Some(left) = self.bans.banned(remote.ip(), now) {
            return Err(Refusal::Banned(left));
        }
        self.slots.take(remote.ip(), opening)?;
        self.opened += 1;
        let link = Link { id: SessionId(self.opened), direction, remote };
        let (commands, queue) = mpsc::channel(SESSION_COMMANDS);
        let open = Open { link: link.clone(), opening, since: now, stats: SessionStats::default(), commands };
        self.open.insert(link.id, open);
        Ok((link, queue))
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
mod tests {
    use super::*;

    fn socket(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn hub() -> HubHandle {
        HubHandle::new(Book::default())
    }

    #[test]
    fn a_dial_that_leads_back_here_is_recognised() {
        let leads = |local, remote, listening| leads_here(socket(local), socket(remote), socket(listening));
        assert!(leads("127.0.0.1:50000", "127.0.0.1:7470", "0.0.0.0:7470"));
        assert!(leads("127.0.0.1:50000", "127.0.0.2:7470", "[::]:7470"));
        assert!(leads("192.0.2.1:50000", "192.0.2.1:7470", "0.0.0.0:7470"));
        assert!(leads("[2001:db8::1]:50000", "[2001:db8::1]:7470", "[::]:7470"));
        assert!(leads("127.0.0.1:50000", "127.0.0.1:7470", "127.0.0.1:7470"));
        assert!(!leads("127.0.0.1:50000", "127.0.0.2:7470", "127.0.0.1:7470"), "another node, at another address");
        assert!(!leads("127.0.0.1:50000", "127.0.0.1:7471", "0.0.0.0:7470"));
        assert!(!leads("192.0.2.1:50000", "192.0.2.2:7470", "0.0.0.0:7470"));
    }

    #[test]
    fn a_banned_address_is_refused_in_both_directions_and_its_sessions_close() {
        let hub = hub();
        let remote = socket("192.0.2.1:5000");
        let (link, mut queue) = hub.accept(remote).unwrap();
        assert_eq!(link.direction, Direction::Accepted);
        while hub.penalise(remote.ip(), Offence::Forged) == Consequence::Keep {}
        assert!(matches!(queue.try_recv(), Ok(SessionCommand::Close)));
        assert!(matches!(hub.accept(socket("192.0.2.1:5001")), Err(Refusal::Banned(_))));
        assert!(hub.check(remote.ip()).is_err());
        let other = "192.0.2.1:7470".parse().unwrap();
        assert!(matches!(
            hub.dialled(&other, socket("192.0.2.9:1"), socket("192.0.2.1:7470")),
            Err(Refusal::Banned(_))
        ));
        hub.pardon(remote.ip());
        assert!(hub.accept(socket("192.0.2.1:5001")).is_ok());
    }

    #[test]
    fn two_names_of_one_peer_make_one_connection() {
        let hub = hub();
        let [name, ip] = ["peer.example.org:7470", "192.0.2.1:7470"].map(|text| text.parse::<PeerAddress>().unwrap());
        let (local, remote) = (socket("192.0.2.9:1"), socket("192.0.2.1:7470"));
        let (link, _queue) = hub.dialled(&name, local, remote).unwrap();
        assert_eq!(hub.dialled(&ip, local, remote).unwrap_err(), Refusal::Connected(name.clone()));
        assert!(hub.accept(socket("192.0.2.1:5000")).is_ok(), "both directions may exist");
        assert_eq!(hub.sessions_with(&name).len(), 1);
        assert_eq!(hub.sessions_with(&ip).len(), 1);
        hub.closed(link.id, 0);
        assert_eq!(hub.snapshot().len(), 1);
        assert!(hub.dialled(&ip, local, remote).is_ok());
    }

    #[test]
    fn a_slot_is_given_back() {
        let hub = hub();
        for n in 0..1000 {
            let (link, _queue) = hub.accept(socket("127.0.0.1:5000")).unwrap();
            hub.report(link.id, SessionStats { received: n, ..SessionStats::default() });
            assert_eq!(hub.snapshot().first().unwrap().stats.received, n);
            hub.closed(link.id, n);
        }
    }

    #[test]
    fn remembered_synchronisations_are_bounded() {
        let hub = hub();
        let mark =
            |n| SyncMark { records: n, controls: 0, tasks: 0, at: Instant::now(), full: Instant::now(), through: 0 };
        let address = |n: u64| format!("h{n}:1").parse::<PeerAddress>().unwrap();
        for n in 0..2 * SYNC_MARKS as u64 {
            hub.set_sync_mark(&address(n), mark(n));
        }
        assert_eq!(hub.sync_mark(&address(0)), None);
        assert!(hub.sync_mark(&address(2 * SYNC_MARKS as u64 - 1)).is_some());
        assert_eq!(hub.lock().marks.len(), SYNC_MARKS);
    }
}
