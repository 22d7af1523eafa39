//! What nodes did, and the reputation that is folded from it.
//!
//! Each node's deeds lie in the order in which they count, so a verdict changes the deeds of few
//! nodes. A deed after all others is added to the reputation; one that comes in between, or goes,
//! makes that node's reputation be folded again.

use std::ops::ControlFlow;

use spore_protocol::{
    EventId, NodeId, TaskId,
    reputation::{Deed, LIMITS},
};

use super::InsertBatch;
use crate::{
    columns::Column,
    db::{KeyOrder, KeyReader},
    error::{Damage, Result},
    keys,
    values::{Award, deed_of_rank},
};

/// What became of a node's deeds in this batch.
pub(super) enum DeedChanges {
    /// These came after all others.
    Added(Vec<Vec<u8>>),
    /// Fold all of them again.
    All,
}

impl InsertBatch<'_> {
    pub(super) fn give_award(&mut self, award: &Award, task: TaskId) -> Result<()> {
        let key = keys::deed(&award.node, award.at, award.rank);
        let later = self.view.first(Column::Deeds, &award.node.0, Some(&key), KeyOrder::Ascending)?;
        let unfolded = self.unfolded.entry(award.node).or_insert_with(|| DeedChanges::Added(Vec::new()));
        match unfolded {
            DeedChanges::Added(keys) if later.is_none() => keys.push(key.clone()),
            _ => *unfolded = DeedChanges::All,
        }
        self.view.put(Column::Deeds, key, Vec::new());
        if deed_of_rank(award.rank) == Some(Deed::VerificationPerformed) {
            for task in [None, Some(task)] {
                self.node(task, award.node)?.verifications += 1;
                let key = keys::measured(task.as_ref(), &award.node, award.at.0, &EventId::from(award.at.1));
                self.view.put(Column::Measured, key, Vec::new());
            }
        }
        Ok(())
    }

    pub(super) fn take_award(&mut self, award: &Award, task: TaskId) -> Result<()> {
        self.view.delete(Column::Deeds, keys::deed(&award.node, award.at, award.rank));
        self.unfolded.insert(award.node, DeedChanges::All);
        if deed_of_rank(award.rank) == Some(Deed::VerificationPerformed) {
            for task in [None, Some(task)] {
                let node = self.node(task, award.node)?;
                node.verifications = node.verifications.saturating_sub(1);
                let key = keys::measured(task.as_ref(), &award.node, award.at.0, &EventId::from(award.at.1));
                self.view.delete(Column::Measured, key);
            }
        }
        Ok(())
    }

    /// Brings the reputations up to date.
    pub(super) fn fold_deeds(&mut self) -> Result<()> {
        for (node, unfolded) in std::mem::take(&mut self.unfolded) {
            let reputation = match unfolded {
                DeedChanges::Added(keys) => {
                    let mut reputation = self.node(None, node)?.reputation.unwrap_or_default();
                    for key in keys {
                        reputation = after(reputation, &key)?;
                    }
                    Some(reputation)
                }
                DeedChanges::All => self.fold_all(&node)?,
            };
            self.node(None, node)?.reputation = reputation;
        }
        Ok(())
    }

    fn fold_all(&self, node: &NodeId) -> Result<Option<f64>> {
        let mut reputation = None;
        self.view.each(Column::Deeds, &node.0, &mut |key, _| {
            reputation = Some(after(reputation.unwrap_or_default(), key)?);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(reputation)
    }
}

/// A reputation after one more deed.
fn after(reputation: f64, key: &[u8]) -> Result<f64> {
    let deed = key.last().copied().and_then(deed_of_rank).ok_or(Damage::Value("a deed is unknown"))?;
    Ok((reputation + deed.delta()).clamp(LIMITS.0, LIMITS.1))
}
