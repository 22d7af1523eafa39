//! Single reads of what batches wrote: the pieces that questions ([`crate::read`]), batches ([`crate::write`]) and
//! repairs are made of.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    ops::ControlFlow,
};

use spore_protocol::{
    ControlEvent, Goal, Kind, Measurement, NodeId, ObjectId, Record, RecordId, Reject, Signed, SignedObject, TaskId,
    TaskManifest,
    trust::{Level, Standing, alike},
    verdict::{Subject, WINDOW, assess},
};

use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys::{self, ClassKey},
    types::{Change, Judgement, RecordSummary, WhyDropped},
    values::{
        self, DroppedEntry, LineageFault, LogEntry, Placing, RecordRow, StandingState, TaskState, Totals, UNKNOWN, Work,
    },
};

/// Most canonical bytes of an event that counts. Events that nodes sign have less than one KiB, and longer ones than
/// this do not fit into a message of their topic.
pub const MAX_JUDGED_BYTES: usize = 64 << 10;

/// Bytes of a record's description, and of its hypothesis, in a listing: some thirty lines each, and 25 MB for the
/// longest page. The record itself has the whole text.
const MAX_SHOWN_TEXT: usize = 2 << 10;

/// Bytes of the name of a device or an agent in a listing. A real name has less than a hundred. The name of a class has
/// at most 64 characters anyway.
const MAX_SHOWN_NAME: usize = 256;

pub fn tally(source: &dyn KeyReader) -> Result<Totals> {
    source.get(Column::Meta, keys::TALLY)?.map_or_else(|| Ok(Totals::default()), |bytes| values::decode(&bytes))
}

/// The last sequence number used; 0 in an empty store.
pub fn sequence(source: &dyn KeyReader) -> Result<u64> {
    source.get(Column::Meta, keys::SEQUENCE)?.map_or(Ok(0), |bytes| values::number(&bytes))
}

/// The sequence number of a stored object.
pub fn number_of(source: &dyn KeyReader, kind: Kind, id: &ObjectId) -> Result<Option<u64>> {
    source.get(Column::Ids, &keys::id(kind, id))?.map(|bytes| values::number(&bytes)).transpose()
}

pub fn object(source: &dyn KeyReader, kind: Kind, id: &ObjectId) -> Result<Option<SignedObject>> {
    let Some(number) = number_of(source, kind, id)? else { return Ok(None) };
    let bytes = source.get(Column::Objects, &keys::number(number))?;
    let bytes = bytes.ok_or(Damage::NoObject { kind, id: *id })?;
    let object = values::decode_stored(&bytes)?;
    if object.id() != *id {
        return Err(Damage::WrongObject { kind, id: *id, found: object.id() }.into());
    }
    Ok(Some(object))
}

pub fn record(source: &dyn KeyReader, id: &RecordId) -> Result<Option<Signed<Record>>> {
    Ok(match object(source, Kind::Experiment, &(*id).into())? {
        Some(SignedObject::Experiment(record)) => Some(record),
        _ => None,
    })
}

pub fn manifest(source: &dyn KeyReader, id: &TaskId) -> Result<Option<Signed<TaskManifest>>> {
    Ok(match object(source, Kind::Task, &(*id).into())? {
        Some(SignedObject::Task(manifest)) => Some(manifest),
        _ => None,
    })
}

/// The placing of a record that an index names by its number.
pub fn placing(source: &dyn KeyReader, number: u64) -> Result<Placing> {
    let bytes = source.get(Column::Records, &keys::number(number))?;
    Placing::decode(&bytes.ok_or(Damage::NoEntry { column: Column::Records.name(), number })?)
}

/// The row of a record that an index names by its number.
pub fn row(source: &dyn KeyReader, number: u64) -> Result<RecordRow> {
    let placing = placing(source, number)?;
    let object = source.get(Column::Objects, &keys::number(number))?;
    let object = object.ok_or(Damage::NoEntry { column: Column::Objects.name(), number })?;
    Ok(RecordRow::new(values::stored_record(&object)?, placing, number))
}

/// Objects read at once. Usual ones have a few KiB together, the largest possible ones 160 MiB.
const OBJECTS_AT_ONCE: usize = 16;

/// Records as listings show them, in the order of their numbers given.
pub fn summaries(source: &dyn KeyReader, numbers: &[u64]) -> Result<Vec<RecordSummary>> {
    let mut summaries = Vec::with_capacity(numbers.len());
    for numbers in numbers.chunks(OBJECTS_AT_ONCE) {
        let keys: Vec<_> = numbers.iter().map(|number| number.to_be_bytes()).collect();
        let placings = source.get_all(Column::Records, &keys)?;
        let objects = source.get_all(Column::Objects, &keys)?;
        for ((number, placing), object) in numbers.iter().zip(placings).zip(objects) {
            let (Some(placing), Some(object)) = (placing, object) else {
                return Err(Damage::NoEntry { column: Column::Records.name(), number: *number }.into());
            };
            let row = RecordRow::new(values::stored_record(&object)?, Placing::decode(&placing)?, *number);
            summaries.push(cut(row.summary));
        }
    }
    Ok(summaries)
}

pub fn row_of(source: &dyn KeyReader, id: &RecordId) -> Result<Option<RecordRow>> {
    number_of(source, Kind::Experiment, &(*id).into())?.map(|number| row(source, number)).transpose()
}

/// A record as listings show it, with shortened texts, so that a page is bounded in bytes whatever was signed.
pub fn listed(source: &dyn KeyReader, number: u64) -> Result<RecordSummary> {
    Ok(cut(row(source, number)?.summary))
}

pub fn cut(mut summary: RecordSummary) -> RecordSummary {
    shorten(&mut summary.description, MAX_SHOWN_TEXT);
    shorten(&mut summary.hypothesis, MAX_SHOWN_TEXT);
    shorten(&mut summary.agent_model, MAX_SHOWN_NAME);
    shorten(&mut summary.gpu_model, MAX_SHOWN_NAME);
    summary
}

fn shorten(text: &mut String, most: usize) {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.shrink_to_fit();
    }
}

/// An entry of the change log.
pub fn change(source: &dyn KeyReader, sequence: u64) -> Result<Change> {
    let line = source.get(Column::Log, &keys::number(sequence))?;
    let line = line.ok_or(Damage::NoEntry { column: Column::Log.name(), number: sequence })?;
    Ok(match LogEntry::decode(&line)? {
        LogEntry::Other(kind, id, task_id) => Change { sequence, kind, id, task_id },
        LogEntry::Record => placing(source, sequence)?.change(sequence),
    })
}

pub fn task_state(source: &dyn KeyReader, id: &TaskId) -> Result<Option<TaskState>> {
    source.get(Column::Tasks, &id.0)?.map(|bytes| values::decode(&bytes)).transpose()
}

/// Why a record was refused, if that is remembered.
pub fn refusal(source: &dyn KeyReader, id: &RecordId) -> Result<Option<LineageFault>> {
    let Some(bytes) = source.get(Column::Refused, &id.0)? else { return Ok(None) };
    bytes.get(8..).map(values::decode).transpose()
}

/// A control event that an index names by its number.
pub fn event(source: &dyn KeyReader, number: u64) -> Result<Signed<ControlEvent>> {
    let bytes = source.get(Column::Objects, &keys::number(number))?;
    let bytes = bytes.ok_or(Damage::NoEntry { column: Column::Objects.name(), number })?;
    match values::decode_stored(&bytes)? {
        SignedObject::Control(event) => Ok(event),
        _ => Err(Damage::WrongKind { number, expected: Kind::Control }.into()),
    }
}

/// The keys that the operator trusts.
pub fn seeds(source: &dyn KeyReader) -> Result<BTreeSet<NodeId>> {
    source.get(Column::Meta, keys::SEEDS)?.map_or_else(|| Ok(BTreeSet::new()), |bytes| values::decode_seeds(&bytes))
}

/// What a node's works in a class earned it, if anything.
pub fn standing_state(source: &dyn KeyReader, node: &NodeId, class: &ClassKey) -> Result<Option<StandingState>> {
    let state = source.get(Column::Standings, &keys::standing(node, class))?;
    state.map(|bytes| StandingState::decode(&bytes)).transpose()
}

/// The standing of a node in a class.
pub fn standing(source: &dyn KeyReader, node: &NodeId, class: &ClassKey) -> Result<Standing> {
    let is_seed = seeds(source)?.contains(node);
    let counters = standing_state(source, node, class)?.map(|state| state.counters).unwrap_or_default();
    Ok(Standing::of(is_seed, counters))
}

/// Visits the items of a list that nodes compare, stored and dropped ones, in order, from the key `from` on.
pub fn each_item(
    source: &dyn KeyReader,
    prefix: &[u8],
    from: &[u8],
    visit: &mut dyn FnMut(&[u8]) -> Result<ControlFlow<()>>,
) -> Result<()> {
    let mut dropped = DroppedItems::new(source, prefix, from);
    let mut ended = false;
    source.walk(Column::Timeline, prefix, Some(from), KeyOrder::Ascending, &mut |key, _| {
        while let Some(item) = dropped.before(Some(key))? {
            if visit(&item)?.is_break() {
                ended = true;
                return Ok(ControlFlow::Break(()));
            }
        }
        let flow = visit(key)?;
        ended = flow.is_break();
        Ok(flow)
    })?;
    while !ended && let Some(item) = dropped.before(None)? {
        ended = visit(&item)?.is_break();
    }
    Ok(())
}

/// Dropped items read at once: those of a bucket.
const DROPPED_AT_ONCE: usize = 256;

/// The dropped items of a list, in order.
struct DroppedItems<'a> {
    source: &'a dyn KeyReader,
    prefix: Vec<u8>,
    /// The first key that is not read yet. None at the end.
    next: Option<Vec<u8>>,
    ahead: VecDeque<Vec<u8>>,
}

impl<'a> DroppedItems<'a> {
    fn new(source: &'a dyn KeyReader, prefix: &[u8], from: &[u8]) -> Self {
        let (prefix, next) = (keys::dropped_item(prefix), Some(keys::dropped_item(from)));
        Self { source, prefix, next, ahead: VecDeque::new() }
    }

    /// The next item, if it comes before `end`.
    fn before(&mut self, end: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        if self.ahead.is_empty() {
            self.read()?;
        }
        let comes = self.ahead.front().is_some_and(|item| end.is_none_or(|end| item.as_slice() < end));
        Ok(if comes { self.ahead.pop_front() } else { None })
    }

    fn read(&mut self) -> Result<()> {
        let Some(from) = self.next.take() else { return Ok(()) };
        let Self { source, prefix, next, ahead } = self;
        source.walk(Column::Dropped, prefix, Some(&from), KeyOrder::Ascending, &mut |key, _| {
            if ahead.len() == DROPPED_AT_ONCE {
                *next = Some(key.to_vec());
                return Ok(ControlFlow::Break(()));
            }
            ahead.extend(key.get(1..).map(<[u8]>::to_vec));
            Ok(ControlFlow::Continue(()))
        })
    }
}

/// Whether any pending record waits for this one.
pub fn is_awaited(source: &dyn KeyReader, id: &RecordId) -> Result<bool> {
    Ok(source.first(Column::PendingByParent, &id.0, None, KeyOrder::Ascending)?.is_some())
}

/// Whether a dropped object is taken again: the store dropped it for room, and a pending record waits for it.
pub fn returns(source: &dyn KeyReader, kind: Kind, id: &ObjectId, entry: &DroppedEntry) -> Result<bool> {
    Ok(kind == Kind::Experiment && entry.why == WhyDropped::Room && is_awaited(source, &RecordId::from(*id))?)
}

/// What is remembered of a dropped object.
pub fn dropped(source: &dyn KeyReader, kind: Kind, id: &ObjectId) -> Result<Option<DroppedEntry>> {
    source.get(Column::Dropped, &keys::dropped(kind, id))?.map(|bytes| DroppedEntry::decode(&bytes)).transpose()
}

/// What the verdicts on a record are made from.
pub struct Examined {
    pub subject: Subject,
    measurements: Vec<Measurement>,
    levels: HashMap<NodeId, Level>,
    /// The rank of the last signer without weight that is looked at. None while there are few.
    pub cutoff: Option<u64>,
}

impl Examined {
    pub fn judge(&self) -> Judgement {
        let weight = |node: &NodeId| self.levels.get(node).map_or(0, |level| level.weight());
        Judgement {
            local: assess(&self.subject, self.measurements.iter().cloned(), weight),
            global: assess(&self.subject, self.measurements.iter().cloned(), alike),
        }
    }
}

/// Reads the measurements that a record's verdicts consider: of each tier the first [`WINDOW`] by rank. `publisher` is
/// the level of the record's publisher.
pub fn examine(source: &dyn KeyReader, row: &RecordRow, goal: Goal, publisher: Option<Level>) -> Result<Examined> {
    let subject = row.subject(goal);
    let mut levels = HashMap::new();
    levels.extend(publisher.map(|level| (subject.publisher, level)));
    let (mut measurements, mut of_tier, mut cutoff) = (Vec::new(), (0, 0), None);
    source.each(Column::Works, &row.number().to_be_bytes(), &mut |key, value| {
        let (tier, node) = (keys::tier(key)?, NodeId(keys::last_id(key)?));
        of_tier = if of_tier.0 == tier { (tier, of_tier.1 + 1) } else { (tier, 1) };
        if of_tier.1 > WINDOW {
            // Only signers without weight are many. They are the last tier.
            return Ok(if tier == UNKNOWN { ControlFlow::Break(()) } else { ControlFlow::Continue(()) });
        }
        if of_tier == (UNKNOWN, WINDOW) {
            cutoff = Some(keys::number_at(key, 9)?);
        }
        levels.extend(values::level_of(tier).map(|level| (node, level)));
        measurements.push(Work::decode(value)?.measurement(node, subject.class.clone()));
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(Examined { subject, measurements, levels, cutoff })
}

/// Records that are decided, with why they were refused, and that other records may still wait for.
pub type Unreleased = Vec<(RecordId, Option<Reject>)>;

/// The decided records that other records still wait for, with why they were refused.
pub fn unreleased(source: &dyn KeyReader) -> Result<Unreleased> {
    let mut unreleased = Unreleased::new();
    let mut last = None;
    source.each(Column::PendingByParent, &[], &mut |key, _| {
        let parent = RecordId(keys::id_at(key, 0)?);
        if last.replace(parent) == Some(parent) {
            return Ok(ControlFlow::Continue(()));
        }
        let flaw = refusal(source, &parent)?;
        if flaw.is_some() || number_of(source, Kind::Experiment, &parent.into())?.is_some() {
            unreleased.push((parent, flaw.map(LineageFault::reject)));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(unreleased)
}
