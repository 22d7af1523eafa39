//! The task manifest: what the experiments of a task try to improve, on which data, in which time.

use crate::{
    ArtifactType, Cid, Goal, Kind, NodeId, Object, Reject,
    fields::text_or_empty,
    json::{Map, Value},
    signed::FieldReader,
};

/// The version that this program publishes.
pub const MANIFEST_VERSION: u64 = 1;

/// The signed content of a task manifest. The id of the manifest is the id of the task.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskManifest {
    pub name: String,
    pub description: String,
    /// Free text, such as `ml_train`. It has no effect.
    pub task_type: String,
    /// The type of script that the experiments run.
    pub artifact_type: ArtifactType,
    /// Name of the metric, such as `val_bpb`.
    pub metric: String,
    pub goal: Goal,
    /// The script of the root.
    pub base_code_cid: Option<Cid>,
    /// The evaluator: a [`Cid`] in hex in our own tasks, any text in legacy tasks.
    pub prepare_cid: String,
    /// The dataset: a [`Cid`] in hex in our own tasks, any text in legacy tasks.
    pub dataset_cid: String,
    /// Training time of each experiment, in seconds.
    pub time_budget: u64,
    pub created_by: NodeId,
    /// When the manifest was made, in Unix seconds, as its creator says.
    pub timestamp: u64,
    pub version: u64,
}

impl Object for TaskManifest {
    const KIND: Kind = Kind::Task;
    const ID_FIELD: &'static str = "task_id";
    const SIGNER_FIELD: &'static str = "created_by";

    fn read(f: &mut FieldReader) -> Result<Self, Reject> {
        Ok(Self {
            name: f.text("name")?,
            description: f.text("description")?,
            task_type: f.text("task_type")?,
            artifact_type: f.text("artifact_type")?.into(),
            metric: f.text("metric")?,
            goal: f.word("goal", "minimize or maximize")?,
            base_code_cid: f.optional_id("base_code_cid")?,
            prepare_cid: f.text("prepare_cid")?,
            dataset_cid: f.text("dataset_cid")?,
            time_budget: f.unsigned("time_budget")?,
            created_by: f.id("created_by")?,
            timestamp: f.unsigned("timestamp")?,
            version: f.unsigned("version")?,
        })
    }

    fn signed_fields(&self) -> Map {
        let text = |text: &String| Value::String(text.clone());
        Map::from([
            ("name".into(), text(&self.name)),
            ("description".into(), text(&self.description)),
            ("task_type".into(), text(&self.task_type)),
            ("artifact_type".into(), self.artifact_type.name().into()),
            ("metric".into(), text(&self.metric)),
            ("goal".into(), self.goal.name().into()),
            ("base_code_cid".into(), text_or_empty(self.base_code_cid)),
            ("prepare_cid".into(), text(&self.prepare_cid)),
            ("dataset_cid".into(), text(&self.dataset_cid)),
            ("time_budget".into(), self.time_budget.into()),
            ("created_by".into(), Value::String(self.created_by.to_string())),
            ("timestamp".into(), self.timestamp.into()),
            ("version".into(), self.version.into()),
        ])
    }

    fn signer(&self) -> NodeId {
        self.created_by
    }

    fn timestamp(&self) -> u64 {
        self.timestamp
    }
}
