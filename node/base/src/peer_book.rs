//! Peer book: which addresses a node dials, and when it dials each one again.
//!
//! Pure: times and randomness are passed in. The owner reports what became of each dial and each connection. An
//! address is never dialled twice at once. Each network has a book of its own, over its own kind of address `A`, and
//! decides by the source `S` of an address how long to wait, whom to dial first and whom to forget.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use rand::Rng;

use crate::{backoff::backoff, random};

/// Wait after the first failure.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// A connection that lasted this long was a good one: its failures are forgotten when it closes. A shorter one counts
/// as a failure, or a peer that hangs up at once would be dialled every second.
pub const STEADY_AFTER: Duration = Duration::from_secs(60);

/// Why an address is in the book.
pub trait DialSource {
    /// Longest wait before an address with this source is dialled again.
    fn longest_wait(&self) -> Duration;
}

/// Addresses, each with its source and with the time of its next dial.
#[derive(Clone, Debug)]
pub struct PeerBook<A, S> {
    limit: usize,
    peers: BTreeMap<A, PeerEntry<A, S>>,
    /// Addresses that are being dialled. Some of them may have been removed meanwhile.
    dialling: BTreeSet<A>,
}

/// What the book knows of one address.
#[derive(Clone, Debug)]
pub struct PeerEntry<A, S> {
    source: S,
    state: DialState<A>,
    failures: u32,
    reached: Option<Instant>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum DialState<A> {
    /// Not connected. Also while the address is being dialled.
    Idle { next: Instant },
    /// A dial of this address led to a connection, which is open.
    Connected { since: Instant },
    /// The same peer is connected under the address `of`.
    Twin { of: A },
}

impl<A: Clone + Ord, S: DialSource> PeerBook<A, S> {
    /// An empty book of at most `limit` addresses.
    pub const fn new(limit: usize) -> Self {
        Self { limit, peers: BTreeMap::new(), dialling: BTreeSet::new() }
    }

    /// Adds an address, to be dialled at once. An address that is in the book already stays as it is. False when the
    /// book is full.
    pub fn add(&mut self, address: A, source: S, now: Instant) -> bool {
        if self.peers.contains_key(&address) {
            return true;
        }
        if self.peers.len() >= self.limit {
            return false;
        }
        let entry = PeerEntry { source, state: DialState::Idle { next: now }, failures: 0, reached: None };
        self.peers.insert(address, entry);
        true
    }

    /// Removes an address. None when it is not in the book. The result of a dial that is under way is still to be
    /// reported.
    pub fn remove(&mut self, address: &A) -> Option<PeerEntry<A, S>> {
        self.peers.remove(address)
    }

    pub fn get(&self, address: &A) -> Option<&PeerEntry<A, S>> {
        self.peers.get(address)
    }

    /// The source of an address. None when the address is not in the book.
    pub fn source_mut(&mut self, address: &A) -> Option<&mut S> {
        self.peers.get_mut(address).map(|entry| &mut entry.source)
    }

    /// All addresses, in their own order.
    pub fn iter(&self) -> impl Iterator<Item = (&A, &PeerEntry<A, S>)> {
        self.peers.iter()
    }

    pub fn len(&self) -> usize {
        self.peers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.peers.is_empty()
    }

    /// Dials under way.
    pub fn dials(&self) -> usize {
        self.dialling.len()
    }

    /// The addresses that it is time to dial, in a random order. The owner calls [`PeerBook::dialling`] for each one
    /// that it dials.
    pub fn due(&self, now: Instant, rng: &mut (impl Rng + ?Sized)) -> Vec<A> {
        let is_due = |address: &A, entry: &PeerEntry<A, S>| {
            matches!(entry.state, DialState::Idle { next } if next <= now) && !self.dialling.contains(address)
        };
        let due = self.peers.iter().filter(|(address, entry)| is_due(address, entry));
        random::shuffled(due.map(|(address, _)| address.clone()), rng)
    }

    /// A dial begins. To be reported back by [`PeerBook::connected`], [`PeerBook::failed`], [`PeerBook::is_twin`] or
    /// [`PeerBook::given_up`].
    pub fn dialling(&mut self, address: &A) {
        self.dialling.insert(address.clone());
    }

    /// Dials an address at once, whatever failed before. Changes nothing while the address is connected.
    pub fn retry_now(&mut self, address: &A, now: Instant) {
        let Some(entry) = self.peers.get_mut(address) else { return };
        entry.failures = 0;
        if let DialState::Idle { next } = &mut entry.state {
            *next = now;
        }
    }

    /// A connection is open: a dial of the address succeeded, or the peer at the address dialled us.
    pub fn connected(&mut self, address: &A, now: Instant) {
        self.dialling.remove(address);
        if let Some(entry) = self.peers.get_mut(address) {
            entry.state = DialState::Connected { since: now };
            entry.reached = Some(now);
        }
    }

    /// A dial failed. Returns the failures in a row; 0 when the address is not in the book any more.
    pub fn failed(&mut self, address: &A, now: Instant, random: u64) -> u32 {
        self.dialling.remove(address);
        self.peers.get_mut(address).map_or(0, |entry| {
            // A peer that dialled this node meanwhile stays connected.
            if !entry.is_connected() {
                entry.wait(now, random);
            }
            entry.failures
        })
    }

    /// A dial reached the peer that is connected under the address `of`. The address is not dialled until that
    /// connection has closed.
    pub fn is_twin(&mut self, address: &A, of: &A) {
        self.dialling.remove(address);
        if let Some(entry) = self.peers.get_mut(address) {
            entry.state = DialState::Twin { of: of.clone() };
        }
    }

    /// A dial ended without a result that says anything of the address.
    pub fn given_up(&mut self, address: &A) {
        self.dialling.remove(address);
    }

    /// The connection under this address has closed. The address and its twins are dialled again in time.
    pub fn closed(&mut self, address: &A, now: Instant, random: u64) {
        let is_twin = |entry: &&mut PeerEntry<A, S>| matches!(&entry.state, DialState::Twin { of } if of == address);
        for twin in self.peers.values_mut().filter(is_twin) {
            // A wait, so that the address that was connected is dialled first.
            twin.wait(now, random);
        }
        let Some(entry) = self.peers.get_mut(address) else { return };
        let lasted = |since| now.saturating_duration_since(since);
        if matches!(entry.state, DialState::Connected { since } if lasted(since) >= STEADY_AFTER) {
            entry.failures = 0;
        }
        entry.wait(now, random);
    }
}

impl<A, S> PeerEntry<A, S> {
    pub const fn source(&self) -> &S {
        &self.source
    }

    /// Whether a connection under this address is open.
    pub const fn is_connected(&self) -> bool {
        matches!(self.state, DialState::Connected { .. })
    }

    /// Whether the peer is not connected under this address, nor known to be connected under another.
    pub const fn is_idle(&self) -> bool {
        matches!(self.state, DialState::Idle { .. })
    }

    /// When the address was last connected, in this run of the node.
    pub const fn reached(&self) -> Option<Instant> {
        self.reached
    }
}

impl<A, S: DialSource> PeerEntry<A, S> {
    fn wait(&mut self, now: Instant, random: u64) {
        let wait = backoff(BACKOFF_FIRST, self.source.longest_wait(), self.failures, random);
        self.state = DialState::Idle { next: now + wait };
        self.failures = self.failures.saturating_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(60);

    #[derive(Clone, Copy, Debug)]
    struct Named;

    impl DialSource for Named {
        fn longest_wait(&self) -> Duration {
            MOST
        }
    }

    fn due(book: &PeerBook<u8, Named>, now: Instant) -> Vec<u8> {
        let mut due = book.due(now, &mut random::seeded(1));
        due.sort_unstable();
        due
    }

    fn book(addresses: &[u8], now: Instant) -> PeerBook<u8, Named> {
        let mut book = PeerBook::new(8);
        assert!(addresses.iter().all(|address| book.add(*address, Named, now)));
        book
    }

    #[test]
    fn address_is_dialled_once_and_again_after_a_failure() {
        let now = Instant::now();
        let mut book = book(&[1, 2], now);
        assert_eq!(due(&book, now), [1, 2]);
        book.dialling(&1);
        assert_eq!((due(&book, now), book.dials()), (vec![2], 1));
        assert_eq!(book.failed(&1, now, 0), 1);
        assert_eq!(due(&book, now), [2]);
        assert_eq!(due(&book, now + BACKOFF_FIRST), [1, 2]);
    }

    #[test]
    fn steady_connection_resets_the_backoff_and_a_short_one_is_a_failure() {
        let mut now = Instant::now();
        let mut book = book(&[1], now);
        for _ in 0..10 {
            book.dialling(&1);
            book.connected(&1, now);
            assert!(book.get(&1).unwrap().is_connected() && due(&book, now).is_empty());
            book.closed(&1, now, 0);
            assert!(due(&book, now).is_empty());
            now += MOST;
            assert_eq!(due(&book, now), [1]);
        }
        book.connected(&1, now);
        now += STEADY_AFTER;
        book.closed(&1, now, 0);
        assert_eq!(due(&book, now + BACKOFF_FIRST), [1]);
    }

    #[test]
    fn second_address_of_a_peer_is_not_dialled_until_the_first_closes() {
        let now = Instant::now();
        let mut book = book(&[1, 2], now);
        book.connected(&1, now);
        book.dialling(&2);
        book.is_twin(&2, &1);
        let later = now + 100 * MOST;
        assert!(due(&book, later).is_empty() && !book.get(&2).unwrap().is_idle());
        book.remove(&1);
        book.closed(&1, later, 0);
        assert_eq!(due(&book, later + MOST), [2]);
    }

    #[test]
    fn retry_dials_at_once() {
        let now = Instant::now();
        let mut book = book(&[1], now);
        book.dialling(&1);
        book.failed(&1, now, 0);
        book.retry_now(&1, now);
        assert_eq!(due(&book, now), [1]);
    }

    #[test]
    fn removed_address_stays_dialling_until_its_dial_is_reported() {
        let now = Instant::now();
        let mut book = book(&[1], now);
        book.dialling(&1);
        book.remove(&1);
        assert!(book.add(1, Named, now));
        assert!(due(&book, now).is_empty(), "it is being dialled");
        book.given_up(&1);
        assert_eq!(due(&book, now), [1]);
    }

    #[test]
    fn book_is_bounded() {
        let now = Instant::now();
        let mut book = book(&[0, 1, 2, 3, 4, 5, 6, 7], now);
        assert!(book.add(7, Named, now), "an address that is in the book already");
        assert!(!book.add(8, Named, now));
        assert_eq!(book.len(), 8);
    }
}
