//! `spore graph`: the experiments of a task as a tree.

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
};

use clap::Args as ClapArgs;
use spore_api::{dto::Experiment, query::Query, route::Route};

use super::{
    CliError, Context,
    access::NodeAccess,
    listing::{self, Listed},
    text,
};

/// Levels of indentation. Deeper levels are drawn at the same column.
const MAX_INDENT: usize = 40;

/// Show the experiments of a task as a tree
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The task: its id, a unique prefix of the id, or its name [default: the task that the node works on]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Show the newest N experiments
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = listing::limits())]
    limit: u32,
    /// Show at most N generations below the oldest experiments that are shown
    #[arg(long, short, value_name = "N")]
    depth: Option<usize>,
    /// Print JSON, newest first
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let task = source.task(args.task.as_deref()).await?;
    let route = Route::TaskExperiments(task.task_id.clone());
    let Listed { items: experiments, more } = listing::read(&source, &route, &Query::default(), args.limit).await?;
    let (drawn, hidden) = within(tree(&experiments), args.depth);
    if args.json {
        let shown: HashSet<&str> = drawn.iter().map(|(experiment, _)| experiment.id.as_str()).collect();
        let shown: Vec<_> = experiments.iter().filter(|experiment| shown.contains(experiment.id.as_str())).collect();
        return context.json(&shown);
    }
    let out = &mut context.out;
    writeln!(
        out,
        "{} ({}); \u{2713} holds here; a keep ([+]) without it is a claim",
        text::name(&task.name),
        text::short(&task.task_id)
    )?;
    draw(out, &task.metric, &drawn)?;
    if hidden > 0 {
        let hidden = text::count(hidden as u64, "experiment is", "experiments are");
        writeln!(out, "{hidden} further down; `--depth N` shows more.")?;
    }
    if more {
        writeln!(out, "{} of {} experiments; `--limit N` shows more.", experiments.len(), task.experiment_count)?;
    }
    Ok(())
}

/// The experiments in the order of the tree, each with its generation: 0 for one whose parent is not among them. Siblings
/// are in order of time.
fn tree(experiments: &[Experiment]) -> Vec<(&Experiment, usize)> {
    let shown: HashSet<&str> = experiments.iter().map(|e| e.id.as_str()).collect();
    let mut ordered: Vec<&Experiment> = experiments.iter().collect();
    ordered.sort_by(|a, b| (a.timestamp, &a.id).cmp(&(b.timestamp, &b.id)));
    let mut children: HashMap<&str, Vec<&Experiment>> = HashMap::new();
    let mut stack: Vec<(&Experiment, usize)> = Vec::new();
    for experiment in ordered.into_iter().rev() {
        match experiment.parent.as_deref().filter(|parent| shown.contains(parent)) {
            Some(parent) => children.entry(parent).or_default().push(experiment),
            None => stack.push((experiment, 0)),
        }
    }
    let mut tree = Vec::with_capacity(experiments.len());
    while let Some((experiment, depth)) = stack.pop() {
        tree.push((experiment, depth));
        let below = children.remove(experiment.id.as_str()).unwrap_or_default();
        stack.extend(below.into_iter().map(|child| (child, depth + 1)));
    }
    tree
}

/// The experiments of the first generations, and the number of those that are left out.
fn within(tree: Vec<(&Experiment, usize)>, generations: Option<usize>) -> (Vec<(&Experiment, usize)>, usize) {
    let all = tree.len();
    let shown: Vec<_> = tree.into_iter().filter(|(_, depth)| generations.is_none_or(|most| *depth <= most)).collect();
    let hidden = all - shown.len();
    (shown, hidden)
}

/// Draws the tree.
fn draw(out: &mut dyn Write, metric: &str, tree: &[(&Experiment, usize)]) -> io::Result<()> {
    for (experiment, depth) in tree {
        let cut = if *depth == 0 && experiment.parent.is_some() { "... " } else { "" };
        writeln!(out, "{}{cut}{}", "    ".repeat((*depth).min(MAX_INDENT)), describe(experiment, metric))?;
    }
    Ok(())
}

fn describe(e: &Experiment, metric: &str) -> String {
    let (mark, value) = match e.status.as_str() {
        "keep" => ("[+]", format!("{metric}={:.4}", e.val_bpb)),
        "discard" => ("[x]", format!("{metric}={:.4}", e.val_bpb)),
        _ => ("[!]", "crash".to_owned()),
    };
    let description = text::line(&e.description);
    let what = if description.trim().is_empty() { "(no description)" } else { description.trim() };
    let verdict = match e.verdict.as_str() {
        "unverified" => String::new(),
        "verified" | "upheld" => " \u{2713}".to_owned(),
        other => format!(" ({other})"),
    };
    let flaw = e.flaw.as_ref().map(|flaw| format!(" (not comparable: {})", flaw.name)).unwrap_or_default();
    let stray = if e.stray { " (stray)" } else { "" };
    let frontier = if e.on_frontier { " \u{2190} frontier" } else { "" };
    format!(
        "{mark} {} {what} ({value}, {}){verdict}{flaw}{stray}{frontier}",
        e.id.get(..8).unwrap_or(&e.id),
        e.hardware_class
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::experiment;

    #[test]
    fn tree_shows_status_verdict_and_frontier() {
        let mut verified = experiment("dd", Some("bb"), "keep", 0.92, 4);
        verified.verdict = "verified".into();
        verified.on_frontier = true;
        let list = [
            verified,
            experiment("ee", Some("aa"), "crash", 0.0, 5),
            experiment("cc", Some("bb"), "discard", 1.05, 3),
            experiment("bb", Some("aa"), "keep", 0.95, 2),
            experiment("aa", None, "keep", 1.0, 1),
            experiment("ff", Some("unseen"), "keep", 1.0, 6),
        ];
        let mut out = Vec::new();
        draw(&mut out, "val_bpb", &tree(&list)).unwrap();
        let expected = "[+] aa change aa (val_bpb=1.0000, CPU)
    [+] bb change bb (val_bpb=0.9500, CPU)
        [x] cc change cc (val_bpb=1.0500, CPU)
        [+] dd change dd (val_bpb=0.9200, CPU) \u{2713} \u{2190} frontier
    [!] ee change ee (crash, CPU)
... [+] ff change ff (val_bpb=1.0000, CPU)
";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn chain_of_any_length_is_drawn() {
        let list: Vec<_> = (0..5000)
            .map(|i| {
                experiment(&format!("{i:08}"), (i > 0).then(|| format!("{:08}", i - 1)).as_deref(), "keep", 1.0, i)
            })
            .collect();
        let mut out = Vec::new();
        draw(&mut out, "m", &tree(&list)).unwrap();
        assert_eq!(String::from_utf8(out).unwrap().lines().count(), 5000);
    }

    #[test]
    fn depth_limits_the_generations_and_counts_the_rest() {
        let list = [
            experiment("aa", None, "keep", 1.0, 1),
            experiment("bb", Some("aa"), "keep", 0.9, 2),
            experiment("cc", Some("bb"), "keep", 0.8, 3),
            experiment("dd", Some("unseen"), "keep", 0.7, 4),
        ];
        let ids = |generations| {
            let (shown, hidden) = within(tree(&list), generations);
            (shown.iter().map(|(experiment, _)| experiment.id.as_str()).collect::<Vec<_>>(), hidden)
        };
        assert_eq!(ids(None), (vec!["aa", "bb", "cc", "dd"], 0));
        assert_eq!(ids(Some(1)), (vec!["aa", "bb", "dd"], 1));
        assert_eq!(ids(Some(0)), (vec!["aa", "dd"], 2));
    }
}
