//! Nodes' deeds, and the reputation calculated from them.
//!
//! Each node's deeds are stored in the order in which they count, so that a verdict changes the deeds of few nodes. A
//! deed after all others of its node is added to the reputation. When a deed is inserted before others, or removed,
//! the node's reputation is calculated again from all its deeds.

use std::ops::ControlFlow;

use spore_protocol::{NodeId, reputation::LIMITS};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys,
    values::{Award, deed_of_rank},
};

/// How a node's deeds changed in this batch.
pub(super) enum DeedChanges {
    /// Keys of deeds that are after all others.
    Added(Vec<Vec<u8>>),
    /// The reputation has to be calculated from all deeds.
    All,
}

impl InsertBatch<'_> {
    pub(super) fn add_award(&mut self, award: &Award) -> Result<()> {
        let key = keys::deed(&award.node, award.at, award.rank);
        let later = self.view.first(Column::Deeds, &award.node.0, Some(&key), KeyOrder::Ascending)?;
        let deed_changes = self.deed_changes.entry(award.node).or_insert_with(|| DeedChanges::Added(Vec::new()));
        match deed_changes {
            DeedChanges::Added(keys) if later.is_none() => keys.push(key.clone()),
            _ => *deed_changes = DeedChanges::All,
        }
        self.view.put(Column::Deeds, key, Vec::new());
        Ok(())
    }

    pub(super) fn remove_award(&mut self, award: &Award) {
        self.view.delete(Column::Deeds, keys::deed(&award.node, award.at, award.rank));
        self.deed_changes.insert(award.node, DeedChanges::All);
    }

    /// Updates the reputation of each node whose deeds changed.
    pub(super) fn update_reputations(&mut self) -> Result<()> {
        for (node, deed_changes) in std::mem::take(&mut self.deed_changes) {
            let reputation = match deed_changes {
                DeedChanges::Added(keys) => {
                    let mut reputation = self.node(None, node)?.reputation.unwrap_or_default();
                    for key in keys {
                        reputation = after(reputation, &key)?;
                    }
                    Some(reputation)
                }
                DeedChanges::All => self.reputation_of_all_deeds(&node)?,
            };
            self.node(None, node)?.reputation = reputation;
        }
        Ok(())
    }

    fn reputation_of_all_deeds(&self, node: &NodeId) -> Result<Option<f64>> {
        let mut reputation = None;
        self.view.each(Column::Deeds, &node.0, &mut |key, _| {
            reputation = Some(after(reputation.unwrap_or_default(), key)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(reputation)
    }
}

/// The reputation after one more deed.
fn after(reputation: f64, key: &[u8]) -> Result<f64> {
    let deed = key.last().copied().and_then(deed_of_rank).ok_or(Damage::Value("a deed is unknown"))?;
    Ok((reputation + deed.delta()).clamp(LIMITS.0, LIMITS.1))
}
