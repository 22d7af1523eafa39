//! `spore db drop`: removes objects that the operator does not want to carry.

use std::io::Write;

use clap::Args as ClapArgs;
use spore_api::{
    dto::ExperimentDetail,
    route::Route,
    upkeep::shapes::{DropReport, UnwantedKind, UpkeepJob, UpkeepReport},
};
use spore_protocol::ObjectId;

use super::super::{CliError, Context, access::NodeAccess, text, upkeep};
use crate::{config, genesis};

/// Drop objects that you do not want to carry; they do not come back
///
/// Experiments that others built upon, confirmed or refuted stay, and so does what counts for a verdict. A small mark of
/// each dropped object is kept, so that other nodes do not bring it again. `spore block` refuses new objects.
#[derive(Debug, ClapArgs)]
#[command(group(clap::ArgGroup::new("what").required(true)))]
pub struct Args {
    /// Drop one object: the id of an experiment or its first digits, or the whole id of an event or of a task's manifest
    #[arg(group = "what")]
    id: Option<String>,
    /// Drop everything that a key signed
    #[arg(long, value_name = "KEY", group = "what")]
    signer: Option<String>,
    /// Drop a task with everything in it: the task's id, the beginning of it, or its name
    #[arg(long, value_name = "TASK", group = "what")]
    task: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let (by, id) = resolve(args, context).await?;
    refuse_built_in(by, id)?;
    let UpkeepReport::Drop(report) = upkeep::perform(&UpkeepJob::Drop { by, id }, context).await? else {
        return Err(upkeep::another_answer());
    };
    if args.json {
        context.json(&report)?;
    } else {
        show(&mut context.out, &report)?;
    }
    if report.dropped + report.kept == 0 {
        return Err(CliError::not_found("nothing of that is stored here"));
    }
    Ok(())
}

/// Without the built-in task, a node has nothing to begin with.
fn refuse_built_in(by: UnwantedKind, id: ObjectId) -> Result<(), CliError> {
    let damaged = |error| CliError::failed(format!("the built-in task is damaged: {error}"));
    let (manifest, root) = (genesis::manifest().map_err(damaged)?, genesis::root().map_err(damaged)?);
    let is_built_in = match by {
        UnwantedKind::Signer => id == ObjectId(manifest.created_by.0),
        UnwantedKind::Task => id == manifest.id(),
        UnwantedKind::Object => id == manifest.id() || id == root.id(),
    };
    if is_built_in {
        return Err(CliError::usage("that belongs to the built-in task, which nodes begin with")
            .hint("`spore task use` chooses another task to work on"));
    }
    Ok(())
}

async fn resolve(args: &Args, context: &Context) -> Result<(UnwantedKind, ObjectId), CliError> {
    if let Some(signer) = &args.signer {
        let key = config::node_id(signer).ok_or_else(|| {
            CliError::usage(format!("{signer:.80?} is not a key of 64 hex digits"))
                .hint("`spore show ID` shows the key that signed an experiment")
        })?;
        return Ok((UnwantedKind::Signer, ObjectId(key.0)));
    }
    if let Some(task) = &args.task {
        let id = match task.to_ascii_lowercase().parse() {
            Ok(id) => id,
            Err(_) => parsed(&NodeAccess::open(context).await?.task(Some(task)).await?.task_id)?,
        };
        return Ok((UnwantedKind::Task, id));
    }
    let given = args.id.as_deref().unwrap_or_default();
    let id = match given.to_ascii_lowercase().parse() {
        Ok(id) => id,
        Err(_) => {
            let found: ExperimentDetail =
                NodeAccess::open(context).await?.get(&Route::Experiment(given.to_owned())).await?;
            parsed(&found.experiment.id)?
        }
    };
    Ok((UnwantedKind::Object, id))
}

fn parsed(id: &str) -> Result<ObjectId, CliError> {
    id.parse().map_err(|_| upkeep::another_answer())
}

fn show(out: &mut dyn Write, report: &DropReport) -> std::io::Result<()> {
    let objects = text::count(report.dropped, "object", "objects");
    writeln!(out, "Dropped {objects} ({}).", text::size(report.dropped_bytes))?;
    if report.artifacts > 0 {
        let artifacts = text::count(report.artifacts, "artifact", "artifacts");
        writeln!(out, "Dropped {artifacts} that nothing names any more.")?;
    }
    if report.kept > 0 {
        let kept = text::count(report.kept, "object stays", "objects stay");
        writeln!(out, "{kept}, because others depend on them: they have children or a verdict, or count for one.")?;
    }
    if report.dropped > 0 {
        writeln!(out, "What was dropped does not come back. `spore block` refuses what is new.")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::text::printed;

    #[test]
    fn removal_says_what_was_dropped_and_what_stays() {
        let mut report = DropReport { dropped: 3, dropped_bytes: 3 << 20, kept: 2, artifacts: 1 };
        let text = printed(|out| show(out, &report));
        for part in ["3 objects (3.00 MiB)", "1 artifact", "2 objects stay", "does not come back"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        report = DropReport { kept: 1, ..DropReport::default() };
        let text = printed(|out| show(out, &report));
        assert!(text.contains("1 object stays") && !text.contains("come back"), "{text}");
    }
}
