//! Control events: signed claims about records, such as a re-run's result or a challenge.
//!
//! What they claim is never believed: [`crate::verdict`] computes from the measurements in them.

use std::fmt;

use crate::{
    Kind, NodeId, Object, RecordId, Reject, TaskId,
    fields::Fields,
    json::{Map, Value},
    object::FieldReader,
};

/// The version that we publish.
pub const CONTROL_VERSION: u64 = 1;

/// The type of a control event: the text in its signed field `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ControlKind {
    Verification,
    Challenge,
    ChallengeResponse,
    Dispute,
    /// A type that this version does not know, by its signed name. `From` never returns the name of
    /// another variant here.
    Other(String),
}

impl ControlKind {
    /// The types that this version and the reference know.
    pub const KNOWN: [Self; 4] = [Self::Verification, Self::Challenge, Self::ChallengeResponse, Self::Dispute];

    /// The text that events sign.
    pub fn name(&self) -> &str {
        match self {
            Self::Verification => "verification",
            Self::Challenge => "challenge",
            Self::ChallengeResponse => "challenge_response",
            Self::Dispute => "dispute",
            Self::Other(name) => name,
        }
    }

    /// Whether this version knows what an event of this type says.
    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// The known type of this name.
    pub fn known(name: &str) -> Option<Self> {
        Self::KNOWN.into_iter().find(|known| known.name() == name)
    }
}

impl From<&str> for ControlKind {
    fn from(name: &str) -> Self {
        Self::known(name).unwrap_or_else(|| Self::Other(name.to_owned()))
    }
}

impl fmt::Display for ControlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // `pad`, so that a precision such as `{:.40}` shortens untrusted text.
        f.pad(self.name())
    }
}

/// How a dispute over a record's result ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisputeOutcome {
    /// The record's result holds.
    Upheld,
    /// The record's result does not hold.
    Rejected,
}

impl DisputeOutcome {
    /// The text that `dispute` events sign.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Upheld => "upheld",
            Self::Rejected => "rejected",
        }
    }
}

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
    /// The challenger closes its challenge. The outcome that it claims has no effect and is not kept here.
    Dispute { experiment_id: RecordId, task_id: Option<TaskId>, challenger_id: NodeId },
    /// A type that a later version knows: kept and passed on, without effect here.
    Other { experiment_id: Option<RecordId>, task_id: Option<TaskId> },
}

/// The signed content of a control event.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlEvent {
    pub kind: ControlKind,
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
        let (kind, node) = (ControlKind::Verification, rerun.node_id);
        name_event(&mut payload, &kind, &[&rerun.experiment_id.to_string(), &node.to_string()]);
        Self::assemble(kind, payload, node, ControlBody::Verification(rerun), timestamp)
    }

    /// `challenge`: the record's result did not hold when its signer re-ran it.
    pub fn challenge(rerun: Rerun, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "challenger");
        let (kind, node) = (ControlKind::Challenge, rerun.node_id);
        name_event(&mut payload, &kind, &[&rerun.experiment_id.to_string(), &node.to_string()]);
        Self::assemble(kind, payload, node, ControlBody::Challenge(rerun), timestamp)
    }

    /// `challenge_response`: what came out when a third node re-ran a challenged record.
    pub fn challenge_response(rerun: Rerun, challenger_id: NodeId, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "verifier");
        payload.insert("challenger_id".into(), text(challenger_id));
        let (kind, node) = (ControlKind::ChallengeResponse, rerun.node_id);
        let parts = [rerun.experiment_id.to_string(), challenger_id.to_string(), node.to_string()];
        name_event(&mut payload, &kind, &parts.each_ref().map(String::as_str));
        let body = ControlBody::ChallengeResponse { challenger_id, rerun };
        Self::assemble(kind, payload, node, body, timestamp)
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
            ("outcome".into(), closed.outcome.name().into()),
            ("ground_truth_bpb".into(), Value::Float(closed.ground_truth)),
            ("verifier_count".into(), (closed.winners.len() as u64 + closed.losers.len() as u64).into()),
            ("winner_verifier_ids".into(), list(&closed.winners)),
            ("loser_verifier_ids".into(), list(&closed.losers)),
        ]);
        let kind = ControlKind::Dispute;
        name_event(&mut payload, &kind, &[&closed.experiment_id.to_string(), &closed.challenger.to_string()]);
        let body = ControlBody::Dispute {
            experiment_id: closed.experiment_id,
            task_id: closed.task_id,
            challenger_id: closed.challenger,
        };
        Self::assemble(kind, payload, closed.challenger, body, timestamp)
    }

    fn assemble(kind: ControlKind, payload: Map, node_id: NodeId, body: ControlBody, timestamp: u64) -> Self {
        Self { kind, payload, body, node_id, timestamp, version: CONTROL_VERSION }
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
    pub outcome: DisputeOutcome,
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

fn name_event(payload: &mut Map, kind: &ControlKind, parts: &[&str]) {
    payload.insert("event_id".into(), Value::String(format!("{kind}:{}", parts.join(":"))));
}

/// The node that a payload says acted, and the field that names it.
type Actor = (NodeId, &'static str);

/// Reads a payload's meaning. Fields that the meaning does not need may be missing or added: the
/// reference's own versions differ in them.
fn read_body(kind: &ControlKind, payload: &Map) -> Result<(ControlBody, Option<Actor>), Reject> {
    let mut f = Fields(payload.clone());
    let task_id = if f.0.contains_key("task_id") { f.optional_id("task_id")? } else { None };
    let actor = match kind {
        ControlKind::Verification | ControlKind::ChallengeResponse => "verifier",
        ControlKind::Challenge => "challenger",
        ControlKind::Dispute => {
            let challenger_id = f.id("challenger_id")?;
            let body = ControlBody::Dispute { experiment_id: f.id("experiment_id")?, task_id, challenger_id };
            if f.0.contains_key("outcome") {
                f.text("outcome")?;
            }
            return Ok((body, Some((challenger_id, "challenger_id"))));
        }
        ControlKind::Other(_) => {
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
        ControlKind::Verification => ControlBody::Verification(rerun),
        ControlKind::Challenge => ControlBody::Challenge(rerun),
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
        let kind = ControlKind::from(f.text("type")?.as_str());
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
            ("type".into(), self.kind.name().into()),
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
