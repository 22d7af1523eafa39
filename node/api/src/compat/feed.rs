//! The reference's feed: new records, each with a sentence.

use std::cmp::Reverse;

use serde::Serialize;
use spore_protocol::Status;

use super::{
    Asked,
    shapes::{self, RecordJson},
    state::{self, State},
    tasks,
};
use crate::problem::ApiError;

/// Digits of an id that stand for a name.
const SHORT: usize = 8;

#[derive(Serialize)]
pub struct FeedEvent {
    kind: &'static str,
    headline: String,
    summary: String,
    impact: String,
    task_id: String,
    task_name: String,
    node_id: String,
    node_display_name: String,
    timestamp: u64,
    verified: bool,
    record: RecordJson,
}

/// The newest records as events: of a node only, and kept ones only, if that is asked for.
pub fn recent(asked: &Asked<'_>, state: &State, node: Option<&str>, keeps: bool) -> Result<Vec<FeedEvent>, ApiError> {
    let mut records: Vec<_> = state
        .records
        .iter()
        .filter(|record| node.is_none_or(|node| node.is_empty() || record.node_id.to_string() == node))
        .filter(|record| !keeps || record.status == Status::Keep)
        .collect();
    records.sort_by_key(|record| Reverse((record.timestamp, record.depth, record.id)));
    records.truncate(asked.limit(if keeps { 25 } else { 50 }, 200)?);
    let (mut events, mut bytes) = (Vec::new(), 0);
    for record in records {
        if let Some(event) = event(asked, &record.id)? {
            bytes += event.record.bytes();
            if bytes > state::MOST_BYTES {
                return Err(state::too_much());
            }
            events.push(event);
        }
    }
    Ok(events)
}

fn event(asked: &Asked<'_>, id: &spore_protocol::RecordId) -> Result<Option<FeedEvent>, ApiError> {
    let Some(record) = shapes::record(asked.view, id)? else { return Ok(None) };
    let parent = record.parent.as_deref().and_then(|id| id.parse().ok());
    let parent = parent.map(|id| asked.view.store().summary(&id)).transpose()?.flatten();
    let actor = record.node_display_name.clone().filter(|name| !name.is_empty());
    let actor = actor.unwrap_or_else(|| record.node_id.chars().take(SHORT).collect());
    let task = tasks::row(asked, &record.task_id)?.map(|row| row.name);
    let task_name = task.unwrap_or_else(|| record.task_id.chars().take(SHORT).collect());
    let (kind, headline, otherwise) = match (record.status, record.is_frontier) {
        ("crash", _) => {
            ("crash", format!("{actor} hit a crash on {task_name}"), "Experiment crashed before completion.")
        }
        ("discard", _) => {
            ("discard", format!("{actor} tested an idea on {task_name}"), "Result was worse than its parent.")
        }
        (_, true) => {
            ("frontier_keep", format!("{actor} moved the frontier on {task_name}"), "Result improved enough to keep.")
        }
        (_, false) => ("keep", format!("{actor} found a keep on {task_name}"), "Result improved enough to keep."),
    };
    let summary = if record.description.is_empty() { otherwise.to_owned() } else { record.description.clone() };
    let impact = match parent.map(|parent| record.val_bpb - parent.metric) {
        None => "baseline".to_owned(),
        Some(change) if change < 0.0 => format!("improved by {:.6}", change.abs()),
        Some(change) if change > 0.0 => format!("worse by {change:.6}"),
        Some(_) => "matched parent".to_owned(),
    };
    Ok(Some(FeedEvent {
        kind,
        headline,
        summary,
        impact,
        task_id: record.task_id.clone(),
        task_name,
        node_id: record.node_id.clone(),
        node_display_name: actor,
        timestamp: record.timestamp,
        verified: record.verified,
        record,
    }))
}
