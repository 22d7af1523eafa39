//! The question for a language model: the task, the language, the results so far, and the script to improve.
//!
//! Pure. Texts of other nodes go into the question, each cut to one line. At worst they make the model propose a bad
//! script, which is measured like any other.

use std::fmt::Write as _;

use spore_protocol::{Goal, HardwareClass, Status};
use spore_storage::RecordSummary;

use super::answer::one_line;

/// The documentation of the language. The model needs all of it, because it has never seen the language.
const LANGUAGE: &str = include_str!("../../../../../docs/train-script.md");

/// Results of each kind in the question: enough to show a pattern, few enough to read.
const RESULTS: usize = 12;
/// Most characters of one result's description.
const RESULT_CHARS: usize = 200;

/// The task and its state, for the question.
#[derive(Clone, Debug)]
pub struct Situation<'a> {
    pub task_name: &'a str,
    pub task_description: &'a str,
    pub metric: &'a str,
    pub goal: Goal,
    /// Seconds.
    pub time_budget: u64,
    pub class: &'a HardwareClass,
    pub gpu_model: &'a str,
    pub parent: &'a RecordSummary,
    pub parent_script: &'a str,
    /// The class's records that this node believes, oldest first.
    pub records: &'a [RecordSummary],
    /// Ask for a bolder change.
    pub explore: bool,
}

/// The system prompt: the role of the model, and the form of the answer.
pub fn system() -> String {
    format!(
        "You are a machine-learning researcher in a network that improves small language models by short experiments. \
You are given a train script and propose one change to it. The script is written in the language documented below; \
nothing else exists in it.\n\n\
Answer in exactly this form:\n\
HYPOTHESIS: one line, why the change should help\n\
DESCRIPTION: one line, what you changed\n\
```\nthe whole new script\n```\n\n\
Change one idea at a time, keep the tune(...) declarations that still make sense, and keep the model causal. \
Training stops when the time budget is used up, so speed matters as much as capacity.\n\n{LANGUAGE}"
    )
}

/// The question.
pub fn question(at: &Situation<'_>) -> String {
    let mut text = String::new();
    let better = if at.goal == Goal::Minimize { "lower is better" } else { "higher is better" };
    // Writing to a String cannot fail.
    let _ = writeln!(text, "Task: {}", one_line(at.task_name, RESULT_CHARS));
    let _ = writeln!(text, "{}", one_line(at.task_description, 1000));
    let _ = writeln!(
        text,
        "Metric: {} ({better}). Training time: {} s on {} ({}).",
        at.metric,
        at.time_budget,
        one_line(at.gpu_model, 80),
        at.class
    );
    let frontier: Vec<_> = at.records.iter().filter(|r| r.on_frontier).collect();
    section(&mut text, "Best results so far", &best_first(at.goal, frontier));
    let of = |status| at.records.iter().rev().filter(move |r| r.status == status).collect::<Vec<_>>();
    section(&mut text, "Recent changes that did not help", &of(Status::Discard));
    section(&mut text, "Recent changes that failed", &of(Status::Crash));
    let _ = writeln!(
        text,
        "\nThe script to change reached {:.4} in {} steps with {} parameters:\n```\n{}\n```",
        at.parent.metric,
        at.parent.num_steps,
        at.parent.num_params,
        at.parent_script.trim_end()
    );
    text.push_str(if at.explore {
        "\nTry something different from what was tried: another architecture, another way to train.\n"
    } else {
        "\nPropose the change that most likely improves it.\n"
    });
    text
}

/// The reply to an answer that cannot be used.
pub fn complaint(error: &str) -> String {
    format!(
        "That cannot be run: {}\nAnswer again in the same form, with the whole corrected script.",
        one_line(error, 1500)
    )
}

fn best_first(goal: Goal, mut records: Vec<&RecordSummary>) -> Vec<&RecordSummary> {
    records.sort_by(|a, b| goal.order(a.metric, b.metric));
    records
}

fn section(text: &mut String, title: &str, records: &[&RecordSummary]) {
    if records.is_empty() {
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    for record in records.iter().take(RESULTS) {
        let description = one_line(&record.description, RESULT_CHARS);
        let _ = match record.status {
            Status::Crash => writeln!(text, "- {description}"),
            _ => writeln!(
                text,
                "- {:.4} ({} steps, {} parameters): {description}",
                record.metric, record.num_steps, record.num_params
            ),
        };
    }
}
