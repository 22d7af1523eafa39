//! What a node knows at a glance: its counts, the best experiment of a task and the newest ones. `status` and `info` show
//! it, as the commands of the reference do.

use std::io::{self, Write};

use serde::Serialize;
use spore_api::{
    dto::{Experiment, NodeStatus, TaskSummary},
    query::Query,
    route::Route,
};

use super::{
    CliError,
    access::NodeAccess,
    listing,
    table::{Column, Table},
    text,
};

/// The newest experiments that are shown: as many as the reference shows.
const NEWEST: u32 = 10;

/// The best and the newest experiments of a task.
#[derive(Debug, Serialize)]
pub struct Overview {
    /// The best result that holds here. None while nothing holds.
    pub best: Option<Best>,
    /// Newest first.
    pub newest: Vec<Experiment>,
    #[serde(skip)]
    metric: String,
}

/// A result that holds here. Results of other hardware classes are not comparable with it.
#[derive(Debug, PartialEq, Serialize)]
pub struct Best {
    pub id: String,
    /// The task's metric.
    pub value: f64,
    pub hardware_class: String,
}

impl Best {
    fn of(task: &TaskSummary) -> Option<Self> {
        let (value, id, class) = (task.best?, task.best_id.clone()?, task.best_class.clone()?);
        Some(Self { id, value, hardware_class: class })
    }

    fn text(&self, metric: &str) -> String {
        let Self { id, value, hardware_class } = self;
        format!("{} {} on {hardware_class} ({})", text::line(metric), text::metric(*value), text::short(id))
    }
}

/// The state of a node with the overview of its task.
#[derive(Debug, Serialize)]
pub struct StatusWithOverview<'a> {
    #[serde(flatten)]
    pub status: &'a NodeStatus,
    #[serde(flatten)]
    pub overview: Option<Overview>,
}

/// Reads the overview of a task.
///
/// # Errors
/// The error of the API.
pub async fn of_task(source: &NodeAccess, task: &TaskSummary) -> Result<Overview, CliError> {
    let route = Route::TaskExperiments(task.task_id.clone());
    let newest = listing::read(source, &route, &Query::default(), NEWEST).await?.items;
    Ok(Overview { best: Best::of(task), newest, metric: task.metric.clone() })
}

/// The task that the node works on. None while it has none, and for a pinned task that only other nodes know.
pub async fn active_task(source: &NodeAccess, status: &NodeStatus) -> Option<TaskSummary> {
    source.get(&Route::Task(status.active_task.clone()?)).await.ok()
}

/// The name and the id of the task that the node works on; the id alone of a task that is not known here.
pub fn task_name(status: &NodeStatus, task: Option<&TaskSummary>) -> Option<String> {
    let id = text::short(status.active_task.as_deref()?);
    Some(task.map_or_else(|| id.clone(), |task| format!("{} ({id})", text::name(&task.name))))
}

impl Overview {
    /// The best experiment in a line's words. None while nothing holds.
    pub fn best_text(&self) -> Option<String> {
        self.best.as_ref().map(|best| best.text(&self.metric))
    }

    /// Prints the newest experiments, or nothing without any.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn print_newest(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.newest.is_empty() {
            return Ok(());
        }
        let metric = text::line(&self.metric);
        let mut table = Table::new([
            Column::id("NEWEST"),
            Column::id(&metric),
            Column::id("STATUS").leaves(2),
            Column::id("WHEN").leaves(1),
            Column::text("DESCRIPTION", 12),
        ]);
        for e in &self.newest {
            table.add_row([
                text::short(&e.id),
                if e.status == "crash" { "-".into() } else { text::metric(e.val_bpb) },
                e.status.clone(),
                text::ago(e.timestamp),
                text::line(&e.description),
            ]);
        }
        writeln!(out, "\n{table}")
    }
}

/// The numbers of a store.
#[derive(Debug, Serialize)]
pub struct Counts {
    pub experiments: u64,
    /// Experiments that hold here.
    pub confirmed: u64,
    pub tasks: u64,
    /// The best result of the task that the node works on.
    pub best: Option<Best>,
    #[serde(skip)]
    metric: String,
}

impl Counts {
    /// The numbers of a store in this state. `task` is the task that the node works on.
    pub fn of(status: &NodeStatus, task: Option<&TaskSummary>) -> Self {
        Self {
            experiments: status.experiment_count,
            confirmed: status.verified_experiment_count,
            tasks: status.task_count,
            best: task.and_then(Best::of),
            metric: task.map(|task| task.metric.clone()).unwrap_or_default(),
        }
    }

    /// Prints the numbers, a line each.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        writeln!(out, "Experiments     {}, {} confirmed here", self.experiments, self.confirmed)?;
        writeln!(out, "Tasks           {}", self.tasks)?;
        let best = self.best.as_ref().map(|best| best.text(&self.metric));
        writeln!(out, "Best            {}", best.as_deref().unwrap_or("none confirmed here yet"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overview(newest: Vec<Experiment>) -> Overview {
        let best = Best { id: "abcdef0123456789".into(), value: 2.75, hardware_class: "CPU".into() };
        Overview { best: Some(best), newest, metric: "val_bpb".into() }
    }

    #[test]
    fn best_experiment_is_named_with_its_id_and_class() {
        assert_eq!(overview(Vec::new()).best_text().unwrap(), "val_bpb 2.750000 on CPU (abcdef012345)");
    }

    #[test]
    fn newest_experiments_have_a_value_unless_they_crashed() {
        let list = vec![text::experiment("aa", None, "keep", 2.5, 1), text::experiment("bb", None, "crash", 0.0, 2)];
        let printed = text::printed(|out| overview(list).print_newest(out));
        let crash = printed.lines().find(|line| line.trim_start().starts_with("bb")).unwrap();
        assert!(printed.contains("2.500000") && crash.contains(" - "), "{printed}");
        assert_eq!(text::printed(|out| overview(Vec::new()).print_newest(out)), "");
    }
}
