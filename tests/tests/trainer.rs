//! Experiments in their worker process: repeatable to the bit, and ended with a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use serde_json::Value;
use spore_tests::{TestNet, worker};

const TINY: &str = include_str!("../scripts/tiny.star");

/// Runs a script for a few steps and gives its worker's last event.
fn run(script: &str, seed: u64, steps: u64) -> Value {
    let net = TestNet::new();
    worker::run(net.dir(), &worker::job(script, seed, steps))
}

#[test]
fn the_same_script_seed_and_steps_give_the_same_metric_to_the_bit() {
    let metric = |seed| {
        let last = run(TINY, seed, 60);
        assert_eq!(last["finished"]["num_steps"], 60, "{last}");
        last["finished"]["val_bpb"].as_f64().unwrap()
    };
    let (first, second, other) = (metric(7), metric(7), metric(8));
    assert_eq!(first.to_bits(), second.to_bits());
    assert_ne!(first.to_bits(), other.to_bits(), "the seed matters");
    assert!((0.5..8.0).contains(&first), "{first} bits for a byte: a model that learnt something beats 8");
}

/// The kind and reason of a failure.
fn failure(script: &str) -> (String, String) {
    let last = run(script, 1, 20);
    let text = |key: &str| last["failed"][key].as_str().unwrap_or_else(|| panic!("{last}")).to_owned();
    (text("kind"), text("reason"))
}

#[test]
fn a_script_that_looks_ahead_has_no_metric() {
    let (kind, reason) = failure(include_str!("../scripts/look_ahead.star"));
    assert_eq!(kind, "causality", "{reason}");
    assert!(reason.contains("not causal"), "{reason}");
}

#[test]
fn an_endless_script_is_stopped() {
    let (kind, reason) = failure(include_str!("../scripts/endless.star"));
    assert_eq!(kind, "script", "{reason}");
}

#[test]
fn a_script_that_hogs_memory_is_stopped() {
    let (kind, reason) = failure(include_str!("../scripts/hog.star"));
    assert!(["script", "memory"].contains(&kind.as_str()), "{kind}: {reason}");
}

#[test]
fn a_model_beyond_the_limits_is_refused_before_anything_is_allocated() {
    let wide = TINY.replace("\"width\", 32, choices = [16, 32, 48, 64]", "\"width\", 16384, choices = [16384]");
    assert_ne!(wide, TINY);
    let (kind, reason) = failure(&wide);
    assert_eq!(kind, "script", "{reason}");
}

#[test]
fn a_syntax_error_names_its_line() {
    let (kind, reason) = failure("x = 1\ndef model(:\n");
    assert_eq!(kind, "script");
    assert!(reason.contains('2'), "{reason}");
}
