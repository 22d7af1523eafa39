//! Decisions about results, with a bench that answers from tables instead of training.

use spore_protocol::{HardwareClass, NodeId, TaskId, noise::Noise};
use spore_trainer::worker::{Failure, FailureKind};

use super::*;

const CLASS: &str = "CPU 4x8 (test)";

/// Scripts whose results follow from their seed and steps: `gain` is what the child is better by at equal steps.
struct Made {
    gain: f64,
    /// Steps that fit into the budget now.
    steps_now: u64,
    ran: Vec<(Side, Option<u64>, u64)>,
    fails: Option<FailureKind>,
}

impl Made {
    fn new(gain: f64) -> Self {
        Self { gain, steps_now: 1000, ran: Vec::new(), fails: None }
    }

    /// More steps are better, and seeds differ by more than any gain of these tests.
    fn parent(steps: u64, seed: u64) -> f64 {
        1.5 + 0.03 * ((seed * 7 % 5) as f64 - 2.0) + 100.0 / steps as f64
    }

    fn metric(&self, side: Side, steps: u64, seed: u64) -> f64 {
        // The gain is a little different with each seed.
        let gain = self.gain * (1.0 + 0.1 * ((seed * 3 % 7) as f64 - 3.0));
        Self::parent(steps, seed) - if side == Side::Child { gain } else { 0.0 }
    }
}

impl Bench for Made {
    async fn run(&mut self, side: Side, steps: Option<u64>, seed: u64) -> Result<Outcome, EngineError> {
        self.ran.push((side, steps, seed));
        if let Some(kind) = self.fails {
            let failure = Failure { kind, reason: "made up".into() };
            return Err(if kind == FailureKind::Busy {
                EngineError::Machine(failure)
            } else {
                EngineError::Script(failure)
            });
        }
        let steps = steps.unwrap_or(self.steps_now);
        Ok(Outcome { metric: self.metric(side, steps, seed), steps })
    }
}

/// A result of so many steps, beside a parent of 1,000.
fn known(made: &Made, child_steps: u64) -> Known {
    let mut evidence =
        Evidence { noise: Some(Noise { deviation: 0.037, freedom: 4 }), among_best: true, ..Evidence::default() };
    evidence.add(Side::Child, 0, made.metric(Side::Child, child_steps, 0));
    evidence.add(Side::Parent, 0, Made::parent(1000, 0));
    Known {
        goal: Goal::Minimize,
        tolerance: 0.002,
        evidence,
        repeats: Vec::new(),
        class: HardwareClass::of(CLASS),
        child_steps,
        parent_steps: 1000,
    }
}

async fn judged(mut made: Made, child_steps: u64) -> (Decision, Vec<(Side, Option<u64>, u64)>) {
    let known = known(&made, child_steps);
    let decision = ruled(&mut made, known, None).await.unwrap();
    (decision, made.ran)
}

#[tokio::test]
async fn change_that_changes_nothing_is_no_keep_and_costs_nothing() {
    let (decision, ran) = judged(Made::new(0.0), 1000).await;
    assert_eq!((decision.ruling.why, ran.len()), (Why::NotBetter, 0));
}

#[tokio::test]
async fn small_real_gain_is_a_keep_after_repeats_of_both_scripts() {
    let (decision, ran) = judged(Made::new(0.02), 1000).await;
    assert!(decision.ruling.is_keep(), "{decision:?}");
    assert!(ran.iter().all(|(_, steps, seed)| *steps == Some(1000) && *seed > 0), "equal steps, other seeds: {ran:?}");
    assert_eq!(decision.child.len(), decision.parent.len());
    assert!((decision.ruling.gain.unwrap().gain - 0.02).abs() < 0.003, "{decision:?}");
}

#[tokio::test]
async fn extra_steps_of_an_idle_machine_are_no_progress() {
    // The machine got twice as fast since the parent ran.
    let (decision, ran) = judged(Made { steps_now: 2000, ..Made::new(0.0) }, 2000).await;
    assert_eq!((decision.ruling.why, ran), (Why::NotBetter, vec![(Side::Parent, None, 0)]));
    assert_eq!(decision.parent, BTreeMap::from([(0, Made::parent(2000, 0))]), "the run is published");
    // The child itself is faster: the parent still has its 1,000 steps, so the result stands.
    let (decision, ran) = judged(Made::new(0.0), 2000).await;
    assert!(decision.ruling.is_keep(), "{decision:?}");
    assert!(ran.iter().all(|(side, steps, _)| match side {
        Side::Child => *steps == Some(2000),
        Side::Parent => steps.is_none_or(|steps| steps == 1000),
    }));
}

#[tokio::test]
async fn gain_that_a_busy_machine_hides_is_found_beside_its_parent() {
    // Half of the steps cost 0.1, the change gains 0.05.
    let (decision, ran) = judged(Made { steps_now: 500, ..Made::new(0.05) }, 500).await;
    assert_eq!(ran.first(), Some(&(Side::Parent, None, 0)));
    assert!(decision.ruling.is_keep(), "{decision:?}");
    assert_eq!(decision.compared_with.to_bits(), Made::parent(500, 0).to_bits());
}

#[tokio::test]
async fn repeats_that_fail_make_no_keep() {
    for (kind, why) in [(FailureKind::Diverged, Why::Fails), (FailureKind::Busy, Why::WithinNoise)] {
        let (decision, ran) = judged(Made { fails: Some(kind), ..Made::new(0.02) }, 1000).await;
        assert_eq!((decision.ruling.why, ran.len()), (why, 1));
    }
}

#[tokio::test]
async fn runs_that_an_author_chose_are_made_of_both_scripts() {
    let mut made = Made::new(0.02);
    let evidence = known(&made, 1000);
    let decision = ruled(&mut made, evidence, Some(4)).await.unwrap();
    assert!(decision.ruling.is_keep(), "{decision:?}");
    assert_eq!((decision.child.len(), decision.parent.len(), made.ran.len()), (3, 3, 6));
    assert_eq!(decision.noise(1.5).unwrap().count, 4);
    let mut made = Made::new(-0.02);
    let evidence = known(&made, 1000);
    let decision = ruled(&mut made, evidence, Some(4)).await.unwrap();
    assert_eq!((decision.ruling.why, made.ran.len()), (Why::NotBetter, 6), "the author wants to know the noise");
}

#[test]
fn repeats_are_published_in_rows_of_seeds() {
    let results = BTreeMap::from([(0, 9.0), (3, 1.0), (4, 2.0), (5, 3.0), (7, 4.0)]);
    assert_eq!(rows(&results), [(0, vec![9.0]), (3, vec![1.0, 2.0, 3.0]), (7, vec![4.0])]);
    assert!(rows(&BTreeMap::new()).is_empty());
}

#[test]
fn repeats_of_a_record_are_found_by_seed_in_their_length() {
    let repeats = |steps, first_seed, results: &[f64]| Repeats {
        experiment_id: RecordId([1; 32]),
        task_id: Some(TaskId([2; 32])),
        node_id: NodeId([3; 32]),
        gpu: CLASS.into(),
        steps,
        first_seed,
        results: results.to_vec(),
    };
    let known = [repeats(1000, 1, &[1.0, 2.0]), repeats(500, 0, &[7.0])];
    assert_eq!(by_seed(&known, &HardwareClass::of(CLASS), 1000), BTreeMap::from([(1, 1.0), (2, 2.0)]));
}
