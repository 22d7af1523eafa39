//! The table of figures: what was measured at each size, the limit, and whether the largest size meets it.

use std::time::Duration;

use crate::{
    ingest::{IngestRun, VerifyRun},
    questions::ServeResult,
    reference::ReferenceResult,
};

/// Everything measured with a history of one size.
pub struct BenchResult {
    pub records: usize,
    /// Verification alone, on all cores, before and after the ingestion.
    pub verified: VerifyRun,
    pub ingested: IngestRun,
    /// Bytes of the signed objects; of these compressed; of the store as it was left; of the compacted store.
    pub plain: usize,
    pub packed: usize,
    pub on_disk: u64,
    pub compacted: u64,
    /// Time of checking the whole store, and processor time of all threads.
    pub checked: Duration,
    pub checked_cpu: Duration,
    pub served: ServeResult,
}

/// What a figure must be.
enum FigureLimit {
    AtLeast(f64),
    /// At least this at the sizes up to which it is given, in order.
    AtLeastUpTo(&'static [(usize, f64)]),
    AtMost(f64),
    Shown,
}

struct FigureRow {
    name: String,
    unit: &'static str,
    bound: FigureLimit,
    values: Vec<Option<f64>>,
}

fn row(
    name: &str,
    unit: &'static str,
    bound: FigureLimit,
    all: &[BenchResult],
    of: impl Fn(&BenchResult) -> Option<f64>,
) -> FigureRow {
    FigureRow { name: name.to_owned(), unit, bound, values: all.iter().map(of).collect() }
}

/// The least share of the rate of bare verification, for histories of up to so many records.
const SHARES: &[(usize, f64)] = &[(10_000, 0.7), (100_000, 0.65), (usize::MAX, 0.6)];

#[allow(clippy::cast_precision_loss, reason = "figures for people to read")]
fn rows(all: &[BenchResult], reference: Option<&ReferenceResult>) -> Vec<FigureRow> {
    use FigureLimit::{AtLeast, AtLeastUpTo, AtMost, Shown};
    let per_record = |bytes: u64, m: &BenchResult| bytes as f64 / m.records as f64;
    let first = all.first().map(|m| m.ingested.rate()).filter(|_| all.len() > 1);
    let mut rows = vec![
        row("strict verification alone, all cores", "records/s", Shown, all, |m| Some(m.verified.rate())),
        row("ingest: verified, indexed, durable", "records/s", Shown, all, |m| Some(m.ingested.rate())),
        row("  against strict verification alone", "x", AtLeastUpTo(SHARES), all, |m| {
            Some(m.ingested.rate() / m.verified.rate())
        }),
        row("  against the reference's verify + insert", "x", AtLeast(15.0), all, |m| {
            reference.map(|reference| m.ingested.rate() / reference.rate)
        }),
        row("  the last tenth of the records", "records/s", Shown, all, |m| Some(m.ingested.last_rate())),
        row("  the last tenth against the smallest size", "x", AtLeast(0.7), all, |m| {
            first.map(|first| m.ingested.last_rate() / first)
        }),
        row("  share of the time spent inserting", "%", Shown, all, |m| Some(m.ingested.busy() * 100.0)),
        row("  processor time, all threads", "us/record", Shown, all, |m| Some(m.ingested.cpu_us())),
        row("  processor time of verification alone", "us/record", Shown, all, |m| Some(m.verified.cpu_us())),
    ];
    rows.extend(question_rows(all));
    let figure = |m: &BenchResult, name: &str| m.served.figures.get(name).copied();
    rows.extend([
        row("questions interrupted by other processes, not counted", "%", Shown, all, |m| {
            figure(m, "warm_interrupted")
        }),
        row("columnar graph: records", "", Shown, all, |m| figure(m, "graph_records")),
        row("columnar graph: time", "ms", AtMost(50.0), all, |m| figure(m, "graph_ms")),
        row("columnar graph: size", "MB", AtMost(3.0), all, |m| figure(m, "graph_bytes").map(|b| b / 1e6)),
        row("open", "ms", AtMost(1000.0), all, |m| figure(m, "open_ms")),
        row("resident after serving all questions", "MiB", AtMost(400.0), all, |m| {
            figure(m, "rss_kib").map(|k| k / 1024.0)
        }),
        row("  of which not file pages", "MiB", Shown, all, |m| figure(m, "anon_kib").map(|k| k / 1024.0)),
        row("signed objects", "B/record", Shown, all, |m| Some(per_record(m.plain as u64, m))),
        row("  in zstd 3, blocks of 1 MiB", "B/record", Shown, all, |m| Some(per_record(m.packed as u64, m))),
        row("check of the whole store", "s", Shown, all, |m| Some(m.checked.as_secs_f64())),
        // A minute for a million records.
        row("  of one record", "us/record", AtMost(60.0), all, |m| {
            Some(m.checked.as_secs_f64() * 1e6 / m.records as f64)
        }),
        row("  processor time, all threads", "us/record", Shown, all, |m| {
            Some(m.checked_cpu.as_secs_f64() * 1e6 / m.records as f64)
        }),
        row("  against strict verification alone", "x", Shown, all, |m| {
            Some(m.records as f64 / m.checked.as_secs_f64() / m.verified.rate())
        }),
        row("disk", "B/record", Shown, all, |m| Some(per_record(m.on_disk, m))),
        row("  against the compressed objects", "x", AtMost(1.3), all, |m| Some(m.on_disk as f64 / m.packed as f64)),
        row("  compacted, against the compressed objects", "x", Shown, all, |m| {
            Some(m.compacted as f64 / m.packed as f64)
        }),
    ]);
    rows
}

/// The rows of each kind of question.
fn question_rows(all: &[BenchResult]) -> Vec<FigureRow> {
    use FigureLimit::{AtMost, Shown};
    let mut rows = Vec::new();
    let kinds = [
        ("frontier_100", "frontier, first 100", true),
        ("status", "counters and status", true),
        ("recent_50", "recent 50", true),
        ("node_50", "by node 50", true),
        ("children", "children", true),
        ("prefix", "prefix look-up", true),
        ("words_20", "words, first 20", false),
        ("record", "one whole record", false),
        ("ancestors_100", "ancestors, 100", false),
        ("changes_100", "changes since, 100", false),
    ];
    for (kind, name, bounded) in kinds {
        let bound = || if bounded { AtMost(1000.0) } else { Shown };
        let warm = |m: &BenchResult| m.served.warm.get(kind).copied();
        rows.push(row(&format!("{name}: p50"), "us", Shown, all, |m| warm(m).map(|a| a.p50)));
        rows.push(row(&format!("{name}: p99"), "us", bound(), all, |m| warm(m).map(|a| a.p99)));
        rows.push(row(&format!("{name}: max"), "us", Shown, all, |m| warm(m).map(|a| a.max)));
        rows.push(row(&format!("{name}: p99, just opened"), "us", Shown, all, |m| {
            m.served.fresh.get(kind).map(|a| a.p99)
        }));
    }
    rows
}

/// A number with about three significant digits.
fn digits(value: f64) -> String {
    if value >= 100.0 {
        format!("{value:.0}")
    } else if value >= 10.0 {
        format!("{value:.1}")
    } else {
        format!("{value:.2}")
    }
}

/// The limit, and whether a value meets it.
fn verdict(bound: &FigureLimit, records: usize, value: Option<f64>) -> (String, String) {
    let bound = match bound {
        FigureLimit::AtLeastUpTo(limits) => {
            let limit = limits.iter().find(|(most, _)| records <= *most);
            &limit.map_or(FigureLimit::Shown, |(_, least)| FigureLimit::AtLeast(*least))
        }
        bound => bound,
    };
    let (limit, missed) = match *bound {
        FigureLimit::Shown | FigureLimit::AtLeastUpTo(_) => return (String::new(), String::new()),
        FigureLimit::AtLeast(least) => (format!(">= {}", digits(least)), value.map(|v| (v < least, v / least))),
        FigureLimit::AtMost(most) => (format!("<= {}", digits(most)), value.map(|v| (v > most, v / most))),
    };
    let result = match missed {
        None => "not measured".to_owned(),
        Some((false, _)) => "met".to_owned(),
        Some((true, of)) => format!("MISSED: {} of the limit", digits(of)),
    };
    (limit, result)
}

/// Prints the whole table as Markdown.
pub fn print(all: &[BenchResult], reference: Option<&ReferenceResult>) {
    if let Some(reference) = reference {
        println!(
            "The reference: {:.0} records/s verified and inserted; {:.0} ms for the frontier of {} records.\n",
            reference.rate,
            reference.frontier_s * 1e3,
            crate::reference::RECORDS
        );
    }
    let sizes: Vec<String> = all.iter().map(|m| m.records.to_string()).collect();
    println!("| figure | unit | {} | limit | largest size |", sizes.join(" | "));
    println!("|---|---|{}---|---|", "--:|".repeat(sizes.len()));
    let largest = all.last().map_or(0, |m| m.records);
    for row in rows(all, reference) {
        let values: Vec<String> = row.values.iter().map(|value| value.map_or_else(|| "-".to_owned(), digits)).collect();
        let (limit, result) = verdict(&row.bound, largest, row.values.last().copied().flatten());
        println!("| {} | {} | {} | {limit} | {result} |", row.name, row.unit, values.join(" | "));
    }
}
