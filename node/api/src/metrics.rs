//! The node in numbers, as Prometheus reads them.
//!
//! Everything is read when a scraper asks. Labels have few values: the names of networks, of reasons and of states, never
//! a peer, a task or a text that somebody else wrote.

use prometheus_client::{
    encoding::text,
    metrics::{
        counter::{ConstCounter, Counter},
        family::Family,
        gauge::{ConstGauge, Gauge},
        info::Info,
    },
    registry::{Registry, Unit},
};
use spore_storage::StoreStats;

use crate::{dto::NodeStatus, live::Live};

/// The type of the text.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A label and its value.
type Label = [(&'static str, String); 1];

/// The text of `/metrics`. None when it cannot be written.
pub fn encode(live: &Live, status: &NodeStatus, stats: Option<&StoreStats>, ready: bool) -> Option<String> {
    let mut registry = Registry::with_prefix("spore");
    let all = &mut registry;
    node(all, live, ready);
    network(all, live);
    store(all, status, stats);
    research(all, live);
    proposer(all, status);
    let mut body = String::new();
    text::encode(&mut body, &registry).ok()?;
    Some(body)
}

fn node(all: &mut Registry, live: &Live, ready: bool) {
    let labels = [("version", env!("CARGO_PKG_VERSION").to_owned()), ("mode", live.mode.to_owned())];
    all.register("node", "The version and the mode of the node", Info::new(labels));
    let uptime = ConstGauge::new(live.uptime.as_secs_f64());
    all.register_with_unit("uptime", "Time since the node started", Unit::Seconds, uptime);
    all.register("ready", "1 while the store takes objects", flag(ready));
    let warnings = ConstGauge::new(live.warnings.len() as u64);
    all.register("warnings", "Warnings that stand in `spore status`", warnings);
    if let Some(offset) = live.clock_offset_seconds {
        let help = "How far the clocks of peers are ahead of this machine's";
        all.register_with_unit("clock_offset", help, Unit::Seconds, ConstGauge::new(offset));
    }
}

fn network(all: &mut Registry, live: &Live) {
    let peers = Family::<Label, Gauge>::default();
    for network in ["libp2p", "legacy"] {
        let count = live.peers.iter().filter(|peer| peer.transport == network).count();
        peers.get_or_create(&[("network", network.to_owned())]).set(whole(count as u64));
    }
    all.register("peers", "Connected peers", peers);
    let penalised = live.peers.iter().filter(|peer| peer.score < 0.0).count() as u64;
    all.register("peers_penalised", "Connected peers whose standing is below 0", ConstGauge::new(penalised));
    let rejected = Family::<Label, Counter>::default();
    for (reason, count) in &live.rejected {
        rejected.get_or_create(&[("reason", reason.clone())]).inc_by(*count);
    }
    all.register("objects_rejected", "Objects and messages that were rejected", rejected);
}

fn store(all: &mut Registry, status: &NodeStatus, stats: Option<&StoreStats>) {
    let counts = [
        ("experiments", "Experiments in the store", status.experiment_count),
        ("experiments_confirmed", "Experiments that hold here", status.verified_experiment_count),
        ("tasks", "Tasks in the store", status.task_count),
        ("frontier_records", "Records on the frontiers of all tasks", status.frontier_size),
        ("pending_records", "Records whose parent is not here", status.pending_count),
    ];
    for (name, help, count) in counts {
        all.register(name, help, ConstGauge::new(count));
    }
    all.register("store_changes", "Changes of the store since it was made", ConstCounter::new(status.sequence));
    let Some(stats) = stats else { return };
    let sizes = [
        ("store", "Bytes of the database", stats.database_bytes()),
        ("artifacts", "Bytes of scripts and datasets", stats.artifact_bytes),
    ];
    for (name, help, bytes) in sizes {
        all.register_with_unit(name, help, Unit::Bytes, ConstGauge::new(bytes));
    }
    all.register("artifact_files", "Scripts and datasets in the store", ConstGauge::new(stats.artifacts));
}

fn research(all: &mut Registry, live: &Live) {
    let Some(research) = &live.research else { return };
    let states = Family::<Label, Gauge>::default();
    for state in ["choosing", "training", "backing_off", "waiting"] {
        states.get_or_create(&[("state", state.to_owned())]).set((research.state == state).into());
    }
    all.register("research_state", "1 for what research does now", states);
    let (step, steps) = (research.step.unwrap_or_default(), research.steps.unwrap_or_default());
    all.register("training_step", "Steps that the running experiment has done", ConstGauge::new(step));
    all.register("training_steps_planned", "Steps that the running experiment has", ConstGauge::new(steps));
}

fn proposer(all: &mut Registry, status: &NodeStatus) {
    let Some(proposer) = &status.proposer else { return };
    let counts = [
        ("llm_questions", "Questions to the language model", proposer.asked),
        ("llm_answers", "Answers of the language model that had a script", proposer.answered),
        ("llm_prompt_tokens", "Tokens of questions", proposer.prompt_tokens),
        ("llm_answer_tokens", "Tokens of answers", proposer.answer_tokens),
    ];
    for (name, help, count) in counts {
        all.register(name, help, ConstCounter::new(count));
    }
    let failures = ConstGauge::new(proposer.failures_in_a_row);
    all.register("llm_failures_in_a_row", "Questions without an answer since the last answer", failures);
}

fn flag(value: bool) -> ConstGauge<u64> {
    ConstGauge::new(value.into())
}

fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn empty() -> (StoreStats, NodeStatus) {
        let dir = tempfile::tempdir().unwrap();
        let store = spore_storage::Store::open(dir.path()).unwrap();
        let stats = store.stats().unwrap();
        (stats, crate::view::StoreView::new(store, None).status(&Live::default()).unwrap())
    }

    #[test]
    fn dashboard_and_alerts_name_metrics_that_exist() {
        let research = crate::dto::ResearchStatus { state: "training".into(), ..Default::default() };
        let rejected = BTreeMap::from([("depth".to_owned(), 1)]);
        let live = Live { research: Some(research), clock_offset_seconds: Some(0.0), rejected, ..Live::default() };
        let (stats, mut status) = empty();
        let proposer = serde_json::json!({ "provider": "p", "model": "m", "state": "ok", "failures_in_a_row": 0,
            "asked": 1, "answered": 1, "prompt_tokens": 1, "answer_tokens": 1, "shortened": false });
        status.proposer = Some(serde_json::from_value(proposer).unwrap());
        let text = encode(&live, &status, Some(&stats), true).unwrap();
        let places = include_str!("../../../docs/monitoring/grafana.json").to_owned()
            + include_str!("../../../docs/monitoring/alerts.yml");
        let words = places.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
        let mut found = 0;
        for name in words.filter(|word| word.starts_with("spore_")) {
            assert!(text.lines().any(|line| line.split(['{', ' ']).next() == Some(name)), "{name}:\n{text}");
            found += 1;
        }
        assert!(found > 20, "{found}");
    }

    #[test]
    fn metrics_have_their_units_and_escape_their_labels() {
        let rejected = BTreeMap::from([("bad \"signature\"".to_owned(), 3)]);
        let live = Live { mode: "relay", rejected, clock_offset_seconds: Some(-1.5), ..Live::default() };
        let (stats, status) = empty();
        let text = encode(&live, &status, Some(&stats), true).unwrap();
        for line in [
            "spore_ready 1",
            "spore_clock_offset_seconds -1.5",
            "spore_peers{network=\"libp2p\"} 0",
            "spore_objects_rejected_total{reason=\"bad \\\"signature\\\"\"} 3",
            "spore_experiments 0",
            "# TYPE spore_store_changes counter",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}:\n{text}");
        }
        assert!(text.contains("mode=\"relay\"") && text.contains("spore_store_bytes ") && text.ends_with("# EOF\n"));
        assert!(!text.contains("research"), "a relay does none");
    }
}
