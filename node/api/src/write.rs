//! The writing half of the API: what changes this node, for whoever holds its token.
//!
//! Signed objects go through `ingest` like all others. New tasks are the only thing signed here.
//! Commands without a node call [`submit`] on an ingest service of their own.

use std::str::FromStr;

use futures::{Stream, StreamExt, pin_mut};
use libp2p_identity::PeerId;
use spore_base::peer::{PEER_ADDRESSES, Peer};
use spore_ingest::{Disposition, IngestHandle, Origin};
use spore_protocol::{Cid, SignedObject};
use warp::Buf;

use super::{
    dto,
    live::LiveNode,
    ports::KnownPeer,
    problem::ApiError,
    query::Query,
    route::{ID, Route},
    upkeep::{self, shapes::PinOutcome},
    view::View,
};

/// Bytes of a JSON body: far above any object that a person makes.
const MAX_JSON: u64 = 1 << 20;
/// Bytes of an artifact handed in: room for a large corpus, not for a disk filled by mistake.
pub const MAX_ARTIFACT: u64 = 4 << 30;

/// Answers a writing request.
///
/// # Errors
/// What is wrong with it, or with the node.
pub async fn take<S, B, E>(
    view: &View,
    node: &LiveNode,
    route: &Route,
    query: &Query,
    body: S,
) -> Result<Vec<u8>, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    match route {
        Route::SubmitObject => {
            let object = SignedObject::from_json(&read_all(body).await?, None)
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
            json(&submit(&node.ingest, object).await?)
        }
        Route::CreateTask => json(&create_task(view, node, read_json(body).await?).await?),
        Route::StoreArtifact => json(&store_artifact(view, query, body).await?),
        Route::UseTask => json(&use_task(view, node, &read_json(body).await?).await?),
        Route::AddPeer => json(&add_peer(node, &read_json(body).await?).await?),
        Route::RemovePeer(peer) => json(&remove_peer(node, peer).await?),
        Route::AddPin(cid) => json(&add_pin(view, cid).await?),
        Route::RemovePin(cid) => json(&remove_pin(view, cid).await?),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|e| ApiError::internal(e.to_string()))
}

/// Hands a signed object to `ingest`, as if it had been made here.
///
/// # Errors
/// 400 when it is not valid, 503 when it cannot be stored now.
#[utoipa::path(post, path = Route::SubmitObject.template(), request_body(content = String, content_type = "application/json", description = "a signed object with id and signature"),
    security(("token" = [])), responses((status = 200, body = dto::Submitted), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
pub async fn submit(ingest: &IngestHandle, object: SignedObject) -> Result<dto::Submitted, ApiError> {
    let (kind, id) = (object.kind().name().to_owned(), object.id().to_string());
    let outcome = match ingest.submit(Origin::Local, object).await {
        Ok(Disposition::Accepted) => "accepted",
        Ok(Disposition::Known) => "known",
        Ok(Disposition::Pending) => "pending",
        Ok(Disposition::Rejected(reject)) => return Err(ApiError::bad_request(reject.to_string())),
        Ok(Disposition::Failed(reason)) => return Err(ApiError::unavailable(reason.to_string())),
        Err(closed) => return Err(ApiError::unavailable(closed.to_string())),
    };
    Ok(dto::Submitted { kind, id, outcome: outcome.into() })
}

/// Makes, signs and publishes a task.
#[utoipa::path(post, path = Route::CreateTask.template(), request_body = dto::NewTask, security(("token" = [])),
    responses((status = 200, body = dto::TaskSummary), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
async fn create_task(view: &View, node: &LiveNode, draft: dto::NewTask) -> Result<dto::TaskSummary, ApiError> {
    let (task, view) = (node.tasks.create(draft).await?.to_string(), view.clone());
    blocking(move || view.task(&task)).await
}

/// Stores an artifact; its bytes must hash to `cid`.
#[utoipa::path(post, path = Route::StoreArtifact.template(), params(("cid" = String, Query, description = "SHA-256 of the bytes, lower-case hex")),
    request_body(content = String, content_type = "application/octet-stream"), security(("token" = [])),
    responses((status = 200, body = dto::Stored), (status = 400, body = dto::Problem), (status = 413, body = dto::Problem)))]
async fn store_artifact<S, B, E>(view: &View, query: &Query, body: S) -> Result<dto::Stored, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let cid: Cid = query
        .get("cid")
        .and_then(|cid| cid.parse().ok())
        .ok_or_else(|| ApiError::bad_request("`cid` must be the SHA-256 of the bytes, in hex"))?;
    let mut writer = blocking({
        let store = view.store().clone();
        move || Ok(store.begin_artifact(cid, MAX_ARTIFACT)?)
    })
    .await?;
    let mut size = 0u64;
    pin_mut!(body);
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| ApiError::bad_request("the request broke off"))?;
        let bytes = chunk.copy_to_bytes(chunk.remaining());
        size += bytes.len() as u64;
        writer = blocking(move || {
            writer.append(&bytes)?;
            Ok(writer)
        })
        .await?;
    }
    blocking(move || Ok(writer.finish().map(|_| ())?)).await?;
    Ok(dto::Stored { cid: cid.to_string(), size })
}

/// Pins a task, or with no task follows the most active one again. Until the node ends; the
/// configuration says what the next one does.
#[utoipa::path(post, path = Route::UseTask.template(), request_body = dto::UseTask, security(("token" = [])),
    responses((status = 200, body = dto::UseTask), (status = 404, body = dto::Problem)))]
async fn use_task(view: &View, node: &LiveNode, wish: &dto::UseTask) -> Result<dto::UseTask, ApiError> {
    let task = match wish.task.clone() {
        Some(text) => {
            let view = view.clone();
            Some(blocking(move || view.resolve_task(&text)).await?)
        }
        None => None,
    };
    if let Some(task) = task {
        node.networks.follow(task).await?;
    }
    node.pinned.send_replace(task);
    Ok(dto::UseTask { task: task.map(|task| task.to_string()) })
}

/// Connects to a peer. One of the existing network is dialled again, whenever it is not connected, until
/// the node ends or the peer is deleted.
#[utoipa::path(post, path = Route::AddPeer.template(), request_body = dto::PeerAddress, security(("token" = [])),
    responses((status = 200, body = dto::PeerAddress), (status = 400, body = dto::Problem), (status = 409, body = dto::Problem), (status = 503, body = dto::Problem)))]
async fn add_peer(node: &LiveNode, wish: &dto::PeerAddress) -> Result<dto::PeerAddress, ApiError> {
    let peer: Peer = wish
        .address
        .parse()
        .map_err(|_| ApiError::bad_request(format!("{:.200} is no peer address", wish.address)).hint(PEER_ADDRESSES))?;
    node.networks.connect(peer).await?;
    Ok(wish.clone())
}

/// Closes the connections to a peer. One of the existing network is dialled no more until the node
/// starts again.
#[utoipa::path(delete, path = Route::RemovePeer(ID).template(), params(("peer" = String, Path, description = "libp2p's peer id, or host:port of a peer of the existing network")), security(("token" = [])),
    responses((status = 200, body = String), (status = 400, body = dto::Problem), (status = 404, body = dto::Problem)))]
async fn remove_peer(node: &LiveNode, text: &str) -> Result<String, ApiError> {
    let peer = match text.parse() {
        Ok(Peer::Legacy(address)) => KnownPeer::Legacy(address),
        _ => KnownPeer::Libp2p(
            PeerId::from_str(text)
                .map_err(|_| ApiError::bad_request(format!("{text:.80} is neither a peer id nor host:port")))?,
        ),
    };
    let name = match &peer {
        KnownPeer::Legacy(address) => address.to_string(),
        KnownPeer::Libp2p(peer) => peer.to_string(),
    };
    node.networks.disconnect(peer).await?;
    Ok(name)
}

/// Keeps an artifact from every collection, whether it is here or not.
#[utoipa::path(post, path = Route::AddPin(ID).template(), params(("cid" = String, Path)), security(("token" = [])),
    responses((status = 200, body = PinOutcome), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
async fn add_pin(view: &View, cid: &str) -> Result<PinOutcome, ApiError> {
    set_pin(view, cid, true).await
}

/// Takes a pin back.
#[utoipa::path(delete, path = Route::RemovePin(ID).template(), params(("cid" = String, Path)), security(("token" = [])),
    responses((status = 200, body = PinOutcome), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
async fn remove_pin(view: &View, cid: &str) -> Result<PinOutcome, ApiError> {
    set_pin(view, cid, false).await
}

async fn set_pin(view: &View, cid: &str, pinned: bool) -> Result<PinOutcome, ApiError> {
    let (store, cid) = (view.store().clone(), cid.to_owned());
    blocking(move || upkeep::pin(&store, &cid, pinned)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::internal("the store's thread ended early"))?
}

async fn read_all<S, B, E>(body: S) -> Result<Vec<u8>, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut bytes = Vec::new();
    pin_mut!(body);
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| ApiError::bad_request("the request broke off"))?;
        if bytes.len() as u64 + chunk.remaining() as u64 > MAX_JSON {
            return Err(ApiError::too_large(MAX_JSON));
        }
        bytes.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    Ok(bytes)
}

pub(super) async fn read_json<T, S, B, E>(body: S) -> Result<T, ApiError>
where
    T: serde::de::DeserializeOwned,
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    serde_json::from_slice(&read_all(body).await?).map_err(|e| ApiError::bad_request(e.to_string()))
}
