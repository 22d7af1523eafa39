//! Nodes behind routers reach each other: directly where the routers allow it, through a relay elsewhere.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::time::{Duration, Instant};

use rustix::process::Signal;
use spore_protocol::{Cid, Identity, Record, SignedObject, VerifiedObject, fixtures};
use spore_tests::{
    flood::now,
    lab::{Lab, Site},
    skip::skip,
    wait_for,
};

/// Time for what the network does by itself. No test passes or fails by speed.
const LIMIT: Duration = Duration::from_secs(180);
/// The sites of the matrix, each with two nodes. Those that have IPv6 alone are not among them: they get their first
/// reservation so late on a busy machine that the test would be one of patience.
const SITES: [Site; 3] = [Site::Public, Site::Cone, Site::Symmetric];

/// A laboratory with a relay that both families reach, and nodes that know only the relay.
fn lab(sites: &[Site]) -> Option<(Lab, usize, Vec<usize>)> {
    let mut lab = match Lab::new() {
        Ok(lab) => lab,
        Err(reason) => {
            skip(&reason);
            return None;
        }
    };
    let relay = lab.node("relay", Site::Both, &[]).unwrap();
    let [v4, v6] = lab.get(relay).tcp().collect::<Vec<_>>().try_into().unwrap();
    let nodes = sites.iter().enumerate().map(|(number, site)| {
        let peer = if *site == Site::V6 { &v6 } else { &v4 };
        lab.node(&format!("n{number}"), *site, &["--peer", peer]).unwrap()
    });
    let nodes = nodes.collect();
    Some((lab, relay, nodes))
}

/// A root record of a key with a script of its own, and the script.
fn record(number: u8) -> (SignedObject, Vec<u8>) {
    let by: Identity = fixtures::identity(100 + number);
    let script = format!("# script {number}\n{}", "x = 1\n".repeat(5000)).into_bytes();
    let record = Record { code_cid: Some(Cid::of(&script)), timestamp: now(), ..fixtures::record(&by, None, None) };
    (VerifiedObject::from(fixtures::sign(&by, &record)).into_signed(), script)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_pair_of_sites_ends_connected_and_passes_records_and_artifacts() {
    let sites: Vec<Site> = SITES.into_iter().flat_map(|site| [site, site]).collect();
    let Some((mut lab, relay, nodes)) = lab(&sites) else { return };
    let started = Instant::now();
    lab.get_mut(relay).start().await;
    for node in &nodes {
        lab.get_mut(*node).spawn();
    }
    for node in &nodes {
        lab.get_mut(*node).started().await;
    }
    let ids: Vec<String> = nodes.iter().map(|node| lab.get(*node).peer_id().unwrap()).collect();

    // Connected, and as directly as the routers allow.
    let mut rows = Vec::new();
    for (a, node) in nodes.iter().enumerate() {
        for b in a + 1..nodes.len() {
            let (one, other) = (lab.get(*node), lab.get(nodes[b]));
            // Hole punching depends on when packets cross, so a busy machine may miss it: the row tells what came of it.
            let direct = one.site == Site::Public || other.site == Site::Public;
            let address = wait_for(&format!("{} with {}", one.site.name(), other.site.name()), LIMIT, async || {
                let address = one.address_of(&ids[b])?.ok_or_else(|| format!("not connected:\n{}", status(one)))?;
                let relayed = address.contains("p2p-circuit");
                if relayed && direct { Err(format!("still through the relay: {address}")) } else { Ok(address) }
            })
            .await;
            let kind = if address.contains("p2p-circuit") { "relayed" } else { "direct" };
            rows.push(format!(
                "{:<10} {:<10} {kind:<8} {:<8} {:>5.1} s",
                one.site.name(),
                other.site.name(),
                if one.site.can_be_direct(other.site) { "direct" } else { "relayed" },
                started.elapsed().as_secs_f64()
            ));
        }
    }

    // A record and a script of each node reach all others.
    let mut cids = Vec::new();
    for (number, node) in nodes.iter().enumerate() {
        let (object, script) = record(number as u8);
        let cid = Cid::of(&script);
        lab.get(*node).post(&format!("/artifacts?cid={cid}"), &script).unwrap();
        lab.get(*node).post("/objects", object.to_json().as_bytes()).unwrap();
        cids.push((object.id().to_string(), cid.to_string()));
    }
    for node in &nodes {
        for (record, cid) in &cids {
            wait_for("a record and its script", LIMIT, async || {
                lab.get(*node).api(&format!("/experiments/{record}"))?;
                if lab.get(*node).has_artifact(cid) { Ok(()) } else { Err("no script".to_owned()) }
            })
            .await;
        }
    }
    rows.dedup_by_key(|row| row.chars().take(30).collect::<String>());
    println!("A          B          path     at best  seconds since the start\n{}", rows.join("\n"));
}

fn status(node: &spore_tests::lab::LabNode) -> String {
    let tail: Vec<_> = node.log().lines().rev().take(8).map(str::to_owned).collect();
    tail.into_iter().rev().collect::<Vec<_>>().join("\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn node_behind_nat_is_reachable_again_after_its_relay_died() {
    let Some((mut lab, relay, nodes)) = lab(&[Site::Symmetric, Site::Symmetric]) else { return };
    lab.get_mut(relay).start().await;
    for node in &nodes {
        lab.get_mut(*node).start().await;
    }
    let other = lab.get(nodes[1]).peer_id().unwrap();
    let connected = async |lab: &Lab| {
        let one = lab.get(nodes[0]);
        wait_for("a connection through the relay", LIMIT, async || {
            one.address_of(&other)?.ok_or_else(|| format!("not connected:\n{}", status(one)))
        })
        .await
    };
    assert!(connected(&lab).await.contains("p2p-circuit"));
    lab.get_mut(relay).end(Signal::KILL);
    let one = lab.get(nodes[0]);
    wait_for("the address at the dead relay to be withdrawn", LIMIT, async || {
        let listening = one.api("/status")?["listen_addresses"].to_string();
        if listening.contains("p2p-circuit") { Err(listening) } else { Ok(()) }
    })
    .await;
    let back = Instant::now();
    lab.get_mut(relay).start().await;
    assert!(connected(&lab).await.contains("p2p-circuit"));
    println!("reachable {:.1} s after the relay was started again", back.elapsed().as_secs_f64());
}
