//! Nodes as the reference summarises them.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Value, json};
use spore_protocol::{Kind, NodeId, SignedObject, Status};
use spore_storage::{NodeStats, PageDirection, RecordSummary, Span};

use super::{
    Asked, LEAST_SEARCHED,
    shapes::{self, ProfileJson, RecordJson},
    state::{self, State},
};
use crate::problem::ApiError;

/// Nodes that are summarised: keys are free.
const MOST_NODES: usize = 5_000;
/// Nodes or profiles read in one step.
const STEP: usize = 500;

#[derive(Clone, Serialize)]
struct Reputation {
    node_id: String,
    score: f64,
    experiments_published: u64,
    experiments_verified: u64,
    verifications_performed: u64,
    disputes_won: u64,
    disputes_lost: u64,
}

#[derive(Serialize)]
pub struct NodeJson {
    node_id: String,
    display_name: String,
    avatar_url: String,
    bio: String,
    website: String,
    donation_address: String,
    has_profile: bool,
    profile: Option<ProfileJson>,
    reputation: Reputation,
    activity: &'static str,
    experiment_count: usize,
    keep_count: usize,
    discard_count: usize,
    crash_count: usize,
    frontier_count: usize,
    verified_count: usize,
    task_count: usize,
    first_seen: Option<u64>,
    last_seen: Option<u64>,
    gpu_models: BTreeSet<String>,
    agent_models: BTreeSet<String>,
    best_val_bpb: Option<f64>,
    best_experiment: Option<RecordJson>,
    latest_experiment: Option<RecordJson>,
    /// Indices of the best and the latest record, which are read for those that are shown.
    #[serde(skip)]
    shown: (Option<usize>, Option<usize>),
}

/// The nodes with a record, a measurement or a profile, without their best and latest record.
fn summaries(asked: &Asked<'_>, state: &State) -> Result<Vec<NodeJson>, ApiError> {
    let mut records: BTreeMap<NodeId, Vec<usize>> = BTreeMap::new();
    for (index, record) in state.records.iter().enumerate() {
        records.entry(record.node_id).or_default().push(index);
    }
    let mut stats = all_stats(asked)?;
    for node in records.keys().copied().chain(profiled(asked)?) {
        stats.entry(node).or_insert(None);
    }
    if stats.len() > MOST_NODES {
        return Err(state::too_much());
    }
    stats
        .into_iter()
        .map(|(node, stats)| summary(asked, state, node, records.get(&node).map_or(&[], Vec::as_slice), stats))
        .collect()
}

/// How many nodes have a record, a measurement or a profile, and how many have a profile. More than [`MOST_NODES`] are not
/// counted.
pub fn counts(asked: &Asked<'_>) -> Result<(usize, usize), ApiError> {
    let profiled: BTreeSet<NodeId> = profiled(asked)?.into_iter().collect();
    let mut nodes: BTreeSet<NodeId> = all_stats(asked)?.into_keys().collect();
    nodes.extend(&profiled);
    Ok((nodes.len(), profiled.len()))
}

fn all_stats(asked: &Asked<'_>) -> Result<BTreeMap<NodeId, Option<NodeStats>>, ApiError> {
    let (mut found, mut span) = (BTreeMap::new(), Span::first(STEP));
    for _ in 0..=MOST_NODES.div_ceil(STEP) {
        let page = asked.view.store().nodes_page(None, &span)?;
        found.extend(page.items.into_iter().map(|node| (node.node_id, Some(node))));
        match page.next {
            Some(next) => span = Span { after: Some(next), direction: PageDirection::Forward, limit: STEP },
            None => break,
        }
    }
    Ok(found)
}

/// The nodes that have a profile.
fn profiled(asked: &Asked<'_>) -> Result<Vec<NodeId>, ApiError> {
    let (mut found, mut after) = (Vec::new(), None);
    for _ in 0..=MOST_NODES.div_ceil(STEP) {
        let positions = asked.view.store().page(Kind::Profile, after, STEP)?;
        for (_, id) in &positions {
            if let Some(SignedObject::Profile(profile)) = asked.view.store().object(Kind::Profile, id)? {
                found.push(profile.node_id);
            }
        }
        match positions.last() {
            Some(last) if positions.len() == STEP => after = Some(*last),
            _ => break,
        }
    }
    Ok(found)
}

fn reputation(node: NodeId, stats: Option<&NodeStats>, verified: u64) -> Reputation {
    Reputation {
        node_id: node.to_string(),
        score: stats.and_then(|stats| stats.reputation).unwrap_or_default(),
        experiments_published: stats.map_or(0, |stats| stats.experiment_count),
        experiments_verified: verified,
        verifications_performed: stats.map_or(0, |stats| stats.verification_count),
        // This node computes one number from all deeds, and counts no disputes.
        disputes_won: 0,
        disputes_lost: 0,
    }
}

fn summary(
    asked: &Asked<'_>,
    state: &State,
    node: NodeId,
    indices: &[usize],
    stats: Option<NodeStats>,
) -> Result<NodeJson, ApiError> {
    let records: Vec<(usize, &RecordSummary)> =
        indices.iter().filter_map(|index| Some((*index, state.records.get(*index)?))).collect();
    let of_status = |status: Status| records.iter().filter(|(_, record)| record.status == status).count();
    let count = |fits: fn(&RecordSummary) -> bool| records.iter().filter(|(_, record)| fits(record)).count();
    let texts = |field: fn(&RecordSummary) -> &String| -> BTreeSet<String> {
        records.iter().map(|(_, record)| field(record)).filter(|text| !text.is_empty()).cloned().collect()
    };
    let mut best: Option<(usize, f64)> = None;
    for (index, record) in &records {
        if best.is_none_or(|(_, metric)| record.metric < metric) {
            best = Some((*index, record.metric));
        }
    }
    let latest = records.iter().max_by_key(|(_, record)| (record.timestamp, record.depth, record.id));
    let profile = shapes::profile(asked.view, &node)?;
    let text =
        |field: fn(&ProfileJson) -> &String| profile.as_ref().map(|profile| field(profile).clone()).unwrap_or_default();
    let verified = count(|record| record.verdict.holds());
    let reputation = reputation(node, stats.as_ref(), verified as u64);
    let activity = match (reputation.experiments_published > 0, reputation.verifications_performed > 0) {
        (true, true) => "hybrid",
        (true, false) => "researcher",
        (false, true) => "verifier",
        (false, false) => "observer",
    };
    Ok(NodeJson {
        node_id: node.to_string(),
        display_name: text(|profile| &profile.display_name),
        avatar_url: text(|profile| &profile.avatar_url),
        bio: text(|profile| &profile.bio),
        website: text(|profile| &profile.website),
        donation_address: text(|profile| &profile.donation_address),
        has_profile: profile.is_some(),
        profile,
        reputation,
        activity,
        experiment_count: records.len(),
        keep_count: of_status(Status::Keep),
        discard_count: of_status(Status::Discard),
        crash_count: of_status(Status::Crash),
        frontier_count: count(|record| record.on_reference_frontier),
        verified_count: verified,
        task_count: records.iter().map(|(_, record)| record.task_id).collect::<BTreeSet<_>>().len(),
        first_seen: records.iter().map(|(_, record)| record.timestamp).min(),
        last_seen: records.iter().map(|(_, record)| record.timestamp).max(),
        gpu_models: texts(|record| &record.gpu_model),
        agent_models: texts(|record| &record.agent_model),
        best_val_bpb: best.map(|(_, metric)| metric),
        best_experiment: None,
        latest_experiment: None,
        shown: (best.map(|(index, _)| index), latest.map(|(index, _)| *index)),
    })
}

/// Reads the best and the latest record of a node.
fn completed(asked: &Asked<'_>, state: &State, mut node: NodeJson) -> Result<NodeJson, ApiError> {
    let (best, latest) = node.shown;
    node.best_experiment = state.shown(asked.view, best)?.pop();
    node.latest_experiment = state.shown(asked.view, latest)?.pop();
    Ok(node)
}

/// The nodes that the request's filters let through, in its order. `limit`: how many, when the request gives no number.
fn filtered(asked: &Asked<'_>, state: &State) -> Result<Vec<NodeJson>, ApiError> {
    let activity = asked.query.get("activity").unwrap_or("all");
    let status = asked.query.get("status").unwrap_or("all");
    let has_profile = asked.flag("has_profile")?;
    let mut nodes = summaries(asked, state)?;
    nodes.retain(|node| {
        let of_status = match status {
            "keep" => node.keep_count > 0,
            "discard" => node.discard_count > 0,
            "crash" => node.crash_count > 0,
            _ => true,
        };
        of_status
            && (activity == "all" || node.activity == activity)
            && has_profile.is_none_or(|has| has == node.has_profile)
    });
    Ok(nodes)
}

/// Sorts nodes as the request asks.
fn sort(nodes: &mut [NodeJson], order: &str) {
    let seen = |node: &NodeJson| node.last_seen.unwrap_or_default();
    // A best metric of 0 counts as none there.
    let best = |node: &NodeJson| node.best_val_bpb.filter(|best| *best != 0.0).unwrap_or(f64::INFINITY);
    match order {
        "published" => {
            nodes.sort_by_key(|node| std::cmp::Reverse((node.experiment_count, node.keep_count, seen(node))))
        }
        "frontier" => nodes.sort_by(|a, b| {
            b.frontier_count.cmp(&a.frontier_count).then(best(a).total_cmp(&best(b))).then(seen(b).cmp(&seen(a)))
        }),
        _ => nodes.sort_by_key(|node| std::cmp::Reverse((seen(node), node.experiment_count))),
    }
}

/// The list of nodes.
pub fn list(asked: &Asked<'_>, default: i64) -> Result<Vec<NodeJson>, ApiError> {
    let state = asked.state()?;
    let mut nodes = filtered(asked, &state)?;
    sort(&mut nodes, asked.query.get("sort").unwrap_or("recent"));
    nodes.truncate(asked.limit(default, 500)?);
    nodes.into_iter().map(|node| completed(asked, &state, node)).collect()
}

/// The nodes in whose texts a word occurs.
pub fn search(asked: &Asked<'_>) -> Result<Vec<NodeJson>, ApiError> {
    let text = asked.query.get("q").unwrap_or_default().to_lowercase();
    if text.chars().count() < LEAST_SEARCHED {
        return Ok(Vec::new());
    }
    let state = asked.state()?;
    let limit = asked.number("limit", 20)?;
    let mut nodes = filtered(asked, &state)?;
    sort(&mut nodes, "recent");
    nodes.truncate(usize::try_from(limit.saturating_mul(5).clamp(1, 500)).unwrap_or(1));
    nodes.retain(|node| {
        let texts = [&node.node_id, &node.display_name, &node.bio, &node.website].into_iter().chain(&node.gpu_models);
        texts.into_iter().any(|field| field.to_lowercase().contains(&text))
    });
    nodes.truncate(usize::try_from(limit).unwrap_or(0).max(1));
    nodes.into_iter().map(|node| completed(asked, &state, node)).collect()
}

/// Indices of a node's records that pass the request's filters.
fn chosen(asked: &Asked<'_>, state: &State, node: &str) -> Result<Vec<usize>, ApiError> {
    let status = asked.query.get("status").unwrap_or("all");
    let gpu = asked.query.get("gpu");
    let (verified, frontier) = (asked.flag("verified_only")? == Some(true), asked.flag("frontier_only")? == Some(true));
    let fits = |record: &RecordSummary| {
        record.node_id.to_string() == node
            && (status == "all" || record.status.name() == status)
            && gpu.is_none_or(|gpu| record.gpu_model == gpu)
            && (!verified || record.verdict.holds())
            && (!frontier || record.on_reference_frontier)
    };
    Ok((0..state.records.len()).filter(|index| state.records.get(*index).is_some_and(fits)).collect())
}

/// The records of a node.
pub fn experiments(asked: &Asked<'_>, node: &str) -> Result<Vec<RecordJson>, ApiError> {
    let state = asked.state()?;
    let chosen = chosen(asked, &state, node)?;
    state.shown(asked.view, chosen)
}

/// A node with a page of its records. None for an unknown node.
pub fn detail(asked: &Asked<'_>, node: &str) -> Result<Option<Value>, ApiError> {
    let state = asked.state()?;
    let Some(summary) = summaries(asked, &state)?.into_iter().find(|summary| summary.node_id == node) else {
        return Ok(None);
    };
    let (limit, offset) = (asked.number("limit", 100)?, asked.number("offset", 0)?);
    let chosen = chosen(asked, &state, node)?;
    let total = chosen.len();
    let page = chosen
        .into_iter()
        .skip(usize::try_from(offset).unwrap_or(0))
        .take(usize::try_from(limit.clamp(1, 500)).unwrap_or(1));
    let page = state.shown(asked.view, page)?;
    Ok(Some(json!({
        "node": completed(asked, &state, summary)?,
        "experiments": page,
        "total_experiments": total,
        "filters": {
            "task_id": state.task,
            "status": asked.query.get("status").unwrap_or("all"),
            "gpu": asked.query.get("gpu"),
            "verified_only": asked.flag("verified_only")?.unwrap_or_default(),
            "frontier_only": asked.flag("frontier_only")?.unwrap_or_default(),
            "limit": limit,
            "offset": offset,
        },
    })))
}

/// A node's profile.
pub fn profile(asked: &Asked<'_>, node: &str) -> Result<Option<ProfileJson>, ApiError> {
    let Ok(node) = node.parse::<NodeId>() else { return Ok(None) };
    shapes::profile(asked.view, &node)
}
