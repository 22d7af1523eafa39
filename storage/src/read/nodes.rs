//! Questions about nodes. Each is answered from the state that batches keep of a node.

use std::{collections::BTreeSet, ops::ControlFlow};

use spore_protocol::{
    HardwareClass, Kind, NodeId, NodeProfile, ObjectId, Signed, SignedObject, TaskId, trust::Standing,
};

use super::{listing::IndexListing, whole::HexPrefix};
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys,
    lookup::{self, object},
    store::Store,
    types::{NodeStats, Page, Span},
    values::{self, NodeState, Publisher, StandingState},
};

/// Most classes of a node whose standings are returned. A node has few devices, but anybody can name any number.
const CLASSES: usize = 64;

impl Store {
    /// The node's profile in force.
    ///
    /// # Errors
    /// When the store cannot be read, as for all questions here.
    pub fn profile(&self, node: &NodeId) -> Result<Option<Signed<NodeProfile>>> {
        let view = self.view();
        let Some(held) = view.get(Column::Profiles, &node.0)? else { return Ok(None) };
        let id = ObjectId(keys::last_id(&held)?);
        match object(&view, Kind::Profile, &id)? {
            Some(SignedObject::Profile(profile)) => Ok(Some(profile)),
            _ => Err(Damage::NoObject { kind: Kind::Profile, id }.into()),
        }
    }

    /// The nodes that published or verified in a task, or anywhere, by id.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn nodes(&self, task: Option<&TaskId>) -> Result<Vec<NodeStats>> {
        let view = self.view();
        let prefix = keys::participants(task);
        let list = IndexListing { column: Column::Nodes, prefix: &prefix, order: KeyOrder::Ascending };
        list.head(&view, usize::MAX, |key, value| stats(&view, task, NodeId(keys::last_id(key)?), value))
    }

    /// As [`Store::nodes`], a page at a time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn nodes_page(&self, task: Option<&TaskId>, span: &Span) -> Result<Page<NodeStats>> {
        let view = self.view();
        let prefix = keys::participants(task);
        let list = IndexListing { column: Column::Nodes, prefix: &prefix, order: KeyOrder::Ascending };
        list.page(&view, span, |key, value| stats(&view, task, NodeId(keys::last_id(key)?), value))
    }

    /// What one node did in a task, or in all tasks.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn node(&self, task: Option<&TaskId>, node: &NodeId) -> Result<Option<NodeStats>> {
        let view = self.view();
        let state = view.get(Column::Nodes, &keys::participant(task, node))?;
        state.map(|value| stats(&view, task, *node, &value)).transpose()
    }

    /// What a node's works in a class earned it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn standing(&self, node: &NodeId, class: &HardwareClass) -> Result<Standing> {
        lookup::standing(&self.view(), node, &keys::class(class))
    }

    /// A node's standings in the first classes, in the order of their keys, where its works earned it anything.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn standings(&self, node: &NodeId) -> Result<Vec<(HardwareClass, Standing)>> {
        let view = self.view();
        let is_seed = lookup::seeds(&view)?.contains(node);
        let prefix = keys::standings(node);
        let list = IndexListing { column: Column::Standings, prefix: &prefix, order: KeyOrder::Ascending };
        list.head(&view, CLASSES, |_, value| {
            let state = StandingState::decode(value)?;
            Ok((state.class, Standing::of(is_seed, state.counters)))
        })
    }

    /// The first `limit` nodes with weight in a class: the trusted keys, then those of level 1, then of level 2.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn weighty(&self, class: &HardwareClass, limit: usize) -> Result<Vec<NodeId>> {
        let view = self.view();
        let seeds = lookup::seeds(&view)?;
        let mut nodes: Vec<_> = seeds.iter().copied().take(limit).collect();
        view.each(Column::Standings, &keys::all_weighty(&keys::class(class)), &mut |key, _| {
            if nodes.len() >= limit {
                return Ok(ControlFlow::Break(()));
            }
            let node = NodeId(keys::last_id(key)?);
            if !seeds.contains(&node) {
                nodes.push(node);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(nodes)
    }

    /// The nodes whose id starts with these hex digits: publishers, verifiers and nodes with a profile.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn resolve_node(&self, prefix: &str, limit: usize) -> Result<Vec<NodeId>> {
        let Some(prefix) = HexPrefix::parse(prefix) else { return Ok(Vec::new()) };
        let view = self.view();
        let mut nodes = BTreeSet::new();
        for (column, before) in [(Column::Nodes, keys::participants(None).as_slice()), (Column::Profiles, &[])] {
            nodes.extend(prefix.find(&view, column, before, limit)?.into_iter().map(NodeId));
        }
        Ok(nodes.into_iter().take(limit).collect())
    }
}

fn stats(source: &dyn KeyReader, task: Option<&TaskId>, node_id: NodeId, value: &[u8]) -> Result<NodeStats> {
    let state: NodeState = values::decode(value)?;
    let key = keys::participant(task, &node_id);
    let (mut classes, mut last_activity) = (BTreeSet::new(), 0);
    source.each(Column::Publishers, &key, &mut |_, value| {
        let publisher: Publisher = values::decode(value)?;
        last_activity = last_activity.max(publisher.last);
        classes.insert(publisher.class);
        Ok(ControlFlow::Continue(()))
    })?;
    if state.verifications > 0
        && let Some((newest, _)) = source.first(Column::Measured, &key, None, KeyOrder::Descending)?
    {
        last_activity = last_activity.max(keys::time_before_id(&newest)?);
    }
    let reputation = match task {
        None => state.reputation,
        Some(_) => {
            let overall = source.get(Column::Nodes, &keys::participant(None, &node_id))?;
            overall.map(|value| values::decode::<NodeState>(&value)).transpose()?.and_then(|state| state.reputation)
        }
    };
    Ok(NodeStats {
        node_id,
        experiment_count: state.experiments,
        verification_count: state.verifications,
        classes: classes.into_iter().collect(),
        last_activity,
        reputation,
    })
}
