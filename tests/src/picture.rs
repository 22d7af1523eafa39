//! What a node knows about tasks, records and control events, to compare nodes of both programs.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
    time::Duration,
};

use serde_json::Value;
use spore_protocol::Kind;

use crate::{
    legacy::{LegacyPeer, object_id},
    net::{Node, text},
    reference::Reference,
    wait_for,
};

/// A few dozen objects arrive within seconds. A node that was offline may wait for its backoff before it dials again.
const AGREE_LIMIT: Duration = Duration::from_secs(120);
/// Loopback address of the peer that only reads. No other test dials from it, so it uses up no other peer's limits.
const ONLOOKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 99);

/// The state that two nodes must agree on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picture {
    /// Names by id.
    pub tasks: BTreeMap<String, String>,
    /// Tasks by record.
    pub records: BTreeMap<String, String>,
    /// Class-blind, best first, by task.
    pub frontiers: BTreeMap<String, Vec<String>>,
    /// Ids of control events.
    pub controls: BTreeSet<String>,
}

impl Picture {
    /// The state of one of our nodes. Its control events are read from its legacy port.
    ///
    /// # Errors
    /// It does not answer.
    pub async fn of_node(node: &Node) -> Result<Self, String> {
        let mut picture = Self::default();
        for task in node.api("/tasks?limit=500").await?["items"].as_array().into_iter().flatten() {
            let (id, name) = (text(&task["task_id"]), text(&task["name"]));
            picture.records.extend(node.records(&id).await?.into_iter().map(|record| (record, id.clone())));
            picture.frontiers.insert(id.clone(), node.listing(&id, "reference").await?);
            picture.tasks.insert(id, name);
        }
        picture.controls = controls_of(node).await?;
        Ok(picture)
    }

    /// The state of a node of the reference.
    pub async fn of_reference(reference: &mut Reference) -> Self {
        let mut picture = Self {
            tasks: reference.tasks().await,
            records: reference.records().await,
            controls: reference.controls().await,
            frontiers: BTreeMap::new(),
        };
        for task in picture.tasks.keys() {
            picture.frontiers.insert(task.clone(), reference.frontier(task).await);
        }
        picture
    }

    /// A short description of the first difference; none if there is none.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let lacks = |name: &str, mine: BTreeSet<&String>, theirs: BTreeSet<&String>| {
            let missing = |one: &BTreeSet<&String>, of: &BTreeSet<&String>| {
                of.difference(one).map(|id| id.chars().take(8).collect::<String>()).collect::<Vec<_>>()
            };
            (mine != theirs).then(|| {
                format!(
                    "{name}: the first lacks {:?}, the second {:?}",
                    missing(&mine, &theirs),
                    missing(&theirs, &mine)
                )
            })
        };
        lacks("tasks", self.tasks.keys().collect(), other.tasks.keys().collect())
            .or_else(|| lacks("records", self.records.keys().collect(), other.records.keys().collect()))
            .or_else(|| lacks("control events", self.controls.iter().collect(), other.controls.iter().collect()))
            .or_else(|| (self != other).then(|| format!("names, tasks or frontiers: {self:?} and {other:?}")))
    }
}

/// Waits until one of our nodes and one of the reference agree, and returns their state.
pub async fn agree(node: &Node, reference: &mut Reference) -> Picture {
    wait_for("a node and the reference to know the same", AGREE_LIMIT, async || {
        let ours = Picture::of_node(node).await?;
        let theirs = Picture::of_reference(reference).await;
        match ours.difference(&theirs) {
            None => Ok(ours),
            Some(difference) => Err(difference),
        }
    })
    .await
}

/// As [`agree`], for two of our nodes.
pub async fn agree_among_us(first: &Node, second: &Node) -> Picture {
    wait_for("two nodes to know the same", AGREE_LIMIT, async || {
        let (one, other) = (Picture::of_node(first).await?, Picture::of_node(second).await?);
        match one.difference(&other) {
            None => Ok(one),
            Some(difference) => Err(difference),
        }
    })
    .await
}

/// Ids of the control events that a node sends to legacy peers.
async fn controls_of(node: &Node) -> Result<BTreeSet<String>, String> {
    let mut peer = LegacyPeer::dial_from(ONLOOKER, node.port).await.map_err(|e| format!("the legacy port: {e}"))?;
    peer.sync_all().await;
    let other = [Kind::Experiment, Kind::Task, Kind::Profile].map(Kind::name);
    let controls = peer.frames().into_iter().filter(|frame| !other.contains(&frame.kind.as_str()));
    Ok(controls.filter_map(|frame| object_id(&frame)).collect())
}

/// A node's global verdict on a record, to which every signer contributes alike, as in the reference.
///
/// # Errors
/// It does not know it.
pub async fn verdict(node: &Node, record: &str) -> Result<String, String> {
    let detail: Value = node.api(&format!("/experiments/{record}")).await?;
    Ok(text(&detail["experiment"]["global_verdict"]))
}
