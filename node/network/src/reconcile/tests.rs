//! Tests against the crate `negentropy`: both sides in turn, with large and with small frames.

use std::{cell::Cell, collections::BTreeSet};

use negentropy::{Id, Negentropy, NegentropyStorageVector};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use spore_protocol::ObjectId;
use spore_storage::StoreError;

use super::{CompareError, Comparison, set::ItemSet};
use crate::limits::FRAME_BYTES;

/// The shortest frame that the crate accepts, in bytes.
const SHORTEST_FRAME: usize = 4096;
/// Rounds after which a reconciliation of the sets here must have ended.
const ROUNDS: usize = 200;

/// Hashes, as real ids are: a fingerprint is a sum, and sums of ids that follow a linear rule collide.
pub fn id(n: u32) -> ObjectId {
    ObjectId(Sha256::digest(n.to_be_bytes()).into())
}

/// Items with few distinct timestamps, so that ties are common.
fn sorted(set: &BTreeSet<u32>) -> Vec<(u64, ObjectId)> {
    let mut items: Vec<_> = set.iter().map(|n| (u64::from(n / 7), id(*n))).collect();
    items.sort_unstable();
    items
}

pub fn comparison(set: &BTreeSet<u32>) -> Comparison<Vec<(u64, ObjectId)>> {
    Comparison::new(sorted(set))
}

fn framed(set: &BTreeSet<u32>, frame: usize) -> Comparison<Vec<(u64, ObjectId)>> {
    Comparison::new(sorted(set)).with_frame(frame)
}

impl ItemSet for Vec<(u64, ObjectId)> {
    fn len(&self) -> usize {
        self.len()
    }

    fn each(&self, begin: usize, end: usize, visit: &mut dyn FnMut(u64, ObjectId) -> bool) -> Result<(), StoreError> {
        for (timestamp, id) in self.iter().take(end).skip(begin) {
            if !visit(*timestamp, *id) {
                break;
            }
        }
        Ok(())
    }

    fn place_of(&self, timestamp: u64, id: &ObjectId) -> Result<usize, StoreError> {
        Ok(self.partition_point(|item| *item < (timestamp, *id)))
    }

    fn sum(&self, begin: usize, end: usize) -> Result<[u8; 32], StoreError> {
        let mut sum = [0u8; 32];
        for (_, id) in &self[begin..end] {
            let mut carry = 0;
            for (digit, more) in sum.iter_mut().zip(id.0) {
                let total = u16::from(*digit) + u16::from(more) + carry;
                *digit = total as u8;
                carry = total >> 8;
            }
        }
        Ok(sum)
    }
}

/// The crate, over the same items.
struct CrateNegentropy {
    items: NegentropyStorageVector,
    frame: u64,
}

impl CrateNegentropy {
    fn new(set: &BTreeSet<u32>, frame: usize) -> Self {
        let mut items = NegentropyStorageVector::new();
        for (timestamp, id) in sorted(set) {
            items.insert(timestamp, Id::from_byte_array(id.0)).unwrap();
        }
        items.seal().unwrap();
        Self { items, frame: frame as u64 }
    }

    fn machine(&self) -> Negentropy<'_, NegentropyStorageVector> {
        Negentropy::borrowed(&self.items, self.frame).unwrap()
    }

    fn initiate(&self) -> Vec<u8> {
        self.machine().initiate().unwrap()
    }

    fn answer(&self, message: &[u8]) -> Vec<u8> {
        self.machine().reconcile(message).unwrap()
    }

    fn learn(&self, answer: &[u8], needed: &mut Vec<ObjectId>) -> Option<Vec<u8>> {
        let mut machine = self.machine();
        machine.set_initiator();
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let next = machine.reconcile_with_ids(answer, &mut have, &mut need).unwrap();
        needed.extend(need.into_iter().map(|id| ObjectId(id.to_bytes())));
        next
    }
}

/// Runs a reconciliation to its end and returns the ids that the client needs. No message is longer than its frame.
fn run(
    first: Vec<u8>,
    frames: (usize, usize),
    answer: impl Fn(&[u8]) -> Vec<u8>,
    learn: impl Fn(&[u8], &mut Vec<ObjectId>) -> Option<Vec<u8>>,
) -> BTreeSet<ObjectId> {
    let (mut message, mut needed) = (first, Vec::new());
    for _ in 0..ROUNDS {
        assert!(message.len() <= frames.0, "{} bytes in a frame of {}", message.len(), frames.0);
        let answer = answer(&message);
        assert!(answer.len() <= frames.1, "{} bytes in a frame of {}", answer.len(), frames.1);
        match learn(&answer, &mut needed) {
            Some(next) => message = next,
            None => return needed.into_iter().collect(),
        }
    }
    panic!("no end after {ROUNDS} rounds");
}

fn lacking(mine: &BTreeSet<u32>, theirs: &BTreeSet<u32>) -> BTreeSet<ObjectId> {
    theirs.difference(mine).map(|n| id(*n)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sets of thousands, so that frames are full and a list is followed by the fingerprint of what is left.
    #[test]
    fn messages_equal_those_of_the_negentropy_crate(
        mine in proptest::collection::btree_set(0u32..6000, 0..2500),
        theirs in proptest::collection::btree_set(0u32..6000, 0..2500),
        frame in prop_oneof![Just(FRAME_BYTES), SHORTEST_FRAME..2 * SHORTEST_FRAME],
    ) {
        let (client, server) = (CrateNegentropy::new(&mine, frame), CrateNegentropy::new(&theirs, frame));
        let (our_client, our_server) = (framed(&mine, frame), framed(&theirs, frame));
        let mut message = client.initiate();
        prop_assert_eq!(&our_client.initiate().unwrap(), &message);
        loop {
            let answer = server.answer(&message);
            prop_assert_eq!(&our_server.answer(&message).unwrap(), &answer);
            let (mut need, mut needed) = (Vec::new(), Vec::new());
            let next = client.learn(&answer, &mut need);
            prop_assert_eq!(&our_client.learn(&answer, &mut needed).unwrap(), &next);
            prop_assert_eq!(needed.into_iter().collect::<BTreeSet<_>>(), need.into_iter().collect());
            match next {
                Some(next) => message = next,
                None => break,
            }
        }
    }

    /// Frames of different lengths, so that each side ends its messages elsewhere.
    #[test]
    fn client_finds_exactly_the_missing_ids_against_the_negentropy_crate(
        mine in proptest::collection::btree_set(0u32..4000, 0..2000),
        theirs in proptest::collection::btree_set(0u32..4000, 0..2000),
        of_client in SHORTEST_FRAME..2 * SHORTEST_FRAME,
        of_server in SHORTEST_FRAME..2 * SHORTEST_FRAME,
    ) {
        let expected = lacking(&mine, &theirs);
        let frames = (of_client, of_server);
        // A client of the crate may send more than our server's frame: the longer frame is what both agree on.
        let served = of_client.max(of_server);

        let (client, server) = (framed(&mine, of_client), CrateNegentropy::new(&theirs, of_server));
        let learn = |answer: &[u8], needed: &mut Vec<_>| client.learn(answer, needed).unwrap();
        let found = run(client.initiate().unwrap(), frames, |message| server.answer(message), learn);
        prop_assert_eq!(&found, &expected, "our client, the crate's server");

        let (client, server) = (CrateNegentropy::new(&mine, of_client), framed(&theirs, served));
        let answer = |message: &[u8]| server.answer(message).unwrap();
        let learn = |answer: &[u8], needed: &mut Vec<_>| client.learn(answer, needed);
        let found = run(client.initiate(), (of_client, served), answer, learn);
        prop_assert_eq!(&found, &expected, "the crate's client, our server");
    }

    #[test]
    fn any_bytes_are_answered_or_refused(
        set in proptest::collection::btree_set(0u32..500, 0..100),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let items = comparison(&set);
        let with_version = [&[0x61], bytes.as_slice()].concat();
        for message in [&bytes, &with_version] {
            let _ = items.answer(message);
            let _ = items.learn(message, &mut Vec::new());
        }
    }

    /// Whatever our server accepts, the crate accepts too, with the same answer. Ours refuses more: numbers that do not
    /// end or are beyond 64 bits.
    #[test]
    fn altered_message_is_answered_as_the_crate_answers_it(
        set in proptest::collection::btree_set(0u32..2000, 0..600),
        other in proptest::collection::btree_set(0u32..2000, 0..600),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let (ours, oracle) = (comparison(&set), CrateNegentropy::new(&set, FRAME_BYTES));
        let mut message = comparison(&other).initiate().unwrap();
        for (at, byte) in changes {
            let at = at.index(message.len());
            message[at] = byte;
        }
        if let Ok(answer) = ours.answer(&message) {
            prop_assert_eq!(oracle.machine().reconcile(&message), Ok(answer));
        }
    }
}

#[test]
fn other_version_is_answered_with_ours_and_garbage_is_refused() {
    let items = comparison(&(0..10).collect());
    assert_eq!(items.answer(&[0x62, 1, 2, 3]).unwrap(), [0x61]);
    for message in [&[][..], &[0x01], &[0x70]] {
        assert!(matches!(items.answer(message), Err(CompareError::Bad(_))));
    }
    for answer in [&[][..], &[0x60], &[0x62]] {
        assert!(matches!(items.learn(answer, &mut Vec::new()), Err(CompareError::Bad(_))));
    }
}

#[test]
fn message_longer_than_a_frame_is_refused() {
    let answer = comparison(&BTreeSet::new()).answer(&vec![0x61; FRAME_BYTES + 1]);
    assert!(matches!(answer, Err(CompareError::Bad(_))));
}

/// A set that counts the items read.
struct CountedReads(Vec<(u64, ObjectId)>, Cell<usize>);

impl ItemSet for CountedReads {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn each(&self, begin: usize, end: usize, visit: &mut dyn FnMut(u64, ObjectId) -> bool) -> Result<(), StoreError> {
        self.0.each(begin, end, &mut |timestamp, id| {
            self.1.set(self.1.get() + 1);
            visit(timestamp, id)
        })
    }

    fn place_of(&self, timestamp: u64, id: &ObjectId) -> Result<usize, StoreError> {
        self.0.place_of(timestamp, id)
    }

    fn sum(&self, begin: usize, end: usize) -> Result<[u8; 32], StoreError> {
        self.0.sum(begin, end)
    }
}

#[test]
fn server_reads_each_item_once_for_an_empty_client() {
    const ITEMS: u32 = 6000;
    let server = Comparison::new(CountedReads(sorted(&(0..ITEMS).collect()), Cell::new(0)));
    let client = comparison(&BTreeSet::new());
    let (mut message, mut needed, mut rounds) = (client.initiate().unwrap(), Vec::new(), 0);
    loop {
        rounds += 1;
        match client.learn(&server.answer(&message).unwrap(), &mut needed).unwrap() {
            Some(next) => message = next,
            None => break,
        }
    }
    assert_eq!(needed.len(), ITEMS as usize);
    let reads = server.set().1.get();
    // In each round one item more, at which the next list begins, and the pairs between which a range is split.
    assert!(rounds > 5 && reads <= ITEMS as usize + rounds * 32, "{reads} items read in {rounds} rounds");
}

#[test]
fn full_client_reads_no_item_to_learn_that_the_server_is_empty() {
    let client = Comparison::new(CountedReads(sorted(&(0..6000).collect()), Cell::new(0)));
    let answer = comparison(&BTreeSet::new()).answer(&client.initiate().unwrap()).unwrap();
    client.set().1.set(0);
    assert_eq!(client.learn(&answer, &mut Vec::new()).unwrap(), None);
    assert_eq!(client.set().1.get(), 0);
}

/// A set whose disk fails.
struct UnreadableSet;

impl ItemSet for UnreadableSet {
    fn len(&self) -> usize {
        1000
    }

    fn each(&self, _: usize, _: usize, _: &mut dyn FnMut(u64, ObjectId) -> bool) -> Result<(), StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn place_of(&self, _: u64, _: &ObjectId) -> Result<usize, StoreError> {
        Err(StoreError::ReadOnly)
    }

    fn sum(&self, _: usize, _: usize) -> Result<[u8; 32], StoreError> {
        Err(StoreError::ReadOnly)
    }
}

#[test]
fn unreadable_store_is_not_the_peers_fault() {
    let unreadable = Comparison::new(UnreadableSet);
    let message = comparison(&(0..2000).collect()).initiate().unwrap();
    assert!(matches!(unreadable.initiate(), Err(CompareError::Store(_))));
    assert!(matches!(unreadable.answer(&message), Err(CompareError::Store(_))));
    assert!(matches!(unreadable.learn(&message, &mut Vec::new()), Err(CompareError::Store(_))));
    assert!(matches!(unreadable.answer(b"\x01"), Err(CompareError::Bad(_))));
}
