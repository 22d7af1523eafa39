//! Weight by examples, and as a function of the set.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::{
    EventId, Goal, HardwareClass, Measurement, Reason, RecordId, Status, Verdict, measurement::MeasurementKind, oracle,
    verdict::assess,
};

const PUBLISHER: NodeId = NodeId([1; 32]);

fn subject(id: u8, publisher: NodeId, metric: f64) -> Subject {
    let (class, status, goal) = (HardwareClass::of("CPU"), Status::Keep, Goal::Minimize);
    Subject { id: RecordId([id; 32]), publisher, class, status, metric, timestamp: 100, goal }
}

fn level(confirmed: u32, refuted: u32) -> Option<u8> {
    Standing::of(false, Counters { confirmed, refuted }).level.map(Level::number)
}

#[test]
fn levels_follow_from_what_seeds_confirmed_and_refuted() {
    assert_eq!(
        (level(0, 0), level(2, 0), level(3, 0), level(11, 0), level(12, 0)),
        (None, None, Some(2), Some(2), Some(1))
    );
    assert_eq!((level(8, 1), level(9, 1), level(17, 1), level(18, 1)), (None, Some(2), Some(2), Some(1)));
    assert_eq!(level(u32::MAX, u32::MAX), None);
    let seed = Standing::of(true, Counters { confirmed: 0, refuted: 9 });
    assert_eq!((seed.level, seed.weight), (Some(Level::Seed), SEED_WEIGHT));
}

#[test]
fn seed_outweighs_everybody_else_in_a_window() {
    let window = u32::try_from(crate::verdict::WINDOW).unwrap();
    assert!(SEED_WEIGHT > (window + 1) * PROVEN_WEIGHT);
    const { assert!(MAX_SEEDS < crate::verdict::WINDOW) };
}

#[test]
fn only_publishing_earns_and_every_contradiction_costs() {
    use Contribution::{Confirmed, Refuted};
    let subject = subject(9, PUBLISHER, 1.0);
    let (good, bad) = (Finding::Value(1.001), Finding::Value(1.5));
    let reason = Finding::Refuted(Reason::NotCausal);
    for (work, seeds, expected) in [
        (Work::Published, vec![], None),
        (Work::Published, vec![good], Some(Confirmed)),
        (Work::Published, vec![bad], Some(Refuted)),
        (Work::Published, vec![reason], Some(Refuted)),
        (Work::Published, vec![good, bad], None),
        (Work::Measured(good), vec![good], None),
        (Work::Measured(good), vec![bad], Some(Refuted)),
        (Work::Measured(good), vec![reason, bad], Some(Refuted)),
        (Work::Measured(bad), vec![good], Some(Refuted)),
        (Work::Measured(reason), vec![good], Some(Refuted)),
        (Work::Measured(bad), vec![reason], None),
        (Work::Measured(bad), vec![good, bad], None),
    ] {
        assert_eq!(contribution(&subject, work, &seeds), expected, "{work:?} {seeds:?}");
    }
    let crash = Subject { status: Status::Crash, ..subject };
    assert_eq!(contribution(&crash, Work::Published, &[good]), None);
}

#[test]
fn claim_at_the_edge_of_the_tolerance_costs_its_publisher_alone() {
    let subject = subject(9, PUBLISHER, 1.0);
    let (inside, outside) = (Finding::Value(1.0019), Finding::Value(1.0021));
    assert_eq!(contribution(&subject, Work::Measured(inside), &[outside]), None);
    assert_eq!(contribution(&subject, Work::Measured(outside), &[inside]), None);
    assert_eq!(contribution(&subject, Work::Published, &[outside]), Some(Contribution::Refuted));
}

/// A small world: six nodes that publish twelve records and sign anything about them.
#[derive(Clone, Debug)]
struct World {
    subjects: Vec<Subject>,
    measurements: Vec<(RecordId, Measurement)>,
}

const NODES: [u8; 6] = [1, 2, 3, 4, 5, 6];
const RECORDS: u8 = 24;

fn finding() -> impl Strategy<Value = Finding> {
    prop_oneof![
        6 => Just(Finding::Value(1.001)),
        1 => prop::sample::select(vec![0.9979, 1.0019, 1.0021, 1.5, 0.5]).prop_map(Finding::Value),
        1 => prop::sample::select(Reason::ALL.to_vec()).prop_map(Finding::Refuted),
    ]
}

fn world() -> impl Strategy<Value = World> {
    let records = prop::collection::vec(
        (prop::sample::select(NODES.to_vec()), any::<bool>(), any::<bool>()),
        usize::from(RECORDS),
    );
    let signed = (0..RECORDS, prop::sample::select(NODES.to_vec()), finding(), 90_u64..300, any::<[u8; 4]>());
    (records, prop::collection::vec(signed, 0..160)).prop_map(|(records, signed)| {
        let subjects = (0_u8..).zip(records).map(|(id, (publisher, crash, maximize))| Subject {
            status: if crash && id % 8 == 0 { Status::Crash } else { Status::Keep },
            goal: if maximize { Goal::Maximize } else { Goal::Minimize },
            ..subject(id, NodeId([publisher % 3 + 1; 32]), 1.0)
        });
        let measurements = signed.into_iter().map(|(record, node, finding, timestamp, event)| {
            let mut event_id = [record; 32];
            event_id[..4].copy_from_slice(&event);
            event_id[4] = node;
            let class = HardwareClass::of(if event[0] == 0 { "H100" } else { "CPU" });
            let (node, kind) = (NodeId([node; 32]), MeasurementKind::Verification);
            let event_id = EventId(event_id);
            (
                RecordId([record; 32]),
                Measurement { event_id, node, class, finding, kind, timestamp, weight: 0, ignored: None },
            )
        });
        World { subjects: subjects.collect(), measurements: measurements.collect() }
    })
}

type ByNodeAndClass = BTreeMap<(NodeId, HardwareClass), Counters>;

/// Counters and verdicts as a node keeps them: from each record's own measurements, with `assess` and
/// `contribution`.
fn kept(world: &World, seeds: &BTreeSet<NodeId>) -> (ByNodeAndClass, Vec<Verdict>, Vec<Verdict>) {
    let about = |subject: &Subject| {
        world.measurements.iter().filter(|(id, _)| *id == subject.id).map(|(_, m)| m.clone()).collect::<Vec<_>>()
    };
    let mut counters = ByNodeAndClass::new();
    for subject in &world.subjects {
        let made = assess(subject, about(subject), |_| 0);
        let works: Vec<_> = made
            .measurements
            .iter()
            .filter(|m| matches!(m.ignored, None | Some(crate::measurement::Ignored::OutsideWindow)))
            .map(|m| (m.node, Work::Measured(m.finding)))
            .chain([(subject.publisher, Work::Published)])
            .collect();
        let of_seeds: Vec<_> = works
            .iter()
            .filter(|(node, _)| seeds.contains(node))
            .map(|(_, work)| if let Work::Measured(finding) = work { *finding } else { Finding::Value(subject.metric) })
            .collect();
        for (node, work) in works.into_iter().filter(|(node, _)| !seeds.contains(node)) {
            if let Some(added) = contribution(subject, work, &of_seeds) {
                counters.entry((node, subject.class.clone())).or_default().add(added);
            }
        }
    }
    let weight = |class: &HardwareClass, node: &NodeId| {
        let of = counters.get(&(*node, class.clone())).copied().unwrap_or_default();
        Standing::of(seeds.contains(node), of).weight
    };
    let local = world.subjects.iter().map(|s| assess(s, about(s), |node| weight(&s.class, node)).verdict).collect();
    let global = world.subjects.iter().map(|s| assess(s, about(s), alike).verdict).collect();
    (counters, local, global)
}

proptest! {
    #[test]
    fn verdicts_and_levels_are_those_of_the_plain_definition(world in world(), seeds in 0..3_u8) {
        let seeds: BTreeSet<_> = (0..seeds).map(|n| NodeId([NODES[usize::from(n) * 2]; 32])).collect();
        let (counters, local, global) = kept(&world, &seeds);
        prop_assert_eq!(&counters, &oracle::standings(&world.subjects, &world.measurements, &seeds));
        let plain = |seeds| oracle::verdicts(&world.subjects, &world.measurements, seeds);
        let (plain_local, plain_global) = (plain(Some(&seeds)), plain(None));
        for ((subject, local), global) in world.subjects.iter().zip(local).zip(global) {
            prop_assert_eq!(Some(&local), plain_local.get(&subject.id));
            prop_assert_eq!(Some(&global), plain_global.get(&subject.id));
        }
    }

    #[test]
    fn order_and_repetition_of_measurements_change_nothing(
        world in world(), order in Just((0..160).collect::<Vec<usize>>()).prop_shuffle()
    ) {
        let mut mixed = world.clone();
        mixed.measurements = order.iter().chain(&order).filter_map(|i| world.measurements.get(*i).cloned()).collect();
        let seeds = BTreeSet::from([NodeId([1; 32])]);
        prop_assert_eq!(kept(&world, &seeds), kept(&mixed, &seeds));
    }

    #[test]
    fn dates_after_the_record_and_types_of_events_change_nothing(
        mut world in world(), dates in prop::collection::vec((100..u64::MAX, 0..4_u8), 160)
    ) {
        world.measurements.retain(|(_, m)| m.timestamp >= 100);
        let mut other = world.clone();
        for ((_, m), (date, kind)) in other.measurements.iter_mut().zip(dates) {
            (m.timestamp, m.kind) = (date, MeasurementKind::from_code(kind).unwrap());
        }
        let seeds = BTreeSet::from([NodeId([1; 32])]);
        prop_assert_eq!(kept(&world, &seeds), kept(&other, &seeds));
    }

    #[test]
    fn unknown_keys_change_no_level_and_no_local_verdict(
        world in world(), signed in prop::collection::vec((0..RECORDS, finding(), any::<[u8; 30]>()), 0..200)
    ) {
        let seeds = BTreeSet::from([NodeId([1; 32])]);
        let mut flooded = world.clone();
        for (record, finding, key) in signed {
            let mut id = [0xee; 32];
            id[..30].copy_from_slice(&key);
            let kind = MeasurementKind::Challenge;
            let m = Measurement {
                event_id: EventId(id), node: NodeId(id), class: HardwareClass::of("CPU"), finding, kind,
                timestamp: 100, weight: 0, ignored: None,
            };
            flooded.measurements.push((RecordId([record; 32]), m));
        }
        let ((levels, local, _), (flooded_levels, flooded_local, _)) = (kept(&world, &seeds), kept(&flooded, &seeds));
        prop_assert_eq!(local, flooded_local);
        let known = |(node, _): &(NodeId, HardwareClass)| NODES.contains(&node.0[31]) && node.0[30] != 0xee;
        let mut flooded_levels = flooded_levels;
        flooded_levels.retain(|key, counters| known(key) || counters.confirmed > 0);
        prop_assert_eq!(levels, flooded_levels, "unknown keys can only be refuted");
    }

    #[test]
    fn further_events_of_a_signer_with_higher_ids_change_nothing(world in world(), finding in finding()) {
        let mut more = world.clone();
        for (place, (record, m)) in (0_u8..).zip(&world.measurements) {
            let mut id = [0xff; 32];
            id[31] = place;
            // Only of signers that have a measurement that can count already.
            if world.subjects.iter().any(|s| s.id == *record && s.ignores(m).is_none()) {
                let again = Measurement { event_id: EventId(id), finding, timestamp: 500, ..m.clone() };
                more.measurements.push((*record, again));
            }
        }
        let seeds = BTreeSet::from([NodeId([1; 32])]);
        let (before, after) = (kept(&world, &seeds), kept(&more, &seeds));
        prop_assert_eq!(before.0, after.0);
        prop_assert_eq!(before.1, after.1);
    }
}
