//! A process that opens a store and serves it as a relay does, so that its memory is that of a relay. It is a child
//! process of the benchmark. It reads what to ask from its input, and prints one line for each kind of question.

use std::{
    collections::BTreeMap,
    error::Error,
    fs,
    io::{self, BufRead},
    path::Path,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use spore_protocol::{NodeId, RecordId, SignedObject, TaskId, frontier::FrontierKind};
use spore_storage::{Scope, Span, Store};

use crate::{dice::Dice, signed_file::SignedHistory};

/// Questions of each kind on a store that was just opened, and then on a warm one.
const FRESH: usize = 200;
const WARM: usize = 2_000;
/// Times that a graph is read. The median counts.
const GRAPHS: usize = 5;

/// A record to ask about.
pub struct ProbeRecord {
    pub record: RecordId,
    pub task: TaskId,
    pub node: NodeId,
    /// A word of its description.
    pub word: String,
}

/// The time of the questions of one kind, in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct QuestionTimes {
    pub p50: f64,
    pub p99: f64,
    pub max: f64,
}

/// What the child process measured, by name.
#[derive(Clone, Debug, Default)]
pub struct ServeResult {
    pub fresh: BTreeMap<String, QuestionTimes>,
    pub warm: BTreeMap<String, QuestionTimes>,
    /// Single figures: `open_ms`, `graph_ms`, `graph_bytes`, `graph_records`, `rss_kib`, `anon_kib`,
    /// `warm_interrupted` (percent of the questions).
    pub figures: BTreeMap<String, f64>,
}

/// Records to ask about, spread over the whole history.
///
/// # Errors
/// When an object is not as it was written.
pub fn probes(history: &SignedHistory) -> Result<Vec<ProbeRecord>, Box<dyn Error>> {
    let mut dice = Dice::new(77);
    let mut probes = Vec::new();
    while probes.len() < FRESH + WARM {
        let SignedObject::Experiment(record) = history.object(dice.below(history.len()))? else { continue };
        let words: Vec<&str> = record.description.split(|c: char| !c.is_alphanumeric()).collect();
        let word = words.iter().filter(|word| word.len() > 3).nth(dice.below(3)).unwrap_or(&"rate");
        let Some(task) = record.task_id else { continue };
        probes.push(ProbeRecord { record: record.id().into(), task, node: record.node_id, word: (*word).to_owned() });
    }
    Ok(probes)
}

/// Serves the store in `dir` in a child process, and reads what it prints.
///
/// # Errors
/// When the child process cannot be started, or fails.
pub fn in_child(dir: &Path, probes: &[ProbeRecord], graph_of: &TaskId) -> Result<ServeResult, Box<dyn Error>> {
    let list = dir.join("probes");
    let lines: Vec<String> = probes.iter().map(|p| format!("{} {} {} {}", p.record, p.task, p.node, p.word)).collect();
    fs::write(&list, lines.join("\n"))?;
    let child = Command::new(std::env::current_exe()?)
        .args(["--serve".as_ref(), dir.as_os_str()])
        .arg(graph_of.to_string())
        .stdin(fs::File::open(&list)?)
        .stderr(Stdio::inherit())
        .output()?;
    fs::remove_file(&list)?;
    if !child.status.success() {
        return Err("the serving process failed".into());
    }
    let mut served = ServeResult::default();
    for line in String::from_utf8(child.stdout)?.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        match fields.as_slice() {
            ["figure", name, value] => {
                served.figures.insert((*name).to_owned(), value.parse()?);
            }
            [state, name, p50, p99, max] => {
                let answered = QuestionTimes { p50: p50.parse()?, p99: p99.parse()?, max: max.parse()? };
                let kinds = if *state == "fresh" { &mut served.fresh } else { &mut served.warm };
                kinds.insert((*name).to_owned(), answered);
            }
            _ => return Err(format!("the serving process said: {line}").into()),
        }
    }
    Ok(served)
}

/// The child process: opens the store, answers the questions, prints its memory.
///
/// # Errors
/// When the store cannot be read.
pub fn serve(dir: &Path, graph_of: &str) -> Result<(), Box<dyn Error>> {
    let probes = io::stdin().lock().lines().map(|line| probe(&line?)).collect::<Result<Vec<_>, _>>()?;
    let begun = Instant::now();
    let store = Store::open(dir)?;
    println!("figure open_ms {:.1}", begun.elapsed().as_secs_f64() * 1e3);
    let (fresh, warm) = probes.split_at(FRESH.min(probes.len()));
    ask_all(&store, "fresh", fresh)?;
    // Once without measuring, so that the caches contain what fits.
    ask_all(&store, "warming", warm)?;
    ask_all(&store, "warm", warm)?;
    graph(&store, &graph_of.parse().map_err(|_| "not a task's id")?)?;
    let status = fs::read_to_string("/proc/self/status")?;
    for (name, field) in [("rss_kib", "VmRSS:"), ("anon_kib", "RssAnon:"), ("peak_kib", "VmHWM:")] {
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
        println!("figure {name} {}", line.trim().trim_end_matches(" kB"));
    }
    Ok(())
}

fn probe(line: &str) -> Result<ProbeRecord, Box<dyn Error>> {
    let mut fields = line.split(' ');
    let mut next = || fields.next().ok_or("a line is short");
    Ok(ProbeRecord {
        record: next()?.parse().map_err(|_| "not a record's id")?,
        task: next()?.parse().map_err(|_| "not a task's id")?,
        node: next()?.parse().map_err(|_| "not a node's id")?,
        word: next()?.to_owned(),
    })
}

type Question = fn(&Store, &ProbeRecord, usize) -> Result<(), spore_storage::StoreError>;

/// Every kind of question, with its name in the output.
const QUESTIONS: &[(&str, Question)] = &[
    ("frontier_100", |store, probe, turn| {
        // Nobody is trusted in this store, so frontiers are the reference's, and a class's claims stand for its frontier.
        let kind = match turn % 4 {
            0 => FrontierKind::Reference,
            _ => store.summary(&probe.record)?.map_or(FrontierKind::Reference, |r| FrontierKind::Claims(r.class)),
        };
        store.listing(&probe.task, &kind, &Span::first(100)).map(drop)
    }),
    ("status", |store, _, _| {
        store.counts()?;
        store.most_active_task().map(drop)
    }),
    ("recent_50", |store, probe, turn| {
        let scope = if turn % 2 == 0 { Scope::All } else { Scope::Task(probe.task) };
        store.recent(scope, None, 50).map(drop)
    }),
    ("node_50", |store, probe, _| store.recent(Scope::Node(probe.node), None, 50).map(drop)),
    ("children", |store, probe, _| store.children(&probe.record, 50).map(drop)),
    ("prefix", |store, probe, _| {
        let prefix = probe.record.to_string();
        store.resolve(prefix.get(..10).unwrap_or_default(), 10).map(drop)
    }),
    ("words_20", |store, probe, _| store.search(&probe.word, None, &Span::first(20)).map(drop)),
    ("record", |store, probe, _| store.record(&probe.record).map(drop)),
    ("ancestors_100", |store, probe, _| store.ancestors(&probe.record, 100).map(drop)),
    ("changes_100", |store, _, turn| store.changes_since((turn as u64 * 7919) % store.sequence(), 100).map(drop)),
];

#[allow(clippy::cast_precision_loss, reason = "a percentage for people to read")]
fn ask_all(store: &Store, state: &str, probes: &[ProbeRecord]) -> Result<(), Box<dyn Error>> {
    let (mut asked, mut counted) = (0, 0);
    for (name, question) in QUESTIONS {
        let mut times = Vec::with_capacity(probes.len());
        for (turn, probe) in probes.iter().enumerate() {
            let before = interruptions();
            let begun = Instant::now();
            question(store, probe, turn)?;
            let took = begun.elapsed();
            if interruptions() == before {
                times.push(took);
            }
        }
        (asked, counted) = (asked + probes.len(), counted + times.len());
        let answered = summed_up(times);
        if state != "warming" {
            println!("{state} {name} {:.1} {:.1} {:.1}", answered.p50, answered.p99, answered.max);
        }
    }
    println!("figure {state}_interrupted {:.2}", (asked - counted) as f64 * 100.0 / asked as f64);
    Ok(())
}

/// How often the system gave this thread's core to another thread, which says nothing about the store. Interrupted
/// questions do not count. Waiting for the disk is not such an interruption.
fn interruptions() -> Option<u64> {
    let status = fs::read_to_string("/proc/thread-self/status").ok()?;
    status.lines().find_map(|line| line.strip_prefix("nonvoluntary_ctxt_switches:"))?.trim().parse().ok()
}

fn graph(store: &Store, task: &TaskId) -> Result<(), Box<dyn Error>> {
    let (mut times, mut bytes, mut records) = (Vec::new(), 0, 0);
    for _ in 0..GRAPHS {
        let begun = Instant::now();
        let graph = store.graph(task)?;
        bytes = graph.to_bytes("", graph.id_length()).len();
        times.push(begun.elapsed());
        records = graph.ids.len();
    }
    println!("figure graph_ms {:.2}", summed_up(times).p50 / 1e3);
    println!("figure graph_bytes {bytes}");
    println!("figure graph_records {records}");
    Ok(())
}

/// Percentiles by the nearest rank.
fn summed_up(mut times: Vec<Duration>) -> QuestionTimes {
    times.sort_unstable();
    let at = |percent: usize| {
        let rank = (times.len() * percent).div_ceil(100).max(1) - 1;
        times.get(rank).map_or(0.0, |time| time.as_secs_f64() * 1e6)
    };
    QuestionTimes { p50: at(50), p99: at(99), max: at(100) }
}
