//! Removes an object with everything that follows from it, so that all columns are as if it had never arrived.
//!
//! Only leaves are removed: a record with an open local verdict that has no child, no event and no pending record
//! waiting for it, and an event about such a record by a signer without weight. Nothing else depends on them except
//! counters, the reference's frontier and the task's root.

use std::{
    collections::{BTreeSet, HashMap},
    ops::ControlFlow,
};

use spore_protocol::{
    ControlEvent, Kind, NodeId, NodeProfile, Record, Signed, SignedObject, Status, TaskId, TaskManifest, Verdict,
    frontier::{FrontierKind, beats},
};

use super::{InsertBatch, control::measurement, frontier::Places};
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result, StoreError},
    keys::{self, ClassKey, Moment, TimeList},
    lookup,
    types::WhyDropped,
    values::{self, NodeState, RecordRow, UNKNOWN, Work, WorkMark},
    words,
};

/// What may be dropped.
#[derive(Clone, Debug)]
pub struct DropRules {
    pub why: WhyDropped,
    /// Objects of these signers are kept.
    pub own: BTreeSet<NodeId>,
    /// Tasks whose objects are kept.
    pub pinned: BTreeSet<TaskId>,
    /// Unix seconds. Records that arrived at this time or later are kept.
    pub before: u64,
    /// Only strays, events about unknown records, tasks without records, and profiles of nodes without anything else.
    pub only_worthless: bool,
    /// Objects of fewer stored bytes are kept.
    pub min_bytes: usize,
    /// Whether the level of a signer protects its objects. Trusted keys are always protected.
    pub keeps_known: bool,
    /// Most dropped objects that are remembered.
    pub most_dropped: u64,
}

/// By the number of a parent, a child that is better by the reference's rules: it keeps the parent off that frontier. So
/// the children of a parent are not looked through for each of them that is dropped. A hint, which is checked.
pub type Rivals = HashMap<u64, u64>;

/// Most parents whose better child is remembered, of 32 bytes each.
const RIVALS: usize = 16_384;

/// Children looked at beyond the first better one, for the one that arrived first: the last to arrive are dropped first,
/// so this one stays the longest.
const RIVALS_LOOKED_AT: usize = 4096;

impl InsertBatch<'_> {
    /// Drops the object of this sequence number if the rules allow it. Returns the bytes that it took, about.
    ///
    /// # Errors
    /// When the store cannot be read. The batch must not be written then.
    pub fn drop_object(&mut self, number: u64, rules: &DropRules) -> Result<Option<u64>> {
        let Some(stored) = self.view.get(Column::Objects, &keys::number(number))? else { return Ok(None) };
        if stored.len() < rules.min_bytes {
            return Ok(None);
        }
        // The row decides about a record. Most are kept, and need not be decoded.
        if values::stored_kind(&stored)? == Kind::Experiment {
            let row = self.row(number)?.clone();
            if !self.is_droppable(&row, rules)? {
                return Ok(None);
            }
        }
        let dropped = match values::decode_stored(&stored)? {
            SignedObject::Experiment(record) => {
                self.drop_record(number, &record, rules)?;
                true
            }
            SignedObject::Control(event) => self.drop_event(number, &event, rules)?,
            SignedObject::Task(manifest) => self.drop_manifest(number, &manifest, rules)?,
            SignedObject::Profile(profile) => self.drop_profile(number, &profile, rules)?,
        };
        Ok(dropped.then_some(stored.len() as u64))
    }

    fn is_kept(&self, signer: &NodeId, task: Option<&TaskId>, rules: &DropRules) -> bool {
        self.seeds.contains(signer)
            || rules.own.contains(signer)
            || task.is_some_and(|task| rules.pinned.contains(task))
    }

    /// Drops a record that may be dropped.
    fn drop_record(&mut self, number: u64, record: &Signed<Record>, rules: &DropRules) -> Result<()> {
        let row = self.row(number)?.clone();
        let (id, task) = (row.summary.id, row.summary.task_id);
        if row.parent_number == 0 {
            self.remove_root(&row)?;
        }
        // A root that was removed is a stray now.
        let row = self.row(number)?.clone();
        let class = keys::class(&row.summary.class);
        self.leave_lists(&row, &class)?;
        self.view.delete(Column::WorksOf, keys::work_of(&row.summary.node_id, &class, number));
        for listing in [TimeList::Records, TimeList::NodeRecords(row.summary.node_id)] {
            self.remove_from_list(listing, &row.moment())?;
        }
        self.bury(Kind::Experiment, Some(TimeList::TaskRecords(task)), &row.moment(), rules)?;
        if row.parent_number > 0 {
            self.view.delete(Column::Children, keys::child(row.parent_number, &row.moment()));
            self.restore_parent(&row)?;
        }
        self.forget_words(record, number)?;
        self.uncount_publisher(&row, &class)?;
        let state = self.class(&task, &row.summary.class)?;
        state.records = state.records.saturating_sub(1);
        self.tally.counted.remove(row.summary.status);
        self.rank_changed.insert(task);
        self.remove_object(Kind::Experiment, &id.into(), number, Some(task));
        self.view.delete(Column::Records, keys::number(number));
        self.cache.rows.remove(number);
        self.changed_rows.remove(&number);
        self.unjudged.remove(&number);
        self.unawarded.remove(&number);
        Ok(())
    }

    fn is_droppable(&mut self, row: &RecordRow, rules: &DropRules) -> Result<bool> {
        let s = &row.summary;
        // Its events are gone before it is: see below. So the global verdict, which anybody's keys can make, is open too.
        if s.verdict != Verdict::Unverified || s.received_at >= rules.before || rules.only_worthless && !s.stray {
            return Ok(false);
        }
        let (signer, task, class) = (s.node_id, s.task_id, keys::class(&s.class));
        if self.is_kept(&signer, Some(&task), rules) {
            return Ok(false);
        }
        if rules.keeps_known && (self.level(&signer, &class)?.is_some() || self.node(Some(task), signer)?.confirmed > 0)
        {
            return Ok(false);
        }
        let has = |column, prefix: &[u8]| self.view.first(column, prefix, None, KeyOrder::Ascending);
        let number = row.number().to_be_bytes();
        Ok(has(Column::Children, &number)?.is_none()
            && has(Column::Works, &number)?.is_none()
            && has(Column::About, &row.summary.id.0)?.is_none()
            && !self.view.has(Column::Awards, &number)?
            && !self.is_awaited(&row.summary.id)?)
    }

    /// Removes a parentless record from the roots. Another root may follow it.
    fn remove_root(&mut self, row: &RecordRow) -> Result<()> {
        let s = &row.summary;
        for of in [None, Some(&s.node_id)] {
            self.view.delete(Column::Roots, keys::root(&s.task_id, of, s.timestamp, &s.id));
        }
        let mut known = self.task(&s.task_id)?.clone();
        if s.task_id == TaskId::from(s.id) {
            known.founder = None;
        }
        self.update_task(&s.task_id, known)
    }

    /// Takes a record from its task's lists and counters.
    fn leave_lists(&mut self, row: &RecordRow, class: &ClassKey) -> Result<()> {
        let s = &row.summary;
        if s.stray {
            let state = self.task(&s.task_id)?;
            state.strays = state.strays.saturating_sub(1);
            return Ok(());
        }
        self.view.delete(Column::ClassRecords, keys::class_record(&s.task_id, class, &row.moment()));
        let goal = self.task(&s.task_id)?.goal();
        if s.status != Status::Crash {
            self.view.delete(Column::Metrics, keys::metric(&s.task_id, goal, s.metric, &row.moment()));
        }
        if s.on_reference_frontier {
            self.set_reference(row, false)?;
        }
        if Places::of(s).claim {
            self.set_claim(row, false)?;
        }
        self.task(&s.task_id)?.counted.remove(s.status);
        self.class(&s.task_id, &s.class)?.counted.remove(s.status);
        Ok(())
    }

    /// Puts a record's parent on the reference's frontier again, if the record alone kept it off. The record is no
    /// child any more.
    fn restore_parent(&mut self, row: &RecordRow) -> Result<()> {
        let s = &row.summary;
        let parent = self.row(row.parent_number)?.clone();
        let p = &parent.summary;
        if s.stray || s.status != Status::Keep || p.status != Status::Keep || p.stray || p.on_reference_frontier {
            return Ok(());
        }
        let goal = self.task(&s.task_id)?.goal();
        let candidate = parent.candidate();
        // Otherwise another child keeps the parent off.
        if !beats(&FrontierKind::Reference, goal, &row.candidate(), &candidate) {
            return Ok(());
        }
        let is_better = |number: u64| {
            looked_at_a_row();
            let child = lookup::row(&self.view, number)?;
            let better = beats(&FrontierKind::Reference, goal, &child.candidate(), &candidate);
            Ok::<_, StoreError>(child.summary.status == Status::Keep && better)
        };
        if let Some(known) = self.rivals.get(&row.parent_number)
            && *known != row.number()
            && self.view.has(Column::Records, &keys::number(*known))?
            && is_better(*known)?
        {
            return Ok(());
        }
        let (mut better, mut looked_at) = (None, 0);
        self.view.each(Column::Children, &row.parent_number.to_be_bytes(), &mut |key, _| {
            let number = keys::last_number(key)?;
            if better.is_none_or(|better| number < better) && is_better(number)? {
                better = Some(number);
            }
            looked_at += usize::from(better.is_some());
            Ok(if looked_at > RIVALS_LOOKED_AT { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        let Some(better) = better else { return self.set_reference(&parent, true) };
        if self.rivals.len() >= RIVALS {
            self.rivals.clear();
        }
        self.rivals.insert(row.parent_number, better);
        Ok(())
    }

    /// Removes a record from the uses of its words.
    fn forget_words(&mut self, record: &Record, number: u64) -> Result<()> {
        let mut used = BTreeSet::new();
        for word in [&record.description, &record.hypothesis].into_iter().flat_map(|text| words::words(text)) {
            if used.len() == words::MAX_WORDS {
                break;
            }
            used.insert(word.to_string());
        }
        let (block, low) = keys::word_use(number);
        for word in used {
            let key = keys::word_uses(&word, block);
            let Some(mut uses) = self.view.get(Column::Words, &key)? else { continue };
            uses.retain(|other| *other != low);
            if uses.is_empty() {
                self.view.delete(Column::Words, key);
            } else {
                self.view.put(Column::Words, key, uses);
            }
        }
        Ok(())
    }

    /// Counts a record less of its publisher. The record is in no list of the publisher any more.
    fn uncount_publisher(&mut self, row: &RecordRow, class: &ClassKey) -> Result<()> {
        let s = &row.summary;
        for task in [None, Some(s.task_id)] {
            let key = keys::publisher(task.as_ref(), &s.node_id, class);
            let publisher = self.publisher(key.clone(), &s.class)?;
            publisher.experiments = publisher.experiments.saturating_sub(1);
            let (left, first, last) = (publisher.experiments, publisher.first, publisher.last);
            if left > 0 && s.timestamp == first {
                let found = self.end_of(row, class, task, KeyOrder::Ascending)?;
                self.publisher(key.clone(), &s.class)?.first = found.unwrap_or(first);
            }
            if left > 0 && s.timestamp == last {
                let found = self.end_of(row, class, task, KeyOrder::Descending)?;
                self.publisher(key, &s.class)?.last = found.unwrap_or(last);
            }
            let node = self.node(task, s.node_id)?;
            node.experiments = node.experiments.saturating_sub(1);
            let gone = node.experiments == 0;
            if let (Some(task), true) = (task, gone) {
                let state = self.task(&task)?;
                state.nodes = state.nodes.saturating_sub(1);
            }
        }
        Ok(())
    }

    /// The timestamp of the publisher's first or last record of a class, in a task or in all, once `row`, which was the
    /// first or last, is in no list any more. So it begins at that time: there is none of the class before or after it.
    fn end_of(&self, row: &RecordRow, class: &ClassKey, task: Option<TaskId>, way: KeyOrder) -> Result<Option<u64>> {
        let mut found = None;
        let prefix = TimeList::NodeRecords(row.summary.node_id).prefix();
        let mut from = [prefix.as_slice(), &row.summary.timestamp.to_be_bytes()].concat();
        if way == KeyOrder::Descending {
            // The rest of a key has 16 bytes.
            from.extend([u8::MAX; 17]);
        }
        self.view.walk(Column::Timeline, &prefix, Some(&from), way, &mut |key, _| {
            looked_at_a_row();
            let other = lookup::row(&self.view, keys::last_number(key)?)?.summary;
            if keys::class(&other.class) == *class && task.is_none_or(|task| task == other.task_id) {
                found = Some(other.timestamp);
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(found)
    }

    fn drop_event(&mut self, number: u64, event: &Signed<ControlEvent>, rules: &DropRules) -> Result<bool> {
        let (id, signer, logged) = (event.id(), event.node_id, self.claimed_task(number)?);
        let about = event.experiment_id();
        let subject =
            about.map(|record| lookup::number_of(&self.view, Kind::Experiment, &record.into())).transpose()?.flatten();
        let subject = match subject {
            Some(number) => Some(self.row(number)?.clone()),
            None => None,
        };
        let task = subject.as_ref().map(|row| row.summary.task_id).or(logged);
        if self.is_kept(&signer, task.as_ref(), rules) || rules.only_worthless && subject.is_some() {
            return Ok(false);
        }
        if let Some(row) = &subject
            && (rules.why == WhyDropped::Room && row.summary.received_at >= rules.before
                || !self.remove_work(row, event)?)
        {
            return Ok(false);
        }
        let moment = Moment { timestamp: event.timestamp, id, number };
        self.remove_from_list(TimeList::Controls, &moment)?;
        self.bury(Kind::Control, task.map(TimeList::TaskControls), &moment, rules)?;
        self.tally.controls = self.tally.controls.saturating_sub(1);
        if let Some(record) = about {
            self.view.delete(Column::About, keys::about(&record, &signer, event.timestamp, &id.into()));
            self.tally.early = self.tally.early.saturating_sub(u64::from(subject.is_none()));
        }
        self.remove_object(Kind::Control, &id, number, logged);
        if let Some(row) = &subject {
            self.measure_rest(row, &signer)?;
            // At once, so that the record itself may go next.
            self.judge_all()?;
        }
        Ok(true)
    }

    /// Removes what an event found about a record. False when it weighs, so that it must be kept.
    fn remove_work(&mut self, row: &RecordRow, event: &Signed<ControlEvent>) -> Result<bool> {
        // The global verdict protects nothing: anybody makes it with a second key.
        if row.summary.verdict != Verdict::Unverified {
            return Ok(false);
        }
        let (number, signer, class) = (row.number(), event.node_id, keys::class(&row.summary.class));
        if self.level(&signer, &class)?.is_some() || self.view.has(Column::Awards, &keys::number(number))? {
            return Ok(false);
        }
        let mark_key = keys::work_of(&signer, &class, number);
        let mark = self.view.get(Column::WorksOf, &mark_key)?.map(|mark| WorkMark::decode(&mark)).transpose()?;
        let Some(WorkMark::Measured(at)) = mark else { return Ok(true) };
        let key = keys::work(number, at, keys::rank(&row.summary.id, &signer), &signer);
        let work = self.view.get(Column::Works, &key)?.ok_or(Damage::Value("a signer's work is missing"))?;
        let work = Work::decode(&work)?;
        if work.event_id != event.id().into() {
            return Ok(true);
        }
        if at != UNKNOWN || work.contribution.is_some() {
            return Ok(false);
        }
        self.list_measurement(row.summary.task_id, signer, &work, false)?;
        self.view.delete(Column::WorksOf, mark_key);
        self.view.delete(Column::Works, key);
        self.unjudged.insert(number);
        Ok(true)
    }

    /// Lets the signer's other measurements of a record count, of which one was removed.
    fn measure_rest(&mut self, row: &RecordRow, signer: &NodeId) -> Result<()> {
        let mut others = Vec::new();
        self.view.each(Column::About, &keys::events(&row.summary.id, signer), &mut |_, value| {
            if keys::is_measurement(value) {
                others.push(keys::number_at(value, 0)?);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        for other in others {
            if let Some(found) = measurement(&lookup::event(&self.view, other)?) {
                self.measure(row.number(), &found)?;
            }
        }
        Ok(())
    }

    /// Drops a manifest of which no record is stored.
    fn drop_manifest(&mut self, number: u64, manifest: &Signed<TaskManifest>, rules: &DropRules) -> Result<bool> {
        let (id, signer) = (manifest.id(), manifest.created_by);
        let task = TaskId::from(id);
        let state = self.task(&task)?.clone();
        let bare = state.root.is_none() && state.founder.is_none() && state.strays == 0 && state.nodes == 0;
        if !bare || self.is_kept(&signer, Some(&task), rules) {
            return Ok(false);
        }
        let moment = Moment { timestamp: manifest.timestamp, id, number };
        self.bury(Kind::Task, Some(TimeList::Manifests), &moment, rules)?;
        self.view.delete(Column::Creators, keys::created(&signer, &task));
        self.remove_object(Kind::Task, &id, number, Some(task));
        // Nothing else is stored of the task, so no tree moves. The terms were the manifest's.
        let state = self.task(&task)?;
        (state.manifest, state.terms) = (None, None);
        self.rank_changed.insert(task);
        Ok(true)
    }

    /// Drops the profile of a node of which nothing else is stored.
    fn drop_profile(&mut self, number: u64, profile: &Signed<NodeProfile>, rules: &DropRules) -> Result<bool> {
        let (id, signer) = (profile.id(), profile.node_id);
        let known = rules.why == WhyDropped::Room && *self.node(None, signer)? != NodeState::default();
        if known || self.is_kept(&signer, None, rules) {
            return Ok(false);
        }
        let moment = Moment { timestamp: profile.timestamp, id, number };
        self.bury(Kind::Profile, Some(TimeList::Profiles), &moment, rules)?;
        self.view.delete(Column::Profiles, signer.0.to_vec());
        self.tally.profiles = self.tally.profiles.saturating_sub(1);
        self.remove_object(Kind::Profile, &id, number, None);
        Ok(true)
    }

    /// Removes an object and its entry in the change log. `task` is the task of that entry.
    fn remove_object(&mut self, kind: Kind, id: &spore_protocol::ObjectId, number: u64, task: Option<TaskId>) {
        self.dirty = true;
        self.view.delete(Column::Ids, keys::id(kind, id));
        self.view.delete(Column::Objects, keys::number(number));
        self.view.delete(Column::Log, keys::number(number));
        if let Some(task) = task {
            self.view.delete(Column::LogByTask, keys::task_sequence(&task, number));
        }
    }
}

#[cfg(test)]
thread_local! {
    /// Rows of other records that removals of this thread looked at.
    pub static LOOKED_AT: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts a row, for tests.
fn looked_at_a_row() {
    #[cfg(test)]
    LOOKED_AT.with(|count| count.set(count.get() + 1));
}
