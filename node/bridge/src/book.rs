//! The address book: which legacy peers there are, and when each one is dialled.
//!
//! Pure: times and randomness are passed in. [`AddressBook::due`] says whom to dial, and the hub reports what became
//! of each dial and each connection. Peers that the operator named are dialled for ever. Peers that were connected
//! once are kept in a file ([`super::book_file`]) and dialled while too few peers are connected. So are peers that
//! others named, which are forgotten soon when they do not answer.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    time::{Duration, Instant},
};

use spore_base::{
    peer_address::{PeerAddress, is_local, subject},
    peer_book::{DialSource, PeerBook, PeerEntry},
    random::Rng,
};

use super::limits::{
    BACKOFF_FOUND, BACKOFF_NAMED, BACKOFF_PUBLIC, BOOK, DIALS, EXCHANGED, HEARD, HEARD_FAILURES, HEARD_FROM_ONE, KNOWN,
    KNOWN_FAILURES, NAMED, OUTBOUND_TARGET, OWN,
};

/// Why a peer is in the book.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerSource {
    /// The operator named it: on the command line, in the configuration, by `spore connect`.
    Named,
    /// It was connected before.
    Known,
    /// The peer at this address named it.
    Heard(IpAddr),
    /// It is the public peer, which is dialled because the operator named nobody.
    Public,
}

impl PeerSource {
    /// Peers of a lower rank are dialled first.
    const fn rank(self) -> u8 {
        match self {
            Self::Named => 0,
            Self::Known => 1,
            Self::Public => 2,
            Self::Heard(_) => 3,
        }
    }
}

/// The operator has named as many peers as the book may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{NAMED} peers are named already; remove one first")]
pub struct TooManyNamed;

/// The source of an address, and whether the address belongs into the file.
#[derive(Clone, Copy, Debug)]
struct PeerOrigin {
    source: PeerSource,
    kept: bool,
}

impl PeerOrigin {
    const fn new(source: PeerSource) -> Self {
        Self { source, kept: false }
    }
}

impl DialSource for PeerOrigin {
    fn longest_wait(&self) -> Duration {
        match self.source {
            PeerSource::Named => BACKOFF_NAMED,
            PeerSource::Known | PeerSource::Heard(_) => BACKOFF_FOUND,
            PeerSource::Public => BACKOFF_PUBLIC,
        }
    }
}

/// The peers, and which addresses are this node's own.
#[derive(Debug)]
pub struct AddressBook {
    peers: PeerBook<PeerAddress, PeerOrigin>,
    /// Addresses that lead to this node.
    own: BTreeSet<PeerAddress>,
    /// Dialled only if the operator names it.
    avoided: Option<PeerAddress>,
    /// The file does not hold the present peers.
    unsaved: bool,
    /// A failure to write the file was reported.
    failure_reported: bool,
}

impl Default for AddressBook {
    fn default() -> Self {
        Self::new(None)
    }
}

impl AddressBook {
    /// An empty book. The address `avoided` comes in only if the operator names it.
    pub const fn new(avoided: Option<PeerAddress>) -> Self {
        let peers = PeerBook::new(BOOK);
        Self { peers, own: BTreeSet::new(), avoided, unsaved: false, failure_reported: false }
    }

    /// Adds a peer to stay connected with. It is dialled at once, whatever failed before.
    ///
    /// # Errors
    /// When the operator has named too many peers.
    pub fn name(&mut self, address: &PeerAddress, now: Instant) -> Result<(), TooManyNamed> {
        let others = self.peers.iter().filter(|(other, _)| *other != address);
        if others.filter(|(_, entry)| entry.source().source == PeerSource::Named).count() >= NAMED {
            return Err(TooManyNamed);
        }
        if !self.peers.add(address.clone(), PeerOrigin::new(PeerSource::Named), now) {
            return Err(TooManyNamed);
        }
        if let Some(origin) = self.peers.source_mut(address) {
            origin.source = PeerSource::Named;
        }
        self.peers.retry_now(address, now);
        Ok(())
    }

    /// Adds peers that were connected in an earlier run.
    pub fn remember(&mut self, addresses: Vec<PeerAddress>, now: Instant) {
        for address in addresses.into_iter().take(KNOWN) {
            if self.is_welcome(&address) && self.peers.add(address.clone(), PeerOrigin::new(PeerSource::Known), now) {
                self.peers.source_mut(&address).into_iter().for_each(|origin| origin.kept = true);
            }
        }
    }

    /// Adds the public peer.
    pub fn add_public(&mut self, address: PeerAddress, now: Instant) {
        self.peers.add(address, PeerOrigin::new(PeerSource::Public), now);
    }

    /// Adds the peers that the peer at `from` named. An address in a private network is believed only of a peer that
    /// is in a private network itself.
    pub fn hear(&mut self, from: IpAddr, addresses: Vec<PeerAddress>, now: Instant) {
        let from = subject(from);
        for address in addresses.into_iter().take(EXCHANGED) {
            let heard = self.peers.iter().filter_map(|(_, entry)| match entry.source().source {
                PeerSource::Heard(from) => Some(from),
                _ => None,
            });
            let (all, by_this_peer) = heard.fold((0, 0), |(all, this), by| (all + 1, this + usize::from(by == from)));
            let room = all < HEARD && by_this_peer < HEARD_FROM_ONE;
            let believed = !address.is_local() || is_local(from);
            if room && believed && self.is_welcome(&address) {
                self.peers.add(address, PeerOrigin::new(PeerSource::Heard(from)), now);
            }
        }
    }

    /// The peers to dial now. Each one must be reported back by [`AddressBook::connected`], [`AddressBook::failed`],
    /// [`AddressBook::is_twin`] or [`AddressBook::is_own`]. `rng` decides between equals.
    pub fn due(&mut self, now: Instant, rng: &mut (impl Rng + ?Sized)) -> Vec<PeerAddress> {
        let connected = self.peers.iter().filter(|(_, entry)| entry.is_connected()).count();
        let mut due: Vec<_> =
            self.peers.due(now, rng).into_iter().filter_map(|one| Some((self.source(&one)?, one))).collect();
        // A stable sort: equals stay in their random order.
        due.sort_by_key(|(source, _)| source.rank());
        let mut chosen = Vec::new();
        for (source, address) in due {
            let wanted = source == PeerSource::Named || connected + self.peers.dials() < OUTBOUND_TARGET;
            if wanted && self.peers.dials() < DIALS {
                self.peers.dialling(&address);
                chosen.push(address);
            }
        }
        chosen
    }

    /// A dial led to a connection.
    pub fn connected(&mut self, address: &PeerAddress, now: Instant) {
        self.make_room_for_known(address);
        self.peers.connected(address, now);
        let Some(origin) = self.peers.source_mut(address) else { return };
        if matches!(origin.source, PeerSource::Heard(_)) {
            origin.source = PeerSource::Known;
        }
        if origin.source != PeerSource::Public && !origin.kept {
            origin.kept = true;
            self.unsaved = true;
        }
    }

    /// A dial failed. A peer that the operator did not name is forgotten in time. A known one is forgotten only while
    /// `others` are connected, because otherwise a failure of our own network would empty the book. Returns the
    /// number of failures in a row.
    pub fn failed(&mut self, address: &PeerAddress, others: bool, now: Instant, random: u64) -> u32 {
        let failures = self.peers.failed(address, now, random);
        let forgotten = self.source(address).is_some_and(|source| match source {
            PeerSource::Heard(_) => failures >= HEARD_FAILURES,
            PeerSource::Known => failures >= KNOWN_FAILURES && others,
            PeerSource::Named | PeerSource::Public => false,
        });
        if forgotten {
            self.forget(address);
        }
        failures
    }

    /// A dial reached the peer that is connected under the address `of`. The address is not dialled until that
    /// connection has ended.
    pub fn is_twin(&mut self, address: &PeerAddress, of: &PeerAddress) {
        self.peers.is_twin(address, of);
    }

    /// A connection that this node had dialled has ended.
    pub fn closed(&mut self, address: &PeerAddress, now: Instant, random: u64) {
        self.peers.closed(address, now, random);
    }

    /// A dial reached this node itself. The address is never dialled again.
    pub fn is_own(&mut self, address: &PeerAddress) {
        self.peers.given_up(address);
        self.forget(address);
        if self.own.len() < OWN {
            self.own.insert(address.clone());
        }
    }

    /// Removes a peer. False when it is not in the book. The result of a dial under way is still to be reported.
    pub fn forget(&mut self, address: &PeerAddress) -> bool {
        let removed = self.peers.remove(address);
        self.unsaved |= removed.as_ref().is_some_and(|entry| entry.source().kept);
        removed.is_some()
    }

    /// Why an address is in the book. None when it is not.
    pub fn source(&self, address: &PeerAddress) -> Option<PeerSource> {
        self.peers.get(address).map(|entry| entry.source().source)
    }

    /// Whether a connection that this node dialled is open with the peer, under this address or another.
    pub fn is_connected(&self, address: &PeerAddress) -> bool {
        self.peers.get(address).is_some_and(|entry| !entry.is_idle())
    }

    /// The peers to name to the peer at `to`: those that this node dialled and is connected with.
    pub fn to_exchange(&self, to: IpAddr) -> Vec<PeerAddress> {
        let connected = self.peers.iter().filter(|(_, entry)| entry.is_connected()).map(|(address, _)| address);
        connected.filter(|address| !address.is_local() || is_local(to)).take(EXCHANGED).cloned().collect()
    }

    /// The peers that belong into the file. None when they have not changed since the last call.
    pub fn take_unsaved(&mut self) -> Option<Vec<PeerAddress>> {
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        Some(self.kept().map(|(address, _)| address.clone()).collect())
    }

    /// The file could not be written, so the next call of [`AddressBook::take_unsaved`] returns the peers again. True
    /// the first time, when the failure is worth a warning.
    pub fn not_saved(&mut self) -> bool {
        self.unsaved = true;
        !std::mem::replace(&mut self.failure_reported, true)
    }

    fn is_welcome(&self, address: &PeerAddress) -> bool {
        !self.own.contains(address) && self.avoided.as_ref() != Some(address)
    }

    fn kept(&self) -> impl Iterator<Item = (&PeerAddress, &PeerEntry<PeerAddress, PeerOrigin>)> {
        self.peers.iter().filter(|(_, entry)| entry.source().kept)
    }

    /// Forgets the known peer that was not connected for longest, if `newcomer` would be one peer too many.
    fn make_room_for_known(&mut self, newcomer: &PeerAddress) {
        if self.kept().filter(|(address, _)| *address != newcomer).count() < KNOWN {
            return;
        }
        let spare = self.peers.iter().filter(|(address, entry)| {
            entry.source().source == PeerSource::Known && entry.is_idle() && *address != newcomer
        });
        let oldest = spare.min_by_key(|(_, entry)| entry.reached()).map(|(address, _)| address.clone());
        if let Some(oldest) = oldest {
            self.forget(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
