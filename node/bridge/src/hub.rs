//! The state that the sessions, the bridge's task and the API share: the address book, the standing of peers, the
//! connection slots and the open connections.
//!
//! One mutex guards it and is held for moments. Nothing in here waits or touches a socket.

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use spore_base::{
    peer_address::{PeerAddress, subject},
    standing::{FIRST_BAN_OF_ADDRESS, Offence, Standing},
};
use spore_ingest::SessionId;
use tokio::sync::mpsc;

use super::{
    book::{AddressBook, PeerSource},
    limits::{GIVING_WAY, SAFE_FOR, SAFE_WHILE_SILENT, SESSION_COMMANDS, SYNC_MARKS},
    link::{Link, LinkDirection, SessionCommand, SessionStats},
    slots::{ConnectionSlots, NoSlot, Opening},
};

/// How far the last complete synchronisation with a peer came. `records`, `controls` and `tasks` are the greatest
/// timestamps of what the peer sent, in Unix seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncMark {
    pub records: u64,
    pub controls: u64,
    pub tasks: u64,
    /// When the synchronisation was complete.
    pub at: Instant,
    /// When everything was last asked for, and came.
    pub full: Instant,
    /// The peer has every change of the store's change log up to this sequence number.
    pub through: u64,
}

/// A connected legacy peer, for display.
#[derive(Clone, Debug)]
pub struct BridgePeer {
    pub link: Link,
    pub connected: Duration,
    pub stats: SessionStats,
    /// Penalty points.
    pub points: u32,
}

/// Why a connection is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    #[error("the peer is banned for another {} s because of what it sent", .0.as_secs() + 1)]
    Banned(Duration),
    #[error(transparent)]
    NoSlot(#[from] NoSlot),
    #[error("the peer is connected already, as {0}")]
    Connected(PeerAddress),
    #[error("the address is this node's own")]
    Own,
}

/// Handle to the shared hub state. Cheap to clone.
#[derive(Clone, Debug)]
pub struct HubHandle(Arc<Mutex<Hub>>);

#[derive(Debug)]
struct Hub {
    book: AddressBook,
    /// Standing by address, as [`subject`] groups addresses.
    by_address: Standing<IpAddr>,
    /// Standing of the peers that the operator named. They answer for what they do on the connections that this node
    /// dialled, and for nothing else: an untrusted peer behind the same router must not cut them off.
    by_name: Standing<PeerAddress>,
    slots: ConnectionSlots,
    open: BTreeMap<SessionId, OpenConnection>,
    opened: u64,
    marks: HashMap<PeerAddress, SyncMark>,
    listening: Vec<SocketAddr>,
}

#[derive(Debug)]
struct OpenConnection {
    link: Link,
    opening: Opening,
    since: Instant,
    stats: SessionStats,
    commands: mpsc::Sender<SessionCommand>,
    /// Another connection has this one's slot now.
    gave_way: bool,
}

/// Who answers for what happens on a connection.
enum Culprit {
    Named(PeerAddress),
    Address(IpAddr),
}

impl Culprit {
    fn of(direction: &LinkDirection, remote: SocketAddr, opening: Opening) -> Self {
        match direction {
            LinkDirection::Dialled(address) if opening == Opening::Named => Self::Named(address.clone()),
            _ => Self::Address(subject(remote.ip())),
        }
    }
}

impl OpenConnection {
    fn culprit(&self) -> Culprit {
        Culprit::of(&self.link.direction, self.link.remote, self.opening)
    }
}

/// What sessions use.
impl HubHandle {
    /// Adds an offence of the peer at the other end of `link`. True when the peer is banned: the session must end
    /// itself. The other connections with the same address are closed here, except those with peers that the operator
    /// named.
    #[must_use]
    pub fn penalise(&self, link: &Link, offence: Offence) -> bool {
        let (mut hub, now) = (self.lock(), Instant::now());
        let opening = hub.open.get(&link.id).map_or(Opening::Accepted, |open| open.opening);
        let ip = match Culprit::of(&link.direction, link.remote, opening) {
            Culprit::Named(address) => return hub.by_name.penalise(&address, offence, now).is_ban(),
            Culprit::Address(ip) => ip,
        };
        let banned = hub.by_address.penalise(&ip, offence, now).is_ban();
        if banned {
            let same = |open: &&OpenConnection| matches!(open.culprit(), Culprit::Address(other) if other == ip);
            for open in hub.open.values().filter(same) {
                // A session whose queue is full is stuck, and its own deadlines end it.
                let _ = open.commands.try_send(SessionCommand::Close);
            }
        }
        banned
    }

    /// Whether this node dialled the peer at the other end because the operator named it.
    pub fn is_named(&self, link: &Link) -> bool {
        let opening = self.lock().open.get(&link.id).map_or(Opening::Accepted, |open| open.opening);
        matches!(Culprit::of(&link.direction, link.remote, opening), Culprit::Named(_))
    }

    /// The peers to name to the peer at `to`, which asked for others: those that this node dialled and is connected
    /// with.
    pub fn dialled_peers(&self, to: IpAddr) -> Vec<PeerAddress> {
        self.lock().book.to_exchange(to)
    }

    /// Adds the peers that the peer at `from` named to the address book, within its bounds.
    pub fn heard_of(&self, from: IpAddr, peers: Vec<PeerAddress>) {
        self.lock().book.hear(from, peers, Instant::now());
    }

    /// How far the last complete synchronisation with the peer at this address came. Only a peer that this node dialled
    /// is recognised: the address of a peer that dialled us says too little.
    pub fn sync_mark(&self, peer: &PeerAddress) -> Option<SyncMark> {
        self.lock().marks.get(peer).copied()
    }

    /// Remembers how far a synchronisation came.
    pub fn set_sync_mark(&self, peer: &PeerAddress, mark: SyncMark) {
        let mut hub = self.lock();
        if hub.marks.len() >= SYNC_MARKS && !hub.marks.contains_key(peer) {
            let oldest = hub.marks.iter().min_by_key(|(_, mark)| mark.at).map(|(peer, _)| peer.clone());
            oldest.map(|oldest| hub.marks.remove(&oldest));
        }
        hub.marks.insert(peer.clone(), mark);
    }

    /// Stores the statistics of a session. They are for display, so now and then is enough.
    pub fn report(&self, session: SessionId, stats: SessionStats) {
        if let Some(open) = self.lock().open.get_mut(&session) {
            open.stats = stats;
        }
    }
}

/// What the bridge's task and its handle use.
impl HubHandle {
    pub(super) fn new(book: AddressBook) -> Self {
        Self(Arc::new(Mutex::new(Hub {
            book,
            by_address: Standing::new(FIRST_BAN_OF_ADDRESS),
            by_name: Standing::new(FIRST_BAN_OF_ADDRESS),
            slots: ConnectionSlots::default(),
            open: BTreeMap::new(),
            opened: 0,
            marks: HashMap::new(),
            listening: Vec::new(),
        })))
    }

    /// Lends out the address book. `use_it` must not call the hub: the mutex is held.
    pub(super) fn with_book<T>(&self, use_it: impl FnOnce(&mut AddressBook) -> T) -> T {
        use_it(&mut self.lock().book)
    }

    /// Stores the addresses on which the bridge listens.
    pub(super) fn set_listening(&self, addresses: Vec<SocketAddr>) {
        self.lock().listening = addresses;
    }

    /// The addresses on which the bridge listens.
    pub(super) fn listening(&self) -> Vec<SocketAddr> {
        self.lock().listening.clone()
    }

    /// Checks whether the peer at this IP address may be dialled now.
    ///
    /// # Errors
    /// When the peer is banned.
    pub(super) fn check(&self, address: &PeerAddress, ip: IpAddr) -> Result<(), Refusal> {
        let hub = self.lock();
        let culprit = match hub.book.source(address) {
            Some(PeerSource::Named) => Culprit::Named(address.clone()),
            _ => Culprit::Address(subject(ip)),
        };
        hub.allows(&culprit, Instant::now())
    }

    /// Forgets the points and the ban of a peer: the operator names it.
    pub(super) fn pardon(&self, address: &PeerAddress) {
        let mut hub = self.lock();
        hub.by_name.pardon(address);
        if let Some(ip) = address.ip() {
            hub.by_address.pardon(&subject(ip));
        }
    }

    /// Admits a connection that a peer opened.
    ///
    /// # Errors
    /// When the peer is banned or there is no slot.
    pub(super) fn accept(&self, remote: SocketAddr) -> Result<(Link, mpsc::Receiver<SessionCommand>), Refusal> {
        self.lock().admit(LinkDirection::Accepted, remote, Opening::Accepted, Instant::now())
    }

    /// Admits a connection that this node opened: it dialled `address`, from `local`.
    ///
    /// # Errors
    /// When the peer is banned, when it is connected under another address, or when it is this node itself.
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
            LinkDirection::Dialled(other) if open.link.remote == remote => Some(other.clone()),
            _ => None,
        });
        if let Some(twin) = twin {
            hub.book.is_twin(address, &twin);
            return Err(Refusal::Connected(twin));
        }
        let opening = if hub.book.source(address) == Some(PeerSource::Named) { Opening::Named } else { Opening::Found };
        let now = Instant::now();
        let admitted = hub.admit(LinkDirection::Dialled(address.clone()), remote, opening, now)?;
        hub.book.connected(address, now);
        Ok(admitted)
    }

    /// A session has ended: its slot becomes free, and a peer that this node had dialled is dialled again in time.
    pub(super) fn closed(&self, session: SessionId, random: u64) {
        let mut hub = self.lock();
        let Some(open) = hub.open.remove(&session) else { return };
        if !open.gave_way {
            hub.slots.release(open.link.remote.ip(), open.opening);
        }
        if let LinkDirection::Dialled(address) = &open.link.direction {
            hub.book.closed(address, Instant::now(), random);
        }
    }

    /// A dial failed. Returns the number of failures in a row.
    pub(super) fn failed(&self, address: &PeerAddress, random: u64) -> u32 {
        let mut hub = self.lock();
        let others = !hub.open.is_empty();
        hub.book.failed(address, others, Instant::now(), random)
    }

    /// Forgets points and bans that are over.
    pub(super) fn forgive(&self) {
        let (mut hub, now) = (self.lock(), Instant::now());
        hub.by_address.forgive(now);
        hub.by_name.forgive(now);
    }

    /// Command queues of the sessions with the peer at this address, whoever opened them.
    pub(super) fn sessions_with(&self, address: &PeerAddress) -> Vec<mpsc::Sender<SessionCommand>> {
        let hub = self.lock();
        let with = |open: &&OpenConnection| match &open.link.direction {
            LinkDirection::Dialled(dialled) => dialled == address || PeerAddress::from(open.link.remote) == *address,
            LinkDirection::Accepted => PeerAddress::from(open.link.remote) == *address,
        };
        hub.open.values().filter(with).map(|open| open.commands.clone()).collect()
    }

    /// Command queues of all sessions, the longest connected first.
    pub(super) fn sessions(&self) -> Vec<mpsc::Sender<SessionCommand>> {
        self.lock().open.values().map(|open| open.commands.clone()).collect()
    }

    /// The connected peers, the longest connected first.
    pub(super) fn snapshot(&self) -> Vec<BridgePeer> {
        let (hub, now) = (self.lock(), Instant::now());
        let peer = |open: &OpenConnection| BridgePeer {
            link: open.link.clone(),
            connected: now.saturating_duration_since(open.since),
            stats: open.stats,
            points: match open.culprit() {
                Culprit::Named(address) => hub.by_name.points(&address, now),
                Culprit::Address(ip) => hub.by_address.points(&ip, now),
            },
        };
        hub.open.values().map(peer).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Hub> {
        // No code that holds the lock panics in the middle of a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Hub {
    fn admit(
        &mut self,
        direction: LinkDirection,
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
        let open = OpenConnection { link: link.clone(), opening, since: now, stats, commands, gave_way: false };
        self.open.insert(link.id, open);
        Ok((link, queue))
    }

    fn allows(&self, culprit: &Culprit, now: Instant) -> Result<(), Refusal> {
        let left = match culprit {
            Culprit::Named(address) => self.by_name.banned(address, now),
            Culprit::Address(ip) => self.by_address.banned(ip, now),
        };
        left.map_or(Ok(()), |left| Err(Refusal::Banned(left)))
    }

    /// Closes the accepted connection that exchanged the fewest objects, because it may exist only to keep others out;
    /// before all others, one whose peer has said nothing. False when every connection is too new, or when enough are closing.
    fn make_way(&mut self, now: Instant) -> bool {
        if self.open.values().filter(|open| open.gave_way).count() >= GIVING_WAY {
            return false;
        }
        let may_give_way = |open: &&mut OpenConnection| {
            let safe_for = if open.stats.answered { SAFE_FOR } else { SAFE_WHILE_SILENT };
            let safe = now.saturating_duration_since(open.since) < safe_for;
            open.opening == Opening::Accepted && !open.gave_way && !safe
        };
        let use_of = |stats: &SessionStats| (stats.answered, stats.received + stats.sent);
        let least = self.open.values_mut().filter(may_give_way).min_by_key(|open| use_of(&open.stats));
        // A session whose queue is full may not end soon.
        let Some(least) = least.filter(|open| open.commands.try_send(SessionCommand::Close).is_ok()) else {
            return false;
        };
        least.gave_way = true;
        self.slots.release(least.link.remote.ip(), least.opening);
        true
    }
}

/// Whether a connection from `local` to `remote` reaches the socket that this process bound to `listening`: it has that
/// port, at an address of this machine that the socket covers. No other program can be bound there.
fn leads_here(local: SocketAddr, remote: SocketAddr, listening: SocketAddr) -> bool {
    let (local, remote, bound) = (local.ip().to_canonical(), remote, listening.ip().to_canonical());
    let to = remote.ip().to_canonical();
    let this_machine = to.is_loopback() || to == local;
    remote.port() == listening.port() && (to == bound || (bound.is_unspecified() && this_machine))
}

#[cfg(test)]
mod tests;
