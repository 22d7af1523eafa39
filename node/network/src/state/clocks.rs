//! Clocks: what time the connected peers have, and how far this machine's clock is from them.
//!
//! Each reading is kept with the moment at which it was right, on the machine's steady clock. So a jump of this
//! machine's own clock shows at once, without another question. The median counts: fewer than half of the peers cannot
//! move it far.
//!
//! Never here: what a wrong clock means for signing, which the ingest service decides.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use libp2p::PeerId;
use spore_base::clock::ClockOffset;

use crate::limits::{CLOCK_FAR_INTERVAL, CLOCK_INTERVAL, CLOCK_LOOK};

/// Events of this machine.
#[derive(Clone, Debug)]
pub enum ClockEvent {
    Joined(PeerId),
    Left(PeerId),
    /// A peer's clock showed these Unix seconds at that moment. None: the peer did not say.
    Told {
        peer: PeerId,
        seconds: Option<u64>,
        at: Instant,
    },
    /// Some time passed. `own`: Unix seconds of this machine's clock.
    Tick {
        own: u64,
    },
}

/// Effects of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockEffect {
    /// Read a peer's clock: [`ClockEvent::Told`].
    Ask(PeerId),
    /// What all clocks say now. Only when it changed.
    Compared(Option<ClockOffset>),
}

#[derive(Clone, Copy, Debug)]
struct PeerClock {
    /// Unix seconds, and when the peer's clock showed them.
    reading: Option<(u64, Instant)>,
    asked: Instant,
}

/// The clocks of the connected peers. Bounded by the connection limits of the swarm.
#[derive(Debug, Default)]
pub struct PeerClocks {
    clocks: BTreeMap<PeerId, PeerClock>,
    looked: Option<Instant>,
    offset: Option<ClockOffset>,
}

impl PeerClocks {
    pub fn handle(&mut self, event: ClockEvent, now: Instant) -> Vec<ClockEffect> {
        match event {
            ClockEvent::Joined(peer) => {
                self.clocks.insert(peer, PeerClock { reading: None, asked: now });
                vec![ClockEffect::Ask(peer)]
            }
            ClockEvent::Left(peer) => {
                self.clocks.remove(&peer);
                Vec::new()
            }
            ClockEvent::Told { peer, seconds, at } => {
                if let (Some(clock), Some(seconds)) = (self.clocks.get_mut(&peer), seconds) {
                    clock.reading = Some((seconds, at));
                    self.looked = None;
                }
                Vec::new()
            }
            ClockEvent::Tick { own } => self.look(own, now),
        }
    }

    /// Whether enough peers agree that this machine's clock is right.
    pub fn confirm_ours(&self) -> bool {
        self.offset.is_some_and(|offset| offset.is_right())
    }

    fn look(&mut self, own: u64, now: Instant) -> Vec<ClockEffect> {
        if self.looked.is_some_and(|at| now.saturating_duration_since(at) < CLOCK_LOOK) {
            return Vec::new();
        }
        self.looked = Some(now);
        let offset = self.compare(own, now);
        let mut effects = Vec::new();
        if offset != self.offset {
            self.offset = offset;
            effects.push(ClockEffect::Compared(offset));
        }
        let interval = if offset.is_some_and(|offset| offset.is_far()) { CLOCK_FAR_INTERVAL } else { CLOCK_INTERVAL };
        effects.extend(self.due(interval, now));
        effects
    }

    /// The median of the differences. Rounding and the way of an answer make a second or two, so small ones count as none.
    fn compare(&self, own: u64, now: Instant) -> Option<ClockOffset> {
        let readings = self.clocks.values().filter_map(|clock| clock.reading);
        let mut differences: Vec<i64> = readings
            .map(|(seconds, at)| {
                let theirs = seconds.saturating_add(now.saturating_duration_since(at).as_secs());
                i64::try_from(i128::from(theirs) - i128::from(own)).unwrap_or(i64::MAX)
            })
            .collect();
        differences.sort_unstable();
        let median = *differences.get(differences.len() / 2)?;
        let seconds = if median.unsigned_abs() <= SLACK { 0 } else { median };
        Some(ClockOffset { seconds, peers: differences.len() })
    }

    fn due(&mut self, interval: Duration, now: Instant) -> Vec<ClockEffect> {
        let due = self.clocks.iter_mut().filter(|(_, clock)| now.saturating_duration_since(clock.asked) >= interval);
        due.map(|(peer, clock)| {
            clock.asked = now;
            ClockEffect::Ask(*peer)
        })
        .collect()
    }
}

/// Seconds of difference that mean nothing: clocks are read in whole seconds, and an answer takes a while.
const SLACK: u64 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 2_000_000_000;
    const SECOND: Duration = Duration::from_secs(1);

    /// Clocks of peers that are ahead by these seconds, all read at `now`.
    fn of(ahead: &[i64], now: Instant) -> PeerClocks {
        let mut clocks = PeerClocks::default();
        for seconds in ahead {
            let peer = PeerId::random();
            assert_eq!(clocks.handle(ClockEvent::Joined(peer), now), [ClockEffect::Ask(peer)]);
            let seconds = Some(NOW.saturating_add_signed(*seconds));
            assert!(clocks.handle(ClockEvent::Told { peer, seconds, at: now }, now).is_empty());
        }
        clocks
    }

    fn compared(clocks: &mut PeerClocks, own: u64, now: Instant) -> Option<ClockOffset> {
        let effects = clocks.handle(ClockEvent::Tick { own }, now);
        effects.iter().find_map(|effect| if let ClockEffect::Compared(offset) = effect { *offset } else { None })
    }

    #[test]
    fn minority_of_wrong_clocks_does_not_move_the_median() {
        let now = Instant::now();
        let mut clocks = of(&[-9_000_000, 1, 0, 2, 9_000_000], now);
        assert_eq!(compared(&mut clocks, NOW, now), Some(ClockOffset { seconds: 0, peers: 5 }));
        assert!(clocks.confirm_ours());
        let mut clocks = of(&[10_800, 10_801, 10_799], now);
        assert_eq!(compared(&mut clocks, NOW, now), Some(ClockOffset { seconds: 10_800, peers: 3 }));
        assert!(!clocks.confirm_ours());
        assert!(!of(&[], now).confirm_ours(), "nobody was asked");
    }

    #[test]
    fn jump_of_the_own_clock_is_noticed_without_another_question() {
        let mut now = Instant::now();
        let mut clocks = of(&[0, 0, 0], now);
        assert_eq!(compared(&mut clocks, NOW, now).unwrap().seconds, 0);
        now += SECOND;
        assert_eq!(compared(&mut clocks, NOW + 1, now), None, "nothing changed");
        now += SECOND;
        assert_eq!(compared(&mut clocks, NOW + 2 + 2_592_000, now).unwrap().seconds, -2_592_000);
        now += SECOND;
        assert_eq!(compared(&mut clocks, NOW + 3, now).unwrap().seconds, 0);
    }

    #[test]
    fn clocks_are_read_again_sooner_while_they_differ() {
        let now = Instant::now();
        let asked = |clocks: &mut PeerClocks, own, at| {
            let effects = clocks.handle(ClockEvent::Tick { own }, at);
            effects.iter().filter(|effect| matches!(effect, ClockEffect::Ask(_))).count()
        };
        let mut clocks = of(&[0, 0], now);
        assert_eq!(asked(&mut clocks, NOW + 30, now + CLOCK_FAR_INTERVAL), 0);
        assert_eq!(asked(&mut clocks, NOW + 600, now + CLOCK_INTERVAL), 2);
        let mut clocks = of(&[7200, 7200], now);
        assert_eq!(asked(&mut clocks, NOW + 30, now + CLOCK_FAR_INTERVAL), 2);
    }

    #[test]
    fn clock_of_a_peer_that_left_counts_no_more() {
        let now = Instant::now();
        let mut clocks = of(&[7200], now);
        let peer = *clocks.clocks.keys().next().unwrap();
        assert_eq!(compared(&mut clocks, NOW, now).unwrap().peers, 1);
        clocks.handle(ClockEvent::Left(peer), now);
        let effects = clocks.handle(ClockEvent::Tick { own: NOW + 1 }, now + SECOND);
        assert_eq!(effects, [ClockEffect::Compared(None)]);
    }
}
