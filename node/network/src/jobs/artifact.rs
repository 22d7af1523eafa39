//! Fetching an artifact by its hash: in chunks, from one peer after the other, into the store, which checks the hash
//! before it keeps the file.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use spore_base::fetch::FetchError;
use spore_protocol::{Cid, Reject};
use spore_storage::{ArtifactWriter, StoreError};

use super::{JobContext, read};
use crate::{
    limits::{CHUNK_BYTES, FETCH_LIARS, FETCH_TIME, LEAST_RATE, RATE_GRACE, SLOW_TIME, SLOWEST_RATE},
    messages::{ArtifactAnswer, ArtifactRequest},
};

/// Why one peer could not give an artifact.
enum ArtifactFailure {
    /// The peer does not have it, or stopped answering.
    Absent,
    /// The peer sent something else than it was asked for.
    Bad(Reject),
    /// The peer gives less than the least rate: so many bytes a second.
    Slow(u64),
    /// The time for the artifact from this peer is over.
    Late,
    /// The artifact has this many bytes.
    TooLarge(u64),
    /// The store failed, so asking others would not help.
    Store(String),
}

/// What a peer is asked for: an artifact of so many bytes at most, at this many bytes a second at least.
#[derive(Clone, Copy, Debug)]
struct Demand {
    cid: Cid,
    limit: u64,
    rate: u64,
}

/// The time that a peer has for an artifact: [`FETCH_TIME`], and what the size that it names takes at the least rate. The
/// time of another peer is another one, so that a liar does not use it up.
#[derive(Clone, Copy, Debug)]
struct FetchTime {
    began: Instant,
    size: u64,
    rate: u64,
    /// The time for all peers ends.
    over: Option<Instant>,
}

impl FetchTime {
    const fn new(began: Instant, rate: u64, over: Option<Instant>) -> Self {
        Self { began, size: 0, rate, over }
    }

    fn ends(&self) -> Instant {
        let allowed = FETCH_TIME + Duration::from_secs(self.size / self.rate.max(1));
        let ends = self.began + if self.rate < LEAST_RATE { allowed.min(SLOW_TIME) } else { allowed };
        self.over.map_or(ends, |over| ends.min(over))
    }

    async fn within<T>(&self, work: impl Future<Output = Result<T, ArtifactFailure>>) -> Result<T, ArtifactFailure> {
        tokio::time::timeout_at(self.ends().into(), work).await.unwrap_or(Err(ArtifactFailure::Late))
    }
}

/// The peers that have to be asked, and when the time of all is over.
#[derive(Debug)]
struct FetchPlan {
    peers: VecDeque<PeerId>,
    began: Instant,
    /// The largest size that a peer named.
    size: u64,
    /// The fastest of the peers that were too slow, with its bytes a second.
    fastest: Option<(u64, PeerId)>,
    limit: u64,
}

impl FetchPlan {
    fn new(peers: Vec<PeerId>, limit: u64, began: Instant) -> Self {
        Self { peers: peers.into(), began, size: 0, fastest: None, limit }
    }

    /// The next peer and the least rate that is demanded of it. After all of them comes the fastest of those that were
    /// too slow, at half of the rate that it had: the line of this node may be as slow.
    fn next(&mut self) -> Option<(PeerId, u64)> {
        let next = self.peers.pop_front().map(|peer| (peer, LEAST_RATE));
        next.or_else(|| self.fastest.take().map(|(rate, peer)| (peer, (rate / 2).max(SLOWEST_RATE))))
    }

    fn was_slow(&mut self, peer: PeerId, demanded: u64, rate: u64) {
        if demanded == LEAST_RATE && rate >= SLOWEST_RATE && self.fastest.is_none_or(|(other, _)| rate > other) {
            self.fastest = Some((rate, peer));
        }
    }

    fn learn_size(&mut self, size: u64) {
        self.size = self.size.max(size.min(self.limit));
    }

    /// The time of the next peer.
    fn time(&self, now: Instant, rate: u64) -> FetchTime {
        let all = (FETCH_TIME + Duration::from_secs(self.size / LEAST_RATE)) * (FETCH_LIARS + 1);
        FetchTime::new(now, rate, (rate >= LEAST_RATE).then(|| self.began + all))
    }
}

/// Whether a peer that gave so many bytes in this time is asked for no more.
const fn is_slow(received: u64, time: Duration, rate: u64) -> bool {
    time.as_secs() > RATE_GRACE.as_secs() && received < rate.saturating_mul(time.as_secs())
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
    let mut plan = FetchPlan::new(peers, limit, Instant::now());
    while let Some((peer, rate)) = plan.next() {
        match from(context, peer, Demand { cid, limit, rate }, &mut plan).await {
            Ok(bytes) => {
                tracing::info!(%cid, %peer, bytes, "fetched an artifact");
                return Ok(());
            }
            Err(ArtifactFailure::Absent) => {}
            Err(ArtifactFailure::Slow(found)) => {
                tracing::info!(%cid, %peer, bytes_per_second = found, "a peer gives an artifact too slowly");
                plan.was_slow(peer, rate, found);
            }
            Err(ArtifactFailure::Late) => tracing::info!(%cid, %peer, "an artifact does not come in time"),
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
    demand: Demand,
    plan: &mut FetchPlan,
) -> Result<u64, ArtifactFailure> {
    let Demand { cid, limit, rate } = demand;
    let began = Instant::now();
    let (total, first) = plan.time(began, rate).within(chunk(context, peer, cid, 0)).await?;
    if total > limit {
        return Err(ArtifactFailure::TooLarge(total));
    }
    plan.learn_size(total);
    let time = FetchTime { size: total, ..plan.time(began, rate) };
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
        if is_slow(received, began.elapsed(), rate) {
            return Err(ArtifactFailure::Slow(received / began.elapsed().as_secs().max(1)));
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

    const MIB: u64 = 1024 * 1024;

    #[test]
    fn slow_peer_is_left_after_its_grace() {
        assert!(!is_slow(MIB, RATE_GRACE, LEAST_RATE), "one chunk over the slowest line");
        // A MiB in 25 s, as long as each chunk comes before its request has failed.
        let chunks = (1..1024).take_while(|n| !is_slow(n * MIB, Duration::from_secs(25 * n), LEAST_RATE)).count();
        assert_eq!(chunks, 1);
        assert!((1..1024).all(|n| !is_slow(n * MIB, Duration::from_secs(4 * n), LEAST_RATE)), "the least rate");
    }

    #[test]
    fn fastest_peer_gives_an_artifact_over_a_slow_line() {
        let peers: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        let mut plan = FetchPlan::new(peers.clone(), 100 * MIB, Instant::now());
        // A line of 1 Mbit/s, and one peer that gives less than the line could take.
        let rates = [40 * 1024, 120 * 1024, SLOWEST_RATE - 1];
        for (peer, found) in peers.iter().zip(rates) {
            assert_eq!(plan.next(), Some((*peer, LEAST_RATE)));
            plan.was_slow(*peer, LEAST_RATE, found);
        }
        let (peer, rate) = plan.next().unwrap();
        assert_eq!((peer, rate), (peers[1], 60 * 1024));
        let second = |n: u64| Duration::from_secs(n);
        assert!((1..900).all(|n| !is_slow(n * rates[1], second(n), rate)), "100 MiB come");
        let now = Instant::now();
        let time = FetchTime { size: 100 * MIB, ..plan.time(now, rate) };
        assert!(time.ends() > now + second(100 * MIB / rates[1]) && time.ends() <= now + SLOW_TIME);
        plan.was_slow(peer, rate, 30 * 1024);
        assert_eq!(plan.next(), None, "it is asked once more, not for ever");
    }

    #[tokio::test]
    async fn liar_does_not_use_up_the_time_of_the_next_peer() {
        let began = Instant::now();
        let mut plan = FetchPlan::new(Vec::new(), 100 * MIB, began);
        plan.learn_size(100 * MIB);
        let of_one = FETCH_TIME + Duration::from_secs(100 * MIB / LEAST_RATE);
        for liars in 0..=FETCH_LIARS {
            let now = began + of_one * liars;
            assert_eq!(FetchTime { size: 100 * MIB, ..plan.time(now, LEAST_RATE) }.ends(), now + of_one);
        }
        plan.learn_size(u64::MAX);
        assert_eq!(plan.time(began, LEAST_RATE).ends(), began + FETCH_TIME, "no more than the limit is believed");
        let over = FetchTime::new(Instant::now().checked_sub(FETCH_TIME).unwrap(), LEAST_RATE, None);
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
