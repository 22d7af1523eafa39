//! One reconciliation over many messages, as a state machine: one scope with one peer.
//!
//! The side that wants to learn drives it. Each message asks about ranges, each answer narrows down where the sets
//! differ, and ids that only the other side has come out as [`ReconcileEffect::Fetch`]. A lost message is sent again:
//! the answering side keeps no state. This side pushes nothing: a peer that lacks something runs its own
//! reconciliation.
//!
//! The set is given with each event, as it is then: a reconciliation may last for minutes.

use std::collections::VecDeque;

use spore_protocol::ObjectId;

use super::{BadMessage, CompareError, compare::Comparison, set::ItemSet};
use crate::limits::{IDLE_ROUNDS, OBJECTS_PER_REQUEST, RETRIES, ROUNDS};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReconcileEvent {
    /// The answer to the last [`ReconcileEffect::Ask`].
    Answer(Vec<u8>),
    /// The last [`ReconcileEffect::Fetch`] was answered, except for these objects, which did not fit.
    Fetched { left: Vec<ObjectId> },
    /// No answer came.
    Lost,
}

/// What to do next: exactly one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReconcileEffect {
    /// Send this message and report the answer.
    Ask(Vec<u8>),
    /// Fetch the objects of this list that are still missing, in this order, and report.
    Fetch(Vec<ObjectId>),
    Done(ReconcileEnd),
}

/// How a reconciliation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReconcileEnd {
    /// Both sets are compared in full, and everything that was missing has been asked for.
    Complete,
    /// The peer stopped answering.
    Lost,
    /// The peer sent something that is no answer.
    Bad(BadMessage),
    /// The peer kept answering, with no end in sight.
    Endless,
    /// This node's own set could not be read.
    Failed(String),
}

/// One scope being reconciled with one peer.
#[derive(Debug)]
pub struct Reconciliation {
    stage: ReconcileStage,
    /// Ids named and not yet asked for: at most one answer's.
    needed: VecDeque<ObjectId>,
    rounds: u32,
    idle_rounds: u32,
    losses: u32,
}

#[derive(Debug)]
enum ReconcileStage {
    /// This message waits for its answer.
    Asking(Vec<u8>),
    /// These objects are being fetched. The message follows once nothing more is needed.
    Fetching(Vec<ObjectId>, Option<Vec<u8>>),
    Over,
}

impl Reconciliation {
    /// Begins, and says what to send first.
    ///
    /// # Errors
    /// When the set cannot be read.
    pub fn start<S: ItemSet>(set: &Comparison<S>) -> Result<(Self, ReconcileEffect), CompareError> {
        let first = set.initiate()?;
        let stage = ReconcileStage::Asking(first.clone());
        let machine = Self { stage, needed: VecDeque::new(), rounds: 0, idle_rounds: 0, losses: 0 };
        Ok((machine, ReconcileEffect::Ask(first)))
    }

    /// Takes in what happened, with the set as it is now, and says what to do next.
    pub fn handle<S: ItemSet>(&mut self, event: ReconcileEvent, set: &Comparison<S>) -> ReconcileEffect {
        match (std::mem::replace(&mut self.stage, ReconcileStage::Over), event) {
            (ReconcileStage::Asking(_), ReconcileEvent::Answer(answer)) => match self.read(&answer, set) {
                Ok(next) => self.proceed(next),
                Err(CompareError::Bad(bad)) => ReconcileEffect::Done(ReconcileEnd::Bad(bad)),
                Err(CompareError::Store(error)) => ReconcileEffect::Done(ReconcileEnd::Failed(error.to_string())),
            },
            (ReconcileStage::Fetching(asked, next), ReconcileEvent::Fetched { left }) if left.len() < asked.len() => {
                self.losses = 0;
                for id in left.into_iter().rev() {
                    self.needed.push_front(id);
                }
                self.proceed(next)
            }
            (ReconcileStage::Over, _) => ReconcileEffect::Done(ReconcileEnd::Lost),
            // Nothing came, or an answer that brought nothing: ask again, a few times.
            (stage, _) => self.again(stage),
        }
    }

    fn read<S: ItemSet>(&mut self, answer: &[u8], set: &Comparison<S>) -> Result<Option<Vec<u8>>, CompareError> {
        let mut needed = Vec::new();
        let next = set.learn(answer, &mut needed)?;
        self.rounds += 1;
        self.losses = 0;
        self.idle_rounds = if needed.is_empty() { self.idle_rounds + 1 } else { 0 };
        self.needed.extend(needed);
        Ok(next)
    }

    fn proceed(&mut self, next: Option<Vec<u8>>) -> ReconcileEffect {
        if !self.needed.is_empty() {
            let batch: Vec<_> = self.needed.drain(..self.needed.len().min(OBJECTS_PER_REQUEST)).collect();
            self.stage = ReconcileStage::Fetching(batch.clone(), next);
            return ReconcileEffect::Fetch(batch);
        }
        let Some(message) = next else { return ReconcileEffect::Done(ReconcileEnd::Complete) };
        if self.rounds >= ROUNDS || self.idle_rounds >= IDLE_ROUNDS {
            return ReconcileEffect::Done(ReconcileEnd::Endless);
        }
        self.stage = ReconcileStage::Asking(message.clone());
        ReconcileEffect::Ask(message)
    }

    fn again(&mut self, stage: ReconcileStage) -> ReconcileEffect {
        self.losses += 1;
        if self.losses > RETRIES {
            return ReconcileEffect::Done(ReconcileEnd::Lost);
        }
        let effect = match &stage {
            ReconcileStage::Asking(message) => ReconcileEffect::Ask(message.clone()),
            ReconcileStage::Fetching(batch, _) => ReconcileEffect::Fetch(batch.clone()),
            ReconcileStage::Over => ReconcileEffect::Done(ReconcileEnd::Lost),
        };
        self.stage = stage;
        effect
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{
        super::tests::{comparison, id},
        *,
    };
    use crate::limits::FRAME_BYTES;

    struct LossyLink {
        seed: u64,
        /// Of 256 messages, how many are lost.
        loss: u8,
    }

    impl LossyLink {
        fn next(&mut self) -> u64 {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.seed >> 33
        }

        fn loses(&mut self) -> bool {
            self.next() % 256 < u64::from(self.loss)
        }
    }

    /// Runs one reconciliation and returns what was fetched, in order, and how it ended.
    fn learn(mine: &BTreeSet<u32>, theirs: &BTreeSet<u32>, link: &mut LossyLink) -> (Vec<ObjectId>, ReconcileEnd, u32) {
        let (client, server) = (comparison(mine), comparison(theirs));
        let (mut machine, mut effect) = Reconciliation::start(&client).unwrap();
        let mut fetched = Vec::new();
        loop {
            let event = match effect {
                ReconcileEffect::Done(end) => return (fetched, end, machine.rounds),
                _ if link.loses() => ReconcileEvent::Lost,
                ReconcileEffect::Ask(message) => {
                    assert!(message.len() <= FRAME_BYTES);
                    let answer = server.answer(&message).unwrap();
                    assert!(answer.len() <= FRAME_BYTES);
                    if link.loses() { ReconcileEvent::Lost } else { ReconcileEvent::Answer(answer) }
                }
                ReconcileEffect::Fetch(batch) => {
                    assert!(!batch.is_empty() && batch.len() <= OBJECTS_PER_REQUEST);
                    let taken = 1 + link.next() as usize % batch.len();
                    fetched.extend(&batch[..taken]);
                    ReconcileEvent::Fetched { left: batch[taken..].to_vec() }
                }
            };
            effect = machine.handle(event, &client);
        }
    }

    fn missing(mine: &BTreeSet<u32>, theirs: &BTreeSet<u32>) -> BTreeSet<ObjectId> {
        theirs.difference(mine).map(|n| id(*n)).collect()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(96))]

        #[test]
        fn reconciliation_finds_exactly_the_missing_ids(
            mine in proptest::collection::btree_set(0u32..4000, 0..600),
            theirs in proptest::collection::btree_set(0u32..4000, 0..3000),
            seed: u64,
        ) {
            let (fetched, end, _) = learn(&mine, &theirs, &mut LossyLink { seed, loss: 0 });
            prop_assert_eq!(end, ReconcileEnd::Complete);
            // After a full frame a range is compared again, and may name an id twice. The fetch asks the store first.
            let (fetched, missing) = (fetched.into_iter().collect::<BTreeSet<_>>(), missing(&mine, &theirs));
            prop_assert_eq!(missing.difference(&fetched).count(), 0, "never named");
            prop_assert_eq!(fetched.difference(&missing).count(), 0, "named, though known");
        }

        #[test]
        fn repeated_reconciliations_converge_over_a_lossy_link(
            mine in proptest::collection::btree_set(0u32..2000, 0..300),
            theirs in proptest::collection::btree_set(0u32..2000, 0..1500),
            seed: u64,
            loss in 1u8..110,
        ) {
            let mut link = LossyLink { seed, loss };
            let mut known = mine.clone();
            let by_id: std::collections::HashMap<_, _> = theirs.iter().map(|n| (id(*n), *n)).collect();
            let mut complete = false;
            for _ in 0..400 {
                let (fetched, end, _) = learn(&known, &theirs, &mut link);
                known.extend(fetched.iter().map(|id| by_id[id]));
                prop_assert!(matches!(end, ReconcileEnd::Complete | ReconcileEnd::Lost));
                if end == ReconcileEnd::Complete {
                    complete = true;
                    break;
                }
            }
            prop_assert!(complete);
            prop_assert!(missing(&known, &theirs).is_empty());
        }

        #[test]
        fn garbage_is_an_error_and_never_a_panic(
            set in proptest::collection::btree_set(0u32..500, 0..100),
            bytes in proptest::collection::vec(any::<u8>(), 0..400),
        ) {
            let server = comparison(&set);
            let mut with_version = vec![0x61];
            with_version.extend(&bytes);
            for message in [&bytes, &with_version] {
                let _ = server.answer(message);
                let (mut machine, _) = Reconciliation::start(&server).unwrap();
                let _ = machine.handle(ReconcileEvent::Answer(message.clone()), &server);
            }
        }
    }

    #[test]
    fn equal_sets_take_one_round() {
        let set: BTreeSet<u32> = (0..20_000).collect();
        let (fetched, end, rounds) = learn(&set, &set, &mut LossyLink { seed: 1, loss: 0 });
        assert_eq!((fetched.len(), end, rounds), (0, ReconcileEnd::Complete, 1));
    }

    #[test]
    fn empty_side_learns_twenty_thousand_ids_in_bounded_frames() {
        let theirs: BTreeSet<u32> = (0..20_000).collect();
        let (fetched, end, rounds) = learn(&BTreeSet::new(), &theirs, &mut LossyLink { seed: 1, loss: 0 });
        println!("20,000 ids in {rounds} rounds of {FRAME_BYTES} bytes");
        assert_eq!((fetched.len(), end), (20_000, ReconcileEnd::Complete));
        assert!(rounds < 100);
    }

    #[test]
    fn endless_peer_is_given_up() {
        let set = comparison(&(0..200).collect());
        let (mut machine, mut effect) = Reconciliation::start(&set).unwrap();
        let mut salt = 0u32;
        let end = loop {
            effect = match effect {
                // Claims, each time, that everything still differs.
                ReconcileEffect::Ask(_) => {
                    let other: BTreeSet<u32> = (0..200).map(|n| n + 10_000 + salt).collect();
                    salt += 1;
                    let message = comparison(&other).initiate().unwrap();
                    machine.handle(ReconcileEvent::Answer(message), &set)
                }
                ReconcileEffect::Fetch(batch) => {
                    machine.handle(ReconcileEvent::Fetched { left: batch[1..].to_vec() }, &set)
                }
                ReconcileEffect::Done(end) => break end,
            };
        };
        assert_eq!(end, ReconcileEnd::Endless);
    }

    #[test]
    fn silent_peer_is_given_up_after_the_retries() {
        let nothing = comparison(&BTreeSet::new());
        let (mut machine, first) = Reconciliation::start(&nothing).unwrap();
        for _ in 0..RETRIES {
            assert_eq!(machine.handle(ReconcileEvent::Lost, &nothing), first);
        }
        assert_eq!(machine.handle(ReconcileEvent::Lost, &nothing), ReconcileEffect::Done(ReconcileEnd::Lost));
    }
}
