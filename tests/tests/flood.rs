//! Floods against a relay, one kind at a time. Identities are free for the attackers, who send valid objects at full
//! speed, or open connections and do nothing. The relay stays within its limits, and an honest newcomer with one key and
//! one record gets in meanwhile: the neighbour, which only knows the relay, receives the record.
//!
//! Short by default; `scripts/bench flood` runs them for longer. Each prints its figures beside their limits.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use spore_protocol::{VerifiedObject, fixtures};
use spore_tests::{
    TestNet,
    flood::{
        Flood, Siege, attackers_key, child, crowd, disk_bytes, duration, event, hold, key, manifest, noise, now,
        raise_files, signed_child,
    },
    http,
    legacy::LegacyPeer,
    process::cpu_seconds,
    spore,
    tree::RecordTree,
    wait_for,
};

/// Records of the honest task: so many that the relay is past the first fill of a new node, which is not limited.
const KNOWN: usize = 1_100;
/// Memory that a relay may have during a flood, in MiB: the goal for a relay of a million records.
const MEMORY: u64 = 400;
/// Disk that an hour of flood may fill, in MiB: what a relay takes from strangers at once, twice, because the database
/// logs it first, and the rest over the hour.
const DISK_AN_HOUR: u64 = 200;
const DISK_AT_ONCE: u64 = 120;
/// Records of unknown keys that a relay takes at once, 28 MiB of about 1 KiB each, and then each second.
const KEPT_AT_ONCE: u64 = 40_000;
const KEPT_A_SECOND: u64 = 25;
/// The same for one key: 8 MiB of records that count as 680 bytes each, then a record a second.
const KEPT_OF_ONE_AT_ONCE: u64 = 12_400;
const KEPT_OF_ONE_A_SECOND: u64 = 2;
/// What the log may grow by, in KiB.
const LOG: u64 = 256;
/// The same while records of 9 MB come in, each of which is held several times. The goal is 300.
const LARGE_MEMORY: u64 = 512;
/// Longest text of a large record: nearly the largest frame.
const LARGE: usize = 9 << 20;
/// Open files of a relay on a usual system.
const USUAL_FILES: u32 = 1024;
/// Most that a timestamp may be ahead, as the existing network has it.
const AHEAD: u64 = 3600;

/// Percent of a core that a relay without work may use: the peers' heartbeats, and what measuring itself costs.
const IDLE: f64 = 5.0;
/// How long the processor time of an idle relay is measured at once, and until when it must be idle.
const PAUSE: Duration = Duration::from_secs(4);
const SETTLE: Duration = Duration::from_secs(60);
/// Records of a task whose graph is too large for the system's buffers, and what answers with it may take, in MiB.
const MANY: usize = 60_000;
const ANSWERS: u64 = 160;

const MIB: u64 = 1 << 20;

/// What holds after each flood.
fn assert_bounds(siege: &Siege, memory: u64, waited: Duration) {
    let relay = siege.relay();
    println!("  a newcomer's longest wait: {:.1} s", waited.as_secs_f64());
    println!("  processor time: {:.1} s", cpu_seconds(relay.pid()).unwrap_or_default());
    hold("memory", "MiB", siege.memory.most() / MIB, memory);
    let grown = disk_bytes(relay.dir()).saturating_sub(siege.quiet_disk);
    hold("disk", "MiB", grown / MIB, DISK_AT_ONCE + (DISK_AN_HOUR - DISK_AT_ONCE) * duration().as_secs() / 3600);
    let log = relay.log();
    assert!(!log.contains("panicked"), "{log}");
    hold("log", "KiB", log.len() as u64 / 1024, LOG);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_records_fill_neither_disk_nor_memory() {
    let siege = Siege::lay(KNOWN, None).await;
    let (root, text) = (siege.root.clone(), noise(1, LARGE));
    let flood = Flood::begin(siege.relay().port, 4, 12, move |number| {
        child(&root, &attackers_key(number), |record| record.diff.clone_from(&text))
    });
    let waited = siege.newcomers_during(&flood).await;
    println!("{} records of 9 MiB:", flood.end());
    assert_bounds(&siege, LARGE_MEMORY, waited);
}

#[tokio::test(flavor = "multi_thread")]
async fn tiny_records_of_many_keys_get_a_bounded_share() {
    let siege = Siege::lay(KNOWN, None).await;
    let root = siege.root.clone();
    let flood = Flood::begin(siege.relay().port, 8, 2_000, move |number| child(&root, &attackers_key(number), |_| {}));
    let waited = siege.newcomers_during(&flood).await;
    println!("{} records of as many keys:", flood.end());
    assert_bounds(&siege, MEMORY, waited);
    let task = siege.tree.task.to_string();
    let kept = siege.relay().records(&task).await.unwrap().len() as u64;
    hold("records kept", "", kept, KEPT_AT_ONCE + KEPT_A_SECOND * duration().as_secs());
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_one_key_get_less_than_a_crowd() {
    let siege = Siege::lay(KNOWN, None).await;
    let root = siege.root.clone();
    let flood = Flood::begin(siege.relay().port, 8, 2_000, move |number| {
        child(&root, &attackers_key(0), |record| record.num_steps = number + 1)
    });
    let waited = siege.newcomers_during(&flood).await;
    println!("{} records of one key:", flood.end());
    assert_bounds(&siege, MEMORY, waited);
    let kept = siege.relay().records(&siege.tree.task.to_string()).await.unwrap().len() as u64;
    hold("records kept", "", kept, KEPT_OF_ONE_AT_ONCE + KEPT_OF_ONE_A_SECOND * duration().as_secs());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_about_one_record_hold_up_nobody() {
    let siege = Siege::lay(KNOWN, None).await;
    let root = siege.root.clone();
    let flood = Flood::begin(siege.relay().port, 4, 1_000, move |number| {
        // Ever earlier, so that each one would come first if the date decided.
        event(&attackers_key(number), &root, root.timestamp + 1_000_000 - number)
    });
    let waited = siege.newcomers_during(&flood).await;
    println!("{} events about one record:", flood.end());
    assert_bounds(&siege, MEMORY, waited);
}

#[tokio::test(flavor = "multi_thread")]
async fn tasks_by_the_thousand_hide_no_honest_task() {
    let siege = Siege::lay(KNOWN, None).await;
    let flood = Flood::begin(siege.relay().port, 4, 500, move |number| manifest(&attackers_key(number % 16), number));
    let waited = siege.newcomers_during(&flood).await;
    println!("{} manifests of 16 keys:", flood.end());
    assert_bounds(&siege, MEMORY, waited);
    let relay = siege.relay();
    let (status, list) = http::get(&relay.url("/api/v1/tasks")).await.unwrap();
    assert_eq!(status, 200, "{list}");
    hold("one answer of the list of tasks", "KiB", list.len() as u64 / 1024, 512);
    relay.api(&format!("/tasks/{}", siege.tree.task)).await.expect("the honest task is there");
    // A cost, not a speed: processor time over pauses in which nothing happens.
    let share = wait_for("the relay to do nothing when there is nothing to do", SETTLE, async || {
        let before = cpu_seconds(relay.pid()).unwrap();
        tokio::time::sleep(PAUSE).await;
        let share = (cpu_seconds(relay.pid()).unwrap() - before) / PAUSE.as_secs_f64() * 100.0;
        if share <= IDLE { Ok(share) } else { Err(format!("{share:.1} % of a core")) }
    })
    .await;
    println!("  afterwards, with nothing to do: {share:.1} % of a core");
}

#[tokio::test(flavor = "multi_thread")]
async fn half_requests_and_silent_connections_stop_no_front() {
    raise_files();
    let siege = Siege::lay(KNOWN, Some(USUAL_FILES)).await;
    let relay = siege.relay();
    let half = crowd(relay.web_port, 1_100, b"GET /api/v1/status HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ").await;
    let silent = crowd(relay.p2p_port, 300, b"").await;
    let mute = crowd(relay.port, 200, b"").await;
    println!("{} half requests, {} and {} silent connections:", half.len(), silent.len(), mute.len());
    wait_for("the API to answer", Duration::from_secs(60), async || relay.api("/status").await).await;
    let waited = siege.newcomer_gets_in().await;
    assert_bounds(&siege, MEMORY, waited);
    let log = relay.log();
    assert!(!log.contains("Too many open files"), "{log}");
    drop((half, silent, mute));
}

#[tokio::test(flavor = "multi_thread")]
async fn relay_crowded_over_libp2p_still_takes_a_new_peer() {
    raise_files();
    let mut siege = Siege::lay(KNOWN, None).await;
    // It runs before the crowd comes, whose connections could have its ports otherwise.
    let newcomer = siege.net.start("newcomer", None, &["--no-train"]).await;
    let silent = crowd(siege.relay().p2p_port, 600, b"\x13/multistream/1.0.0\n").await;
    let (node, root) = (siege.net.node(newcomer), siege.root.id().to_string());
    let address = siege.relay().multiaddr();
    wait_for("the new node to get a place", Duration::from_secs(60), async || node.try_connect(&address).await).await;
    wait_for("the new node to receive the task", Duration::from_secs(120), async || {
        node.api(&format!("/experiments/{root}")).await
    })
    .await;
    println!("beside {} silent connections", silent.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_reads_cost_bounded_memory() {
    raise_files();
    let siege = Siege::lay(MANY, None).await;
    let relay = siege.relay();
    let request = format!("GET /api/v1/tasks/{}/graph HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", siege.tree.task);
    let readers = crowd(relay.web_port, 150, request.as_bytes()).await;
    println!("{} requests for a large answer, none of which is read:", readers.len());
    let waited = siege.newcomer_gets_in().await;
    assert_bounds(&siege, siege.quiet_memory / MIB + ANSWERS, waited);
    wait_for("the API to answer", Duration::from_secs(90), async || relay.api("/status").await).await;
    drop(readers);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_from_a_little_ahead_are_held_and_cost_their_sender_nothing() {
    let siege = Siege::lay(KNOWN, None).await;
    let port = siege.relay().port;
    let mut ahead = BTreeSet::new();
    let mut peer = LegacyPeer::dial(port).await.unwrap();
    peer.has_nothing().await.unwrap();
    // Half beyond the limit by the relay's clock, half just within. More than the points that end a connection.
    for number in 0..300 {
        let distance = if number % 2 == 0 { AHEAD + 300 } else { AHEAD - 60 };
        let record = siege.child(&attackers_key(number), |record| record.timestamp = now() + distance);
        ahead.insert(record.id().to_string());
        peer.send_object(&record).await.expect("the sender stays connected");
    }
    // The answer comes after everything that was sent before.
    peer.sync_all().await;
    assert_eq!(peer.ended(), None);
    let mut other = LegacyPeer::dial(port).await.unwrap();
    other.has_nothing().await.unwrap();
    other.sync_all().await;
    let passed_on = other.id_set().intersection(&ahead).count() as u64;
    hold("records from ahead that are passed on", "", passed_on, 0);
    siege.newcomer_gets_in().await;
    let neighbour = siege.net.node(siege.neighbour);
    let peers = neighbour.api("/peers").await.unwrap();
    assert!(
        peers.as_array().is_some_and(|peers| !peers.is_empty()),
        "the relay is still the neighbour's peer: {peers}"
    );
}

/// Bytes of the small node's budget, and of the records that fill its disk twice over.
const BUDGET: u64 = 16 << 20;
const SPAM_BYTES: usize = 20 << 10;
const SPAM: u64 = 1600;
/// Bytes by which a store may exceed its budget until the next look: what is written meanwhile.
const SLACK: u64 = 2 << 20;
/// Two looks at the disk and a compaction on a busy machine.
const ROOM_LIMIT: Duration = Duration::from_secs(180);

/// Bytes of what counts against the budget.
fn stored_bytes(dir: &Path) -> u64 {
    disk_bytes(&dir.join("store")) + disk_bytes(&dir.join("artifacts"))
}

#[tokio::test(flavor = "multi_thread")]
async fn node_over_its_disk_budget_drops_unknown_signers_records_and_they_do_not_come_back() {
    let mut net = TestNet::new();
    let (full_dir, small_dir) = (net.dir_of("full"), net.dir_of("small"));
    let own = fixtures::identity(40);
    fs::create_dir_all(small_dir.join("identity")).unwrap();
    fs::write(small_dir.join("identity/private_key"), "28".repeat(32)).unwrap();
    // The tree is by a key that nobody here trusts; what it must keep is this node's own and what this node confirmed.
    let (tree, _) = RecordTree::plant(21, 8, &full_dir);
    let root = RecordTree::new(21).grow();
    let parent = signed_child(&root, &key(1), |_| ());
    let confirmed = signed_child(&parent, &key(2), |record| record.val_bpb = 0.9);
    let mine = signed_child(&root, &own, |_| ());
    let verdict = fixtures::verification(&own, &confirmed, confirmed.val_bpb, now());
    let kept = [&root, &parent, &confirmed, &mine].map(|record| record.id().to_string());
    let mut objects: Vec<VerifiedObject> = vec![parent.into(), confirmed.into(), mine.into(), verdict.into()];
    let mut spam = BTreeSet::new();
    for number in 0..SPAM {
        let text = format!("{number} {}", noise(number, SPAM_BYTES));
        let record = signed_child(&root, &attackers_key(number), |record| record.diff = text);
        spam.insert(record.id().to_string());
        objects.push(record.into());
    }
    let store = spore_storage::Store::open(&full_dir).unwrap();
    store.insert(&objects, now()).unwrap();
    drop(store);

    let full = net.start("full", None, &["--no-train", "--store-max", "1GiB"]).await;
    let small = net.start("small", Some(full), &["--no-train", "-v", "--store-max", "16MiB"]).await;
    let task = tree.task.to_string();
    wait_for("the small node to make room", ROOM_LIMIT, async || {
        let known = net.node(small).records(&task).await?;
        let bytes = stored_bytes(&small_dir);
        let dropped = net.node(small).log().contains("within its disk budget");
        if dropped && known.contains(&kept[2]) && bytes <= BUDGET + SLACK {
            Ok(())
        } else {
            Err(format!("{bytes} bytes, {} records, dropped: {dropped}", known.len()))
        }
    })
    .await;
    let before = net.node(small).records(&task).await.unwrap();
    assert!(kept.iter().all(|id| before.contains(id)), "own, confirmed and their ancestors stay");
    let left: BTreeSet<_> = before.intersection(&spam).cloned().collect();
    assert!(left.len() < spam.len(), "{} of {} are left", left.len(), spam.len());

    // It is away while its peer gets a record, so that only a catch-up brings the record.
    assert_eq!(net.node_mut(small).interrupt(), 0);
    assert!(spore(&small_dir, &["db", "check"]).expect_code(0).stdout.contains("Sound"));
    let news = signed_child(&root, &key(3), |_| ());
    let id = news.id().to_string();
    net.node(full).submit(&VerifiedObject::from(news).into_signed()).await;
    net.node_mut(small).start().await;
    wait_for("a catch-up to bring the new record", ROOM_LIMIT, async || {
        net.node(small).api(&format!("/experiments/{id}")).await
    })
    .await;
    let after = net.node(small).records(&task).await.unwrap();
    let back = after.intersection(&spam).filter(|id| !left.contains(*id)).count();
    assert_eq!(back, 0, "of {} dropped records", spam.len() - left.len());
    assert!(stored_bytes(&small_dir) <= BUDGET + SLACK);
    let status = net.node(small).api("/status").await.unwrap();
    assert!(!status["warnings"].to_string().contains("budget"), "{status}");
}
