//! `spore report`: what this node tried in the last hours, what held, and what the language model took.

use std::io::Write;

use clap::Args as ClapArgs;
use serde::Serialize;
use spore_api::{
    dto::{Experiment, NodeStatus, ProposerStatus},
    query::Query,
    route::Route,
};
use spore_base::clock::unix_now;

use super::{
    CliError, Context,
    access::NodeAccess,
    listing,
    table::{Column, Table},
    text,
};

/// This node's newest experiments that are looked through. A node runs some hundred a day.
const LOOKED_AT: u32 = 20_000;
/// Results that are listed.
const LISTED: usize = 10;

/// Show what this node tried in the last hours, and what held
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// How far back: a number with m, h, d or w
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = seconds)]
    since: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A time such as `24h`, in seconds.
fn seconds(given: &str) -> Result<u64, String> {
    let wrong = || "must be a number with m, h, d or w, such as 24h".to_owned();
    let unit = match given.chars().last() {
        Some('m') => 60,
        Some('h') => 3600,
        Some('d') => 86_400,
        Some('w') => 7 * 86_400,
        _ => return Err(wrong()),
    };
    let number: u64 = given.get(..given.len() - 1).and_then(|number| number.parse().ok()).ok_or_else(wrong)?;
    number.checked_mul(unit).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// What a node did in a time.
#[derive(Debug, Serialize)]
struct Report {
    /// Unix seconds.
    from: u64,
    experiments: u64,
    kept: u64,
    crashed: u64,
    /// Of the kept ones, those that hold here.
    confirmed: u64,
    /// Seconds of training, as the tasks' budgets say.
    training_seconds: u64,
    /// The kept experiments, newest first.
    results: Vec<Experiment>,
    /// What the language model took since the node started. Absent without a running node or a model.
    proposer: Option<ProposerStatus>,
    /// There are more experiments in that time than were looked through.
    cut: bool,
}

impl Report {
    fn of(own: Vec<Experiment>, from: u64, proposer: Option<ProposerStatus>, cut: bool) -> Self {
        let count = |test: fn(&Experiment) -> bool| own.iter().filter(|e| test(e)).count() as u64;
        Self {
            from,
            experiments: own.len() as u64,
            kept: count(|e| e.status == "keep"),
            crashed: count(|e| e.status == "crash"),
            confirmed: count(|e| e.status == "keep" && matches!(e.verdict.as_str(), "verified" | "upheld")),
            training_seconds: own.iter().filter(|e| e.status != "crash").map(|e| e.time_budget).sum(),
            results: own.into_iter().filter(|e| e.status == "keep").collect(),
            proposer,
            cut,
        }
    }

    fn print(&self, out: &mut dyn Write) -> std::io::Result<()> {
        let Self { experiments, kept, crashed, confirmed, .. } = self;
        writeln!(out, "Since         {}", text::ago(self.from))?;
        writeln!(out, "Experiments   {experiments}: {kept} kept, {crashed} crashed")?;
        writeln!(out, "Confirmed     {confirmed} of the kept ones hold here")?;
        writeln!(out, "Training      {}", text::duration(self.training_seconds))?;
        if let Some(model) = &self.proposer {
            let (prompt, answer) = (model.prompt_tokens, model.answer_tokens);
            writeln!(
                out,
                "Model         {}: {} questions, {prompt} + {answer} tokens, since the node started",
                text::line(&model.model),
                model.asked
            )?;
        }
        if self.cut {
            writeln!(out, "Only the newest {LOOKED_AT} experiments were looked through.")?;
        }
        if self.results.is_empty() {
            return Ok(());
        }
        let mut table = Table::new([
            Column::id("KEPT"),
            Column::id("METRIC"),
            Column::id("WHEN").leaves(1),
            Column::text("CONFIRMED", 10),
            Column::text("DESCRIPTION", 12),
        ]);
        for e in self.results.iter().take(LISTED) {
            let (value, when) = (text::metric(e.val_bpb), text::ago(e.timestamp));
            table.add_row([text::short(&e.id), value, when, text::confirmed(e), text::line(&e.description)]);
        }
        writeln!(out, "\n{table}")?;
        match self.results.len().saturating_sub(LISTED) {
            0 => Ok(()),
            more => writeln!(out, "and {more} more; `--json` lists all"),
        }
    }
}

/// Reads the node's own experiments of the time, with or without a running node.
///
/// # Errors
/// When there is no store.
pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let status: NodeStatus = source.get(&Route::Status).await?;
    let from = unix_now().saturating_sub(args.since);
    let of_node = Query::default().with("node", &status.node_id);
    let newest = listing::read::<Experiment>(&source, &Route::Experiments, &of_node, LOOKED_AT).await?;
    let older = newest.items.iter().any(|e| e.timestamp < from);
    let own = newest.items.into_iter().filter(|e| e.timestamp >= from).collect();
    let report = Report::of(own, from, status.proposer, newest.more && !older);
    if args.json { context.json(&report) } else { Ok(report.print(&mut context.out)?) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_has_a_unit() {
        assert_eq!((seconds("24h"), seconds("90m"), seconds("2w")), (Ok(86_400), Ok(5_400), Ok(1_209_600)));
        for wrong in ["", "h", "24", "-1h", "0h", "1.5h", "99999999999999999999w", "9é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn report_counts_what_was_kept_and_what_held() {
        let list = [("aa", "keep", 2.5), ("bb", "discard", 2.6), ("cc", "crash", 0.0), ("dd", "keep", 2.4)];
        let mut own: Vec<_> = list.map(|(id, status, value)| text::experiment(id, None, status, value, 5)).into();
        own.first_mut().unwrap().verdict = "verified".into();
        let report = Report::of(own, 1, None, false);
        assert_eq!((report.experiments, report.kept, report.crashed, report.confirmed), (4, 2, 1, 1));
        assert_eq!(report.training_seconds, 3, "a crash is not counted");
        let printed = text::printed(|out| report.print(out));
        assert!(printed.contains("2 kept, 1 crashed") && printed.contains("change dd"), "{printed}");
        assert!(!printed.contains("change bb"), "{printed}");
    }
}
