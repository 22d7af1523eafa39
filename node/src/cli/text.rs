//! The look of values in a terminal.

use std::time::Duration;

use indicatif::{HumanBytes, HumanDuration};
use spore_api::dto::{self, Experiment, Support};
use spore_base::clock::unix_now;
use spore_protocol::noise::{BELIEVABLE_P, Gain};

/// Digits of an id in tables: enough to be unique among millions, and accepted as a prefix.
const SHORT_ID: usize = 12;

/// The first digits of an id.
pub fn short(id: &str) -> String {
    id.chars().take(SHORT_ID).collect()
}

/// One line of untrusted text, without the characters that could control the terminal.
pub fn line(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c.is_control() || ('\u{202a}'..='\u{202e}').contains(&c) || ('\u{2066}'..='\u{2069}').contains(&c) {
                ' '
            } else {
                c
            }
        })
        .collect()
}

/// A name that an untrusted publisher chose, with a mark for each character that nobody sees.
pub fn name(text: &str) -> String {
    spore_base::name::marked(text)
}

/// Several lines of untrusted text, see [`line`].
pub fn lines(text: &str) -> String {
    text.lines().map(|one| line(&one.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

/// A metric, with a few digits more than its tolerance makes meaningful.
pub fn metric(value: f64) -> String {
    format!("{value:.6}")
}

/// The rough time since a timestamp, such as `3h ago`.
pub fn ago(timestamp: u64) -> String {
    if timestamp == 0 {
        return "never".into();
    }
    format!("{} ago", duration(unix_now().saturating_sub(timestamp)))
}

/// A rough duration, such as `45s`, `3h` or `2w`.
pub fn duration(seconds: u64) -> String {
    format!("{:#}", HumanDuration(Duration::from_secs(seconds)))
}

/// A number of bytes, such as `1.50 MiB`.
pub fn size(bytes: u64) -> String {
    HumanBytes(bytes).to_string()
}

/// Who confirmed an experiment: the local verdict, and how many unknown nodes say the same or another thing.
pub fn confirmed(e: &Experiment) -> String {
    let unknown = |n: u32| count(n.into(), "unknown node", "unknown nodes");
    let here = match e.verdict.as_str() {
        "verified" => "here",
        "upheld" => "here, after a dispute",
        "disputed" => "disputed here",
        "rejected" => "rejected here",
        _ if e.status == "crash" => return "-".into(),
        _ if e.flaw.is_some() => "not comparable",
        _ => "not yet",
    };
    let Support { unknown_for, unknown_against, .. } = e.support;
    let held = matches!(e.verdict.as_str(), "verified" | "upheld");
    match (unknown_for, unknown_against) {
        (0, 0) => here.into(),
        (n, 0) if e.verdict == "unverified" => format!("by {}", unknown(n)),
        (0, n) => format!("{here}; {} against", unknown(n)),
        (n, 0) if held => format!("{here}, and by {}", unknown(n)),
        (n, 0) => format!("{here}; {} for", unknown(n)),
        (n, m) => format!("{here}; {} for, {m} against", unknown(n)),
    }
}

/// A gain whose certainty is not known.
pub const UNMEASURED: &str = "not known to be more than noise: `spore noise` measures it";

/// A gain with its interval and the probability of chance.
pub fn certainty(gain: &Gain) -> String {
    let runs = count(gain.runs as u64, "run", "runs");
    let Gain { gain: middle, low, high, p, .. } = gain;
    format!("{middle:+.4}, with 99 % {low:+.4} to {high:+.4}, p {} ({runs} each): {}", chance(*p), gain.words())
}

/// What an experiment gained over its parent, as the API tells it.
pub fn gain(gain: &dto::Gain) -> String {
    match (gain.gain, gain.low, gain.high, gain.p) {
        (Some(middle), Some(low), Some(high), Some(p)) => {
            let runs = count(gain.runs, "run", "runs");
            let words = line(&gain.words);
            format!("{middle:+.4}, with 99 % {low:+.4} to {high:+.4}, p {} ({runs} each): {words}", chance(p))
        }
        _ => format!("{:+.4}, {UNMEASURED}", gain.difference),
    }
}

/// The same in the cell of a table.
pub fn short_gain(gain: &dto::Gain) -> String {
    match (gain.gain, gain.p) {
        (Some(middle), Some(p)) if p < BELIEVABLE_P => format!("{middle:+.4} p {}", chance(p)),
        (Some(middle), Some(_)) => format!("{middle:+.4} within noise"),
        _ => format!("{:+.4} ?", gain.difference),
    }
}

/// A probability of chance.
fn chance(p: f64) -> String {
    if p < 0.0001 { "< 0.0001".into() } else { format!("{p:.4}") }
}

/// A number of things, such as `1 record` or `2 records`.
pub fn count(n: u64, one: &str, many: &str) -> String {
    if n == 1 { format!("1 {one}") } else { format!("{n} {many}") }
}

/// A made-up experiment, for the tests of commands.
#[cfg(test)]
pub fn experiment(id: &str, parent: Option<&str>, status: &str, metric: f64, timestamp: u64) -> Experiment {
    Experiment {
        id: id.into(),
        task_id: "t".into(),
        parent: parent.map(str::to_owned),
        depth: 0,
        status: status.into(),
        val_bpb: metric,
        node_id: "n".into(),
        display_name: None,
        hardware_class: "CPU".into(),
        gpu_model: "CPU".into(),
        num_steps: 1,
        num_params: 1,
        peak_vram_mb: 0.0,
        time_budget: 1,
        description: format!("change {id}"),
        hypothesis: String::new(),
        agent_model: String::new(),
        code_cid: String::new(),
        timestamp,
        verdict: "unverified".into(),
        global_verdict: "unverified".into(),
        support: Support::default(),
        flaw: None,
        claim: status == "keep",
        on_frontier: false,
        on_global_frontier: false,
        on_reference_frontier: false,
        stray: false,
        gain: None,
    }
}

/// A made-up task that this program can work on, for the tests of commands.
#[cfg(test)]
pub fn task(id: &str, name: &str) -> spore_api::dto::TaskSummary {
    let json = serde_json::json!({
        "task_id": id, "name": name, "description": "d", "task_type": "ml_train",
        "artifact_type": "starlark_train_script", "metric": "val_bpb", "goal": "minimize", "time_budget": 300,
        "created_by": "n", "timestamp": 0, "base_code_cid": "c", "prepare_cid": "e", "dataset_cid": "d",
        "legacy": false, "root": null, "experiment_count": 0, "keep_count": 0, "discard_count": 0, "crash_count": 0,
        "verified_count": 0, "frontier_size": 0, "global_frontier_size": 0, "reference_frontier_size": 0,
        "claims_count": 0, "node_count": 0, "confirmed_signers": 0, "best": null, "best_id": null,
        "best_class": null, "best_global": null, "best_global_id": null, "last_activity": 0, "classes": []
    });
    serde_json::from_value(json).unwrap()
}

/// The output of a function, for the tests of commands.
#[cfg(test)]
pub fn printed(print: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut out = Vec::new();
    print(&mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untrusted_text_cannot_control_the_terminal() {
        assert_eq!(line("a\u{1b}[2Jb\nc\u{202e}d"), "a [2Jb c d");
        assert_eq!(lines("a\n\u{7}b"), "a\n b");
    }

    #[test]
    fn invisible_characters_in_names_are_marked() {
        assert_eq!(name("tiny-gpt\u{200b}"), "tiny-gpt\u{fffd}");
    }

    #[test]
    fn confirmation_names_the_unknown_nodes() {
        let said = |verdict: &str, unknown_for, unknown_against| {
            let support = Support { unknown_for, unknown_against, ..Support::default() };
            confirmed(&Experiment { verdict: verdict.into(), support, ..experiment("aa", None, "keep", 1.0, 1) })
        };
        for ((verdict, unknown_for, unknown_against), expected) in [
            (("unverified", 0, 0), "not yet"),
            (("unverified", 1, 0), "by 1 unknown node"),
            (("unverified", 2, 1), "not yet; 2 unknown nodes for, 1 against"),
            (("verified", 0, 0), "here"),
            (("verified", 3, 0), "here, and by 3 unknown nodes"),
            (("verified", 0, 3), "here; 3 unknown nodes against"),
            (("upheld", 0, 0), "here, after a dispute"),
            (("rejected", 4, 0), "rejected here; 4 unknown nodes for"),
        ] {
            assert_eq!(said(verdict, unknown_for, unknown_against), expected);
        }
    }

    #[test]
    fn durations_and_sizes_have_one_unit() {
        assert_eq!([0, 59, 120, 7200, 200_000].map(duration), ["0s", "59s", "2m", "2h", "2d"]);
        assert_eq!([0, 1023, 3 << 19, 20 << 30].map(size), ["0 B", "1023 B", "1.50 MiB", "20.00 GiB"]);
    }
}
