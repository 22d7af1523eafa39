//! Measures the store with a synthetic history of signed records: ingestion, questions, memory and disk, at several
//! sizes. Each figure is beside its limit, or beside the reference's figure in the same run.
//!
//! `store_bench judge` measures events instead: see [`judge`].
//!
//! `store_bench [--sizes N,N,...] [--folder DIR] [--keep]`: the folder keeps the signed histories for the next run,
//! and the stores while they are measured (with `--keep` also afterwards). The environment variable `SPORE_REFERENCE`
//! names a Python that has the reference installed. A million records take 2 GB of memory and some minutes; in the
//! first run, most of them are for signing.

mod dice;
mod disk;
mod history;
mod ingest;
mod judge;
mod prose;
mod questions;
mod reference;
mod report;
mod signed_file;

use std::{
    error::Error,
    fs,
    path::{Path, PathBuf},
    time::Instant,
};

use spore_storage::{Store, unwatched};

use report::BenchResult;
use signed_file::SignedHistory;

/// The allocator of Spore's binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const USAGE: &str = "usage: store_bench [--sizes 10000,100000,1000000] [--folder DIR] [--keep] [judge]";

/// Records of the sample for measuring verification alone, before and after an ingestion.
const VERIFIED: usize = 20_000;

struct BenchOptions {
    sizes: Vec<usize>,
    folder: PathBuf,
    keep: bool,
    judge: bool,
}

fn settings(mut arguments: impl Iterator<Item = String>) -> Result<BenchOptions, Box<dyn Error>> {
    let mut settings = BenchOptions {
        sizes: vec![10_000, 100_000, 1_000_000],
        folder: std::env::temp_dir().join("spore-store-bench"),
        keep: false,
        judge: false,
    };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--sizes" => {
                let sizes = arguments.next().ok_or(USAGE)?;
                settings.sizes = sizes.split(',').map(str::parse).collect::<Result<_, _>>()?;
            }
            "--folder" => settings.folder = arguments.next().ok_or(USAGE)?.into(),
            "--keep" => settings.keep = true,
            "judge" => settings.judge = true,
            _ => return Err(USAGE.into()),
        }
    }
    Ok(settings)
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [serve, dir, task] = arguments.as_slice()
        && serve == "--serve"
    {
        return questions::serve(Path::new(dir), task);
    }
    let settings = settings(arguments.into_iter())?;
    fs::create_dir_all(&settings.folder)?;
    if settings.judge {
        return judge::run(&settings.folder);
    }
    let (mut all, mut compared) = (Vec::new(), None);
    for size in &settings.sizes {
        let history = SignedHistory::load(&settings.folder, *size)?;
        if compared.is_none() {
            compared = reference::run(&settings.folder, &history)?;
        }
        eprintln!("measuring with {size} records");
        all.push(measure(&settings, *size, &history)?);
    }
    report::print(&all, compared.as_ref());
    Ok(())
}

fn measure(settings: &BenchOptions, records: usize, history: &SignedHistory) -> Result<BenchResult, Box<dyn Error>> {
    let dir = settings.folder.join(format!("store-{records}"));
    if dir.exists() {
        fs::remove_dir_all(&dir)?;
    }
    let (plain, packed) = disk::compressed(history)?;
    let probes = questions::probes(history)?;
    let graph_of = history.object(history::graph_task(records))?.id().into();
    let before = ingest::verify_only(history, VERIFIED)?;
    let store = Store::open(&dir)?;
    let ingested = ingest::ingest(&store, history)?;
    drop(store);
    let after = ingest::verify_only(history, VERIFIED)?;
    let on_disk = disk::used(&dir)?;
    let served = questions::in_child(&dir, &probes, &graph_of)?;
    let store = Store::open(&dir)?;
    let (begun, used) = (Instant::now(), ingest::processor_time());
    let report = store.check(&mut unwatched)?;
    if report.finding_count > 0 {
        return Err(format!("the check found {} faults: {:?}", report.finding_count, report.findings.first()).into());
    }
    let (checked, checked_cpu) = (begun.elapsed(), ingest::processor_time() - used);
    store.compact(&mut unwatched)?;
    drop(store);
    let compacted = disk::used(&dir)?;
    if !settings.keep {
        fs::remove_dir_all(&dir)?;
    }
    let verified = before.and(&after);
    Ok(BenchResult { records, verified, ingested, plain, packed, on_disk, compacted, checked, checked_cpu, served })
}
