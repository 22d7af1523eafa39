//! `spore start`, `stop`, `restart` and `log`: a node in the background.
//!
//! `start` runs `spore run` as a process of its own session, whose output goes to a log. The process is known by the lock
//! that it holds, see [`crate::process_file`].

pub mod log;

use std::{
    ffi::OsString,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom, Write},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use clap::Args as ClapArgs;
use rustix::process::Signal;

use super::{CliError, Context, ErrorKind, access::ApiClient, background::own_words, log_file, run};
use crate::{
    data_dir::DataDir,
    process_file::{NodeProcess, Place},
};

/// Time that `start` waits for the node to answer. A device that is tried for the first time takes longer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(20);
/// Time that `stop` waits for the end: the services get 20 s, and threads that write 5 s more.
const ENDS_WITHIN: Duration = Duration::from_secs(30);
/// Time that a killed process gets to end.
const KILLED_WITHIN: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_millis(50);
/// Time between two requests to a node that is starting.
const ASK: Duration = Duration::from_millis(200);
/// Bytes of the log that are shown when the node does not start.
const SHOWN: u64 = 8 * 1024;

/// Start the node in the background
///
/// Takes the flags of `spore run`. `spore log` shows what the node prints, `spore stop` ends it.
#[derive(Debug, ClapArgs)]
pub struct Start {
    #[command(flatten)]
    run: run::Args,
}

/// Stop the node and start it again in the background
///
/// Without flags, the node keeps the flags of its last run.
#[derive(Debug, ClapArgs)]
pub struct Restart {
    #[command(flatten)]
    run: run::Args,
}

/// Stop the node of this data directory, wherever it was started
#[derive(Debug, ClapArgs)]
pub struct Stop {
    /// Kill the node if it has not ended after 30 seconds
    #[arg(long)]
    kill: bool,
}

/// Starts the node unless one runs.
///
/// # Errors
/// When the node ends at once.
pub async fn start(args: &Start, context: &mut Context) -> Result<(), CliError> {
    // The flags were checked. The words themselves go to the new process.
    let _ = &args.run;
    let words = own_words("start");
    if let Some(running) = NodeProcess::running(&context.data.process()) {
        let (pid, out) = (running.pid, &mut context.out);
        writeln!(out, "The node runs already: process {pid}. `spore restart` starts it again with other flags.")?;
        return Ok(());
    }
    begin(&words, context).await
}

/// Stops the node if one runs, and starts it.
///
/// # Errors
/// When the node does not end or does not start.
pub async fn restart(args: &Restart, context: &mut Context) -> Result<(), CliError> {
    // As in `start`.
    let _ = &args.run;
    let mut words = own_words("restart");
    if let Some(running) = NodeProcess::running(&context.data.process()) {
        if running.place == Place::Service {
            return Err(CliError::failed("the node is a service, and its service manager starts it again")
                .hint("`systemctl --user restart spore`, or `sudo systemctl restart spore` for a system service"));
        }
        end(&running, false, context).await?;
    }
    // Also of a node that was stopped or killed: another network or other ports would surprise.
    if words.is_empty()
        && let Some(last) = NodeProcess::last(&context.data.process())
    {
        words = last.words.into_iter().map(OsString::from).collect();
    }
    begin(&words, context).await
}

/// Stops the node.
///
/// # Errors
/// Exit code 4 when no node runs.
pub async fn stop(args: &Stop, context: &mut Context) -> Result<(), CliError> {
    let Some(running) = NodeProcess::running(&context.data.process()) else {
        return Err(CliError::new(ErrorKind::NodeNotRunning, "no node is running on this data directory"));
    };
    end(&running, args.kill, context).await
}

async fn end(running: &NodeProcess, kill: bool, context: &mut Context) -> Result<(), CliError> {
    let path = context.data.process();
    let pid = running.pid;
    let refused = |error: std::io::Error| {
        CliError::io(format!("cannot stop process {pid}"), &error)
            .hint("the node may be another user's: try as that user")
    };
    running.signal(&path, Signal::TERM).map_err(refused)?;
    if !ended(running, &path, ENDS_WITHIN).await {
        if !kill {
            return Err(CliError::failed(format!("process {pid} has not ended after {} s", ENDS_WITHIN.as_secs()))
                .hint("`spore stop --kill` ends it at once; the store survives that"));
        }
        running.signal(&path, Signal::KILL).map_err(refused)?;
        if !ended(running, &path, KILLED_WITHIN).await {
            return Err(CliError::failed(format!("process {pid} does not end")));
        }
        writeln!(context.out, "Killed process {pid}.")?;
        return Ok(());
    }
    Ok(writeln!(context.out, "Stopped process {pid}.")?)
}

/// Whether the process has let go of the file within this time.
async fn ended(running: &NodeProcess, path: &std::path::Path, within: Duration) -> bool {
    let began = Instant::now();
    while NodeProcess::running(path).as_ref() == Some(running) {
        if began.elapsed() > within {
            return false;
        }
        tokio::time::sleep(LOOK).await;
    }
    true
}

/// Starts a process in the background and waits until its node answers.
async fn begin(words: &[OsString], context: &mut Context) -> Result<(), CliError> {
    context.data.create()?;
    let path = context.data.log();
    let log = log_file::open(&path).map_err(|e| CliError::io(path.display(), &e))?;
    let from = log.metadata().map_or(0, |log| log.len());
    let mut child = spawn(words, &log, &context.data)?;
    let began = Instant::now();
    while began.elapsed() < ANSWERS_WITHIN {
        if let Some(status) = child.try_wait().map_err(|e| CliError::io("cannot watch the node", &e))? {
            return Err(not_started(status.code(), from, context));
        }
        if answers(&child, &context.data)
            && let Some(client) = ApiClient::find(&context.data).await?
        {
            writeln!(context.out, "The node runs in the background: process {}.", child.id())?;
            if client.node.explorer {
                writeln!(context.out, "  explorer  http://{}", client.node.address)?;
            }
            writeln!(context.out, "  log       {}", path.display())?;
            writeln!(
                context.out,
                "`spore status` shows its state, `spore log -f` what it prints, `spore stop` ends it."
            )?;
            return Ok(());
        }
        tokio::time::sleep(ASK).await;
    }
    writeln!(context.out, "Process {} is still starting; `spore log -f` shows what it does.", child.id())?;
    Ok(())
}

/// Whether the child has announced its API.
fn answers(child: &Child, data: &DataDir) -> bool {
    data.running_node().is_some_and(|node| node.pid == child.id())
}

fn spawn(words: &[OsString], log: &File, data: &DataDir) -> Result<Child, CliError> {
    let failed = |e: std::io::Error| CliError::io("cannot start the node", &e);
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    command.args(["run", "--in-background"]).args(words).env("SPORE_HOME", data.root());
    command.stdin(Stdio::null()).stdout(log.try_clone().map_err(failed)?).stderr(log.try_clone().map_err(failed)?);
    command.spawn().map_err(failed)
}

/// The error of a node that ended at once, with what it printed.
fn not_started(code: Option<i32>, from: u64, context: &Context) -> CliError {
    let mut said = Vec::new();
    if let Ok(mut log) = File::open(context.data.log()) {
        let _ = log.seek(SeekFrom::Start(from));
        let _ = log.take(SHOWN).read_to_end(&mut said);
    }
    super::output::message(String::from_utf8_lossy(&said).trim_end());
    let kind = match code {
        Some(2) => ErrorKind::Usage,
        Some(3) => ErrorKind::NotFound,
        Some(5) => ErrorKind::Locked,
        _ => ErrorKind::Failed,
    };
    CliError::new(kind, "the node did not start").hint("its messages stand above, and in the log: `spore log`")
}
