//! Answers to other peers: plain reads of the store, on blocking threads.

use spore_base::clock::Clock;
use spore_protocol::{Kind, SignedObject, TaskId, cbor::ByteBuf, wire};
use spore_storage::{Store, StoreError};

use super::shards::TaskShards;
use crate::{
    limits::{ACTIVE_TASKS, CHUNK_BYTES, MAX_TASKS, OBJECTS_BYTES, OBJECTS_PER_REQUEST},
    messages::{
        ArtifactAnswer, ArtifactRequest, ObjectsAnswer, ObjectsRequest, SyncAnswer, SyncRequest, encode_shards,
        encode_tasks,
    },
    reconcile::{BadMessage, CompareError, Comparison},
    state::KnownTask,
};

/// Answers a catch-up request.
///
/// # Errors
/// [`CompareError::Bad`] is the peer's fault.
pub fn sync(
    store: &Store,
    shards: &TaskShards,
    clock: &Clock,
    request: &SyncRequest,
) -> Result<SyncAnswer, CompareError> {
    Ok(match request {
        SyncRequest::Tasks => SyncAnswer::Tasks(active_tasks(store, ACTIVE_TASKS)?),
        SyncRequest::Shards => SyncAnswer::Shards(encode_shards(&shards.digests(store)?)),
        SyncRequest::TasksOf { shard, after } => {
            SyncAnswer::TasksOf(encode_tasks(&store.task_digests(*shard, *after, MAX_TASKS)?))
        }
        SyncRequest::Reconcile { scope, message } => {
            let set = Comparison::new(store.sync_set(scope.stored())?);
            SyncAnswer::Reconcile(ByteBuf::from(set.answer(message)?))
        }
        SyncRequest::News => SyncAnswer::Heard,
        SyncRequest::Time => SyncAnswer::Time(clock()),
        // Whom this node knows is not in the store: the network task answers that.
        SyncRequest::Peers => SyncAnswer::Peers(Vec::new()),
    })
}

/// Bytes of an answer, nearly.
pub fn sync_bytes(answer: &SyncAnswer) -> usize {
    match answer {
        SyncAnswer::Tasks(tasks) => 32 * tasks.len(),
        SyncAnswer::Shards(bytes) | SyncAnswer::TasksOf(bytes) | SyncAnswer::Reconcile(bytes) => bytes.len(),
        SyncAnswer::Peers(peers) => peers.iter().flat_map(|peer| &peer.addresses).map(|address| address.len()).sum(),
        SyncAnswer::Heard | SyncAnswer::Time(_) => 0,
    }
}

/// Bytes of an answer, nearly.
pub fn artifact_bytes(answer: &ArtifactAnswer) -> usize {
    match answer {
        ArtifactAnswer::Absent => 0,
        ArtifactAnswer::Chunk { bytes, .. } => bytes.len(),
    }
}

/// The most active tasks.
///
/// # Errors
/// When the store cannot be read.
pub fn active_tasks(store: &Store, limit: usize) -> Result<Vec<TaskId>, StoreError> {
    Ok(store.active_task_ids(limit)?.into_iter().map(|(task, _)| task).collect())
}

/// The tasks that gossip may follow: those whose manifest a trusted key signed, and the most active ones. To be kept:
/// the former, and those in which somebody has a result that holds here.
///
/// # Errors
/// When the store cannot be read.
pub fn tasks_to_follow(store: &Store) -> Result<Vec<KnownTask>, StoreError> {
    let trusted = store.trusted_tasks(&[])?;
    let active = store.active_task_ids(MAX_TASKS)?.into_iter().filter(|(task, _)| !trusted.contains(task));
    let mut tasks: Vec<_> = trusted.iter().map(|task| KnownTask { task: *task, kept: true }).collect();
    tasks.extend(active.map(|(task, confirmed)| KnownTask { task, kept: confirmed > 0 }));
    Ok(tasks)
}

/// Answers a request for objects: as many as fit, in the order of the request, then sorted so that parents come before
/// children.
///
/// # Errors
/// [`CompareError::Bad`] is the peer's fault.
pub fn objects(store: &Store, request: &ObjectsRequest) -> Result<ObjectsAnswer, CompareError> {
    let kind = Kind::from_code(request.kind).ok_or(BadMessage::new("unknown kind"))?;
    if request.ids.len() > OBJECTS_PER_REQUEST {
        return Err(BadMessage::new("too many ids").into());
    }
    let (mut found, mut absent, mut size) = (Vec::new(), Vec::new(), 0);
    for id in &request.ids {
        if size >= OBJECTS_BYTES {
            break;
        }
        match store.object(kind, id)? {
            Some(object) => {
                size += object.canonical().len();
                found.push(object);
            }
            None => absent.push(*id),
        }
    }
    found.sort_by_key(|object| (depth(object), object.timestamp()));
    let objects = found.iter().filter_map(|object| wire::encode_object(object).ok()).map(ByteBuf::from).collect();
    Ok(ObjectsAnswer { objects, absent })
}

fn depth(object: &SignedObject) -> u64 {
    match object {
        SignedObject::Experiment(record) => record.depth,
        _ => 0,
    }
}

/// Answers a request for one chunk of an artifact.
///
/// # Errors
/// When the store cannot be read.
pub fn artifact(store: &Store, request: &ArtifactRequest) -> Result<ArtifactAnswer, CompareError> {
    let Some(total) = store.artifact_size(&request.cid)? else { return Ok(ArtifactAnswer::Absent) };
    Ok(match store.read_artifact_range(&request.cid, request.offset, CHUNK_BYTES)? {
        Some(bytes) => ArtifactAnswer::Chunk { total, bytes: ByteBuf::from(bytes) },
        None => ArtifactAnswer::Absent,
    })
}
