//! From the store to the shapes of the API: the one place where they are converted, for the HTTP
//! server and for commands that read the store without a node.
//!
//! Only reads, and blocks while it does: call it on a blocking thread. Ids may be given as unique
//! prefixes. What is asked for in lists is bounded here.

use std::{collections::HashMap, sync::Arc};

use spore_base::peer_id::peer_id;
use spore_protocol::{
    Cid, Kind, NodeId, RecordId, TaskId, Verdict,
    verdict::{Judgement, Measurement},
};
use spore_storage::{NodeStats, RecordSummary, Store, TaskView};

use super::{dto, graph::Graphs, live::Live, problem::ApiError, query::MAX_LIST, resolve::unknown};

/// Ancestors shown with an experiment.
const MAX_ANCESTORS: usize = MAX_LIST;
/// Children shown with an experiment: the first of them, which few have more of.
const MAX_CHILDREN: usize = 50;
/// Script bytes shown with an experiment; the language allows fewer.
const MAX_CODE_BYTES: u64 = 1 << 20;

/// A store as the API shows it. Cheap to clone.
#[derive(Clone)]
pub struct View {
    store: Store,
    node_id: Option<NodeId>,
    peer_id: String,
    pub(super) graphs: Arc<Graphs>,
}

/// Display names already looked up for one answer.
#[derive(Default)]
pub(super) struct Names(HashMap<NodeId, Option<String>>);

impl View {
    /// `node_id` is this node's own; none for a store without an identity.
    pub fn new(store: Store, node_id: Option<NodeId>) -> Self {
        let peer_id = node_id.and_then(|node| peer_id(&node)).map(|peer| peer.to_string()).unwrap_or_default();
        Self { store, node_id, peer_id, graphs: Arc::default() }
    }

    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The node's state: what the store holds, and what `live` says of the process.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn status(&self, live: &Live) -> Result<dto::Status, ApiError> {
        let counts = self.store.counts()?;
        let active_task = match live.active_task {
            Some(task) => Some(task),
            None => self.store.most_active_task()?,
        };
        Ok(dto::Status {
            experiment_count: counts.experiments,
            verified_experiment_count: counts.verified,
            task_count: counts.tasks,
            peer_count: live.peers.len() as u64,
            legacy_peer_count: live.peers.iter().filter(|peer| peer.transport == "legacy").count() as u64,
            legacy_listen_addresses: live.legacy_listen_addresses.clone(),
            frontier_size: counts.frontier,
            node_id: self.node_id.map(|node| node.to_string()).unwrap_or_default(),
            peer_id: self.peer_id.clone(),
            version: env!("CARGO_PKG_VERSION").into(),
            mode: live.mode.into(),
            active_task: active_task.map(|task| task.to_string()),
            hardware_class: live.hardware_class.clone(),
            device: live.device.clone(),
            listen_addresses: live.listen_addresses.clone(),
            rejected: live.rejected.clone(),
            pending_count: counts.pending,
            sequence: self.store.sequence(),
            uptime_seconds: live.uptime.as_secs(),
            activity: live.activity.clone(),
        })
    }

    /// # Errors
    /// 404 for an unknown task, 409 for an ambiguous prefix.
    pub fn task(&self, id: &str) -> Result<dto::TaskSummary, ApiError> {
        self.task_view(id).map(|task| task_summary(&task))
    }

    pub(super) fn task_view(&self, id: &str) -> Result<TaskView, ApiError> {
        let task = self.resolve_task(id)?;
        self.store.task(&task)?.ok_or_else(|| unknown("task", id))
    }

    /// The id of a task that is here.
    ///
    /// # Errors
    /// As [`View::task`].
    pub fn known_task(&self, id: &str) -> Result<TaskId, ApiError> {
        self.task_view(id).map(|task| task.task_id)
    }

    /// The id of a record that is here.
    ///
    /// # Errors
    /// As [`View::experiment`].
    pub fn known_record(&self, id: &str) -> Result<RecordId, ApiError> {
        let record = self.resolve_record(id)?;
        let known = self.store.contains(Kind::Experiment, &record.into())?;
        if known { Ok(record) } else { Err(unknown("experiment", id)) }
    }

    pub(super) fn experiments(&self, found: &[RecordSummary]) -> Result<Vec<dto::Experiment>, ApiError> {
        let mut names = Names::default();
        found.iter().map(|summary| self.experiment_of(summary, &mut names)).collect()
    }

    pub(super) fn experiment_of(&self, s: &RecordSummary, names: &mut Names) -> Result<dto::Experiment, ApiError> {
        Ok(dto::Experiment {
            id: s.id.to_string(),
            task_id: s.task_id.to_string(),
            parent: s.parent.map(|id| id.to_string()),
            depth: s.depth,
            status: s.status.name().into(),
            val_bpb: s.metric,
            node_id: s.node_id.to_string(),
            display_name: self.name(names, &s.node_id)?,
            hardware_class: s.class.to_string(),
            gpu_model: s.gpu_model.clone(),
            num_steps: s.num_steps,
            num_params: s.num_params,
            peak_vram_mb: s.peak_vram_mb,
            time_budget: s.time_budget,
            description: s.description.clone(),
            hypothesis: s.hypothesis.clone(),
            agent_model: s.agent_model.clone(),
            code_cid: s.code_cid.map(|cid| cid.to_string()).unwrap_or_default(),
            timestamp: s.timestamp,
            verdict: s.verdict.name().into(),
            on_frontier: s.on_frontier,
            stray: s.stray,
        })
    }

    fn name(&self, names: &mut Names, node: &NodeId) -> Result<Option<String>, ApiError> {
        if let Some(name) = names.0.get(node) {
            return Ok(name.clone());
        }
        let profile = self.store.profile(node)?;
        let name = profile.map(|profile| shown(&profile.display_name, SHOWN_NAME)).filter(|name| !name.is_empty());
        names.0.insert(*node, name.clone());
        Ok(name)
    }

    /// An experiment with everything known about it.
    ///
    /// # Errors
    /// 404 for an unknown experiment, 409 for an ambiguous prefix.
    pub fn experiment(&self, id: &str) -> Result<ExperimentText, ApiError> {
        let record = self.resolve_record(id)?;
        let found = self.store.record(&record)?.ok_or_else(|| unknown("experiment", id))?;
        let summary = &found.summary;
        let task = self.store.task(&summary.task_id)?;
        let mut ancestors = self.store.ancestors(&record, MAX_ANCESTORS)?;
        ancestors.reverse();
        let children = self.store.children(&record, MAX_CHILDREN)?;
        let mut names = Names::default();
        let detail = dto::ExperimentDetail {
            experiment: self.experiment_of(summary, &mut names)?,
            task_name: task.as_ref().map(|task| task.name.clone()).unwrap_or_default(),
            metric: task.as_ref().map_or_else(|| "val_bpb".to_owned(), |task| task.metric.clone()),
            goal: task.as_ref().map_or("minimize", |task| task.goal.name()).to_owned(),
            lineage: self.summaries(&ancestors, &mut names)?,
            children: self.summaries(&children, &mut names)?,
            diff: found.signed.diff.clone(),
            code: self.code(summary.code_cid)?,
            signed: serde_json::Value::Null,
            evidence: self.evidence(summary, &mut names)?,
            received_at: summary.received_at,
        };
        Ok(ExperimentText { detail, signed: found.signed.to_json() })
    }

    fn summaries(&self, ids: &[RecordId], names: &mut Names) -> Result<Vec<dto::Experiment>, ApiError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(summary) = self.store.summary(id)? {
                found.push(self.experiment_of(&summary, names)?);
            }
        }
        Ok(found)
    }

    fn code(&self, cid: Option<Cid>) -> Result<Option<String>, ApiError> {
        let Some(cid) = cid else { return Ok(None) };
        if self.store.artifact_size(&cid)?.is_none_or(|size| size > MAX_CODE_BYTES) {
            return Ok(None);
        }
        let bytes = self.store.artifact(&cid)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    fn evidence(&self, summary: &RecordSummary, names: &mut Names) -> Result<dto::Evidence, ApiError> {
        let judgement = self.store.judgement(&summary.id)?.unwrap_or(Judgement {
            verdict: Verdict::Unverified,
            measurements: Vec::new(),
            dispute: None,
        });
        let mut measurements = Vec::with_capacity(judgement.measurements.len());
        for m in judgement.measurements.iter().take(MAX_LIST) {
            measurements.push(measurement(m, self.name(names, &m.node)?));
        }
        Ok(dto::Evidence {
            verdict: judgement.verdict.name().into(),
            ground_truth: judgement.dispute.and_then(|dispute| dispute.ground_truth),
            tolerance: summary.class.tolerance(),
            measurements,
        })
    }

    /// # Errors
    /// 404 for a node that signed nothing known here, 409 for an ambiguous prefix.
    pub fn node(&self, id: &str) -> Result<dto::NodeSummary, ApiError> {
        let node_id = self.resolve_node(id)?;
        let known = self.store.node(None, &node_id)?;
        let stats = match known {
            Some(stats) => stats,
            None => {
                let profile = self.store.profile(&node_id)?;
                let profiled = profile.map(|profile| profile.timestamp);
                let last_activity =
                    profiled.or((Some(node_id) == self.node_id).then_some(0)).ok_or_else(|| unknown("node", id))?;
                NodeStats {
                    node_id,
                    experiment_count: 0,
                    verification_count: 0,
                    classes: Vec::new(),
                    last_activity,
                    reputation: None,
                }
            }
        };
        self.node_summary(&stats)
    }

    /// A node's profile as it was signed, in JSON.
    ///
    /// # Errors
    /// 404 for a node without one, 409 for an ambiguous prefix.
    pub fn profile(&self, id: &str) -> Result<String, ApiError> {
        let node = self.resolve_node(id)?;
        let profile = self.store.profile(&node)?;
        profile
            .map(|profile| profile.to_json())
            .ok_or_else(|| ApiError::not_found(format!("node {node} has no profile")))
    }

    pub(super) fn node_summary(&self, stats: &NodeStats) -> Result<dto::NodeSummary, ApiError> {
        let profile = self.store.profile(&stats.node_id)?;
        let text = |text: &String, most| (!text.is_empty()).then(|| shown(text, most));
        Ok(dto::NodeSummary {
            node_id: stats.node_id.to_string(),
            display_name: profile.as_ref().and_then(|p| text(&p.display_name, SHOWN_NAME)),
            bio: profile.as_ref().and_then(|p| text(&p.bio, SHOWN_TEXT)),
            website: profile.as_ref().and_then(|p| text(&p.website, SHOWN_TEXT)),
            experiment_count: stats.experiment_count,
            verification_count: stats.verification_count,
            reputation: stats.reputation.unwrap_or_default(),
            hardware_classes: stats.classes.iter().map(ToString::to_string).collect(),
            last_activity: stats.last_activity,
        })
    }
}

/// Bytes of a name in an answer. An object may have 10 MiB, and an answer shows many.
const SHOWN_NAME: usize = 256;
/// Bytes of any other text of a profile or a manifest in an answer: the objects themselves have the whole.
const SHOWN_TEXT: usize = 4096;

/// The beginning of a text.
fn shown(text: &str, most: usize) -> String {
    text.get(..text.floor_char_boundary(most)).unwrap_or(text).to_owned()
}

/// An experiment's detail, its signed object apart: JSON numbers in it keep the spelling that the
/// signature covers, which a value parsed and written again would not.
pub struct ExperimentText {
    pub detail: dto::ExperimentDetail,
    pub signed: String,
}

impl ExperimentText {
    /// The whole as JSON text.
    ///
    /// # Errors
    /// When the detail cannot be serialised.
    pub fn to_json(&self) -> Result<String, ApiError> {
        let text = serde_json::to_string(&self.detail).map_err(|e| ApiError::internal(e.to_string()))?;
        // Inside a JSON string every quote is escaped, so this can only be the member itself.
        Ok(text.replacen("\"signed\":null", &format!("\"signed\":{}", self.signed), 1))
    }
}

pub(super) fn task_summary(task: &TaskView) -> dto::TaskSummary {
    let manifest = task.manifest.as_ref().map(|signed| signed.object());
    let text = |field: fn(&spore_protocol::TaskManifest) -> &String| {
        manifest.map(|manifest| shown(field(manifest), SHOWN_TEXT)).unwrap_or_default()
    };
    dto::TaskSummary {
        task_id: task.task_id.to_string(),
        name: shown(&task.name, SHOWN_NAME),
        description: text(|m| &m.description),
        task_type: text(|m| &m.task_type),
        artifact_type: text(|m| &m.artifact_type),
        metric: shown(&task.metric, SHOWN_NAME),
        goal: task.goal.name().into(),
        time_budget: manifest.map_or(0, |m| m.time_budget),
        created_by: manifest.map(|m| m.created_by.to_string()).unwrap_or_default(),
        timestamp: manifest.map_or(0, |m| m.timestamp),
        base_code_cid: manifest.and_then(|m| m.base_code_cid).map(|cid| cid.to_string()).unwrap_or_default(),
        prepare_cid: text(|m| &m.prepare_cid),
        dataset_cid: text(|m| &m.dataset_cid),
        legacy: task.legacy,
        root: task.root.map(|id| id.to_string()),
        experiment_count: task.experiment_count,
        keep_count: task.keep_count,
        discard_count: task.discard_count,
        crash_count: task.crash_count,
        verified_count: task.verified_count,
        frontier_size: task.frontier_size,
        node_count: task.node_count,
        best: task.best.map(|(_, metric)| metric),
        best_id: task.best.map(|(id, _)| id.to_string()),
        last_activity: task.last_activity,
        classes: task
            .classes
            .iter()
            .map(|class| dto::ClassSummary {
                class: class.class.to_string(),
                experiment_count: class.experiment_count,
                frontier_size: class.frontier_size,
                best: class.best.map(|(_, metric)| metric),
                tolerance: class.class.tolerance(),
            })
            .collect(),
    }
}

fn measurement(m: &Measurement, display_name: Option<String>) -> dto::Measurement {
    dto::Measurement {
        event_id: m.event_id.to_string(),
        kind: m.kind.into(),
        node_id: m.node.to_string(),
        display_name,
        hardware_class: m.class.to_string(),
        value: m.value,
        timestamp: m.timestamp,
        ignored: m.ignored.map(str::to_owned),
    }
}
