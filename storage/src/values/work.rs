//! Works: what a node published or measured, as the rules about weight and verdicts need it.

use std::collections::BTreeSet;

use spore_protocol::{
    EventId, Finding, HardwareClass, Measurement, NodeId, Reason,
    measurement::MeasurementKind,
    trust::{Contribution, Counters, Level},
};

use super::bytes::{ValueReader, ValueWriter};
use crate::error::{Damage, Result};

/// A measurement of a record that counts by itself. On disk: what it contributes, its type, what it found (0 and the
/// value's bits, or 1 and the reason), then timestamp (LEB128) and event.
#[derive(Clone, Debug, PartialEq)]
pub struct Work {
    /// What the measurement adds to its signer's counters.
    pub contribution: Option<Contribution>,
    pub kind: MeasurementKind,
    pub finding: Finding,
    /// Unix seconds.
    pub timestamp: u64,
    pub event_id: EventId,
}

/// A signer's mark for a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkMark {
    /// The signer published it. What the claim adds to its signer's counters.
    Published(Option<Contribution>),
    /// The signer measured it. The tier under which the measurement is stored.
    Measured(u8),
}

/// The tier of signers without weight. Lower tiers are levels.
pub const UNKNOWN: u8 = 3;

/// The tier of seeds, whose works confirm and refute others.
pub const SEEDS: u8 = Level::Seed.number();

/// The tier of a level.
pub fn tier(level: Option<Level>) -> u8 {
    level.map_or(UNKNOWN, Level::number)
}

/// The level of a tier.
pub fn level_of(tier: u8) -> Option<Level> {
    [Level::Seed, Level::Proven, Level::Known].into_iter().find(|level| level.number() == tier)
}

fn contribution_code(contribution: Option<Contribution>) -> u8 {
    match contribution {
        None => 0,
        Some(Contribution::Confirmed) => 1,
        Some(Contribution::Refuted) => 2,
    }
}

fn contribution(code: u8) -> Result<Option<Contribution>> {
    match code {
        0 => Ok(None),
        1 => Ok(Some(Contribution::Confirmed)),
        2 => Ok(Some(Contribution::Refuted)),
        _ => Err(UNKNOWN_KIND.into()),
    }
}

const UNKNOWN_KIND: Damage = Damage::Value("a work is of no known kind");

impl Work {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = ValueWriter(Vec::with_capacity(48));
        w.byte(contribution_code(self.contribution));
        w.byte(self.kind.code());
        match &self.finding {
            Finding::Value(value) => {
                w.byte(0);
                w.float(*value);
            }
            Finding::Refuted(reason) => {
                w.byte(1);
                w.byte(reason.code());
            }
        }
        w.number(self.timestamp);
        w.fixed(&self.event_id.0);
        w.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = ValueReader(bytes);
        Ok(Self {
            contribution: contribution(r.byte()?)?,
            kind: MeasurementKind::from_code(r.byte()?).ok_or(UNKNOWN_KIND)?,
            finding: match r.byte()? {
                0 => Finding::Value(r.float()?),
                _ => Finding::Refuted(Reason::from_code(r.byte()?).ok_or(UNKNOWN_KIND)?),
            },
            timestamp: r.number()?,
            event_id: EventId(r.fixed()?),
        })
    }

    pub fn of(m: &Measurement) -> Self {
        let Measurement { event_id, finding, kind, timestamp, .. } = *m;
        Self { contribution: None, kind, finding, timestamp, event_id }
    }

    /// As the rules take it.
    pub fn measurement(&self, node: NodeId, class: HardwareClass) -> Measurement {
        let Self { event_id, finding, kind, timestamp, .. } = *self;
        Measurement { event_id, node, class, finding, kind, timestamp, weight: 0, ignored: None }
    }
}

impl WorkMark {
    pub fn encode(self) -> Vec<u8> {
        match self {
            Self::Published(contribution) => vec![0x80 | contribution_code(contribution)],
            Self::Measured(tier) => vec![tier],
        }
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let byte = ValueReader(bytes).byte()?;
        if byte & 0x80 == 0 { Ok(Self::Measured(byte)) } else { contribution(byte & 0x7f).map(Self::Published) }
    }
}

/// What a node's works in a class earned it. On disk: the two counters (LEB128) and the name of the class.
#[derive(Clone, Debug, PartialEq)]
pub struct StandingState {
    pub class: HardwareClass,
    pub counters: Counters,
}

impl StandingState {
    pub fn encode(&self) -> Vec<u8> {
        let mut w = ValueWriter::default();
        w.number(u64::from(self.counters.confirmed));
        w.number(u64::from(self.counters.refuted));
        w.text(self.class.as_str());
        w.0
    }

    pub fn decode(bytes: &[u8]) -> Result<Self> {
        let mut r = ValueReader(bytes);
        let mut count = || r.number().map(|count| u32::try_from(count).unwrap_or(u32::MAX));
        let counters = Counters { confirmed: count()?, refuted: count()? };
        // The name of a class is the class of a device with that name.
        Ok(Self { class: HardwareClass::of(&r.text()?), counters })
    }
}

/// The ids of the trusted keys, one after another.
pub fn encode_seeds(seeds: &BTreeSet<NodeId>) -> Vec<u8> {
    seeds.iter().flat_map(|seed| seed.0).collect()
}

pub fn decode_seeds(bytes: &[u8]) -> Result<BTreeSet<NodeId>> {
    let (ids, rest) = bytes.as_chunks::<32>();
    if !rest.is_empty() {
        return Err(Damage::Value("a list of trusted keys is cut short").into());
    }
    Ok(ids.iter().map(|id| NodeId(*id)).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn work_is_read_back_as_it_was_written(value in any::<f64>().prop_filter("comparable", |v| !v.is_nan()), timestamp in any::<u64>(), code in 0..3u8) {
            for kind in MeasurementKind::ALL {
                for finding in [Finding::Value(value), Finding::Refuted(Reason::ALL[usize::from(code)])] {
                    let contribution = contribution(code).unwrap();
                    let work = Work { contribution, kind, finding, timestamp, event_id: EventId([code; 32]) };
                    prop_assert_eq!(&Work::decode(&work.encode()).unwrap(), &work);
                    for mark in [WorkMark::Published(contribution), WorkMark::Measured(code)] {
                        prop_assert_eq!(WorkMark::decode(&mark.encode()).unwrap(), mark);
                    }
                }
            }
        }
    }
}
