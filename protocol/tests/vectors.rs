//! Golden cases made with the reference: canonical bytes, ids, signatures, frames.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

use spore_protocol::{
    ControlEvent, Finding, Kind, Measurement, Reason, Signed, SignedObject, frame, legacy::LegacyMessage, oracle,
};

fn load(name: &str) -> serde_json::Value {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/vectors").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The code of our refusal of each invalid case.
fn expected_code(name: &str) -> &'static str {
    match name {
        _ if name.contains("tampered-version") => "id_mismatch",
        _ if name.contains("tampered") => "id_mismatch",
        "experiment-bad-signature" | "experiment-wrong-signer" => "bad_signature",
        "experiment-signature-not-hex" => "signature_not_hex",
        "experiment-short-node-id" | "experiment-unknown-status" => "wrong_type",
        "experiment-unknown-field" => "unknown_field",
        "experiment-missing-field" => "missing_field",
        "experiment-array" => "not_an_object",
        "experiment-not-json" => "not_json",
        "control-actor-mismatch" => "actor_mismatch",
        other => panic!("no expectation for {other}"),
    }
}

#[test]
fn golden_objects_are_read_and_verified_as_by_the_reference() {
    let file = load("objects.json");
    assert!(file["cases"].as_array().unwrap().len() > 100);
    check_objects(&file);
}

#[test]
fn golden_refutations_are_read_and_carry_their_reasons() {
    let file = load("refutations.json");
    check_objects(&file);
    let refutations = file["cases"].as_array().unwrap().iter().filter(|case| case["valid"] == true);
    let reasons = refutations.map(|case| {
        let event = Signed::<ControlEvent>::from_json(case["json"].as_str().unwrap().as_bytes()).unwrap();
        match Measurement::of(event.id().into(), &event).unwrap().finding {
            Finding::Refuted(reason) => reason,
            Finding::Value(value) => panic!("{value} instead of a reason"),
        }
    });
    assert_eq!(reasons.collect::<Vec<_>>(), Reason::ALL);
}

fn check_objects(file: &serde_json::Value) {
    for case in file["cases"].as_array().unwrap() {
        let name = case["name"].as_str().unwrap();
        let kind: Kind = case["kind"].as_str().unwrap().parse().unwrap();
        let json = case["json"].as_str().unwrap();
        let parsed = SignedObject::from_json(json.as_bytes(), Some(kind));
        if case["valid"].as_bool().unwrap() {
            let object = parsed.unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(std::str::from_utf8(object.canonical()).unwrap(), case["canonical"], "{name}");
            assert_eq!(object.id().to_string(), case["id"], "{name}");
            assert_eq!(SignedObject::from_json(json.as_bytes(), None).unwrap().kind(), kind, "{name}: detected kind");
            let again = SignedObject::from_canonical(kind, object.canonical(), *object.signature()).unwrap();
            assert_eq!(again, object, "{name}");
            assert_eq!(SignedObject::from_json(object.to_json().as_bytes(), None).unwrap(), object, "{name}");
            object.verify().unwrap_or_else(|e| panic!("{name}: {e}"));
        } else {
            let reject = parsed.and_then(SignedObject::verify).expect_err(name);
            assert_eq!(reject.code(), expected_code(name), "{name}: {reject}");
        }
    }
}

#[test]
fn golden_frames_round_trip_to_the_same_json() {
    let file = load("frames.json");
    for case in file["frames"].as_array().unwrap() {
        let bytes = hex::decode(case["frame_hex"].as_str().unwrap()).unwrap();
        let (header, body) = bytes.split_at(frame::HEADER_BYTES);
        assert_eq!(oracle::body_length(header.try_into().unwrap()).unwrap(), body.len());
        let decoded = frame::Frame::decode(body).unwrap();
        assert_eq!(decoded.kind, case["type"].as_str().unwrap());
        let encoded = decoded.encode().unwrap();
        assert_eq!(frame::Frame::decode(&encoded[4..]).unwrap(), decoded);
        let json = |b: &[u8]| serde_json::from_slice::<serde_json::Value>(b).ok();
        assert_eq!(json(&encoded[4..]), json(body));
        let message = LegacyMessage::decode(decoded).unwrap().expect("a known type");
        let encoded = message.encode().unwrap();
        assert_eq!(json(&encoded[4..]), json(body));
    }
}
