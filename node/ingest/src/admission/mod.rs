//! Admission: which valid objects there is room for now. Identities are free, so quotas count who *brings* objects, by
//! subnet, and what all signers without confirmed work bring together; a fresh key buys nothing.
//!
//! The rule, in the order in which it is asked: this node's own objects and imported ones are not limited. A signer with
//! confirmed work has a room of its own. A peer that the operator named brings a history at full speed, and so does
//! everybody to a store that starts empty, up to a number of bytes. All else shares a pool, of which one subnet may have
//! half; when the pool is dry, a reserve takes the few objects of subnets that brought little. An object without room is
//! answered with [`Deferral::Quota`], which is no offence.
//!
//! docs/adr/0016 tells why an attacker cannot use the exceptions. Never here: what is valid, what is evicted.

pub mod introducers;
mod quotas;
pub mod refused;
mod sizes;

use std::collections::HashMap;

use governor::clock::DefaultClock;
use spore_protocol::{NodeId, SignedObject};
use spore_storage::{Store, StoreError};

use self::{
    introducers::{Introducer, Introducers, Source},
    quotas::{Payer, Quotas},
};
use super::{Deferral, Origin};

/// Objects in a store that is not taken for empty any more: a node that restarts within its first catch-up goes on with
/// it, and one that has run for a while gets no second first fill.
const YOUNG: u64 = 1000;
/// Signers whose work is remembered, of about 60 bytes each.
const KNOWN_SIGNERS: usize = 16_384;
/// Seconds for which a signer's work is remembered.
const KNOWN_FOR: u64 = 60;

/// The state of admission: the first stage of the service owns it.
#[derive(Debug)]
pub struct Admission {
    quotas: Quotas<DefaultClock>,
    introducers: Introducers,
    signers: HashMap<NodeId, Remembered>,
}

#[derive(Clone, Copy, Debug)]
struct Remembered {
    rank: SignerRank,
    /// Unix seconds.
    since: u64,
}

/// What the store knows of a signer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SignerRank {
    /// Has a level in any class, or is trusted.
    pub confirmed: bool,
    pub trusted: bool,
}

/// The ranks of signers, as far as the store was asked.
pub type SignerRanks = HashMap<NodeId, SignerRank>;

impl Admission {
    pub fn new(store: &Store, introducers: Introducers) -> Self {
        let quotas = Quotas::new(&DefaultClock::default(), store.sequence() < YOUNG);
        Self { quotas, introducers, signers: HashMap::new() }
    }

    /// The signers whose work the store has to be asked for: see [`confirmed_signers`].
    pub fn unasked<'a>(&self, objects: impl Iterator<Item = (Origin, &'a SignedObject)>, now: u64) -> Vec<NodeId> {
        let limited = objects.filter(|(origin, _)| Source::of(*origin).is_some());
        let fresh = |signer: &NodeId| self.signers.get(signer).is_some_and(|known| now < known.since + KNOWN_FOR);
        let mut signers: Vec<_> = limited.map(|(_, object)| object.signer()).filter(|signer| !fresh(signer)).collect();
        signers.sort_unstable();
        signers.dedup();
        signers
    }

    /// Remembers what the store said.
    pub fn remember(&mut self, ranks: SignerRanks, now: u64) {
        if self.signers.len() + ranks.len() > KNOWN_SIGNERS {
            self.signers.clear();
        }
        self.signers.extend(ranks.into_iter().map(|(signer, rank)| (signer, Remembered { rank, since: now })));
    }

    fn rank(&self, signer: &NodeId) -> SignerRank {
        self.signers.get(signer).map(|known| known.rank).unwrap_or_default()
    }

    /// Whether the signer is a trusted key, as far as the store was asked.
    pub fn is_trusted(&self, signer: &NodeId) -> bool {
        self.rank(signer).trusted
    }

    /// What the introductions from an origin are counted by. None for this node itself and for files.
    pub fn introducer(&self, origin: Origin) -> Option<Introducer> {
        Source::of(origin).map(|source| self.introducers.facts(source).introducer)
    }

    /// Charges whoever brings an object. Returns the ticket for [`Admission::admit`].
    ///
    /// # Errors
    /// Why there is no room.
    pub fn introduce(&mut self, origin: Origin, object: &SignedObject) -> Result<Ticket, Deferral> {
        let cost = sizes::cost(object);
        let Some(source) = Source::of(origin) else { return Ok(Ticket { payer: Payer::Apart, cost }) };
        let confirmed = self.rank(&object.signer()).confirmed;
        let facts = self.introducers.facts(source);
        let payer = self.quotas.introduce(&facts, confirmed, sizes::is_large(object), cost);
        payer.map(|payer| Ticket { payer, cost }).map_err(Deferral::Quota)
    }

    /// Charges the signer of an object whose signature is right.
    ///
    /// # Errors
    /// Why there is no room.
    pub fn admit(&mut self, signer: &NodeId, ticket: Ticket) -> Result<(), Deferral> {
        self.quotas.sign(signer, ticket.payer, ticket.cost).map_err(Deferral::Quota)
    }
}

/// An object whose introduction is paid for.
#[derive(Clone, Copy, Debug)]
pub struct Ticket {
    payer: Payer,
    cost: u32,
}

/// Asks the store which signers have confirmed work: those with a level in any class, and the trusted keys.
///
/// # Errors
/// When the store cannot be read. A damaged entry counts as no work.
pub fn confirmed_signers(store: &Store, signers: Vec<NodeId>) -> Result<SignerRanks, StoreError> {
    if signers.is_empty() {
        return Ok(SignerRanks::new());
    }
    let seeds = store.seeds()?;
    let rank = |signer: &NodeId| {
        let trusted = seeds.contains(signer);
        let has_level = match store.standings(signer) {
            Ok(standings) => standings.iter().any(|(_, standing)| standing.level.is_some()),
            Err(StoreError::Corrupt(_)) => false,
            Err(error) => return Err(error),
        };
        Ok(SignerRank { confirmed: trusted || has_level, trusted })
    };
    signers.into_iter().map(|signer| rank(&signer).map(|rank| (signer, rank))).collect()
}
