//! The bridge's task: it opens and accepts connections and gives each one to a session of its own.
//!
//! The task decides nothing: the address book says whom to dial, the hub who is admitted. It ends when the node does,
//! and waits a moment for its sessions.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use spore_base::{
    clock::Clock,
    peer_address::PeerAddress,
    random,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::{IngestHandle, SessionId, StoreEvent};
use spore_storage::Store;
use tokio::{
    net::TcpStream,
    sync::{broadcast, mpsc, oneshot},
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use super::{
    book::{AddressBook, PeerSource},
    book_file,
    dial::{DialError, dial},
    handle::{BridgeCommand, BridgeHandle, ConnectError},
    hub::{HubHandle, Refusal},
    limits::{ACCEPT_PAUSE, SAVE_INTERVAL, SESSIONS_END_WITHIN, TICK},
    link::{Link, SessionCommand},
    listen::Listeners,
    session,
    shared::{LargeMemory, SharedRef, SharedState},
};

/// What this node does about the public peer of the existing network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PublicPeer {
    /// The public peer is dialled like any other once another peer names it.
    #[default]
    LikeOthers,
    /// The public peer is dialled because the operator named nobody.
    Tried(PeerAddress),
    /// The public peer is never dialled unless the operator names it.
    Avoided(PeerAddress),
}

/// What the bridge is started with.
#[derive(Clone, Debug, Default)]
pub struct BridgeConfig {
    /// The address to listen on, see [`Listeners::bind`]. None: the bridge only dials.
    pub listen: Option<SocketAddr>,
    /// Peers to stay connected with.
    pub peers: Vec<PeerAddress>,
    pub public: PublicPeer,
    /// The file of known peers. None: peers are forgotten when the node ends.
    pub known: Option<PathBuf>,
}

/// Starts the bridge. The sockets are bound before, so that a busy port is an error of the caller. Timestamps of objects
/// are compared with `clock`.
pub fn start(
    config: BridgeConfig,
    listeners: Listeners,
    store: Store,
    ingest: IngestHandle,
    events: broadcast::Sender<StoreEvent>,
    clock: Clock,
    shutdown: Shutdown,
) -> (BridgeHandle, JoinHandle<()>) {
    let (book, file) = open_book(config);
    let hub = HubHandle::new(book);
    hub.set_listening(listeners.addresses());
    let (handle, commands) = BridgeHandle::channel(hub.clone());
    let service = BridgeService {
        shared: Arc::new(SharedState { store, ingest, events, hub: hub.clone(), large: LargeMemory::default(), clock }),
        hub,
        listeners,
        accept_after: Instant::now(),
        dials: JoinSet::new(),
        sessions: JoinSet::new(),
        waiting: HashMap::new(),
        file,
        saving: None,
        save_after: Instant::now(),
        shutdown,
    };
    (handle, tokio::spawn(service.run(commands)))
}

/// The address book at the start, and the file in which it is kept.
fn open_book(config: BridgeConfig) -> (AddressBook, Option<PathBuf>) {
    let now = Instant::now();
    let avoided = match &config.public {
        PublicPeer::Avoided(address) => Some(address.clone()),
        PublicPeer::LikeOthers | PublicPeer::Tried(_) => None,
    };
    let mut book = AddressBook::new(avoided);
    for (n, peer) in config.peers.iter().enumerate() {
        if let Err(error) = book.name(peer, now) {
            warn!("{error}; {} of the given peers are left out", config.peers.len() - n);
            break;
        }
    }
    let file = config.known.filter(|file| match book_file::load(file) {
        Ok(content) => {
            let path = file.display();
            if let Some(first) = content.unreadable.first() {
                let lines = content.unreadable.len();
                warn!("{path}: {lines} lines are not host:port and are left out; the first of them is line {first}");
            }
            if content.cut.is_some() || !content.beyond.is_empty() {
                warn!("{path}: the file names more peers than are kept; the first {} are kept", content.peers.len());
            }
            book.remember(content.peers, now);
            true
        }
        Err(error) => {
            warn!("{error}; legacy peers of this run are not saved");
            false
        }
    });
    if let PublicPeer::Tried(address) = config.public {
        book.add_public(address, now);
    }
    (book, file)
}

struct BridgeService {
    hub: HubHandle,
    shared: SharedRef,
    listeners: Listeners,
    /// No connection is accepted before this time.
    accept_after: Instant,
    dials: JoinSet<(PeerAddress, Result<TcpStream, DialError>)>,
    sessions: JoinSet<()>,
    /// Callers that wait for a dial. The API's requests bound them, as they bound the commands.
    waiting: HashMap<PeerAddress, Vec<oneshot::Sender<Result<(), ConnectError>>>>,
    file: Option<PathBuf>,
    saving: Option<JoinHandle<()>>,
    save_after: Instant,
    shutdown: Shutdown,
}

impl BridgeService {
    async fn run(mut self, mut commands: mpsc::Receiver<BridgeCommand>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                accepted = accept(&self.listeners, self.accept_after) => match accepted {
                    Ok((stream, remote)) => self.accepted(stream, remote),
                    Err(error) => {
                        warn!(%error, "could not accept the connection of a legacy peer");
                        self.accept_after = Instant::now() + ACCEPT_PAUSE;
                    }
                },
                Some(done) = self.dials.join_next() => if let Ok((address, result)) = done {
                    self.dialled(address, result);
                },
                Some(_) = self.sessions.join_next() => {}
                Some(command) = commands.recv() => self.command(command),
                _ = tick.tick() => self.tick(),
                () = stopped(&mut shutdown) => break,
            }
        }
        self.end().await;
    }

    fn tick(&mut self) {
        self.hub.forgive();
        self.dial_due();
        if self.save_after <= Instant::now() && self.saving.as_ref().is_none_or(JoinHandle::is_finished) {
            self.saving = save(&self.hub, self.file.clone());
            self.save_after = Instant::now() + SAVE_INTERVAL;
        }
    }

    fn dial_due(&mut self) {
        for address in self.hub.with_book(|book| book.due(Instant::now(), &mut random::generator())) {
            let (hub, source) = (self.hub.clone(), self.hub.with_book(|book| book.source(&address)));
            debug!(peer = %address, "dialling");
            self.dials.spawn(async move {
                let result = dial(&hub, &address, source).await;
                (address, result)
            });
        }
    }

    fn accepted(&mut self, stream: TcpStream, remote: SocketAddr) {
        let remote = SocketAddr::new(remote.ip().to_canonical(), remote.port());
        match self.hub.accept(remote) {
            // Dropping the stream closes it at once.
            Err(refusal) => debug!(%remote, "refused a legacy peer: {refusal}"),
            Ok((link, queue)) => {
                info!(%remote, "a legacy peer has connected");
                self.open(stream, link, queue);
            }
        }
    }

    fn dialled(&mut self, address: PeerAddress, result: Result<TcpStream, DialError>) {
        let source = self.hub.with_book(|book| book.source(&address));
        let opened = result.and_then(|stream| {
            let (local, remote) = (stream.local_addr()?, stream.peer_addr()?);
            // The peer may have been removed from the book meanwhile.
            source.ok_or(DialError::NoAddress)?;
            let (link, queue) = self.hub.dialled(&address, local, remote)?;
            self.open(stream, link, queue);
            Ok(())
        });
        let answer = match &opened {
            Ok(()) | Err(DialError::Refused(Refusal::Connected(_))) => Ok(()),
            Err(DialError::Refused(Refusal::Own)) => Err(ConnectError::Own),
            Err(error) => Err(ConnectError::Unreachable(error.to_string())),
        };
        for reply in self.waiting.remove(&address).unwrap_or_default() {
            // The caller may have gone away.
            let _ = reply.send(answer.clone());
        }
        match opened {
            Ok(()) if source == Some(PeerSource::Public) => debug!(peer = %address, "connected with the public peer"),
            Ok(()) => info!(peer = %address, "connected with a legacy peer"),
            Err(DialError::Refused(Refusal::Own)) => {
                self.hub.with_book(|book| book.is_own(&address));
                if source == Some(PeerSource::Named) {
                    warn!("{address} is this node's own address; it is not dialled again");
                }
            }
            Err(error @ DialError::Refused(Refusal::Connected(_))) => debug!(peer = %address, "{error}"),
            Err(error) => {
                let failures = self.hub.failed(&address, random::number());
                if source == Some(PeerSource::Named) && failures == 1 {
                    warn!("could not connect to {address}: {error}; the node will try again");
                } else {
                    debug!(peer = %address, failures, "could not connect: {error}");
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, link: Link, queue: mpsc::Receiver<SessionCommand>) {
        let slot = SlotGuard { hub: self.hub.clone(), session: link.id };
        let (shared, shutdown) = (self.shared.clone(), self.shutdown.clone());
        self.sessions.spawn(async move {
            let remote = link.remote;
            let ended = session::run(stream, link, shared, queue, shutdown).await;
            drop(slot);
            if ended.is_noteworthy() {
                info!(%remote, "the connection with a legacy peer was closed: {ended}");
            } else {
                debug!(%remote, "the connection with a legacy peer ended: {ended}");
            }
        });
    }

    fn command(&mut self, command: BridgeCommand) {
        match command {
            BridgeCommand::Connect(address, reply) => self.connect(address, reply),
            BridgeCommand::Disconnect(address, reply) => {
                let known = self.hub.with_book(|book| book.forget(&address));
                for waiting in self.waiting.remove(&address).unwrap_or_default() {
                    // The caller may have gone away.
                    let _ = waiting.send(Err(ConnectError::Disconnected));
                }
                let sessions = self.hub.sessions_with(&address);
                for session in &sessions {
                    // A session whose queue is full is stuck, and its own deadlines end it.
                    let _ = session.try_send(SessionCommand::Close);
                }
                let _ = reply.send(known || !sessions.is_empty());
            }
        }
    }

    fn connect(&mut self, address: PeerAddress, reply: oneshot::Sender<Result<(), ConnectError>>) {
        self.hub.pardon(&address);
        let named = self.hub.with_book(|book| {
            book.name(&address, Instant::now())?;
            Ok::<_, ConnectError>(book.is_connected(&address))
        });
        match named {
            Ok(false) => {
                self.waiting.entry(address).or_default().push(reply);
                self.dial_due();
            }
            // The caller may have gone away.
            Ok(true) => drop(reply.send(Ok(()))),
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    async fn end(mut self) {
        drop(self.listeners);
        self.dials.abort_all();
        let all = async { while self.sessions.join_next().await.is_some() {} };
        if timeout(SESSIONS_END_WITHIN, all).await.is_err() {
            debug!("some legacy connections did not end in time");
            self.sessions.abort_all();
        }
        // One write after the other, so that the last one to finish is the newest.
        if let Some(saving) = self.saving {
            let _ = saving.await;
        }
        if let Some(saving) = save(&self.hub, self.file) {
            let _ = saving.await;
        }
    }
}

/// Writes the file of known peers on a blocking thread, if they have changed.
fn save(hub: &HubHandle, file: Option<PathBuf>) -> Option<JoinHandle<()>> {
    let (hub, file) = (hub.clone(), file?);
    let peers = hub.with_book(AddressBook::take_unsaved)?;
    Some(tokio::task::spawn_blocking(move || {
        if let Err(error) = book_file::save(&file, &peers)
            && hub.with_book(AddressBook::not_saved)
        {
            warn!("the file of known legacy peers could not be written; the node will try again: {error}");
        }
    }))
}

/// Gives back the slot of a session when it is dropped, however the session ends.
struct SlotGuard {
    hub: HubHandle,
    session: SessionId,
}

impl Drop for SlotGuard {
    fn drop(&mut self) {
        self.hub.closed(self.session, random::number());
    }
}

async fn accept(listeners: &Listeners, after: Instant) -> std::io::Result<(TcpStream, SocketAddr)> {
    sleep_until(after.into()).await;
    listeners.accept().await
}

#[cfg(test)]
mod tests;
