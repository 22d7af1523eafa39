//! The choice among made-up candidates and claims.

use spore_protocol::Cid;

use super::*;
use crate::made_up::summary;

const US: NodeId = NodeId([1; 32]);
const DRAWS: u64 = 2000;

fn candidate(id: u8, metric: f64, children: usize, on_frontier: bool) -> Candidate {
    Candidate { id: RecordId([id; 32]), metric, sequence: id.into(), children, on_frontier, measured: true }
}

fn record(number: u64, publisher: NodeId, metric: f64) -> RecordSummary {
    let id = RecordId(Cid::of(&number.to_be_bytes()).0);
    RecordSummary { sequence: number, ..summary(id, publisher, "CPU 4x8", metric) }
}

/// How often each id is chosen in [`DRAWS`] draws, and how often to explore.
fn draw(candidates: &[Candidate], stalled: usize) -> ([usize; 256], usize) {
    let (mut counts, mut explored) = ([0; 256], 0);
    for seed in 0..DRAWS {
        let pick = choose(Goal::Minimize, candidates, &[], stalled, seed).unwrap();
        counts[usize::from(pick.parent.0[0])] += 1;
        explored += usize::from(pick.explore);
    }
    (counts, explored)
}

#[test]
fn best_of_the_frontier_is_chosen_most() {
    let candidates = [candidate(1, 3.0, 5, false), candidate(2, 2.0, 0, true), candidate(3, 2.5, 0, true)];
    let (counts, explored) = draw(&candidates, 0);
    assert!((500..700).contains(&explored), "{explored} of 2000 explore");
    assert!(counts[2] > counts[3] && counts[3] > counts[1] && counts[1] > 0, "{:?}", &counts[..4]);
    let maximize =
        (0..500).filter(|seed| choose(Goal::Maximize, &candidates, &[], 0, *seed).unwrap().parent.0[0] == 3).count();
    assert!(maximize > 250, "{maximize}");
}

#[test]
fn best_is_re_run_before_anything_is_built() {
    let mut candidates = [candidate(1, 3.0, 0, true), candidate(2, 2.0, 0, true), candidate(3, 1.0, 0, false)];
    candidates[1].measured = false;
    let (counts, explored) = draw(&candidates, 100);
    assert_eq!((counts[2], explored), (DRAWS as usize, 0), "it is measured whatever the seed");
    // Another that is not measured has its turn with the others.
    (candidates[0].measured, candidates[1].measured) = (false, true);
    let (counts, _) = draw(&candidates, 0);
    assert!(counts[1] > 0 && counts[2] > counts[1] && counts[3] > 0, "{:?}", &counts[..4]);
}

#[test]
fn exploration_grows_while_progress_stalls_and_never_takes_all() {
    assert!((explore_share(0) - 0.3).abs() < 1e-9);
    assert!((explore_share(20) - 0.5).abs() < 1e-9);
    assert!(explore_share(1_000_000) < 0.7 + 1e-9);
    let candidates = [candidate(1, 3.0, 0, false), candidate(2, 2.0, 0, true)];
    assert!(draw(&candidates, 200).1 > draw(&candidates, 0).1 + 400);
}

#[test]
fn exploring_prefers_records_with_few_children() {
    let candidates = [candidate(1, 3.0, 0, false), candidate(2, 3.0, 40, false)];
    let (counts, _) = draw(&candidates, 0);
    assert!(counts[1] > 5 * counts[2], "{:?}", &counts[..3]);
}

#[test]
fn same_seed_makes_the_same_choice_and_no_candidates_make_none() {
    let candidates = [candidate(1, 3.0, 0, true), candidate(2, 2.0, 0, true)];
    let claims = [Claim { id: RecordId([9; 32]), weighty: false }];
    let choice = |seed| choose(Goal::Minimize, &candidates, &claims, 3, seed);
    for seed in 0..50 {
        assert_eq!(choice(seed), choice(seed));
    }
    assert_eq!(choose(Goal::Minimize, &[], &claims, 0, 1), None);
}

/// The share of picks on `honest`, of which `held` are candidates, while these records claim something.
fn share(held: &[Candidate], claimed: &[RecordSummary], weighty: &HashSet<NodeId>, honest: NodeId) -> (f64, f64) {
    let best = held.iter().map(|c| c.metric).fold(f64::INFINITY, f64::min);
    let claims = claims(Goal::Minimize, best, claimed, weighty);
    let honest: HashSet<RecordId> = claimed.iter().filter(|r| r.node_id == honest).map(|r| r.id).collect();
    let (mut held_picks, mut honest_claims) = (0, 0);
    for seed in 0..20_000 {
        let parent = choose(Goal::Minimize, held, &claims, 0, seed).unwrap().parent;
        held_picks += usize::from(held.iter().any(|c| c.id == parent));
        honest_claims += usize::from(honest.contains(&parent));
    }
    (held_picks as f64 / 20_000.0, honest_claims as f64 / 20_000.0)
}

/// 200 claims, of one key or of 200, and one honest claim.
fn flood(keys: u64, metric: f64, honest: NodeId) -> Vec<RecordSummary> {
    let key = |number: u64| NodeId(Cid::of(&(number % keys).to_le_bytes()).0);
    let mut claimed: Vec<_> = (0..200).map(|number| record(number, key(number), metric)).collect();
    claimed.push(record(1000, honest, 2.45));
    claimed
}

#[test]
fn two_hundred_fakes_take_a_tenth_of_the_picks_at_most() {
    let held = [candidate(1, 3.0, 2, false), candidate(2, 2.5, 0, true)];
    let (honest, nobody) = (NodeId([7; 32]), HashSet::new());
    for (keys, metric, held_least, honest_least) in [
        // Implausible: the honest claim is the only one.
        (1, 0.0001, 0.89, 0.09),
        (200, 0.0001, 0.89, 0.09),
        // Plausible: one key has one claim in the running, 200 keys have 200.
        (1, 2.3, 0.89, 0.04),
        (200, 2.3, 0.89, 0.0001),
    ] {
        let (held_share, honest_share) = share(&held, &flood(keys, metric, honest), &nobody, honest);
        println!(
            "{keys} keys claim {metric}: {held_share:.3} of the picks on what holds, {honest_share:.4} on the honest claim"
        );
        assert!(held_share >= held_least, "{keys} keys, {metric}: {held_share}");
        assert!(honest_share >= honest_least, "{keys} keys, {metric}: {honest_share}");
    }
    let (held_share, honest_share) = share(&held, &flood(200, 2.3, honest), &HashSet::from([honest]), honest);
    println!("200 keys, honest publisher known: {held_share:.3} and {honest_share:.4}");
    assert!(held_share >= 0.89 && honest_share >= 0.04, "{held_share} {honest_share}");
}

#[test]
fn claim_is_plausible_up_to_a_fifth_better_than_what_holds() {
    for (goal, claim, plausible) in [
        (Goal::Minimize, 2.0, true),
        (Goal::Minimize, 1.99, false),
        (Goal::Minimize, 9.0, true),
        (Goal::Maximize, 3.0, true),
        (Goal::Maximize, 3.01, false),
    ] {
        assert_eq!(is_plausible(goal, claim, 2.5), plausible, "{goal:?} {claim}");
    }
    assert!(!is_plausible(Goal::Minimize, f64::NAN, 2.5));
}

#[test]
fn own_records_and_those_that_hold_are_believed() {
    let other = NodeId([2; 32]);
    let verdict = |node, verdict| RecordSummary { verdict, ..record(1, node, 2.0) };
    assert!(is_believed(&verdict(US, Verdict::Unverified), US) && is_believed(&verdict(US, Verdict::Disputed), US));
    assert!(is_believed(&verdict(other, Verdict::Verified), US) && is_believed(&verdict(other, Verdict::Upheld), US));
    assert!(!is_believed(&verdict(US, Verdict::Rejected), US) && !is_believed(&verdict(other, Verdict::Disputed), US));
    assert!(!is_believed(&RecordSummary { stray: true, ..verdict(US, Verdict::Verified) }, US));
    let flawed = Some(spore_protocol::terms::Flaw::NoSteps);
    assert!(!is_believed(&RecordSummary { flaw: flawed, ..verdict(US, Verdict::Verified) }, US));
}

#[test]
fn experiments_since_the_best_are_counted_by_arrival() {
    let own: Vec<_> = (1..=9).map(|number| record(number, US, 2.0)).collect();
    // Its date is far ahead, which changes nothing.
    let best = RecordSummary { timestamp: u64::MAX, ..own[3].clone() };
    assert_eq!((stalled(Some(&best), &own), stalled(None, &own)), (5, 9));
}

#[test]
fn publisher_has_one_candidate_that_this_node_has_not_measured() {
    let (others, more) = (NodeId([2; 32]), NodeId([3; 32]));
    let believed = [
        record(1, US, 2.5),
        record(2, others, 2.4),
        record(3, others, 2.3),
        record(4, others, 2.2),
        record(5, more, 2.45),
    ];
    let unmeasured: HashSet<RecordId> = [2, 3, 4].map(|at: usize| believed[at].id).into();
    let chosen = |goal| -> Vec<u64> { candidates(goal, &believed, &unmeasured).iter().map(|c| c.sequence).collect() };
    assert_eq!(chosen(Goal::Minimize), [1, 2, 4, 5], "3 is worse than 4");
    assert_eq!(chosen(Goal::Maximize), [1, 2, 3, 5], "4 is worse than 3");
}

#[test]
fn plateau_widens_the_search_then_switches_the_task_then_rests() {
    assert!(explore_share(0) < explore_share(20) && explore_share(20) < explore_share(99));
    let stages: Vec<_> = [0, 99, 100, 199, 200, 5000].into_iter().map(plateau).collect();
    let (go, switch, rest) = (Plateau::Progress, Plateau::Switch, Plateau::Rest);
    assert_eq!(stages, [go, go, switch, switch, rest, rest]);
}
