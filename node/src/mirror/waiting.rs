//! Missing artifacts that wait to be fetched: those of confirmed publishers and the others in turn, the newest first.

use std::collections::{BTreeSet, HashMap, VecDeque};

use spore_protocol::{Cid, NodeId};

/// A missing artifact and its publisher.
pub type Missing = (Cid, NodeId);

/// Artifacts of each kind of publisher that wait: some pages of the walk, which finds again what was left out.
const WAITING: usize = 2048;
/// Artifacts of one publisher without confirmed work that wait: a page of the walk.
const OF_ONE: usize = 512;

/// Missing artifacts, each once.
#[derive(Default)]
pub struct Waiting {
    /// Of publishers with confirmed work, and what followed tasks name. The newest comes first in both.
    confirmed: VecDeque<Missing>,
    others: VecDeque<Missing>,
    known: BTreeSet<Cid>,
    of_one: HashMap<NodeId, usize>,
    /// The next artifact is one of `others`.
    others_next: bool,
    /// An artifact was left out since the last [`Waiting::take_left_out`].
    left_out: bool,
}

impl Waiting {
    /// Adds an artifact before all others, unless it waits already or its publisher has too many.
    pub fn add(&mut self, missing: Missing, confirmed: bool) {
        if self.make_room(&missing, confirmed) {
            if confirmed { self.confirmed.push_front(missing) } else { self.others.push_front(missing) }
        }
    }

    /// Adds an artifact that could not be fetched, behind all others.
    pub fn add_failed(&mut self, missing: Missing, confirmed: bool) {
        if self.make_room(&missing, confirmed) {
            if confirmed { self.confirmed.push_back(missing) } else { self.others.push_back(missing) }
        }
    }

    fn make_room(&mut self, (cid, publisher): &Missing, confirmed: bool) -> bool {
        if self.known.contains(cid) {
            return false;
        }
        if confirmed {
            if self.confirmed.len() >= WAITING
                && let Some((oldest, _)) = self.confirmed.pop_back()
            {
                self.known.remove(&oldest);
                self.left_out = true;
            }
        } else {
            if self.of_one.get(publisher).is_some_and(|count| *count >= OF_ONE) {
                self.left_out = true;
                return false;
            }
            if self.others.len() >= WAITING
                && let Some(oldest) = self.others.pop_back()
            {
                self.forget(&oldest);
                self.left_out = true;
            }
            *self.of_one.entry(*publisher).or_default() += 1;
        }
        self.known.insert(*cid);
        true
    }

    /// Takes the next artifact for which `fit` is true, with whether its publisher is confirmed. Confirmed publishers
    /// and others take turns.
    pub fn next(&mut self, fit: impl Fn(&Cid) -> bool) -> Option<(Missing, bool)> {
        let turns = if self.others_next { [false, true] } else { [true, false] };
        for confirmed in turns {
            let queue = if confirmed { &mut self.confirmed } else { &mut self.others };
            let at = queue.iter().position(|(cid, _)| fit(cid));
            let Some(missing) = at.and_then(|at| queue.remove(at)) else { continue };
            self.others_next = confirmed;
            if confirmed {
                self.known.remove(&missing.0);
            } else {
                self.forget(&missing);
            }
            return Some((missing, confirmed));
        }
        None
    }

    /// Whether an artifact was left out for want of room since this was asked last.
    pub fn take_left_out(&mut self) -> bool {
        std::mem::take(&mut self.left_out)
    }

    /// Whether any artifact waits for which `fit` is true.
    pub fn any(&self, fit: impl Fn(&Cid) -> bool) -> bool {
        self.confirmed.iter().chain(&self.others).any(|(cid, _)| fit(cid))
    }

    fn forget(&mut self, (cid, publisher): &Missing) {
        self.known.remove(cid);
        if let Some(count) = self.of_one.get_mut(publisher) {
            *count -= 1;
            if *count == 0 {
                self.of_one.remove(publisher);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missing(number: u64, publisher: u64) -> Missing {
        let mut node = [0; 32];
        node[..8].copy_from_slice(&publisher.to_be_bytes());
        (Cid::of(&number.to_be_bytes()), NodeId(node))
    }

    #[test]
    fn newest_comes_first_and_confirmed_publishers_take_every_second_turn() {
        let mut waiting = Waiting::default();
        for number in 0..10_000 {
            waiting.add(missing(number, number), false);
        }
        assert_eq!((waiting.others.len(), waiting.known.len(), waiting.of_one.len()), (WAITING, WAITING, WAITING));
        waiting.add(missing(20_000, 1), true);
        waiting.add(missing(20_001, 2), true);
        let order: Vec<_> = std::iter::from_fn(|| waiting.next(|_| true)).take(4).collect();
        let expected = [
            (missing(20_001, 2), true),
            (missing(9_999, 9_999), false),
            (missing(20_000, 1), true),
            (missing(9_998, 9_998), false),
        ];
        assert_eq!(order, expected);
    }

    #[test]
    fn publisher_without_confirmed_work_waits_with_few_artifacts_and_each_waits_once() {
        let mut waiting = Waiting::default();
        for number in 0..1000 {
            waiting.add(missing(number, 1), false);
            waiting.add(missing(0, 2), true);
        }
        assert_eq!((waiting.others.len(), waiting.confirmed.len()), (OF_ONE, 0));
        assert!(waiting.take_left_out() && !waiting.take_left_out());
        while waiting.next(|_| true).is_some() {}
        assert!(waiting.known.is_empty() && waiting.of_one.is_empty());
    }

    #[test]
    fn artifact_that_failed_comes_behind_the_others() {
        let mut waiting = Waiting::default();
        waiting.add(missing(1, 1), false);
        waiting.add_failed(missing(2, 2), false);
        let cooling = missing(1, 1).0;
        assert_eq!(waiting.next(|cid| *cid != cooling), Some((missing(2, 2), false)));
        assert!(waiting.any(|_| true) && !waiting.any(|cid| *cid != cooling));
    }
}
