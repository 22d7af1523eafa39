//! The HTTP API and the explorer's page, served by warp.
//!
//! A request is guarded ([`guard`]), then read ([`read`]), streamed ([`events`], [`compact`]) or written
//! ([`write`]); the store is looked after in [`upkeep`]; everything else is the page's ([`page`]). What the
//! store holds is converted in [`view`] alone, which commands without a node use as well, and listed page by
//! page ([`paging`], [`listings`]).
//!
//! Never here: rules about what is valid or best, and signing.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing))]

pub mod activity;
mod compact;
pub mod dto;
pub mod events;
mod graph;
mod guard;
mod listings;
pub mod live;
pub mod openapi;
pub mod page;
pub mod paging;
pub mod ports;
pub mod problem;
pub mod query;
pub mod read;
mod resolve;
pub mod route;
#[cfg(test)]
mod tests;
pub mod upkeep;
pub mod view;
pub mod write;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::Stream;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
};
use warp::{
    Buf, Filter,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reply::{Reply, Response},
};

use self::{
    events::Reader,
    live::{Live, LiveNode},
    problem::ApiError,
    query::Query,
    route::Route,
    upkeep::Upkeep,
    view::View,
};

/// Reading requests answered at once; more wait. Each takes a blocking thread, and readers must
/// not take all of those that `ingest` needs.
const MAX_READS: usize = 32;
/// How long open connections may go on after shutdown.
const LINGER: Duration = Duration::from_secs(2);

/// What the server needs. Shared by all requests.
pub struct Api {
    pub view: View,
    /// None for an explorer without a node.
    pub node: Option<LiveNode>,
    /// The configured task, for an explorer without a node.
    pub pinned: Option<spore_protocol::TaskId>,
    /// What writing requests must bear; with none nothing can be written.
    pub token: Option<String>,
    /// Serves the page too, not the API alone.
    pub page: bool,
    pub shutdown: watch::Receiver<bool>,
}

struct Shared {
    api: Api,
    bound: SocketAddr,
    readers: Arc<Semaphore>,
    reads: Arc<Semaphore>,
    graphs: Arc<Semaphore>,
    upkeep: Upkeep,
}

/// Serves until shutdown. `listener` is bound already, so that a busy port is the caller's error.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(api: Api, listener: TcpListener) -> std::io::Result<()> {
    let mut shutdown = api.shutdown.clone();
    let bound = listener.local_addr()?;
    let shared = Arc::new(Shared {
        api,
        bound,
        readers: Arc::new(Semaphore::new(events::MAX_READERS)),
        reads: Arc::new(Semaphore::new(MAX_READS)),
        graphs: Arc::new(Semaphore::new(compact::MAX_SENT)),
        upkeep: Upkeep::default(),
    });
    let query = warp::query::raw().or(warp::any().map(String::new)).unify();
    let requests = warp::method()
        .and(warp::path::full())
        .and(query)
        .and(warp::header::headers_cloned())
        .and(warp::body::stream())
        .and(warp::any().map(move || shared.clone()))
        .then(
            |method: Method, path: FullPath, query: String, headers: HeaderMap, body, shared: Arc<Shared>| async move {
                let request = Request { method, path: path.as_str().to_owned(), query: Query::parse(&query), headers };
                shared.answer(request, body).await
            },
        );
    let mut ending = shutdown.clone();
    let stop = async move {
        let _ = shutdown.wait_for(|stop| *stop).await;
    };
    let overdue = async move {
        let _ = ending.wait_for(|stop| *stop).await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = warp::serve(requests).incoming(listener).graceful(stop).run() => {}
        () = overdue => {}
    }
    Ok(())
}

struct Request {
    method: Method,
    path: String,
    query: Query,
    headers: HeaderMap,
}

impl Shared {
    async fn answer<S, B, E>(&self, request: Request, body: S) -> Response
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let mut response = match guard::check_host(self.bound.ip(), &request.headers) {
            Ok(()) => self.route(&request, body).await.unwrap_or_else(|error| refuse(&error)),
            Err(error) => refuse(&error),
        };
        guard::secure(response.headers_mut());
        response
    }

    async fn route<S, B, E>(&self, request: &Request, body: S) -> Result<Response, ApiError>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let reads = request.method == Method::GET || request.method == Method::HEAD;
        let path = request.path.as_str();
        if !path.starts_with("/api/") {
            return match (reads, self.api.page) {
                (false, _) => Err(ApiError::method_not_allowed()),
                (true, true) => Ok(page::answer(path, &request.headers)),
                (true, false) => {
                    Err(ApiError::not_found("this node serves its API only").hint("start it without --no-web"))
                }
            };
        }
        let route = Route::parse(&request.method, path);
        // A request to write is refused before anything is said of its path.
        if route.as_ref().map_or(!reads, Route::needs_token) {
            guard::check_token(self.api.token.as_deref().unwrap_or_default(), &request.headers)?;
        }
        match route {
            None if reads => Err(ApiError::unknown_route(path)),
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

    async fn compact_graph(&self, task: String, request: &Request) -> Result<Response, ApiError> {
        let permits = compact::Permits { reads: &self.reads, graphs: &self.graphs };
        let since = request.query.get("since");
        compact::answer(self.api.view.clone(), permits, task, since, &request.headers).await
    }

    async fn write<S, B, E>(&self, route: &Route, request: &Request, body: S) -> Result<Response, ApiError>
    where
        S: Stream<Item = Result<B, E>>,
        B: Buf,
    {
        let node = self.api.node.as_ref().ok_or_else(|| ApiError::unavailable("no node is running here"))?;
        if *route == Route::Upkeep {
            let (job, store) = (write::read_json(body).await?, self.api.view.store().clone());
            let lines = self.upkeep.start(job, store, self.api.shutdown.clone())?;
            return Ok(ndjson(warp::reply::stream(lines).into_response()));
        }
        let answer = write::take(&self.api.view, node, route, &request.query, body).await?;
        Ok(respond("application/json", answer))
    }

    async fn read(&self, route: Route, request: &Request) -> Result<Response, ApiError> {
        let turn = self.reads.clone().acquire_owned().await;
        let turn = turn.map_err(|_| ApiError::unavailable("the node is shutting down"))?;
        let live = match &self.api.node {
            Some(node) if read::needs_live(&route) => node.now().await,
            _ => Live::offline(self.api.pinned),
        };
        let (view, query) = (self.api.view.clone(), request.query.clone());
        let answer = tokio::task::spawn_blocking(move || {
            // It goes with the work, which does not end when the reader goes away.
            let _turn = turn;
            read::answer(&view, &live, &route, &query)
        });
        let answer = answer.await;
        let answer = answer.map_err(|_| ApiError::internal("the store's thread ended early"))??;
        let mut response = respond(answer.content_type, answer.body.as_ref().clone());
        if answer.content_type == compact::BINARY {
            response.headers_mut().insert(header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment"));
        }
        Ok(response)
    }

    async fn stream(&self, request: &Request) -> Result<Response, ApiError> {
        let task = match request.query.get("task") {
            Some(text) => {
                let (view, text) = (self.api.view.clone(), text.to_owned());
                let found = tokio::task::spawn_blocking(move || view.resolve_task(&text)).await;
                Some(found.map_err(|_| ApiError::internal("the store's thread ended early"))??)
            }
            None => None,
        };
        let last_seen = request
            .headers
            .get("last-event-id")
            .and_then(|value| value.to_str().ok())
            .and_then(|text| text.parse().ok());
        let reader = Reader {
            view: self.api.view.clone(),
            node: self.api.node.clone(),
            task,
            last_seen,
            shutdown: self.api.shutdown.clone(),
        };
        Ok(warp::sse::reply(events::open(reader, &self.readers)?).into_response())
    }
}

fn respond(content_type: &'static str, body: Vec<u8>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn ndjson(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn refuse(error: &ApiError) -> Response {
    let body = serde_json::to_vec(&error.problem()).unwrap_or_default();
    let mut response = respond("application/json", body);
    *response.status_mut() = StatusCode::from_u16(error.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response
}
