//! A record and a profile as the reference writes them.

use serde::Serialize;
use spore_protocol::{NodeId, NodeProfile, RecordId, Signed};

use crate::{problem::ApiError, view::StoreView};

#[derive(Serialize)]
pub struct RecordJson {
    pub id: String,
    pub parent: Option<String>,
    pub depth: u64,
    pub task_id: String,
    pub code_cid: String,
    pub diff: String,
    pub dataset_cid: String,
    pub prepare_cid: String,
    pub time_budget: u64,
    pub val_bpb: f64,
    pub peak_vram_mb: f64,
    pub num_steps: u64,
    pub num_params: u64,
    pub status: &'static str,
    pub description: String,
    pub hypothesis: String,
    pub agent_model: String,
    pub gpu_model: String,
    pub cuda_version: String,
    pub torch_version: String,
    pub node_id: String,
    pub timestamp: u64,
    pub signature: String,
    pub version: u64,
    /// Absent, with the next one, when the node has no profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_display_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_avatar_url: Option<String>,
    /// Whether the result holds here.
    pub verified: bool,
    pub is_frontier: bool,
}

/// Bytes of a record's fields of bounded length.
const FIXED_BYTES: usize = 900;

impl RecordJson {
    /// About as many bytes as the record takes in an answer.
    pub fn bytes(&self) -> usize {
        let texts =
            [&self.diff, &self.description, &self.hypothesis, &self.dataset_cid, &self.prepare_cid, &self.gpu_model];
        let others = [&self.agent_model, &self.cuda_version, &self.torch_version];
        let profile = [&self.node_display_name, &self.node_avatar_url].into_iter().flatten();
        FIXED_BYTES + texts.into_iter().chain(others).chain(profile).map(String::len).sum::<usize>()
    }
}

/// A record of the store. None when the store does not hold it.
///
/// # Errors
/// When the store cannot be read.
pub fn record(view: &StoreView, id: &RecordId) -> Result<Option<RecordJson>, ApiError> {
    let Some(found) = view.store().record(id)? else { return Ok(None) };
    let (summary, signed) = (found.summary, found.signed);
    let profile = view.store().profile(&summary.node_id)?;
    Ok(Some(RecordJson {
        id: summary.id.to_string(),
        parent: summary.parent.map(|id| id.to_string()),
        depth: signed.depth,
        task_id: summary.task_id.to_string(),
        code_cid: signed.code_cid.map(|cid| cid.to_string()).unwrap_or_default(),
        diff: signed.diff.clone(),
        dataset_cid: signed.dataset_cid.clone(),
        prepare_cid: signed.prepare_cid.clone(),
        time_budget: signed.time_budget,
        val_bpb: signed.val_bpb,
        peak_vram_mb: signed.peak_vram_mb,
        num_steps: signed.num_steps,
        num_params: signed.num_params,
        status: signed.status.name(),
        description: signed.description.clone(),
        hypothesis: signed.hypothesis.clone(),
        agent_model: signed.agent_model.clone(),
        gpu_model: signed.gpu_model.clone(),
        cuda_version: signed.cuda_version.clone(),
        torch_version: signed.torch_version.clone(),
        node_id: summary.node_id.to_string(),
        timestamp: signed.timestamp,
        signature: hex::encode(signed.signature()),
        version: signed.version,
        node_display_name: profile.as_ref().map(|profile| profile.display_name.clone()),
        node_avatar_url: profile.as_ref().map(|profile| profile.avatar_url.clone()),
        verified: summary.verdict.holds(),
        is_frontier: summary.on_reference_frontier,
    }))
}

#[derive(Clone, Serialize)]
pub struct ProfileJson {
    pub id: String,
    pub node_id: String,
    pub display_name: String,
    pub bio: String,
    pub website: String,
    pub avatar_url: String,
    pub donation_address: String,
    pub timestamp: u64,
    pub schema_version: u64,
}

/// A node's newest profile.
///
/// # Errors
/// When the store cannot be read.
pub fn profile(view: &StoreView, node: &NodeId) -> Result<Option<ProfileJson>, ApiError> {
    let shape = |profile: Signed<NodeProfile>| ProfileJson {
        id: profile.id().to_string(),
        node_id: profile.node_id.to_string(),
        display_name: profile.display_name.clone(),
        bio: profile.bio.clone(),
        website: profile.website.clone(),
        avatar_url: profile.avatar_url.clone(),
        donation_address: profile.donation_address.clone(),
        timestamp: profile.timestamp,
        schema_version: profile.schema_version,
    };
    Ok(view.store().profile(node)?.map(shape))
}
