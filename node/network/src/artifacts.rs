//! Fetching an artifact by its address: in pieces, from one peer after the other, into the store,
//! which checks the hash before anybody sees the file.

use libp2p::PeerId;
use spore_base::fetch::FetchError;
use spore_protocol::{Cid, Reject};
use spore_storage::{ArtifactWriter, StoreError};

use super::{
    limits::CHUNK_BYTES,
    messages::{ArtifactAnswer, ArtifactRequest},
    work::Context,
};

/// Why one peer could not give it.
enum Failure {
    /// It has none, or stopped answering.
    Absent,
    /// What it sent is not what was asked for.
    Bad(Reject),
    TooLarge(u64),
    /// No use asking others.
    Store(String),
}

/// Fetches an artifact of at most `limit` bytes from the first of these peers that has it.
///
/// # Errors
/// [`FetchError`] when none has it, it is too large, or the store refuses it.
pub async fn fetch(context: &Context, cid: Cid, limit: u64, peers: Vec<PeerId>) -> Result<(), FetchError> {
    let mut error = FetchError::NotFound(cid);
    for peer in peers {
        match from(context, peer, cid, limit).await {
            Ok(bytes) => {
                tracing::info!(%cid, %peer, bytes, "artifact fetched");
                return Ok(());
            }
            Err(Failure::Absent) => {}
            Err(Failure::TooLarge(size)) => error = FetchError::TooLarge { cid, size, limit },
            Err(Failure::Bad(reject)) => {
                tracing::warn!(%cid, %peer, %reject, "bad artifact");
                context.penalise(peer, reject).await;
            }
            Err(Failure::Store(reason)) => return Err(FetchError::Store { cid, reason: reason.into() }),
        }
    }
    Err(error)
}

/// Fetches it from one peer; its size in bytes.
async fn from(context: &Context, peer: PeerId, cid: Cid, limit: u64) -> Result<u64, Failure> {
    let (total, first) = chunk(context, peer, cid, 0).await?;
    if total > limit {
        return Err(Failure::TooLarge(total));
    }
    let store = context.store.clone();
    let mut writer = blocking(move || store.begin_artifact(cid, limit)).await?;
    let (mut had, mut piece) = (0, first);
    loop {
        if piece.len() as u64 != due(total, had) {
            return Err(Failure::Bad(Reject::Malformed("a piece of an artifact of the wrong size".into())));
        }
        had += piece.len() as u64;
        writer = append(writer, piece).await?;
        if had == total {
            break;
        }
        let (again, next) = chunk(context, peer, cid, had).await?;
        if again != total {
            return Err(Failure::Bad(Reject::Malformed("an artifact whose size changes".into())));
        }
        piece = next;
    }
    blocking(move || writer.finish()).await?;
    Ok(total)
}

/// The bytes of the next piece: all but the last are full. Smaller ones would let a peer hold a
/// fetch, of which few run at once, for as long as it likes.
fn due(total: u64, had: u64) -> u64 {
    total.saturating_sub(had).min(CHUNK_BYTES as u64)
}

async fn append(mut writer: ArtifactWriter, piece: Vec<u8>) -> Result<ArtifactWriter, Failure> {
    blocking(move || {
        writer.append(&piece)?;
        Ok(writer)
    })
    .await
}

async fn chunk(context: &Context, peer: PeerId, cid: Cid, offset: u64) -> Result<(u64, Vec<u8>), Failure> {
    match context.ask_artifact(peer, ArtifactRequest { cid, offset }).await {
        Ok(ArtifactAnswer::Chunk { total, bytes }) if bytes.0.len() <= CHUNK_BYTES => Ok((total, bytes.0)),
        Ok(ArtifactAnswer::Chunk { .. }) => Err(Failure::Bad(Reject::Malformed("a piece that is too large".into()))),
        Ok(ArtifactAnswer::Absent) | Err(_) => Err(Failure::Absent),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error @ StoreError::HashMismatch { .. })) => {
            Err(Failure::Bad(Reject::IdMismatch { actual: error.to_string() }))
        }
        Ok(Err(error)) => Err(Failure::Store(error.to_string())),
        Err(_) => Err(Failure::Store("the node is shutting down".into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_piece_but_the_last_is_full() {
        let full = CHUNK_BYTES as u64;
        let total = 2 * full + 5;
        assert_eq!([0, full, 2 * full, total].map(|had| due(total, had)), [full, full, 5, 0]);
        assert_eq!(due(0, 0), 0);
    }
}
