//! Fetching objects by id from one peer and handing them to `ingest`.

use std::collections::HashSet;

use futures::future::join_all;
use libp2p::PeerId;
use spore_ingest::{Disposition, Origin};
use spore_protocol::{Kind, ObjectId, Reject, SignedObject, wire};

use super::{
    exchange::Lost,
    limits::OBJECTS_ANSWER_BYTES,
    messages::{ObjectsAnswer, ObjectsRequest},
    work::{Context, read},
};

/// What one request for objects brought.
#[derive(Debug, Default)]
pub struct Fetched {
    /// What became of each object that came.
    pub came: Vec<(ObjectId, Disposition)>,
    /// The peer does not have them.
    pub absent: Vec<ObjectId>,
    /// Did not fit the answer.
    pub left: Vec<ObjectId>,
}

/// Asks a peer for objects and submits what comes, in the order of the answer. Whatever is wrong
/// with it costs the peer points.
///
/// # Errors
/// [`Lost`] when no answer came, or the node cannot take objects now.
pub async fn objects(
    context: &Context,
    peer: PeerId,
    kind: Kind,
    ids: Vec<ObjectId>,
    origin: Origin,
) -> Result<Fetched, Lost> {
    let request = ObjectsRequest { kind: kind.code(), ids: ids.clone() };
    let answer = context.ask_objects(peer, request).await?;
    let asked: HashSet<ObjectId> = ids.iter().copied().collect();
    let decoded = tokio::task::spawn_blocking(move || decode(&answer, kind, &asked)).await.map_err(|_| Lost)?;
    let Decoded { objects, absent, bad } = decoded;
    if let Some(reject) = bad {
        context.penalise(peer, reject).await;
    }
    let answered: HashSet<ObjectId> = objects.iter().map(SignedObject::id).chain(absent.iter().copied()).collect();
    let submitted = objects.into_iter().map(|object| {
        let id = object.id();
        let ingest = &context.ingest;
        async move { ingest.submit(origin, object).await.map(|disposition| (id, disposition)) }
    });
    // Polled in order at first, and the inbox is fair: parents keep their place before children.
    let (mut came, mut failed) = (Vec::new(), 0);
    for result in join_all(submitted).await {
        let (id, disposition) = result.map_err(|_| Lost)?;
        match &disposition {
            Disposition::Rejected(reject) => context.penalise(peer, reject.clone()).await,
            Disposition::Failed(reason) => {
                tracing::warn!(%reason, "cannot store what catch-up brought");
                failed += 1;
            }
            _ => {}
        }
        came.push((id, disposition));
    }
    // Where a damaged part of the store keeps some out, the others still come.
    if failed > 0 && failed == came.len() {
        return Err(Lost);
    }
    let left = ids.into_iter().filter(|id| !answered.contains(id)).collect();
    Ok(Fetched { came, absent, left })
}

struct Decoded {
    objects: Vec<SignedObject>,
    absent: Vec<ObjectId>,
    bad: Option<Reject>,
}

/// Reads an answer up to the first thing wrong with it.
fn decode(answer: &ObjectsAnswer, kind: Kind, asked: &HashSet<ObjectId>) -> Decoded {
    let absent = answer.absent.iter().copied().filter(|id| asked.contains(id)).collect();
    let mut objects: Vec<SignedObject> = Vec::new();
    let mut bad = None;
    for bytes in &answer.objects {
        match wire::decode_object(&bytes.0, OBJECTS_ANSWER_BYTES) {
            Ok(object) if object.kind() == kind && asked.contains(&object.id()) && objects.len() < asked.len() => {
                objects.push(object);
            }
            Ok(_) => {
                bad = Some(Reject::Malformed("an object that was not asked for".into()));
                break;
            }
            Err(reject) => {
                bad = Some(reject);
                break;
            }
        }
    }
    Decoded { objects, absent, bad }
}

/// Of these ids, the ones that the store neither has nor holds back.
pub async fn not_had(context: &Context, kind: Kind, ids: Vec<ObjectId>) -> Vec<ObjectId> {
    let store = context.store.clone();
    let missing = read(move || {
        let mut missing = Vec::new();
        for id in ids {
            if !store.contains(kind, &id)? && !store.is_pending(&id.into())? {
                missing.push(id);
            }
        }
        Ok::<_, spore_storage::StoreError>(missing)
    });
    missing.await.unwrap_or_default()
}
