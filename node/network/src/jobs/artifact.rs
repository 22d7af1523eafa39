//! Fetching an artifact by its hash: in chunks, from one peer after the other, into the store, which checks the hash
//! before it keeps the file.

use libp2p::PeerId;
use spore_base::fetch::FetchError;
use spore_protocol::{Cid, Reject};
use spore_storage::{ArtifactWriter, StoreError};

use super::{JobContext, read};
use crate::{
    limits::CHUNK_BYTES,
    messages::{ArtifactAnswer, ArtifactRequest},
};

/// Why one peer could not give an artifact.
enum ArtifactFailure {
    /// The peer does not have it, or stopped answering.
    Absent,
    /// The peer sent something else than it was asked for.
    Bad(Reject),
    /// The artifact has this many bytes.
    TooLarge(u64),
    /// The store failed, so asking others would not help.
    Store(String),
}

/// Brings an artifact of at most `limit` bytes into the store, from the first of these peers that has it.
///
/// # Errors
/// [`FetchError`] when no peer has the artifact, it is too large, or the store refuses it.
pub async fn fetch(context: &JobContext, cid: Cid, limit: u64, peers: Vec<PeerId>) -> Result<(), FetchError> {
    let store = context.store.clone();
    if read(move || store.artifact_size(&cid)).await.flatten().is_some() {
        return Ok(());
    }
    let mut error = FetchError::NotFound(cid);
    for peer in peers {
        match from(context, peer, cid, limit).await {
            Ok(bytes) => {
                tracing::info!(%cid, %peer, bytes, "fetched an artifact");
                return Ok(());
            }
            Err(ArtifactFailure::Absent) => {}
            Err(ArtifactFailure::TooLarge(size)) => error = FetchError::TooLarge { cid, size, limit },
            Err(ArtifactFailure::Bad(reject)) => {
                tracing::warn!(%cid, %peer, %reject, "a peer sent a bad artifact");
                context.penalise(peer, reject).await;
            }
            Err(ArtifactFailure::Store(reason)) => return Err(FetchError::Store { cid, reason: reason.into() }),
        }
    }
    Err(error)
}

/// Fetches an artifact from one peer. Returns its size in bytes.
async fn from(context: &JobContext, peer: PeerId, cid: Cid, limit: u64) -> Result<u64, ArtifactFailure> {
    let (total, first) = chunk(context, peer, cid, 0).await?;
    if total > limit {
        return Err(ArtifactFailure::TooLarge(total));
    }
    let store = context.store.clone();
    let mut writer = blocking(move || store.begin_artifact(cid, limit)).await?;
    let (mut received, mut bytes) = (0, first);
    loop {
        if bytes.len() as u64 != chunk_size(total, received) {
            return Err(malformed("a chunk of the wrong size"));
        }
        received += bytes.len() as u64;
        writer = append(writer, bytes).await?;
        if received == total {
            break;
        }
        let (again, next) = chunk(context, peer, cid, received).await?;
        if again != total {
            return Err(malformed("an artifact whose size changes"));
        }
        bytes = next;
    }
    blocking(move || writer.finish()).await?;
    Ok(total)
}

/// The bytes of the next chunk. All chunks but the last are full: smaller ones would let a peer hold one of the few
/// fetches that run at once for as long as it likes.
fn chunk_size(total: u64, received: u64) -> u64 {
    total.saturating_sub(received).min(CHUNK_BYTES as u64)
}

fn malformed(what: &str) -> ArtifactFailure {
    ArtifactFailure::Bad(Reject::Malformed(what.to_owned()))
}

async fn append(mut writer: ArtifactWriter, bytes: Vec<u8>) -> Result<ArtifactWriter, ArtifactFailure> {
    blocking(move || {
        writer.append(&bytes)?;
        Ok(writer)
    })
    .await
}

/// The artifact's size in bytes, and its chunk at `offset`.
async fn chunk(context: &JobContext, peer: PeerId, cid: Cid, offset: u64) -> Result<(u64, Vec<u8>), ArtifactFailure> {
    match context.ask_artifact(peer, ArtifactRequest { cid, offset }).await {
        Ok(ArtifactAnswer::Chunk { total, bytes }) if bytes.len() <= CHUNK_BYTES => Ok((total, bytes.into_vec())),
        Ok(ArtifactAnswer::Chunk { .. }) => Err(malformed("a chunk that is too large")),
        Ok(ArtifactAnswer::Absent) | Err(_) => Err(ArtifactFailure::Absent),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ArtifactFailure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ StoreError::HashMismatch { .. })) => {
            Err(ArtifactFailure::Bad(Reject::IdMismatch { actual: error.to_string() }))
        }
        Ok(Err(error)) => Err(ArtifactFailure::Store(error.to_string())),
        Err(_) => Err(ArtifactFailure::Store("the node is shutting down".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chunk_but_the_last_is_full() {
        let full = CHUNK_BYTES as u64;
        let total = 2 * full + 5;
        assert_eq!([0, full, 2 * full, total].map(|received| chunk_size(total, received)), [full, full, 5, 0]);
        assert_eq!(chunk_size(0, 0), 0);
    }
}
