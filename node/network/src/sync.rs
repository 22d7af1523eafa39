//! Catch-up as a pure state machine: range-based set reconciliation of one scope with one peer.
//!
//! The side that wants to learn drives it: each message it sends names ranges with fingerprints,
//! each answer narrows down where the sets differ, and ids that only the other side has come out
//! as [`Effect::Fetch`]. The answering side keeps no state between rounds, so a lost message is
//! simply sent again. What the other side misses is not pushed: it runs its own reconciliation.
//!
//! What this side has is given with each event, as it is then: a session may last for minutes.
//!
//! Never here: sockets, clocks, the store. `catchup` carries the effects out.

use std::collections::VecDeque;

use spore_protocol::ObjectId;

use super::{
    items::{BadMessage, CompareError, Items, Ordered},
    limits::{IDLE_ROUNDS, OBJECTS_PER_REQUEST, RETRIES, ROUNDS},
};

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The answer to the last [`Effect::Ask`].
    Answer(Vec<u8>),
    /// The last [`Effect::Fetch`] was answered but for these, which did not fit.
    Fetched { left: Vec<ObjectId> },
    /// No answer came.
    Lost,
}

/// What to do next: exactly one thing at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this message and report the answer.
    Ask(Vec<u8>),
    /// Fetch those of these objects that are still missing, in this order, and report.
    Fetch(Vec<ObjectId>),
    Done(End),
}

/// How a reconciliation ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Both sides compared in full, and everything missing was asked for.
    Complete,
    /// The peer stopped answering.
    Lost,
    /// The peer sent something that is no answer.
    Bad(BadMessage),
    /// The peer kept talking without an end in sight.
    Endless,
    /// What is here could not be read.
    Failed(String),
}

/// One scope being reconciled with one peer.
#[derive(Debug)]
pub struct Reconciliation {
    step: Step,
    /// Ids named and not yet asked for: at most one answer's.
    needed: VecDeque<ObjectId>,
    rounds: u32,
    idle_rounds: u32,
    losses: u32,
}

#[derive(Debug)]
enum Step {
    Asking(Vec<u8>),
    /// And the message to go on with once nothing is needed any more.
    Fetching(Vec<ObjectId>, Option<Vec<u8>>),
    Over,
}

impl Reconciliation {
    /// Begins, and says what to send first.
    ///
    /// # Errors
    /// When the items cannot be read.
    pub fn start<S: Ordered>(items: &Items<S>) -> Result<(Self, Effect), CompareError> {
        let first = items.initiate()?;
        let step = Step::Asking(first.clone());
        let machine = Self { step, needed: VecDeque::new(), rounds: 0, idle_rounds: 0, losses: 0 };
        Ok((machine, Effect::Ask(first)))
    }

    /// Takes in what happened, beside the items that are here now, and says what to do next.
    pub fn handle<S: Ordered>(&mut self, event: Event, items: &Items<S>) -> Effect {
        match (std::mem::replace(&mut self.step, Step::Over), event) {
            (Step::Asking(_), Event::Answer(answer)) => match self.read(&answer, items) {
                Ok(next) => self.proceed(next),
                Err(CompareError::Bad(bad)) => Effect::Done(End::Bad(bad)),
                Err(CompareError::Store(error)) => Effect::Done(End::Failed(error.to_string())),
            },
            (Step::Fetching(asked, next), Event::Fetched { left }) if left.len() < asked.len() => {
                self.losses = 0;
                for id in left.into_iter().rev() {
                    self.needed.push_front(id);
                }
                self.proceed(next)
            }
            (Step::Over, _) => Effect::Done(End::Lost),
            // Lost, or an answer that brought nothing: the same again, a few times.
            (step, _) => self.again(step),
        }
    }

    fn read<S: Ordered>(&mut self, answer: &[u8], items: &Items<S>) -> Result<Option<Vec<u8>>, CompareError> {
        let mut needed = Vec::new();
        let next = items.learn(answer, &mut needed)?;
        self.rounds += 1;
        self.losses = 0;
        self.idle_rounds = if needed.is_empty() { self.idle_rounds + 1 } else { 0 };
        self.needed.extend(needed);
        Ok(next)
    }

    fn proceed(&mut self, next: Option<Vec<u8>>) -> Effect {
        if !self.needed.is_empty() {
            let batch: Vec<_> = self.needed.drain(..self.needed.len().min(OBJECTS_PER_REQUEST)).collect();
            self.step = Step::Fetching(batch.clone(), next);
            return Effect::Fetch(batch);
        }
        let Some(message) = next else { return Effect::Done(End::Complete) };
        if self.rounds >= ROUNDS || self.idle_rounds >= IDLE_ROUNDS {
            return Effect::Done(End::Endless);
        }
        self.step = Step::Asking(message.clone());
        Effect::Ask(message)
    }

    fn again(&mut self, step: Step) -> Effect {
        self.losses += 1;
        if self.losses > RETRIES {
            return Effect::Done(End::Lost);
        }
        let effect = match &step {
            Step::Asking(message) => Effect::Ask(message.clone()),
            Step::Fetching(batch, _) => Effect::Fetch(batch.clone()),
            Step::Over => Effect::Done(End::Lost),
        };
        self.step = step;
        effect
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::{
        super::{
            items::tests::{id, items},
            limits::FRAME_BYTES,
        },
        *,
    };

    struct Network {
        seed: u64,
        /// Of 256 messages, how many are lost.
        loss: u8,
    }

    impl Network {
        fn next(&mut self) -> u64 {
            self.seed = self.seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.seed >> 33
        }

        fn loses(&mut self) -> bool {
            self.next() % 256 < u64::from(self.loss)
        }
    }

    /// Runs one reconciliation and returns what was fetched, in order, and how it ended.
    fn learn(mine: &BTreeSet<u32>, theirs: &BTreeSet<u32>, network: &mut Network) -> (Vec<ObjectId>, End, u32) {
        let (client, server) = (items(mine), items(theirs));
        let (mut machine, mut effect) = Reconciliation::start(&client).unwrap();
        let mut fetched = Vec::new();
        loop {
            let event = match effect {
                Effect::Done(end) => return (fetched, end, machine.rounds),
                _ if network.loses() => Event::Lost,
                Effect::Ask(message) => {
                    assert!(message.len() <= FRAME_BYTES);
                    let answer = server.answer(&message).unwrap();
                    assert!(answer.len() <= FRAME_BYTES);
                    if network.loses() { Event::Lost } else { Event::Answer(answer) }
                }
                Effect::Fetch(batch) => {
                    assert!(!batch.is_empty() && batch.len() <= OBJECTS_PER_REQUEST);
                    let taken = 1 + network.next() as usize % batch.len();
                    fetched.extend(&batch[..taken]);
                    Event::Fetched { left: batch[taken..].to_vec() }
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
        fn learns_exactly_what_only_the_other_side_has(
            mine in proptest::collection::btree_set(0u32..4000, 0..600),
            theirs in proptest::collection::btree_set(0u32..4000, 0..3000),
            seed: u64,
        ) {
            let (fetched, end, _) = learn(&mine, &theirs, &mut Network { seed, loss: 0 });
            prop_assert_eq!(end, End::Complete);
            // Where a frame was full, a range is compared again and may name an id twice: whoever
            // fetches looks what it has by then.
            let (fetched, missing) = (fetched.into_iter().collect::<BTreeSet<_>>(), missing(&mine, &theirs));
            prop_assert_eq!(missing.difference(&fetched).count(), 0, "never named");
            prop_assert_eq!(fetched.difference(&missing).count(), 0, "named, though known");
        }

        #[test]
        fn with_lost_messages_repeated_sessions_still_converge(
            mine in proptest::collection::btree_set(0u32..2000, 0..300),
            theirs in proptest::collection::btree_set(0u32..2000, 0..1500),
            seed: u64,
            loss in 1u8..110,
        ) {
            let mut network = Network { seed, loss };
            let mut known = mine.clone();
            let by_id: std::collections::HashMap<_, _> = theirs.iter().map(|n| (id(*n), *n)).collect();
            let mut complete = false;
            for _ in 0..400 {
                let (fetched, end, _) = learn(&known, &theirs, &mut network);
                known.extend(fetched.iter().map(|id| by_id[id]));
                prop_assert!(matches!(end, End::Complete | End::Lost));
                if end == End::Complete {
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
            let server = items(&set);
            let mut with_version = vec![0x61];
            with_version.extend(&bytes);
            for message in [&bytes, &with_version] {
                let _ = server.answer(message);
                let (mut machine, _) = Reconciliation::start(&server).unwrap();
                let _ = machine.handle(Event::Answer(message.clone()), &server);
            }
        }
    }

    #[test]
    fn equal_sets_take_one_round() {
        let set: BTreeSet<u32> = (0..20_000).collect();
        let (fetched, end, rounds) = learn(&set, &set, &mut Network { seed: 1, loss: 0 });
        assert_eq!((fetched.len(), end, rounds), (0, End::Complete, 1));
    }

    #[test]
    fn an_empty_side_learns_twenty_thousand_in_bounded_frames() {
        let theirs: BTreeSet<u32> = (0..20_000).collect();
        let (fetched, end, rounds) = learn(&BTreeSet::new(), &theirs, &mut Network { seed: 1, loss: 0 });
        println!("20,000 ids in {rounds} rounds of {FRAME_BYTES} bytes");
        assert_eq!((fetched.len(), end), (20_000, End::Complete));
        assert!(rounds < 100);
    }

    #[test]
    fn a_peer_that_never_comes_to_an_end_is_given_up() {
        let set = items(&(0..200).collect());
        let (mut machine, mut effect) = Reconciliation::start(&set).unwrap();
        let mut salt = 0u32;
        let end = loop {
            effect = match effect {
                // Claims, each time, that everything still differs.
                Effect::Ask(_) => {
                    let other: BTreeSet<u32> = (0..200).map(|n| n + 10_000 + salt).collect();
                    salt += 1;
                    let message = items(&other).initiate().unwrap();
                    machine.handle(Event::Answer(message), &set)
                }
                Effect::Fetch(batch) => machine.handle(Event::Fetched { left: batch[1..].to_vec() }, &set),
                Effect::Done(end) => break end,
            };
        };
        assert_eq!(end, End::Endless);
    }

    #[test]
    fn a_silent_peer_is_given_up_after_the_retries() {
        let nothing = items(&BTreeSet::new());
        let (mut machine, first) = Reconciliation::start(&nothing).unwrap();
        for _ in 0..RETRIES {
            assert_eq!(machine.handle(Event::Lost, &nothing), first);
        }
        assert_eq!(machine.handle(Event::Lost, &nothing), Effect::Done(End::Lost));
    }
}
