//! Ingests records in the two stages of a node's ingest service: while a batch is inserted, the next one is verified
//! on all cores.

use std::{
    error::Error,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use spore_protocol::{SignedObject, VerifiedObject};
use spore_storage::{InsertOutcome, Store};

use crate::signed_file::SignedHistory;

/// Objects in one insertion, and verified batches waiting for it, as in a node.
const BATCH: usize = 512;
const BATCHES_AHEAD: usize = 1;
/// Objects decoded at once while the clock is stopped. In a node, the network's tasks decode them.
const DECODED: usize = 50_000;

/// The time of an ingestion.
pub struct IngestRun {
    objects: usize,
    total: Duration,
    /// Objects in the last tenth, and their time.
    last: (usize, Duration),
    /// Time in which the inserting thread was busy.
    inserting: Duration,
    /// Processor time of this process, all threads.
    processor: Duration,
}

/// The time of checking signatures, without anything else.
pub struct VerifyRun {
    objects: usize,
    total: Duration,
    processor: Duration,
}

#[allow(clippy::cast_precision_loss, reason = "rates for people to read")]
impl VerifyRun {
    /// The sum of both runs.
    pub fn and(&self, other: &Self) -> Self {
        Self {
            objects: self.objects + other.objects,
            total: self.total + other.total,
            processor: self.processor + other.processor,
        }
    }

    /// Objects a second.
    pub fn rate(&self) -> f64 {
        self.objects as f64 / self.total.as_secs_f64()
    }

    /// Microseconds of processor time for one object.
    pub fn cpu_us(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.objects as f64
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates for people to read")]
impl IngestRun {
    /// Objects a second.
    pub fn rate(&self) -> f64 {
        self.objects as f64 / self.total.as_secs_f64()
    }

    /// Objects a second, in the last tenth.
    pub fn last_rate(&self) -> f64 {
        self.last.0 as f64 / self.last.1.as_secs_f64()
    }

    /// The share of the time in which something was being inserted.
    pub fn busy(&self) -> f64 {
        self.inserting.as_secs_f64() / self.total.as_secs_f64()
    }

    /// Microseconds of processor time for one object.
    pub fn cpu_us(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.objects as f64
    }
}

/// Only verifies the first `most` objects, on all cores. No node on this machine can be faster.
///
/// # Errors
/// When a signature is bad.
pub fn verify_only(history: &SignedHistory, most: usize) -> Result<VerifyRun, Box<dyn Error>> {
    let cores = thread::available_parallelism()?.get();
    let mut objects = history.decode(0..most)?;
    let count = objects.len();
    let mut parts = Vec::with_capacity(cores);
    while !objects.is_empty() {
        parts.push(objects.split_off(objects.len().saturating_sub(count.div_ceil(cores))));
    }
    let (start, used) = (Instant::now(), processor_time());
    let good = thread::scope(|scope| {
        let workers: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(move || part.into_iter().filter_map(|object| object.verify().ok()).count()))
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).sum::<usize>()
    });
    let verified = VerifyRun { objects: good, total: start.elapsed(), processor: processor_time() - used };
    if good == count { Ok(verified) } else { Err("a signature is bad".into()) }
}

/// From signed objects to a store that would survive a power cut.
///
/// # Errors
/// When an object is refused, or the store cannot be written.
pub fn ingest(store: &Store, history: &SignedHistory) -> Result<IngestRun, Box<dyn Error>> {
    let mut ingested = IngestRun {
        objects: history.len(),
        total: Duration::ZERO,
        last: (0, Duration::ZERO),
        inserting: Duration::ZERO,
        processor: Duration::ZERO,
    };
    for from in (0..history.len()).step_by(DECODED) {
        let objects = history.decode(from..from + DECODED)?;
        ingest_decoded(store, objects, from, &mut ingested)?;
    }
    Ok(ingested)
}

/// Ingests decoded objects, which begin at place `from` of the history.
fn ingest_decoded(
    store: &Store,
    objects: Vec<SignedObject>,
    from: usize,
    ingested: &mut IngestRun,
) -> Result<(), Box<dyn Error>> {
    let cores = thread::available_parallelism()?.get();
    let (count, tail) = (objects.len(), ingested.objects - ingested.objects / 10);
    let (ready, batches) = mpsc::sync_channel::<Vec<VerifiedObject>>(BATCHES_AHEAD);
    let (start, used) = (Instant::now(), processor_time());
    let stored = thread::scope(|scope| {
        let reader = store.clone();
        scope.spawn(move || {
            let mut objects = objects.into_iter();
            loop {
                let batch: Vec<SignedObject> = objects.by_ref().take(BATCH).collect();
                if batch.is_empty() || ready.send(verified(&reader, batch, cores)).is_err() {
                    return;
                }
            }
        });
        let (mut stored, mut done) = (0, start);
        for batch in batches {
            let begun = Instant::now();
            let report = store.insert(&batch, 1_800_000_000)?;
            let now = Instant::now();
            ingested.inserting += now - begun;
            if from + stored >= tail {
                ingested.last.0 += batch.len();
                ingested.last.1 += now - done;
            }
            stored += report.outcomes.iter().filter(|(_, outcome)| *outcome == InsertOutcome::New).count();
            done = now;
        }
        Ok::<_, spore_storage::StoreError>(stored)
    })?;
    ingested.total += start.elapsed();
    ingested.processor += processor_time() - used;
    if stored == count { Ok(()) } else { Err(format!("{stored} of {count} objects were new to the store").into()) }
}

/// Processor time of this process since its start, in user and kernel mode; 0 where the system does not report it.
pub fn processor_time() -> Duration {
    // Fields 14 and 15, in hundredths of a second. The second field may contain spaces.
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

/// The new and valid objects of a batch.
fn verified(store: &Store, batch: Vec<SignedObject>, cores: usize) -> Vec<VerifiedObject> {
    let mut parts = Vec::with_capacity(cores);
    let mut rest = batch.into_iter().filter(|object| !store.contains(object.kind(), &object.id()).unwrap_or(true));
    loop {
        let part: Vec<SignedObject> = rest.by_ref().take(BATCH.div_ceil(cores)).collect();
        if part.is_empty() {
            break;
        }
        parts.push(part);
    }
    thread::scope(|scope| {
        let workers: Vec<_> = parts
            .into_iter()
            .map(|part| scope.spawn(move || part.into_iter().filter_map(|o| o.verify().ok()).collect::<Vec<_>>()))
            .collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    })
}
