//! Answers to other peers: plain reads of the store, on blocking threads.

use spore_base::clock::Clock;
use spore_protocol::{Kind, SignedObject, TaskId, cbor::ByteBuf, wire};
use spore_storage::{Span, Store, StoreError};

use crate::{
    limits::{CHUNK_BYTES, MAX_TASKS, OBJECTS_BYTES, OBJECTS_PER_REQUEST},
    messages::{ArtifactAnswer, ArtifactRequest, ObjectsAnswer, ObjectsRequest, SyncAnswer, SyncRequest},
    reconcile::{BadMessage, CompareError, Comparison},
};

/// Answers a catch-up request.
///
/// # Errors
/// [`CompareError::Bad`] is the peer's fault.
pub fn sync(store: &Store, clock: &Clock, request: &SyncRequest) -> Result<SyncAnswer, CompareError> {
    Ok(match request {
        SyncRequest::Tasks => SyncAnswer::Tasks(known_tasks(store)?),
        SyncRequest::TasksAfter(after) => SyncAnswer::Tasks(store.task_ids_after(after, MAX_TASKS)?),
        SyncRequest::Reconcile { scope, message } => {
            let set = Comparison::new(store.sync_set(scope.stored())?);
            SyncAnswer::Reconcile(ByteBuf::from(set.answer(message)?))
        }
        SyncRequest::News => SyncAnswer::Heard,
        SyncRequest::Time => SyncAnswer::Time(clock()),
    })
}

/// The tasks that the store holds anything of, the most active first, at most [`MAX_TASKS`].
///
/// # Errors
/// When the store cannot be read.
pub fn known_tasks(store: &Store) -> Result<Vec<TaskId>, StoreError> {
    let tasks = store.active_tasks(&Span::first(MAX_TASKS))?;
    Ok(tasks.items.into_iter().map(|task| task.task_id).collect())
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
