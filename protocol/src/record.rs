//! The experiment record: what a node changed, ran and measured, signed by that node.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{
    Cid, HardwareClass, Kind, NodeId, Object, RecordId, Reject, Signed, TaskId,
    json::{self, Field, Map, Value},
    signed::{FieldReader, Spelling},
};

/// The version that this program publishes. It signs `task_id`; version 1 does not.
pub const RECORD_VERSION: u64 = 2;

/// How an experiment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Better than the parent. Later experiments may build on it.
    Keep,
    /// Ran to the end and was not better.
    Discard,
    /// Did not run to the end, so there is no metric.
    Crash,
}

impl Status {
    pub const ALL: [Self; 3] = [Self::Keep, Self::Discard, Self::Crash];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Discard => "discard",
            Self::Crash => "crash",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Status {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|status| status.name() == text).ok_or(())
    }
}

/// The signed content of an experiment record.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// None for the root of a task.
    pub parent: Option<RecordId>,
    /// Number of ancestors: 0 for a root.
    pub depth: u64,
    /// The train script. None in legacy records without a script.
    pub code_cid: Option<Cid>,
    /// Unified diff between the parent's script and this one.
    pub diff: String,
    /// The dataset: a [`Cid`] in hex in our own tasks, any text in legacy tasks.
    pub dataset_cid: String,
    /// The evaluator: a [`Cid`] in hex in our own tasks, any text in legacy tasks.
    pub prepare_cid: String,
    /// Training time allowed, in seconds.
    pub time_budget: u64,
    /// The task's metric, also when the task names another one than `val_bpb`. 0 in crash records.
    pub val_bpb: f64,
    /// Peak memory of the device in MB. On a CPU, of the process.
    pub peak_vram_mb: f64,
    /// Optimizer steps.
    pub num_steps: u64,
    /// Trainable parameters of the model.
    pub num_params: u64,
    pub status: Status,
    /// What was changed, in a sentence.
    pub description: String,
    /// Why the change should help.
    pub hypothesis: String,
    /// The proposer of the change: name of a language model, or of the built-in proposer.
    pub agent_model: String,
    /// The device's name as its driver gives it. [`Record::class`] follows from it.
    pub gpu_model: String,
    pub cuda_version: String,
    /// Name and version of the library that trained.
    pub torch_version: String,
    /// The publisher.
    pub node_id: NodeId,
    /// None in version 1, which does not sign the task: it follows from the lineage.
    pub task_id: Option<TaskId>,
    /// When the record was made, in Unix seconds, as the publisher says.
    pub timestamp: u64,
    pub version: u64,
}

impl Record {
    /// The hardware class in which the result is comparable.
    pub fn class(&self) -> HardwareClass {
        HardwareClass::of(&self.gpu_model)
    }
}

impl Signed<Record> {
    /// As [`Signed::from_value`], for a record out of the reference's database, from which the
    /// reference also answers sync requests. Its REAL columns lose whether a number was spelled as an
    /// integer, and the spelling is signed. The spelling whose hash is the id is the signed one.
    ///
    /// # Errors
    /// As [`Signed::from_json`].
    pub fn from_any_spelling(value: Value) -> Result<Self, Reject> {
        Self::from_spellings(value, |shown| {
            let of = |name: &str| shown.get(name).map(spellings).unwrap_or_default();
            let (metrics, memories) = (of("val_bpb"), of("peak_vram_mb"));
            let pair = |metric: &Value, memory: &Value| -> Spelling {
                [("val_bpb".to_owned(), metric.clone()), ("peak_vram_mb".to_owned(), memory.clone())]
            };
            let pairs = metrics.iter().flat_map(|metric| memories.iter().map(move |memory| pair(metric, memory)));
            // The first pair is what was shown: `from_spellings` has tried it.
            pairs.skip(1).collect()
        })
    }
}

/// All numbers that a REAL column shows in this way: `1.0` may have been `1`, and `0.0` may have been
/// `0` or `-0.0`.
fn spellings(shown: &Value) -> Vec<Value> {
    /// 2^63: SQLite stores larger numbers as REAL only, so they cannot have been integers.
    const BEYOND: f64 = 9_223_372_036_854_775_808.0;
    match shown {
        Value::Float(number) if number.fract() == 0.0 && (-BEYOND..BEYOND).contains(number) => {
            #[allow(clippy::cast_possible_truncation, reason = "integral and within 64 bits")]
            let integer = Value::Int(*number as i128);
            let mut all = vec![shown.clone(), integer];
            if *number == 0.0 {
                all.push(Value::Float(-0.0));
            }
            all
        }
        other => vec![other.clone()],
    }
}

impl Record {
    /// The signed fields, sorted by name.
    fn fields(&self) -> impl Iterator<Item = (&'static str, Field<'_>)> {
        let id = |id: Option<[u8; 32]>, none| id.map_or(none, Field::Id);
        let task_id = (self.version >= 2).then(|| ("task_id", id(self.task_id.map(|id| id.0), Field::Text(""))));
        let before = [
            ("agent_model", Field::Text(&self.agent_model)),
            ("code_cid", id(self.code_cid.map(|cid| cid.0), Field::Text(""))),
            ("cuda_version", Field::Text(&self.cuda_version)),
            ("dataset_cid", Field::Text(&self.dataset_cid)),
            ("depth", Field::Int(self.depth)),
            ("description", Field::Text(&self.description)),
            ("diff", Field::Text(&self.diff)),
            ("gpu_model", Field::Text(&self.gpu_model)),
            ("hypothesis", Field::Text(&self.hypothesis)),
            ("node_id", Field::Id(self.node_id.0)),
            ("num_params", Field::Int(self.num_params)),
            ("num_steps", Field::Int(self.num_steps)),
            ("parent", id(self.parent.map(|id| id.0), Field::Null)),
            ("peak_vram_mb", Field::Float(self.peak_vram_mb)),
            ("prepare_cid", Field::Text(&self.prepare_cid)),
            ("status", Field::Text(self.status.name())),
        ];
        let after = [
            ("time_budget", Field::Int(self.time_budget)),
            ("timestamp", Field::Int(self.timestamp)),
            ("torch_version", Field::Text(&self.torch_version)),
            ("val_bpb", Field::Float(self.val_bpb)),
            ("version", Field::Int(self.version)),
        ];
        before.into_iter().chain(task_id).chain(after)
    }
}

impl Object for Record {
    const KIND: Kind = Kind::Experiment;
    const ID_FIELD: &'static str = "id";
    const SIGNER_FIELD: &'static str = "node_id";

    fn read(f: &mut FieldReader) -> Result<Self, Reject> {
        // Early records of version 1 have neither `version` nor `task_id`.
        let version = if f.has("version") { f.unsigned("version")? } else { 1 };
        Ok(Self {
            parent: f.nullable_id("parent")?,
            depth: f.unsigned("depth")?,
            code_cid: f.optional_id("code_cid")?,
            diff: f.text("diff")?,
            dataset_cid: f.text("dataset_cid")?,
            prepare_cid: f.text("prepare_cid")?,
            time_budget: f.unsigned("time_budget")?,
            val_bpb: f.number("val_bpb")?,
            peak_vram_mb: f.number("peak_vram_mb")?,
            num_steps: f.unsigned("num_steps")?,
            num_params: f.unsigned("num_params")?,
            status: f.word("status", "one of keep, discard, crash")?,
            description: f.text("description")?,
            hypothesis: f.text("hypothesis")?,
            agent_model: f.text("agent_model")?,
            gpu_model: f.text("gpu_model")?,
            cuda_version: f.text("cuda_version")?,
            torch_version: f.text("torch_version")?,
            node_id: f.id("node_id")?,
            task_id: if version <= 1 { None } else { Some(f.id("task_id")?) },
            timestamp: f.unsigned("timestamp")?,
            version,
        })
    }

    fn signed_fields(&self) -> Map {
        self.fields().map(|(name, field)| (name.to_owned(), field.into())).collect()
    }

    fn canonical(&self) -> String {
        json::canonical_fields(self.fields())
    }

    fn signer(&self) -> NodeId {
        self.node_id
    }

    fn timestamp(&self) -> u64 {
        self.timestamp
    }

    fn strip_unsigned(fields: &mut Map) {
        let version_1 = matches!(fields.get("version"), None | Some(Value::Int(..=1)));
        if version_1 {
            fields.remove("task_id");
        }
    }

    fn check(&self) -> Result<(), Reject> {
        if self.version == 0 {
            return Err(Reject::WrongType { field: "version".into(), expected: "at least 1" });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::NodeId;

    proptest! {
        #[test]
        fn canonical_text_equals_that_of_the_signed_fields(
            texts in (".*", ".*", "[a-z\\\\\"\n\u{7f}é🍄]*"),
            numbers in (any::<u64>(), any::<u64>(), proptest::num::f64::NORMAL, proptest::num::f64::NORMAL),
            ids in (any::<Option<[u8; 32]>>(), any::<Option<[u8; 32]>>(), any::<Option<[u8; 32]>>()),
            version in 1..4u64,
        ) {
            let record = Record {
                parent: ids.0.map(RecordId),
                depth: numbers.0,
                code_cid: ids.1.map(Cid),
                diff: texts.0.clone(),
                dataset_cid: texts.1.clone(),
                prepare_cid: texts.2.clone(),
                time_budget: numbers.1,
                val_bpb: numbers.2,
                peak_vram_mb: numbers.3,
                num_steps: numbers.1,
                num_params: numbers.0,
                status: Status::Crash,
                description: texts.2.clone(),
                hypothesis: texts.1.clone(),
                agent_model: texts.0.clone(),
                gpu_model: texts.2.clone(),
                cuda_version: texts.1,
                torch_version: texts.2,
                node_id: NodeId(ids.2.unwrap_or_default()),
                task_id: ids.2.map(TaskId),
                timestamp: numbers.0,
                version,
            };
            prop_assert_eq!(record.canonical(), Value::Object(record.signed_fields()).canonical());
        }
    }
}
