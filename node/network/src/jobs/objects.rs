//! Fetching objects by id from one peer and handing them to `ingest`.

use std::collections::HashSet;

use futures::future::join_all;
use libp2p::PeerId;
use spore_ingest::{Disposition, Origin, Source};
use spore_protocol::{Kind, ObjectId, Reject, SignedObject, wire};

use super::{JobContext, read};
use crate::{
    exchange::NoAnswer,
    limits::OBJECTS_ANSWER_BYTES,
    messages::{ObjectsAnswer, ObjectsRequest},
};

/// What one request for objects brought.
#[derive(Debug, Default)]
pub struct FetchedObjects {
    /// The disposition of each object that came.
    pub came: Vec<(ObjectId, Disposition)>,
    /// Objects that the peer does not have.
    pub absent: Vec<ObjectId>,
    /// Objects that did not fit the answer.
    pub left: Vec<ObjectId>,
}

/// Asks a peer for objects and submits them to `ingest`, in the order of the answer. Each fault of the answer costs
/// the peer points.
///
/// # Errors
/// [`NoAnswer`] when no answer came, or the node cannot take objects now.
pub async fn fetch(
    context: &JobContext,
    peer: PeerId,
    kind: Kind,
    ids: Vec<ObjectId>,
    origin: Origin,
) -> Result<FetchedObjects, NoAnswer> {
    let request = ObjectsRequest { kind: kind.code(), ids: ids.clone() };
    let answer = context.ask_objects(peer, request).await?;
    let asked: HashSet<ObjectId> = ids.iter().copied().collect();
    let decoded = tokio::task::spawn_blocking(move || decode(&answer, kind, &asked)).await.map_err(|_| NoAnswer)?;
    let DecodedAnswer { objects, absent, fault } = decoded;
    if let Some(reject) = fault {
        context.penalise(peer, reject).await;
    }
    let answered: HashSet<ObjectId> = objects.iter().map(SignedObject::id).chain(absent.iter().copied()).collect();
    let submitted = objects.into_iter().map(|object| {
        let id = object.id();
        let ingest = &context.ingest;
        async move { ingest.submit(origin, object).await.map(|disposition| (id, disposition)) }
    });
    // The first poll goes in order and the inbox is fair: parents keep their place before children.
    let (mut came, mut failed) = (Vec::new(), 0);
    for result in join_all(submitted).await {
        let (id, disposition) = result.map_err(|_| NoAnswer)?;
        match &disposition {
            Disposition::Rejected(reject) => context.penalise(peer, reject.clone()).await,
            Disposition::Failed(reason) => {
                tracing::warn!(%peer, %reason, "cannot store a fetched object");
                failed += 1;
            }
            _ => {}
        }
        came.push((id, disposition));
    }
    // A damaged part of the store keeps some objects out. The others still come.
    if failed > 0 && failed == came.len() {
        return Err(NoAnswer);
    }
    let left = ids.into_iter().filter(|id| !answered.contains(id)).collect();
    Ok(FetchedObjects { came, absent, left })
}

struct DecodedAnswer {
    objects: Vec<SignedObject>,
    absent: Vec<ObjectId>,
    fault: Option<Reject>,
}

/// Reads an answer up to its first fault.
fn decode(answer: &ObjectsAnswer, kind: Kind, asked: &HashSet<ObjectId>) -> DecodedAnswer {
    let absent = answer.absent.iter().copied().filter(|id| asked.contains(id)).collect();
    let mut objects: Vec<SignedObject> = Vec::new();
    let mut fault = None;
    for bytes in &answer.objects {
        match wire::decode_object(bytes, OBJECTS_ANSWER_BYTES) {
            Ok(object) if object.kind() == kind && asked.contains(&object.id()) && objects.len() < asked.len() => {
                objects.push(object);
            }
            Ok(_) => {
                fault = Some(Reject::Malformed("an object that was not asked for".into()));
                break;
            }
            Err(reject) => {
                fault = Some(reject);
                break;
            }
        }
    }
    DecodedAnswer { objects, absent, fault }
}

/// The objects of a list that the store neither has nor holds as pending, and that were not refused from this peer a moment
/// ago.
pub async fn missing(context: &JobContext, peer: PeerId, kind: Kind, ids: Vec<ObjectId>) -> Vec<ObjectId> {
    let (store, ingest) = (context.store.clone(), context.ingest.clone());
    let missing = read(move || {
        let mut missing = Vec::new();
        for id in ids {
            if !ingest.was_refused(kind, id, Source::Peer(peer))
                && !store.contains(kind, &id)?
                && !store.is_pending(&id.into())?
            {
                missing.push(id);
            }
        }
        Ok::<_, spore_storage::StoreError>(missing)
    });
    missing.await.unwrap_or_default()
}
