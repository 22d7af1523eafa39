//! Checks the whole store. All columns follow from the objects, so they are computed again, into a database beside
//! the store, and compared entry by entry.

use std::{
    collections::BTreeMap,
    fmt,
    iter::Peekable,
    num::NonZero,
    sync::{Mutex, PoisonError, mpsc},
    thread,
};

use super::{replay::Fault, walk};
use crate::{
    columns::Column,
    db::{Db, KeyScanner, KeyValue},
    error::{Result, StoreError},
    layout::ScratchFolder,
    progress::{Stage, Watch, notify},
    salvage::{SalvageScan, ScanStep},
    store::Store,
    tuning::Access,
};

/// Most findings that a report lists. All of them are counted.
const MAX_FINDINGS: usize = 100;

/// Most bytes of a value that a finding shows.
const SHOWN: usize = 48;

/// One entry that does not follow from the objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreFinding {
    pub column: String,
    /// The key in hex, or the kind and id of an object.
    pub key: String,
    pub expected: String,
    pub found: String,
}

impl fmt::Display for StoreFinding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: expected {}, found {}", self.column, self.key, self.expected, self.found)
    }
}

/// The result of a check.
#[derive(Clone, Debug, Default)]
pub struct CheckReport {
    /// Objects whose hash and signature were verified.
    pub objects: u64,
    pub pending: u64,
    /// The first findings: damage, then objects, then columns. Empty in a sound store.
    pub findings: Vec<StoreFinding>,
    pub finding_count: u64,
}

impl Store {
    /// Verifies every object, computes every column again, and reports each difference. Works on a snapshot, while
    /// the store is in use. Needs as much free disk space as the database takes, memory for some thousand objects, and
    /// all cores.
    ///
    /// # Errors
    /// [`crate::StoreError::Cancelled`]; when the database for comparison cannot be written.
    pub fn check(&self, watch: &mut Watch<'_>) -> Result<CheckReport> {
        let scratch = ScratchFolder::new(self.dir())?;
        let expected = Db::open(scratch.path(), Access::Scratch)?;
        let view = self.view();
        let replayed = walk::exactly(&view, &expected, watch)?;
        let mut report = CheckReport { objects: replayed.objects, pending: replayed.pending, ..CheckReport::default() };
        for damaged in replayed.damaged {
            report.add(|| unreadable(damaged.column, damaged.why));
        }
        for fault in &replayed.faults {
            report.add(|| finding_of(fault));
        }
        report.finding_count += replayed.fault_count - replayed.faults.len() as u64;
        compare_all(&expected, &view, &mut report, watch)?;
        Ok(report)
    }
}

impl CheckReport {
    /// Adds the findings of another column.
    fn append(&mut self, other: Self) {
        self.finding_count += other.finding_count;
        self.findings.extend(other.findings);
        self.findings.truncate(MAX_FINDINGS);
    }

    fn add(&mut self, finding: impl FnOnce() -> StoreFinding) {
        self.finding_count += 1;
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding());
        }
    }
}

fn finding_of(fault: &Fault) -> StoreFinding {
    let (key, expected, found) = match fault {
        Fault::Lost { kind, id, why } => (format!("{kind} {id}"), "the object that the change log names", why.clone()),
        Fault::Refused { kind, id, why } => {
            (format!("{kind} {id}"), "an object that can be inserted again", why.clone())
        }
        Fault::Orphaned { id, missing } => {
            (format!("experiment {id}"), "its parent stored before it", format!("no {missing}"))
        }
    };
    StoreFinding { column: Column::Objects.name().into(), key, expected: expected.into(), found }
}

fn unreadable(column: String, why: String) -> StoreFinding {
    StoreFinding { column, key: "(a part)".into(), expected: "entries".into(), found: why }
}

/// The readable entries of one side of the comparison. Damage is added to `damages`.
fn entries<'a>(
    source: &'a dyn KeyScanner,
    column: Column,
    damages: &'a mut Vec<String>,
) -> impl Iterator<Item = Result<KeyValue>> {
    SalvageScan::new(source, column).filter_map(|step| match step {
        Ok(ScanStep::Entry(key, value)) => Some(Ok((key, value))),
        Ok(ScanStep::Damage(why)) => {
            damages.push(why);
            None
        }
        Err(error) => Some(Err(error)),
    })
}

/// Compares all columns on all cores, one column in a thread at a time. The findings are in the order of the columns.
fn compare_all(expected: &Db, found: &dyn KeyScanner, report: &mut CheckReport, watch: &mut Watch<'_>) -> Result<()> {
    // When verdicts of other tasks changed depends on the batches.
    let columns: Vec<_> = Column::ALL.into_iter().filter(|column| *column != Column::Moved).collect();
    let left = Mutex::new(columns.iter().copied());
    let mut compared = BTreeMap::new();
    thread::scope(|scope| {
        let (ready, reports) = mpsc::channel();
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let (ready, left) = (ready.clone(), &left);
            scope.spawn(move || {
                loop {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(column) = next else { return };
                    // Nobody receives it after a cancellation or an error.
                    if ready.send(compare(column, expected, found).map(|report| (column, report))).is_err() {
                        return;
                    }
                }
            });
        }
        drop(ready);
        notify(watch, Stage::Compare, 0, columns.len() as u64)?;
        for one in reports {
            let (column, report) = one?;
            compared.insert(column, report);
            notify(watch, Stage::Compare, compared.len() as u64, columns.len() as u64)?;
        }
        Ok::<_, StoreError>(())
    })?;
    compared.into_values().for_each(|of_column| report.append(of_column));
    Ok(())
}

fn compare(column: Column, expected: &Db, found: &dyn KeyScanner) -> Result<CheckReport> {
    let mut report = CheckReport::default();
    let (mut damages, mut own) = (Vec::new(), Vec::new());
    let mut expected = entries(expected, column, &mut own).peekable();
    let mut found = entries(found, column, &mut damages).peekable();
    loop {
        let (left, right) = (front(&mut expected)?, front(&mut found)?);
        let (left, right) = match (left, right) {
            (None, None) => break,
            (Some(left), Some(right)) if left.0 == right.0 => (expected.next(), found.next()),
            (Some(left), right) if right.is_none_or(|right| left.0 < right.0) => (expected.next(), None),
            _ => (None, found.next()),
        };
        let (left, right) = (left.transpose()?, right.transpose()?);
        if left.as_ref().map(|(_, value)| value) != right.as_ref().map(|(_, value)| value) {
            let key = left.as_ref().or(right.as_ref()).map(|(key, _)| hex::encode(key)).unwrap_or_default();
            let column = column.name().to_owned();
            report.add(|| StoreFinding { column, key, expected: shown(&left), found: shown(&right) });
        }
    }
    drop((expected, found));
    for why in damages.into_iter().chain(own) {
        report.add(|| unreadable(column.name().into(), why));
    }
    Ok(report)
}

/// The next entry, without taking it.
fn front(entries: &mut Peekable<impl Iterator<Item = Result<KeyValue>>>) -> Result<Option<&KeyValue>> {
    if let Some(Err(error)) = entries.next_if(Result::is_err) {
        return Err(error);
    }
    Ok(entries.peek().and_then(|entry| entry.as_ref().ok()))
}

fn shown(entry: &Option<KeyValue>) -> String {
    match entry {
        None => "nothing".to_owned(),
        Some((_, value)) if value.is_empty() => "an entry".to_owned(),
        Some((_, value)) => {
            let start = value.get(..SHOWN.min(value.len())).unwrap_or_default();
            let more = if value.len() > SHOWN { format!("... ({} bytes)", value.len()) } else { String::new() };
            format!("{}{more}", hex::encode(start))
        }
    }
}
