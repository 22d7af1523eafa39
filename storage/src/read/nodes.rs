//! Questions about nodes.
//!
//! What a node did follows from all verdicts at once, in the order of their timestamps: it is
//! computed afresh when something changed since it was last asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::Arc,
};

use spore_protocol::{
    HardwareClass, NodeId, NodeProfile, ObjectId, RecordId, Signed, SignedObject, Status, TaskId,
    reputation::{Step, deeds, fold},
};

use super::{facts, first_ids, judgement, object, sequence, standing, task_state};
use crate::{
    columns::Column,
    db::{Source, View},
    error::{Result, StoreError},
    keys,
    store::Store,
    types::{NodeStats, Scope},
    values::{self, Facts, Publisher},
};

/// What every node did, as of one sequence number.
pub struct Deeds {
    pub sequence: u64,
    reputation: BTreeMap<NodeId, f64>,
    /// Measurements that count, and the newest one's time.
    verifications: BTreeMap<(TaskId, NodeId), (u64, u64)>,
}

impl Store {
    /// The profile in force.
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn profile(&self, node: &NodeId) -> Result<Option<Signed<NodeProfile>>> {
        let view = self.view();
        let Some(held) = view.get(Column::Profiles, &node.0)? else { return Ok(None) };
        let id = ObjectId(keys::last_id(&held)?);
        match object(&view, spore_protocol::Kind::Profile, &id)? {
            Some(SignedObject::Profile(profile)) => Ok(Some(profile)),
            _ => Err(StoreError::corrupt(format!("profile {id} is not here"))),
        }
    }

    /// The nodes that published or verified in a task, or anywhere, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn nodes(&self, task: Option<&TaskId>) -> Result<Vec<NodeStats>> {
        let view = self.view();
        let deeds = self.deeds(&view)?;
        let mut nodes = BTreeMap::<NodeId, (NodeStats, BTreeSet<HardwareClass>)>::new();
        let empty = |node_id| {
            let stats = NodeStats {
                node_id,
                experiment_count: 0,
                verification_count: 0,
                classes: Vec::new(),
                last_activity: 0,
            };
            (stats, BTreeSet::new())
        };
        let prefix = task.map_or(&[][..], |task| &task.0);
        view.each(Column::Publishers, prefix, &mut |key, value| {
            let publisher: Publisher = values::decode(value)?;
            let node = NodeId(keys::id_at(key, 32)?);
            let (stats, classes) = nodes.entry(node).or_insert_with(|| empty(node));
            stats.experiment_count += publisher.experiments;
            stats.last_activity = stats.last_activity.max(publisher.last);
            classes.insert(publisher.class);
            Ok(ControlFlow::Continue(()))
        })?;
        for ((in_task, node), (count, newest)) in &deeds.verifications {
            if task.is_none_or(|task| task == in_task) {
                let (stats, _) = nodes.entry(*node).or_insert_with(|| empty(*node));
                stats.verification_count += count;
                stats.last_activity = stats.last_activity.max(*newest);
            }
        }
        let finish =
            |(stats, classes): (NodeStats, BTreeSet<_>)| NodeStats { classes: classes.into_iter().collect(), ..stats };
        Ok(nodes.into_values().map(finish).collect())
    }

    /// The nodes whose id starts with these hex digits: publishers, verifiers and owners of profiles.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn resolve_node(&self, prefix: &str, limit: usize) -> Result<Vec<NodeId>> {
        let mut nodes: BTreeSet<_> = self.nodes(None)?.into_iter().map(|stats| stats.node_id).collect();
        for key in self.view().keys(Column::Profiles, &[])? {
            nodes.insert(NodeId(keys::last_id(&key)?));
        }
        let fits = |node: &NodeId| node.to_string().starts_with(prefix);
        Ok(nodes.into_iter().filter(fits).take(limit).collect())
    }

    /// Every node's reputation, from -100 to 100; a node that did nothing is not in it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn reputation(&self) -> Result<BTreeMap<NodeId, f64>> {
        Ok(self.deeds(&self.view())?.reputation.clone())
    }

    fn deeds(&self, view: &View<'_>) -> Result<Arc<Deeds>> {
        let sequence = sequence(view)?;
        let mut cached = self.cached_deeds();
        if let Some(deeds) = cached.as_ref().filter(|deeds| deeds.sequence == sequence) {
            return Ok(Arc::clone(deeds));
        }
        let deeds = Arc::new(all_deeds(view, sequence)?);
        *cached = Some(Arc::clone(&deeds));
        Ok(deeds)
    }
}

fn all_deeds(view: &View<'_>, sequence: u64) -> Result<Deeds> {
    let mut verifications = BTreeMap::<_, (u64, u64)>::new();
    let mut steps: Vec<Step> = Vec::new();
    let mut advances = BTreeMap::<TaskId, BTreeSet<RecordId>>::new();
    for id in subjects(view)? {
        let Some(facts) = facts(view, &id)? else { continue };
        let judgement = judgement(view, &facts)?;
        for m in judgement.counted() {
            let (count, newest) = verifications.entry((facts.task_id, m.node)).or_default();
            *count += 1;
            *newest = (*newest).max(m.timestamp);
        }
        let may_advance = judgement.verdict.holds() && facts.status == Status::Keep;
        if may_advance && !advances.contains_key(&facts.task_id) {
            advances.insert(facts.task_id, advancing(view, &facts.task_id)?);
        }
        let advanced = may_advance && advances.get(&facts.task_id).is_some_and(|ids| ids.contains(&id));
        steps.extend(deeds(&facts.subject(), &judgement, advanced));
    }
    Ok(Deeds { sequence, reputation: fold(steps), verifications })
}

/// The records that events speak of, here or not.
fn subjects(view: &View<'_>) -> Result<Vec<RecordId>> {
    let mut subjects = Vec::new();
    view.each(Column::About, &[], &mut |key, _| {
        let id = RecordId(keys::id_at(key, 0)?);
        if subjects.last() != Some(&id) {
            subjects.push(id);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(subjects)
}

/// The keeps of a task, strays left out, that were better than every earlier one of their class,
/// by (timestamp, id).
fn advancing(view: &View<'_>, task: &TaskId) -> Result<BTreeSet<RecordId>> {
    let goal = task_state(view, task)?.unwrap_or_default().goal();
    let mut best = BTreeMap::<HardwareClass, f64>::new();
    let mut advancing = BTreeSet::new();
    for id in first_ids(view, Column::Timeline, &keys::timeline_prefix(Scope::Task(*task)), usize::MAX)? {
        let Some(Facts { status: Status::Keep, class, metric, .. }) = facts(view, &id)? else { continue };
        if standing(view, &id)?.stray || best.get(&class).is_some_and(|best| !goal.better(metric, *best)) {
            continue;
        }
        best.insert(class, metric);
        advancing.insert(id);
    }
    Ok(advancing)
}
