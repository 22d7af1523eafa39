//! Who has misbehaved: penalty points that fade, and bans that end.
//!
//! Pure: times are passed in, and what a culprit is counted by is the caller's to say. There is no
//! handshake in the legacy protocol, so an address is all that is known of a peer.

use std::{
    collections::HashMap,
    hash::Hash,
    time::{Duration, Instant},
};

use super::limits::{
    BAN_FIRST, BAN_MEMORY, BAN_MOST, BANS, FORGIVE_INTERVAL, HEAVY, LATE, LIGHT, LIGHT_MOST, PENALTIES, PENALTY_LIMIT,
};

/// What a peer did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Offence {
    /// A frame that is no JSON of a type and a payload, or a payload that is none of its type's.
    BadFrame,
    /// A frame that says it is longer than any may be.
    Oversize,
    /// An object whose id or signature is wrong, or an artifact that is another: no honest node passes
    /// these on, for it checks them itself.
    Forged,
    /// A frame that began and did not come to its end in time: a slow line, or somebody who keeps room that
    /// others wait for.
    Late,
    /// An object that we refuse and the reference does not.
    Refused,
}

impl Offence {
    /// Points out of [`PENALTY_LIMIT`].
    const fn points(self) -> u32 {
        match self {
            Self::BadFrame | Self::Oversize | Self::Forged => HEAVY,
            Self::Late => LATE,
            Self::Refused => LIGHT,
        }
    }
}

/// What follows for the connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Consequence {
    Keep,
    /// Close it: the culprit is banned.
    Drop,
}

/// Points and bans of all culprits.
#[derive(Debug)]
pub struct Bans<K> {
    points: HashMap<K, Points>,
    bans: HashMap<K, Ban>,
}

impl<K> Default for Bans<K> {
    fn default() -> Self {
        Self { points: HashMap::new(), bans: HashMap::new() }
    }
}

#[derive(Clone, Copy, Debug)]
struct Points {
    count: u32,
    /// When `count` was right; since then points were forgiven.
    at: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Ban {
    until: Instant,
    length: Duration,
}

impl<K: Clone + Eq + Hash> Bans<K> {
    /// Adds an offence to a culprit.
    pub fn penalise(&mut self, culprit: &K, offence: Offence, now: Instant) -> Consequence {
        if self.banned(culprit, now).is_some() {
            return Consequence::Drop;
        }
        let before = self.points(culprit, now);
        let most = if offence == Offence::Refused { LIGHT_MOST.max(before) } else { u32::MAX };
        let count = before.saturating_add(offence.points()).min(most);
        if count >= PENALTY_LIMIT {
            self.ban(culprit, now);
            return Consequence::Drop;
        }
        if self.points.len() >= PENALTIES && !self.points.contains_key(culprit) {
            let least = self.points.iter().min_by_key(|(_, points)| points.count).map(|(one, _)| one.clone());
            least.map(|least| self.points.remove(&least));
        }
        self.points.insert(culprit.clone(), Points { count, at: now });
        Consequence::Keep
    }

    /// How much longer a culprit is banned; none when it is not.
    pub fn banned(&self, culprit: &K, now: Instant) -> Option<Duration> {
        let ban = self.bans.get(culprit)?;
        ban.until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Penalty points of a culprit now.
    pub fn points(&self, culprit: &K, now: Instant) -> u32 {
        self.points.get(culprit).map_or(0, |points| points.left(now))
    }

    /// Lets a culprit off everything: the operator vouches for it.
    pub fn pardon(&mut self, culprit: &K) {
        self.points.remove(culprit);
        self.bans.remove(culprit);
    }

    /// Forgets what is over: faded points, and bans that ended long ago.
    pub fn tidy(&mut self, now: Instant) {
        self.points.retain(|_, points| points.left(now) > 0);
        self.bans.retain(|_, ban| now.saturating_duration_since(ban.until) < BAN_MEMORY);
    }

    fn ban(&mut self, culprit: &K, now: Instant) {
        self.points.remove(culprit);
        let remembered = self.bans.get(culprit).filter(|ban| now.saturating_duration_since(ban.until) < BAN_MEMORY);
        let length = remembered.map_or(BAN_FIRST, |ban| ban.length.saturating_mul(2).min(BAN_MOST));
        if self.bans.len() >= BANS && !self.bans.contains_key(culprit) {
            let first = self.bans.iter().min_by_key(|(_, ban)| ban.until).map(|(one, _)| one.clone());
            first.map(|first| self.bans.remove(&first));
        }
        self.bans.insert(culprit.clone(), Ban { until: now + length, length });
    }
}

impl Points {
    fn left(&self, now: Instant) -> u32 {
        let forgiven = now.saturating_duration_since(self.at).as_nanos() / FORGIVE_INTERVAL.as_nanos();
        self.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

    fn offend_until_banned(bans: &mut Bans<IpAddr>, now: Instant) -> u32 {
        let mut offences = 1;
        while bans.penalise(&IP, Offence::Forged, now) == Consequence::Keep {
            offences += 1;
        }
        offences
    }

    #[test]
    fn heavy_offences_ban_and_fade() {
        let start = Instant::now();
        let mut bans = Bans::default();
        assert_eq!(bans.penalise(&IP, Offence::BadFrame, start), Consequence::Keep, "one mistake is no ban");
        assert_eq!(bans.points(&IP, start), HEAVY);
        assert_eq!(bans.points(&IP, start + FORGIVE_INTERVAL * HEAVY), 0);
        bans.tidy(start + FORGIVE_INTERVAL * HEAVY);
        assert!(bans.points.is_empty());
        let later = start + FORGIVE_INTERVAL * HEAVY;
        assert_eq!(offend_until_banned(&mut bans, later), 4);
        assert_eq!(bans.banned(&IP, later), Some(BAN_FIRST));
        assert_eq!(bans.banned(&IP, later + BAN_FIRST), None, "a ban ends");
    }

    #[test]
    fn half_frames_again_and_again_ban() {
        let now = Instant::now();
        let mut bans = Bans::default();
        for _ in 1..PENALTY_LIMIT / LATE {
            assert_eq!(bans.penalise(&IP, Offence::Late, now), Consequence::Keep);
        }
        assert_eq!(bans.penalise(&IP, Offence::Late, now), Consequence::Drop);
    }

    #[test]
    fn bans_double_and_are_forgotten() {
        let mut now = Instant::now();
        let mut bans = Bans::default();
        let mut expected = BAN_FIRST;
        for _ in 0..12 {
            offend_until_banned(&mut bans, now);
            assert_eq!(bans.banned(&IP, now), Some(expected));
            now += expected;
            expected = (expected * 2).min(BAN_MOST);
        }
        now += BAN_MEMORY;
        bans.tidy(now);
        assert!(bans.bans.is_empty());
        offend_until_banned(&mut bans, now);
        assert_eq!(bans.banned(&IP, now), Some(BAN_FIRST));
        bans.pardon(&IP);
        assert_eq!(bans.banned(&IP, now), None);
    }

    #[test]
    fn what_an_honest_reference_relays_never_bans() {
        let now = Instant::now();
        let mut bans = Bans::default();
        for _ in 0..10 * PENALTY_LIMIT {
            assert_eq!(bans.penalise(&IP, Offence::Refused, now), Consequence::Keep);
        }
        assert_eq!(bans.points(&IP, now), LIGHT_MOST);
        assert_eq!(bans.penalise(&IP, Offence::Forged, now), Consequence::Keep);
        let heavier = bans.points(&IP, now);
        assert_eq!(bans.penalise(&IP, Offence::Refused, now), Consequence::Keep);
        assert_eq!(bans.points(&IP, now), heavier, "a light offence takes nothing off a heavy one");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(8))]
        #[test]
        fn both_tables_are_bounded(ips in proptest::collection::vec(any::<[u8; 4]>(), 1..200), heavy: bool) {
            let now = Instant::now();
            let mut bans = Bans::default();
            // A prefix of full tables, so that few cases reach the bounds.
            for n in 0..PENALTIES as u32 + 10 {
                let _ = bans.penalise(&IpAddr::from(n.to_be_bytes()), Offence::Refused, now);
            }
            for n in 0..BANS as u32 + 10 {
                while bans.penalise(&IpAddr::from(n.to_be_bytes()), Offence::Forged, now) == Consequence::Keep {}
            }
            for ip in ips {
                let _ = bans.penalise(&IpAddr::from(ip), if heavy { Offence::Oversize } else { Offence::Refused }, now);
            }
            prop_assert!(bans.points.len() <= PENALTIES && bans.bans.len() <= BANS);
        }
    }
}
