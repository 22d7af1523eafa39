//! Which objects the reference can read.
//!
//! The reference ends the connection at an object that it cannot read: a control event of a type or with a field that
//! it does not expect, a number that its database cannot hold, a record that names no script (it then tries to open a
//! folder as a script). Such objects stay on our own network.

use spore_protocol::{
    ControlKind, SignedObject,
    json::{MAX_DEPTH, Map, Value},
};
use spore_storage::{ObjectText, RecordSummary};

/// Largest integer that the reference's database can hold.
const MAX_INTEGER: u64 = i64::MAX as u64;

/// 2^63: a number at least as large may be an integer that does not fit.
const LARGE: f64 = 9_223_372_036_854_775_808.0;

/// Fields of an event's payload that the reference uses as texts, whatever the type of the event.
const TEXTS: [&str; 10] = [
    "event_id",
    "experiment_id",
    "task_id",
    "challenger_id",
    "challenger_gpu",
    "verifier_id",
    "verifier_gpu",
    "verified_node_id",
    "original_node_id",
    "outcome",
];

/// Fields of an event's payload that the reference uses as lists of texts.
const LISTS: [&str; 2] = ["winner_verifier_ids", "loser_verifier_ids"];

/// Whether the reference can read a record. The text is parsed only when a number may be too large.
pub(super) fn record(summary: &RecordSummary, text: &ObjectText) -> bool {
    let integers =
        [summary.depth, summary.num_steps, summary.num_params, summary.time_budget, summary.version, summary.timestamp];
    if summary.code_cid.is_none() || integers.iter().any(|n| *n > MAX_INTEGER) {
        return false;
    }
    let small = summary.metric.abs() < LARGE && summary.peak_vram_mb.abs() < LARGE;
    small || Value::parse(&text.canonical).is_ok_and(|value| integers_fit(&value))
}

/// Whether the reference can read an object that is not a record.
pub(super) fn other(object: &SignedObject) -> bool {
    match object {
        SignedObject::Control(event) => {
            event.kind.is_legacy()
                && event.timestamp <= MAX_INTEGER
                && event.version <= MAX_INTEGER
                && payload(&event.kind, &event.payload)
        }
        SignedObject::Task(manifest) => {
            [manifest.timestamp, manifest.time_budget, manifest.version].iter().all(|n| *n <= MAX_INTEGER)
        }
        SignedObject::Profile(profile) => profile.timestamp.max(profile.schema_version) <= MAX_INTEGER,
        SignedObject::Experiment(_) => false,
    }
}

fn payload(kind: &ControlKind, payload: &Map) -> bool {
    let is_text = |value: &Value| matches!(value, Value::String(_));
    let texts = TEXTS.iter().all(|name| payload.get(*name).is_none_or(is_text));
    let lists = LISTS.iter().all(|name| match payload.get(*name) {
        None => true,
        Some(Value::Array(items)) => items.iter().all(is_text),
        Some(_) => false,
    });
    // A challenger of the reference reads this field of a response without checking that it exists.
    let whole = *kind != ControlKind::ChallengeResponse || payload.contains_key("verifier_gpu");
    // The frame adds two levels, which other nodes of ours count, too.
    texts && lists && whole && payload.values().all(|value| shallow(value, MAX_DEPTH.saturating_sub(3)))
}

/// Whether a value has at most this many levels below itself.
fn shallow(value: &Value, levels: usize) -> bool {
    let below = levels.checked_sub(1);
    match value {
        Value::Array(items) => below.map_or(items.is_empty(), |below| items.iter().all(|item| shallow(item, below))),
        Value::Object(map) => below.map_or(map.is_empty(), |below| map.values().all(|item| shallow(item, below))),
        _ => true,
    }
}

fn integers_fit(value: &Value) -> bool {
    match value {
        Value::Int(number) => i64::try_from(*number).is_ok(),
        Value::Array(items) => items.iter().all(integers_fit),
        Value::Object(map) => map.values().all(integers_fit),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use spore_protocol::{ControlEvent, RecordId, control::Rerun, fixtures};

    use super::*;

    fn event(kind: &str, change: impl FnOnce(&mut Map)) -> bool {
        let identity = fixtures::identity(1);
        let node_id = identity.node_id();
        let rerun = Rerun { experiment_id: RecordId([2; 32]), task_id: None, node_id, gpu: "CPU".into(), value: 1.0 };
        let mut event = ControlEvent::challenge_response(rerun, node_id, 5);
        event.kind = kind.into();
        event.payload.insert("challenger_bpb".into(), Value::Float(1.0));
        change(&mut event.payload);
        other(&SignedObject::Control(identity.sign(&event).unwrap().into_signed()))
    }

    #[test]
    fn events_of_the_four_types_with_fields_of_the_right_type_are_legible() {
        for kind in ControlKind::LEGACY.iter().map(ControlKind::name) {
            assert!(event(kind, |_| {}), "{kind}");
            assert!(event(kind, |payload| drop(payload.insert("a_later_field".into(), Value::Null))));
            assert!(!event(kind, |payload| drop(payload.insert("event_id".into(), 5.into()))));
            let list = |item| Value::Array(vec![item]);
            assert!(event(kind, |p| drop(p.insert("winner_verifier_ids".into(), list("text".into())))));
            assert!(!event(kind, |p| drop(p.insert("winner_verifier_ids".into(), list(Value::Null)))));
            assert!(!event(kind, |p| drop(p.insert("loser_verifier_ids".into(), "text".into()))));
        }
        assert!(!event("merge", |_| {}));
        let no_gpu = |payload: &mut Map| drop(payload.remove("verifier_gpu"));
        assert!(event("verification", no_gpu) && !event("challenge_response", no_gpu));
    }

    #[test]
    fn event_that_nests_too_deep_for_its_frame_is_not_legible() {
        let nested = |levels: usize| (0..levels).fold(Value::Null, |inner, _| Value::Array(vec![inner]));
        let readable = |levels| event("dispute", |payload| drop(payload.insert("deep".into(), nested(levels))));
        let most = MAX_DEPTH - 3;
        assert!(readable(most) && !readable(most + 1));
        let frame = |levels| {
            let object =
                Map::from([("payload".to_owned(), Value::Object(Map::from([("deep".to_owned(), nested(levels))])))]);
            spore_protocol::frame::Frame { kind: "dispute".into(), payload: Value::Object(object) }.encode().unwrap()
        };
        assert!(spore_protocol::frame::Frame::decode(&frame(most)[4..]).is_ok());
        assert!(spore_protocol::frame::Frame::decode(&frame(most + 1)[4..]).is_err());
    }

    #[test]
    fn integers_beyond_the_database_are_found_at_any_depth() {
        for (text, fits) in [
            (r#"{"a":9223372036854775807,"b":1e300}"#, true),
            (r#"{"a":9223372036854775808}"#, false),
            (r#"{"a":[{"b":18446744073709551615}]}"#, false),
        ] {
            assert_eq!(integers_fit(&Value::parse(text.as_bytes()).unwrap()), fits, "{text}");
        }
    }
}
