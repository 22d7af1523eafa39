//! `spore show`: one experiment with everything that is known about it.

use std::io::{self, Write};

use clap::Args as ClapArgs;
use spore_api::{
    dto::{Experiment, ExperimentDetail, Measurement},
    query::Query,
    route::Route,
};

use super::{
    CliError, Context,
    access::{NodeAccess, parsed},
    text,
};

/// Show one experiment: its result, lineage, measurements and diff
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The id of the experiment, or a unique prefix of the id
    id: String,
    /// Print the script only
    #[arg(long, conflicts_with = "json")]
    code: bool,
    /// Print JSON, with the signed object
    #[arg(long)]
    json: bool,
}

pub async fn run(args: &Args, context: &mut Context) -> Result<(), CliError> {
    let source = NodeAccess::open(context).await?;
    let body = source.text(&Route::Experiment(args.id.clone()), &Query::default()).await?;
    if args.json {
        // The text is printed as it is, so that numbers keep the spelling that the signature covers.
        context.out.write_all(&body)?;
        return Ok(writeln!(context.out)?);
    }
    let detail: ExperimentDetail = parsed(&body)?;
    if args.code {
        let code = detail.code.ok_or_else(|| {
            CliError::not_found("this node does not have the script of this experiment")
                .hint("a running node fetches the script from its peers when it needs it")
        })?;
        return Ok(context.out.write_all(code.as_bytes())?);
    }
    print(context, &detail)
}

fn print(context: &mut Context, detail: &ExperimentDetail) -> Result<(), CliError> {
    let (out, e) = (&mut context.out, &detail.experiment);
    writeln!(out, "Experiment   {}", e.id)?;
    writeln!(out, "Task         {} ({})", text::name(&detail.task_name), text::short(&e.task_id))?;
    writeln!(
        out,
        "Status       {}{}{}",
        e.status,
        if e.on_frontier { ", on the frontier" } else { "" },
        if e.stray { ", stray" } else { "" }
    )?;
    if let Some(flaw) = &e.flaw {
        writeln!(out, "             not comparable: {}", flaw.text)?;
    }
    if e.status != "crash" {
        writeln!(out, "{:<12} {}", text::line(&detail.metric), text::metric(e.val_bpb))?;
    }
    gained(out, e)?;
    writeln!(out, "Verdict      {} here, {} when every signer counts alike", e.verdict, e.global_verdict)?;
    writeln!(out, "Confirmed    {}", text::confirmed(e))?;
    writeln!(
        out,
        "By           {} on {} ({})",
        text::line(e.display_name.as_deref().unwrap_or(&e.node_id)),
        text::line(&e.gpu_model),
        e.hardware_class
    )?;
    writeln!(out, "When         {}", text::ago(e.timestamp))?;
    writeln!(
        out,
        "Size         {} parameters, {} steps in {}, {:.0} MB of memory",
        e.num_params,
        e.num_steps,
        text::duration(e.time_budget),
        e.peak_vram_mb
    )?;
    writeln!(out, "Proposed by  {}", text::line(&e.agent_model))?;
    writeln!(
        out,
        "Script       {}{}",
        e.code_cid,
        if detail.code.is_some() { "" } else { " (this node does not have it)" }
    )?;
    writeln!(out, "\n{}", text::lines(&e.description))?;
    if !e.hypothesis.is_empty() {
        writeln!(out, "\n{}", text::lines(&e.hypothesis))?;
    }
    relatives_and_evidence(out, detail)?;
    if !detail.diff.is_empty() {
        writeln!(out, "\nDiff\n{}", text::lines(&detail.diff))?;
    }
    Ok(())
}

/// What the experiment gained over its parent, and how sure that is.
fn gained(out: &mut dyn Write, e: &Experiment) -> io::Result<()> {
    let Some(gain) = &e.gain else { return Ok(()) };
    writeln!(out, "Gain         {}", text::gain(gain))?;
    if !gain.same_steps {
        writeln!(out, "             its parent ran for another number of steps: the load may be part of it")?;
    }
    Ok(())
}

fn relatives_and_evidence(out: &mut dyn Write, detail: &ExperimentDetail) -> io::Result<()> {
    if !detail.lineage.is_empty() {
        writeln!(out, "\nLineage")?;
        for ancestor in &detail.lineage {
            writeln!(
                out,
                "  {} {} {}",
                text::short(&ancestor.id),
                text::metric(ancestor.val_bpb),
                text::line(&ancestor.description)
            )?;
        }
    }
    if !detail.judgement.measurements.is_empty() {
        writeln!(out, "\nMeasurements (tolerance {})", detail.judgement.tolerance)?;
        for m in &detail.judgement.measurements {
            writeln!(out, "  {}", measurement(m))?;
        }
    }
    Ok(())
}

/// One measurement: what was found, by whom, and how much it counts here.
fn measurement(m: &Measurement) -> String {
    let found = match (&m.reason, m.value) {
        (Some(reason), _) => text::line(&reason.text),
        (None, Some(value)) => text::metric(value),
        (None, None) => "nothing".into(),
    };
    let who = m.display_name.clone().unwrap_or_else(|| text::short(&m.node_id));
    let counts = match (&m.ignored, &m.ignored_globally) {
        (None, _) => format!("counts here, weight {}", m.weight),
        (Some(why), None) => format!("does not count here: {why}"),
        (Some(why), Some(_)) => format!("ignored: {why}"),
    };
    let side = if m.agrees { "agrees" } else { "disagrees" };
    format!("{found} by {} on {}, {side} ({counts})", text::line(&who), m.hardware_class)
}
