//! `spore completions`: the completions of a shell. Commands and flags come from the description of the command line;
//! ids, names and addresses come from the running node.
//!
//! The shell runs the program with [`VARIABLE`] set, and the program prints candidates in place of its work. Without a
//! running node the candidates that only a node knows are left out: no store is opened and nothing is written while a
//! user types. A failure gives no candidates and no message, which would stand in the user's line.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
    path::PathBuf,
    time::Duration,
};

use clap::{Args as ClapArgs, builder::PossibleValuesParser};
use clap_complete::{
    ArgValueCompleter, CompleteEnv, CompletionCandidate,
    env::{EnvCompleter, Shells},
};
use serde::de::DeserializeOwned;
use spore_api::{
    dto::{ConnectedPeer, Experiment, NodeSummary, Page, TaskSummary},
    query::Query,
    route::Route,
};

use super::{
    CliError, Context,
    access::{ApiClient, NodeAccess},
    data_dir, text,
};
use crate::{config, data_dir::DataDir};

/// The variable by which a shell asks for candidates. Its value is the name of the shell.
const VARIABLE: &str = "SPORE_COMPLETE";
/// Time for an answer of the running node. A user waits for it with a finger on the key.
const PATIENCE: Duration = Duration::from_secs(1);
/// Candidates of one kind: more than a screen shows.
const MOST: usize = 200;
/// Least digits of an id by which experiments are searched. The search of the API takes no fewer.
const SEARCHED: usize = 4;
/// Characters of the text beside a candidate: what is left of a line of 80.
const HELP: usize = 56;

/// Print the completions of a shell
///
/// The shell then completes commands, flags, names and ids with the Tab key. Ids, task names and addresses of peers come
/// from the running node.
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "Add to the start-up file of the shell:\n  bash        source <(spore completions bash)\n  zsh         source \
        <(spore completions zsh)\n  fish        spore completions fish | source\n  elvish      eval (spore completions elvish | \
        slurp)"
)]
pub struct Args {
    /// The shell
    #[arg(value_parser = PossibleValuesParser::new(Shells::builtins().names()))]
    shell: String,
}

/// Prints the script by which a shell asks this program for completions.
///
/// # Errors
/// When the output cannot be written.
pub fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let shells = Shells::builtins();
    let shell: &dyn EnvCompleter =
        shells.completer(&args.shell).ok_or_else(|| CliError::usage(format!("{} is not known", args.shell)))?;
    // The name, not the path: a script in a start-up file outlives a move of the program.
    Ok(shell.write_registration(VARIABLE, "spore", "spore", "spore", &mut context.out)?)
}

/// Prints candidates and returns true when a shell asks for them. Call this before anything is printed.
pub fn answered() -> bool {
    if std::env::var_os(VARIABLE).is_none_or(|shell| shell.is_empty()) {
        return false;
    }
    // The node is asked without TLS, but the client is not built without a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let complete = CompleteEnv::with_factory(|| with_candidates(super::command(), &mut Vec::new())).var(VARIABLE);
    complete.try_complete(std::env::args_os(), std::env::current_dir().ok().as_deref()).unwrap_or(true)
}

/// The kind of a value that a user types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wanted {
    Task,
    Experiment,
    Node,
    /// A peer that the node is connected to, or dials when it starts.
    Peer,
    Dataset,
}

/// The kind of an argument's values. `path` names the command without the program, such as `task show`.
fn wanted(path: &[String], argument: &str) -> Option<Wanted> {
    let path: Vec<&str> = path.iter().map(String::as_str).collect();
    match (path.as_slice(), argument) {
        (_, "task") | (["task", "show" | "use"], "id") => Some(Wanted::Task),
        (["show"], "id") => Some(Wanted::Experiment),
        (["set", "trust"], "nodes") => Some(Wanted::Node),
        (["disconnect"] | ["peer", "remove"], "address") => Some(Wanted::Peer),
        (["task", "create"], "dataset") => Some(Wanted::Dataset),
        _ => None,
    }
}

/// The command line, with a source of candidates at each argument that names something of the node.
fn with_candidates(command: clap::Command, path: &mut Vec<String>) -> clap::Command {
    let command = command.mut_args(|argument| match wanted(path, argument.get_id().as_str()) {
        Some(wanted) => argument.add(ArgValueCompleter::new(move |typed: &OsStr| candidates(wanted, typed))),
        None => argument,
    });
    command.mut_subcommands(|below| {
        path.push(below.get_name().to_owned());
        let below = with_candidates(below, path);
        path.pop();
        below
    })
}

/// The candidates that begin with what is typed.
fn candidates(wanted: Wanted, typed: &OsStr) -> Vec<CompletionCandidate> {
    let Some(typed) = typed.to_str() else { return Vec::new() };
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else { return Vec::new() };
    let found = runtime.block_on(async { tokio::time::timeout(PATIENCE, found(wanted, typed)).await });
    let found = found.ok().and_then(Result::ok).unwrap_or_default();
    found.into_iter().filter(|found| found.value.starts_with(typed)).take(MOST).map(Into::into).collect()
}

/// A value, and what it stands for.
#[derive(Debug, PartialEq, Eq)]
struct Found {
    value: String,
    help: String,
}

impl From<Found> for CompletionCandidate {
    fn from(found: Found) -> Self {
        let help: String = text::line(&found.help).chars().take(HELP).collect();
        Self::new(found.value).help((!help.is_empty()).then(|| help.into()))
    }
}

/// Asks the running node, and reads the small files of its directory.
async fn found(wanted: Wanted, typed: &str) -> Result<Vec<Found>, CliError> {
    let data = DataDir::new(data_dir(given_directory(std::env::args_os()), std::env::var_os("SPORE_HOME"))?);
    if wanted == Wanted::Dataset {
        let named = data.datasets()?.into_iter();
        return Ok(named.map(|dataset| Found { value: dataset.name, help: dataset.cid }).collect());
    }
    let saved = if wanted == Wanted::Peer { config::load(&data.config())?.config.peer } else { Vec::new() };
    let mut found: Vec<_> = saved.into_iter().map(|value| Found { value, help: "dialled at start".into() }).collect();
    let Some(node) = ApiClient::find(&data).await? else { return Ok(found) };
    let node = NodeAccess::Node(node);
    match wanted {
        Wanted::Task => found.extend(tasks(page(&node, &Route::Tasks, Query::default()).await?)),
        Wanted::Experiment => {
            let searched = typed.len() >= SEARCHED;
            let route = if searched { Route::Search } else { Route::Experiments };
            let query = if searched { Query::default().with("q", typed) } else { Query::default() };
            found.extend(experiments(page(&node, &route, query).await?, typed));
        }
        Wanted::Node => {
            let nodes: Vec<NodeSummary> = page(&node, &Route::Nodes, Query::default()).await?;
            let named = |node: NodeSummary| Found { value: node.node_id, help: node.display_name.unwrap_or_default() };
            found.extend(nodes.into_iter().map(named));
        }
        Wanted::Peer => {
            let peers: Vec<ConnectedPeer> = node.get(&Route::Peers).await?;
            let named = |peer: ConnectedPeer| Found { value: peer.address, help: peer.transport };
            let connected: Vec<_> = peers.into_iter().map(named).collect();
            found.retain(|saved| connected.iter().all(|peer| peer.value != saved.value));
            found.extend(connected);
        }
        Wanted::Dataset => {}
    }
    Ok(found)
}

/// The first items of a listing.
async fn page<T: DeserializeOwned>(node: &NodeAccess, route: &Route, query: Query) -> Result<Vec<T>, CliError> {
    Ok(node.get_with::<Page<T>>(route, &query.with("limit", MOST)).await?.items)
}

/// The names of tasks that a shell takes as one word and that only one task has, then the ids of all tasks.
fn tasks(tasks: Vec<TaskSummary>) -> Vec<Found> {
    let mut named: BTreeMap<&str, u32> = BTreeMap::new();
    for task in &tasks {
        *named.entry(&task.name).or_default() += 1;
    }
    let plain =
        |name: &str| !name.starts_with('-') && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c));
    let usable = |task: &&TaskSummary| !task.name.is_empty() && plain(&task.name) && named.get(&*task.name) == Some(&1);
    let by_name = tasks.iter().filter(usable).map(|task| {
        let help = format!("{} {}", text::short(&task.task_id), task.description);
        Found { value: task.name.clone(), help }
    });
    let by_id = tasks.iter().map(|task| Found { value: text::short(&task.task_id), help: task.name.clone() });
    by_name.chain(by_id).collect()
}

/// The ids of experiments: their first digits, or all digits where more than those are typed.
fn experiments(experiments: Vec<Experiment>, typed: &str) -> Vec<Found> {
    let digits = |e: &Experiment| if text::short(&e.id).starts_with(typed) { text::short(&e.id) } else { e.id.clone() };
    let value =
        |e: &Experiment| if e.status == "crash" { String::new() } else { format!(" {}", text::metric(e.val_bpb)) };
    let named =
        |e: &Experiment| Found { value: digits(e), help: format!("{}{} {}", e.status, value(e), e.description) };
    experiments.iter().map(named).collect()
}

/// The data directory that the line names which is being completed.
fn given_directory(arguments: impl Iterator<Item = OsString>) -> Option<PathBuf> {
    let mut arguments = arguments.skip_while(|argument| argument != "--").skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--data-dir" {
            return arguments.next().map(PathBuf::from);
        }
        if let Some(dir) = argument.to_str().and_then(|argument| argument.strip_prefix("--data-dir=")) {
            return Some(dir.into());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The arguments with candidates, as `command argument`.
    fn completed(command: &clap::Command, path: &mut Vec<String>, found: &mut Vec<String>) {
        for argument in command.get_arguments().filter(|argument| argument.get::<ArgValueCompleter>().is_some()) {
            found.push(format!("{} {}", path.join(" "), argument.get_id()));
        }
        for below in command.get_subcommands() {
            path.push(below.get_name().to_owned());
            completed(below, path, found);
            path.pop();
        }
    }

    #[test]
    fn every_argument_that_names_something_of_the_node_has_candidates() {
        let command = with_candidates(super::super::command(), &mut Vec::new());
        let mut found = Vec::new();
        completed(&command, &mut Vec::new(), &mut found);
        for expected in [
            "run task",
            "frontier task",
            "graph task",
            "search task",
            "status task",
            "task show id",
            "task use id",
            "task create dataset",
            "show id",
            "set trust nodes",
            "disconnect address",
            "peer remove address",
        ] {
            assert!(found.iter().any(|argument| argument == expected), "{expected}: {found:?}");
        }
    }

    #[test]
    fn flags_and_commands_are_completed_without_a_node() {
        let complete = |words: &[&str]| {
            let mut command = with_candidates(super::super::command(), &mut Vec::new());
            let words: Vec<OsString> = words.iter().map(Into::into).collect();
            let last = words.len() - 1;
            let found = clap_complete::engine::complete(&mut command, words, last, None).unwrap();
            found.iter().map(|one| one.get_value().to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert!(complete(&["spore", "fro"]).contains(&"frontier".to_owned()));
        let flags = complete(&["spore", "run", "--pe"]);
        assert_eq!(flags, ["--peer"]);
        assert!(complete(&["spore", "run", "--device", ""]).contains(&"flex".to_owned()));
    }

    #[test]
    fn task_names_that_are_no_single_word_are_completed_by_id() {
        let names = [("a1", "tiny"), ("b2", "two words"), ("c3", "same"), ("d4", "same")];
        let list = names.map(|(id, name)| text::task(id, name)).to_vec();
        let values: Vec<_> = tasks(list).into_iter().map(|found| found.value).collect();
        assert_eq!(values, ["tiny", "a1", "b2", "c3", "d4"]);
    }

    #[test]
    fn id_is_completed_beyond_its_first_digits() {
        let id = "0123456789abcdef0123";
        let list = || vec![text::experiment(id, None, "keep", 1.0, 1)];
        assert_eq!(experiments(list(), "0123").first().unwrap().value, "0123456789ab");
        assert_eq!(experiments(list(), "0123456789abcd").first().unwrap().value, id);
    }

    #[test]
    fn data_directory_of_the_completed_line_counts() {
        let given = |line: &str| given_directory(line.split(' ').map(OsString::from));
        assert_eq!(given("spore -- spore --data-dir /d show"), Some("/d".into()));
        assert_eq!(given("spore -- spore show --data-dir=/e"), Some("/e".into()));
        assert_eq!(given("spore -- spore show"), None);
    }
}
