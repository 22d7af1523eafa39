//! `spore import`: imports a sporemesh node, or a file of objects.

mod reporter;

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
};

use clap::{Args as ClapArgs, Subcommand};
use serde::Serialize;
use spore_base::{clock::unix_now, private_file::create_private_dir};
use spore_storage::{Store, StoreError, sporemesh::Sporemesh};

use reporter::Reporter;

use super::{
    CliError, Context,
    access::LocalIngest,
    table::{Column, Table},
    text,
};
use crate::{
    data_dir::DataDir,
    import::{
        Destination, IdentityPlan, ImportError, ImportKind, Importer, Notice, SettingsPlan, Tallies, Tally, lines,
        sporemesh::{self, SourceSummary},
    },
};

/// Bytes that are read at once.
const BUFFER: usize = 1 << 18;

/// Import a sporemesh node, or a file that `spore export` wrote
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// A file of JSON lines, as `spore export` writes it; `-` reads standard input
    #[arg(required = true)]
    file: Option<PathBuf>,
    #[command(flatten)]
    flags: ImportFlags,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Import a node of the Python implementation: identity, objects, artifacts, peers and settings
    Sporemesh(FromSporemesh),
}

#[derive(Debug, ClapArgs)]
struct FromSporemesh {
    /// The data directory of that node, where nothing is changed [default: ~/.spore]
    dir: Option<PathBuf>,
    /// Import everything but the identity
    #[arg(long)]
    without_identity: bool,
    #[command(flatten)]
    flags: ImportFlags,
}

#[derive(Debug, ClapArgs)]
struct ImportFlags {
    /// Check everything and write nothing; checks that need a record's parents are left out
    #[arg(long)]
    dry_run: bool,
    /// Report each object that is rejected or pending, on standard error
    #[arg(long, short)]
    verbose: bool,
    /// Write these reports to FILE, one JSON object a line
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Print the summary as JSON
    #[arg(long)]
    json: bool,
}

/// The result of an import.
#[derive(Serialize)]
struct ImportSummary {
    source: String,
    dry_run: bool,
    #[serde(flatten)]
    settings: Option<SettingsPlan>,
    parts: Tallies,
    /// Tasks without a manifest, which are derived from their root records.
    derived_tasks: u64,
    /// Parts of the source that could not be read.
    problems: Vec<String>,
    /// The first few rejected objects.
    refused: Vec<Notice>,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    match (&args.command, &args.file) {
        (Some(Command::Sporemesh(args)), _) => from_sporemesh(args, context).await,
        (None, Some(file)) => from_file(file, &args.flags, context).await,
        (None, None) => Err(CliError::usage("there is nothing to import")
            .hint("pass a file, or `sporemesh` to import a node of the Python implementation")),
    }
}

async fn from_sporemesh(args: &FromSporemesh, context: &mut Context) -> Result<(), CliError> {
    let dir = match &args.dir {
        Some(dir) => dir.clone(),
        None => super::home_dir().ok_or_else(|| {
            CliError::usage("there is no home directory").hint("name the data directory of the sporemesh node")
        })?,
    };
    let dir = std::path::absolute(&dir).map_err(|e| CliError::io(dir.display(), &e))?;
    // Another identity is an error before anything is made.
    let settings = SettingsPlan::plan(&DataDir::new(&dir), &context.data, !args.without_identity)?;
    let scratch = ScratchDir::of(&context.data, args.flags.dry_run || settings.in_place);
    let source = Sporemesh::open(&dir, &scratch.path).map_err(ImportError::from)?;
    let target = ImportTarget::open(context, args.flags.dry_run)?;
    scratch.make()?;
    let mut reporter = Reporter::new(&args.flags)?;
    let (parts, ended) = {
        let mut importer = Importer::new(target.destination(), &mut reporter);
        let ended = sporemesh::take(&source, &settings, &context.data, &mut importer).await?;
        (importer.finish()?, ended)
    };
    if scratch.own {
        // The copies in it are gone already. The next import would remove the directory too.
        let _ = scratch.remove();
    }
    let SourceSummary { derived_tasks, problems } = ended;
    let source = dir.display().to_string();
    let dry_run = args.flags.dry_run;
    let refused = reporter.finish()?;
    let summary = ImportSummary { source, dry_run, settings: Some(settings), parts, derived_tasks, problems, refused };
    conclude(&summary, &args.flags, context)
}

async fn from_file(file: &Path, flags: &ImportFlags, context: &mut Context) -> Result<(), CliError> {
    let name = if file.as_os_str() == "-" { "standard input".to_owned() } else { file.display().to_string() };
    let opened: Box<dyn BufRead + Send> = if file.as_os_str() == "-" {
        Box::new(BufReader::with_capacity(BUFFER, io::stdin()))
    } else {
        let opened = File::open(file).map_err(|e| CliError::io(&name, &e))?;
        Box::new(BufReader::with_capacity(BUFFER, opened))
    };
    let target = ImportTarget::open(context, flags.dry_run)?;
    let mut reporter = Reporter::new(flags)?;
    let parts = {
        let mut importer = Importer::new(target.destination(), &mut reporter);
        lines::take(opened, name.clone(), &mut importer).await?;
        importer.finish()?
    };
    let unreadable = parts.get(&ImportKind::Lines).map_or(0, |tally| tally.refused);
    let mut problems = Vec::new();
    if unreadable > 0 {
        problems.push(format!("{} not an object", text::count(unreadable, "line is", "lines are")));
    }
    let refused = reporter.finish()?;
    let dry_run = flags.dry_run;
    let summary = ImportSummary { source: name, dry_run, settings: None, parts, derived_tasks: 0, problems, refused };
    conclude(&summary, flags, context)
}

/// The directory for copies of databases that are in use. It is beside our store, where the import needs space anyway.
/// If nothing may be written there, it is the system's directory for temporary files.
struct ScratchDir {
    path: PathBuf,
    own: bool,
}

impl ScratchDir {
    fn of(data: &DataDir, elsewhere: bool) -> Self {
        let path = if elsewhere { std::env::temp_dir() } else { data.root().join("import") };
        Self { path, own: !elsewhere }
    }

    /// Makes an empty directory: an import that was killed may have left its copies. The caller holds the store, so no
    /// other import uses the directory.
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

/// The store that the import writes, or only reads.
enum ImportTarget {
    Store { store: Store, ingest: LocalIngest },
    DryRun { store: Option<Store>, now: u64 },
}

impl ImportTarget {
    fn open(context: &Context, dry_run: bool) -> Result<Self, CliError> {
        let locked = |error: StoreError| {
            match error {
            StoreError::Locked { .. } => CliError::from(error).hint(
                "stop the node (Ctrl-C), import, and start it again; or import into another directory with `--data-dir DIR`",
            ),
            error => error.into(),
        }
        };
        if dry_run {
            let store = match Store::open_read_only(context.data.root()) {
                Ok(store) => Some(store),
                Err(StoreError::NotFound(_)) => None,
                Err(error) => return Err(locked(error)),
            };
            return Ok(Self::DryRun { store, now: unix_now() });
        }
        context.data.create()?;
        let store = Store::open_with_trust(context.data.root(), context.seeds()?).map_err(locked)?;
        let ingest = LocalIngest::start(&store);
        Ok(Self::Store { store, ingest })
    }

    fn destination(&self) -> Destination<'_> {
        match self {
            Self::Store { store, ingest } => Destination::Store { store, ingest: &ingest.handle },
            Self::DryRun { store, now } => Destination::DryRun { store: store.as_ref(), now: *now },
        }
    }
}

/// Prints the result. Parts of the source that could not be read make the import a failure.
fn conclude(summary: &ImportSummary, flags: &ImportFlags, context: &mut Context) -> Result<(), CliError> {
    if flags.json {
        context.json(summary)?;
    } else {
        print(summary, flags, &mut context.out)?;
    }
    context.out.flush()?;
    match summary.problems.as_slice() {
        [] => Ok(()),
        problems => Err(CliError::failed(problems.join("; "))
            .hint("everything else is imported; import again later to get the rest")),
    }
}

fn print(summary: &ImportSummary, flags: &ImportFlags, out: &mut dyn Write) -> Result<(), CliError> {
    if summary.dry_run {
        writeln!(out, "Dry run: nothing is written.")?;
    }
    writeln!(out, "From {}", summary.source)?;
    if let Some(settings) = &summary.settings {
        print_settings(settings, summary.dry_run, out)?;
    }
    let imported = if summary.dry_run { "TO IMPORT" } else { "IMPORTED" };
    let mut table = Table::new([
        Column::id(""),
        Column::id("FOUND").leaves(1),
        Column::id(imported),
        Column::id("ALREADY HERE").leaves(2),
        Column::id("PENDING").leaves(3),
        Column::id("REJECTED"),
    ]);
    for (part, tally) in &summary.parts {
        let numbers = [tally.found, tally.imported, tally.already_here, tally.waiting, tally.refused];
        table.add_row([part.name().to_owned()].into_iter().chain(numbers.map(|number| number.to_string())));
    }
    let sum = |of: fn(&Tally) -> u64| summary.parts.values().map(of).sum::<u64>();
    if sum(|tally| tally.found) == 0 {
        writeln!(out, "The source is empty.")?;
        return Ok(());
    }
    // The reasons come first, and the numbers last, where a reader looks.
    print_rejected(summary, sum(|tally| tally.refused), flags, out)?;
    writeln!(out, "{table}")?;
    if summary.derived_tasks > 0 {
        let tasks = text::count(summary.derived_tasks, "task has", "tasks have");
        writeln!(out, "{tasks} no manifest. The task is derived from its root record, as in the source.")?;
    }
    if sum(|tally| tally.waiting) > 0 {
        writeln!(out, "Pending records are kept until their parents arrive, from a peer or with another import.")?;
    }
    if sum(|tally| tally.imported + tally.waiting + tally.refused) == 0 {
        writeln!(out, "Nothing new: everything that can be imported is here already.")?;
    }
    Ok(())
}

fn print_settings(settings: &SettingsPlan, dry_run: bool, out: &mut dyn Write) -> io::Result<()> {
    let node = settings.node_id.map(|id| id.to_string()).unwrap_or_default();
    let taken = if dry_run { "would be imported" } else { "imported" };
    let identity = match settings.identity {
        IdentityPlan::None => "the source has none".to_owned(),
        IdentityPlan::Same => format!("{node}, already this node's"),
        IdentityPlan::Take => format!("{node}, {taken}"),
        IdentityPlan::LeftOut => "left out".to_owned(),
    };
    writeln!(out, "  identity  {identity}")?;
    if settings.in_use && matches!(settings.identity, IdentityPlan::Take | IdentityPlan::Same) {
        writeln!(
            out,
            "  warning   a process uses the source: stop it before `spore run`, or two nodes have the same identity"
        )?;
    }
    if settings.in_place {
        return writeln!(out, "  settings  unchanged: the source is this node's own data directory");
    }
    let config = &settings.config;
    for (what, keys) in [
        (taken, &config.taken),
        ("kept as they are here", &config.kept),
        ("without a meaning here", &config.not_applicable),
    ] {
        if !keys.is_empty() {
            writeln!(out, "  settings  {what}: {}", text::line(&keys.join(", ")))?;
        }
    }
    Ok(())
}

fn print_rejected(summary: &ImportSummary, total: u64, flags: &ImportFlags, out: &mut dyn Write) -> io::Result<()> {
    // `--verbose` has printed all of them already.
    if flags.verbose {
        return Ok(());
    }
    for notice in &summary.refused {
        writeln!(out, "{}", reporter::sentence(notice))?;
    }
    let more = total.saturating_sub(summary.refused.len() as u64);
    if more > 0 && flags.report.is_none() {
        writeln!(out, "... and {more} more; `--verbose` or `--report FILE` shows all")?;
    }
    Ok(())
}
