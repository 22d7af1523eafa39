//! Experiments: as lists show them, and in full.

use spore_protocol::{Cid, Goal, Kind, RecordId};
use spore_storage::RecordSummary;

use super::{
    StoreView,
    judgements::{flaw, support},
    text::{DisplayNames, Extent, MAX_NAME, truncated},
};
use crate::{dto, problem::ApiError, query::MAX_LIST};

/// Ancestors shown with an experiment.
const MAX_ANCESTORS: usize = MAX_LIST;
/// Children shown with an experiment, the first ones: few experiments have more.
const MAX_CHILDREN: usize = 50;
/// Bytes of the largest script shown with an experiment. The language allows fewer.
const MAX_CODE_BYTES: u64 = 1 << 20;

impl StoreView {
    /// The id of a record that the store holds.
    ///
    /// # Errors
    /// As [`StoreView::experiment`].
    pub fn known_record(&self, given: &str) -> Result<RecordId, ApiError> {
        let record = self.resolve_record(given)?;
        let known = self.store.contains(Kind::Experiment, &record.into())?;
        if known { Ok(record) } else { Err(ApiError::unknown_experiment(given)) }
    }

    /// An experiment with everything that the store knows about it, named by its id or a unique prefix of the id.
    ///
    /// # Errors
    /// 404 for an unknown experiment, 409 for an ambiguous prefix.
    pub fn experiment(&self, given: &str) -> Result<ExperimentText, ApiError> {
        let record = self.resolve_record(given)?;
        let found = self.store.record(&record)?.ok_or_else(|| ApiError::unknown_experiment(given))?;
        let summary = &found.summary;
        let task = self.store.task(&summary.task_id)?;
        let mut ancestors = self.store.ancestors(&record, MAX_ANCESTORS)?;
        ancestors.reverse();
        let children = self.store.children(&record, MAX_CHILDREN)?;
        let mut names = DisplayNames::default();
        let goal = task.as_ref().map_or(Goal::Minimize, |task| task.goal);
        let experiment = self.experiment_of(summary, Extent::Whole, &mut names)?;
        let detail = dto::ExperimentDetail {
            experiment: dto::Experiment { gain: self.gain_of(summary, goal)?, ..experiment },
            task_name: task.as_ref().map(|task| truncated(&task.name, MAX_NAME)).unwrap_or_default(),
            metric: task.as_ref().map_or_else(|| "val_bpb".to_owned(), |task| truncated(&task.metric, MAX_NAME)),
            goal: goal.name().to_owned(),
            lineage: self.experiments_by_id(&ancestors, &mut names)?,
            children: self.experiments_by_id(&children, &mut names)?,
            diff: found.signed.diff.clone(),
            code: self.code(summary.code_cid)?,
            signed: serde_json::Value::Null,
            judgement: self.judgement_of(summary, &mut names)?,
            received_at: summary.received_at,
        };
        Ok(ExperimentText { detail, signed: found.signed.to_json() })
    }

    pub(super) fn experiments(&self, found: &[RecordSummary]) -> Result<Vec<dto::Experiment>, ApiError> {
        let mut names = DisplayNames::default();
        found.iter().map(|summary| self.experiment_of(summary, Extent::Listed, &mut names)).collect()
    }

    pub(super) fn experiment_of(
        &self,
        record: &RecordSummary,
        extent: Extent,
        names: &mut DisplayNames,
    ) -> Result<dto::Experiment, ApiError> {
        Ok(dto::Experiment {
            id: record.id.to_string(),
            task_id: record.task_id.to_string(),
            parent: record.parent.map(|id| id.to_string()),
            depth: record.depth,
            status: record.status.name().into(),
            val_bpb: record.metric,
            node_id: record.node_id.to_string(),
            display_name: self.display_name(names, &record.node_id)?,
            hardware_class: record.class.to_string(),
            gpu_model: extent.of(&record.gpu_model),
            num_steps: record.num_steps,
            num_params: record.num_params,
            peak_vram_mb: record.peak_vram_mb,
            time_budget: record.time_budget,
            description: extent.of(&record.description),
            hypothesis: extent.of(&record.hypothesis),
            agent_model: extent.of(&record.agent_model),
            code_cid: record.code_cid.map(|cid| cid.to_string()).unwrap_or_default(),
            timestamp: record.timestamp,
            verdict: record.verdict.name().into(),
            global_verdict: record.global_verdict.name().into(),
            support: support(&record.support),
            flaw: record.flaw.map(flaw),
            claim: record.is_claim(),
            on_frontier: record.on_frontier,
            on_global_frontier: record.on_global_frontier,
            on_reference_frontier: record.on_reference_frontier,
            stray: record.stray,
            gain: None,
        })
    }

    fn experiments_by_id(&self, ids: &[RecordId], names: &mut DisplayNames) -> Result<Vec<dto::Experiment>, ApiError> {
        let mut found = Vec::with_capacity(ids.len());
        for id in ids {
            if let Some(summary) = self.store.summary(id)? {
                found.push(self.experiment_of(&summary, Extent::Listed, names)?);
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
}

/// An experiment's detail, and its signed object as text: the text keeps the spelling of the numbers, which the
/// signature covers. A value that is parsed and written again would lose it.
pub struct ExperimentText {
    pub detail: dto::ExperimentDetail,
    pub signed: String,
}

impl ExperimentText {
    /// The detail with the signed object, as JSON text.
    ///
    /// # Errors
    /// When the detail cannot be serialised.
    pub fn to_json(&self) -> Result<String, ApiError> {
        let text = serde_json::to_string(&self.detail).map_err(|e| ApiError::internal(e.to_string()))?;
        // Inside a JSON string every quote is escaped, so this can only be the member itself.
        Ok(text.replacen("\"signed\":null", &format!("\"signed\":{}", self.signed), 1))
    }
}
