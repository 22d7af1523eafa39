//! `spore gc`: drops scripts and datasets that a bounded cache has no room for, and keeps the pinned.

use std::io::Write;

use clap::{Args as ClapArgs, Subcommand};
use spore_protocol::Cid;

use super::{
    CliError, Context,
    bar::Bar,
    source::{Client, Source},
    text, upkeep,
};
use crate::api::upkeep::{
    pin as pin_in,
    shapes::{GcReport, Job, UpkeepReport},
};

const DAY: u64 = 86_400;

/// Drop artifacts (scripts, datasets) that are old or take too much room
///
/// Those that nothing names go first, then the least recently used. Never dropped is what a task, a
/// frontier or a pin needs, or what was used within the last hour.
#[derive(Debug, ClapArgs)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only tell what would be dropped
    #[arg(long)]
    dry_run: bool,
    /// Drop what was not used for this many days
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    max_age: Option<u64>,
    /// Drop the least recently used until the rest fits: bytes, or with KiB, MiB, GiB or TiB
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Keep an artifact from being dropped, whether it is here or not
    Pin(Pin),
    /// Let a pinned artifact be dropped again
    Unpin(Pin),
    /// List the pinned artifacts
    Pins {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, ClapArgs)]
struct Pin {
    /// Its address: 64 hex digits
    cid: Cid,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub async fn run(args: Args, context: &mut Context) -> Result<(), CliError> {
    match &args.command {
        None => collect(&args, context).await,
        Some(Command::Pin(pin)) => set_pin(pin, true, context).await,
        Some(Command::Unpin(pin)) => set_pin(pin, false, context).await,
        Some(Command::Pins { json }) => pins(*json, context).await,
    }
}

async fn collect(args: &Args, context: &mut Context) -> Result<(), CliError> {
    if args.max_age.is_none() && args.max_size.is_none() && !args.dry_run {
        return Err(CliError::usage("nothing says what is to go")
            .hint("give --max-age DAYS or --max-size SIZE; with --dry-run nothing goes"));
    }
    let job = Job::Gc {
        dry_run: args.dry_run,
        max_age_seconds: args.max_age.map(|days| days * DAY),
        max_bytes: args.max_size,
    };
    let UpkeepReport::Gc(report) = upkeep::perform(&job, context).await? else {
        return Err(upkeep::another_answer());
    };
    if args.json {
        return context.json(&report);
    }
    Ok(show(&mut context.out, &report)?)
}

fn show(out: &mut dyn Write, report: &GcReport) -> std::io::Result<()> {
    if !report.dropped.is_empty() {
        let mut table = text::table(["ARTIFACT", "SIZE", "LAST USED", "NAMED BY", "BECAUSE OF"]);
        for dropped in &report.dropped {
            table.add_row([
                text::short(&dropped.cid),
                text::mib(dropped.bytes),
                text::ago(dropped.last_used),
                text::count(dropped.references, "record", "records"),
                text::line(&dropped.reason),
            ]);
        }
        writeln!(out, "{table}")?;
        let more = report.dropped_count.saturating_sub(report.dropped.len() as u64);
        if more > 0 {
            writeln!(out, "... and {more} more")?;
        }
    }
    let verb = if report.dry_run { "Would drop" } else { "Dropped" };
    let artifacts = |n| text::count(n, "artifact", "artifacts");
    writeln!(out, "{verb} {}, {}.", artifacts(report.dropped_count), text::mib(report.dropped_bytes))?;
    writeln!(
        out,
        "{} stay, {}; of these {} ({}) are needed or pinned.",
        artifacts(report.kept_count),
        text::mib(report.kept_bytes),
        report.protected_count,
        text::mib(report.protected_bytes)
    )
}

async fn set_pin(pin: &Pin, pinned: bool, context: &mut Context) -> Result<(), CliError> {
    let outcome = match Client::find(&context.data).await? {
        Some(client) => client.pin(&pin.cid, pinned).await?,
        None => pin_in(&upkeep::open(true, context, &mut Bar::new())?, &pin.cid.to_string(), pinned)?,
    };
    if pin.json {
        return context.json(&outcome);
    }
    let word = match (pinned, outcome.changed) {
        (true, true) => "is pinned",
        (true, false) => "was pinned already",
        (false, true) => "is pinned no more",
        (false, false) => "was not pinned",
    };
    Ok(writeln!(context.out, "{} {word}", text::short(&outcome.cid))?)
}

async fn pins(json: bool, context: &mut Context) -> Result<(), CliError> {
    let pins: Vec<String> = Source::open(context).await?.get("/upkeep/pins").await?;
    if json {
        return context.json(&pins);
    }
    if pins.is_empty() {
        writeln!(context.out, "No artifact is pinned. `spore gc pin CID` keeps one.")?;
    }
    for pin in pins {
        writeln!(context.out, "{}", text::line(&pin))?;
    }
    Ok(())
}

/// Reads a size in bytes. KB and K mean what KiB means: nobody wants a cache of powers of ten.
fn size(text: &str) -> Result<u64, String> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic()).trim_end();
    let unit = lower.get(digits.len()..).unwrap_or_default().trim();
    let shift = match unit {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 10,
        "m" | "mb" | "mib" => 20,
        "g" | "gb" | "gib" => 30,
        "t" | "tb" | "tib" => 40,
        _ => return Err(format!("{unit:.20} is no unit; take KiB, MiB, GiB or TiB")),
    };
    let number: u64 = digits.parse().map_err(|_| "not a whole number with a unit, such as 500MiB".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "more than there is anywhere".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::upkeep::shapes::DroppedArtifact;

    #[test]
    fn sizes_have_units() {
        let read = |text| size(text).ok();
        assert_eq!([read("0"), read("123"), read("7b")], [Some(0), Some(123), Some(7)]);
        assert_eq!([read("2KiB"), read("500 MB"), read("1g")], [Some(2048), Some(500 << 20), Some(1 << 30)]);
        assert_eq!([read(""), read("MiB"), read("1.5G"), read("-1"), read("1 light year")], [None; 5]);
        assert_eq!(read("99999999999TiB"), None);
    }

    #[test]
    fn what_goes_and_what_stays_is_told() {
        let cid = "ab".repeat(32);
        let dropped = DroppedArtifact { cid, bytes: 3 << 19, last_used: 1, references: 1, reason: "age".into() };
        let mut report = GcReport {
            dry_run: true,
            dropped: vec![dropped],
            dropped_count: 2,
            dropped_bytes: 3 << 20,
            kept_count: 1,
            kept_bytes: 1 << 20,
            protected_count: 1,
            protected_bytes: 1 << 20,
        };
        let told = |report: &GcReport| {
            let mut out = Vec::new();
            show(&mut out, report).unwrap();
            String::from_utf8(out).unwrap()
        };
        let text = told(&report);
        for part in
            ["abababababab", "1.5 MiB", "1 record", "age", "1 more", "Would drop 2 artifacts, 3.0 MiB", "1 artifact"]
        {
            assert!(text.contains(part), "{part} in {text}");
        }
        (report.dry_run, report.dropped) = (false, Vec::new());
        assert!(told(&report).starts_with("Dropped 2 artifacts"), "{}", told(&report));
    }
}
