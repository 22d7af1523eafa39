//! The connections of the server: a bounded number of them, and none that stands idle for long.
//!
//! Each connection takes a file descriptor, of which the store and the networks need many. Connections are counted by the
//! client's host and subnet too. An idle connection makes room for a new one: one of the same client at the client's
//! bound, one of the client with most of them when all are taken. Programs on this machine reach a node although others
//! hold hundreds of connections.
//!
//! Never here: what a request means.

mod watched;

use std::{
    cmp::Reverse,
    collections::HashMap,
    io,
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{net::TcpListener, sync::Notify};
use warp::{Filter, Rejection, reply::Response};

use self::watched::Watched;
use crate::{proxies::Proxies, shares::Client};

/// Most connections. A browser keeps six, a command one; the event streams, which are bounded too, are among them.
pub const MAX_CONNECTIONS: usize = 256;
/// Of them, those that are kept for programs on this machine: one in this many.
const KEPT: usize = 8;
/// Of them, those that one host may have: one in this many. Five browsers behind one address.
const OF_A_HOST: usize = 8;
/// The same for one subnet.
const OF_A_SUBNET: usize = 4;
/// Time for the head of a request, and for which a connection may wait for the next one.
pub const IDLE: Duration = Duration::from_secs(20);
/// Pause after the operating system refused a connection, as when no descriptor is left.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// Serves connections, `most` of them at once, until `stop` resolves and the open ones have ended. `requests` makes the filter that answers the
/// requests of one connection of a peer.
pub async fn serve<R>(
    listener: TcpListener,
    most: usize,
    proxies: &Proxies,
    stop: impl Future<Output = ()>,
    requests: impl Fn(Activity, IpAddr) -> R,
) where
    R: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    let open = OpenConnections::new(most);
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                let client = if proxies.has(peer.ip()) { Client::proxy(peer.ip()) } else { Client::at(peer.ip()) };
                let Some((activity, place)) = open.admit(client) else { continue };
                let service = TowerToHyperService::new(warp::service(requests(activity.clone(), peer.ip())));
                let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
                http.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
                let io = TokioIo::new(Watched::new(stream, activity.clone()));
                let connection = graceful.watch(http.serve_connection_with_upgrades(io, service).into_owned());
                tokio::spawn(async move {
                    let _place = place;
                    tokio::select! {
                        // A client that goes away is no fault of the server.
                        ended = connection => drop(ended),
                        () = activity.0.evicted.notified() => {}
                    }
                });
            }
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "the API cannot accept a connection");
                tokio::select! {
                    () = tokio::time::sleep(REFUSED_PAUSE) => {}
                    () = &mut stop => break,
                }
            }
        }
    }
    drop(listener);
    graceful.shutdown().await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// What one connection does. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Activity(Arc<ConnectionState>);

#[derive(Debug)]
struct ConnectionState {
    client: Client,
    opened: Instant,
    /// Milliseconds from `opened` to the last byte in either direction.
    moved: AtomicU64,
    /// Requests being answered.
    answering: AtomicUsize,
    evicted: Notify,
}

impl Activity {
    fn new(client: Client) -> Self {
        Self(Arc::new(ConnectionState {
            client,
            opened: Instant::now(),
            moved: AtomicU64::new(0),
            answering: AtomicUsize::new(0),
            evicted: Notify::new(),
        }))
    }

    /// Who has connected.
    pub fn client(&self) -> Client {
        self.0.client
    }

    /// A request is being answered until the value is dropped.
    pub fn busy(&self) -> Busy {
        self.0.answering.fetch_add(1, Relaxed);
        Busy(self.0.clone())
    }

    fn moved(&self) {
        let since = self.0.opened.elapsed().as_millis();
        self.0.moved.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }

    /// When the last byte moved. None while a request is being answered.
    fn idle_since(&self) -> Option<Instant> {
        let idle = self.0.answering.load(Relaxed) == 0;
        idle.then(|| self.0.opened + Duration::from_millis(self.0.moved.load(Relaxed)))
    }
}

/// See [`Activity::busy`].
#[derive(Debug)]
pub struct Busy(Arc<ConnectionState>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.answering.fetch_sub(1, Relaxed);
    }
}

/// The open connections.
#[derive(Clone)]
struct OpenConnections {
    most: usize,
    numbered: Arc<Mutex<Numbered>>,
}

#[derive(Default)]
struct Numbered {
    next: u64,
    open: HashMap<u64, Activity>,
}

/// The place of a connection, which is free again when this is dropped.
struct Place {
    number: u64,
    of: OpenConnections,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.lock().open.remove(&self.number);
    }
}

impl OpenConnections {
    fn new(most: usize) -> Self {
        Self { most, numbered: Arc::default() }
    }

    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.numbered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. An idle one is closed for it where a bound is reached. None when all of them are
    /// busy: the new one is closed.
    fn admit(&self, client: Client) -> Option<(Activity, Place)> {
        let part = |of: usize| (self.most / of).max(1);
        let mut numbered = self.lock();
        if !client.is_here() {
            numbered.keep_below(part(OF_A_HOST), |other| other.is_host_of(&client))?;
            numbered.keep_below(part(OF_A_SUBNET), |other| other.is_subnet_of(&client))?;
            numbered.keep_below(self.most - part(KEPT).min(self.most), |other| !other.is_here())?;
        }
        numbered.keep_below(self.most, |_| true)?;
        let number = numbered.next;
        numbered.next = number.wrapping_add(1);
        let activity = Activity::new(client);
        numbered.open.insert(number, activity.clone());
        Some((activity, Place { number, of: self.clone() }))
    }
}

impl Numbered {
    /// Closes an idle one of the connections of some clients, so that there are fewer than `most`. None when all are busy.
    fn keep_below(&mut self, most: usize, counted: impl Fn(&Client) -> bool) -> Option<()> {
        let counted: Vec<(u64, &Activity)> =
            self.open.iter().filter(|(_, one)| counted(&one.client())).map(|(number, one)| (*number, one)).collect();
        if counted.len() < most {
            return Some(());
        }
        let mut by_host: HashMap<Client, usize> = HashMap::new();
        for (_, one) in &counted {
            *by_host.entry(one.client()).or_default() += 1;
        }
        let with = |one: &Activity| by_host.get(&one.client()).copied().unwrap_or_default();
        let idle = counted.iter().filter_map(|(number, one)| Some((Reverse(with(one)), one.idle_since()?, *number)));
        let (_, _, longest) = idle.min()?;
        let evicted = self.open.remove(&longest)?;
        evicted.0.evicted.notify_one();
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn here() -> Client {
        Client::at(IpAddr::from([127, 0, 0, 1]))
    }

    fn host(subnet: u8, host: u8) -> Client {
        Client::at(IpAddr::from([198, 51, subnet, host]))
    }

    #[test]
    fn longest_idle_connection_makes_room_and_busy_ones_stay() {
        let open = OpenConnections::new(MAX_CONNECTIONS);
        let taken: Vec<_> = (0..MAX_CONNECTIONS).map(|_| open.admit(here()).unwrap()).collect();
        let busy: Vec<_> = taken.iter().skip(1).map(|(activity, _)| activity.busy()).collect();
        let (_, second) = open.admit(here()).unwrap();
        assert_eq!(open.lock().open.len(), MAX_CONNECTIONS);
        assert!(!open.lock().open.contains_key(&taken[0].1.number), "the only idle one went");
        drop(second);
        let (activity, _third) = open.admit(here()).unwrap();
        let _last = activity.busy();
        assert!(open.admit(here()).is_none(), "all are busy");
        drop(busy);
        assert!(open.admit(here()).is_some());
    }

    #[test]
    fn one_host_and_one_subnet_have_a_part_of_the_connections_even_when_busy() {
        let open = OpenConnections::new(MAX_CONNECTIONS);
        let busy = |client| open.admit(client).map(|(activity, place)| (activity.busy(), place));
        let of_a_host: Vec<_> = (0..MAX_CONNECTIONS).filter_map(|_| busy(host(1, 1))).collect();
        assert_eq!(of_a_host.len(), MAX_CONNECTIONS / OF_A_HOST);
        let of_a_subnet: Vec<_> = (2..=255).filter_map(|n| busy(host(1, n))).collect();
        assert_eq!(of_a_host.len() + of_a_subnet.len(), MAX_CONNECTIONS / OF_A_SUBNET);
        assert!(busy(host(2, 1)).is_some());
    }

    #[test]
    fn this_machine_gets_in_when_others_hold_all_that_they_may_have() {
        let open = OpenConnections::new(MAX_CONNECTIONS);
        let busy = |client| open.admit(client).map(|(activity, place)| (activity.busy(), place));
        let others: Vec<_> = (0..=255).flat_map(|n| [host(n, 1), host(n, 2)]).filter_map(busy).collect();
        assert_eq!(others.len(), MAX_CONNECTIONS - MAX_CONNECTIONS / KEPT);
        assert!(busy(here()).is_some());
    }

    #[test]
    fn the_client_with_most_connections_makes_room_for_a_newcomer() {
        let open = OpenConnections::new(16);
        let honest = open.admit(host(1, 1)).unwrap();
        let many: Vec<_> = (0..2).flat_map(|n| [host(2, n), host(2, n)]).filter_map(|c| open.admit(c)).collect();
        let alone: Vec<_> = (3..13).filter_map(|n| open.admit(host(n, 1))).collect();
        let before = open.lock().open.len();
        assert_eq!((before, many.len() + alone.len() + 1), (14, 15), "one idle connection was closed already");
        assert!(open.lock().open.contains_key(&honest.1.number), "the oldest, but the only one of its host");
        assert!(open.admit(host(99, 1)).is_some());
        assert!(open.lock().open.contains_key(&honest.1.number));
    }
}
