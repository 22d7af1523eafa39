//! Nodes and their profiles.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use spore_protocol::{
    HardwareClass, NodeId,
    trust::{Level, Standing},
};
use spore_storage::{NodeStats, Span};

use super::{
    StoreView,
    text::{Extent, MAX_NAME, truncated},
};
use crate::{
    dto,
    problem::{ApiError, ProblemKind},
    query::MAX_LIST,
};

/// Classes that leaders are looked for in, those with the most confirmed results.
const LED_CLASSES: usize = 32;
/// Leaders of one class that are looked at: weight is earned, so that nobody makes many of them.
const MAX_LEADERS: usize = 500;
/// Most hardware classes shown of a node. A node has few devices, but anybody can name any number.
const MAX_CLASSES: usize = 32;

impl StoreView {
    /// A node, named by its id or a unique prefix of the id.
    ///
    /// # Errors
    /// 404 for a node that signed nothing in the store, 409 for an ambiguous prefix.
    pub fn node(&self, given: &str) -> Result<dto::NodeSummary, ApiError> {
        let node_id = self.resolve_node(given)?;
        let stats = match self.store.node(None, &node_id)? {
            Some(stats) => stats,
            None => {
                let profiled = self.store.profile(&node_id)?.map(|profile| profile.timestamp);
                let last_activity = profiled.or((Some(node_id) == self.node_id).then_some(0));
                NodeStats {
                    node_id,
                    experiment_count: 0,
                    verification_count: 0,
                    classes: Vec::new(),
                    last_activity: last_activity.ok_or_else(|| ApiError::unknown_node(given))?,
                    reputation: None,
                }
            }
        };
        self.node_summary(&stats, Extent::Whole)
    }

    /// The nodes with confirmed work in the hardware classes of a task, or of the most active tasks: those with the most
    /// first.
    ///
    /// # Errors
    /// As [`StoreView::task`].
    pub fn leaders(&self, task: Option<&str>, limit: usize) -> Result<Vec<dto::NodeSummary>, ApiError> {
        let tasks = match task {
            Some(task) => vec![self.task_view(task)?],
            None => self.store.active_tasks(&Span::first(MAX_LIST))?.items,
        };
        let mut classes: BTreeMap<&HardwareClass, u64> = BTreeMap::new();
        for class in tasks.iter().flat_map(|task| &task.classes).filter(|class| class.verified_count > 0) {
            *classes.entry(&class.class).or_default() += class.verified_count;
        }
        let mut classes: Vec<_> = classes.into_iter().collect();
        classes.sort_by_key(|(_, confirmed)| Reverse(*confirmed));
        let mut nodes = BTreeSet::new();
        for (class, _) in classes.into_iter().take(LED_CLASSES) {
            nodes.extend(self.store.weighty(class, MAX_LEADERS)?);
        }
        let mut leaders = Vec::new();
        for node in nodes {
            let Some(stats) = self.store.node(None, &node)? else { continue };
            let summary = self.node_summary(&stats, Extent::Listed)?;
            let confirmed: u64 = summary.standings.iter().map(|standing| standing.confirmed).sum();
            if confirmed > 0 {
                leaders.push((confirmed, summary));
            }
        }
        leaders.sort_by(|(a, one), (b, other)| {
            b.cmp(a).then(other.experiment_count.cmp(&one.experiment_count)).then(one.node_id.cmp(&other.node_id))
        });
        Ok(leaders.into_iter().take(limit).map(|(_, node)| node).collect())
    }

    /// The newest profile of a node as the node signed it, in JSON.
    ///
    /// # Errors
    /// 404 for a node without a profile, 409 for an ambiguous prefix.
    pub fn profile(&self, given: &str) -> Result<String, ApiError> {
        let node = self.resolve_node(given)?;
        let profile = self.store.profile(&node)?;
        profile
            .map(|profile| profile.to_json())
            .ok_or_else(|| ApiError::new(ProblemKind::UnknownNode, format!("node {node} has no profile")))
    }

    /// How much a node's measurements count here, in each class where it has work that others measured.
    fn standings(&self, node: &NodeId) -> Result<Vec<dto::Standing>, ApiError> {
        let found = self.store.standings(node)?.into_iter();
        let standing = |(class, standing): (HardwareClass, Standing)| dto::Standing {
            class: class.to_string(),
            level: standing.level.map(Level::number),
            weight: standing.weight,
            confirmed: standing.confirmed.into(),
            refuted: standing.refuted.into(),
        };
        Ok(found.map(standing).collect())
    }

    pub(super) fn node_summary(&self, stats: &NodeStats, extent: Extent) -> Result<dto::NodeSummary, ApiError> {
        let profile = self.store.profile(&stats.node_id)?;
        let text = |text: &String| (!text.is_empty()).then(|| extent.of(text));
        let name = profile.as_ref().map(|profile| truncated(&profile.display_name, MAX_NAME));
        let classes = stats.classes.iter().take(MAX_CLASSES);
        Ok(dto::NodeSummary {
            node_id: stats.node_id.to_string(),
            display_name: name.filter(|name| !name.is_empty()),
            bio: profile.as_ref().and_then(|p| text(&p.bio)),
            website: profile.as_ref().and_then(|p| text(&p.website)),
            avatar_url: profile.as_ref().and_then(|p| text(&p.avatar_url)),
            donation_address: profile.as_ref().and_then(|p| text(&p.donation_address)),
            experiment_count: stats.experiment_count,
            verification_count: stats.verification_count,
            trusted: self.store.seeds()?.contains(&stats.node_id),
            standings: self.standings(&stats.node_id)?,
            reputation: stats.reputation.unwrap_or_default(),
            hardware_classes: classes.map(ToString::to_string).collect(),
            last_activity: stats.last_activity,
        })
    }
}
