//! Answers to other peers: plain reads of the store, run on blocking threads.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use spore_protocol::{Kind, SignedObject, cbor::Bytes, wire};
use spore_storage::{Store, StoreError};

use super::{
    limits::{CHUNK_BYTES, ITEMS_AGE, ITEMS_CACHED, MAX_TASKS, OBJECTS_BYTES, OBJECTS_PER_REQUEST},
    messages::{ArtifactAnswer, ArtifactRequest, ObjectsAnswer, ObjectsRequest, Scope, SyncAnswer, SyncRequest},
    sync::{BadMessage, Items},
};

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Bad(#[from] BadMessage),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The sorted ids of each scope, kept while the store does not change, or a little longer.
#[derive(Default)]
pub struct Scopes {
    kept: Mutex<HashMap<Scope, Kept>>,
}

struct Kept {
    items: Arc<Items>,
    sequence: u64,
    made: Instant,
}

impl Scopes {
    /// The scope's ids, at most [`ITEMS_AGE`] behind the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn items(&self, store: &Store, scope: Scope) -> Result<Arc<Items>, ServeError> {
        let sequence = store.sequence();
        let fresh = |kept: &Kept| kept.sequence == sequence || kept.made.elapsed() < ITEMS_AGE;
        if let Some(kept) = self.lock().get(&scope).filter(|kept| fresh(kept)) {
            return Ok(Arc::clone(&kept.items));
        }
        let items = Arc::new(Items::new(store.sync_items(scope.stored())?)?);
        let mut kept = self.lock();
        kept.insert(scope, Kept { items: Arc::clone(&items), sequence, made: Instant::now() });
        while kept.len() > 1 && kept.values().map(|one| one.items.len() + 64).sum::<usize>() > ITEMS_CACHED {
            let oldest = kept.iter().filter(|(other, _)| **other != scope).min_by_key(|(_, one)| one.made);
            let Some(oldest) = oldest.map(|(other, _)| *other) else { break };
            kept.remove(&oldest);
        }
        Ok(items)
    }

    /// Drops what is kept, so that whoever asks after hearing of news is answered with it.
    pub fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Scope, Kept>> {
        // Nothing under the lock leaves the table half changed.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers a catch-up request.
///
/// # Errors
/// [`ServeError::Bad`] is the peer's fault.
pub fn sync(store: &Store, scopes: &Scopes, request: &SyncRequest) -> Result<SyncAnswer, ServeError> {
    Ok(match request {
        SyncRequest::Tasks => SyncAnswer::Tasks(known_tasks(store)?),
        SyncRequest::Reconcile { scope, message } => {
            SyncAnswer::Reconcile(Bytes(scopes.items(store, *scope)?.answer(&message.0)?))
        }
        SyncRequest::News => SyncAnswer::Heard,
    })
}

/// The tasks that the store holds anything of, the most recently active first, at most [`MAX_TASKS`].
///
/// # Errors
/// When the store cannot be read.
pub fn known_tasks(store: &Store) -> Result<Vec<spore_protocol::TaskId>, StoreError> {
    let mut tasks = store.tasks()?;
    tasks.sort_by_key(|task| (std::cmp::Reverse(task.last_activity), task.task_id));
    Ok(tasks.into_iter().take(MAX_TASKS).map(|task| task.task_id).collect())
}

/// Answers a request for objects: as many as fit, in the order asked, parents before children.
///
/// # Errors
/// [`ServeError::Bad`] is the peer's fault.
pub fn objects(store: &Store, request: &ObjectsRequest) -> Result<ObjectsAnswer, ServeError> {
    let kind = Kind::from_code(request.kind).ok_or_else(|| BadMessage::new("unknown kind"))?;
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
    let objects = found.iter().filter_map(|object| wire::encode_object(object).ok()).map(Bytes).collect();
    Ok(ObjectsAnswer { objects, absent })
}

fn depth(object: &SignedObject) -> u64 {
    match object {
        SignedObject::Experiment(record) => record.depth,
        _ => 0,
    }
}

/// Answers a request for a piece of an artifact.
///
/// # Errors
/// When the store cannot be read.
pub fn artifact(store: &Store, request: &ArtifactRequest) -> Result<ArtifactAnswer, ServeError> {
    let Some(total) = store.artifact_size(&request.cid)? else { return Ok(ArtifactAnswer::Absent) };
    Ok(match store.read_artifact_range(&request.cid, request.offset, CHUNK_BYTES)? {
        Some(bytes) => ArtifactAnswer::Chunk { total, bytes: Bytes(bytes) },
        None => ArtifactAnswer::Absent,
    })
}
