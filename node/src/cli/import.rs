//! `spore import`: takes over a sporemesh node, or takes in a file of objects.

mod told;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use spore_base::{clock::unix_now, private_file::create_private_dir};
use spore_ingest::IngestFailure;
use spore_storage::{Store, StoreError, sporemesh::Sporemesh};
use told::Told;

use super::{CliError, Context, ErrorKind, source, text};
use crate::{
    data_dir::DataDir,
    import::{
        Feed, IdentityPlan, ImportError, Notice, Part, Settings, Tallies, Way, lines,
        sporemesh::{self, Ended},
    },
};

/// Bytes of a file read at once.
const BUFFER: usize = 1 << 18;

/// Take over a sporemesh node, or take in what `spore export` wrote
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Lines of JSON as `spore export` writes them; `-` reads standard input
    #[arg(required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Take over a node of the Python implementation: identity, objects, artifacts, peers, settings
    Sporemesh(FromSporemesh),
}

#[derive(Debug, ClapArgs)]
struct FromSporemesh {
    /// Its data directory, in which nothing is changed [default: ~/.spore]
    dir: Option<PathBuf>,
    /// Leave its identity out, and take in everything else
    #[arg(long)]
    without_identity: bool,
    #[command(flatten)]
    options: Options,
}

#[derive(Debug, ClapArgs)]
struct Options {
    /// Check everything and write nothing; what depends on a record's parents is not known then
    #[arg(long)]
    dry_run: bool,
    /// Tell of everything that is refused or waits, on standard error
    #[arg(long, short)]
    verbose: bool,
    /// Write all of that to a file, one JSON object a line
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// What an import came to.
#[derive(Serialize)]
struct Summary {
    source: String,
    dry_run: bool,
    #[serde(flatten)]
    settings: Option<Settings>,
    parts: Tallies,
    /// Tasks without a manifest, which follow from their root records.
    derived_tasks: u64,
    /// What of the source could not be read.
    problems: Vec<String>,
    /// The first few of what was refused.
    refused: Vec<Notice>,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match (&args.command, &args.file) {
        (Some(Command::Sporemesh(args)), _) => from_sporemesh(args, context).await,
        (None, Some(file)) => from_file(file, &args.options, context).await,
        (None, None) => Err(CliError::usage("name a file, or `sporemesh`")),
    }
}

async fn from_sporemesh(args: &FromSporemesh, context: &mut Context) -> Result<(), CliError> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => super::home_dir().ok_or_else(|| CliError::usage("there is no home directory to look in: name one"))?,
    };
    let dir = std::path::absolute(&dir).map_err(|e| CliError::io(dir.display(), &e))?;
    // Another identity is told of before anything is made.
    let settings = Settings::plan(&DataDir::new(&dir), &context.data, !args.without_identity)?;
    let scratch = Scratch::of(&context.data, args.options.dry_run || settings.in_place);
    let source = Sporemesh::open(&dir, &scratch.path).map_err(ImportError::from)?;
    let target = Target::open(context, args.options.dry_run)?;
    scratch.make()?;
    let mut told = Told::new(&args.options)?;
    let (parts, ended) = {
        let mut feed = Feed::new(target.way(), &mut told);
        let ended = sporemesh::take(&source, &settings, &context.data, &mut feed).await?;
        (feed.finish()?, ended)
    };
    if scratch.own {
        // The copies went before it; the next import would take away what is left.
        let _ = scratch.remove();
    }
    let Ended { derived_tasks, problems } = ended;
    let source = dir.display().to_string();
    let dry_run = args.options.dry_run;
    let refused = told.finish()?;
    let summary = Summary { source, dry_run, settings: Some(settings), parts, derived_tasks, problems, refused };
    conclude(&summary, &args.options, context)
}

async fn from_file(file: &Path, options: &Options, context: &mut Context) -> Result<(), CliError> {
    let name = if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let opened: Box<dyn BufRead + Send> = if file.as_os_str() == "-" {
        Box::new(BufReader::with_capacity(BUFFER, io::stdin()))
    } else {
        let opened = File::open(file).map_err(|e| CliError::io(&name, &e))?;
        Box::new(BufReader::with_capacity(BUFFER, opened))
    };
    let target = Target::open(context, options.dry_run)?;
    let mut told = Told::new(options)?;
    let parts = {
        let mut feed = Feed::new(target.way(), &mut told);
        lines::take(opened, name.clone(), &mut feed).await?;
        feed.finish()?
    };
    let unreadable = parts.get(&Part::Lines).map_or(0, |tally| tally.refused);
    let mut problems = Vec::new();
    if unreadable > 0 {
        problems.push(format!("{} that are no objects", text::count(unreadable, "line", "lines")));
    }
    let refused = told.finish()?;
    let dry_run = options.dry_run;
    let summary = Summary { source: name, dry_run, settings: None, parts, derived_tasks: 0, problems, refused };
    conclude(&summary, options, context)
}

/// Where databases that are in use are copied to. Beside our store there is the room that an import
/// needs; where nothing may be written there, the system's folder for temporary files has to do.
struct Scratch {
    path: PathBuf,
    own: bool,
}

impl Scratch {
    fn of(data: &DataDir, elsewhere: bool) -> Self {
        let path = if elsewhere { std::env::temp_dir() } else { data.root().join("import") };
        Self { path, own: !elsewhere }
    }

    /// Makes the folder anew: an import that was killed may have left its copies. Whoever calls holds
    /// the store, so that no other import uses it.
    fn make(&self) -> Result<(), CliError> {
        if self.own {
            self.remove().map_err(|e| CliError::io(self.path.display(), &e))?;
            create_private_dir(&self.path)?;
        }
        Ok(())
    }

    fn remove(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Where everything goes.
enum Target {
    Door { store: Store, door: source::Door },
    Nowhere { store: Option<Store>, now: u64 },
}

impl Target {
    fn open(context: &Context, dry_run: bool) -> Result<Self, CliError> {
        let locked = |error: StoreError| match error {
            StoreError::Locked { .. } => CliError::from(error).hint(
                "end that node (Ctrl-C where it runs), import, and start it again; or import into another --data-dir",
            ),
            error => error.into(),
        };
        if dry_run {
            let store = match Store::open_read_only(context.data.root()) {
                Ok(store) => Some(store),
                Err(StoreError::NotFound(_)) => None,
                Err(error) => return Err(locked(error)),
            };
            return Ok(Self::Nowhere { store, now: unix_now() });
        }
        context.data.create()?;
        let store = Store::open(context.data.root()).map_err(locked)?;
        let door = source::Door::open(&store);
        Ok(Self::Door { store, door })
    }

    fn way(&self) -> Way<'_> {
        match self {
            Self::Door { store, door } => Way::Door { store, ingest: &door.ingest },
            Self::Nowhere { store, now } => Way::Nowhere { store: store.as_ref(), now: *now },
        }
    }
}

/// Tells what the import came to. Parts of the source that could not be read make it a failure.
fn conclude(summary: &Summary, options: &Options, context: &mut Context) -> Result<(), CliError> {
    if options.json {
        context.json(summary)?;
    } else {
        print(summary, options, &mut context.out)?;
    }
    context.out.flush()?;
    match summary.problems.as_slice() {
        [] => Ok(()),
        problems => Err(CliError::failed(problems.join("; "))
            .hint("everything else was taken in; importing again later takes in the rest")),
    }
}

fn print(summary: &Summary, options: &Options, out: &mut dyn Write) -> Result<(), CliError> {
    if summary.dry_run {
        writeln!(out, "Dry run: nothing was written.")?;
    }
    writeln!(out, "From {}", summary.source)?;
    if let Some(settings) = &summary.settings {
        print_settings(settings, summary.dry_run, out)?;
    }
    let imported = if summary.dry_run { "TO IMPORT" } else { "IMPORTED" };
    let mut table = text::table(["", "FOUND", imported, "ALREADY HERE", "WAITING", "REFUSED"]);
    for (part, tally) in &summary.parts {
        let numbers = [tally.found, tally.imported, tally.already_here, tally.waiting, tally.refused];
        table.add_row([part.name().to_owned()].into_iter().chain(numbers.map(|number| number.to_string())));
    }
    let sum = |of: fn(&crate::import::Tally) -> u64| summary.parts.values().map(of).sum::<u64>();
    if sum(|tally| tally.found) == 0 {
        writeln!(out, "There is nothing in it.")?;
        return Ok(());
    }
    writeln!(out, "{table}")?;
    if summary.derived_tasks > 0 {
        let tasks = text::count(summary.derived_tasks, "task has", "tasks have");
        writeln!(out, "{tasks} no manifest: derived here from the root records, as there.")?;
    }
    if sum(|tally| tally.waiting) > 0 {
        writeln!(out, "Records that wait for a parent are kept until it comes, from a peer or another import.")?;
    }
    print_refused(summary, sum(|tally| tally.refused), options, out)?;
    if sum(|tally| tally.imported) == 0 {
        writeln!(out, "Nothing new: what can be taken in is here already.")?;
    }
    Ok(())
}

fn print_settings(settings: &Settings, dry_run: bool, out: &mut dyn Write) -> io::Result<()> {
    let node = settings.node_id.map(|id| id.to_string()).unwrap_or_default();
    let taken = if dry_run { "would be taken over" } else { "taken over" };
    let identity = match settings.identity {
        IdentityPlan::None => "none there".to_owned(),
        IdentityPlan::Same => format!("{node}, already this node's"),
        IdentityPlan::Take => format!("{node}, {taken}"),
        IdentityPlan::LeftOut => "left out".to_owned(),
    };
    writeln!(out, "  identity  {identity}")?;
    if settings.in_use && matches!(settings.identity, IdentityPlan::Take | IdentityPlan::Same) {
        writeln!(
            out,
            "  warning   a process has this open: end it before `spore run`, or two nodes bear one identity"
        )?;
    }
    if settings.in_place {
        return writeln!(out, "  settings  in place: it is this node's own data directory");
    }
    let config = &settings.config;
    for (what, keys) in
        [(taken, &config.taken), ("kept as they are here", &config.kept), ("not applicable", &config.not_applicable)]
    {
        if !keys.is_empty() {
            writeln!(out, "  settings  {what}: {}", text::line(&keys.join(", ")))?;
        }
    }
    Ok(())
}

fn print_refused(summary: &Summary, total: u64, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    // All of them stand above already.
    if options.verbose {
        return Ok(());
    }
    for notice in &summary.refused {
        writeln!(out, "{}", told::sentence(notice))?;
    }
    let more = total.saturating_sub(summary.refused.len() as u64);
    if more > 0 && options.report.is_none() {
        writeln!(out, "... and {more} more: --verbose or --report FILE tells of all")?;
    }
    Ok(())
}

impl From<ImportError> for CliError {
    fn from(error: ImportError) -> Self {
        use spore_storage::sporemesh::SporemeshError;
        const LATER: &str = "import again: what was taken in stays, and the rest follows";
        let text = error.to_string();
        match error {
            ImportError::Source(SporemeshError::NotFound(_)) => {
                Self::not_found(text).hint("name the directory that holds its `db` folder")
            }
            ImportError::Source(SporemeshError::Busy(_)) => Self::failed(text).hint(LATER),
            ImportError::Source(SporemeshError::Io { what, source }) => Self::io(what, &source),
            ImportError::Source(_) => Self::failed(text),
            ImportError::OtherIdentity { .. } => Self::failed(text)
                .hint("choose another --data-dir for it, or import everything else with --without-identity"),
            ImportError::Key(_) => {
                Self::failed(text).hint("correct that file, or import everything else with --without-identity")
            }
            ImportError::File(error) => error.into(),
            ImportError::Config(error) => error.into(),
            ImportError::Store(error) => error.into(),
            ImportError::Read { what, source } => Self::io(what, &source),
            // A damaged store has another next step than to import again.
            ImportError::Undecided(IngestFailure::Store(error @ StoreError::Corrupt(_))) => error.into(),
            ImportError::Undecided(_) | ImportError::Failed(_) | ImportError::Closed(_) => {
                Self::new(ErrorKind::Failed, text).hint(LATER)
            }
        }
    }
}
