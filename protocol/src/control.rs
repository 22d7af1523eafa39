//! Control events: signed claims about records, such as a re-run's result or a challenge.
//!
//! What they claim is never believed: [`crate::verdict`] computes from the measurements in them.

use crate::{
    Kind, NodeId, Object, RecordId, Reject, TaskId,
    fields::Fields,
    json::{Map, Value},
    object::FieldReader,
};

/// The version that we publish.
pub const CONTROL_VERSION: u64 = 1;

/// One re-run of a record: the heart of three of the four types.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerun {
    pub experiment_id: RecordId,
    /// The sender's claim of the record's task, where given.
    pub task_id: Option<TaskId>,
    /// Who ran it; always the event's signer.
    pub node_id: NodeId,
    /// The device as its driver names it; empty where the sender gave none.
    pub gpu: String,
    /// The metric that came out.
    pub value: f64,
}

/// What an event says, by type.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlBody {
    /// The record's result held.
    Verification(Rerun),
    /// The record's result did not hold.
    Challenge(Rerun),
    /// A third party's re-run of a challenged record.
    ChallengeResponse { challenger_id: NodeId, rerun: Rerun },
    /// The challenger closes its challenge. The outcome that it claims is shown, never used.
    Dispute { experiment_id: RecordId, task_id: Option<TaskId>, challenger_id: NodeId, outcome: String },
    /// A type that a later version knows: kept and passed on, without effect here.
    Other { experiment_id: Option<RecordId>, task_id: Option<TaskId> },
}

/// The signed content of a control event.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlEvent {
    /// `verification`, `challenge`, `challenge_response`, `dispute`, or a later version's.
    pub kind: String,
    /// As signed; [`ControlEvent::body`] is its meaning.
    pub payload: Map,
    pub body: ControlBody,
    pub node_id: NodeId,
    /// Unix seconds.
    pub timestamp: u64,
    pub version: u64,
}

impl ControlEvent {
    /// `verification`: the record's result held when its signer re-ran it.
    pub fn verification(rerun: Rerun, publisher: NodeId, is_frontier: bool, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "verifier");
        payload.insert("verified_node_id".into(), text(publisher));
        payload.insert("is_frontier".into(), Value::Bool(is_frontier));
        name_event(&mut payload, "verification", &[&rerun.experiment_id.to_string(), &rerun.node_id.to_string()]);
        Self::assemble("verification", payload, rerun.node_id, ControlBody::Verification(rerun), timestamp)
    }

    /// `challenge`: the record's result did not hold when its signer re-ran it.
    pub fn challenge(rerun: Rerun, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "challenger");
        name_event(&mut payload, "challenge", &[&rerun.experiment_id.to_string(), &rerun.node_id.to_string()]);
        Self::assemble("challenge", payload, rerun.node_id, ControlBody::Challenge(rerun), timestamp)
    }

    /// `challenge_response`: what came out when a third node re-ran a challenged record.
    pub fn challenge_response(rerun: Rerun, challenger_id: NodeId, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "verifier");
        payload.insert("challenger_id".into(), text(challenger_id));
        let parts = [rerun.experiment_id.to_string(), challenger_id.to_string(), rerun.node_id.to_string()];
        name_event(&mut payload, "challenge_response", &parts.each_ref().map(String::as_str));
        let node = rerun.node_id;
        let body = ControlBody::ChallengeResponse { challenger_id, rerun };
        Self::assemble("challenge_response", payload, node, body, timestamp)
    }

    /// `dispute`: the challenger closes its challenge. The facts are those of the verdict that it
    /// computed; receivers compute their own.
    pub fn dispute(closed: &ClosedDispute, timestamp: u64) -> Self {
        let list = |nodes: &[NodeId]| Value::Array(nodes.iter().map(text).collect());
        let mut payload = Map::from([
            ("experiment_id".into(), text(closed.experiment_id)),
            ("task_id".into(), Value::String(closed.task_id.map(|id| id.to_string()).unwrap_or_default())),
            ("original_node_id".into(), text(closed.publisher)),
            ("challenger_id".into(), text(closed.challenger)),
            ("challenger_bpb".into(), Value::Float(closed.challenger_value)),
            ("outcome".into(), if closed.upheld { "upheld" } else { "rejected" }.into()),
            ("ground_truth_bpb".into(), Value::Float(closed.ground_truth)),
            ("verifier_count".into(), (closed.winners.len() as u64 + closed.losers.len() as u64).into()),
            ("winner_verifier_ids".into(), list(&closed.winners)),
            ("loser_verifier_ids".into(), list(&closed.losers)),
        ]);
        name_event(&mut payload, "dispute", &[&closed.experiment_id.to_string(), &closed.challenger.to_string()]);
        let body = ControlBody::Dispute {
            experiment_id: closed.experiment_id,
            task_id: closed.task_id,
            challenger_id: closed.challenger,
            outcome: if closed.upheld { "upheld" } else { "rejected" }.into(),
        };
        Self::assemble("dispute", payload, closed.challenger, body, timestamp)
    }

    fn assemble(kind: &str, payload: Map, node_id: NodeId, body: ControlBody, timestamp: u64) -> Self {
        Self { kind: kind.into(), payload, body, node_id, timestamp, version: CONTROL_VERSION }
    }

    /// The record spoken of.
    pub fn experiment_id(&self) -> Option<RecordId> {
        match &self.body {
            ControlBody::Verification(rerun)
            | ControlBody::Challenge(rerun)
            | ControlBody::ChallengeResponse { rerun, .. } => Some(rerun.experiment_id),
            ControlBody::Dispute { experiment_id, .. } => Some(*experiment_id),
            ControlBody::Other { experiment_id, .. } => *experiment_id,
        }
    }

    /// The sender's claim of the record's task: good for choosing a topic, not for deciding.
    pub fn claimed_task(&self) -> Option<TaskId> {
        match &self.body {
            ControlBody::Verification(rerun)
            | ControlBody::Challenge(rerun)
            | ControlBody::ChallengeResponse { rerun, .. } => rerun.task_id,
            ControlBody::Dispute { task_id, .. } | ControlBody::Other { task_id, .. } => *task_id,
        }
    }

    /// The re-run in it, if it is one.
    pub fn rerun(&self) -> Option<&Rerun> {
        match &self.body {
            ControlBody::Verification(rerun)
            | ControlBody::Challenge(rerun)
            | ControlBody::ChallengeResponse { rerun, .. } => Some(rerun),
            _ => None,
        }
    }
}

/// What a `dispute` event tells.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedDispute {
    pub experiment_id: RecordId,
    pub task_id: Option<TaskId>,
    pub publisher: NodeId,
    pub challenger: NodeId,
    pub challenger_value: f64,
    /// The record's result held.
    pub upheld: bool,
    pub ground_truth: f64,
    /// Responders on the side of the outcome.
    pub winners: Vec<NodeId>,
    pub losers: Vec<NodeId>,
}

fn text(id: impl ToString) -> Value {
    Value::String(id.to_string())
}

fn rerun_payload(rerun: &Rerun, actor: &str) -> Map {
    Map::from([
        ("experiment_id".into(), text(rerun.experiment_id)),
        ("task_id".into(), Value::String(rerun.task_id.map(|id| id.to_string()).unwrap_or_default())),
        (format!("{actor}_id"), text(rerun.node_id)),
        (format!("{actor}_gpu"), Value::String(rerun.gpu.clone())),
        (format!("{actor}_bpb"), Value::Float(rerun.value)),
    ])
}

fn name_event(payload: &mut Map, kind: &str, parts: &[&str]) {
    payload.insert("event_id".into(), Value::String(format!("{kind}:{}", parts.join(":"))));
}

/// The node that a payload says acted, and the field that names it.
type Actor = (NodeId, &'static str);

/// Reads a payload's meaning. Fields that the meaning does not need may be missing or added: the
/// reference's own versions differ in them.
fn read_body(kind: &str, payload: &Map) -> Result<(ControlBody, Option<Actor>), Reject> {
    let mut f = Fields(payload.clone());
    let task_id = if f.0.contains_key("task_id") { f.optional_id("task_id")? } else { None };
    let actor = match kind {
        "verification" | "challenge_response" => "verifier",
        "challenge" => "challenger",
        "dispute" => {
            let challenger_id = f.id("challenger_id")?;
            let body = ControlBody::Dispute {
                experiment_id: f.id("experiment_id")?,
                task_id,
                challenger_id,
                outcome: if f.0.contains_key("outcome") { f.text("outcome")? } else { String::new() },
            };
            return Ok((body, Some((challenger_id, "challenger_id"))));
        }
        _ => {
            let experiment_id = if f.0.contains_key("experiment_id") { f.optional_id("experiment_id")? } else { None };
            return Ok((ControlBody::Other { experiment_id, task_id }, None));
        }
    };
    let gpu_field = format!("{actor}_gpu");
    let rerun = Rerun {
        experiment_id: f.id("experiment_id")?,
        task_id,
        node_id: f.id(&format!("{actor}_id"))?,
        gpu: if f.0.contains_key(&gpu_field) { f.text(&gpu_field)? } else { String::new() },
        value: f.number(&format!("{actor}_bpb"))?,
    };
    let signer = Some((rerun.node_id, if actor == "verifier" { "verifier_id" } else { "challenger_id" }));
    let body = match kind {
        "verification" => ControlBody::Verification(rerun),
        "challenge" => ControlBody::Challenge(rerun),
        _ => ControlBody::ChallengeResponse { challenger_id: f.id("challenger_id")?, rerun },
    };
    Ok((body, signer))
}

impl Object for ControlEvent {
    const KIND: Kind = Kind::Control;
    const ID_FIELD: &'static str = "id";
    const SIGNER_FIELD: &'static str = "node_id";

    fn read(reader: &mut FieldReader) -> Result<Self, Reject> {
        let f = &mut reader.0;
        let kind = f.text("type")?;
        let payload = f.object("payload")?;
        let node_id = f.id("node_id")?;
        let (body, actor) = read_body(&kind, &payload)?;
        if let Some((actor, field)) = actor
            && actor != node_id
        {
            return Err(Reject::ActorMismatch { field });
        }
        Ok(Self { kind, payload, body, node_id, timestamp: f.unsigned("timestamp")?, version: f.unsigned("version")? })
    }

    fn signed_fields(&self) -> Map {
        Map::from([
            ("type".into(), Value::String(self.kind.clone())),
            ("payload".into(), Value::Object(self.payload.clone())),
            ("node_id".into(), text(self.node_id)),
            ("timestamp".into(), self.timestamp.into()),
            ("version".into(), self.version.into()),
        ])
    }

    fn signer(&self) -> NodeId {
        self.node_id
    }

    fn timestamp(&self) -> u64 {
        self.timestamp
    }
}
