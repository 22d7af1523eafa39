//! The address book: which legacy peers there are, and when each is dialled.
//!
//! Pure: times and randomness are passed in. The hub tells what became of each dial and connection;
//! [`Book::due`] says whom to dial now, and nobody twice at once. Peers that the operator named are dialled for ever; those that were connected once
//! are kept in a file ([`super::book_file`]) and dialled while too few are connected, like those that
//! others spoke of, which are forgotten soon when they do not answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use spore_base::backoff::backoff;
use spore_base::peer_address::{PeerAddress, is_local, subject};

use super::limits::{
    BACKOFF_FIRST, BACKOFF_FOUND, BACKOFF_NAMED, BACKOFF_PUBLIC, DIALLING, EXCHANGED, HEARD, HEARD_FAILURES,
    HEARD_FROM_ONE, KNOWN, KNOWN_FAILURES, NAMED, OUTBOUND_TARGET, OWN, STEADY_AFTER,
};

/// Why a peer is in the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The operator named it: the command line, the configuration, `spore connect`.
    Named,
    /// It was connected before.
    Known,
    /// A peer at this address spoke of it.
    Heard(IpAddr),
    /// It is the public peer, tried because the operator named nobody.
    Public,
}

impl Source {
    const fn longest_wait(self) -> Duration {
        match self {
            Self::Named => BACKOFF_NAMED,
            Self::Known | Self::Heard(_) => BACKOFF_FOUND,
            Self::Public => BACKOFF_PUBLIC,
        }
    }
}

/// The book already has as many peers as the operator may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{NAMED} peers are named already; remove one first")]
pub struct TooManyNamed;

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// Also while it is dialled.
    Idle {
        next: Instant,
    },
    Connected {
        since: Instant,
    },
    /// The same peer is connected under another address.
    Twin {
        of: PeerAddress,
    },
}

#[derive(Clone, Debug)]
struct Entry {
    source: Source,
    state: State,
    /// In a row.
    failures: u32,
    /// When it was last connected.
    reached: Option<Instant>,
    /// Belongs into the file.
    kept: bool,
}

/// The peers, and what this node knows of itself.
#[derive(Debug, Default)]
pub struct Book {
    peers: BTreeMap<PeerAddress, Entry>,
    /// Addresses being dialled, among them those that were forgotten meanwhile.
    dialling: BTreeSet<PeerAddress>,
    /// Addresses that lead to this node.
    own: BTreeSet<PeerAddress>,
    /// Dialled only if the operator names it.
    avoided: Option<PeerAddress>,
    /// The file is not what it should be.
    unsaved: bool,
    /// That the file cannot be written was told.
    trouble_told: bool,
}

impl Book {
    /// An empty book, in which `avoided` comes only if the operator names it.
    pub fn new(avoided: Option<PeerAddress>) -> Self {
        Self { avoided, ..Self::default() }
    }

    /// Adds a peer to stay connected with. It is due at once, whatever failed before.
    ///
    /// # Errors
    /// When there are too many of them.
    pub fn name(&mut self, address: &PeerAddress, now: Instant) -> Result<(), TooManyNamed> {
        let named = self.peers.iter().filter(|(at, entry)| entry.source == Source::Named && *at != address).count();
        if named >= NAMED {
            return Err(TooManyNamed);
        }
        let entry = self.peers.entry(address.clone()).or_insert_with(|| Entry::new(Source::Named, now));
        entry.source = Source::Named;
        entry.failures = 0;
        if let State::Idle { next } = &mut entry.state {
            *next = now;
        }
        Ok(())
    }

    /// Adds peers that were connected in an earlier run.
    pub fn remember(&mut self, addresses: Vec<PeerAddress>, now: Instant) {
        for address in addresses.into_iter().take(KNOWN) {
            if self.is_welcome(&address) {
                self.peers.entry(address).or_insert_with(|| Entry::new(Source::Known, now)).kept = true;
            }
        }
    }

    /// Adds the peer that everybody may use.
    pub fn add_public(&mut self, address: PeerAddress, now: Instant) {
        self.peers.entry(address).or_insert_with(|| Entry::new(Source::Public, now));
    }

    /// Adds what the peer at `from` says of others. What lies in a private network is believed only of
    /// a peer that is in one itself.
    pub fn hear(&mut self, from: IpAddr, addresses: Vec<PeerAddress>, now: Instant) {
        let from = subject(from);
        for address in addresses.into_iter().take(EXCHANGED) {
            let heard = self.peers.values().filter_map(|entry| match entry.source {
                Source::Heard(from) => Some(from),
                _ => None,
            });
            let (all, his) = heard.fold((0, 0), |(all, his), by| (all + 1, his + usize::from(by == from)));
            let room = all < HEARD && his < HEARD_FROM_ONE;
            let believed = !address.is_local() || is_local(from);
            if room && believed && self.is_welcome(&address) {
                self.peers.entry(address).or_insert_with(|| Entry::new(Source::Heard(from), now));
            }
        }
    }

    /// Whom to dial now. Each address given must be reported back by [`Book::connected`],
    /// [`Book::failed`], [`Book::is_twin`] or [`Book::is_own`]. `random` decides among equals.
    pub fn due(&mut self, now: Instant, mut random: impl FnMut() -> u64) -> Vec<PeerAddress> {
        let connected = self.peers.values().filter(|entry| matches!(entry.state, State::Connected { .. })).count();
        let is_due = |address: &PeerAddress, entry: &Entry| {
            matches!(entry.state, State::Idle { next } if next <= now) && !self.dialling.contains(address)
        };
        let mut due: Vec<_> = self
            .peers
            .iter()
            .filter(|(address, entry)| is_due(address, entry))
            .map(|(address, entry)| (entry.rank(), random(), address.clone()))
            .collect();
        due.sort_unstable();
        let mut chosen = Vec::new();
        for (_, _, address) in due {
            let named = self.source(&address) == Some(Source::Named);
            let wanted = named || connected + self.dialling.len() < OUTBOUND_TARGET;
            if wanted && self.dialling.len() < DIALLING {
                self.dialling.insert(address.clone());
                chosen.push(address);
            }
        }
        chosen
    }

    /// A dial led to a connection.
    pub fn connected(&mut self, address: &PeerAddress, now: Instant) {
        self.dialling.remove(address);
        self.make_room_for_known(address);
        let Some(entry) = self.peers.get_mut(address) else { return };
        entry.state = State::Connected { since: now };
        entry.reached = Some(now);
        if matches!(entry.source, Source::Heard(_)) {
            entry.source = Source::Known;
        }
        if entry.source != Source::Public && !entry.kept {
            entry.kept = true;
            self.unsaved = true;
        }
    }

    /// A dial led nowhere. Peers that the operator did not name are forgotten in time; a known one
    /// only while `others` are connected, or the loss of our own network would empty the book. Gives
    /// the number of failures in a row.
    pub fn failed(&mut self, address: &PeerAddress, others: bool, now: Instant, random: u64) -> u32 {
        self.dialling.remove(address);
        let Some(entry) = self.peers.get_mut(address) else { return 0 };
        entry.wait(now, random);
        let failures = entry.failures;
        let forgotten = match entry.source {
            Source::Heard(_) => entry.failures >= HEARD_FAILURES,
            Source::Known => entry.failures >= KNOWN_FAILURES && others,
            Source::Named | Source::Public => false,
        };
        if forgotten {
            self.forget(address);
        }
        failures
    }

    /// A dial led to the peer that is connected under the address `of`. It is not dialled under this one
    /// until that connection has ended.
    pub fn is_twin(&mut self, address: &PeerAddress, of: &PeerAddress) {
        self.dialling.remove(address);
        if let Some(entry) = self.peers.get_mut(address) {
            entry.state = State::Twin { of: of.clone() };
        }
    }

    /// A connection that we had dialled has ended.
    pub fn closed(&mut self, address: &PeerAddress, now: Instant, random: u64) {
        let is_twin = |entry: &&mut Entry| matches!(&entry.state, State::Twin { of } if of == address);
        for twin in self.peers.values_mut().filter(is_twin) {
            // The address that was connected is tried first.
            twin.wait(now, random);
        }
        let Some(entry) = self.peers.get_mut(address) else { return };
        if matches!(entry.state, State::Connected { since } if now.saturating_duration_since(since) >= STEADY_AFTER) {
            entry.failures = 0;
        }
        entry.wait(now, random);
    }

    /// The address turned out to lead to this node. It is never dialled again.
    pub fn is_own(&mut self, address: &PeerAddress) {
        self.dialling.remove(address);
        self.forget(address);
        if self.own.len() < OWN {
            self.own.insert(address.clone());
        }
    }

    /// Takes a peer out of the book; false when it was not in it. A dial under way is still to be
    /// reported.
    pub fn forget(&mut self, address: &PeerAddress) -> bool {
        let gone = self.peers.remove(address);
        self.unsaved |= gone.as_ref().is_some_and(|entry| entry.kept);
        gone.is_some()
    }

    /// Why it is in the book, if it is.
    pub fn source(&self, address: &PeerAddress) -> Option<Source> {
        self.peers.get(address).map(|entry| entry.source)
    }

    /// Whether a connection that we dialled is open with the peer, under this address or another.
    pub fn is_connected(&self, address: &PeerAddress) -> bool {
        self.peers.get(address).is_some_and(|entry| !matches!(entry.state, State::Idle { .. }))
    }

    /// What to tell a peer at `to` that asks for others: those we dialled and are connected with.
    pub fn to_exchange(&self, to: IpAddr) -> Vec<PeerAddress> {
        let open = self.peers.iter().filter(|(_, entry)| matches!(entry.state, State::Connected { .. }));
        let told = open.map(|(address, _)| address).filter(|address| !address.is_local() || is_local(to));
        told.take(EXCHANGED).cloned().collect()
    }

    /// What belongs into the file now, if it changed since this was last asked.
    pub fn take_unsaved(&mut self) -> Option<Vec<PeerAddress>> {
        let kept = || self.peers.iter().filter(|(_, entry)| entry.kept).map(|(address, _)| address.clone()).collect();
        self.unsaved.then(kept).inspect(|_| self.unsaved = false)
    }

    /// The file could not be written: it is still to be. True the first time, which is worth telling.
    pub fn not_saved(&mut self) -> bool {
        self.unsaved = true;
        !std::mem::replace(&mut self.trouble_told, true)
    }

    fn is_welcome(&self, address: &PeerAddress) -> bool {
        !self.own.contains(address) && self.avoided.as_ref() != Some(address)
    }

    /// Forgets the known peer that was not connected for longest, where one more would be too many.
    fn make_room_for_known(&mut self, newcomer: &PeerAddress) {
        let kept = self.peers.iter().filter(|(address, entry)| entry.kept && *address != newcomer);
        if kept.count() < KNOWN {
            return;
        }
        let spare = |entry: &Entry| entry.source == Source::Known && matches!(entry.state, State::Idle { .. });
        let oldest = self.peers.iter().filter(|(_, entry)| spare(entry)).min_by_key(|(_, entry)| entry.reached);
        if let Some(oldest) = oldest.map(|(address, _)| address.clone()) {
            self.forget(&oldest);
        }
    }
}

impl Entry {
    fn new(source: Source, now: Instant) -> Self {
        Self { source, state: State::Idle { next: now }, failures: 0, reached: None, kept: false }
    }

    fn wait(&mut self, now: Instant, random: u64) {
        self.state =
            State::Idle { next: now + backoff(BACKOFF_FIRST, self.source.longest_wait(), self.failures, random) };
        self.failures = self.failures.saturating_add(1);
    }

    /// Who is dialled before whom.
    const fn rank(&self) -> u8 {
        match self.source {
            Source::Named => 0,
            Source::Known => 1,
            Source::Public => 2,
            Source::Heard(_) => 3,
        }
    }
}

#[cfg(test)]
#[path = "book_tests.rs"]
mod tests;
