//! The policy over made-up records: whom to re-run, when to answer, when to close.

use spore_protocol::{Cid, EventId, TaskId, control::DisputeOutcome};

use super::*;

const US: NodeId = NodeId([1; 32]);
const PUBLISHER: NodeId = NodeId([2; 32]);
const CHALLENGER: NodeId = NodeId([3; 32]);

fn policy(rate: f64) -> Policy {
    Policy { node: US, class: HardwareClass::of("CPU"), rate }
}

fn record(id: u8) -> RecordSummary {
    RecordSummary {
        id: RecordId([id; 32]),
        task_id: TaskId([8; 32]),
        parent: None,
        depth: 0,
        status: Status::Keep,
        class: HardwareClass::of("CPU"),
        metric: 2.0,
        node_id: PUBLISHER,
        timestamp: 100,
        received_at: 100,
        sequence: 1,
        num_steps: 50,
        num_params: 10,
        peak_vram_mb: 1.0,
        time_budget: 20,
        code_cid: Some(Cid([4; 32])),
        gpu_model: "CPU".into(),
        description: String::new(),
        hypothesis: String::new(),
        agent_model: String::new(),
        version: 2,
        verdict: Verdict::Unverified,
        on_frontier: true,
        on_frontier_blind: true,
        stray: false,
        odd_depth: false,
    }
}

fn dispute(responses: &[(u8, f64)], truth: Option<f64>) -> Dispute {
    Dispute {
        challenger: CHALLENGER,
        challenger_value: 2.5,
        responses: responses.iter().map(|(node, value)| (NodeId([*node; 32]), *value)).collect(),
        ground_truth: truth,
        opened: (1000, EventId([0; 32])),
        closed: truth.map(|_| (1001, EventId([9; 32]))),
    }
}

fn open(published_before: &[NodeId]) -> OpenDispute {
    let record = RecordSummary { verdict: Verdict::Disputed, ..record(7) };
    OpenDispute { record, dispute: dispute(&[], None), published_before: published_before.to_vec() }
}

fn never(_: &RecordId) -> bool {
    false
}

#[test]
fn own_crashed_foreign_and_stray_records_are_not_rerun() {
    let unfit = [
        RecordSummary { node_id: US, ..record(1) },
        RecordSummary { status: Status::Crash, ..record(2) },
        RecordSummary { class: HardwareClass::of("H100"), ..record(3) },
        RecordSummary { stray: true, ..record(4) },
        RecordSummary { code_cid: None, ..record(5) },
        RecordSummary { num_steps: 0, ..record(6) },
    ];
    assert_eq!(policy(1.0).next(&unfit, &[], 2000, never), None);
    let fit = RecordSummary { status: Status::Discard, ..record(9) };
    assert_eq!(policy(1.0).next(&[fit], &[], 2000, never), Some(Assignment::Check(RecordId([9; 32]))));
}

#[test]
fn newest_record_without_a_verdict_comes_first_and_done_ones_are_passed_over() {
    let verified = RecordSummary { verdict: Verdict::Verified, ..record(1) };
    let records = [verified, record(2), record(3)];
    let check = |id: u8| Some(Assignment::Check(RecordId([id; 32])));
    assert_eq!(policy(1.0).next(&records, &[], 2000, never), check(2));
    assert_eq!(policy(1.0).next(&records, &[], 2000, |id| id.0[0] == 2), check(3));
    assert_eq!(policy(1.0).next(&records, &[], 2000, |id| id.0[0] > 1), check(1));
    assert_eq!(policy(1.0).next(&records, &[], 2000, |_| true), None);
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
fn assigned_verifiers_answer_at_once_and_others_after_silence() {
    let crowd: Vec<NodeId> = (10..40).map(|n| NodeId([n; 32])).chain([US]).collect();
    let work = Some(Assignment::Respond { record: RecordId([7; 32]), challenger: CHALLENGER });
    let ranked = assigned(&subject(&record(7)), CHALLENGER, crowd.clone());
    for (rank, node) in ranked.iter().enumerate() {
        let policy = Policy { node: *node, ..policy(0.0) };
        let turns = (rank as u64 + 1).saturating_sub(3);
        let begins = 1000 + turns * 120;
        assert_eq!(policy.next(&[], &[open(&crowd)], begins, never), work, "rank {rank}");
        if turns > 0 {
            assert_eq!(policy.next(&[], &[open(&crowd)], begins - 1, never), None, "rank {rank}");
        }
    }
}

#[test]
fn node_that_never_published_stands_in_last_or_at_once_when_few_are_assigned() {
    let crowd: Vec<NodeId> = (10..13).map(|n| NodeId([n; 32])).collect();
    let work = Some(Assignment::Respond { record: RecordId([7; 32]), challenger: CHALLENGER });
    assert_eq!(policy(1.0).next(&[], &[open(&crowd)], 1119, never), None);
    assert_eq!(policy(1.0).next(&[], &[open(&crowd)], 1120, never), work);
    assert_eq!(policy(1.0).next(&[], &[open(&[])], 1000, never), work);
    assert_eq!(policy(1.0).next(&[], &[open(&[])], 5, never), work, "a challenge from the future is no trap");
}

#[test]
fn parties_of_a_dispute_do_not_answer_it_and_it_precedes_checks() {
    let challenger = Policy { node: CHALLENGER, ..policy(1.0) };
    let publisher = Policy { node: PUBLISHER, ..policy(1.0) };
    assert_eq!(challenger.next(&[], &[open(&[])], 9000, never), None);
    assert_eq!(publisher.next(&[], &[open(&[])], 9000, never), None);
    let disputed = open(&[]);
    let records = [record(1), disputed.record.clone()];
    assert!(matches!(policy(1.0).next(&records, &[disputed], 9000, never), Some(Assignment::Respond { .. })));
}

#[test]
fn two_runs_must_agree_before_a_record_is_challenged() {
    assert_eq!(rule(2.0, 0.002, 2.0015, None), Ruling::Holds(2.0015));
    assert_eq!(rule(2.0, 0.002, 2.5, None), Ruling::RunAgain);
    assert_eq!(rule(2.0, 0.002, 2.5, Some(2.501)), Ruling::Fails(2.5));
    assert_eq!(rule(2.0, 0.002, 2.5, Some(2.0)), Ruling::Unreliable);
    assert_eq!(rule(2.0, 0.002, 2.0025, Some(2.001)), Ruling::Holds(2.001));
    assert_eq!(rule(2.0, 0.002, f64::NAN, Some(2.0)), Ruling::Unreliable);
}

#[test]
fn record_cannot_delay_its_verifiers_for_ever() {
    assert_eq!(silence(0), 120);
    assert_eq!(silence(20), 120);
    assert_eq!(silence(3600), 6 * 3600);
    assert_eq!(silence(u64::MAX), 6 * 86_400);
}

#[test]
fn measurement_answers_an_open_challenge_of_another_node() {
    let judged = |dispute| Assessment { verdict: Verdict::Disputed, measurements: Vec::new(), dispute };
    assert_eq!(to_answer(&judged(Some(dispute(&[], None))), US), Some(CHALLENGER));
    assert_eq!(to_answer(&judged(Some(dispute(&[], None))), CHALLENGER), None);
    assert_eq!(to_answer(&judged(Some(dispute(&[(5, 2.0)], Some(2.0)))), US), None);
    assert_eq!(to_answer(&judged(None), US), None);
}

#[test]
fn challenger_closes_when_decided_or_when_few_answer_for_long() {
    let judged = |dispute| Assessment { verdict: Verdict::Disputed, measurements: Vec::new(), dispute: Some(dispute) };
    let close = |dispute: Dispute, now| closing(&record(7), &judged(dispute), CHALLENGER, false, now);
    assert_eq!(close(dispute(&[], None), 1_000_000), None, "a challenger alone overturns nothing");
    assert_eq!(close(dispute(&[(5, 2.5)], None), 1100), None);
    assert_eq!(close(dispute(&[(5, 2.5)], None), 2201).unwrap().outcome, DisputeOutcome::Rejected);
    let settled = dispute(&[(5, 2.0), (6, 2.5), (9, 2.501)], Some(2.5));
    let closed = close(settled.clone(), 1002).unwrap();
    assert_eq!(closed.outcome, DisputeOutcome::Rejected);
    assert_eq!((closed.winners, closed.losers), (vec![NodeId([6; 32]), NodeId([9; 32])], vec![NodeId([5; 32])]));
    assert_eq!(closing(&record(7), &judged(settled.clone()), CHALLENGER, true, 1002), None);
    assert_eq!(closing(&record(7), &judged(settled), US, false, 1002), None, "another's challenge");
}
