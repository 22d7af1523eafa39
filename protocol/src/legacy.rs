//! Messages of the legacy wire: nineteen types, in [frames](crate::frame) of JSON.
//!
//! [`LegacyMessage::decode`] reads what any node of the existing network may send.
//! [`LegacyMessage::encode`] writes nothing that the reference cannot read. A signed object goes into its
//! frame as the signed text ([`ObjectFrame`]), without being parsed and printed again.

use crate::{
    Cid, ControlKind, Kind, ObjectId, Reject, Signed, SignedObject, TaskId,
    frame::{Frame, HEADER_BYTES, MAX_BODY_BYTES},
    json::{Map, Value},
};

/// The objects that a node can request since a point in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum History {
    Records,
    Controls,
    Tasks,
}

impl History {
    pub const ALL: [Self; 3] = [Self::Records, Self::Controls, Self::Tasks];

    /// The kind of the objects.
    pub const fn kind(self) -> Kind {
        match self {
            Self::Records => Kind::Experiment,
            Self::Controls => Kind::Control,
            Self::Tasks => Kind::Task,
        }
    }

    /// Message types of the request, and of the response that follows the objects.
    const fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Records => ("sync_request", "sync_response"),
            Self::Controls => ("control_sync_request", "control_sync_response"),
            Self::Tasks => ("task_sync_request", "task_sync_response"),
        }
    }
}

/// One message of the legacy wire.
#[allow(clippy::large_enum_variant, reason = "most messages are objects, and a box for each costs more")]
#[derive(Clone, Debug, PartialEq)]
pub enum LegacyMessage {
    /// `experiment`, `task`, `profile`, `challenge`, `challenge_response`, `dispute`, `verification`.
    Object(SignedObject),
    /// Asks for the records with a timestamp of at least `since`, or for the control events or tasks with a
    /// timestamp above it. A [`LegacyMessage::SyncResponse`] follows the objects.
    SyncRequest {
        history: History,
        /// Unix seconds.
        since: u64,
    },
    /// All requested objects have been sent.
    SyncResponse {
        history: History,
        since: u64,
        /// Number of objects sent.
        count: u64,
    },
    /// Asks for addresses of peers.
    PexRequest,
    /// Addresses of peers, `host:port`, not checked yet.
    PexResponse(Vec<String>),
    /// Asks for an artifact. None for text that is no id, such as an empty one.
    CodeRequest(Option<Cid>),
    /// An artifact.
    CodeResponse {
        cid: Option<Cid>,
        /// The bytes in base64.
        code: String,
    },
    Ping,
    Pong,
}

/// The kind of the object in messages of this type. None for types without an object.
pub fn carried(message: &str) -> Option<Kind> {
    match message {
        "experiment" => Some(Kind::Experiment),
        "task" => Some(Kind::Task),
        "profile" => Some(Kind::Profile),
        _ => ControlKind::known(message).map(|_| Kind::Control),
    }
}

impl LegacyMessage {
    /// Reads the content of a frame. None for an unknown type, which receivers ignore.
    ///
    /// # Errors
    /// What is wrong with the payload.
    pub fn decode(frame: Frame) -> Result<Option<Self>, Reject> {
        let Frame { kind, payload } = frame;
        if let Some(carried) = carried(&kind) {
            return decode_object(&kind, carried, payload).map(|object| Some(Self::Object(object)));
        }
        let mut payload = Payload::of(payload)?;
        for history in History::ALL {
            let (request, response) = history.names();
            if kind == request {
                return Ok(Some(Self::SyncRequest { history, since: payload.number("since")? }));
            }
            if kind == response {
                let (since, count) = (payload.number("since")?, payload.number("count")?);
                return Ok(Some(Self::SyncResponse { history, since, count }));
            }
        }
        Ok(Some(match kind.as_str() {
            "pex_request" => Self::PexRequest,
            "pex_response" => Self::PexResponse(payload.texts("peer")?),
            "code_request" => Self::CodeRequest(payload.text("code_cid")?.parse().ok()),
            "code_response" => {
                Self::CodeResponse { cid: payload.text("code_cid")?.parse().ok(), code: payload.text("code")? }
            }
            "ping" => Self::Ping,
            "pong" => Self::Pong,
            _ => return Ok(None),
        }))
    }

    /// The bytes of the message's frame: header and body.
    ///
    /// # Errors
    /// [`Reject::TooLarge`], and [`Reject::UnknownKind`] for a control event of a type that the
    /// reference does not know.
    pub fn encode(&self) -> Result<Vec<u8>, Reject> {
        let (kind, fields) = match self {
            Self::Object(object) => {
                let mut bytes = Vec::new();
                ObjectFrame::of(object, None).ok_or(Reject::UnknownKind)?.append_to(&mut bytes)?;
                return Ok(bytes);
            }
            Self::SyncRequest { history, since } => (history.names().0, vec![("since", (*since).into())]),
            Self::SyncResponse { history, since, count } => {
                (history.names().1, vec![("since", (*since).into()), ("count", (*count).into())])
            }
            Self::PexRequest => ("pex_request", Vec::new()),
            Self::PexResponse(peers) => {
                let peers = peers.iter().map(|peer| Value::String(peer.clone())).collect();
                ("pex_response", vec![("peer", Value::Array(peers))])
            }
            Self::CodeRequest(cid) => ("code_request", vec![("code_cid", cid_text(*cid))]),
            Self::CodeResponse { cid, code } => {
                ("code_response", vec![("code_cid", cid_text(*cid)), ("code", Value::String(code.clone()))])
            }
            Self::Ping => ("ping", Vec::new()),
            Self::Pong => ("pong", Vec::new()),
        };
        let fields: Map = fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Frame { kind: kind.to_owned(), payload: Value::Object(fields) }.encode()
    }
}

fn cid_text(cid: Option<Cid>) -> Value {
    Value::String(cid.map(|cid| cid.to_string()).unwrap_or_default())
}

fn decode_object(message: &str, kind: Kind, payload: Value) -> Result<SignedObject, Reject> {
    let object = match kind {
        Kind::Experiment => SignedObject::Experiment(Signed::from_any_spelling(payload)?),
        _ => SignedObject::from_value_as(kind, payload)?,
    };
    match &object {
        SignedObject::Control(event) if event.kind.name() != message => {
            Err(Reject::Malformed(format!("a message of type {message} with an event of another type")))
        }
        _ => Ok(object),
    }
}

/// The fields of a payload without a signed object. Missing fields are empty and unknown ones are ignored,
/// as in the reference. Only signed objects are read strictly.
struct Payload(Map);

impl Payload {
    fn of(payload: Value) -> Result<Self, Reject> {
        match payload {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(wrong("payload", "an object")),
        }
    }

    /// An integer. A negative one is read as 0.
    fn number(&mut self, name: &'static str) -> Result<u64, Reject> {
        match self.0.remove(name) {
            None => Ok(0),
            Some(Value::Int(number)) => Ok(u64::try_from(number).unwrap_or(0)),
            Some(_) => Err(wrong(name, "an integer")),
        }
    }

    fn text(&mut self, name: &'static str) -> Result<String, Reject> {
        match self.0.remove(name) {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text),
            Some(_) => Err(wrong(name, "text")),
        }
    }

    fn texts(&mut self, name: &'static str) -> Result<Vec<String>, Reject> {
        let text = |value| match value {
            Value::String(text) => Ok(text),
            _ => Err(wrong(name, "a list of texts")),
        };
        match self.0.remove(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(items)) => items.into_iter().map(text).collect(),
            Some(_) => Err(wrong(name, "a list of texts")),
        }
    }
}

fn wrong(field: &str, expected: &'static str) -> Reject {
    Reject::WrongType { field: field.to_owned(), expected }
}

/// The parts of a frame that carries a signed object.
#[derive(Clone, Copy, Debug)]
pub struct ObjectFrame<'a> {
    kind: Kind,
    /// Type of the message.
    message: &'a str,
    id: ObjectId,
    canonical: &'a [u8],
    signature: &'a [u8; 64],
    /// The derived task of a version 1 record, which does not sign its task.
    task_id: Option<TaskId>,
}

impl<'a> ObjectFrame<'a> {
    /// The frame of a record, from its signed text. `derived` is the task of a version 1 record, because
    /// the reference refuses a child without a task. Later versions sign their task.
    pub fn record(id: ObjectId, canonical: &'a [u8], signature: &'a [u8; 64], derived: Option<TaskId>) -> Self {
        Self { kind: Kind::Experiment, message: Kind::Experiment.name(), id, canonical, signature, task_id: derived }
    }

    /// The frame of an object of any kind. None for a control event of a type that the reference does not
    /// know. `derived` as in [`ObjectFrame::record`]; ignored when the object signs its task.
    pub fn of(object: &'a SignedObject, derived: Option<TaskId>) -> Option<Self> {
        let (message, task_id) = match object {
            SignedObject::Experiment(record) => (Kind::Experiment.name(), derived.filter(|_| record.version <= 1)),
            SignedObject::Control(event) => (event.kind.is_known().then(|| event.kind.name())?, None),
            SignedObject::Task(_) => (Kind::Task.name(), None),
            SignedObject::Profile(_) => (Kind::Profile.name(), None),
        };
        let (id, canonical, signature) = (object.id(), object.canonical(), object.signature());
        Some(Self { kind: object.kind(), message, id, canonical, signature, task_id })
    }

    /// Appends the frame, header and body, to `out`. On an error `out` stays as it was.
    ///
    /// # Errors
    /// [`Reject::TooLarge`] above [`MAX_BODY_BYTES`], and [`Reject::NotCanonical`] for a text that is not a
    /// JSON object with fields.
    pub fn append_to(&self, out: &mut Vec<u8>) -> Result<(), Reject> {
        let fields = self.canonical.strip_suffix(b"}").filter(|fields| fields.len() > 1).ok_or(Reject::NotCanonical)?;
        let id_field = if self.kind == Kind::Task { "task_id" } else { "id" };
        let head = format!("{{\"type\":\"{}\",\"payload\":", self.message);
        let task = self.task_id.map(|task| format!(",\"task_id\":\"{task}\"")).unwrap_or_default();
        let tail =
            format!(",\"{id_field}\":\"{}\",\"signature\":\"{}\"{task}}}}}", self.id, hex::encode(self.signature));
        let size = head.len() + fields.len() + tail.len();
        let Some(length) = u32::try_from(size).ok().filter(|_| size <= MAX_BODY_BYTES) else {
            return Err(Reject::TooLarge { size, limit: MAX_BODY_BYTES });
        };
        out.reserve(HEADER_BYTES + size);
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(fields);
        out.extend_from_slice(tail.as_bytes());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ControlEvent, fixtures};

    fn decode(bytes: &[u8]) -> Result<Option<LegacyMessage>, Reject> {
        LegacyMessage::decode(Frame::decode(&bytes[HEADER_BYTES..])?)
    }

    #[test]
    fn messages_without_an_object_round_trip() {
        let cid = Cid::of(b"script");
        let mut messages = vec![
            LegacyMessage::PexRequest,
            LegacyMessage::PexResponse(vec!["127.0.0.1:7470".into()]),
            LegacyMessage::CodeRequest(Some(cid)),
            LegacyMessage::CodeRequest(None),
            LegacyMessage::CodeResponse { cid: Some(cid), code: "c2NyaXB0".into() },
            LegacyMessage::Ping,
            LegacyMessage::Pong,
        ];
        for history in History::ALL {
            messages.push(LegacyMessage::SyncRequest { history, since: 7 });
            messages.push(LegacyMessage::SyncResponse { history, since: 7, count: 3 });
        }
        for message in messages {
            assert_eq!(decode(&message.encode().unwrap()), Ok(Some(message)));
        }
    }

    #[test]
    fn missing_fields_are_empty_and_unknown_ones_are_ignored() {
        let read = |text: &str| LegacyMessage::decode(Frame::decode(text.as_bytes()).unwrap());
        let all = LegacyMessage::SyncRequest { history: History::Records, since: 0 };
        assert_eq!(read(r#"{"type":"sync_request","payload":{"since":-5,"more":1}}"#), Ok(Some(all.clone())));
        assert_eq!(read(r#"{"type":"sync_request","payload":{}}"#), Ok(Some(all.clone())));
        assert_eq!(read(r#"{"type":"sync_request"}"#), Ok(Some(all)), "a missing payload is an empty one");
        assert_eq!(read(r#"{"type":"a_later_one","payload":{}}"#), Ok(None));
        assert_eq!(
            read(r#"{"type":"code_request","payload":{"code_cid":""}}"#),
            Ok(Some(LegacyMessage::CodeRequest(None)))
        );
        for bad in [
            r#"{"type":"ping","payload":[]}"#,
            r#"{"type":"sync_request","payload":{"since":1.5}}"#,
            r#"{"type":"pex_response","payload":{"peer":[1]}}"#,
            r#"{"type":"experiment","payload":{}}"#,
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    fn event(kind: &str) -> SignedObject {
        let identity = fixtures::identity(1);
        let record = fixtures::sign(&identity, &fixtures::record(&identity, None, None));
        let event = fixtures::verification(&identity, &record, 1.0, 9).object().clone();
        let event = ControlEvent { kind: kind.into(), ..event };
        SignedObject::Control(fixtures::sign(&identity, &event).into_signed())
    }

    #[test]
    fn event_travels_under_its_own_type_or_not_at_all() {
        let message = LegacyMessage::Object(event("verification"));
        let bytes = message.encode().unwrap();
        assert_eq!(decode(&bytes), Ok(Some(message)));
        let renamed = String::from_utf8(bytes[HEADER_BYTES..].to_vec()).unwrap().replacen("verification", "dispute", 1);
        let frame = Frame::decode(renamed.as_bytes()).unwrap();
        assert!(matches!(LegacyMessage::decode(frame), Err(Reject::Malformed(_))));
        assert_eq!(LegacyMessage::Object(event("merge")).encode(), Err(Reject::UnknownKind));
    }

    #[test]
    fn record_out_of_the_reference_database_is_read_as_it_was_signed() {
        let fields = |metric: &str, memory: &str| {
            let key = "ab".repeat(32);
            let text = format!(
                r#"{{"parent":null,"depth":0,"code_cid":"","diff":"","dataset_cid":"","prepare_cid":"","time_budget":300,
                "val_bpb":{metric},"peak_vram_mb":{memory},"num_steps":1,"num_params":1,"status":"keep","description":"",
                "hypothesis":"","agent_model":"","gpu_model":"CPU","cuda_version":"","torch_version":"",
                "node_id":"{key}","timestamp":9,"version":1}}"#
            );
            let Ok(Value::Object(map)) = Value::parse(text.as_bytes()) else { panic!("{text}") };
            map
        };
        let received = |id: ObjectId, mut map: Map| {
            map.insert("id".into(), Value::String(id.to_string()));
            map.insert("signature".into(), Value::String("07".repeat(64)));
            LegacyMessage::decode(Frame { kind: "experiment".into(), payload: Value::Object(map) })
        };
        for (metric, memory, shown) in [
            ("1", "0", ("1.0", "0.0")),
            ("1", "5.0", ("1.0", "5.0")),
            ("-0.0", "7", ("0.0", "7.0")),
            ("2.5", "-0.0", ("2.5", "0.0")),
        ] {
            let signed = Value::Object(fields(metric, memory)).canonical();
            let signed = SignedObject::from_canonical(Kind::Experiment, signed.as_bytes(), [7; 64]).unwrap();
            let read = received(signed.id(), fields(shown.0, shown.1));
            let Ok(Some(LegacyMessage::Object(read))) = read else { panic!("{metric}, {memory}: {read:?}") };
            assert_eq!(read.canonical(), signed.canonical());
            let other = received(signed.id(), fields("1.5", shown.1));
            assert!(matches!(other, Err(Reject::IdMismatch { .. })), "{other:?}");
        }
    }

    #[test]
    fn object_larger_than_a_frame_is_refused() {
        let canonical = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES - 400));
        let frame = ObjectFrame::record(ObjectId([0; 32]), canonical.as_bytes(), &[0; 64], None);
        let mut out = Vec::new();
        frame.append_to(&mut out).unwrap();
        assert!(out.len() <= HEADER_BYTES + MAX_BODY_BYTES);
        let canonical = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_BODY_BYTES));
        let frame = ObjectFrame::record(ObjectId([0; 32]), canonical.as_bytes(), &[0; 64], None);
        let mut out = Vec::new();
        assert!(matches!(frame.append_to(&mut out), Err(Reject::TooLarge { .. })));
        assert!(out.is_empty());
    }
}
