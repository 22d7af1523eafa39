//! Standing of peers: penalty points that fade, and bans that end.
//!
//! Both networks use this one table of penalties. Pure: times are passed in. The caller says by what a culprit is
//! counted: libp2p counts by peer id, the bridge by address, because the legacy protocol has no handshake and an
//! address is all that is known of a legacy peer.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use spore_protocol::Reject;

/// Penalty points at which a culprit is banned.
pub const PENALTY_LIMIT: u32 = 1000;
/// One penalty point is forgiven in this time, so that rare mistakes of a long-lived peer do not add up. An offence
/// of the heaviest kind is forgiven within 25 minutes.
pub const FORGIVE_INTERVAL: Duration = Duration::from_secs(5);
/// Points that [`Offence::Refused`] alone can add up to: too few for a ban.
pub const REFUSED_MOST: u32 = PENALTY_LIMIT / 2;
/// Culprits whose points are remembered, connected or not. At about 100 bytes each.
pub const CULPRITS: usize = 4096;
/// Bans that are remembered. At about 100 bytes each.
pub const BANS: usize = 1024;
/// First ban of a culprit that is known by its key: nobody else has that key.
pub const FIRST_BAN_OF_KEY: Duration = Duration::from_secs(60 * 60);
/// First ban of a culprit that is known by its address: honest peers may share the address.
pub const FIRST_BAN_OF_ADDRESS: Duration = Duration::from_secs(5 * 60);
/// Longest ban. Each ban is twice as long as the one before.
pub const LONGEST_BAN: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after its end a ban is remembered, so that the next one doubles.
pub const BAN_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);

/// What a peer did. Each kind says how many of it within some minutes ban the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// The peer sent bytes that cannot be read as the message or the object that they claim to be. Nodes check this
    /// before they relay. The fourth bans.
    Malformed,
    /// The peer sent, or announced, a message that is larger than any may be. The fourth bans.
    Oversize,
    /// The peer sent an object whose id or signature is wrong, or another artifact than the one asked for. Nodes check
    /// this before they relay. The fourth bans.
    Forged,
    /// The peer sent an object that breaks a rule about its place: another task or another depth than its parent's,
    /// the wrong topic, a field or a kind that does not exist. An honest node can relay a wrong lineage while it does
    /// not know the parent. The tenth bans.
    Misplaced,
    /// The peer began a message and did not finish it in time: a slow line, or somebody who holds memory that others
    /// wait for. The thirtieth bans. One every three minutes never does, which is what the slowest line needs.
    Late,
    /// The peer sent an object whose timestamp is too far in the future. An honest node whose clock is ahead relays
    /// such objects. The hundredth bans.
    FromTheFuture,
    /// The peer sent an object that only this program's stricter reading refuses. The reference relays such objects
    /// in good faith. Any number of these never bans.
    Refused,
}

impl Offence {
    /// Penalty points, out of [`PENALTY_LIMIT`].
    pub const fn points(self) -> u32 {
        match self {
            Self::Malformed | Self::Oversize | Self::Forged => 300,
            Self::Misplaced => 110,
            // 36 points are forgiven in the three minutes after which a message is late.
            Self::Late => 34,
            Self::FromTheFuture => 10,
            Self::Refused => 1,
        }
    }

    /// The offence of a libp2p peer that sent an object or a message which was refused for this reason. Legacy peers
    /// check less before they relay, so the bridge has a mapping of its own.
    pub const fn of(reject: &Reject) -> Self {
        match reject {
            Reject::FromTheFuture { .. } => Self::FromTheFuture,
            Reject::TaskMismatch | Reject::DepthMismatch { .. } => Self::Misplaced,
            Reject::UnknownField(_) | Reject::UnknownKind | Reject::WrongTopic => Self::Misplaced,
            Reject::TooLarge { .. } => Self::Oversize,
            Reject::IdMismatch { .. } | Reject::BadSignature | Reject::ActorMismatch { .. } => Self::Forged,
            _ => Self::Malformed,
        }
    }
}

/// Consequence of an offence.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub enum Consequence<K> {
    /// The culprit has this many points and stays connected.
    Points(u32),
    /// The culprit is banned: close its connections and refuse new ones.
    Ban {
        /// The culprit whose ban was dropped before its end, because the table was full.
        instead_of: Option<K>,
    },
}

impl<K> Consequence<K> {
    pub const fn is_ban(&self) -> bool {
        matches!(self, Self::Ban { .. })
    }
}

/// Penalty points and bans of all culprits.
#[derive(Debug)]
pub struct Standing<K> {
    first_ban: Duration,
    /// Points at which a culprit is banned.
    limit: u32,
    points: HashMap<K, Points>,
    bans: HashMap<K, Ban>,
    /// When [`Standing::forgive`] last did something.
    forgiven: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
struct Points {
    count: u32,
    /// When `count` was right. Points were forgiven since.
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: Instant,
    length: Duration,
    /// [`Standing::ended`] has reported its end.
    reported: bool,
}

impl<K: Clone + Eq + Hash> Standing<K> {
    /// Nobody has points yet. `first_ban`: [`FIRST_BAN_OF_KEY`] or [`FIRST_BAN_OF_ADDRESS`].
    pub fn new(first_ban: Duration) -> Self {
        Self::shared_by(1, first_ban)
    }

    /// As [`Standing::new`], for culprits that some peers may share, such as an address: only so many times
    /// [`PENALTY_LIMIT`] points ban one.
    pub fn shared_by(peers: u32, first_ban: Duration) -> Self {
        let limit = PENALTY_LIMIT.saturating_mul(peers);
        Self { first_ban, limit, points: HashMap::new(), bans: HashMap::new(), forgiven: None }
    }

    /// Adds an offence to a culprit.
    pub fn penalise(&mut self, culprit: &K, offence: Offence, now: Instant) -> Consequence<K> {
        if self.banned(culprit, now).is_some() {
            return Consequence::Ban { instead_of: None };
        }
        let before = self.points.get(culprit).map_or(Points { count: 0, at: now }, |points| points.at(now));
        let most = if offence == Offence::Refused { REFUSED_MOST.max(before.count) } else { u32::MAX };
        let count = before.count.saturating_add(offence.points()).min(most);
        if count >= self.limit {
            return Consequence::Ban { instead_of: self.ban(culprit, now) };
        }
        if self.points.len() >= CULPRITS && !self.points.contains_key(culprit) {
            let least = self.points.iter().min_by_key(|(_, points)| points.count).map(|(one, _)| one.clone());
            least.map(|least| self.points.remove(&least));
        }
        self.points.insert(culprit.clone(), Points { count, ..before });
        Consequence::Points(count)
    }

    /// How much longer a culprit is banned. None when it is not banned.
    pub fn banned(&self, culprit: &K, now: Instant) -> Option<Duration> {
        let ban = self.bans.get(culprit)?;
        ban.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Penalty points of a culprit at `now`.
    pub fn points(&self, culprit: &K, now: Instant) -> u32 {
        self.points.get(culprit).map_or(0, |points| points.at(now).count)
    }

    /// Forgets a culprit's points and ban: the operator vouches for it.
    pub fn pardon(&mut self, culprit: &K) {
        self.points.remove(culprit);
        self.bans.remove(culprit);
    }

    /// Forgets what has faded. Returns each culprit with what is left of its points, the last time with 0. Returns
    /// nothing before [`FORGIVE_INTERVAL`] has passed since it last returned something, so it may be called often.
    pub fn forgive(&mut self, now: Instant) -> Vec<(K, u32)> {
        if self.forgiven.is_some_and(|at| now.saturating_duration_since(at) < FORGIVE_INTERVAL) {
            return Vec::new();
        }
        self.forgiven = Some(now);
        let left = self.points.iter().map(|(culprit, points)| (culprit.clone(), points.at(now).count)).collect();
        self.points.retain(|_, points| points.at(now).count > 0);
        self.bans.retain(|_, ban| now.saturating_duration_since(ban.until) < BAN_MEMORY);
        left
    }

    /// The culprits whose ban has ended since this was last called. To be called more often than [`BAN_MEMORY`].
    pub fn ended(&mut self, now: Instant) -> Vec<K> {
        let over = self.bans.iter_mut().filter(|(_, ban)| ban.until <= now && !ban.reported);
        over.map(|(culprit, ban)| {
            ban.reported = true;
            culprit.clone()
        })
        .collect()
    }

    /// Bans a culprit. Returns the culprit whose ban was dropped early, if the table was full.
    fn ban(&mut self, culprit: &K, now: Instant) -> Option<K> {
        self.points.remove(culprit);
        let remembered = self.bans.get(culprit).filter(|ban| now.saturating_duration_since(ban.until) < BAN_MEMORY);
        let length = remembered.map_or(self.first_ban, |ban| ban.length.saturating_mul(2).min(LONGEST_BAN));
        let mut dropped = None;
        if self.bans.len() >= BANS && !self.bans.contains_key(culprit) {
            let first = self.bans.iter().min_by_key(|(_, ban)| ban.until).map(|(one, _)| one.clone());
            // The end of a ban that is over but not reported yet is reported here.
            dropped = first.filter(|first| self.bans.remove(first).is_some_and(|ban| !ban.reported));
        }
        self.bans.insert(culprit.clone(), Ban { until: now + length, length, reported: false });
        dropped
    }
}

impl Points {
    /// The points after what was forgiven until `now`.
    fn at(self, now: Instant) -> Self {
        let forgiven = now.saturating_duration_since(self.at).as_nanos() / FORGIVE_INTERVAL.as_nanos();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        Self { count: self.count.saturating_sub(forgiven), at: self.at + FORGIVE_INTERVAL.saturating_mul(forgiven) }
    }
}

#[cfg(test)]
mod tests;
