//! The policy over made-up records: whom to re-run, when to answer, what the runs prove.

use spore_protocol::{
    Verdict,
    finding::Finding,
    terms::Flaw,
    trust::{Counters, Level},
    verdict::Support,
};

use super::*;
use crate::made_up::summary;

const US: NodeId = NodeId([1; 32]);
const PUBLISHER: NodeId = NodeId([2; 32]);
const CHALLENGER: NodeId = NodeId([3; 32]);

fn policy(rate: f64) -> Policy {
    Policy { node: US, class: HardwareClass::of("CPU"), rate, secret: [9; 32] }
}

fn record(id: u8) -> RecordSummary {
    RecordSummary { time_budget: u64::MAX, ..summary(RecordId([id; 32]), PUBLISHER, "CPU", 2.0) }
}

fn dispute(closed: bool) -> Dispute {
    Dispute { challenger: CHALLENGER, finding: Finding::Value(2.5), opened: 1000, closed }
}

fn open(weighty: &[NodeId]) -> OpenDispute {
    let record = RecordSummary { verdict: Verdict::Disputed, ..record(7) };
    let weighty = weighty.to_vec();
    OpenDispute { record, dispute: dispute(false), time_budget: 20, goal: Goal::Minimize, weighty }
}

#[test]
fn own_crashed_foreign_flawed_and_stray_records_are_not_rerun() {
    let unfit = [
        RecordSummary { node_id: US, ..record(1) },
        RecordSummary { status: Status::Crash, ..record(2) },
        RecordSummary { class: HardwareClass::of("H100"), ..record(3) },
        RecordSummary { stray: true, ..record(4) },
        RecordSummary { code_cid: None, ..record(5) },
        RecordSummary { flaw: Some(Flaw::NoSteps), ..record(6) },
    ];
    assert!(!unfit.iter().any(|record| policy(1.0).wants(record)));
    assert!(policy(1.0).wants(&RecordSummary { status: Status::Discard, ..record(9) }));
}

#[test]
fn rate_is_kept_and_the_choice_is_stable() {
    let share = |rate: f64| (0..=255_u8).filter(|id| policy(rate).wants(&record(*id))).count();
    assert_eq!((share(0.0), share(1.0)), (0, 256));
    assert!((40..90).contains(&share(0.25)), "{}", share(0.25));
    let more: Vec<u8> = (0..=255).filter(|id| policy(0.6).wants(&record(*id))).collect();
    assert!((0..=255_u8).filter(|id| policy(0.25).wants(&record(*id))).all(|id| more.contains(&id)));
}

#[test]
fn sample_depends_on_a_secret_and_not_on_the_node() {
    let sample = |policy: Policy| -> Vec<u8> { (0..=255).filter(|id| policy.wants(&record(*id))).collect() };
    let ours = sample(policy(0.5));
    assert_eq!(sample(Policy { node: CHALLENGER, ..policy(0.5) }), ours);
    assert_ne!(sample(Policy { secret: [8; 32], ..policy(0.5) }), ours);
}

#[test]
fn assigned_verifiers_answer_at_once_and_others_after_silence() {
    let crowd: Vec<NodeId> = (10..40).map(|n| NodeId([n; 32])).chain([US]).collect();
    let ranked = assigned(&subject(&record(7), Goal::Minimize), CHALLENGER, crowd.clone());
    for (rank, node) in ranked.iter().enumerate() {
        let policy = Policy { node: *node, ..policy(0.0) };
        let turns = (rank as u64 + 1).saturating_sub(3);
        let begins = 1000 + turns * 120;
        assert!(policy.answers(&open(&crowd), begins), "rank {rank}");
        assert!(turns == 0 || !policy.answers(&open(&crowd), begins - 1), "rank {rank}");
    }
}

#[test]
fn node_without_weight_stands_in_last_or_at_once_when_few_have_weight() {
    let crowd: Vec<NodeId> = (10..13).map(|n| NodeId([n; 32])).collect();
    assert!(!policy(1.0).answers(&open(&crowd), 1119) && policy(1.0).answers(&open(&crowd), 1120));
    assert!(policy(1.0).answers(&open(&[]), 1000));
    assert!(policy(1.0).answers(&open(&[]), 5), "a challenge from the future is no trap");
    let publisher = Policy { node: PUBLISHER, ..policy(1.0) };
    let challenger = Policy { node: CHALLENGER, ..policy(1.0) };
    assert!(!publisher.answers(&open(&[]), 9000) && !challenger.answers(&open(&[]), 9000));
}

#[test]
fn verifiers_wait_for_the_budget_of_the_task() {
    assert_eq!((silence(0), silence(20), silence(3600), silence(u64::MAX)), (120, 120, 6 * 3600, 6 * 86_400));
    // The record claims a budget of ages. The task's is 20 s.
    let crowd: Vec<NodeId> = (10..14).map(|n| NodeId([n; 32])).collect();
    let ranked = assigned(&subject(&record(7), Goal::Minimize), CHALLENGER, crowd.clone());
    let stand_in = Policy { node: ranked[3], ..policy(1.0) };
    assert!(stand_in.answers(&open(&crowd), 1120));
}

#[test]
fn two_runs_must_agree_before_a_record_is_contradicted() {
    use Found::{Nothing, Reason as Why, Value};
    let near = |value: f64| (value - 2.0_f64).abs() <= 0.002;
    let slow = || Nothing("slow".into());
    for (first, second, ruling) in [
        (Value(2.0015), None, Ruling::Holds(2.0015)),
        (Value(2.5), None, Ruling::RunAgain),
        (Why(Reason::NotCausal), None, Ruling::RunAgain),
        (slow(), None, Ruling::Unreliable),
        (Value(2.5), Some(Value(2.501)), Ruling::Fails(2.5)),
        (Value(2.5), Some(Value(2.0)), Ruling::Holds(2.0)),
        (Value(2.5), Some(slow()), Ruling::Unreliable),
        (Value(2.5), Some(Why(Reason::OverBudget)), Ruling::Unreliable),
        (Why(Reason::OverBudget), Some(Why(Reason::OverBudget)), Ruling::Refuted(Reason::OverBudget)),
        (Why(Reason::OverBudget), Some(Why(Reason::Diverges)), Ruling::Unreliable),
        (Why(Reason::OverBudget), Some(Value(2.001)), Ruling::Holds(2.001)),
        (Why(Reason::OverBudget), Some(Value(2.5)), Ruling::Unreliable),
    ] {
        assert_eq!(rule(&first, second.as_ref(), near), ruling, "{first:?} {second:?}");
    }
}

#[test]
fn measurement_answers_an_open_challenge_of_another_node() {
    let judged = |dispute| Assessment {
        verdict: Verdict::Disputed,
        ground_truth: None,
        measurements: Vec::new(),
        support: Support::default(),
        dispute,
    };
    assert_eq!(to_answer(&judged(Some(dispute(false))), US), Some(CHALLENGER));
    assert_eq!(to_answer(&judged(Some(dispute(false))), CHALLENGER), None);
    assert_eq!(to_answer(&judged(Some(dispute(true))), US), None);
    assert_eq!(to_answer(&judged(None), US), None);
}

#[test]
fn owners_take_turns_whatever_the_number_of_their_items() {
    let owner = |item: &(u8, u8)| NodeId([item.0; 32]);
    let items = vec![(1, 0), (1, 1), (1, 2), (2, 0), (3, 0), (3, 1)];
    let turns = |after| in_turn(items.clone(), owner, after);
    assert_eq!(turns(None), [(1, 0), (2, 0), (3, 0), (1, 1), (3, 1), (1, 2)]);
    assert_eq!(turns(Some(NodeId([1; 32]))), [(2, 0), (3, 0), (1, 0), (3, 1), (1, 1), (1, 2)]);
    assert_eq!(turns(Some(NodeId([9; 32]))), turns(None));
}

#[test]
fn publisher_of_three_refuted_records_waits_unless_seeds_confirmed_many() {
    let standing = |confirmed, refuted| Standing::of(false, Counters { confirmed, refuted });
    assert!(!waits(&standing(0, 2)) && waits(&standing(0, 3)));
    assert!(!waits(&standing(21, 3)), "{:?}", standing(21, 3));
    assert_eq!(Standing::of(true, Counters { confirmed: 0, refuted: 9 }).level, Some(Level::Seed));
    assert!(!waits(&Standing::of(true, Counters { confirmed: 0, refuted: 9 })));
}

#[test]
fn node_just_below_another_is_found_across_bytes() {
    let mut node = [7; 32];
    node[31] = 0;
    let mut below = [7; 32];
    (below[30], below[31]) = (6, 255);
    assert_eq!(before(NodeId(node)), Some(NodeId(below)));
    assert_eq!(before(NodeId([0; 32])), None);
}
