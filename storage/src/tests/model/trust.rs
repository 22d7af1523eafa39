//! Standings, who measured what, and claims in turn, against their definitions.

use std::collections::BTreeSet;

use spore_protocol::{HardwareClass, NodeId, RecordId, TaskId, frontier::FrontierKind};

use super::{super::objects::identity, CLASSES, SWEEPER, oracle::Oracle};
use crate::Store;

impl Oracle {
    pub fn compare_trust(&self, store: &Store) {
        let signers: Vec<NodeId> = (0..=SWEEPER).map(|i| identity(i).node_id()).collect();
        for class in CLASSES.map(HardwareClass::of) {
            let mut weighty = BTreeSet::new();
            for node in &signers {
                let standing = self.standing(node, &class);
                assert_eq!(store.standing(node, &class).unwrap(), standing);
                let listed = store.standings(node).unwrap().into_iter().find(|(other, _)| *other == class);
                let earned = (standing.confirmed, standing.refuted) != (0, 0);
                assert_eq!(listed, earned.then(|| (class.clone(), standing)));
                weighty.extend(standing.level.map(|_| *node));
            }
            let listed = store.weighty(&class, 99).unwrap();
            let levels: Vec<_> = listed.iter().map(|node| self.standing(node, &class).level).collect();
            assert!(levels.is_sorted(), "{levels:?}");
            assert_eq!(listed.len(), weighty.len());
            assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), weighty);
        }
        for (id, of) in &self.measurements {
            for node in of.keys() {
                assert!(store.measured_by(node, id).unwrap());
            }
        }
    }

    pub fn compare_turns(&self, task: &TaskId, class: &HardwareClass, store: &Store) {
        let claims = self.frontier(task, &FrontierKind::Claims(class.clone()));
        let publisher = |id: &RecordId| self.places[id].0.node_id;
        let publishers: BTreeSet<NodeId> = claims.iter().map(publisher).collect();
        let turn = |after: Option<NodeId>, publishers, each| {
            let claims = store.claims_in_turn(task, class, after, publishers, each).unwrap();
            claims.iter().map(|r| r.id).collect::<Vec<_>>()
        };
        let best_of = |node: &NodeId, each| {
            claims.iter().filter(|id| publisher(id) == *node).take(each).copied().collect::<Vec<_>>()
        };
        let all: Vec<_> = publishers.iter().flat_map(|node| best_of(node, 2)).collect();
        assert_eq!(turn(None, 99, 2), all);
        for node in &publishers {
            let after = publishers.iter().filter(|other| *other > node);
            let rest = publishers.iter().filter(|other| *other <= node);
            let expected: Vec<_> = after.chain(rest).flat_map(|node| best_of(node, 1)).collect();
            assert_eq!(turn(Some(*node), 99, 1), expected);
            assert_eq!(turn(Some(*node), 1, 1), expected.into_iter().take(1).collect::<Vec<_>>());
        }
    }
}
