//! Control events: signed claims about records, such as the result of a re-run or a challenge.
//!
//! No node believes a claim. Each node computes [verdicts](crate::verdict) from the measurements in the
//! events.

use std::fmt;

use crate::{
    Kind, NodeId, Object, RecordId, Reject, TaskId,
    finding::Reason,
    json::{Map, Value},
    repeats::Repeats,
    signed::FieldReader,
};

/// The version that this program publishes.
pub const CONTROL_VERSION: u64 = 1;

/// The type of a control event: the text in its signed field `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ControlKind {
    Verification,
    Challenge,
    ChallengeResponse,
    Dispute,
    /// The reference does not know this type.
    Refutation,
    /// Nor this one.
    Repeats,
    /// A type that this version does not know, by its signed name. `From` never returns the name of
    /// another variant here.
    Other(String),
}

impl ControlKind {
    /// The types that the reference knows too.
    pub const LEGACY: [Self; 4] = [Self::Verification, Self::Challenge, Self::ChallengeResponse, Self::Dispute];
    /// The types that this version knows.
    pub const KNOWN: [Self; 6] =
        [Self::Verification, Self::Challenge, Self::ChallengeResponse, Self::Dispute, Self::Refutation, Self::Repeats];

    /// The text that events sign.
    pub fn name(&self) -> &str {
        match self {
            Self::Verification => "verification",
            Self::Challenge => "challenge",
            Self::ChallengeResponse => "challenge_response",
            Self::Dispute => "dispute",
            Self::Refutation => "refutation",
            Self::Repeats => "repeats",
            Self::Other(name) => name,
        }
    }

    /// Whether this version knows what an event of this type says.
    pub const fn is_known(&self) -> bool {
        !matches!(self, Self::Other(_))
    }

    /// Whether the reference knows this type.
    pub fn is_legacy(&self) -> bool {
        Self::LEGACY.contains(self)
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

/// One re-run of a record that ended with a value. Verifications, challenges and responses report one.
#[derive(Clone, Debug, PartialEq)]
pub struct Rerun {
    pub experiment_id: RecordId,
    /// The record's task as the signer says. None if the event names no task.
    pub task_id: Option<TaskId>,
    /// The node that re-ran the record. Always the event's signer.
    pub node_id: NodeId,
    /// The device's name as its driver gives it. Empty if the event names no device.
    pub gpu: String,
    /// The metric that the re-run measured.
    pub value: f64,
}

/// One re-run of a record that showed why its result cannot hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Refutation {
    pub experiment_id: RecordId,
    /// The record's task as the signer says. None if the event names no task.
    pub task_id: Option<TaskId>,
    /// The node that re-ran the record. Always the event's signer.
    pub node_id: NodeId,
    /// The device's name as its driver gives it.
    pub gpu: String,
    pub reason: Reason,
}

/// The meaning of an event, by type.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlBody {
    /// The signer's re-run confirmed the record.
    Verification(Rerun),
    /// The signer's re-run did not confirm the record.
    Challenge(Rerun),
    /// A third node's re-run of a challenged record.
    ChallengeResponse { challenger_id: NodeId, rerun: Rerun },
    /// The challenger closes its challenge. The outcome that it claims has no effect and is not kept here.
    Dispute { experiment_id: RecordId, task_id: Option<TaskId>, challenger_id: NodeId },
    /// The signer's re-run showed a reason why the record's result cannot hold.
    Refutation(Refutation),
    /// The signer ran the record's script with other seeds.
    Repeats(Repeats),
    /// An event of a type, or with a reason, that this version does not know. It is stored and forwarded
    /// without effect.
    Other { experiment_id: Option<RecordId>, task_id: Option<TaskId> },
}

/// The signed content of a control event.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlEvent {
    pub kind: ControlKind,
    /// The signed fields of the payload. `body` is their meaning.
    pub payload: Map,
    pub body: ControlBody,
    pub node_id: NodeId,
    /// When the event was made, in Unix seconds, as its signer says.
    pub timestamp: u64,
    pub version: u64,
}

impl ControlEvent {
    /// Makes a `verification`: a re-run confirmed the record of `publisher`. `is_frontier` says whether the
    /// record was on the frontier then.
    pub fn verification(rerun: Rerun, publisher: NodeId, is_frontier: bool, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "verifier");
        payload.insert("verified_node_id".into(), text(publisher));
        payload.insert("is_frontier".into(), Value::Bool(is_frontier));
        let (kind, node) = (ControlKind::Verification, rerun.node_id);
        name_event(&mut payload, &kind, &[&rerun.experiment_id.to_string(), &node.to_string()]);
        Self::assemble(kind, payload, node, ControlBody::Verification(rerun), timestamp)
    }

    /// Makes a `challenge`: a re-run did not confirm the record.
    pub fn challenge(rerun: Rerun, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "challenger");
        let (kind, node) = (ControlKind::Challenge, rerun.node_id);
        name_event(&mut payload, &kind, &[&rerun.experiment_id.to_string(), &node.to_string()]);
        Self::assemble(kind, payload, node, ControlBody::Challenge(rerun), timestamp)
    }

    /// Makes a `challenge_response`: a third node re-ran the record that `challenger_id` challenged.
    pub fn challenge_response(rerun: Rerun, challenger_id: NodeId, timestamp: u64) -> Self {
        let mut payload = rerun_payload(&rerun, "verifier");
        payload.insert("challenger_id".into(), text(challenger_id));
        let (kind, node) = (ControlKind::ChallengeResponse, rerun.node_id);
        let parts = [rerun.experiment_id.to_string(), challenger_id.to_string(), node.to_string()];
        name_event(&mut payload, &kind, &parts.each_ref().map(String::as_str));
        let body = ControlBody::ChallengeResponse { challenger_id, rerun };
        Self::assemble(kind, payload, node, body, timestamp)
    }

    /// Makes a `refutation`: a re-run showed why the record's result cannot hold.
    pub fn refutation(refutation: Refutation, timestamp: u64) -> Self {
        let (kind, node) = (ControlKind::Refutation, refutation.node_id);
        let task_id = refutation.task_id.map(|id| id.to_string()).unwrap_or_default();
        let mut payload = Map::from([
            ("experiment_id".into(), text(refutation.experiment_id)),
            ("task_id".into(), Value::String(task_id)),
            ("verifier_id".into(), text(node)),
            ("verifier_gpu".into(), Value::String(refutation.gpu.clone())),
            ("reason".into(), refutation.reason.name().into()),
        ]);
        name_event(&mut payload, &kind, &[&refutation.experiment_id.to_string(), &node.to_string()]);
        Self::assemble(kind, payload, node, ControlBody::Refutation(refutation), timestamp)
    }

    /// Makes a `repeats`: results of the record's script with other seeds.
    pub fn repeats(repeats: Repeats, timestamp: u64) -> Self {
        let (kind, node, mut payload) = (ControlKind::Repeats, repeats.node_id, repeats.payload());
        name_event(&mut payload, &kind, &[&repeats.experiment_id.to_string(), &node.to_string()]);
        Self::assemble(kind, payload, node, ControlBody::Repeats(repeats), timestamp)
    }

    /// Makes a `dispute`: the challenger closes its challenge. The facts are those of the verdict that
    /// the challenger computed. Receivers compute their own.
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

    /// The record that the event is about.
    pub fn experiment_id(&self) -> Option<RecordId> {
        match &self.body {
            ControlBody::Verification(rerun)
            | ControlBody::Challenge(rerun)
            | ControlBody::ChallengeResponse { rerun, .. } => Some(rerun.experiment_id),
            ControlBody::Refutation(refutation) => Some(refutation.experiment_id),
            ControlBody::Repeats(repeats) => Some(repeats.experiment_id),
            ControlBody::Dispute { experiment_id, .. } => Some(*experiment_id),
            ControlBody::Other { experiment_id, .. } => *experiment_id,
        }
    }

    /// The record's task as the signer says. It chooses the topic of the event and decides nothing.
    pub fn claimed_task(&self) -> Option<TaskId> {
        match &self.body {
            ControlBody::Verification(rerun)
            | ControlBody::Challenge(rerun)
            | ControlBody::ChallengeResponse { rerun, .. } => rerun.task_id,
            ControlBody::Refutation(refutation) => refutation.task_id,
            ControlBody::Repeats(repeats) => repeats.task_id,
            ControlBody::Dispute { task_id, .. } | ControlBody::Other { task_id, .. } => *task_id,
        }
    }

    /// The re-run that the event reports.
    pub fn rerun(&self) -> Option<&Rerun> {
        match &self.body {
            ControlBody::Verification(rerun)
            | ControlBody::Challenge(rerun)
            | ControlBody::ChallengeResponse { rerun, .. } => Some(rerun),
            _ => None,
        }
    }
}

/// The facts in a `dispute` event.
#[derive(Clone, Debug, PartialEq)]
pub struct ClosedDispute {
    pub experiment_id: RecordId,
    pub task_id: Option<TaskId>,
    pub publisher: NodeId,
    pub challenger: NodeId,
    pub challenger_value: f64,
    pub outcome: DisputeOutcome,
    /// Weighted median of the claim and all measurements that count.
    pub ground_truth: f64,
    /// Other nodes whose measurements support the outcome.
    pub winners: Vec<NodeId>,
    /// Other nodes whose measurements contradict it.
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

/// The node that acted, as the payload says, and the field that names it.
type Actor = (NodeId, &'static str);

/// Reads the meaning of a payload. Other fields than those that the meaning needs may be missing or
/// added, for the versions of the reference differ in them.
fn read_body(kind: &ControlKind, payload: &Map) -> Result<(ControlBody, Option<Actor>), Reject> {
    let mut f = FieldReader(payload.clone());
    let task_id = if f.has("task_id") { f.optional_id("task_id")? } else { None };
    let actor = match kind {
        ControlKind::Verification | ControlKind::ChallengeResponse => "verifier",
        ControlKind::Challenge => "challenger",
        ControlKind::Dispute => {
            let challenger_id = f.id("challenger_id")?;
            let body = ControlBody::Dispute { experiment_id: f.id("experiment_id")?, task_id, challenger_id };
            if f.has("outcome") {
                f.text("outcome")?;
            }
            return Ok((body, Some((challenger_id, "challenger_id"))));
        }
        ControlKind::Refutation => return read_refutation(f, task_id),
        ControlKind::Repeats => {
            let (experiment_id, node_id, repeats) = Repeats::read(f, task_id)?;
            let unusable = ControlBody::Other { experiment_id: Some(experiment_id), task_id };
            return Ok((repeats.map_or(unusable, ControlBody::Repeats), Some((node_id, "verifier_id"))));
        }
        ControlKind::Other(_) => {
            let experiment_id = if f.has("experiment_id") { f.optional_id("experiment_id")? } else { None };
            return Ok((ControlBody::Other { experiment_id, task_id }, None));
        }
    };
    let gpu_field = format!("{actor}_gpu");
    let rerun = Rerun {
        experiment_id: f.id("experiment_id")?,
        task_id,
        node_id: f.id(&format!("{actor}_id"))?,
        gpu: if f.has(&gpu_field) { f.text(&gpu_field)? } else { String::new() },
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

fn read_refutation(mut f: FieldReader, task_id: Option<TaskId>) -> Result<(ControlBody, Option<Actor>), Reject> {
    let experiment_id = f.id("experiment_id")?;
    let node_id = f.id("verifier_id")?;
    let gpu = f.text("verifier_gpu")?;
    let body = match Reason::named(&f.text("reason")?) {
        Some(reason) => ControlBody::Refutation(Refutation { experiment_id, task_id, node_id, gpu, reason }),
        // A reason of a later version.
        None => ControlBody::Other { experiment_id: Some(experiment_id), task_id },
    };
    Ok((body, Some((node_id, "verifier_id"))))
}

impl Object for ControlEvent {
    const KIND: Kind = Kind::Control;
    const ID_FIELD: &'static str = "id";
    const SIGNER_FIELD: &'static str = "node_id";

    fn read(f: &mut FieldReader) -> Result<Self, Reject> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EventId, Finding, Identity, Measurement, Signed, fixtures};

    #[test]
    fn names_of_known_types_round_trip_and_unknown_ones_keep_their_text() {
        for kind in ControlKind::KNOWN {
            assert_eq!(ControlKind::from(kind.name()), kind);
        }
        let unknown = ControlKind::from("merge");
        assert_eq!((unknown.name(), unknown.is_known()), ("merge", false));
        assert_eq!(format!("{unknown:.3}"), "mer", "untrusted text can be shortened");
    }

    fn refutation(reason: Reason) -> (Identity, ControlEvent) {
        let identity = fixtures::identity(1);
        let (experiment_id, task_id) = (RecordId([2; 32]), Some(TaskId([3; 32])));
        let (node_id, gpu) = (identity.node_id(), "CPU".to_owned());
        (identity, ControlEvent::refutation(Refutation { experiment_id, task_id, node_id, gpu, reason }, 5))
    }

    #[test]
    fn refutations_read_back_with_their_reasons() {
        for reason in Reason::ALL {
            let (identity, event) = refutation(reason);
            let signed = identity.sign(&event).unwrap();
            let read = Signed::<ControlEvent>::from_canonical(signed.canonical(), *signed.signature()).unwrap();
            assert_eq!(*read.object(), event);
            let m = Measurement::of(EventId::from(read.id()), &read).unwrap();
            assert_eq!((m.node, m.finding), (identity.node_id(), Finding::Refuted(reason)));
            assert_eq!((read.experiment_id(), read.claimed_task()), (Some(RecordId([2; 32])), Some(TaskId([3; 32]))));
            assert!(read.kind.is_known() && !read.kind.is_legacy());
        }
    }

    #[test]
    fn refutation_with_a_later_reason_is_kept_without_effect() {
        let (identity, mut event) = refutation(Reason::NotCausal);
        event.payload.insert("reason".into(), "a_later_one".into());
        let signed = identity.sign(&event).unwrap();
        let read = Signed::<ControlEvent>::from_canonical(signed.canonical(), *signed.signature()).unwrap();
        assert!(matches!(read.body, ControlBody::Other { .. }) && read.experiment_id().is_some());
        assert!(Measurement::of(EventId::from(read.id()), &read).is_none());
    }

    #[test]
    fn refutation_in_the_name_of_another_node_is_refused() {
        let (_, event) = refutation(Reason::Diverges);
        let other = fixtures::identity(9);
        let event = ControlEvent { node_id: other.node_id(), ..event };
        let read = other
            .sign(&event)
            .and_then(|signed| Signed::<ControlEvent>::from_canonical(signed.canonical(), *signed.signature()));
        assert_eq!(read.err(), Some(Reject::ActorMismatch { field: "verifier_id" }));
    }
}
