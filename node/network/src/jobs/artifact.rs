//! Fetching an artifact by its hash: in chunks, from one peer after the other, into the store, which checks the hash
//! before it keeps the file.

use std::time::{Duration, Instant};

use libp2p::PeerId;
use spore_base::fetch::FetchError;
use spore_protocol::{Cid, Reject};
use spore_storage::{ArtifactWriter, StoreError};

use super::{JobContext, read};
use crate::{
    limits::{CHUNK_BYTES, FETCH_TIME, LEAST_RATE, RATE_GRACE},
    messages::{ArtifactAnswer, ArtifactRequest},
};

/// Why one peer could not give an artifact.
enum ArtifactFailure {
    /// The peer does not have it, or stopped answering.
    Absent,
    /// The peer sent something else than it was asked for.
    Bad(Reject),
    /// The peer gives less than [`LEAST_RATE`].
    Slow,
    /// The time for the artifact from all peers is over.
    Late,
    /// The artifact has this many bytes.
    TooLarge(u64),
    /// The store failed, so asking others would not help.
    Store(String),
}

/// The time that an artifact has, from all peers together: [`FETCH_TIME`], and what the largest size that a peer named
/// takes at [`LEAST_RATE`].
#[derive(Debug)]
struct FetchTime {
    began: Instant,
    size: u64,
}

impl FetchTime {
    const fn new(began: Instant) -> Self {
        Self { began, size: 0 }
    }

    fn learn_size(&mut self, size: u64) {
        self.size = self.size.max(size);
    }

    fn ends(&self) -> Instant {
        self.began + FETCH_TIME + Duration::from_secs(self.size / LEAST_RATE)
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, ArtifactFailure>>) -> Result<T, ArtifactFailure> {
        tokio::time::timeout_at(self.ends().into(), work).await.unwrap_or(Err(ArtifactFailure::Late))
    }
}

/// Whether a peer that gave so many bytes in this time is asked for no more.
const fn is_slow(received: u64, time: Duration) -> bool {
    time.as_secs() > RATE_GRACE.as_secs() && received < LEAST_RATE.saturating_mul(time.as_secs())
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
    let mut time = FetchTime::new(Instant::now());
    for peer in peers {
        match from(context, peer, cid, limit, &mut time).await {
            Ok(bytes) => {
                tracing::info!(%cid, %peer, bytes, "fetched an artifact");
                return Ok(());
            }
            Err(ArtifactFailure::Absent) => {}
            Err(ArtifactFailure::Slow) => tracing::info!(%cid, %peer, "a peer gives an artifact too slowly"),
            Err(ArtifactFailure::Late) => {
                tracing::info!(%cid, "an artifact does not come in time");
                break;
            }
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
async fn from(
    context: &JobContext,
    peer: PeerId,
    cid: Cid,
    limit: u64,
    time: &mut FetchTime,
) -> Result<u64, ArtifactFailure> {
    let began = Instant::now();
    let (total, first) = time.within(chunk(context, peer, cid, 0)).await?;
    if total > limit {
        return Err(ArtifactFailure::TooLarge(total));
    }
    time.learn_size(total);
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
        if is_slow(received, began.elapsed()) {
            return Err(ArtifactFailure::Slow);
        }
        let (again, next) = time.within(chunk(context, peer, cid, received)).await?;
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
    fn slow_peer_is_left_after_its_grace() {
        let mib = 1024 * 1024;
        assert!(!is_slow(mib, RATE_GRACE), "one chunk over the slowest line");
        // A MiB in 25 s, as long as each chunk comes before its request has failed.
        let chunks = (1..1024).take_while(|n| !is_slow(n * mib, Duration::from_secs(25 * n))).count();
        assert_eq!(chunks, 1);
        assert!((1..1024).all(|n| !is_slow(n * mib, Duration::from_secs(4 * n))), "the least rate");
    }

    #[tokio::test]
    async fn whole_fetch_has_a_deadline_by_the_size_that_peers_name() {
        let now = Instant::now();
        let mut time = FetchTime::new(now);
        assert_eq!(time.ends(), now + FETCH_TIME);
        time.learn_size(100 * LEAST_RATE);
        time.learn_size(LEAST_RATE);
        assert_eq!(time.ends(), now + FETCH_TIME + Duration::from_secs(100));
        let over = FetchTime::new(now.checked_sub(FETCH_TIME).unwrap());
        let waiting = over.within(std::future::pending::<Result<(), _>>()).await;
        assert!(matches!(waiting, Err(ArtifactFailure::Late)));
    }

    #[test]
    fn every_chunk_but_the_last_is_full() {
        let full = CHUNK_BYTES as u64;
        let total = 2 * full + 5;
        assert_eq!([0, full, 2 * full, total].map(|received| chunk_size(total, received)), [full, full, 5, 0]);
        assert_eq!(chunk_size(0, 0), 0);
    }
}
