//! `spore try`: runs a script as an experiment, and publishes its record.
//!
//! While no node runs, this command holds the store, trains in a worker process, and signs with the node's key. A node
//! that runs later on the store passes the record on.

mod line;

use std::{io::Write, path::PathBuf, sync::Arc};

use clap::Args as ClapArgs;
use futures::future::{BoxFuture, FutureExt as _};
use spore_api::{
    dto::{Experiment, ExperimentDetail},
    route::Route,
};
use spore_base::{
    clock::unix_now,
    fetch::{ArtifactSource, FetchError},
};
use spore_lab::{
    engine::{self, Engine, EngineError, EngineSettings, Works},
    research::attempt::{self, Attempt, Done, MAX_RUNS, MAX_TEXT, Prepared},
};
use spore_protocol::{Cid, Identity, NodeId, RecordId, TaskId};
use tokio::sync::{Semaphore, broadcast, watch};

use super::{
    CliError, Context, ErrorKind,
    access::NodeAccess,
    script::report::{self, Report},
    task_script, text,
};
use crate::{genesis, runtime};

/// Events of the store that nobody here listens to.
const EVENTS: usize = 1;

/// Run a script as an experiment: check it, train it, publish its record
#[derive(Debug, ClapArgs)]
#[command(
    after_help = "The script is checked first: that it traces, keeps the limits, looks back only, and is no experiment of \
        this hardware class that was tried. `--dry-run` ends there. The record is a keep only if it is better than its \
        parent by more than noise: a gain that one run does not show is repeated with other seeds, at most eight times, if \
        the result is among the best, and so is its parent."
)]
pub struct Args {
    /// The file of the script
    #[arg(value_name = "SCRIPT")]
    script: PathBuf,
    /// The experiment to build on: `best`, an id, or a unique prefix of the id
    #[arg(long, value_name = "ID", default_value = "best")]
    parent: String,
    /// The task: its id, a unique prefix of the id, or its name [default: the task that the node works on]
    #[arg(long, value_name = "ID")]
    task: Option<String>,
    /// The change against the parent, in a sentence
    #[arg(long, short = 'm', value_name = "TEXT")]
    description: Option<String>,
    /// Why the change should help
    #[arg(long, value_name = "TEXT")]
    hypothesis: Option<String>,
    /// Who had the idea, for the record: a person or a model
    #[arg(long, value_name = "NAME", default_value = "by hand")]
    by: String,
    /// Run the script and its parent exactly N times, with other seeds; the first run is published [1: as often as it takes]
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = runs)]
    seeds: u32,
    /// Train exactly N steps, for a quick look: the record is never a keep [default: as many as fit into the task's time]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    steps: Option<u64>,
    /// The device: auto, wgpu or flex [default: that of config.toml]
    #[arg(long, value_name = "DEVICE")]
    device: Option<String>,
    /// Check the script and the parent, and train nothing
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let script = task_script::read(&args.script)?;
    let checked = report::of(&script).report;
    if let Some(fault) = &checked.fault {
        if args.json {
            context.json(&serde_json::json!({ "check": checked }))?;
        } else {
            fault.print(&mut context.out, &args.script.display().to_string())?;
        }
        return Err(CliError::told(ErrorKind::Failed));
    }
    let (source, identity) = NodeAccess::open_to_write(context).await?;
    let Some((store, ingest)) = source.local() else {
        return Err(CliError::new(ErrorKind::Locked, "a node is running on this data directory, and uses the device")
            .hint("stop the node and try again, or try the script in another data directory: `--data-dir DIR`"));
    };
    genesis::install(&ingest, &store).await?;
    let attempt = wish(args, &source, script).await?;
    let local = Local { store, ingest, identity, task: attempt.task };
    let engine = local.engine(args.device.as_deref(), context).await?;
    let (stop, mut shutdown) = watch::channel(false);
    let prepared = attempt::prepare(&engine, attempt, &mut shutdown).await.map_err(engine_error)?;
    if let Some(known) = prepared.known {
        return Err(CliError::usage(format!("the script is the same experiment as {}", known.short())).hint(format!(
            "change what it computes: comments, names and layout make no difference; `spore show {}` has its result",
            known.short()
        )));
    }
    let parent: ExperimentDetail = source.get(&Route::Experiment(prepared.parent.id.to_string())).await?;
    if args.dry_run {
        return planned(args, context, &checked, &prepared, &parent.experiment);
    }
    if !args.json {
        told(&mut context.out, &prepared, &parent.experiment)?;
        context.out.flush()?;
    }
    let bytes_per_step = checked.batch.saturating_mul(checked.context);
    let ended = tokio::select! {
        done = attempt::run(&engine, &prepared, &mut shutdown) => done,
        () = line::follow(engine.progress.subscribe(), bytes_per_step) => Err(EngineError::Stopped),
        () = stop_at_interrupt(&stop) => Err(EngineError::Stopped),
    };
    line::clear();
    let done = ended.map_err(engine_error)?;
    if args.json {
        return context.json(&outcome(&done, &prepared));
    }
    Ok(print(&mut context.out, &done)?)
}

/// A number of runs.
fn runs(text: &str) -> Result<u32, String> {
    let found = text.parse().ok().filter(|runs| (1..=MAX_RUNS).contains(runs) && *runs != 2);
    found.ok_or_else(|| format!("must be 1, or 3 to {MAX_RUNS}: two runs do not show the noise"))
}

/// Asks the experiment to stop at Ctrl-C. Never resolves: the experiment ends by itself once its worker has.
async fn stop_at_interrupt(stop: &watch::Sender<bool>) {
    runtime::asked_to_stop().await;
    stop.send_replace(true);
    std::future::pending().await
}

/// The attempt that the arguments describe.
async fn wish(args: &Args, source: &NodeAccess, script: String) -> Result<Attempt, CliError> {
    let task = source.task(args.task.as_deref()).await?;
    let parent = match args.parent.as_str() {
        "best" => None,
        id => {
            let detail: ExperimentDetail = source.get(&Route::Experiment(id.to_owned())).await?;
            Some(detail.experiment.id)
        }
    };
    let unreadable = |what: &str| CliError::failed(format!("the {what} has no proper id"));
    let hypothesis = args.hypothesis.clone().unwrap_or_default();
    let description = args.description.clone().unwrap_or_else(|| format!("{} by hand", args.script.display()));
    for (what, text) in [("description", &description), ("hypothesis", &hypothesis), ("name after --by", &args.by)] {
        if text.chars().count() > MAX_TEXT {
            return Err(CliError::usage(format!("the {what} has more than {MAX_TEXT} characters")));
        }
    }
    Ok(Attempt {
        task: task.task_id.parse::<TaskId>().map_err(|_| unreadable("task"))?,
        parent: parent.map(|id| id.parse::<RecordId>().map_err(|_| unreadable("parent"))).transpose()?,
        script,
        description,
        hypothesis,
        agent_model: args.by.clone(),
        steps: args.steps,
        runs: args.seeds,
    })
}

/// What this process holds of the node while none runs.
pub struct Local {
    pub store: spore_storage::Store,
    pub ingest: spore_ingest::IngestHandle,
    pub identity: Identity,
    pub task: TaskId,
}

impl Local {
    /// Opens the device, and makes the engine that a node would have.
    pub async fn engine(self, device: Option<&str>, context: &Context) -> Result<Engine, CliError> {
        let config = context.config()?;
        let program = std::env::current_exe().map_err(|e| CliError::io("cannot find the file of this program", &e))?;
        let device = device.map_or_else(|| config.device.clone(), str::to_owned);
        let environment = std::env::vars_os().collect();
        let ready = runtime::open_device(&device, config.resource, program, environment, &context.data).await?;
        let settings = EngineSettings {
            // Whoever names a task may run it, whoever made it.
            pinned: watch::channel(Some(self.task)).1,
            built_in: genesis::tasks().map_err(genesis::GenesisError::from)?,
            verify_rate: 0.0,
            resource: config.resource.into(),
            device: ready.profile.backend.into(),
            memory_limit: engine::memory_limit(config.resource.into()),
        };
        Ok(Engine {
            store: self.store,
            ingest: self.ingest,
            artifacts: Arc::new(NoPeers),
            identity: self.identity,
            device: ready.profile,
            supervisor: ready.supervisor,
            clock: Arc::new(unix_now),
            settings,
            events: broadcast::channel(EVENTS).0,
            progress: watch::channel(None).0,
            research: watch::Sender::default(),
            permit: Arc::new(Semaphore::new(1)),
            works: Works::default(),
        })
    }
}

/// The network of a process that has none.
struct NoPeers;

impl ArtifactSource for NoPeers {
    fn fetch_within(&self, cid: Cid, _hint: Option<NodeId>, _limit: u64) -> BoxFuture<'_, Result<(), FetchError>> {
        std::future::ready(Err(FetchError::NotFound(cid))).boxed()
    }
}

/// The error of an attempt, with what to do about it.
pub fn engine_error(error: EngineError) -> CliError {
    let hint = match &error {
        EngineError::Stopped => return CliError::failed("the experiment was stopped; nothing was published"),
        EngineError::Script(_) => "`spore script check SCRIPT` shows what is wrong",
        EngineError::Missing(_) | EngineError::Artifact { .. } => {
            "a running node fetches scripts and datasets from its peers: `spore run`, or build on another experiment with \
             `--parent ID`"
        }
        EngineError::Task { .. } => "`spore tasks` lists the tasks; `--parent ID` names the experiment to build on",
        EngineError::Publish(_) => "train for the task's time, without `--steps`",
        EngineError::Machine(_) | EngineError::Killed(_) => {
            "end other work on this machine, or choose another device with `--device`"
        }
        EngineError::Store(_) => "`spore db check` looks at the store",
    };
    CliError::failed(error.to_string()).hint(hint)
}

fn planned(
    args: &Args,
    context: &mut Context,
    checked: &Report,
    prepared: &Prepared,
    parent: &Experiment,
) -> Result<(), CliError> {
    if args.json {
        return context.json(&serde_json::json!({
            "check": checked,
            "parent": prepared.parent.id.to_string(),
            "compared_with": prepared.compared_with,
        }));
    }
    checked.print(&mut context.out)?;
    told(&mut context.out, prepared, parent)?;
    Ok(writeln!(context.out, "Nothing was trained: without `--dry-run` the experiment runs.")?)
}

fn told(out: &mut dyn Write, prepared: &Prepared, parent: &Experiment) -> std::io::Result<()> {
    let (id, words) = (text::short(&parent.id), text::line(&parent.description));
    writeln!(out, "Builds on    {id} {words}")?;
    match prepared.compared_with {
        Some(metric) => writeln!(out, "To beat      {}", text::metric(metric))?,
        None => writeln!(out, "To beat      nothing yet: no result of this line holds for this hardware class")?,
    }
    writeln!(out, "Time         {} of training", text::duration(prepared.terms.manifest.time_budget))
}

fn outcome(done: &Done, prepared: &Prepared) -> serde_json::Value {
    let noise = done.noise.map(|runs| {
        serde_json::json!({
            "runs": runs.count, "mean": runs.mean, "deviation": runs.deviation,
            "believable_difference": runs.believable(),
            "interval": done.compared_with.map(|other| runs.difference(other)),
        })
    });
    let gain = done.ruling.and_then(|ruling| ruling.gain).map(|gain| {
        serde_json::json!({
            "gain": gain.gain, "low": gain.low, "high": gain.high, "p": gain.p, "runs": gain.runs, "words": gain.words(),
        })
    });
    serde_json::json!({
        "id": done.record.to_string(), "status": done.status.to_string(), "metric": done.metric,
        "compared_with": done.compared_with, "parent": prepared.parent.id.to_string(), "steps": done.steps,
        "train_seconds": done.train_seconds, "description": done.description, "noise": noise,
        "gain": gain, "why": done.ruling.map(|ruling| ruling.why.to_string()), "verdict": "unverified",
    })
}

/// The result, what it beat, whether that may be luck, and who decides about it now.
fn print(out: &mut dyn Write, done: &Done) -> std::io::Result<()> {
    writeln!(out, "Published    {} ({})", done.record.short(), done.status)?;
    let Some(metric) = done.metric else {
        return writeln!(out, "Crash        {}", text::line(&done.description));
    };
    writeln!(out, "Result       {} after {} steps in {:.1} s", text::metric(metric), done.steps, done.train_seconds)?;
    if let Some(other) = done.compared_with {
        writeln!(out, "Compared     with {} ({:+.6})", text::metric(other), metric - other)?;
    }
    if let Some(ruling) = done.ruling {
        let gain = ruling.gain.map_or_else(|| text::UNMEASURED.to_owned(), |gain| text::certainty(&gain));
        writeln!(out, "Gain         {gain}")?;
        writeln!(out, "             {}: {}", done.status, ruling.why)?;
    }
    if let Some(runs) = &done.noise {
        writeln!(out, "Noise        {} runs: mean {:.6}, deviation {:.6}", runs.count, runs.mean, runs.deviation)?;
    }
    writeln!(out, "Verdict      unverified: nodes of this hardware class re-run it for {} steps", done.steps)?;
    writeln!(
        out,
        "             once `spore run` has passed it on; `spore show {}` has the verdict",
        done.record.short()
    )
}
