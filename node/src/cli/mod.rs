//! The command line: the only place that reads the environment, the home directory and the
//! terminal. A file for each command, with its `Args` and `run`.
//!
//! Reading commands go through [`source::Source`], which asks the running node or opens the store;
//! they never create anything.

mod bar;
mod data;
mod db;
mod display;
mod error;
mod experiment;
mod explorer;
mod export;
mod frontier;
mod gc;
mod graph;
mod import;
mod info;
mod init;
mod inspect;
mod listing;
mod peer;
mod profile;
mod run;
mod search;
mod set;
mod source;
mod status;
mod task;
mod text;
mod upkeep;

use std::{
    ffi::OsString,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

pub use error::{CliError, ErrorKind};

use crate::{config, data_dir::DataDir};

/// Decentralized research in machine learning: signed experiments, shared between peers
#[derive(Debug, Parser)]
#[command(name = "spore", version, arg_required_else_help = true, propagate_version = false)]
#[command(
    after_help = "Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 node not running, 5 data directory locked."
)]
struct Cli {
    /// Where the node keeps its key, its configuration and its store [env: SPORE_HOME] [default: ~/.spore]
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Init(init::Args),
    Info(info::Args),
    Status(status::Args),
    Graph(graph::Args),
    Frontier(frontier::Args),
    Search(search::Args),
    #[command(alias = "experiment")]
    Show(experiment::Args),
    Task(task::Args),
    /// List known tasks (short for `task list`)
    Tasks(task::List),
    Peer(peer::Args),
    /// Dial a peer now, and whenever the node starts
    Connect(peer::Address),
    /// Forget a peer that was added, and close its connections
    Disconnect(peer::Address),
    Set(set::Args),
    Profile(profile::Args),
    Data(data::Args),
    Import(import::Args),
    Export(export::Args),
    Inspect(inspect::Args),
    Db(db::Args),
    Gc(gc::Args),
    Explorer(explorer::Args),
    /// Print the version
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the HTTP API as an OpenAPI document
    #[command(hide = true)]
    Openapi,
    /// Run one experiment, told on standard input (started by the node itself)
    #[cfg(feature = "trainer")]
    #[command(hide = true)]
    Worker,
}

/// What every command has: the data directory and somewhere to write.
pub struct Context {
    pub data: DataDir,
    pub out: Box<dyn Write>,
}

impl Context {
    /// The configuration, after a word on what in it is not understood.
    fn config(&self) -> Result<config::Config, CliError> {
        let loaded = config::load(&self.data.config())?;
        for key in &loaded.unknown {
            warn(&format!("config.toml: unknown key {key} has no effect"));
        }
        Ok(loaded.config)
    }

    /// Prints a value as JSON.
    fn json<T: serde::Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|e| CliError::failed(e.to_string()))?;
        Ok(writeln!(self.out, "{text}")?)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version come this way too, with code 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    #[cfg(feature = "trainer")]
    if matches!(cli.command, Command::Worker) {
        return spore_trainer::worker::main(io::stdin(), io::stdout());
    }
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.kind != ErrorKind::OutputClosed {
                report(&error);
            }
            ExitCode::from(error.kind as u8)
        }
    }
}

fn execute(cli: Cli) -> Result<(), CliError> {
    let data = DataDir::new(data_dir(cli.data_dir, std::env::var_os("SPORE_HOME"))?);
    // Not locked for the program's whole life: a running node's display writes from its own thread.
    let mut context = Context { data, out: Box::new(io::BufWriter::new(io::stdout())) };
    // Every TLS connection needs a provider, and reqwest is built to leave the choice to us. Only a
    // second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match cli.command {
        Command::Run(args) => run::run(*args, &context),
        Command::Inspect(args) => inspect::run(&args, &mut context),
        Command::Version { json: true } => context.json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })),
        Command::Version { json: false } => {
            writeln!(context.out, "spore {}", env!("CARGO_PKG_VERSION")).map_err(Into::into)
        }
        Command::Openapi => context.out.write_all(spore_api::openapi::document().as_bytes()).map_err(Into::into),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| CliError::io("cannot start", &e))?;
            runtime.block_on(short_command(command, &mut context))
        }
    };
    done?;
    Ok(context.out.flush()?)
}

async fn short_command(command: Command, context: &mut Context) -> Result<(), CliError> {
    match command {
        Command::Init(args) => init::run(&args, context).await,
        Command::Info(args) => info::run(&args, context).await,
        Command::Status(args) => status::run(&args, context).await,
        Command::Graph(args) => graph::run(&args, context).await,
        Command::Frontier(args) => frontier::run(&args, context).await,
        Command::Search(args) => search::run(&args, context).await,
        Command::Show(args) => experiment::run(&args, context).await,
        Command::Task(args) => task::run(args, context).await,
        Command::Tasks(args) => task::list(&args, context).await,
        Command::Peer(args) => peer::run(args, context).await,
        Command::Connect(args) => peer::add(&args, context).await,
        Command::Disconnect(args) => peer::remove(&args, context).await,
        Command::Set(args) => set::run(&args, context).await,
        Command::Profile(args) => profile::run(args, context).await,
        Command::Data(args) => data::run(args, context).await,
        Command::Import(args) => import::run(&args, context).await,
        Command::Export(args) => export::run(&args, context).await,
        Command::Explorer(args) => explorer::run(&args, context).await,
        Command::Db(args) => db::run(args, context).await,
        Command::Gc(args) => gc::run(args, context).await,
        _ => Err(CliError::failed("this command is dealt with elsewhere")),
    }
}

/// The data directory's absolute path: processes that the node starts run in other directories.
fn data_dir(given: Option<PathBuf>, environment: Option<OsString>) -> Result<PathBuf, CliError> {
    let dir = given
        .or_else(|| environment.filter(|dir| !dir.is_empty()).map(PathBuf::from))
        .or_else(home_dir)
        .ok_or_else(|| CliError::usage("there is no home directory to keep data in").hint("give --data-dir DIR"))?;
    std::path::absolute(&dir).map_err(|e| CliError::io(dir.display(), &e))
}

/// `~/.spore`: where a node keeps its data when nothing else is said, the reference's own place.
fn home_dir() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".spore"))
}

/// Shows an error and the next step.
fn report(error: &CliError) {
    eprintln!("{}error:{} {}", style(anstyle::AnsiColor::Red), reset(), error.message);
    if let Some(hint) = &error.hint {
        eprintln!("{}hint:{} {hint}", style(anstyle::AnsiColor::Cyan), reset());
    }
}

/// Says what a person should know of, without ending.
fn warn(text: &str) {
    eprintln!("{}warning:{} {text}", style(anstyle::AnsiColor::Yellow), reset());
}

fn style(color: anstyle::AnsiColor) -> String {
    if colored() {
        anstyle::Style::new().bold().fg_color(Some(color.into())).render().to_string()
    } else {
        String::new()
    }
}

fn reset() -> &'static str {
    if colored() { "\u{1b}[0m" } else { "" }
}

fn colored() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// The command line's own description, for tests and for man pages.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Reads arguments as the program does; for tests.
///
/// # Errors
/// What clap says of them.
pub fn check_arguments(arguments: &[&str]) -> Result<(), clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed_and_every_flag_is_described() {
        fn described(command: &clap::Command) {
            for argument in command.get_arguments() {
                assert!(argument.get_help().is_some(), "{} {} has no help", command.get_name(), argument.get_id());
            }
            command.get_subcommands().for_each(described);
        }
        let mut command = command();
        command.build();
        command.clone().debug_assert();
        described(&command);
    }

    #[test]
    fn the_data_directory_is_absolute_and_an_empty_variable_means_none() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(data_dir(Some("d".into()), Some("e".into())).unwrap(), here.join("d"));
        assert_eq!(data_dir(None, Some("e".into())).unwrap(), here.join("e"));
        assert_eq!(data_dir(None, Some("".into())).ok(), data_dir(None, None).ok());
    }

    #[test]
    fn the_references_flags_are_understood() {
        for line in [
            "spore run --verify-only --task abc --peer peer.sporemesh.com:7470 --port 7470 --web-port 8470 --resource 50",
            "spore run --no-train --data-dir /tmp/x --no-bootstrap --listen /ip4/127.0.0.1/tcp/0",
            "spore connect peer.example.org:7470",
            "spore disconnect peer.example.org:7470",
            "spore task create --name n --description d --task-type ml_train --artifact-type starlark_train_script --metric val_bpb --goal minimize --time-budget 300 --base f",
            "spore set groq sesame --model m",
            "spore status --task abc --json",
            "spore profile set --display-name Sybil",
            "spore tasks --json",
            "spore experiment abc",
        ] {
            let words: Vec<_> = line.split(' ').collect();
            check_arguments(&words).unwrap_or_else(|e| panic!("{line}: {e}"));
        }
        for line in [
            "spore run --verify-only --no-train",
            "spore run --resource 0",
            "spore run --resource 101",
            "spore nonsense",
        ] {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(check_arguments(&words).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn a_search_needs_words_and_a_list_at_least_one_row() {
        for (line, good) in [
            ("spore search learning rate --task abc --limit 5 --json", true),
            ("spore search", false),
            ("spore frontier --limit 1", true),
            ("spore frontier --limit 0", false),
            ("spore tasks --limit 100001", false),
        ] {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(check_arguments(&words).is_ok(), good, "{line}");
        }
    }
}
