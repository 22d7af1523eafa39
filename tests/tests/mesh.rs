//! Real nodes over libp2p: research, verification, catch-up, one frontier.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeSet, time::Duration};

use spore_tests::{
    TestNet,
    net::{Node, text, texts},
    wait_for,
};

const TINY: &str = include_str!("../scripts/tiny.star");
/// Seconds of training. Long enough for a few hundred steps on a slow processor.
const BUDGET: u64 = 6;
/// Several experiments of [`BUDGET`] with their evaluation, two at once on two cores.
const RESEARCH_LIMIT: Duration = Duration::from_secs(600);
/// Messages between processes of one machine.
const SPREAD_LIMIT: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread")]
async fn nodes_agree_on_one_frontier_and_late_ones_catch_up() {
    let mut net = TestNet::new();
    let task = net.create_task("researcher", TINY, BUDGET);
    // Frontiers are what holds by the measurements of trusted nodes. All four trust the same ones.
    for name in ["relay", "researcher", "verifier", "late"] {
        net.trust(name, &["researcher", "verifier"]);
    }
    let relay = net.start("relay", None, &["--no-train"]).await;
    // Half of the machine each: one that trains on all of it would be slow for the other, whose fixed class hides that.
    let pinned = ["--task", &task, "--device", "flex", "--resource", "50"];
    let researcher = net.start("researcher", Some(relay), &pinned).await;
    let verifier = net.start("verifier", Some(relay), &[&pinned[..], &["--verify-only"]].concat()).await;

    // The verifier confirms a record of the researcher, and all three nodes know it. What the researcher claims holds
    // here without that, because its key is trusted.
    wait_for("a confirmed record on all three nodes", RESEARCH_LIMIT, async || {
        let mut seen = Vec::new();
        for node in [relay, researcher, verifier] {
            seen.push((net.node(node).records(&task).await?.len(), confirmed(net.node(node), &task).await?));
        }
        if seen.iter().all(|(_, confirmed)| *confirmed >= 1) {
            Ok(())
        } else {
            Err(format!("(records, confirmed): {seen:?}"))
        }
    })
    .await;
    reruns_on_one_backend_are_equal_to_the_bit(&net, relay, &task).await;

    // A node that starts late gets everything, with the scripts.
    let before = net.node(relay).records(&task).await.unwrap();
    let late = net.start("late", Some(relay), &["--no-train"]).await;
    has_all(&net, late, &task, &before).await;
    wait_for("the scripts of all records on the late node", SPREAD_LIMIT, async || {
        for id in &before {
            let detail = net.node(late).api(&format!("/experiments/{id}")).await?;
            if !detail["code"].is_string() {
                return Err(format!("no script of {id} ({})", detail["experiment"]["code_cid"]));
            }
        }
        Ok(())
    })
    .await;

    // A node that was stopped for some time gets everything too.
    assert_eq!(net.node_mut(late).interrupt(), 0, "SIGINT stops a node in order");
    let missed = wait_for("a record that the absent node misses", RESEARCH_LIMIT, async || {
        let now = net.node(researcher).records(&task).await?;
        let new: BTreeSet<_> = now.difference(&before).cloned().collect();
        if new.is_empty() { Err(format!("{} records", now.len())) } else { Ok(new) }
    })
    .await;
    net.node_mut(late).start().await;
    has_all(&net, late, &task, &missed).await;

    // When research ends, all nodes have the same records, and the same frontier in the same order.
    assert_eq!(net.node_mut(researcher).interrupt(), 0);
    let frontier = wait_for("the same records and frontier on all nodes", SPREAD_LIMIT, async || {
        let first = (net.node(relay).records(&task).await?, net.node(relay).frontier(&task).await?);
        for node in [verifier, late] {
            let other = (net.node(node).records(&task).await?, net.node(node).frontier(&task).await?);
            if other != first {
                return Err(format!(
                    "{} and {} records, frontiers {:?} and {:?}",
                    first.0.len(),
                    other.0.len(),
                    first.1,
                    other.1
                ));
            }
        }
        Ok(first.1)
    })
    .await;
    assert!(!frontier.is_empty());

    // The researcher's own store, read without its node, has all of them.
    let records = net.node(relay).records(&task).await.unwrap();
    for id in &records {
        spore_tests::spore(net.node(researcher).dir(), &["show", id]).expect_code(0);
    }
    let output =
        spore_tests::spore(net.node(researcher).dir(), &["frontier", "--task", &task, "--json"]).expect_code(0);
    assert!(!output.json().as_array().unwrap().is_empty());
}

/// The number of records that a trusted node measured again and found to hold.
async fn confirmed(node: &Node, task: &str) -> Result<usize, String> {
    let page = node.api(&format!("/tasks/{task}/experiments?limit=100")).await?;
    let experiments = page["items"].as_array().into_iter().flatten();
    Ok(experiments.filter(|experiment| experiment["support"]["trusted_for"].as_u64() >= Some(1)).count())
}

/// The same script, seed and steps on the CPU give the same metric in two processes.
async fn reruns_on_one_backend_are_equal_to_the_bit(net: &TestNet, node: usize, task: &str) {
    let page = net.node(node).api(&format!("/tasks/{task}/experiments?limit=100")).await.unwrap();
    let verified = page["items"].as_array().unwrap().iter().filter(|e| e["verdict"] == "verified");
    let mut compared = 0;
    for experiment in verified {
        let detail = net.node(node).api(&format!("/experiments/{}", text(&experiment["id"]))).await.unwrap();
        for measurement in detail["judgement"]["measurements"].as_array().unwrap() {
            assert_eq!(measurement["value"].as_f64(), experiment["val_bpb"].as_f64(), "{measurement} of {experiment}");
            assert_ne!(measurement["node_id"], experiment["node_id"], "the publisher is no verifier");
            compared += 1;
        }
    }
    assert!(compared >= 1);
}

async fn has_all(net: &TestNet, node: usize, task: &str, wanted: &BTreeSet<String>) {
    wait_for("a node to catch up", SPREAD_LIMIT, async || {
        let known = net.node(node).records(task).await?;
        let missing = wanted.difference(&known).count();
        if missing == 0 { Ok(()) } else { Err(format!("{missing} of {} records are missing", wanted.len())) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn task_made_beside_a_running_node_reaches_its_peers() {
    let mut net = TestNet::new();
    let first = net.start("first", None, &["--no-train"]).await;
    let second = net.start("second", Some(first), &["--no-train"]).await;
    wait_for("the two to connect", SPREAD_LIMIT, async || {
        let status = net.node(second).api("/status").await?;
        if status["peer_count"].as_u64() == Some(1) { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let task = net.create_task("first", TINY, BUDGET);
    wait_for("the new task on the other node", SPREAD_LIMIT, async || {
        let tasks = net.node(second).api("/tasks").await?;
        let ids: Vec<_> = tasks["items"].as_array().into_iter().flatten().map(|t| text(&t["task_id"])).collect();
        if ids.contains(&task) { Ok(()) } else { Err(format!("{ids:?}")) }
    })
    .await;
    let status = net.node(first).api("/status").await.unwrap();
    assert!(!texts(&status["listen_addresses"]).is_empty(), "{status}");
}
