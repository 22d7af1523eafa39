//! The writing half of the API: what changes this node, for whoever holds its token.
//!
//! Signed objects go through `ingest` like all others. New tasks are the only thing signed here.
//! Commands without a node call [`submit`] and [`create_task`] on an `ingest` of their own.

use std::str::FromStr;

use futures::{Stream, StreamExt, pin_mut};
use libp2p::PeerId;
use spore_protocol::{Cid, Identity, SignedObject};
use spore_storage::Store;
use warp::Buf;

use super::{
    dto,
    live::LiveNode,
    problem::ApiError,
    read::{Query, decode},
    upkeep::{self, shapes::PinOutcome},
    view::View,
};
use crate::{
    bridge::ConnectError,
    ingest::{Disposition, IngestHandle, Origin},
    peer::{PEER_ADDRESSES, Peer},
};

/// Bytes of a JSON body: far above any object that a person makes.
const MAX_JSON: u64 = 1 << 20;
/// Bytes of an artifact handed in: room for a large corpus, not for a disk filled by mistake.
pub const MAX_ARTIFACT: u64 = 4 << 30;
/// Where pins are; an address follows.
const PINS: &str = "/upkeep/pins/";

/// Takes a writing request. `path` begins after the API's root.
///
/// # Errors
/// What is wrong with it, or with the node.
pub async fn take<S, B, E>(
    view: &View,
    node: &LiveNode,
    method: &str,
    path: &str,
    query: &Query,
    body: S,
) -> Result<Vec<u8>, ApiError>
where
    S: Stream<Item = Result<B, E>>,
    B: Buf,
{
    match (method, path) {
        ("POST", "/objects") => {
            let object = SignedObject::from_json(&read_all(body).await?, None)
                .map_err(|e| ApiError::bad_request(e.to_string()))?;
            json(&submit(&node.ingest, object).await?)
        }
        ("POST", "/tasks") => {
            let task = create_task(view.store(), &node.ingest, &node.identity, read_json(body).await?).await?;
            let view = view.clone();
            json(&blocking(move || view.task(&task)).await?)
        }
        ("POST", "/artifacts") => json(&store_artifact(view, query, body).await?),
        ("POST", "/task/use") => json(&use_task(view, node, &read_json(body).await?).await?),
        ("POST", "/peers") => json(&add_peer(node, &read_json(body).await?).await?),
        ("POST", path) if path.starts_with(PINS) => json(&add_pin(view, path).await?),
        ("DELETE", path) if path.starts_with(PINS) => json(&remove_pin(view, path).await?),
        ("DELETE", path) if path.starts_with("/peers/") => json(&remove_peer(node, path).await?),
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
#[utoipa::path(post, path = "/api/v1/objects", request_body(content = String, content_type = "application/json", description = "a signed object with id and signature"),
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

/// Makes, signs and publishes a task. Gives its id.
///
/// # Errors
/// 400 for a script that cannot be used and for what the trainer cannot do.
#[utoipa::path(post, path = "/api/v1/tasks", request_body = dto::NewTask, security(("token" = [])),
    responses((status = 200, body = dto::TaskSummary), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
#[cfg(feature = "trainer")]
pub async fn create_task(
    store: &Store,
    ingest: &IngestHandle,
    identity: &Identity,
    new: dto::NewTask,
) -> Result<String, ApiError> {
    use crate::research::create::{CreateError, TaskDraft, create_task};
    let bad = |e: String| ApiError::bad_request(e);
    let dataset = new.dataset.map(|cid| cid.parse().map_err(|_| bad(format!("{cid:.80} is no CID")))).transpose()?;
    let draft = TaskDraft {
        name: new.name,
        description: new.description,
        task_type: new.task_type,
        artifact_type: new.artifact_type.into(),
        metric: new.metric,
        goal: new.goal.parse().map_err(bad)?,
        base: new.base,
        dataset,
        time_budget: new.time_budget,
    };
    let created = create_task(store, ingest, identity, draft, crate::runtime::unix_now()).await;
    created.map(|manifest| manifest.id().to_string()).map_err(|error| match error {
        CreateError::Store(error) => error.into(),
        CreateError::Publish(reason) => ApiError::unavailable(reason),
        CreateError::Dataset(_) => {
            ApiError::not_found(error.to_string()).hint("`spore data add FILE` adds one and prints its CID")
        }
        CreateError::DatasetSize { .. } => ApiError::bad_request(error.to_string())
            .hint("take another dataset; less training time needs a smaller one"),
        other => ApiError::bad_request(other.to_string()),
    })
}

/// Without the trainer a base script cannot be checked.
///
/// # Errors
/// Always.
#[utoipa::path(post, path = "/api/v1/tasks", request_body = dto::NewTask, security(("token" = [])),
    responses((status = 200, body = dto::TaskSummary), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
#[cfg(not(feature = "trainer"))]
pub async fn create_task(
    _store: &Store,
    _ingest: &IngestHandle,
    _identity: &Identity,
    _new: dto::NewTask,
) -> Result<String, ApiError> {
    Err(ApiError::unavailable("this program was built without the trainer, which checks a base script")
        .hint("make the task with a program that has it"))
}

/// Stores an artifact; its bytes must hash to `cid`.
#[utoipa::path(post, path = "/api/v1/artifacts", params(("cid" = String, Query, description = "SHA-256 of the bytes, lower-case hex")),
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
#[utoipa::path(post, path = "/api/v1/task/use", request_body = dto::UseTask, security(("token" = [])),
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
        node.network.follow(task).await.map_err(|e| ApiError::unavailable(e.to_string()))?;
    }
    node.pinned.send_replace(task);
    Ok(dto::UseTask { task: task.map(|task| task.to_string()) })
}

/// Connects to a peer. One of the existing network is dialled again, whenever it is not connected, until
/// the node ends or the peer is deleted.
#[utoipa::path(post, path = "/api/v1/peers", request_body = dto::PeerAddress, security(("token" = [])),
    responses((status = 200, body = dto::PeerAddress), (status = 400, body = dto::Problem), (status = 409, body = dto::Problem), (status = 503, body = dto::Problem)))]
async fn add_peer(node: &LiveNode, wish: &dto::PeerAddress) -> Result<dto::PeerAddress, ApiError> {
    let peer = wish
        .address
        .parse()
        .map_err(|_| ApiError::bad_request(format!("{:.200} is no peer address", wish.address)).hint(PEER_ADDRESSES))?;
    let told = |why: &str| format!("could not connect to {}: {why}", wish.address);
    match peer {
        Peer::Legacy(address) => node.bridge.connect(address).await.map_err(|error| match error {
            ConnectError::Own | ConnectError::TooMany(_) | ConnectError::Disconnected => {
                ApiError::conflict(told(&error.to_string()))
            }
            ConnectError::Unreachable(_) | ConnectError::Closed => ApiError::unavailable(told(&error.to_string())),
        })?,
        Peer::Libp2p(address) => {
            node.network.dial(address).await.map_err(|e| ApiError::unavailable(told(innermost(&e))))?;
        }
    }
    Ok(wish.clone())
}

/// The last cause of those that libp2p strings together, layer by layer and line by line.
fn innermost(text: &str) -> &str {
    let text = text.trim_end();
    // So ends its list of the addresses that were tried.
    let text = text.strip_suffix(")]").unwrap_or(text);
    let causes = text.split('\n').flat_map(|line| line.split(": ")).map(str::trim);
    causes.filter(|cause| !cause.is_empty()).last().unwrap_or(text)
}

/// Closes the connections to a peer. One of the existing network is dialled no more until the node
/// starts again.
#[utoipa::path(delete, path = "/api/v1/peers/{peer}", params(("peer" = String, Path, description = "libp2p's peer id, or host:port of a peer of the existing network")), security(("token" = [])),
    responses((status = 200, body = String), (status = 400, body = dto::Problem), (status = 404, body = dto::Problem)))]
async fn remove_peer(node: &LiveNode, path: &str) -> Result<String, ApiError> {
    let text = decode(path.trim_start_matches("/peers/"));
    if let Ok(Peer::Legacy(address)) = text.parse() {
        return match node.bridge.disconnect(&address).await {
            true => Ok(address.to_string()),
            false => Err(ApiError::not_found(format!("{address} is neither connected nor dialled"))),
        };
    }
    let peer = PeerId::from_str(&text)
        .map_err(|_| ApiError::bad_request(format!("{text:.80} is neither a peer id nor host:port")))?;
    node.network.disconnect(peer).await.map_err(|e| ApiError::unavailable(e.to_string()))?;
    Ok(peer.to_string())
}

/// Keeps an artifact from every collection, whether it is here or not.
#[utoipa::path(post, path = "/api/v1/upkeep/pins/{cid}", params(("cid" = String, Path)), security(("token" = [])),
    responses((status = 200, body = PinOutcome), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
async fn add_pin(view: &View, path: &str) -> Result<PinOutcome, ApiError> {
    set_pin(view, path, true).await
}

/// Takes a pin back.
#[utoipa::path(delete, path = "/api/v1/upkeep/pins/{cid}", params(("cid" = String, Path)), security(("token" = [])),
    responses((status = 200, body = PinOutcome), (status = 400, body = dto::Problem), (status = 401, body = dto::Problem)))]
async fn remove_pin(view: &View, path: &str) -> Result<PinOutcome, ApiError> {
    set_pin(view, path, false).await
}

async fn set_pin(view: &View, path: &str, pinned: bool) -> Result<PinOutcome, ApiError> {
    let (store, cid) = (view.store().clone(), decode(path.trim_start_matches(PINS)));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_failed_dial_the_innermost_cause_is_told() {
        let refused = "Failed to negotiate transport protocol(s): [(/ip4/127.0.0.1/tcp/1: : Other\n - x: Connection refused (os error 111): Connection refused (os error 111))]";
        assert_eq!(innermost(refused), "Connection refused (os error 111)");
        assert_eq!(innermost("Dial error: no addresses for peer."), "no addresses for peer.");
        assert_eq!(innermost(""), "");
    }
}
