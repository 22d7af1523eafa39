//! The writing half of the API: requests that change this node, for holders of its token.
//!
//! Signed objects go through the ingest service like all others. New tasks are the only objects signed here. A command
//! without a node calls [`submit`] on an ingest service of its own.

use std::str::FromStr;

use futures::{Stream, StreamExt, pin_mut};
use libp2p_identity::PeerId;
use spore_base::peer::{PEER_ADDRESSES, Peer};
use spore_ingest::{Deferral, Disposition, IngestFailure, IngestHandle, Origin};
use spore_protocol::{Cid, SignedObject};
use spore_storage::Store;
use warp::Buf;

use super::{
    dto,
    live::LiveNode,
    ports::KnownPeer,
    problem::ApiError,
    query::Query,
    route::Route,
    upkeep::{self, shapes::PinOutcome},
    view::StoreView,
};

/// Most bytes of a JSON body: far above any object that a person writes.
const MAX_JSON: u64 = 1 << 20;
/// Most bytes of an artifact that a request stores: room for a large corpus, not for a disk that is filled by mistake.
pub const MAX_ARTIFACT: u64 = 4 << 30;

/// Answers a writing request with JSON.
///
/// # Errors
/// What is wrong with the request, or with the node. 405 for a route that does not write.
pub async fn answer<S, B, E>(
    view: &StoreView,
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
        Route::StoreArtifact => json(&store_artifact(view.store(), query, body).await?),
        Route::UseTask => json(&use_task(view, node, read_json(body).await?).await?),
        Route::AddPeer => json(&add_peer(node, read_json(body).await?).await?),
        Route::RemovePeer(peer) => json(&remove_peer(node, peer).await?),
        Route::AddPin(cid) => json(&set_pin(view.store(), cid, true).await?),
        Route::RemovePin(cid) => json(&set_pin(view.store(), cid, false).await?),
        _ => Err(ApiError::method_not_allowed()),
    }
}

fn json<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|e| ApiError::internal(e.to_string()))
}

/// Hands a signed object to the ingest service as an object of this node.
///
/// # Errors
/// 400 when the object is not valid, 409 when the operator blocks it, 429 when there is no room for it now, 503 when the store cannot take it now.
pub async fn submit(ingest: &IngestHandle, object: SignedObject) -> Result<dto::SubmittedObject, ApiError> {
    let (kind, id) = (object.kind().name().to_owned(), object.id().to_string());
    let outcome = match ingest.submit(Origin::Local, object).await {
        Ok(Disposition::Accepted) => "accepted",
        Ok(Disposition::Known) => "known",
        Ok(Disposition::Pending) => "pending",
        Ok(Disposition::Rejected(reject)) => return Err(ApiError::bad_request(reject.to_string())),
        Ok(Disposition::Later(deferral)) => return Err(later(deferral)),
        Ok(Disposition::Failed(IngestFailure::Store(error))) => return Err(error.into()),
        Ok(Disposition::Failed(failure)) => return Err(ApiError::unavailable(failure.to_string())),
        Err(closed) => return Err(ApiError::unavailable(closed.to_string())),
    };
    Ok(dto::SubmittedObject { kind, id, outcome: outcome.into() })
}

/// The node has no room for the object now, or its operator does not want it.
fn later(deferral: Deferral) -> ApiError {
    match deferral.retry_after() {
        Some(seconds) => ApiError::later(deferral.to_string(), seconds),
        None => ApiError::conflict(deferral.to_string()),
    }
}

async fn create_task(view: &StoreView, node: &LiveNode, draft: dto::NewTask) -> Result<dto::TaskSummary, ApiError> {
    let (task, view) = (node.tasks.create(draft).await?.to_string(), view.clone());
    blocking(move || view.task(&task)).await
}

/// Writes the body into the store while it arrives. The bytes must hash to the `cid` of the query.
async fn store_artifact<S, B, E>(store: &Store, query: &Query, body: S) -> Result<dto::StoredArtifact, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let cid: Cid = query
        .get("cid")
        .and_then(|cid| cid.parse().ok())
        .ok_or_else(|| ApiError::bad_request("`cid` must be the SHA-256 of the bytes, 64 lower-case hex digits"))?;
    let store = store.clone();
    let mut writer = blocking(move || Ok(store.begin_artifact(cid, MAX_ARTIFACT)?)).await?;
    let mut size = 0u64;
    pin_mut!(body);
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| broken_off())?;
        let bytes = chunk.copy_to_bytes(chunk.remaining());
        size += bytes.len() as u64;
        writer = blocking(move || {
            writer.append(&bytes)?;
            Ok(writer)
        })
        .await?;
    }
    blocking(move || Ok(writer.finish().map(|_| ())?)).await?;
    Ok(dto::StoredArtifact { cid: cid.to_string(), size })
}

/// Pins a task, or without one follows the default task again, until the node stops.
async fn use_task(view: &StoreView, node: &LiveNode, wish: dto::UseTask) -> Result<dto::UseTask, ApiError> {
    let task = match wish.task {
        Some(given) => {
            let view = view.clone();
            Some(blocking(move || view.resolve_task(&given)).await?)
        }
        None => None,
    };
    if let Some(task) = task {
        node.networks.follow(task).await?;
    }
    node.pinned.send_replace(task);
    Ok(dto::UseTask { task: task.map(|task| task.to_string()) })
}

async fn add_peer(node: &LiveNode, wish: dto::NewPeer) -> Result<dto::NewPeer, ApiError> {
    let no_address = || ApiError::bad_request(format!("{:.200} is no peer address", wish.address)).hint(PEER_ADDRESSES);
    let peer: Peer = wish.address.parse().map_err(|_| no_address())?;
    node.networks.connect(peer).await?;
    Ok(wish)
}

/// Disconnects a peer. Returns the peer as the node names it.
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

async fn set_pin(store: &Store, cid: &str, pinned: bool) -> Result<PinOutcome, ApiError> {
    let (store, cid) = (store.clone(), cid.to_owned());
    blocking(move || upkeep::pin(&store, &cid, pinned)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| ApiError::thread_ended())?
}

fn broken_off() -> ApiError {
    ApiError::bad_request("the request broke off")
}

/// Reads a body of at most [`MAX_JSON`] bytes.
async fn read_all<S, B, E>(body: S) -> Result<Vec<u8>, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    let mut bytes = Vec::new();
    pin_mut!(body);
    while let Some(chunk) = body.next().await {
        let mut chunk = chunk.map_err(|_| broken_off())?;
        if bytes.len() as u64 + chunk.remaining() as u64 > MAX_JSON {
            return Err(ApiError::too_large(MAX_JSON));
        }
        bytes.extend_from_slice(&chunk.copy_to_bytes(chunk.remaining()));
    }
    Ok(bytes)
}

/// Reads a JSON body of at most [`MAX_JSON`] bytes.
///
/// # Errors
/// 400 for a body that is not the expected JSON, 413 for a larger one.
pub(super) async fn read_json<T, S, B, E>(body: S) -> Result<T, ApiError>
where
    T: serde::de::DeserializeOwned,
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    serde_json::from_slice(&read_all(body).await?).map_err(|e| ApiError::bad_request(e.to_string()))
}

#[cfg(test)]
mod tests {
    use spore_ingest::QuotaName;

    use super::*;

    #[test]
    fn object_without_room_is_answered_with_the_time_to_come_again() {
        let error = later(Deferral::Quota(QuotaName::Unknown));
        assert_eq!((error.status(), error.retry_after), (429, Some(60)));
        let error = later(Deferral::Blocked);
        assert_eq!((error.status(), error.retry_after), (409, None));
    }
}
