//! `spore doctor`: looks at everything that a node needs, and tells the next step where something is wrong.
//!
//! Each check gives findings. `broken` means that the node does not work, or will not start; `weak` that it works worse
//! than it could, or will fail later. Nothing is changed.

mod machine;
mod node;
mod ports;

use std::io::Write;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::{CliError, Context, ErrorKind, access::ApiClient, text};

/// Look at the machine, the configuration and the node, and tell what to do about each fault
///
/// Exit code 1 if something is broken. A weak point does not count as broken.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Ask the configured language model a question, too, as `spore llm test` does; it may cost money
    #[arg(long)]
    llm: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Level {
    Ok,
    /// Nothing is wrong. The user may want to know.
    Note,
    Weak,
    Broken,
}

/// What a check found.
#[derive(Debug, Serialize)]
struct Finding {
    /// What was looked at.
    about: &'static str,
    level: Level,
    text: String,
    /// What to do. None where nothing is to be done.
    next: Option<String>,
}

impl Finding {
    fn new(about: &'static str, level: Level, text: impl Into<String>) -> Self {
        Self { about, level, text: text.into(), next: None }
    }

    fn ok(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(about, Level::Ok, text)
    }

    fn note(about: &'static str, text: impl Into<String>) -> Self {
        Self::new(about, Level::Note, text)
    }

    fn weak(about: &'static str, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..Self::new(about, Level::Weak, text) }
    }

    fn broken(about: &'static str, text: impl Into<String>, next: impl Into<String>) -> Self {
        Self { next: Some(next.into()), ..Self::new(about, Level::Broken, text) }
    }

    /// A broken finding with the message and the hint of an error.
    fn of_error(about: &'static str, error: CliError) -> Self {
        let next = error.hint.map(|hint| hint.0);
        Self { next, ..Self::new(about, Level::Broken, error.message) }
    }
}

/// Looks at everything.
///
/// # Errors
/// Exit code 1 when something is broken. When the output cannot be written.
pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let client = ApiClient::find(&context.data).await.ok().flatten();
    let mut findings = Vec::new();
    findings.extend(machine::directory(&context.data));
    findings.push(machine::space(&context.data));
    findings.push(machine::descriptors());
    findings.push(machine::memory());
    findings.push(node::identity(&context.data));
    let (config, of_config) = node::configuration(context);
    findings.extend(of_config);
    match client {
        Some(client) => findings.extend(node::running(client).await),
        None => {
            findings.push(node::not_running(&context.data));
            findings.extend(config.iter().flat_map(|config| ports::all(config, &context.data)));
        }
    }
    findings.push(machine::names().await);
    findings.push(machine::device(&context.data));
    findings.push(node::model(args.llm, config.as_ref()).await);
    findings
        .push(Finding::note("updates", "this program does not update itself; install a newer version in its place"));
    print(&findings, args.json, context)
}

fn print(findings: &[Finding], as_json: bool, context: &mut Context) -> Result<(), CliError> {
    let count = |level: Level| findings.iter().filter(|finding| finding.level == level).count();
    let (broken, weak) = (count(Level::Broken), count(Level::Weak));
    if as_json {
        context.json(&serde_json::json!({ "broken": broken, "weak": weak, "findings": findings }))?;
    } else {
        for finding in findings {
            let mark = match finding.level {
                Level::Ok => "ok",
                Level::Note => "note",
                Level::Weak => "WEAK",
                Level::Broken => "BROKEN",
            };
            writeln!(context.out, "{mark:<6}  {:<14}  {}", finding.about, text::line(&finding.text))?;
            if let Some(next) = &finding.next {
                writeln!(context.out, "{:24}next: {}", "", text::line(next))?;
            }
        }
        let (broken, weak) =
            (text::count(broken as u64, "fault", "faults"), text::count(weak as u64, "weak point", "weak points"));
        writeln!(context.out, "\n{broken}, {weak}")?;
    }
    context.out.flush()?;
    if broken > 0 { Err(CliError::told(ErrorKind::Failed)) } else { Ok(()) }
}
