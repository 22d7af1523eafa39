//! `spore frontier`: the best experiments of a task: what holds here, or another list.

use std::io::{self, Write};

use clap::{Args as ClapArgs, ValueEnum};
use spore_api::{
    dto::{Experiment, TaskSummary},
    query::Query,
    route::Route,
    view::FrontierView,
};
use spore_protocol::HardwareClass;

use super::{
    CliError, Context,
    access::NodeAccess,
    listing::{self, Listed},
    table::{Column, Table},
    text,
};

/// List the best experiments of a task: those that hold here and that no descendant has beaten, best first
///
/// An experiment holds here when nodes that this node trusts measured its result again (`spore set trust`). What others
/// publish is a claim until then.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The task: its id, a unique prefix of the id, or its name [default: the task that the node works on]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// Show one hardware class only, such as CPU or RTX_4090 [default: all classes, one after the other]
    #[arg(long, short = 'g', visible_alias = "gpu")]
    class: Option<String>,
    /// Show another list
    #[arg(long, value_enum, default_value_t = View::Frontier)]
    view: View,
    /// Show at most N experiments
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = listing::limits())]
    limit: u32,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A list of a task's best experiments.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum View {
    /// What holds here
    Frontier,
    /// What holds when every signer counts alike, also unknown ones
    Global,
    /// What is neither confirmed nor rejected here, best claim first
    Claims,
    /// The frontier as the reference (sporemesh) shows it: claims of all classes, whoever confirms them
    Reference,
}

impl From<View> for FrontierView {
    fn from(view: View) -> Self {
        match view {
            View::Frontier => Self::Frontier,
            View::Global => Self::Global,
            View::Claims => Self::Claims,
            View::Reference => Self::Reference,
        }
    }
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if args.view == View::Reference && args.class.is_some() {
        return Err(CliError::usage("the reference's frontier has no hardware classes")
            .hint("leave out `--class`, or choose `--view claims`"));
    }
    let source = NodeAccess::open(context).await?;
    let task = source.task(args.task.as_deref()).await?;
    let query = Query::default().with("view", FrontierView::from(args.view).name());
    let query = args.class.iter().fold(query, |query, class| query.with("class", class));
    let route = Route::Frontier(task.task_id.clone());
    let Listed { items, more } = listing::read::<Experiment>(&source, &route, &query, args.limit).await?;
    if args.json {
        return context.json(&items);
    }
    let class = args.class.as_deref().map(HardwareClass::of);
    let sizes = Sizes::of(&task, class.as_ref());
    let out = &mut context.out;
    writeln!(
        out,
        "{}: {} ({} of {}, {})",
        text::name(&task.name),
        title(args.view),
        task.metric,
        class.as_ref().map_or("all classes", HardwareClass::as_str),
        task.goal
    )?;
    if items.is_empty() {
        return Ok(explain_empty(out, args.view, &sizes)?);
    }
    print_rows(out, &task.metric, &items)?;
    if more {
        writeln!(out, "{} of {} experiments; `--limit N` shows more.", items.len(), sizes.listed(args.view))?;
    }
    Ok(())
}

const fn title(view: View) -> &'static str {
    match view {
        View::Frontier => "what holds here",
        View::Global => "what holds when every signer counts alike",
        View::Claims => "claims, not confirmed here",
        View::Reference => "claims as the reference lists them",
    }
}

fn print_rows(out: &mut dyn Write, metric: &str, items: &[Experiment]) -> io::Result<()> {
    let mut table = Table::new([
        Column::id("ID"),
        Column::id(metric),
        Column::text("GAIN", 7).leaves(5),
        Column::text("CLASS", 8).leaves(3),
        Column::text("CONFIRMED", 8).leaves(4),
        Column::text("BY", 8).leaves(1),
        Column::id("WHEN").leaves(2),
        Column::text("DESCRIPTION", 12),
    ]);
    for e in items {
        let by = e.display_name.clone().unwrap_or_else(|| text::short(&e.node_id));
        table.add_row([
            text::short(&e.id),
            text::metric(e.val_bpb),
            e.gain.as_ref().map(text::short_gain).unwrap_or_default(),
            e.hardware_class.clone(),
            text::confirmed(e),
            text::line(&by),
            text::ago(e.timestamp),
            text::line(&e.description),
        ]);
    }
    writeln!(out, "{table}")
}

/// How many experiments each list of a task has, or of one of its classes.
struct Sizes {
    experiments: u64,
    frontier: u64,
    global: u64,
    claims: u64,
    reference: u64,
}

impl Sizes {
    fn of(task: &TaskSummary, class: Option<&HardwareClass>) -> Self {
        let reference = task.reference_frontier_size;
        let Some(class) = class else {
            return Self {
                experiments: task.experiment_count,
                frontier: task.frontier_size,
                global: task.global_frontier_size,
                claims: task.claims_count,
                reference,
            };
        };
        let known = task.classes.iter().find(|known| known.class == class.as_str());
        Self {
            experiments: known.map_or(0, |known| known.experiment_count),
            frontier: known.map_or(0, |known| known.frontier_size),
            global: known.map_or(0, |known| known.global_frontier_size),
            claims: known.map_or(0, |known| known.claims_count),
            reference,
        }
    }

    const fn listed(&self, view: View) -> u64 {
        match view {
            View::Frontier => self.frontier,
            View::Global => self.global,
            View::Claims => self.claims,
            View::Reference => self.reference,
        }
    }
}

/// Says why a list is empty and what to do.
fn explain_empty(out: &mut dyn Write, view: View, sizes: &Sizes) -> io::Result<()> {
    if sizes.experiments == 0 {
        return writeln!(out, "There is no experiment yet.");
    }
    if sizes.claims > 0 && matches!(view, View::Frontier | View::Global) {
        let claims = text::count(sizes.claims, "claim", "claims");
        let by = if view == View::Global { "by anyone" } else { "here" };
        writeln!(out, "{claims}, none confirmed {by} yet: `spore frontier --view claims` lists them.")?;
        return writeln!(
            out,
            "A node of the class confirms them with `spore run --verify-only`. To believe another verifier: `spore set \
             trust NODE`."
        );
    }
    let what = match view {
        View::Frontier => "No experiment holds here",
        View::Global => "No experiment holds",
        View::Claims => "No claim waits for a confirmation",
        View::Reference => "No experiment is kept",
    };
    writeln!(out, "{what}.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_have_the_names_of_the_api() {
        for view in View::value_variants() {
            let name = view.to_possible_value().map(|value| value.get_name().to_owned());
            assert_eq!(name.as_deref(), Some(FrontierView::from(*view).name()));
        }
        assert_eq!(View::value_variants().len(), FrontierView::ALL.len());
    }

    #[test]
    fn empty_frontier_names_the_claims_and_what_to_do() {
        let sizes = |experiments, claims| Sizes { experiments, frontier: 0, global: 0, claims, reference: 0 };
        let said = |view, sizes: Sizes| text::printed(|out| explain_empty(out, view, &sizes));
        let some = said(View::Frontier, sizes(3, 2));
        assert!(some.starts_with("2 claims, none confirmed here yet: `spore frontier --view claims`"), "{some}");
        assert!(some.contains("`spore set trust NODE`"), "{some}");
        assert_eq!(said(View::Frontier, sizes(0, 0)), "There is no experiment yet.\n");
        assert_eq!(said(View::Frontier, sizes(3, 0)), "No experiment holds here.\n");
        assert_eq!(said(View::Claims, sizes(3, 0)), "No claim waits for a confirmation.\n");
    }
}
