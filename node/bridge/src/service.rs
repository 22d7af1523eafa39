//! The task that opens and accepts connections and gives each to a session of its own.
//!
//! It decides nothing: whom to dial is the book's to say, who is let in the hub's. It ends when the
//! node does, and waits a moment for its sessions.

use std::{collections::HashMap, net::SocketAddr, path::PathBuf, sync::Arc, time::Instant};

use spore_base::peer_address::PeerAddress;
use spore_base::random;
use spore_base::shutdown::{Shutdown, stopped};
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
    book::{Book, Source},
    book_file,
    dial::{DialError, dial},
    handle::{BridgeHandle, Command, ConnectError},
    hub::{HubHandle, Refusal},
    limits::{ACCEPT_PAUSE, SAVE_INTERVAL, SESSIONS_END_WITHIN, TICK},
    link::{self, Link, SessionCommand, Shared, SharedRef},
    listen::Listeners,
    session,
};

/// The public peer of the existing network, and what this node does about it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PublicPeer {
    /// It is dialled like any other once somebody speaks of it.
    #[default]
    LikeOthers,
    /// It is tried: the operator named nobody.
    Tried(PeerAddress),
    /// It is never dialled unless the operator names it.
    Avoided(PeerAddress),
}

/// What the bridge is started with.
#[derive(Clone, Debug, Default)]
pub struct BridgeConfig {
    /// Where peers are listened for, see [`Listeners::bind`]; none: nowhere.
    pub listen: Option<SocketAddr>,
    /// Peers to stay connected with.
    pub peers: Vec<PeerAddress>,
    pub public: PublicPeer,
    /// The file of known peers; none: they are forgotten at the end.
    pub known: Option<PathBuf>,
}

/// Starts the bridge on sockets that were bound before, so that a busy port is the caller's error.
pub fn start(
    config: BridgeConfig,
    listeners: Listeners,
    store: Store,
    ingest: IngestHandle,
    events: broadcast::Sender<StoreEvent>,
    shutdown: Shutdown,
) -> (BridgeHandle, JoinHandle<()>) {
    let (book, file) = open_book(config);
    let hub = HubHandle::new(book);
    hub.listens_on(listeners.addresses());
    let (handle, commands) = BridgeHandle::channel(hub.clone());
    let service = Service {
        shared: Arc::new(Shared { store, ingest, events, hub: hub.clone(), large: link::large() }),
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

/// The book at the start, and the file that it is kept in.
fn open_book(config: BridgeConfig) -> (Book, Option<PathBuf>) {
    let now = Instant::now();
    let avoided = match &config.public {
        PublicPeer::Avoided(address) => Some(address.clone()),
        PublicPeer::LikeOthers | PublicPeer::Tried(_) => None,
    };
    let mut book = Book::new(avoided);
    for (n, peer) in config.peers.iter().enumerate() {
        if let Err(error) = book.name(peer, now) {
            warn!("{error}: {} of the peers given are left out", config.peers.len() - n);
            break;
        }
    }
    let file = config.known.filter(|file| match book_file::load(file) {
        Ok(loaded) => {
            let lines = loaded.unreadable.len();
            if let Some(first) = loaded.unreadable.first() {
                warn!(
                    "{}: {lines} lines are no host:port, the first is line {first}; they are left out",
                    file.display()
                );
            }
            if loaded.cut.is_some() || !loaded.beyond.is_empty() {
                warn!("{}: more peers than are kept; the first {} are", file.display(), loaded.peers.len());
            }
            book.remember(loaded.peers, now);
            true
        }
        Err(error) => {
            warn!("{error}; legacy peers of this run are not kept");
            false
        }
    });
    if let PublicPeer::Tried(address) = config.public {
        book.add_public(address, now);
    }
    (book, file)
}

struct Service {
    hub: HubHandle,
    shared: SharedRef,
    listeners: Listeners,
    /// No connection is accepted before.
    accept_after: Instant,
    dials: JoinSet<(PeerAddress, Result<TcpStream, DialError>)>,
    sessions: JoinSet<()>,
    /// Who waits for a dial. Bounded, as commands are, by the callers: the API's requests.
    waiting: HashMap<PeerAddress, Vec<oneshot::Sender<Result<(), ConnectError>>>>,
    file: Option<PathBuf>,
    saving: Option<JoinHandle<()>>,
    save_after: Instant,
    shutdown: Shutdown,
}

impl Service {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut shutdown = self.shutdown.clone();
        loop {
            tokio::select! {
                accepted = accept(&self.listeners, self.accept_after) => match accepted {
                    Ok((stream, remote)) => self.accepted(stream, remote),
                    Err(error) => {
                        warn!(%error, "could not accept a legacy peer's connection");
                        self.accept_after = Instant::now() + ACCEPT_PAUSE;
                    }
                },
                Some(done) = self.dials.join_next() => if let Ok((address, result)) = done {
                    self.dialled(address, result);
                },
                Some(_) = self.sessions.join_next() => {}
                Some(command) = commands.recv() => self.obey(command),
                _ = tick.tick() => self.tick(),
                () = stopped(&mut shutdown) => break,
            }
        }
        self.end().await;
    }

    fn tick(&mut self) {
        self.hub.tidy();
        self.dial_due();
        if self.save_after <= Instant::now() && self.saving.as_ref().is_none_or(JoinHandle::is_finished) {
            self.saving = save(&self.hub, self.file.clone());
            self.save_after = Instant::now() + SAVE_INTERVAL;
        }
    }

    fn dial_due(&mut self) {
        for address in self.hub.with_book(|book| book.due(Instant::now(), random::number)) {
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
            // Dropped, it is closed at once.
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
            // It may have been taken out of the book meanwhile.
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
            // Whoever asked may have gone.
            let _ = reply.send(answer.clone());
        }
        match opened {
            Ok(()) if source == Some(Source::Public) => debug!(peer = %address, "connected with the public peer"),
            Ok(()) => info!(peer = %address, "connected with a legacy peer"),
            Err(DialError::Refused(Refusal::Own)) => {
                self.hub.with_book(|book| book.is_own(&address));
                if source == Some(Source::Named) {
                    warn!("{address} is this node itself; it is not dialled again");
                }
            }
            Err(error @ DialError::Refused(Refusal::Connected(_))) => debug!(peer = %address, "{error}"),
            Err(error) => {
                let failures = self.hub.failed(&address, random::number());
                if source == Some(Source::Named) && failures == 1 {
                    warn!("could not connect to {address}: {error}; it is tried again");
                } else {
                    debug!(peer = %address, failures, "could not connect: {error}");
                }
            }
        }
    }

    fn open(&mut self, stream: TcpStream, link: Link, queue: mpsc::Receiver<SessionCommand>) {
        // Without it small answers wait for each other. A socket that refuses is about to fail anyway.
        let _ = stream.set_nodelay(true);
        let slot = Slot { hub: self.hub.clone(), session: link.id };
        let (shared, shutdown) = (self.shared.clone(), self.shutdown.clone());
        self.sessions.spawn(async move {
            let remote = link.remote;
            let ended = session::run(stream, link, shared, queue, shutdown).await;
            drop(slot);
            if ended.is_noteworthy() {
                info!(%remote, "a legacy peer was disconnected: {ended}");
            } else {
                debug!(%remote, "a legacy peer is gone: {ended}");
            }
        });
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Connect(address, reply) => self.connect(address, reply),
            Command::Disconnect(address, reply) => {
                let known = self.hub.with_book(|book| book.forget(&address));
                for waiting in self.waiting.remove(&address).unwrap_or_default() {
                    // Whoever asked may have gone.
                    let _ = waiting.send(Err(ConnectError::Disconnected));
                }
                let sessions = self.hub.sessions_with(&address);
                for session in &sessions {
                    // A session whose queue is full is stuck, and its own time limits end it.
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
            // Whoever asked may have gone.
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
        // One after the other: the last one must be the last.
        if let Some(saving) = self.saving {
            let _ = saving.await;
        }
        if let Some(saving) = save(&self.hub, self.file) {
            let _ = saving.await;
        }
    }
}

/// Writes the file of known peers, if they changed, off this thread.
fn save(hub: &HubHandle, file: Option<PathBuf>) -> Option<JoinHandle<()>> {
    let (hub, file) = (hub.clone(), file?);
    let peers = hub.with_book(Book::take_unsaved)?;
    Some(tokio::task::spawn_blocking(move || {
        if let Err(error) = book_file::save(&file, &peers)
            && hub.with_book(Book::not_saved)
        {
            warn!("known legacy peers cannot be written; it is tried again: {error}");
        }
    }))
}

/// Gives a session's slot back, however the session ends.
struct Slot {
    hub: HubHandle,
    session: SessionId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.hub.closed(self.session, random::number());
    }
}

async fn accept(listeners: &Listeners, after: Instant) -> std::io::Result<(TcpStream, SocketAddr)> {
    sleep_until(after.into()).await;
    listeners.accept().await
}

#[cfg(test)]
#[path = "service_tests.rs"]
mod tests;
