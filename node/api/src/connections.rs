//! The connections of the server: a bounded number of them, and none that stands idle for long.
//!
//! Each connection takes a file descriptor, of which the store and the networks need many. A connection that is idle
//! makes room for a new one when all are taken, so that commands on this machine reach a node although a page, a probe
//! or a hostile program holds hundreds of connections.
//!
//! Never here: what a request means.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Notify,
};
use warp::{Filter, Rejection, reply::Response};

/// Most connections. A browser keeps six, a command one; the event streams, which are bounded too, are among them.
pub const MAX_CONNECTIONS: usize = 128;
/// Time for the head of a request, and for which a connection may wait for the next one.
pub const IDLE: Duration = Duration::from_secs(60);
/// Pause after the operating system refused a connection, as when no descriptor is left.
const REFUSED_PAUSE: Duration = Duration::from_millis(200);

/// Serves connections until `stop` resolves and the open ones have ended. `requests` makes the filter that answers the
/// requests of one connection.
pub async fn serve<R>(listener: TcpListener, stop: impl Future<Output = ()>, requests: impl Fn(Activity) -> R)
where
    R: Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static,
{
    let open = OpenConnections::default();
    let graceful = GracefulShutdown::new();
    let mut stop = std::pin::pin!(stop);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let Some((activity, place)) = open.admit() else { continue };
                let service = TowerToHyperService::new(warp::service(requests(activity.clone())));
                let mut http = auto::Builder::new(TokioExecutor::new()).http1_only();
                http.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
                let io = TokioIo::new(Watched { stream, activity: activity.clone() });
                let connection = graceful.watch(http.serve_connection(io, service).into_owned());
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
                tokio::time::sleep(REFUSED_PAUSE).await;
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
    opened: Instant,
    /// Milliseconds from `opened` to the last byte in either direction.
    moved: AtomicU64,
    /// Requests being answered.
    answering: AtomicUsize,
    evicted: Notify,
}

impl Activity {
    fn new() -> Self {
        Self(Arc::new(ConnectionState {
            opened: Instant::now(),
            moved: AtomicU64::new(0),
            answering: AtomicUsize::new(0),
            evicted: Notify::new(),
        }))
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

/// The open connections, by number.
#[derive(Clone, Default)]
struct OpenConnections(Arc<Mutex<Numbered>>);

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
    fn lock(&self) -> MutexGuard<'_, Numbered> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. Where all are taken, the connection that was idle for longest is closed. None when
    /// all of them are busy: the new one is closed.
    fn admit(&self) -> Option<(Activity, Place)> {
        let mut numbered = self.lock();
        if numbered.open.len() >= MAX_CONNECTIONS {
            let idle = numbered.open.iter().filter_map(|(number, one)| Some((one.idle_since()?, *number)));
            let longest = idle.min()?.1;
            if let Some(evicted) = numbered.open.remove(&longest) {
                evicted.0.evicted.notify_one();
            }
        }
        let number = numbered.next;
        numbered.next = number.wrapping_add(1);
        let activity = Activity::new();
        numbered.open.insert(number, activity.clone());
        Some((activity, Place { number, of: self.clone() }))
    }
}

/// A stream that notes when bytes move.
struct Watched {
    stream: TcpStream,
    activity: Activity,
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_ready() {
            self.activity.moved();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if written.is_ready() {
            self.activity.moved();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, parts);
        if written.is_ready() {
            self.activity.moved();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn longest_idle_connection_makes_room_and_busy_ones_stay() {
        let open = OpenConnections::default();
        let taken: Vec<_> = (0..MAX_CONNECTIONS).map(|_| open.admit().unwrap()).collect();
        let busy: Vec<_> = taken.iter().skip(1).map(|(activity, _)| activity.busy()).collect();
        let (_, second) = open.admit().unwrap();
        assert_eq!(open.lock().open.len(), MAX_CONNECTIONS);
        assert!(!open.lock().open.contains_key(&taken[0].1.number), "the only idle one went");
        drop(second);
        let (activity, _third) = open.admit().unwrap();
        let _last = activity.busy();
        assert!(open.admit().is_none(), "all are busy");
        drop(busy);
        assert!(open.admit().is_some());
    }
}
