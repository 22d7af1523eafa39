//! How fast the store takes in records, beside what any node must spend on them anyway: checking
//! their signatures. Run with `cargo run --release -p spore-storage --example insert_bench`.

use std::{error::Error, time::Instant};

use spore_protocol::{Identity, Record, RecordId, SignedObject, Status, TaskId, Verified, VerifiedObject};
use spore_storage::Store;

const RECORDS: u32 = 20_000;
/// Objects in one insertion: what catch-up hands over at once.
const BATCH: usize = 256;

fn record(identity: &Identity, task: TaskId, parent: Option<&Verified<Record>>, number: u32) -> Record {
    Record {
        parent: parent.map(|parent| RecordId::from(parent.id())),
        depth: parent.map_or(0, |parent| parent.depth + 1),
        code_cid: None,
        diff: "-learning_rate = tune(\"lr\", 0.003)\n+learning_rate = tune(\"lr\", 0.004)\n".repeat(4),
        dataset_cid: String::new(),
        prepare_cid: String::new(),
        time_budget: 20,
        val_bpb: 2.0 - f64::from(number % 997) / 1000.0,
        peak_vram_mb: 100.0,
        num_steps: 1000,
        num_params: 100_000,
        status: if number.is_multiple_of(3) { Status::Keep } else { Status::Discard },
        description: "raise the learning rate to 0.004".into(),
        hypothesis: "the loss still falls at the end of the budget".into(),
        agent_model: "built-in".into(),
        gpu_model: "CPU".into(),
        cuda_version: String::new(),
        torch_version: String::new(),
        node_id: identity.node_id(),
        task_id: Some(task),
        timestamp: 1_700_000_000 + u64::from(number),
        version: 2,
    }
}

#[allow(clippy::cast_precision_loss, reason = "rates for people to read")]
fn main() -> Result<(), Box<dyn Error>> {
    let identity = Identity::from_seed(&[7; 32]);
    let task = TaskId([1; 32]);
    let mut records: Vec<Verified<Record>> = Vec::new();
    for number in 0..RECORDS {
        // A tree, several records to each parent.
        let parent = records.get(usize::try_from(number.saturating_sub(1))? / 8);
        let parent = if number == 0 { None } else { parent };
        records.push(identity.sign(&record(&identity, task, parent, number))?);
    }
    let signed: Vec<SignedObject> = records.iter().map(|r| VerifiedObject::from(r.clone()).to_signed()).collect();

    let start = Instant::now();
    let mut objects = Vec::with_capacity(signed.len());
    for object in signed {
        objects.push(object.verify()?);
    }
    let verifying = f64::from(RECORDS) / start.elapsed().as_secs_f64();

    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path())?;
    let start = Instant::now();
    for batch in objects.chunks(BATCH) {
        store.insert(batch, 0)?;
    }
    let inserting = f64::from(RECORDS) / start.elapsed().as_secs_f64();
    println!("strict verification: {verifying:.0} records/s on one core");
    println!(
        "insertion:           {inserting:.0} records/s in synced batches of {BATCH}, {:.2} of verification",
        inserting / verifying
    );

    let start = Instant::now();
    let summaries = store.task_summaries(&task)?.len();
    println!("reading a task:      {:.0} summaries/s", summaries as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
