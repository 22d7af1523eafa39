//! The HTTP API and the explorer's page, served by warp.
//!
//! [`guard`] checks a request, [`route`] names what it asks for, and the answer comes from [`read`], [`write`], a
//! stream ([`events`], [`compact`]) or a job on the store ([`upkeep`]). [`compat`] answers under the paths of the
//! reference's API. Every other path belongs to the page ([`page`]) and to what others show of it ([`sharing`]).
//! [`connections`], [`shares`], [`sent`] and [`proxies`] bound what clients take, [`encoding`] compresses it. [`view`] converts what the store holds,
//! for the server and for commands without a node. [`ports`] names what the API needs of the rest of the node.
//!
//! Never here: rules about what is valid or best, and signing.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod admin;
mod compact;
mod compat;
mod connections;
mod content;
pub mod dto;
mod encoding;
mod etag;
pub mod events;
mod graph;
mod guard;
pub mod live;
mod markup;
mod metrics;
pub mod objects;
pub mod openapi;
pub mod page;
pub mod paging;
pub mod ports;
pub mod problem;
pub mod proxies;
pub mod query;
pub mod read;
pub mod route;
mod sent;
mod shares;
mod sharing;
#[cfg(test)]
mod tests;
pub mod upkeep;
pub mod view;
pub mod write;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use warp::{
    Buf, Filter,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    hyper::upgrade::OnUpgrade,
    path::FullPath,
    reply::{Reply, Response},
};

pub use connections::MAX_CONNECTIONS;

use self::{
    connections::Activity,
    content::Content,
    events::Subscription,
    live::{Live, LiveNode},
    problem::ApiError,
    proxies::Proxies,
    query::Query,
    route::Route,
    sent::BodyBudget,
    shares::{Client, Shares},
    sharing::Shared,
    upkeep::Upkeep,
    view::StoreView,
};

/// Reading requests that are answered at once; more wait. Each takes a blocking thread, and readers must not take all
/// of those that the ingest service needs.
const MAX_READS: usize = 32;
/// Answers under the reference's paths that are made at once: each may read thousands of whole records.
const MAX_COMPAT: usize = 2;
/// How a client may keep what never changes.
const FOREVER: &str = "public, max-age=31536000, immutable";
/// How long open connections may go on after shutdown.
const LINGER: Duration = Duration::from_secs(2);

/// What the server needs. All requests share it.
pub struct Api {
    pub view: StoreView,
    /// None for an explorer without a node.
    pub node: Option<LiveNode>,
    /// The configured task, for an explorer without a node.
    pub pinned: Option<spore_protocol::TaskId>,
    /// The token that requests need to change the node. Without one, no request can.
    pub token: Option<String>,
    /// Whether the server serves the page beside the API.
    pub page: bool,
    /// Host names, besides this machine's own, that requests may name: those of reverse proxies.
    pub names: Vec<String>,
    /// Reverse proxies that are believed where a request comes from.
    pub proxies: Proxies,
    /// Most connections at once: [`MAX_CONNECTIONS`], or what the process may open.
    pub connections: usize,
    pub shutdown: watch::Receiver<bool>,
}

struct Server {
    api: Api,
    bound: SocketAddr,
    /// Shares of the event streams.
    streams: Shares,
    /// Permits for reading the store.
    reads: Arc<Semaphore>,
    /// Permits for answers under the reference's paths.
    compat: Semaphore,
    /// Shares of the whole graphs that are sent.
    graphs: Shares,
    /// Shares of the bytes of answers that are on their way.
    bodies: BodyBudget,
    upkeep: Upkeep,
}

/// Serves until shutdown. The caller binds `listener`, and so can report a port that is in use.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(api: Api, listener: TcpListener) -> std::io::Result<()> {
    let mut shutdown = api.shutdown.clone();
    let bound = listener.local_addr()?;
    let (most, proxies) = (api.connections, api.proxies.clone());
    let server = Arc::new(Server {
        api,
        bound,
        streams: Shares::new(events::STREAMS),
        reads: Arc::new(Semaphore::new(MAX_READS)),
        compat: Semaphore::new(MAX_COMPAT),
        graphs: Shares::new(compact::GRAPHS),
        bodies: BodyBudget::default(),
        upkeep: Upkeep::default(),
    });
    let mut ending = shutdown.clone();
    let stop = async move {
        let _ = shutdown.wait_for(|stop| *stop).await;
    };
    let overdue = async move {
        let _ = ending.wait_for(|stop| *stop).await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = connections::serve(listener, most, &proxies, stop, |activity, peer| requests(server.clone(), activity, peer)) => {}
        () = overdue => {}
    }
    Ok(())
}

/// The requests of one connection, which counts as busy while one of them is answered.
fn requests(
    server: Arc<Server>,
    activity: Activity,
    peer: IpAddr,
) -> impl Filter<Extract = (Response,), Error = warp::Rejection> + Clone + Send + Sync + 'static {
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::ext::optional::<OnUpgrade>())
        .and(warp::body::stream())
        .and(warp::any().map(move || (server.clone(), activity.clone(), peer)))
        .then(
            |method: Method,
             path: FullPath,
             query: String,
             headers: HeaderMap,
             upgrade: Option<OnUpgrade>,
             body,
             shared: (Arc<Server>, Activity, IpAddr)| async move {
                let (server, activity, peer) = shared;
                let _busy = activity.busy();
                let client = Client::at(server.api.proxies.client(peer, &headers));
                let origin = server.origin(peer, &headers);
                let (path, query) = (path.as_str().to_owned(), Query::parse(&query));
                let request = ApiRequest { method, path, query, headers, activity, client, origin, upgrade };
                server.answer(request, body).await
            },
        )
}

struct ApiRequest {
    method: Method,
    path: String,
    query: Query,
    headers: HeaderMap,
    /// The connection by which the request came.
    activity: Activity,
    /// Who asks, perhaps through a proxy.
    client: Client,
    /// The beginning of this server's absolute addresses, as the client sees it.
    origin: String,
    /// The connection, for a request that turns it into a socket.
    upgrade: Option<OnUpgrade>,
}

impl Server {
    /// Where the client believes to be: the scheme, and the host that it names. A name that is none is replaced.
    fn origin(&self, peer: IpAddr, headers: &HeaderMap) -> String {
        let is_of_a_host = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':' | '[' | ']');
        let named = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let named = named.filter(|host| !host.is_empty() && host.chars().all(is_of_a_host));
        let scheme = if self.api.proxies.is_https(peer, headers) { "https" } else { "http" };
        format!("{scheme}://{}", named.map_or_else(|| self.bound.to_string(), str::to_owned))
    }

    async fn answer<S, B, E>(&self, request: ApiRequest, body: S) -> Response
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let mut response = match guard::check_host(self.bound.ip(), &self.api.names, &request.headers) {
            Ok(()) => self.dispatch(&request, body).await.unwrap_or_else(|error| failure(&error)),
            Err(error) => failure(&error),
        };
        guard::secure(response.headers_mut());
        response
    }

    async fn dispatch<S, B, E>(&self, request: &ApiRequest, body: S) -> Result<Response, ApiError>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let reads = request.method == Method::GET || request.method == Method::HEAD;
        let path = request.path.as_str();
        if path == compat::SOCKET && reads {
            return self.socket(request);
        }
        if !path.starts_with("/api/") && path != "/api" {
            return match (reads, self.api.page) {
                (false, _) => Err(ApiError::method_not_allowed()),
                (true, true) => self.page(request).await,
                (true, false) => Err(ApiError::no_page()),
            };
        }
        let route = Route::parse(&request.method, path);
        // A writing request without the token gets no word about its path.
        if route.as_ref().map_or(!reads, Route::needs_token) {
            guard::check_token(self.api.token.as_deref().unwrap_or_default(), &request.headers)?;
        }
        match route {
            None if reads => self.compat(request).await,
            None => Err(ApiError::method_not_allowed()),
            Some(Route::Events) => self.stream(request).await,
            Some(Route::CompactGraph(task)) => self.compact_graph(task, request).await,
            Some(Route::Graph(task)) if compact::is_accepted(&request.headers) => {
                self.compact_graph(task, request).await
            }
            Some(route) if route.reads() => self.read(route, request).await,
            Some(route) => self.write(&route, request, body).await,
        }
    }

    /// The page for an address, with the head of the object that it shows, or a document for other programs.
    async fn page(&self, request: &ApiRequest) -> Result<Response, ApiError> {
        let path = request.path.as_str();
        if let Some(shared) = Shared::parse(path) {
            return self.shared(shared, request).await;
        }
        let Some((kind, id)) = page::object_of(path) else { return Ok(page::answer(path, &request.headers)) };
        let (view, kind) = (self.api.view.clone(), kind.to_owned());
        let head = self.blocking(move || Ok(view.head(&kind, &id).ok())).await?;
        if let Some(head) = head.as_ref().filter(|head| head.path != path) {
            let query = if request.query.is_empty() { String::new() } else { format!("?{}", request.query) };
            return Ok(page::redirect(&format!("{}{query}", head.path)));
        }
        // The page itself says why there is nothing: it asks the API.
        Ok(page::about(head.as_ref(), &request.origin))
    }

    /// A picture, a badge or a feed.
    async fn shared(&self, shared: Shared, request: &ApiRequest) -> Result<Response, ApiError> {
        let (view, query, origin) = (self.api.view.clone(), request.query.clone(), request.origin.clone());
        let document = self.blocking(move || sharing::answer(&view, &shared, &query, &origin)).await?;
        let packed = document.gzip.filter(|_| encoding::is_accepted(&request.headers));
        let etag = if packed.is_some() { etag::in_gzip(&document.etag) } else { document.etag };
        let mut response = if etag::is_known(&etag, request.headers.get(header::IF_NONE_MATCH)) {
            etag::not_modified()
        } else {
            let is_packed = packed.is_some();
            let mut response = Response::new(self.bodies.send(request.client, packed.unwrap_or(document.body))?.into());
            if is_packed {
                encoding::mark(response.headers_mut());
            }
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(document.content_type));
            response
        };
        encoding::vary(response.headers_mut());
        etag::set(&mut response, &etag, "no-cache");
        Ok(response)
    }

    /// An answer under a path of the reference's API.
    async fn compat(&self, request: &ApiRequest) -> Result<Response, ApiError> {
        let route = compat::Route::parse(&request.path).ok_or_else(|| ApiError::unknown_route(&request.path))?;
        // One after the other: an answer may have thousands of records.
        let _turn = self.compat.acquire().await.map_err(|_| ApiError::unavailable("the node is stopping"))?;
        let live = self.live().await;
        let (view, query) = (self.api.view.clone(), request.query.clone());
        self.send(request, move || compat::answer(&view, &live, &route, &query)).await
    }

    /// The reference's stream of new records.
    fn socket(&self, request: &ApiRequest) -> Result<Response, ApiError> {
        let node = self.api.node.as_ref().ok_or_else(|| ApiError::unavailable("no node is running here"))?;
        let share = self.streams.take(request.client, 1);
        let share = share.ok_or_else(|| ApiError::unavailable("too many event streams are open already"))?;
        let upgrade = request.upgrade.clone();
        let feed = compat::socket::Feed {
            view: self.api.view.clone(),
            changes: node.events.subscribe(),
            shutdown: self.api.shutdown.clone(),
            held: (share, request.activity.busy()),
        };
        compat::socket::open(&request.headers, upgrade, feed)
    }

    async fn live(&self) -> Live {
        match &self.api.node {
            Some(node) => node.now().await,
            None => Live::offline(self.api.pinned),
        }
    }

    /// Runs work that reads the store on a blocking thread. The work holds a permit until it ends: a client that
    /// disconnects does not cancel it.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
    ) -> Result<T, ApiError> {
        let permit = self.reads.clone().acquire_owned().await;
        let permit = permit.map_err(|_| ApiError::unavailable("the node is stopping"))?;
        let work = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work()
        });
        work.await.map_err(|_| ApiError::thread_ended())?
    }

    /// Answers with what `read` returns, compressed on the same thread where the client takes that.
    async fn send(
        &self,
        request: &ApiRequest,
        read: impl FnOnce() -> Result<Content, ApiError> + Send + 'static,
    ) -> Result<Response, ApiError> {
        let gzip = encoding::is_accepted(&request.headers);
        let (content, packed) = self
            .blocking(move || {
                let content = read()?;
                let packed = if gzip { encoding::gzip(&content.body) } else { None };
                Ok((content, packed))
            })
            .await?;
        let is_packed = packed.is_some();
        let body = self.bodies.send(request.client, packed.unwrap_or(content.body))?;
        let mut response = uncached(content.content_type, Response::new(body.into()));
        if is_packed {
            encoding::mark(response.headers_mut());
        }
        encoding::vary(response.headers_mut());
        Ok(response)
    }

    async fn compact_graph(&self, task: String, request: &ApiRequest) -> Result<Response, ApiError> {
        let permits =
            compact::Permits { reads: &self.reads, graphs: &self.graphs, bodies: &self.bodies, client: request.client };
        let since = request.query.get("since");
        compact::answer(self.api.view.clone(), permits, task, since, &request.headers).await
    }

    async fn write<S, B, E>(&self, route: &Route, request: &ApiRequest, body: S) -> Result<Response, ApiError>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let node = self.api.node.as_ref().ok_or_else(|| ApiError::unavailable("no node is running here"))?;
        if *route == Route::Upkeep {
            let (job, store) = (write::read_json(body).await?, self.api.view.store().clone());
            let lines = self.upkeep.start(job, store, self.api.shutdown.clone())?;
            return Ok(uncached("application/x-ndjson", warp::reply::stream(lines).into_response()));
        }
        let answer = write::answer(&self.api.view, node, route, &request.query, body).await?;
        Ok(respond("application/json", answer))
    }

    async fn read(&self, route: Route, request: &ApiRequest) -> Result<Response, ApiError> {
        let live = if read::needs_live(&route) { self.live().await } else { Live::offline(self.api.pinned) };
        let (view, query) = (self.api.view.clone(), request.query.clone());
        let is_artifact = matches!(route, Route::Artifact(_));
        let mut response = self.send(request, move || read::answer(&view, &live, &route, &query)).await?;
        if is_artifact {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
            // The name of an artifact is the hash of its bytes.
            response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(FOREVER));
        }
        Ok(response)
    }

    async fn stream(&self, request: &ApiRequest) -> Result<Response, ApiError> {
        let task = match request.query.get("task") {
            Some(text) => {
                let (view, text) = (self.api.view.clone(), text.to_owned());
                let found = tokio::task::spawn_blocking(move || view.resolve_task(&text)).await;
                Some(found.map_err(|_| ApiError::thread_ended())??)
            }
            None => None,
        };
        // A browser sends the header when it opens the same stream again, and a page that opens a new one the parameter.
        let header = request.headers.get("last-event-id").and_then(|value| value.to_str().ok());
        let last_seen = header.or_else(|| request.query.get("after")).and_then(|text| text.parse().ok());
        let subscription = Subscription {
            view: self.api.view.clone(),
            node: self.api.node.clone(),
            task,
            last_seen,
            shutdown: self.api.shutdown.clone(),
        };
        // A stream is busy between its events too: the page behind it shows what happens.
        let busy = request.activity.busy();
        let stream = events::open(subscription, &self.streams, request.client)?.map(move |event| {
            let _ = &busy;
            event
        });
        Ok(warp::sse::reply(stream).into_response())
    }
}

fn respond(content_type: &'static str, body: Vec<u8>) -> Response {
    uncached(content_type, Response::new(body.into()))
}

/// An answer that no client may keep.
fn uncached(content_type: &'static str, mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn failure(error: &ApiError) -> Response {
    let body = serde_json::to_vec(&error.problem()).unwrap_or_default();
    let mut response = respond("application/json", body);
    *response.status_mut() = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(seconds) = error.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}
