//! Verdicts by examples, and whatever the order, the dates and the number of keys.

use super::*;
use crate::{EventId, Goal, HardwareClass, Reason, RecordId, trust};

const PUBLISHER: NodeId = NodeId([1; 32]);

fn subject() -> Subject {
    Subject {
        id: RecordId([9; 32]),
        publisher: PUBLISHER,
        class: HardwareClass::of("CPU"),
        status: Status::Keep,
        metric: 1.0,
        timestamp: 100,
        goal: Goal::Minimize,
    }
}

fn found(node: u8, finding: Finding) -> Measurement {
    Measurement {
        event_id: EventId([node; 32]),
        node: NodeId([node; 32]),
        class: HardwareClass::of("CPU"),
        finding,
        kind: MeasurementKind::Challenge,
        timestamp: 200,
        weight: 0,
        ignored: None,
    }
}

fn value(node: u8, value: f64) -> Measurement {
    found(node, Finding::Value(value))
}

/// Nodes 2 to 9 weigh nothing, 10 to 19 as known, 20 to 29 as proven, 30 and above as seeds.
fn weight(node: &NodeId) -> u32 {
    match node.0[0] {
        30.. => trust::SEED_WEIGHT,
        20..30 => trust::PROVEN_WEIGHT,
        10..20 => trust::KNOWN_WEIGHT,
        _ => 0,
    }
}

fn local(measurements: &[Measurement]) -> Verdict {
    assess(&subject(), measurements.to_vec(), weight).verdict
}

fn global(measurements: &[Measurement]) -> Verdict {
    assess(&subject(), measurements.to_vec(), trust::alike).verdict
}

#[test]
fn one_measurement_within_tolerance_verifies() {
    assert_eq!(global(&[]), Verdict::Unverified);
    assert_eq!(global(&[value(2, 1.0019)]), Verdict::Verified);
    assert_eq!(global(&[value(2, 1.003)]), Verdict::Disputed);
    assert_eq!(local(&[value(2, 1.0019)]), Verdict::Unverified, "signers without weight decide nothing locally");
    assert_eq!(local(&[value(20, 1.0019)]), Verdict::Verified);
    assert_eq!(local(&[value(20, 1.0019), value(2, 7.0)]), Verdict::Verified);
}

#[test]
fn one_known_signer_decides_nothing_and_two_do() {
    assert_eq!(local(&[value(10, 1.0)]), Verdict::Unverified);
    assert_eq!(local(&[value(10, 1.5)]), Verdict::Unverified);
    assert_eq!(local(&[value(10, 1.0), value(11, 1.0)]), Verdict::Verified);
    assert_eq!(local(&[value(10, 1.0), value(11, 1.5)]), Verdict::Unverified);
    assert_eq!(local(&[value(20, 1.0), value(11, 1.5)]), Verdict::Verified, "one known signer disputes nothing");
    assert_eq!(local(&[value(20, 1.0), value(11, 1.5), value(12, 1.5)]), Verdict::Disputed);
}

#[test]
fn measurements_that_cannot_count_are_told_apart() {
    let cases = [
        (Ignored::OwnRecord, value(1, 1.0)),
        (Ignored::OtherClass, Measurement { class: HardwareClass::of("H100"), ..value(2, 1.0) }),
        (Ignored::BeforeRecord, Measurement { timestamp: 99, ..value(2, 1.0) }),
    ];
    for (why, measurement) in cases {
        let made = assess(&subject(), [measurement], trust::alike);
        assert_eq!((made.measurements[0].ignored, made.verdict), (Some(why), Verdict::Unverified));
        assert_eq!(made.support, Support::default());
    }
    let crash = Subject { status: Status::Crash, ..subject() };
    let made = assess(&crash, [value(30, 1.0)], weight);
    assert_eq!((made.measurements[0].ignored, made.verdict), (Some(Ignored::Crash), Verdict::Unverified));
    let own = Subject { publisher: NodeId([31; 32]), status: Status::Crash, ..subject() };
    assert_eq!(assess(&own, [], weight).verdict, Verdict::Unverified, "a crash claims no value");
}

#[test]
fn measurement_of_the_lowest_event_id_counts_among_those_that_can() {
    let other = |id: u8, m: Measurement| Measurement { event_id: EventId([id; 32]), ..m };
    assert_eq!(global(&[value(5, 1.0), other(6, value(5, 2.0))]), Verdict::Verified);
    assert_eq!(global(&[value(5, 1.0), other(4, value(5, 2.0))]), Verdict::Disputed);
    let early = Measurement { timestamp: 1, ..other(3, value(5, 2.0)) };
    let made = assess(&subject(), [value(5, 1.0), early], trust::alike);
    assert_eq!(made.verdict, Verdict::Verified, "what cannot count displaces nothing");
}

#[test]
fn four_signers_of_equal_weight_close_by_the_median_of_five() {
    for signers in [[2, 3, 4, 5], [12, 13, 14, 15], [22, 23, 24, 25]] {
        let judge = |values: &[f64]| {
            let measured: Vec<_> = signers.iter().zip(values).map(|(node, v)| value(*node, *v)).collect();
            if signers[0] == 2 { global(&measured) } else { local(&measured) }
        };
        assert_eq!(judge(&[1.5, 1.5, 1.0]), Verdict::Disputed, "three are too few");
        assert_eq!(judge(&[1.5, 1.0, 1.001, 1.5]), Verdict::Upheld, "the claim decides two against two");
        assert_eq!(judge(&[1.5, 1.5, 1.5, 1.0]), Verdict::Rejected);
        assert_eq!(judge(&[1.5, 0.5, 1.5, 0.5]), Verdict::Disputed, "nobody measured what the claim says");
    }
}

#[test]
fn lighter_signers_need_the_weight_of_four_of_the_heaviest() {
    let against = |nodes: &[u8]| nodes.iter().map(|node| value(*node, 1.5)).collect::<Vec<_>>();
    assert_eq!(local(&against(&[20, 10, 11, 12, 13, 14])), Verdict::Disputed, "2 and 5 of the 8 needed");
    assert_eq!(local(&against(&[20, 10, 11, 12, 13, 14, 15])), Verdict::Rejected);
    assert_eq!(local(&against(&[20, 21, 22])), Verdict::Disputed);
}

#[test]
fn seed_decides_alone_and_against_all_others() {
    assert_eq!(local(&[value(30, 1.5)]), Verdict::Rejected);
    let everybody = |v: f64| (10..30).map(move |node| value(node, v));
    let mut measured: Vec<_> = everybody(1.5).collect();
    assert_eq!(local(&measured), Verdict::Rejected);
    measured.push(value(30, 1.0));
    assert_eq!(local(&measured), Verdict::Upheld);
    measured.push(value(31, 1.5));
    assert_eq!(local(&measured), Verdict::Rejected, "seeds that disagree leave it to the others");
    assert_eq!(local(&[value(30, 1.0), value(31, 1.5)]), Verdict::Disputed, "an unknown publisher decides nothing");
}

#[test]
fn own_claim_of_a_seed_holds_until_another_seed_contradicts() {
    let own = Subject { publisher: NodeId([40; 32]), ..subject() };
    let judge = |measured: &[Measurement]| assess(&own, measured.to_vec(), weight).verdict;
    assert_eq!(judge(&[]), Verdict::Verified);
    assert_eq!(judge(&[value(2, 1.5)]), Verdict::Verified);
    assert_eq!(judge(&[value(20, 1.5), value(21, 1.5)]), Verdict::Upheld);
    let two_seeds = judge(&[value(30, 1.5)]);
    assert_eq!(two_seeds, Verdict::Disputed, "one against one, and nobody else");
    assert_eq!(judge(&[value(30, 1.5), value(10, 1.5)]), Verdict::Rejected);
    let made = assess(&own, [], weight);
    assert_eq!(made.support, Support::default(), "the publisher is nobody's support");
}

#[test]
fn reason_counts_as_worse_than_every_value_whatever_the_goal() {
    let refuted = |node| found(node, Finding::Refuted(Reason::NotCausal));
    for goal in [Goal::Minimize, Goal::Maximize] {
        let of_goal = Subject { goal, ..subject() };
        let judge = |measured: &[Measurement]| assess(&of_goal, measured.to_vec(), weight);
        assert_eq!(judge(&[refuted(20)]).verdict, Verdict::Disputed);
        let rejected = judge(&[refuted(30)]);
        assert_eq!((rejected.verdict, rejected.ground_truth), (Verdict::Rejected, None), "a reason is no value");
        let mixed = judge(&[refuted(10), value(11, 1.0), value(12, 1.0), refuted(13)]);
        assert_eq!((mixed.verdict, mixed.ground_truth), (Verdict::Upheld, Some(1.0)));
    }
    let worse = [refuted(10), value(11, 0.5), refuted(12), value(13, 0.5)];
    assert_eq!(local(&worse), Verdict::Disputed, "too good and not causal are on different sides of a minimized claim");
}

#[test]
fn support_counts_both_sides_and_is_bounded() {
    let node = |n: u32| {
        let mut id = [7; 32];
        id[..4].copy_from_slice(&n.to_be_bytes());
        NodeId(id)
    };
    let measured = (0..10_000_u32).map(|n| Measurement {
        node: node(n),
        event_id: EventId(node(n).0),
        ..value(2, if n % 2 == 0 { 1.0 } else { 1.5 })
    });
    let few = [value(30, 1.0), value(20, 1.5), value(10, 1.0)];
    let made = assess(&subject(), few.clone().into_iter().chain(measured), |n| if n.0[4] == 7 { 0 } else { weight(n) });
    assert_eq!((made.support.trusted_for, made.support.trusted_against), (2, 1));
    assert_eq!(made.support.unknown_for + made.support.unknown_against, 64);
    assert_eq!(made.verdict, local(&few), "10,000 unknown keys change nothing locally");
    assert_eq!(made.counted().count(), 3);
    assert_eq!(made.measurements.iter().filter(|m| m.ignored == Some(Ignored::OutsideWindow)).count(), 10_000 - 64);
}

#[test]
fn seed_is_in_the_window_however_many_others_have_weight() {
    let many = (0..200_u8).filter(|n| *n != 1).map(|n| value(n, 1.5)).chain([value(200, 1.0)]);
    let heavy = |node: &NodeId| if node.0[0] == 200 { trust::SEED_WEIGHT } else { trust::PROVEN_WEIGHT };
    let made = assess(&subject(), many, heavy);
    assert_eq!((made.verdict, made.counted().count()), (Verdict::Upheld, WINDOW));
}

#[test]
fn dispute_names_its_first_challenger_by_rank_and_closes_for_the_reference() {
    let measured = [value(12, 1.5), value(13, 1.5), value(14, 1.5), value(15, 1.0)];
    let made = assess(&subject(), measured.clone(), weight);
    let dispute = made.dispute.clone().unwrap();
    let first = measured[..3].iter().min_by_key(|m| rank(subject().id, m.node)).unwrap();
    assert_eq!((dispute.challenger, dispute.opened, dispute.closed), (first.node, 200, true));
    let task = TaskId([7; 32]);
    let closed = closing(&subject(), task, &made, NodeId([12; 32])).unwrap();
    assert_eq!((closed.outcome, closed.ground_truth), (DisputeOutcome::Rejected, 1.5));
    assert_eq!(closed.winners.len(), 2);
    assert_eq!(closed.losers, [NodeId([15; 32])]);
    assert_eq!(closing(&subject(), task, &made, NodeId([3; 32])), None, "no challenge of this node counts");
    let open = assess(&subject(), measured[..2].to_vec(), weight);
    assert!(!open.dispute.as_ref().unwrap().closed);
    assert_eq!(closing(&subject(), task, &open, NodeId([12; 32])), None);
}

#[test]
fn assignment_excludes_the_parties_and_ignores_order() {
    let nodes: Vec<_> = (1..9).map(|n| NodeId([n; 32])).collect();
    let challenger = NodeId([5; 32]);
    let ranked = assigned(&subject(), challenger, nodes.clone());
    assert_eq!(ranked.len(), 6);
    assert!(!ranked.contains(&PUBLISHER) && !ranked.contains(&challenger));
    assert_eq!(ranked, assigned(&subject(), challenger, nodes.into_iter().rev()));
}

#[test]
fn measurement_of_a_record_dated_ahead_is_dated_as_late() {
    assert_eq!((subject().measured_at(50), subject().measured_at(150)), (100, 150));
}

#[test]
fn weighted_median_is_the_middle_of_the_weight() {
    assert_eq!(weighted_median(vec![(3.0, 1), (1.0, 1), (2.0, 1)]), (2.0, 2.0));
    assert_eq!(weighted_median(vec![(1.0, 2), (2.0, 1), (3.0, 1)]), (1.0, 2.0));
    assert_eq!(weighted_median(vec![(1.0, 1), (2.0, 5)]), (2.0, 2.0));
    assert_eq!(weighted_median(vec![]), (0.0, 0.0));
}
