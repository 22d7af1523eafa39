//! Against the crate's own way of summing, one by one.

use std::collections::BTreeSet;

use negentropy::NegentropyStorageVector;
use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::*;

/// Hashes, as real ids are: fingerprints are sums, which ids made by a linear rule collide in.
pub fn id(n: u32) -> ObjectId {
    ObjectId(Sha256::digest(n.to_be_bytes()).into())
}

/// Few distinct timestamps, so that ties are common.
pub fn items(set: &BTreeSet<u32>) -> Items<Vec<(u64, ObjectId)>> {
    let mut items: Vec<_> = set.iter().map(|n| (u64::from(n / 7), id(*n))).collect();
    items.sort_unstable();
    Items::new(items)
}

impl Ordered for Vec<(u64, ObjectId)> {
    fn len(&self) -> usize {
        self.len()
    }

    fn each(
        &self,
        begin: usize,
        end: usize,
        visit: &mut dyn FnMut(u64, ObjectId, usize) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        for (place, (timestamp, id)) in self.iter().enumerate().take(end).skip(begin) {
            if !visit(*timestamp, *id, place)? {
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

/// The crate's own way, which sums by visiting.
fn plain(set: &BTreeSet<u32>) -> NegentropyStorageVector {
    let mut plain = NegentropyStorageVector::new();
    for n in set {
        plain.insert(u64::from(n / 7), Id::from_byte_array(id(*n).0)).unwrap();
    }
    plain.seal().unwrap();
    plain
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Sets of thousands, so that frames are full and the rest of a set is summed behind a list.
    #[test]
    fn every_message_is_what_summing_one_by_one_gives(
        mine in proptest::collection::btree_set(0u32..6000, 0..2500),
        theirs in proptest::collection::btree_set(0u32..6000, 0..2500),
    ) {
        let (client, server) = (plain(&mine), plain(&theirs));
        let (our_client, our_server) = (items(&mine), items(&theirs));
        let mut message = Negentropy::borrowed(&client, FRAME_BYTES as u64).unwrap().initiate().unwrap();
        prop_assert_eq!(&our_client.initiate().unwrap(), &message);
        loop {
            let mut machine = Negentropy::borrowed(&server, FRAME_BYTES as u64).unwrap();
            let answer = machine.reconcile(&message).unwrap();
            prop_assert_eq!(&our_server.answer(&message).unwrap(), &answer);
            let mut machine = Negentropy::borrowed(&client, FRAME_BYTES as u64).unwrap();
            machine.set_initiator();
            let (mut have, mut need) = (Vec::new(), Vec::new());
            let next = machine.reconcile_with_ids(&answer, &mut have, &mut need).unwrap();
            let mut needed = Vec::new();
            prop_assert_eq!(&our_client.learn(&answer, &mut needed).unwrap(), &next);
            let need: BTreeSet<_> = need.into_iter().map(|id| ObjectId(id.to_bytes())).collect();
            prop_assert_eq!(needed.into_iter().collect::<BTreeSet<_>>(), need);
            match next {
                Some(next) => message = next,
                None => break,
            }
        }
    }

    #[test]
    fn garbage_is_an_error_and_never_a_panic(
        set in proptest::collection::btree_set(0u32..500, 0..100),
        bytes in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        let items = items(&set);
        let with_version = [&[0x61], bytes.as_slice()].concat();
        for message in [&bytes, &with_version] {
            let _ = items.answer(message);
            let _ = items.learn(message, &mut Vec::new());
        }
    }
}

/// A set that counts the items read.
struct Counting(Vec<(u64, ObjectId)>, std::cell::Cell<usize>);

impl Ordered for Counting {
    fn len(&self) -> usize {
        self.0.len()
    }

    fn each(
        &self,
        begin: usize,
        end: usize,
        visit: &mut dyn FnMut(u64, ObjectId, usize) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        Ordered::each(&self.0, begin, end, &mut |timestamp, id, place| {
            self.1.set(self.1.get() + 1);
            visit(timestamp, id, place)
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
fn an_empty_peer_is_read_each_item_once() {
    const ITEMS: usize = 6000;
    let mut all: Vec<_> = (0..ITEMS as u32).map(|n| (u64::from(n / 7), id(n))).collect();
    all.sort_unstable();
    let server = Items::new(Counting(all, Default::default()));
    let client = items(&BTreeSet::new());
    let (mut message, mut needed, mut rounds) = (client.initiate().unwrap(), Vec::new(), 0);
    loop {
        rounds += 1;
        match client.learn(&server.answer(&message).unwrap(), &mut needed).unwrap() {
            Some(next) => message = next,
            None => break,
        }
    }
    assert_eq!(needed.len(), ITEMS);
    let read = server.set.1.get();
    assert!(rounds > 5 && read <= ITEMS + rounds * LISTED, "{read} items read in {rounds} rounds");

    // And a full one reads nothing of its own to learn that another is empty.
    let nothing = client.answer(&server.initiate().unwrap()).unwrap();
    server.set.1.set(0);
    server.learn(&nothing, &mut Vec::new()).unwrap();
    assert_eq!(server.set.1.get(), 0);
}

/// A set whose disk fails.
struct Broken;

impl Ordered for Broken {
    fn len(&self) -> usize {
        1000
    }

    fn each(
        &self,
        _: usize,
        _: usize,
        _: &mut dyn FnMut(u64, ObjectId, usize) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
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
fn a_failing_store_is_not_the_peers_fault() {
    let broken = Items::new(Broken);
    let message = items(&(0..2000).collect()).initiate().unwrap();
    assert!(matches!(broken.initiate(), Err(CompareError::Store(_))));
    assert!(matches!(broken.answer(&message), Err(CompareError::Store(_))));
    assert!(matches!(broken.learn(&message, &mut Vec::new()), Err(CompareError::Store(_))));
    assert!(matches!(broken.answer(b"\x01"), Err(CompareError::Bad(_))));
}

#[test]
fn a_message_longer_than_a_frame_is_refused() {
    let answer = items(&BTreeSet::new()).answer(&vec![0x61; FRAME_BYTES + 1]);
    assert!(matches!(answer, Err(CompareError::Bad(_))));
}
