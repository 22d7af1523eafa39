//! The command line: the only place that reads the environment, the home directory and the terminal. Each command has
//! a file with its `Args` and its `run`.
//!
//! A command that reads goes through [`access::NodeAccess`], which asks the running node or opens the store, and
//! creates nothing. The errors of the libraries get their hints in `hints`.

mod access;
#[cfg(feature = "trainer")]
mod attempt;
mod background;
mod block;
mod clean;
mod compare;
mod completions;
mod config_command;
mod daemon;
mod data;
mod db;
mod display;
mod doctor;
mod error;
mod event_line;
mod experiment;
mod explorer;
mod export;
mod frontier;
mod gc;
mod graph;
mod hints;
mod import;
mod info;
mod init;
mod inspect;
mod listing;
mod llm;
mod log_file;
mod log_format;
mod man;
mod net;
#[cfg(feature = "trainer")]
mod noise;
mod output;
mod overview;
mod peer;
mod profile;
mod proposer;
mod reference;
mod report;
mod research_status;
mod run;
#[cfg(feature = "trainer")]
mod script;
mod search;
mod secret;
mod service;
mod set;
mod status;
mod table;
mod task;
mod task_fit;
mod task_names;
mod task_script;
mod text;
mod trust;
mod upkeep;
mod upkeep_bar;
mod warnings;

use std::{
    collections::BTreeSet,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use anstyle::{AnsiColor, Style};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use spore_protocol::NodeId;

pub use error::{CliError, ErrorKind, Hint};

use crate::{config, data_dir::DataDir, identity_file};

/// A peer-to-peer network for machine-learning research
///
/// A node runs short training experiments, publishes the results as signed records, re-runs the experiments of other
/// nodes, and builds on the best ones. Start with `spore run`.
#[derive(Debug, Parser)]
#[command(name = "spore", version, arg_required_else_help = true, propagate_version = false)]
#[command(
    after_help = "Exit codes: 0 success, 1 failure, 2 wrong usage, 3 not found, 4 no node is running, 5 the data directory is \
        in use."
)]
struct Cli {
    /// The directory of the node's key, configuration and store [env: SPORE_HOME] [default: ~/.spore]
    #[arg(long, short, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Args>),
    Start(Box<daemon::Start>),
    Stop(daemon::Stop),
    Restart(Box<daemon::Restart>),
    Log(daemon::log::Args),
    Service(service::Args),
    Doctor(doctor::Args),
    Config(config_command::Args),
    Init(init::Args),
    Status(status::Args),
    Report(report::Args),
    Info(info::Args),
    Explorer(explorer::Args),
    /// List the known tasks (the same as `spore task list`)
    Tasks(task::List),
    Task(task::Args),
    Frontier(frontier::Args),
    Graph(graph::Args),
    #[command(alias = "experiment")]
    Show(experiment::Args),
    Search(search::Args),
    #[cfg(feature = "trainer")]
    Script(script::Args),
    #[cfg(feature = "trainer")]
    Try(Box<attempt::Args>),
    #[cfg(feature = "trainer")]
    Noise(noise::Args),
    Compare(compare::Args),
    Data(data::Args),
    Net(net::Args),
    Peer(peer::Args),
    /// Connect to a peer now, and whenever the node starts (the same as `spore peer add`)
    Connect(peer::Address),
    /// Forget a peer and close its connections (the same as `spore peer remove`)
    Disconnect(peer::Address),
    Block(block::Args),
    /// Take the objects of a blocked signer or task again
    #[command(mut_arg("id", |id| id.required(true)))]
    Unblock(block::What),
    Set(set::Args),
    Llm(llm::Args),
    Profile(profile::Args),
    Import(import::Args),
    Export(export::Args),
    Inspect(inspect::Args),
    Db(db::Args),
    Gc(gc::Args),
    Clean(clean::Args),
    Completions(completions::Args),
    Man(man::Args),
    /// Print the version
    Version {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Print the HTTP API as an OpenAPI document
    #[command(hide = true)]
    Openapi,
    /// Run the experiment that is described on standard input (the node starts this process itself)
    #[cfg(feature = "trainer")]
    #[command(hide = true)]
    Worker,
}

/// The data directory and the output of a command.
pub struct Context {
    pub data: DataDir,
    pub out: Box<dyn Write>,
}

impl Context {
    /// Loads config.toml, with the variables `SPORE_*` over it, and warns about unknown keys.
    fn config(&self) -> Result<config::Config, CliError> {
        let loaded = config::load(&self.data.config())?;
        for note in &loaded.notes {
            warn(note);
        }
        Ok(config::environment::over(&self.data.config(), loaded.config, |name| std::env::var(name).ok())?)
    }

    /// The keys that this node trusts: the configured ones and its own. A store is opened for writing with them: other
    /// keys would make it compute its verdicts anew.
    fn seeds(&self) -> Result<BTreeSet<NodeId>, CliError> {
        let own = identity_file::load(&self.data.identity())?.map(|identity| identity.node_id());
        // Without a warning about unknown keys: the command warns where it uses the configuration.
        Ok(config::load(&self.data.config())?.config.seeds(own))
    }

    /// Prints a value as JSON.
    fn json<T: serde::Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string_pretty(value).map_err(|e| CliError::failed(e.to_string()))?;
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Prints a value as one line of JSON.
    fn json_line<T: serde::Serialize>(&mut self, value: &T) -> Result<(), CliError> {
        let text = serde_json::to_string(value).map_err(|e| CliError::failed(e.to_string()))?;
        Ok(writeln!(self.out, "{text}")?)
    }
}

/// Runs the program.
pub fn main() -> ExitCode {
    if completions::answered() {
        return ExitCode::SUCCESS;
    }
    let matches = command().try_get_matches();
    let cli = match matches.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => {
            let as_json = json_wanted(std::env::args_os());
            if error.use_stderr() && as_json {
                tell(&usage(&error), true);
                return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
            }
            // clap reports help and version as errors too, with exit code 0. Help that could not be written was not given.
            return match (error.exit_code(), error.print().and_then(|()| io::stdout().flush())) {
                (0, Err(failed)) => ExitCode::from(CliError::from(failed).kind as u8),
                (code, _) => ExitCode::from(u8::try_from(code).unwrap_or(2)),
            };
        }
    };
    #[cfg(feature = "trainer")]
    if matches!(cli.command, Command::Worker) {
        return spore_trainer::worker::main(io::stdin(), io::stdout());
    }
    let as_json = json_wanted(std::env::args_os());
    match execute(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            if error.kind != ErrorKind::OutputClosed && !error.message.is_empty() {
                tell(&error, as_json);
            }
            ExitCode::from(error.kind as u8)
        }
    }
}

fn execute(cli: Cli) -> Result<(), CliError> {
    let data = DataDir::new(data_dir(cli.data_dir, std::env::var_os("SPORE_HOME"))?);
    // Standard output is not locked here: the display of a running node writes from its own thread.
    let mut context = Context { data, out: Box::new(io::BufWriter::new(io::stdout())) };
    // reqwest is built without a TLS provider, so the program chooses one. Only a second call could fail.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let done = match cli.command {
        // What a node shows is no answer: the node ran well, although nobody could read about it.
        Command::Run(args) => return run::run(*args, &context),
        Command::Inspect(args) => inspect::run(&args, &mut context),
        Command::Completions(args) => completions::run(&args, &mut context),
        Command::Man(args) => man::run(&args, &mut context),
        Command::Clean(args) => clean::run(&args, &mut context),
        Command::Service(args) => service::run(&args, &mut context),
        Command::Version { json: true } => context.json(&serde_json::json!({ "version": env!("CARGO_PKG_VERSION") })),
        Command::Version { json: false } => {
            writeln!(context.out, "spore {}", env!("CARGO_PKG_VERSION")).map_err(Into::into)
        }
        Command::Openapi => context.out.write_all(spore_api::openapi::document().as_bytes()).map_err(Into::into),
        command => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let runtime = runtime.map_err(|e| CliError::io("cannot start the runtime", &e))?;
            runtime.block_on(short_command(command, &mut context))
        }
    };
    done?;
    Ok(context.out.flush()?)
}

async fn short_command(command: Command, context: &mut Context) -> Result<(), CliError> {
    match command {
        Command::Init(args) => init::run(&args, context).await,
        Command::Start(args) => daemon::start(&args, context).await,
        Command::Stop(args) => daemon::stop(&args, context).await,
        Command::Restart(args) => daemon::restart(&args, context).await,
        Command::Log(args) => daemon::log::run(&args, context).await,
        Command::Doctor(args) => doctor::run(&args, context).await,
        Command::Config(args) => config_command::run(&args, context).await,
        Command::Info(args) => info::run(&args, context).await,
        Command::Status(args) => status::run(&args, context).await,
        Command::Report(args) => report::run(&args, context).await,
        Command::Graph(args) => graph::run(&args, context).await,
        Command::Frontier(args) => frontier::run(&args, context).await,
        Command::Search(args) => search::run(&args, context).await,
        #[cfg(feature = "trainer")]
        Command::Script(args) => script::run(args, context).await,
        #[cfg(feature = "trainer")]
        Command::Try(args) => attempt::run(&args, context).await,
        #[cfg(feature = "trainer")]
        Command::Noise(args) => noise::run(&args, context).await,
        Command::Show(args) => experiment::run(&args, context).await,
        Command::Task(args) => task::run(args, context).await,
        Command::Tasks(args) => task::list(&args, context).await,
        Command::Net(args) => net::run(&args, context).await,
        Command::Peer(args) => peer::run(args, context).await,
        Command::Connect(args) => peer::add(&args, context).await,
        Command::Disconnect(args) => peer::remove(&args, context).await,
        Command::Block(args) => block::run(args, context).await,
        Command::Unblock(args) => block::unblock(&args, context).await,
        Command::Set(args) => set::run(&args, context).await,
        Command::Llm(args) => llm::run(&args, context).await,
        Command::Profile(args) => profile::run(args, context).await,
        Command::Compare(args) => compare::run(&args, context).await,
        Command::Data(args) => data::run(args, context).await,
        Command::Import(args) => import::run(&args, context).await,
        Command::Export(args) => export::run(&args, context).await,
        Command::Explorer(args) => explorer::run(&args, context).await,
        Command::Db(args) => db::run(args, context).await,
        Command::Gc(args) => gc::run(args, context).await,
        _ => Err(CliError::failed("this command does not run here")),
    }
}

/// The absolute path of the data directory. It is absolute because worker processes run in other directories.
fn data_dir(given: Option<PathBuf>, environment: Option<OsString>) -> Result<PathBuf, CliError> {
    let dir = given
        .or_else(|| environment.filter(|dir| !dir.is_empty()).map(PathBuf::from))
        .or_else(home_dir)
        .ok_or_else(|| CliError::usage("there is no home directory").hint("name a data directory: `--data-dir DIR`"))?;
    std::path::absolute(&dir).map_err(|e| CliError::io(dir.display(), &e))
}

/// `~/.spore`, the default data directory. The reference uses the same one.
fn home_dir() -> Option<PathBuf> {
    std::env::home_dir().filter(|home| !home.as_os_str().is_empty()).map(|home| home.join(".spore"))
}

/// Whether a command asks for JSON. Looked up in the words themselves, because wrong usage has no parsed arguments.
fn json_wanted(words: impl Iterator<Item = OsString>) -> bool {
    words.take_while(|word| word != "--").any(|word| word == "--json")
}

/// The error of wrong usage: the first paragraph of clap's text, and the rest as the hint.
fn usage(error: &clap::Error) -> CliError {
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let (message, rest) = text.split_once("\n\n").unwrap_or((text, ""));
    let error = CliError::usage(message.trim());
    if rest.trim().is_empty() { error } else { error.hint(rest.trim()) }
}

/// Prints an error and its hint, in words or as one JSON object. Both go to standard error.
fn tell(error: &CliError, as_json: bool) {
    if !as_json {
        return report(error);
    }
    let hint = error.hint.as_ref().map(|hint| hint.0.as_str());
    let object = serde_json::json!({ "error": error.message, "hint": hint, "exit_code": error.kind as u8 });
    output::message(&object.to_string());
}

/// Prints an error and its hint.
fn report(error: &CliError) {
    let (red, cyan) = (label(AnsiColor::Red), label(AnsiColor::Cyan));
    output::message(&format!("{red}error:{red:#} {}", error.message));
    if let Some(hint) = &error.hint {
        output::message(&format!("{cyan}hint:{cyan:#} {hint}"));
    }
}

/// Ends the process without closing anything, where closing would do harm.
fn end_at_once(error: &CliError) -> ! {
    report(error);
    std::process::exit(error.kind as i32)
}

/// Prints a warning. The command goes on.
fn warn(text: &str) {
    let yellow = label(AnsiColor::Yellow);
    output::message(&format!("{yellow}warning:{yellow:#} {text}"));
}

/// The style of the word in front of a message. `anstream` removes it where standard error shows no colours.
fn label(color: AnsiColor) -> Style {
    Style::new().bold().fg_color(Some(color.into()))
}

/// The description of the whole command line.
pub fn command() -> clap::Command {
    reference::with_letters(Cli::command())
}

/// Parses arguments as the program does, for tests.
///
/// # Errors
/// The error of clap.
pub fn check_arguments(arguments: &[&str]) -> Result<(), clap::Error> {
    Cli::from_arg_matches(&command().try_get_matches_from(arguments)?).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_line_is_well_formed_and_describes_every_flag() {
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
    fn json_is_wanted_where_a_flag_asks_for_it() {
        let wanted = |line: &str| json_wanted(line.split(' ').map(OsString::from));
        assert!(wanted("spore tasks --json") && !wanted("spore tasks") && !wanted("spore search -- --json"));
    }

    #[test]
    fn wrong_usage_becomes_a_message_and_a_hint() {
        let error = usage(&check_arguments(&["spore", "frontir"]).unwrap_err());
        assert_eq!((error.kind as u8, error.message.as_str()), (2, "unrecognized subcommand 'frontir'"));
        assert!(error.hint.unwrap().0.contains("frontier"));
    }

    #[test]
    fn data_directory_is_absolute_and_an_empty_variable_means_none() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(data_dir(Some("d".into()), Some("e".into())).unwrap(), here.join("d"));
        assert_eq!(data_dir(None, Some("e".into())).unwrap(), here.join("e"));
        assert_eq!(data_dir(None, Some("".into())).ok(), data_dir(None, None).ok());
    }

    #[test]
    fn flags_of_the_reference_are_accepted() {
        for line in [
            "spore run --verify-only --task abc --peer peer.sporemesh.com:7470 --port 7470 --web-port 8470 --resource 50",
            "spore run --no-train --data-dir /tmp/x --no-bootstrap --listen /ip4/127.0.0.1/tcp/0",
            "spore run --host localhost --web-host localhost",
            "spore connect peer.example.org:7470",
            "spore disconnect peer.example.org:7470",
            "spore task create --name n --description d --task-type ml_train --artifact-type starlark_train_script --metric val_bpb --goal minimize --time-budget 300 --base f",
            "spore set groq sesame --model m",
            "spore set none",
            "spore set",
            "spore set custom KEY --base-url http://127.0.0.1:1/v1 -m m --max-tokens 9 --temperature 0.5",
            "spore llm test --json",
            "spore set trust",
            "spore set trust abc def",
            "spore set trust --remove abc",
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
            "spore run --web-host example.org",
            "spore set trust --remove",
            "spore nonsense",
        ] {
            let words: Vec<_> = line.split(' ').collect();
            assert_eq!(check_arguments(&words).unwrap_err().exit_code(), 2, "{line}");
        }
    }

    #[test]
    fn search_needs_words_and_a_list_at_least_one_row() {
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
