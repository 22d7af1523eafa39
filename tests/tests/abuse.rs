//! Abuse over the legacy protocol: while every kind of abuse goes on at full speed, the node's memory stays bounded and
//! the node serves its honest peers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeSet, path::Path, time::Duration};

use spore_protocol::Kind;
use spore_storage::Store;
use spore_tests::{TestNet, ordeal::Ordeal};

/// How long the attack lasts in CI. A shorter one is enough for a developer's run.
const ATTACK: Duration = Duration::from_secs(30);
const SHORT_ATTACK: Duration = Duration::from_secs(8);
/// Bytes of memory that an attack may cost beyond twice the memory before it: eight half frames of 10 MiB, whose buffers
/// may be half empty, the objects that are not decided yet, and the memory that the allocator keeps.
const ATTACK_MEMORY: u64 = 256 << 20;
/// Bytes by which the log may grow meanwhile: attackers must not fill the disk with warnings.
const LOG_BYTES: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn attack_costs_bounded_memory_and_honest_peers_lose_nothing_but_time() {
    let mut net = TestNet::new();
    // The records that every node has from the start.
    let fresh = net.start("fresh", None, &["--no-train"]).await;
    assert_eq!(net.node_mut(fresh).interrupt(), 0);
    let built_in = ids_of_stored_records(net.node(fresh).dir());

    let time = if std::env::var_os("CI").is_some() { ATTACK } else { SHORT_ATTACK };
    // This panics when an honest peer loses its connection or a record that it sent.
    let ordeal = Ordeal::run(&mut net, time).await;
    let node = net.node(ordeal.node);
    let status = node.api("/status").await.expect("the node still answers");
    let rejected = status["rejected"].as_object().unwrap();
    println!("{} s of attack:\n{}\n{}\nrejected: {rejected:?}", time.as_secs(), ordeal.volume, ordeal.report());

    let bound = 2 * ordeal.quiet_memory + ATTACK_MEMORY;
    assert!(ordeal.attack_memory <= bound, "{} bytes of memory, more than {bound}", ordeal.attack_memory);
    // Only objects are counted: bytes that are no object are refused before.
    for code in ["bad_signature", "depth_mismatch"] {
        assert!(rejected.get(code).is_some_and(|count| count.as_u64() > Some(0)), "{code}: {rejected:?}");
    }
    let log = node.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(log.len() < LOG_BYTES, "{} bytes of log", log.len());

    let published: BTreeSet<_> = ordeal.tree.ids().collect();
    let served = node.records(&ordeal.tree.task.to_string()).await.unwrap();
    assert_alike(&served, &published, "served for the task");
    let dir = node.dir().to_owned();
    assert_eq!(net.node_mut(ordeal.node).interrupt(), 0);
    let mut stored = ids_of_stored_records(&dir);
    stored.retain(|id| !built_in.contains(id));
    assert_alike(&stored, &published, "stored beside the built-in task");
}

fn assert_alike(found: &BTreeSet<String>, wanted: &BTreeSet<String>, what: &str) {
    let (more, less): (Vec<_>, Vec<_>) = (found.difference(wanted).collect(), wanted.difference(found).collect());
    assert!(more.is_empty() && less.is_empty(), "{what}: {more:?} too many, {less:?} are missing");
}

/// Ids of all records in a data directory. Verifies every object in it once more.
fn ids_of_stored_records(dir: &Path) -> BTreeSet<String> {
    let store = Store::open(dir).expect("the node's store");
    let mut ids = BTreeSet::new();
    for kind in Kind::ALL {
        for (_, id) in store.page(kind, None, usize::MAX).unwrap() {
            let object = store.object(kind, &id).unwrap().expect("a listed object is stored");
            assert_eq!(object.id(), id);
            object.verify().expect("a stored object is valid");
            if kind == Kind::Experiment {
                ids.insert(id.to_string());
            }
        }
    }
    ids
}
