//! The quotas, as token buckets of bytes. Pure but for the clock, which the tests turn.
//!
//! What an untrusted laptop can have written here in an hour is the sum of the bursts and of the refills: 24 + 56 MiB of
//! the pool, 6 + 10 of the reserves and 32 + 14 of large objects, 142 MiB, with any number of keys.

use std::{hash::Hash, num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::StateInformationMiddleware,
    state::{InMemoryState, NotKeyed, keyed::DashMapStateStore},
};
use spore_protocol::NodeId;

use super::introducers::{Introducer, SourceFacts};
use crate::deferral::QuotaName;

/// Buckets of one table, of about 150 bytes each. When more are in use, new signers and introducers have none: the pool
/// that all share still holds.
const BUCKETS: usize = 16_384;
/// Charges between two attempts to forget full buckets of a table that has too many: each walks the whole table.
const FORGET_EVERY: u32 = 1024;

const MIB: u32 = 1 << 20;
const KIB: u32 = 1 << 10;

/// A bucket: bytes that it holds, and bytes a second that it refills with.
#[derive(Clone, Copy, Debug)]
struct Size {
    holds: u32,
    refill: u32,
}

/// All signers without confirmed work together. The burst is what a node that was off for a week catches up at once:
/// 18,000 records from several subnets. The refill is ten records of the existing network in a second, which train for minutes each.
const POOL: Size = Size { holds: 24 * MIB, refill: 16 * KIB };
/// One introducer: at most half of the pool's refill, so that no subnet alone dries it up for the others.
const INTRODUCER: Size = Size { holds: 16 * MIB, refill: POOL.refill / 2 };
/// What a newcomer may have brought lately to count as a light one: some records in ten minutes, or one with a diff of any
/// length. The reserves are for these.
const LIGHT: Size = Size { holds: 16 * KIB, refill: 32 };
/// Small objects of light newcomers when the pool is dry. A flood from one subnet cannot use it, and it takes 256 subnets
/// that each stay light to empty it.
const RESERVE: Size = Size { holds: 4 * MIB, refill: 2 * KIB };
/// The same for objects that are larger than [`LIGHT`] holds, such as records with the diff of a whole script. Apart, so that a
/// dozen of the longest ones do not keep out the small ones.
const RESERVE_LONG: Size = Size { holds: 2 * MIB, refill: KIB };
/// Objects larger than their kind needs, of everybody.
const LARGE: Size = Size { holds: 32 * MIB, refill: 4 * KIB };
/// One signer without confirmed work: a third of the pool's burst, so that a signer of many records leaves room.
const SIGNER: Size = Size { holds: 8 * MIB, refill: KIB };
/// One signer with confirmed work: a record in a second, more than anybody trains. It shares the pool beyond.
const CONFIRMED: Size = Size { holds: 2 * MIB, refill: 2 * KIB };
/// One peer that the operator named. Such a peer limits what it takes by the same rules, so that it brings little more
/// than the pool of another node.
const NAMED: Size = Size { holds: 32 * MIB, refill: 2 * POOL.refill };

/// Bytes that a store which starts empty takes beyond the quotas, once: the history of a network that is not huge.
const FIRST_FILL: u64 = 96 << 20;
/// As [`FIRST_FILL`], from peers that the operator named: three million records,
/// which the disk budget bounds like all others.
const NAMED_FILL: u64 = 4 << 30;

type Shared<C> = RateLimiter<NotKeyed, InMemoryState, C, governor::middleware::NoOpMiddleware<<C as Clock>::Instant>>;
type Buckets<K, C> = RateLimiter<K, DashMapStateStore<K>, C, StateInformationMiddleware>;

/// [`LIGHT`] as a cost.
const WHOLE_LIGHT: NonZeroU32 = NonZeroU32::MIN.saturating_add(LIGHT.holds - 1);

/// One bucket for each key, within [`BUCKETS`].
struct Table<K: Hash + Eq + Clone, C: Clock> {
    buckets: Buckets<K, C>,
    since_forgot: u32,
}

impl<K: Hash + Eq + Clone, C: Clock + Clone> Table<K, C> {
    fn new(size: Size, clock: C) -> Self {
        Self { buckets: RateLimiter::new(quota(size), DashMapStateStore::default(), clock), since_forgot: FORGET_EVERY }
    }

    /// Whether there is room for one more bucket.
    fn has_bucket(&mut self) -> bool {
        self.since_forgot = self.since_forgot.saturating_add(1);
        if self.buckets.len() >= BUCKETS && self.since_forgot >= FORGET_EVERY {
            self.since_forgot = 0;
            self.buckets.retain_recent();
        }
        self.buckets.len() < BUCKETS
    }

    /// None when there are too many buckets to say.
    fn charge(&mut self, key: &K, cost: NonZeroU32) -> Option<bool> {
        if !self.has_bucket() {
            return None;
        }
        Some(matches!(self.buckets.check_key_n(key, cost), Ok(Ok(_))))
    }

    /// Takes what a bucket has left, if that is less.
    fn take_up_to(&mut self, key: &K, cost: NonZeroU32) {
        if self.charge(key, cost) == Some(false)
            && let Some(rest) = self.room(key).and_then(|room| NonZeroU32::new(room.saturating_sub(1)))
        {
            self.charge(key, rest);
        }
    }

    /// Bytes that a bucket has left, at the cost of one of them. None when there are too many buckets to say.
    fn room(&mut self, key: &K) -> Option<u32> {
        self.has_bucket().then(|| match self.buckets.check_key_n(key, NonZeroU32::MIN) {
            Ok(Ok(left)) => left.remaining_burst_capacity().saturating_add(1),
            _ => 0,
        })
    }
}

fn quota(size: Size) -> Quota {
    let refill = NonZeroU32::new(size.refill).unwrap_or(NonZeroU32::MIN);
    let holds = NonZeroU32::new(size.holds).unwrap_or(NonZeroU32::MIN);
    let per_byte = Duration::from_secs(1) / refill.get();
    Quota::with_period(per_byte).unwrap_or_else(|| Quota::per_second(refill)).allow_burst(holds)
}

/// Who paid for the introduction of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payer {
    /// The first fill, a named peer, or the quota of large objects: the signer is not limited.
    Apart,
    /// The pool: the signer has a share of it.
    Pool,
    /// The signer itself, by its confirmed work. Charged once the signature is checked.
    Signer,
}

/// All quotas.
pub struct Quotas<C: Clock> {
    pool: Shared<C>,
    reserve: Shared<C>,
    reserve_long: Shared<C>,
    large: Shared<C>,
    introducers: Table<Introducer, C>,
    light: Table<Introducer, C>,
    named: Table<Introducer, C>,
    signers: Table<NodeId, C>,
    confirmed: Table<NodeId, C>,
    first_fill: u64,
    named_fill: u64,
}

impl<C: Clock> std::fmt::Debug for Quotas<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Quotas").field("first_fill", &self.first_fill).finish_non_exhaustive()
    }
}

impl<C: Clock + Clone> Quotas<C> {
    /// `young`: the store starts empty, or nearly so.
    pub fn new(clock: &C, young: bool) -> Self {
        let shared = |size| RateLimiter::direct_with_clock(quota(size), clock.clone());
        Self {
            pool: shared(POOL),
            reserve: shared(RESERVE),
            reserve_long: shared(RESERVE_LONG),
            large: shared(LARGE),
            introducers: Table::new(INTRODUCER, clock.clone()),
            light: Table::new(LIGHT, clock.clone()),
            named: Table::new(NAMED, clock.clone()),
            signers: Table::new(SIGNER, clock.clone()),
            confirmed: Table::new(CONFIRMED, clock.clone()),
            first_fill: if young { FIRST_FILL } else { 0 },
            named_fill: if young { NAMED_FILL } else { 0 },
        }
    }

    /// Charges whoever brings an object, before its signature is checked: forgeries cost, too. `confirmed`: the signer
    /// that the object names has confirmed work.
    ///
    /// # Errors
    /// The quota that is used up.
    pub fn introduce(
        &mut self,
        source: &SourceFacts,
        confirmed: bool,
        large: bool,
        cost: u32,
    ) -> Result<Payer, QuotaName> {
        let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN);
        if large {
            return if passes(&self.large, cost) { Ok(Payer::Apart) } else { Err(QuotaName::Large) };
        }
        if confirmed {
            return Ok(Payer::Signer);
        }
        if source.named
            && (take(&mut self.named_fill, cost) || self.named.charge(&source.introducer, cost) == Some(true))
        {
            return Ok(Payer::Apart);
        }
        if take(&mut self.first_fill, cost) {
            return Ok(Payer::Apart);
        }
        if self.introducers.charge(&source.introducer, cost) == Some(false) {
            return Err(QuotaName::Introducer);
        }
        if passes(&self.pool, cost) {
            // So that only who brings little is light.
            self.light.take_up_to(&source.newcomer, cost.min(WHOLE_LIGHT));
            return Ok(Payer::Pool);
        }
        if self.passes_reserve(&source.newcomer, cost) { Ok(Payer::Pool) } else { Err(QuotaName::Unknown) }
    }

    /// Whether a reserve takes an object of a newcomer. An object that it refuses leaves the newcomer as light as before,
    /// so that it gets in when it comes again.
    fn passes_reserve(&mut self, newcomer: &Introducer, cost: NonZeroU32) -> bool {
        let share = cost.min(WHOLE_LIGHT);
        if self.light.room(newcomer).is_none_or(|room| room < share.get()) {
            return false;
        }
        let reserve = if cost > WHOLE_LIGHT { &self.reserve_long } else { &self.reserve };
        // Looking at the room took a byte.
        passes(reserve, cost)
            && NonZeroU32::new(share.get() - 1).is_none_or(|rest| self.light.charge(newcomer, rest) == Some(true))
    }

    /// Charges the signer of an object whose signature is right.
    ///
    /// # Errors
    /// The quota that is used up.
    pub fn sign(&mut self, signer: &NodeId, payer: Payer, cost: u32) -> Result<(), QuotaName> {
        let cost = NonZeroU32::new(cost).unwrap_or(NonZeroU32::MIN);
        let passes = match payer {
            Payer::Apart => true,
            Payer::Pool => self.signers.charge(signer, cost) != Some(false),
            // Beyond its room it is one signer of the pool like any other.
            Payer::Signer => {
                self.confirmed.charge(signer, cost) == Some(true)
                    || self.signers.charge(signer, cost) != Some(false) && passes(&self.pool, cost)
            }
        };
        if passes { Ok(()) } else { Err(QuotaName::Signer) }
    }
}

fn passes<C: Clock>(bucket: &Shared<C>, cost: NonZeroU32) -> bool {
    matches!(bucket.check_n(cost), Ok(Ok(())))
}

fn take(rest: &mut u64, cost: NonZeroU32) -> bool {
    let left = rest.checked_sub(u64::from(cost.get()));
    *rest = left.unwrap_or(*rest);
    left.is_some()
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;
    use spore_protocol::fixtures::identity;

    use super::{
        super::introducers::{Introducers, Source},
        *,
    };
    use crate::SessionId;

    /// A tiny record.
    const COST: u32 = 1200;

    struct World {
        clock: FakeRelativeClock,
        quotas: Quotas<FakeRelativeClock>,
    }

    impl World {
        fn new(young: bool) -> Self {
            let clock = FakeRelativeClock::default();
            Self { quotas: Quotas::new(&clock, young), clock }
        }

        /// How many of `count` tiny records of as many unknown keys get in, in bytes.
        fn flood(&mut self, source: &SourceFacts, count: u32) -> u64 {
            let taken = (0..count).filter(|_| self.quotas.introduce(source, false, false, COST).is_ok());
            taken.count() as u64 * u64::from(COST)
        }
    }

    fn at(address: [u8; 4], named: bool) -> SourceFacts {
        let (introducers, source) = (Introducers::default(), Source::Session(SessionId(1)));
        introducers.connected(source, Some(address.into()), named);
        introducers.facts(source)
    }

    #[test]
    fn hour_of_flood_from_many_subnets_stays_under_200_megabytes() {
        let mut world = World::new(false);
        let mut taken = 0;
        for minute in 0..60u8 {
            for subnet in 0..20 {
                taken += world.flood(&at([45, subnet, minute % 4, 1], false), 1500);
            }
            let large =
                (0..5).filter(|_| world.quotas.introduce(&at([45, 0, 0, 1], false), false, true, 9 * MIB).is_ok());
            taken += large.count() as u64 * 9 * u64::from(MIB);
            world.clock.advance(Duration::from_secs(60));
        }
        assert!(taken < 150 << 20, "{taken}");
        assert!(taken > 90 << 20, "the quotas are used: {taken}");
    }

    #[test]
    fn newcomer_gets_in_during_a_flood() {
        let mut world = World::new(false);
        for minute in 0..60u8 {
            for subnet in 0..20 {
                world.flood(&at([45, subnet, 0, 1], false), 1500);
            }
            // Somebody new every minute, from a home of their own.
            let newcomer = at([80, minute, 7, 1], false);
            let payer = world.quotas.introduce(&newcomer, false, false, COST).unwrap();
            world.quotas.sign(&identity(minute).node_id(), payer, COST).unwrap();
            world.clock.advance(Duration::from_secs(60));
        }
    }

    fn dry() -> World {
        let mut world = World::new(false);
        for subnet in 0..20 {
            world.flood(&at([45, subnet, 0, 1], false), 1500);
        }
        world
    }

    #[test]
    fn newcomer_with_a_long_diff_gets_in_during_a_flood() {
        let mut world = dry();
        let newcomer = at([80, 1, 7, 1], false);
        assert_eq!(world.quotas.introduce(&newcomer, false, false, 120 * KIB), Ok(Payer::Pool));
        assert_eq!(world.quotas.introduce(&newcomer, false, false, COST), Err(QuotaName::Unknown), "light no more");
        world.clock.advance(Duration::from_secs(600));
        let other = at([80, 2, 7, 1], false);
        assert_eq!(world.quotas.introduce(&other, false, false, COST), Ok(Payer::Pool));
    }

    #[test]
    fn newcomer_that_was_refused_is_as_light_as_before() {
        let mut world = dry();
        // Many subnets, each of few objects, empty the reserve.
        for subnet in 0..=511_u16 {
            let [block, subnet] = subnet.to_be_bytes();
            world.flood(&at([90 + block, subnet, 0, 1], false), 16);
        }
        let newcomer = at([80, 1, 7, 1], false);
        let refused = (0..100).filter(|_| world.quotas.introduce(&newcomer, false, false, COST).is_err()).count();
        assert!(refused > 50, "most tries come too late: {refused}");
        // Two records in the reserve by now, and none in the pool's share of one subnet.
        for subnet in 0..20 {
            world.flood(&at([45, subnet, 0, 1], false), 1500);
        }
        world.clock.advance(Duration::from_secs(1));
        world.flood(&at([45, 0, 0, 1], false), 1500);
        assert_eq!(world.quotas.introduce(&newcomer, false, false, COST), Ok(Payer::Pool));
    }

    #[test]
    fn site_of_many_subnets_is_one_newcomer() {
        let mut world = dry();
        let taken: u64 = (0..=255)
            .map(|subnet: u16| {
                let (introducers, source) = (Introducers::default(), Source::Session(SessionId(1)));
                let address = std::net::Ipv6Addr::new(0x2a01, 1, 1, subnet << 8, 0, 0, 0, 1);
                introducers.connected(source, Some(address.into()), false);
                world.flood(&introducers.facts(source), 16)
            })
            .sum();
        assert!(taken <= u64::from(LIGHT.holds), "{taken}");
    }

    #[test]
    fn confirmed_signer_has_room_when_the_pool_is_dry() {
        let mut world = World::new(false);
        for subnet in 0..20 {
            world.flood(&at([45, subnet, 0, 1], false), 1500);
        }
        let (flooder, signer) = (at([45, 0, 0, 1], false), identity(1).node_id());
        assert_eq!(world.quotas.introduce(&flooder, false, false, COST), Err(QuotaName::Unknown));
        let payer = world.quotas.introduce(&flooder, true, false, COST).unwrap();
        assert_eq!((payer, world.quotas.sign(&signer, payer, COST)), (Payer::Signer, Ok(())));
        let more = (0..3000).filter(|_| world.quotas.sign(&signer, payer, COST).is_ok()).count();
        assert!((1000..2000).contains(&more), "its room is bounded, too: {more}");
    }

    #[test]
    fn history_of_twenty_thousand_records_is_taken_at_once() {
        // 2 KB each, of one signer.
        let signer = identity(1).node_id();
        for (young, named) in [(true, false), (true, true), (false, true)] {
            let (mut world, source) = (World::new(young), at([45, 0, 0, 1], named));
            let count = if young { 20_000 } else { 12_000 };
            for number in 0..count {
                let payer = world.quotas.introduce(&source, false, false, 2500);
                let payer = payer.unwrap_or_else(|quota| panic!("{young} {named} {number}: {quota:?}"));
                assert_eq!(world.quotas.sign(&signer, payer, 2500), Ok(()));
            }
        }
    }

    #[test]
    fn introducer_pays_for_a_million_keys() {
        let mut world = World::new(false);
        let one = world.flood(&at([45, 0, 0, 1], false), 100_000);
        assert!(one <= u64::from(INTRODUCER.holds), "{one}");
        assert!(world.flood(&at([45, 0, 1, 1], false), 1000) > 0, "another subnet has its share");
    }

    #[test]
    fn signer_without_confirmed_work_leaves_room_for_others() {
        let (mut world, source) = (World::new(false), at([45, 0, 0, 1], false));
        let (greedy, other) = (identity(1).node_id(), identity(2).node_id());
        let mut taken = 0;
        while world.quotas.introduce(&source, false, false, COST).is_ok() {
            taken += u32::from(world.quotas.sign(&greedy, Payer::Pool, COST).is_ok()) * COST;
        }
        assert!(taken <= SIGNER.holds);
        assert_eq!(world.quotas.sign(&other, Payer::Pool, COST), Ok(()));
    }

    #[test]
    fn large_objects_have_a_small_quota_also_of_confirmed_and_named() {
        let (mut world, source) = (World::new(true), at([45, 0, 0, 1], true));
        let taken = (0..45).filter(|_| world.quotas.introduce(&source, true, true, 9 * MIB).is_ok()).count();
        assert_eq!(taken, 3);
    }

    #[test]
    fn tables_are_bounded_and_forget_full_buckets() {
        let clock = FakeRelativeClock::default();
        let mut table: Table<u32, _> = Table::new(LIGHT, clock.clone());
        let cost = NonZeroU32::new(COST).unwrap();
        for key in 0..2 * BUCKETS as u32 {
            table.charge(&key, cost);
        }
        assert!(table.buckets.len() <= BUCKETS);
        assert_eq!(table.charge(&u32::MAX, cost), None);
        clock.advance(Duration::from_secs(3600));
        let charged = (0..=FORGET_EVERY).filter_map(|key| table.charge(&(u32::MAX - key), cost)).count();
        assert!(charged > 0);
    }
}
