//! Makes a record out of an experiment's result.
//!
//! Pure. Never here: publishing.

use similar::TextDiff;
use spore_base::script_text::normal;
use spore_protocol::{
    Cid, NodeId, Record, RecordId, Signed, Status, TaskManifest,
    record::RECORD_VERSION,
    terms::{Terms, flaw},
};

use super::{Proposal, llm::answer::one_line};

/// The version of burn, for the field `torch_version`. A test compares it with the lock file.
const BURN_VERSION: &str = "0.22.1";
/// Lines of context in a diff.
const DIFF_CONTEXT: usize = 3;
/// Most characters of the cause of a crash in a record.
const MAX_CAUSE: usize = 300;

/// The record that an experiment builds on.
#[derive(Clone, Debug, PartialEq)]
pub struct Parent {
    pub id: RecordId,
    pub depth: u64,
    pub script: String,
}

/// Numbers of a finished run.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Measured {
    pub metric: f64,
    /// MB.
    pub peak_memory: f64,
    pub steps: u64,
    pub params: u64,
}

/// Who ran an experiment, on which device.
#[derive(Clone, Debug, PartialEq)]
pub struct Runner {
    pub node_id: NodeId,
    pub gpu_model: String,
    /// `wgpu` or `flex`.
    pub backend: &'static str,
}

/// The record of an experiment. `result` holds its numbers, or the cause of its crash. `keep`: whether the result is
/// progress, by [`super::rule`]. A result that breaks the task's own terms makes a crash.
pub fn record(
    manifest: &Signed<TaskManifest>,
    parent: Option<&Parent>,
    keep: bool,
    proposal: &Proposal,
    runner: &Runner,
    result: Result<Measured, &str>,
    timestamp: u64,
) -> Record {
    let status = match (result, keep) {
        (Err(_), _) => Status::Crash,
        (Ok(_), true) => Status::Keep,
        (Ok(_), false) => Status::Discard,
    };
    let measured = result.unwrap_or(Measured { metric: 0.0, peak_memory: 0.0, steps: 0, params: 0 });
    let file_name = manifest.artifact_type.format().map_or("script", |format| format.file_name);
    let description = match result {
        Ok(_) => proposal.description.clone(),
        Err(cause) => format!("{} | {}", proposal.description, one_line(cause, MAX_CAUSE)),
    };
    let record = Record {
        parent: parent.map(|p| p.id),
        depth: parent.map_or(0, |p| p.depth + 1),
        code_cid: Some(Cid::of(proposal.script.as_bytes())),
        diff: parent.map(|p| unified_diff(file_name, &p.script, &proposal.script)).unwrap_or_default(),
        dataset_cid: manifest.dataset_cid.clone(),
        prepare_cid: manifest.prepare_cid.clone(),
        time_budget: manifest.time_budget,
        val_bpb: measured.metric,
        peak_vram_mb: measured.peak_memory,
        num_steps: measured.steps,
        num_params: measured.params,
        status,
        description,
        hypothesis: proposal.hypothesis.clone(),
        agent_model: proposal.agent_model.clone(),
        gpu_model: runner.gpu_model.clone(),
        cuda_version: String::new(),
        torch_version: format!("burn-{BURN_VERSION}+{}", runner.backend),
        node_id: runner.node_id,
        task_id: Some(manifest.id().into()),
        timestamp,
        version: RECORD_VERSION,
    };
    match flaw(&record, &Terms::of(manifest)) {
        Some(flaw) if status != Status::Crash => {
            let cause = format!("the result breaks the task's terms: {flaw}");
            self::record(manifest, parent, false, proposal, runner, Err(&cause), timestamp)
        }
        _ => record,
    }
}

/// The difference between two texts in the form of `diff -u`. Empty for equal texts. Lines are compared without their
/// ends: a parent that another editor wrote differs in the changed lines only.
pub fn unified_diff(file_name: &str, old: &str, new: &str) -> String {
    let (old, new) = (normal(old).text, normal(new).text);
    let diff = TextDiff::from_lines(old.as_ref(), new.as_ref());
    let (old, new) = (format!("a/{file_name}"), format!("b/{file_name}"));
    diff.unified_diff().context_radius(DIFF_CONTEXT).header(&old, &new).to_string()
}

#[cfg(test)]
mod tests {
    use spore_protocol::fixtures;

    use super::*;

    fn manifest() -> Signed<TaskManifest> {
        let identity = fixtures::identity(1);
        let manifest =
            TaskManifest { prepare_cid: "p".into(), dataset_cid: "d".into(), ..fixtures::manifest(&identity) };
        fixtures::sign(&identity, &manifest).into_signed()
    }

    fn parent() -> Parent {
        Parent { id: RecordId([7; 32]), depth: 4, script: "a\nb\nc\n".into() }
    }

    fn proposal() -> Proposal {
        Proposal {
            script: "a\nB\nc\n".into(),
            description: "b to B".into(),
            hypothesis: "bigger".into(),
            agent_model: "x/1".into(),
        }
    }

    fn runner() -> Runner {
        Runner { node_id: NodeId([9; 32]), gpu_model: "CPU".into(), backend: "flex" }
    }

    fn measured(metric: f64) -> Measured {
        Measured { metric, peak_memory: 10.5, steps: 100, params: 1000 }
    }

    #[test]
    fn status_follows_the_rule_and_a_crash_is_never_kept() {
        let status =
            |keep, result| record(&manifest(), Some(&parent()), keep, &proposal(), &runner(), result, 77).status;
        assert_eq!(status(true, Ok(measured(1.5))), Status::Keep);
        assert_eq!(status(false, Ok(measured(1.5))), Status::Discard);
        assert_eq!(status(true, Err("boom")), Status::Crash);
    }

    #[test]
    fn result_that_breaks_the_terms_is_signed_as_a_crash() {
        for bad in [Measured { steps: 0, ..measured(1.5) }, measured(0.0), measured(-1.0), measured(f64::NAN)] {
            let made = record(&manifest(), Some(&parent()), true, &proposal(), &runner(), Ok(bad), 77);
            assert_eq!((made.status, made.val_bpb, made.num_steps), (Status::Crash, 0.0, 0), "{bad:?}");
            assert!(made.description.contains("breaks the task's terms"), "{}", made.description);
            assert_eq!(flaw(&made, &Terms::of(&manifest())), None);
        }
    }

    #[test]
    fn child_carries_the_diff_and_the_tasks_terms() {
        let manifest = manifest();
        let record = record(&manifest, Some(&parent()), true, &proposal(), &runner(), Ok(measured(1.5)), 77);
        assert_eq!(record.diff, "--- a/train.star\n+++ b/train.star\n@@ -1,3 +1,3 @@\n a\n-b\n+B\n c\n");
        assert_eq!((record.parent, record.depth, record.status), (Some(RecordId([7; 32])), 5, Status::Keep));
        assert_eq!((record.prepare_cid.as_str(), record.dataset_cid.as_str(), record.time_budget), ("p", "d", 20));
        assert_eq!((record.task_id, record.timestamp, record.version), (Some(manifest.id().into()), 77, 2));
        assert_eq!(record.code_cid, Some(Cid::of(b"a\nB\nc\n")));
        assert_eq!(record.torch_version, "burn-0.22.1+flex");
    }

    #[test]
    fn diff_has_the_changed_lines_only_whatever_their_ends() {
        let expected = unified_diff("train.star", "a\nb\nc\n", "a\nB\nc\n");
        for parent in ["a\r\nb\r\nc\r\n", "a\rb\rc\r", "\u{feff}a\nb\r\nc\n"] {
            assert_eq!(unified_diff("train.star", parent, "a\nB\nc\n"), expected, "{parent:?}");
        }
        assert_eq!(expected.lines().filter(|line| line.starts_with(['-', '+'])).count(), 4, "{expected}");
    }

    #[test]
    fn crash_carries_its_cause_and_no_numbers() {
        let cause = format!("line 3: matmul\n{}", "x".repeat(1000));
        let record = record(&manifest(), Some(&parent()), true, &proposal(), &runner(), Err(&cause), 77);
        assert_eq!((record.status, record.val_bpb, record.num_steps), (Status::Crash, 0.0, 0));
        assert!(record.description.starts_with("b to B | line 3: matmul xxx"));
        assert_eq!(record.description.chars().count(), "b to B | ".len() + MAX_CAUSE);
    }

    #[test]
    fn burn_version_is_the_one_in_the_lock_file() {
        let lock = include_str!("../../../../Cargo.lock");
        assert!(lock.contains(&format!("name = \"burn\"\nversion = \"{BURN_VERSION}\"")));
    }
}
