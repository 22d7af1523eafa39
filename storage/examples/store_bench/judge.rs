//! Measures what events cost when somebody signs as many as possible: by ever new keys about few records, dated ever
//! earlier, and by few keys. The baseline of the same run is events about records that are not stored, which are
//! indexed and not judged. Then what one trusted signer's measurement and one signer's new level cost.

use std::{
    collections::BTreeSet,
    error::Error,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use spore_protocol::{
    ControlEvent, Identity, NodeId, Record, RecordId, Signed, Status, TaskId, Verified, VerifiedObject, control::Rerun,
    record::RECORD_VERSION,
};
use spore_storage::Store;

use crate::ingest::processor_time;

/// Records that are measured.
const RECORDS: usize = 256;
/// Objects in one insertion, as in a node.
const BATCH: usize = 512;
/// Measurements of each record before the events of a row are timed.
const FULL: [usize; 5] = [0, 64, 128, 512, 1024];
/// Events of each record in a row.
const EACH: usize = 16;
/// Records of one signer whose level changes.
const WORKS: usize = 20_000;
const BEGIN: u64 = 1_730_000_000;
const DEVICE: &str = "NVIDIA H100 80GB HBM3";

/// The key of a number. Numbers of different purposes differ in their high bits.
fn key(number: u64) -> Identity {
    let mut seed = [0x5b; 32];
    for (to, from) in seed.iter_mut().zip(number.to_le_bytes()) {
        *to = from;
    }
    Identity::from_seed(&seed)
}

const PUBLISHER: u64 = 1 << 40;
const SEED: u64 = 2 << 40;
const RISING: u64 = 3 << 40;
const FEW: u64 = 4 << 40;

fn record(by: &Identity, task: TaskId, number: u64) -> Result<Verified<Record>, Box<dyn Error>> {
    let record = Record {
        parent: None,
        depth: 0,
        code_cid: Some(spore_protocol::Cid([7; 32])),
        diff: String::new(),
        dataset_cid: String::new(),
        prepare_cid: String::new(),
        time_budget: 300,
        val_bpb: 1.0,
        peak_vram_mb: 1.0,
        num_steps: 100,
        num_params: 100,
        status: Status::Keep,
        description: format!("record {number}"),
        hypothesis: String::new(),
        agent_model: "bench".into(),
        gpu_model: DEVICE.into(),
        cuda_version: String::new(),
        torch_version: String::new(),
        node_id: by.node_id(),
        task_id: Some(task),
        timestamp: BEGIN + number,
        version: RECORD_VERSION,
    };
    Ok(by.sign(&record).map_err(|reject| reject.to_string())?)
}

type Event = (u64, RecordId, NodeId, f64, u64);

/// Signs measurements on all cores: signer's key, record, publisher, value, timestamp.
fn sign(events: &[Event]) -> Result<Vec<VerifiedObject>, Box<dyn Error>> {
    let cores = thread::available_parallelism()?.get();
    let one = |(signer, about, publisher, value, timestamp): &Event| {
        let by = key(*signer);
        let gpu = DEVICE.into();
        let run = Rerun { experiment_id: *about, task_id: None, node_id: by.node_id(), gpu, value: *value };
        by.sign(&ControlEvent::verification(run, *publisher, false, *timestamp)).ok().map(VerifiedObject::from)
    };
    let parts: Vec<_> = thread::scope(|scope| {
        let part = events.len().div_ceil(cores).max(1);
        let workers: Vec<_> =
            events.chunks(part).map(|part| scope.spawn(|| part.iter().map(one).collect::<Vec<_>>())).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap_or_default()).collect()
    });
    let signed: Option<Vec<_>> = parts.into_iter().collect();
    signed.ok_or_else(|| "an event cannot be signed".into())
}

/// What the insertion of some events took.
struct Inserted {
    events: usize,
    time: Duration,
    slowest: Duration,
    processor: Duration,
}

/// Inserts in batches.
fn insert(store: &Store, objects: &[VerifiedObject]) -> Result<Inserted, Box<dyn Error>> {
    let (begun, used, mut slowest) = (Instant::now(), processor_time(), Duration::ZERO);
    for batch in objects.chunks(BATCH) {
        let started = Instant::now();
        store.insert(batch, BEGIN)?;
        slowest = slowest.max(started.elapsed());
    }
    let (time, processor) = (begun.elapsed(), processor_time().saturating_sub(used));
    Ok(Inserted { events: objects.len(), time, slowest, processor })
}

/// Measures all of it in a new store below `folder`, and prints a table.
///
/// # Errors
/// When the store cannot be written.
pub fn run(folder: &Path) -> Result<(), Box<dyn Error>> {
    let dir = folder.join("store-judge");
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let store = Store::open_with_trust(&dir, BTreeSet::from([key(SEED).node_id()]))?;
    let publisher = key(PUBLISHER);
    let records = (0..RECORDS as u64).map(|i| record(&publisher, TaskId([1; 32]), i)).collect::<Result<Vec<_>, _>>()?;
    let about: Vec<(RecordId, u64)> = records.iter().map(|r| (r.id().into(), r.timestamp)).collect();
    insert(&store, &records.iter().cloned().map(VerifiedObject::from).collect::<Vec<_>>())?;
    let baseline = unjudged(&store)?;
    println!("| events | events/s | processor time of one, us | against the baseline | slowest batch of {BATCH}, ms |");
    println!("|---|--:|--:|--:|--:|");
    baseline.print("about records that are not here (baseline)", &baseline);
    new_keys(&store, &publisher, &about, &baseline)?;
    few_keys(&store, &publisher, &about, &baseline)?;
    levels(&store, &publisher, &about)?;
    fs::remove_dir_all(&dir)?;
    Ok(())
}

#[allow(clippy::cast_precision_loss, reason = "rates for people to read")]
impl Inserted {
    /// Microseconds of processor time for one event, all threads.
    fn cpu_us(&self) -> f64 {
        self.processor.as_secs_f64() * 1e6 / self.events as f64
    }

    fn print(&self, name: &str, baseline: &Self) {
        let (rate, cpu) = (self.events as f64 / self.time.as_secs_f64(), self.cpu_us());
        let slowest = self.slowest.as_secs_f64() * 1e3;
        println!("| {name} | {rate:.0} | {cpu:.0} | {:.1} | {slowest:.1} |", cpu / baseline.cpu_us());
    }
}

/// Events of the same number about records that never arrive.
fn unjudged(store: &Store) -> Result<Inserted, Box<dyn Error>> {
    let nobody = key(PUBLISHER + 1).node_id();
    let events: Vec<Event> = (0..(RECORDS * EACH) as u64)
        .map(|i| {
            let mut id = [9; 32];
            id.iter_mut().zip((i % RECORDS as u64).to_le_bytes()).for_each(|(to, from)| *to = from);
            (i + (5 << 40), RecordId(id), nobody, 1.0, BEGIN + 1)
        })
        .collect();
    let signed = sign(&events)?;
    insert(store, &signed)
}

/// Ever new keys, each event dated earlier than all before.
fn new_keys(
    store: &Store,
    publisher: &Identity,
    about: &[(RecordId, u64)],
    baseline: &Inserted,
) -> Result<(), Box<dyn Error>> {
    let (mut signer, mut there, mut time) = (0u64, 0, BEGIN + 2_000_000);
    for full in FULL {
        let mut round = |count: usize| {
            let mut events = Vec::with_capacity(count * about.len());
            for _ in 0..count {
                for (id, _) in about {
                    signer += 1;
                    time -= 1;
                    events.push((signer, *id, publisher.node_id(), 1.0, time));
                }
            }
            sign(&events)
        };
        let filling = round(full - there)?;
        insert(store, &filling)?;
        let events = round(EACH)?;
        there = full + EACH;
        let name = format!("new keys, {full} measurements of each record before");
        insert(store, &events)?.print(&name, baseline);
    }
    Ok(())
}

/// The same keys again and again: one event of each counts.
fn few_keys(
    store: &Store,
    publisher: &Identity,
    about: &[(RecordId, u64)],
    baseline: &Inserted,
) -> Result<(), Box<dyn Error>> {
    let mut events: Vec<Event> = Vec::new();
    for turn in 0..EACH as u64 {
        for (id, made) in about {
            events.push((FEW + turn % 4, *id, publisher.node_id(), 1.0, made + 1 + turn));
        }
    }
    let signed = sign(&events)?;
    insert(store, &signed)?.print("four keys, four events of each about each record", baseline);
    Ok(())
}

/// A trusted signer measures a record that thousands measured; a signer of many records gets a level.
fn levels(store: &Store, publisher: &Identity, about: &[(RecordId, u64)]) -> Result<(), Box<dyn Error>> {
    let ms = |begun: Instant| begun.elapsed().as_secs_f64() * 1e3;
    let (first, made) = about.first().ok_or("there are no records")?;
    let measured = sign(&[(SEED, *first, publisher.node_id(), 2.0, made + 1)])?;
    let begun = Instant::now();
    store.insert(&measured, BEGIN)?;
    let signers = FULL.iter().max().map_or(0, |full| full + EACH);
    println!("\na trusted signer refutes a record that {signers} keys confirmed: {:.1} ms", ms(begun));

    let rising = key(RISING);
    let task = TaskId([2; 32]);
    let records = (0..WORKS as u64).map(|i| record(&rising, task, i)).collect::<Result<Vec<_>, _>>()?;
    insert(store, &records.iter().cloned().map(VerifiedObject::from).collect::<Vec<_>>())?;
    let confirms = |record: &Signed<Record>| (SEED, record.id().into(), rising.node_id(), 1.0, record.timestamp + 1);
    let events = sign(&records.iter().take(3).map(|record| confirms(record)).collect::<Vec<_>>())?;
    let (last, others) = events.split_last().ok_or("there are no events")?;
    store.insert(others, BEGIN)?;
    let begun = Instant::now();
    store.insert(std::slice::from_ref(last), BEGIN)?;
    println!("a signer of {WORKS} records gets a level: {:.1} ms", ms(begun));
    Ok(())
}
