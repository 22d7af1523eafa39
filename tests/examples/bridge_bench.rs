//! Measures how fast nodes receive each other's records over the legacy protocol, ours and the reference's in one run on
//! one machine, and what an attack costs honest peers. Run by `scripts/bench bridge`.
//!
//! Each time is measured from the command to connect until the last record is on the receiver's disk.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a measurement that cannot go on must say so and stop"
)]

use std::{
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use spore_tests::{
    TestNet,
    ordeal::Ordeal,
    process::{MemoryWatch, cpu_seconds},
    reference::{Reference, python},
    tree::RecordTree,
};

/// Records in the comparison with the reference.
const RECORDS: usize = 10_000;
/// Numbers of records between two nodes of ours. The time must not grow faster than the number.
const GROWTH: [usize; 3] = [10_000, 50_000, 200_000];
/// How many times the processor time of one record may grow from the first to the last of these. The first number of
/// records fits in memory; the others are written out sorted, and merged.
const LINEAR: f64 = 1.5;
/// Pause between two counts of the receiver's records.
const POLL: Duration = Duration::from_millis(5);
/// Bounds a hang.
const LIMIT: Duration = Duration::from_secs(1800);
const ATTACK: Duration = Duration::from_secs(30);
const FLAGS: &[&str] = &["--no-train"];

#[tokio::main]
async fn main() {
    let parts: Vec<_> = std::env::args().skip(1).collect();
    let wanted = |part: &str| parts.is_empty() || parts.iter().any(|wanted| wanted == part);
    if let Some(unknown) = parts.iter().find(|part| !["sync", "growth", "abuse"].contains(&part.as_str())) {
        eprintln!("error: unknown part {unknown:?}: sync, growth, abuse, or none for all");
        std::process::exit(2);
    }
    if wanted("sync") {
        match python() {
            Some(python) => compare(&python).await,
            None => eprintln!("warning: without the reference there is nothing to compare with"),
        }
    }
    if wanted("growth") {
        grow().await;
    }
    if wanted("abuse") {
        abuse().await;
    }
}

/// Synchronises the same records between both programs, each time into an empty store.
async fn compare(python: &Path) {
    let mut net = TestNet::new();
    let (_, bytes) = RecordTree::plant(1, RECORDS, &net.dir_of("ours"));
    println!("cold sync of {RECORDS} records in one task, {bytes} bytes each");
    let ours = net.start("ours", None, FLAGS).await;

    let ours_address = net.node(ours).legacy_address();
    let mut theirs = Reference::start(python, &net, "theirs", &[]).await;
    let c = reference_from(&mut theirs, &ours_address).await;
    net.node_mut(ours).interrupt();

    // The reference sends the records to another reference, and to a node of ours.
    let mut second = Reference::start(python, &net, "second", &[]).await;
    let a = reference_from(&mut second, &theirs.address()).await;
    let memory = second.ask(json!({"do": "peak_memory"})).await.as_u64().unwrap();
    second.kill().await;
    let third = net.start("third", None, FLAGS).await;
    let b = ours_from(&net, third, &theirs.address(), RECORDS).await;
    net.node_mut(third).interrupt();
    theirs.kill().await;

    let d = between_ours(RECORDS).await;
    let line = |name: &str, time: Duration| {
        let rate = |time: Duration| RECORDS as f64 / time.as_secs_f64();
        println!("  {name}  {:>7.0} records/s, {:>6.2} of (a)", rate(time), rate(time) / rate(a));
    };
    line("(a) reference from reference", a);
    line("(b) ours from reference     ", b);
    line("(c) reference from ours     ", c);
    line("(d) ours from ours          ", d.time);
    println!("  peak memory of the receiver: {} in (a), {} in (d)", mib(memory), mib(d.receiver_memory));
    let ratio = a.as_secs_f64() / d.time.as_secs_f64();
    println!("  wanted: (d) at least 15 times (a): {}", verdict(ratio >= 15.0));
}

/// Synchronises more and more records between two nodes of ours.
async fn grow() {
    println!("ours from ours, {GROWTH:?} records");
    let mut costs = Vec::new();
    for records in GROWTH {
        let sync = between_ours(records).await;
        costs.push(sync.receiver_cpu / records as f64);
        println!(
            "  {records:>7} records: {:>6.2} s, {:>6.0} records/s; sender {:.1} s of processor, {}; receiver {:.1} s, {}",
            sync.time.as_secs_f64(),
            records as f64 / sync.time.as_secs_f64(),
            sync.sender_cpu,
            mib(sync.sender_memory),
            sync.receiver_cpu,
            mib(sync.receiver_memory),
        );
    }
    let [first, .., last] = costs[..] else { return };
    println!(
        "  processor time of a record: {:.0} us, then {:.0} us, {:.2} times",
        first * 1e6,
        last * 1e6,
        last / first
    );
    println!("  wanted: it stays within {LINEAR} times: {}", verdict(last / first <= LINEAR));
}

/// Measures what honest peers notice of an attack.
async fn abuse() {
    let mut net = TestNet::new();
    println!("honest peers during {} s of attack, against the quiet before it", ATTACK.as_secs());
    let ordeal = Ordeal::run(&mut net, ATTACK).await;
    println!("{}\n{}", ordeal.volume, ordeal.report());
    let (median, tail) = (ordeal.slowdown(0.5), ordeal.slowdown(0.95));
    println!("  wanted: medians within twice the quiet ones: {} ({median:.1}; p95 {tail:.1})", verdict(median <= 2.0));
}

/// One synchronisation between two nodes of ours.
struct SyncCost {
    time: Duration,
    /// Most bytes of memory during the synchronisation.
    sender_memory: u64,
    receiver_memory: u64,
    /// Seconds of processor time during the synchronisation.
    sender_cpu: f64,
    receiver_cpu: f64,
}

async fn between_ours(records: usize) -> SyncCost {
    let mut net = TestNet::new();
    RecordTree::plant(1, records, &net.dir_of("sender"));
    let sender = net.start("sender", None, FLAGS).await;
    let receiver = net.start("receiver", None, FLAGS).await;
    let (from, to) = (net.node(sender).pid(), net.node(receiver).pid());
    let memory = [from, to].map(MemoryWatch::start);
    let before = [from, to].map(|pid| cpu_seconds(pid).unwrap_or(0.0));
    let time = ours_from(&net, receiver, &net.node(sender).legacy_address(), records).await;
    let after = [from, to].map(|pid| cpu_seconds(pid).unwrap_or(0.0));
    SyncCost {
        time,
        sender_memory: memory[0].most(),
        receiver_memory: memory[1].most(),
        sender_cpu: after[0] - before[0],
        receiver_cpu: after[1] - before[1],
    }
}

/// Lets a node of ours dial a peer and waits until the node has that many more records.
async fn ours_from(net: &TestNet, node: usize, peer: &str, records: usize) -> Duration {
    let node = net.node(node);
    let count = async || node.api("/status").await.expect("the node is there")["experiment_count"].as_u64().unwrap();
    let wanted = count().await + records as u64;
    let start = Instant::now();
    node.connect(peer).await;
    while count().await < wanted {
        assert!(start.elapsed() < LIMIT, "{} of {wanted} records after {LIMIT:?}", count().await);
        tokio::time::sleep(POLL).await;
    }
    start.elapsed()
}

/// Lets a node of the reference dial a peer and waits until the node has all records.
async fn reference_from(reference: &mut Reference, peer: &str) -> Duration {
    let start = Instant::now();
    reference.ask(json!({"do": "dial", "peer": peer})).await;
    loop {
        let count = reference.ask(json!({"do": "count"})).await.as_u64().unwrap();
        if count >= RECORDS as u64 {
            return start.elapsed();
        }
        assert!(start.elapsed() < LIMIT, "{count} of {RECORDS} records after {LIMIT:?}");
        tokio::time::sleep(POLL).await;
    }
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

fn verdict(holds: bool) -> &'static str {
    if holds { "yes" } else { "NO" }
}
