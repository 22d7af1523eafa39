//! Our node and the reference, each the real program, as equal members of one legacy network.
//!
//! Each program receives everything that the other has, with the same ids, tasks and frontiers. Only verdicts differ:
//! our node computes them from measurements, the reference believes claims.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::BTreeSet,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use spore_protocol::{ControlEvent, Identity, SignedObject, TaskId, VerifiedObject, control::Rerun};
use spore_tests::{
    Node, TestNet,
    net::{text, texts},
    picture::{Picture, agree, verdict},
    reference::{Reference, python, seed},
    seed::{SeededTask, legacy_chain},
    spore, wait_for,
};

/// How long a few objects may take between processes of one busy machine.
const SPREAD_LIMIT: Duration = Duration::from_secs(60);

/// Starts a relay of ours that dials these legacy peers.
async fn start(net: &mut TestNet, name: &str, peers: &[String]) -> usize {
    let mut flags = vec!["--no-train"];
    flags.extend(peers.iter().flat_map(|peer| ["--peer", peer.as_str()]));
    net.start(name, None, &flags).await
}

/// The fields of a task, as the reference's own command sets them.
fn task_facts(name: &str) -> Value {
    json!({"do": "create_task", "name": name, "description": "made by the reference", "task_type": "ml_train",
        "artifact_type": "python_train_script", "metric": "val_bpb", "goal": "minimize", "base_code_cid": "",
        "prepare_cid": "da".repeat(32), "dataset_cid": "da".repeat(32), "time_budget": 20})
}

async fn has_script(node: &Node, record: &str) {
    wait_for("a record's script on our node", SPREAD_LIMIT, async || {
        let detail = node.api(&format!("/experiments/{record}")).await?;
        if detail["code"].is_string() { Ok(()) } else { Err(format!("no script of {record}")) }
    })
    .await;
}

async fn has_verdict(node: &Node, record: &str, expected: &str) {
    wait_for("a verdict on our node", SPREAD_LIMIT, async || {
        let seen = verdict(node, record).await?;
        if seen == expected { Ok(()) } else { Err(format!("{record} is {seen}, not {expected}")) }
    })
    .await;
}

/// Waits until a node of the reference receives a record's script from its peers.
async fn gets_script(reference: &mut Reference, record: &Value, script: &str) {
    wait_for("a record's script on the reference", SPREAD_LIMIT, async || {
        let found = reference.ask(json!({"do": "fetch", "cid": record["code_cid"]})).await;
        if found == script { Ok(()) } else { Err(found.to_string()) }
    })
    .await;
}

/// Waits until our node and the reference show this name for the node `who`.
async fn both_show(node: &Node, reference: &mut Reference, who: &str, name: &str) {
    wait_for("a profile on both nodes", SPREAD_LIMIT, async || {
        let ours = node.api(&format!("/nodes/{who}")).await.map(|node| text(&node["display_name"]));
        let theirs = reference.profiles().await.remove(who);
        if ours.as_deref() == Ok(name) && theirs.as_deref() == Some(name) {
            Ok(())
        } else {
            Err(format!("ours {ours:?}, theirs {theirs:?}"))
        }
    })
    .await;
}

/// Sets the profile of our node, as its user would. Returns the node's id.
async fn set_profile(node: &Node, name: &str) -> String {
    spore(node.dir(), &["profile", "set", "--display-name", name]).expect_code(0);
    text(&node.api("/status").await.unwrap()["node_id"])
}

#[tokio::test(flavor = "multi_thread")]
async fn node_that_dials_a_reference_exchanges_everything_with_it() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let seeded = seed(&python, &net.dir_of("reference"), &["--records", "60"]);
    let ours = SeededTask::new(1, 20);
    ours.store(&net.dir_of("ours"));
    let mut reference = Reference::start(&python, &net, "reference", &[]).await;
    let node = start(&mut net, "ours", &[reference.address()]).await;

    // The reference asks only peers that it dialled, so our node has offered its objects unasked.
    let known = agree(net.node(node), &mut reference).await;
    for (record, task) in seeded["records"].as_object().unwrap() {
        assert_eq!(known.records.get(record), task.as_str().map(str::to_owned).as_ref(), "{record}");
    }
    for record in &ours.records {
        assert_eq!(known.records.get(&record.to_string()), Some(&ours.task.to_string()));
    }
    let (task, legacy) = (text(&seeded["task"]), text(&seeded["legacy_task"]));
    assert_eq!(known.tasks[&task], "seeded by seed");
    assert_eq!(known.tasks[&legacy], format!("legacy-{}", &legacy[..8]));
    assert!(known.frontiers[&task].len() > 1, "several branches stand side by side: {:?}", known.frontiers[&task]);
    assert_eq!(known.frontiers[&legacy].len(), 1);
    let controls: BTreeSet<_> = texts(&seeded["controls"]).into_iter().collect();
    assert!(known.controls.is_superset(&controls), "{:?}", known.controls);

    // The reference believes each claim. Our node looks at the measurements.
    let claims = &seeded["claims"];
    let [held, failed, disputed] = ["held", "failed", "disputed"].map(|name| text(&claims[name]));
    let believed = reference.verified().await;
    assert!(believed.contains(&held) && believed.contains(&failed), "{believed:?}");
    has_verdict(net.node(node), &held, "verified").await;
    assert_eq!(verdict(net.node(node), &failed).await.unwrap(), "disputed");
    // Two signers contradict it. The reference closes the dispute by their event; here four of equal weight would.
    assert_eq!(verdict(net.node(node), &disputed).await.unwrap(), "disputed");
    for record in ours.verified() {
        assert!(believed.contains(&record.to_string()), "the reference can read our claims: {record}");
    }

    for record in seeded["records"].as_object().unwrap().keys() {
        has_script(net.node(node), record).await;
    }
    reference.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_that_dials_our_node_receives_everything() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let history = SeededTask::new(2, 30);
    history.store(&net.dir_of("ours"));
    let node = start(&mut net, "ours", &[]).await;
    let chain = legacy_chain(&history.publisher, 5);
    for object in &chain {
        net.node(node).submit(object).await;
    }
    let me = set_profile(net.node(node), "Grace").await;
    let mut reference = Reference::start(&python, &net, "reference", &[net.node(node).legacy_address()]).await;
    reference.synced().await;

    let known = agree(net.node(node), &mut reference).await;
    let legacy = chain[0].id().to_string();
    assert_eq!(known.tasks[&legacy], format!("legacy-{}", &legacy[..8]));
    for object in &chain {
        assert_eq!(
            known.records[&object.id().to_string()],
            legacy,
            "a record of version 1 comes with the task that our node derived"
        );
    }
    assert_eq!(known.frontiers[&legacy], [chain[4].id().to_string()]);
    assert_eq!(known.tasks[&history.task.to_string()], "history-2");
    assert_eq!(known.controls.len(), history.verified().count());
    assert_eq!(reference.verified().await, history.verified().map(ToString::to_string).collect());
    both_show(net.node(node), &mut reference, &me, "Grace").await;

    // The reference fetches scripts by itself, and any other artifact on request.
    for index in [0, 7, 29] {
        let cid = spore_protocol::Cid::of(history.script(index));
        let script = reference.ask(json!({"do": "fetch", "cid": cid.to_string()})).await;
        assert_eq!(script.as_str().map(str::as_bytes), Some(history.script(index)));
    }
    reference.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn new_objects_of_every_kind_cross_both_ways() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let node = start(&mut net, "ours", &[]).await;
    let mut reference = Reference::start(&python, &net, "reference", &[net.node(node).legacy_address()]).await;
    reference.synced().await;
    agree(net.node(node), &mut reference).await;

    // The reference publishes a task, its root and a child, a legacy task, and a profile.
    let task = text(&reference.ask(task_facts("theirs")).await);
    let root = reference.ask(json!({"do": "publish", "code": "print(0)", "task_id": task})).await;
    let child = json!({"do": "publish", "code": "print(1)", "task_id": task, "parent": root["id"], "depth": 1,
        "val_bpb": 2.5, "gpu_model": "NVIDIA H100 80GB HBM3"});
    let child = reference.ask(child).await;
    let old = reference.ask(json!({"do": "publish_old", "code": "print('old')"})).await;
    let old_child = json!({"do": "publish_old", "code": "print('old 1')", "parent": old["id"], "depth": 1,
        "val_bpb": 2.9, "status": "discard"});
    let old_child = reference.ask(old_child).await;
    reference.ask(json!({"do": "profile", "display_name": "Ada", "bio": "naïve, \u{1f331}"})).await;
    let ada = text(&reference.ask(json!({"do": "status"})).await["node_id"]);

    // Our node publishes the same, object by object.
    let history = SeededTask::new(3, 6);
    for index in 0..6 {
        net.node(node).put_artifact(history.script(index)).await;
    }
    let chain = legacy_chain(&history.publisher, 3);
    for object in history.objects().chain(chain) {
        net.node(node).submit(&object).await;
    }
    let grace = set_profile(net.node(node), "Grace").await;

    let known = agree(net.node(node), &mut reference).await;
    assert_eq!(known.tasks[&task], "theirs");
    assert_eq!(known.frontiers[&task], [text(&child["id"])]);
    for record in [&old, &old_child] {
        assert_eq!(known.records[&text(&record["id"])], text(&old["id"]));
    }
    assert_eq!(known.tasks[&history.task.to_string()], "history-3");
    both_show(net.node(node), &mut reference, &ada, "Ada").await;
    both_show(net.node(node), &mut reference, &grace, "Grace").await;

    // Scripts follow their records in both directions.
    for record in [&root, &child, &old, &old_child] {
        has_script(net.node(node), &text(&record["id"])).await;
    }
    wait_for("our scripts on the reference", SPREAD_LIMIT, async || {
        for index in 0..6 {
            let cid = spore_protocol::Cid::of(history.script(index)).to_string();
            let held = reference.ask(json!({"do": "artifact", "cid": cid})).await;
            if held.as_str().map(str::as_bytes) != Some(history.script(index)) {
                return Err(format!("script {index}: {held}"));
            }
        }
        Ok(())
    })
    .await;
    reference.assert_unharmed().await;
}

/// A re-run of a record of the reference, by one of our keys.
fn rerun(by: &Identity, task: &str, record: &Value, value: f64) -> Rerun {
    Rerun {
        experiment_id: text(&record["id"]).parse().unwrap(),
        task_id: Some(task.parse::<TaskId>().unwrap()),
        node_id: by.node_id(),
        gpu: "CPU".into(),
        value,
    }
}

fn signed(by: &Identity, event: &ControlEvent) -> SignedObject {
    VerifiedObject::from(by.sign(event).unwrap()).into_signed()
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_cross_both_ways_and_only_measurements_move_our_verdicts() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let node = start(&mut net, "ours", &[]).await;
    let mut reference = Reference::start(&python, &net, "reference", &[net.node(node).legacy_address()]).await;
    reference.synced().await;
    let task = text(&reference.ask(task_facts("theirs")).await);
    let mut records = Vec::new();
    for number in 0..5 {
        let parent = records.first().map(|root: &Value| root["id"].clone());
        let record = json!({"do": "publish", "code": format!("print({number})"), "task_id": task,
            "parent": parent, "depth": u8::from(number > 0), "val_bpb": 3.0 - 0.1 * f64::from(number)});
        records.push(reference.ask(record).await);
    }

    // Claims made with the reference's own classes: a colleague confirms one record, and "confirms" another with a value
    // that is far off. The publisher confirms its own record.
    let colleague = text(&reference.ask(json!({"do": "key_of", "signer": "colleague"})).await);
    let publisher = text(&reference.ask(json!({"do": "status"})).await["node_id"]);
    let mut claim = async |record: &Value, verifier: &str, signer: Option<&str>, value: f64| {
        let id = text(&record["id"]);
        let payload = json!({"event_id": format!("verification:{id}:{verifier}"), "experiment_id": id, "task_id": task,
            "verified_node_id": publisher, "verifier_id": verifier, "verifier_gpu": "CPU", "verifier_bpb": value,
            "is_frontier": true});
        let event = json!({"do": "control", "type": "verification", "payload": payload, "signer": signer});
        text(&reference.ask(event).await)
    };
    let mut made = vec![claim(&records[1], &colleague, Some("colleague"), 2.9).await];
    made.push(claim(&records[2], &colleague, Some("colleague"), 9.0).await);
    made.push(claim(&records[3], &publisher, None, 2.7).await);

    // Our claims: a challenge, and three answers that side with the record.
    let people: Vec<_> = (1..=4).map(|number| Identity::from_seed(&[100 + number; 32])).collect();
    let challenger = people[0].node_id();
    // Events that are older than their record do not count.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let challenge = ControlEvent::challenge(rerun(&people[0], &task, &records[4], 9.0), now);
    let mut events = vec![signed(&people[0], &challenge)];
    for (number, person) in (1..).zip(&people[1..]) {
        let rerun = rerun(person, &task, &records[4], 2.6);
        let event = ControlEvent::challenge_response(rerun, challenger, now + number);
        events.push(signed(person, &event));
    }
    for event in &events {
        wait_for("the record that an event is about", SPREAD_LIMIT, async || {
            net.node(node).api(&format!("/experiments/{}", text(&records[4]["id"]))).await
        })
        .await;
        net.node(node).submit(event).await;
    }
    made.extend(events.iter().map(|event| event.id().to_string()));

    let known = agree(net.node(node), &mut reference).await;
    assert_eq!(known.controls, made.into_iter().collect());
    let ids: Vec<_> = records.iter().map(|record| text(&record["id"])).collect();
    assert_eq!(
        reference.verified().await,
        ids[1..=3].iter().cloned().collect(),
        "the reference marks whatever is claimed"
    );
    for (id, expected) in ids.iter().zip(["unverified", "verified", "disputed", "unverified", "upheld"]) {
        has_verdict(net.node(node), id, expected).await;
    }
    reference.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node_between_two_references_passes_on_everything() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let seeded = seed(&python, &net.dir_of("first"), &["--records", "9"]);
    let node = start(&mut net, "ours", &[]).await;
    // Both dial our node. A node names only peers that it dialled, so these two do not learn of each other.
    let peers = [net.node(node).legacy_address()];
    let mut first = Reference::start(&python, &net, "first", &peers).await;
    let mut second = Reference::start(&python, &net, "second", &peers).await;
    for reference in [&mut first, &mut second] {
        reference.synced().await;
    }
    let known = agree(net.node(node), &mut first).await;
    assert_eq!(agree(net.node(node), &mut second).await, known);
    assert!(seeded["records"].as_object().unwrap().keys().all(|record| known.records.contains_key(record)));

    // New objects of one end reach the other end, and so do their scripts.
    let task = text(&second.ask(task_facts("from the far end")).await);
    let root = second.ask(json!({"do": "publish", "code": "print('far')", "task_id": task})).await;
    let child = json!({"do": "publish", "code": "print('near')", "task_id": task, "parent": root["id"], "depth": 1,
        "val_bpb": 2.0});
    let has = format!("{} of the far end at the near one", root["id"]);
    wait_for(&has, SPREAD_LIMIT, async || {
        let records = first.records().await;
        if records.contains_key(&text(&root["id"])) { Ok(()) } else { Err(format!("{} records", records.len())) }
    })
    .await;
    let child = first.ask(child).await;
    gets_script(&mut first, &root, "print('far')").await;
    gets_script(&mut second, &child, "print('near')").await;
    let known = agree(net.node(node), &mut first).await;
    assert_eq!(agree(net.node(node), &mut second).await, known);
    assert_eq!(known.frontiers[&task], [text(&child["id"])]);

    second.ask(json!({"do": "profile", "display_name": "Björn"})).await;
    let who = text(&second.ask(json!({"do": "status"})).await["node_id"]);
    both_show(net.node(node), &mut first, &who, "Björn").await;
    for reference in [&mut first, &mut second] {
        let peers = texts(&reference.ask(json!({"do": "status"})).await["peers"]);
        assert_eq!(peers, [net.node(node).legacy_address()], "the two references are not connected with each other");
        reference.assert_unharmed().await;
    }
}

/// Lets the reference publish a child of `parent`.
async fn publish(reference: &mut Reference, task: &str, parent: &Value, number: u32) {
    let record = json!({"do": "publish", "code": format!("print({number})"), "task_id": task, "parent": parent["id"],
        "depth": 1, "val_bpb": 2.0 - 0.01 * f64::from(number)});
    reference.ask(record).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_that_the_database_of_a_reference_respelt_arrive_as_they_were_signed() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let mut reference = Reference::start(&python, &net, "reference", &[]).await;
    let task = text(&reference.ask(task_facts("theirs")).await);
    let root = reference.ask(json!({"do": "publish", "code": "print(0)", "task_id": task, "val_bpb": 20})).await;
    // The numbers are signed as integers and sent from columns of floats. If these were forgeries, so many would ban the
    // address.
    for number in 1..=6 {
        let record = json!({"do": "publish", "code": format!("print({number})"), "task_id": task, "depth": 1,
            "parent": root["id"], "val_bpb": 20 - number, "peak_vram_mb": number % 2});
        reference.ask(record).await;
    }
    let node = start(&mut net, "ours", &[reference.address()]).await;
    let of_task = |known: &Picture| known.records.values().filter(|of| **of == task).count();
    assert_eq!(of_task(&agree(net.node(node), &mut reference).await), 7);
    // No penalty came of it: the connection goes on.
    publish(&mut reference, &task, &root, 7).await;
    assert_eq!(of_task(&agree(net.node(node), &mut reference).await), 8);
    reference.assert_unharmed().await;
}

fn remembers(dir: &Path, address: &str) -> bool {
    let known = std::fs::read_to_string(dir.join("known_peer")).unwrap_or_default();
    known.lines().any(|line| line == address)
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_agree_again_after_either_one_stops_or_is_killed() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let mut reference = Reference::start(&python, &net, "reference", &[]).await;
    let task = text(&reference.ask(task_facts("theirs")).await);
    let root = reference.ask(json!({"do": "publish", "code": "print(0)", "task_id": task})).await;
    let node = start(&mut net, "ours", &[reference.address()]).await;
    agree(net.node(node), &mut reference).await;
    let chain = legacy_chain(&Identity::from_seed(&[9; 32]), 3);

    // The reference stops and comes back: our node keeps dialling it.
    for (number, object) in (1..).zip(&chain[..2]) {
        if number == 1 {
            reference.stop().await
        } else {
            reference.kill().await
        }
        net.node(node).submit(object).await;
        reference.start_again().await;
        publish(&mut reference, &task, &root, number).await;
        let known = agree(net.node(node), &mut reference).await;
        assert!(known.records.contains_key(&object.id().to_string()));
    }

    // Our node stops and comes back without a peer on the command line. It reads its known peers from the file that the
    // reference has, too.
    assert!(remembers(net.node(node).dir(), &reference.address()));
    net.node_mut(node).set_flags(&["--no-train"]);
    for number in 3..=4 {
        if number == 3 {
            assert_eq!(net.node_mut(node).interrupt(), 0);
        } else {
            drop(net.node_mut(node).kill());
        }
        publish(&mut reference, &task, &root, number).await;
        net.node_mut(node).start().await;
        agree(net.node(node), &mut reference).await;
    }

    // The reference remembers our node as well.
    net.node(node).submit(&chain[2]).await;
    reference.ask(json!({"do": "connect", "peer": net.node(node).legacy_address()})).await;
    assert!(remembers(reference.dir(), &net.node(node).legacy_address()));
    let known = agree(net.node(node), &mut reference).await;
    assert!(known.records.contains_key(&chain[2].id().to_string()));
    reference.assert_unharmed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn peers_are_learnt_from_either_program() {
    let Some(python) = python() else { return };
    let mut net = TestNet::new();
    let mut first = Reference::start(&python, &net, "first", &[]).await;
    let second = Reference::start(&python, &net, "second", &[first.address()]).await;

    // Our node dials the second reference, which names the first.
    let node = start(&mut net, "ours", &[second.address()]).await;
    let here = format!("{} among our known peers", first.address());
    wait_for(&here, SPREAD_LIMIT, async || {
        if remembers(net.node(node).dir(), &first.address()) { Ok(()) } else { Err("not yet".to_owned()) }
    })
    .await;

    // A third reference asks our node and dials both.
    let mut third = Reference::start(&python, &net, "third", &[net.node(node).legacy_address()]).await;
    wait_for("the third to dial the peers of our node", SPREAD_LIMIT, async || {
        let peers = texts(&third.ask(json!({"do": "status"})).await["peers"]);
        let dialled = [first.address(), second.address()];
        if dialled.iter().all(|peer| peers.contains(peer)) { Ok(()) } else { Err(format!("{peers:?}")) }
    })
    .await;
    first.assert_unharmed().await;
}
