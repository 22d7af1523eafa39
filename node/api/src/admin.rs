//! The endpoints for whoever operates the node: `/metrics` for Prometheus, `/livez` and `/readyz` for a supervisor.
//!
//! They have a listener of their own, which is not meant for the public: they need no token, they can change nothing, and
//! each answer costs a look at the whole node. `/livez` says that the node's network answers. `/readyz` says that the store
//! takes objects too.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use spore_storage::StoreStats;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    time::timeout,
};
use warp::{
    Filter, Rejection,
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    path::FullPath,
    reply::{Reply as _, Response},
};

use crate::{
    LINGER, connections, guard,
    live::{Live, LiveNode},
    metrics,
    proxies::Proxies,
    view::StoreView,
};

/// Most connections: some scrapers and supervisors.
const MAX_CONNECTIONS: usize = 32;
/// Answers that are made at once. More wait.
const MAX_ANSWERS: usize = 2;
/// Time for the node to say how it is. A node that takes longer does not live.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time for which the sizes of the store count. Measuring them reads the size of each artifact's file.
const STATS_AGE: Duration = Duration::from_secs(60);

/// What the endpoints need.
pub struct Admin {
    live: LiveNode,
    view: StoreView,
    shutdown: watch::Receiver<bool>,
    stats: Mutex<Option<(Instant, StoreStats)>>,
    answers: Semaphore,
}

impl Admin {
    pub fn new(live: LiveNode, view: StoreView, shutdown: watch::Receiver<bool>) -> Self {
        Self { live, view, shutdown, stats: Mutex::new(None), answers: Semaphore::new(MAX_ANSWERS) }
    }
}

/// Serves until shutdown.
///
/// # Errors
/// When the listener has no address.
pub async fn serve(admin: Admin, listener: TcpListener) -> std::io::Result<()> {
    let bound = listener.local_addr()?.ip();
    let proxies = Proxies::default();
    let (mut stopping, mut ending) = (admin.shutdown.clone(), admin.shutdown.clone());
    let admin = Arc::new(admin);
    let stop = async move {
        let _ = stopping.wait_for(|stop| *stop).await;
    };
    let overdue = async move {
        let _ = ending.wait_for(|stop| *stop).await;
        tokio::time::sleep(LINGER).await;
    };
    tokio::select! {
        () = connections::serve(listener, MAX_CONNECTIONS, &proxies, stop, |_, _| requests(admin.clone(), bound)) => {}
        () = overdue => {}
    }
    Ok(())
}

fn requests(
    admin: Arc<Admin>,
    bound: IpAddr,
) -> impl Filter<Extract = (Response,), Error = Rejection> + Clone + Send + Sync + 'static {
    // Nobody reads the body. A request that is refused for want of a length is refused here as by the API.
    let body = warp::body::stream();
    warp::method().and(warp::path::full()).and(warp::header::headers_cloned()).and(body).then(
        move |method: Method, path: FullPath, headers: HeaderMap, _body| {
            let admin = admin.clone();
            async move {
                let mut response = answer(&admin, bound, &method, path.as_str(), &headers).await;
                guard::secure(response.headers_mut());
                response
            }
        },
    )
}

async fn answer(admin: &Arc<Admin>, bound: IpAddr, method: &Method, path: &str, headers: &HeaderMap) -> Response {
    if guard::check_host(bound, &[], headers).is_err() {
        return text(StatusCode::MISDIRECTED_REQUEST, "this host name is not served");
    }
    if !matches!(*method, Method::GET | Method::HEAD) {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is served");
    }
    let Ok(_permit) = admin.answers.acquire().await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the node stops");
    };
    match path {
        "/livez" => match now(admin).await {
            Some(_) => text(StatusCode::OK, "ok"),
            None => text(StatusCode::SERVICE_UNAVAILABLE, "the network of the node does not answer"),
        },
        "/readyz" => match unready(admin, now(admin).await.as_ref()) {
            None => text(StatusCode::OK, "ok"),
            Some(why) => text(StatusCode::SERVICE_UNAVAILABLE, &why),
        },
        "/metrics" => scrape(admin).await,
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez and /readyz"),
    }
}

async fn now(admin: &Admin) -> Option<Live> {
    timeout(ANSWER_WITHIN, admin.live.now()).await.ok()
}

/// Why the node cannot serve others now.
fn unready(admin: &Admin, live: Option<&Live>) -> Option<String> {
    if *admin.shutdown.borrow() {
        return Some("the node stops".into());
    }
    let Some(live) = live else { return Some("the network of the node does not answer".into()) };
    live.problem.map(|_| live.activity.clone())
}

async fn scrape(admin: &Arc<Admin>) -> Response {
    let Some(live) = now(admin).await else {
        return text(StatusCode::SERVICE_UNAVAILABLE, "the network of the node does not answer");
    };
    let ready = unready(admin, Some(&live)).is_none();
    let admin = admin.clone();
    let encoded = tokio::task::spawn_blocking(move || {
        let status = admin.view.status(&live).ok()?;
        metrics::encode(&live, &status, stats(&admin).as_ref(), ready)
    });
    match encoded.await.ok().flatten() {
        Some(body) => {
            let mut response = body.into_response();
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
            response
        }
        None => text(StatusCode::INTERNAL_SERVER_ERROR, "the store cannot be read"),
    }
}

/// The sizes of the store, a minute old at most. None when they cannot be read.
fn stats(admin: &Admin) -> Option<StoreStats> {
    let mut kept = admin.stats.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, stats)) = kept.as_ref().filter(|(measured, _)| measured.elapsed() < STATS_AGE) {
        return Some(stats.clone());
    }
    let stats = admin.view.store().stats().ok()?;
    *kept = Some((Instant::now(), stats.clone()));
    Some(stats)
}

fn text(status: StatusCode, words: &str) -> Response {
    let mut response = warp::reply::with_status(format!("{words}\n"), status).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
