//! The plain definitions by examples.

use super::*;
use crate::reputation::Deed;

fn record(id: u8, parent: Option<u8>, class: &str, metric: f64, status: Status) -> FrontierRecord {
    let id_of = |n| RecordId([n; 32]);
    FrontierRecord {
        id: id_of(id),
        parent: parent.map(id_of),
        status,
        class: HardwareClass::of(class),
        metric,
        timestamp: id.into(),
        comparable: true,
        local: Verdict::Verified,
        global: Verdict::Unverified,
    }
}

fn ids(frontier: &[FrontierRecord]) -> Vec<u8> {
    frontier.iter().map(|c| c.id.0[0]).collect()
}

#[test]
fn frontier_ignores_children_of_another_class_and_of_another_status() {
    let records = [
        record(1, None, "CPU", 1.0, Status::Keep),
        record(2, Some(1), "H100", 0.5, Status::Keep),
        record(3, Some(1), "CPU", 0.9, Status::Discard),
        record(4, Some(1), "CPU", 1.0, Status::Keep),
    ];
    let cpu = FrontierKind::Local(HardwareClass::of("CPU"));
    assert_eq!(ids(&frontier(Goal::Minimize, &cpu, &records)), [1, 4]);
    assert_eq!(ids(&frontier(Goal::Minimize, &FrontierKind::Reference, &records)), [2, 4]);
    assert_eq!(ids(&frontier(Goal::Maximize, &FrontierKind::Reference, &records)), [1, 4, 2]);
}

#[test]
fn rejected_child_never_takes_its_parent_off_a_frontier_of_what_holds() {
    let parent = record(1, None, "CPU", 1.0, Status::Keep);
    let cpu = HardwareClass::of("CPU");
    for (verdict, on, claims) in [
        (Verdict::Unverified, vec![1], vec![2]),
        (Verdict::Disputed, vec![1], vec![2]),
        (Verdict::Rejected, vec![1], vec![]),
        (Verdict::Upheld, vec![2], vec![]),
    ] {
        let child = FrontierRecord { local: verdict, ..record(2, Some(1), "CPU", 0.5, Status::Keep) };
        let records = [parent.clone(), child];
        let list = |kind: FrontierKind| ids(&frontier(Goal::Minimize, &kind, &records));
        assert_eq!(list(FrontierKind::Local(cpu.clone())), on, "{verdict:?}");
        assert_eq!(list(FrontierKind::Claims(cpu.clone())), claims, "{verdict:?}");
        assert!(list(FrontierKind::Global(cpu.clone())).is_empty());
        assert_eq!(list(FrontierKind::Reference), [2], "the reference believes claims");
    }
}

#[test]
fn claims_are_sorted_and_nothing_beats_them() {
    let open = |id, parent, metric| FrontierRecord {
        local: Verdict::Unverified,
        ..record(id, parent, "CPU", metric, Status::Keep)
    };
    let flawed = FrontierRecord { comparable: false, ..open(4, None, 0.1) };
    let records = [open(1, None, 1.0), open(2, Some(1), 0.5), open(3, Some(2), 0.7), flawed];
    let claims = FrontierKind::Claims(HardwareClass::of("CPU"));
    assert_eq!(ids(&frontier(Goal::Minimize, &claims, &records)), [2, 3, 1]);
}

#[test]
fn reputation_is_clamped_after_each_deed_in_order() {
    let node = NodeId([1; 32]);
    let deed = |at: u64, deed| DatedDeed { at: (at, ObjectId([0; 32])), node, deed };
    let mut deeds: Vec<_> = (0..60).map(|i| deed(i, Deed::FrontierAdvance)).collect();
    deeds.push(deed(100, Deed::DisputeLost));
    deeds.reverse();
    assert_eq!(reputation(deeds).get(&node), Some(&95.0));
}
