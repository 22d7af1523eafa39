//! Measurements: what the signers of control events found when they ran a record again.
//!
//! A [`Measurement`] is the compact form of an event. [Verdicts](crate::verdict) and
//! [standings](crate::trust) are computed from it, so a store can keep these few fields and needs not
//! decode the events again.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{ControlBody, ControlEvent, EventId, HardwareClass, NodeId, RecordId, finding::Finding};

/// The type of the event that carries a measurement. It decides nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MeasurementKind {
    Verification,
    Challenge,
    ChallengeResponse,
    Refutation,
}

impl MeasurementKind {
    /// In the order of their codes.
    pub const ALL: [Self; 4] = [Self::Verification, Self::Challenge, Self::ChallengeResponse, Self::Refutation];

    /// The event's type as it is signed.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Verification => "verification",
            Self::Challenge => "challenge",
            Self::ChallengeResponse => "challenge_response",
            Self::Refutation => "refutation",
        }
    }

    /// Number in a store. Never reused for another type.
    pub const fn code(self) -> u8 {
        match self {
            Self::Verification => 0,
            Self::Challenge => 1,
            Self::ChallengeResponse => 2,
            Self::Refutation => 3,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.code() == code)
    }
}

/// Why a measurement does not count. The text is shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Ignored {
    #[error("measured by the publisher itself")]
    OwnRecord,
    #[error("the record is a crash and has no metric")]
    Crash,
    #[error("another hardware class")]
    OtherClass,
    #[error("older than its record")]
    BeforeRecord,
    #[error("its signer has another measurement of this record")]
    Repeated,
    #[error("enough other signers measured this record")]
    OutsideWindow,
}

/// One measurement of a record, out of a control event.
#[derive(Clone, Debug, PartialEq)]
pub struct Measurement {
    pub event_id: EventId,
    /// The node that measured.
    pub node: NodeId,
    pub class: HardwareClass,
    pub finding: Finding,
    pub kind: MeasurementKind,
    /// Unix seconds, as the signer says.
    pub timestamp: u64,
    /// The signer's weight. [`assess`](crate::verdict::assess) sets it.
    pub weight: u32,
    /// Why the measurement does not count. None if it counts. [`assess`](crate::verdict::assess) sets it.
    pub ignored: Option<Ignored>,
}

impl Measurement {
    /// The measurement in an event. None if the event carries none.
    pub fn of(event_id: EventId, event: &ControlEvent) -> Option<Self> {
        let (kind, node, gpu, finding) = match &event.body {
            ControlBody::Verification(rerun) => (MeasurementKind::Verification, rerun.node_id, &rerun.gpu, rerun.value),
            ControlBody::Challenge(rerun) => (MeasurementKind::Challenge, rerun.node_id, &rerun.gpu, rerun.value),
            ControlBody::ChallengeResponse { rerun, .. } => {
                (MeasurementKind::ChallengeResponse, rerun.node_id, &rerun.gpu, rerun.value)
            }
            ControlBody::Refutation(r) => {
                return Some(Self {
                    event_id,
                    node: r.node_id,
                    class: HardwareClass::of(&r.gpu),
                    finding: Finding::Refuted(r.reason),
                    kind: MeasurementKind::Refutation,
                    timestamp: event.timestamp,
                    weight: 0,
                    ignored: None,
                });
            }
            ControlBody::Dispute { .. } | ControlBody::Repeats(_) | ControlBody::Other { .. } => return None,
        };
        let (class, finding, timestamp) = (HardwareClass::of(gpu), Finding::Value(finding), event.timestamp);
        Some(Self { event_id, node, class, finding, kind, timestamp, weight: 0, ignored: None })
    }
}

/// Place of a signer among those who measured a record, lowest first: the SHA-256 of the record's id
/// and the signer's, 32 bytes each. Neither dates nor the order of arrival move it.
pub fn rank(record: RecordId, signer: NodeId) -> [u8; 32] {
    Sha256::new().chain_update(record.0).chain_update(signer.0).finalize().into()
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Value(value) => value.fmt(f),
            Self::Refuted(reason) => f.pad(reason.name()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    #[test]
    fn names_and_codes_of_reasons_and_types_are_unique() {
        for reason in Reason::ALL {
            assert_eq!((Reason::named(reason.name()), Reason::from_code(reason.code())), (Some(reason), Some(reason)));
            assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
        }
        for kind in MeasurementKind::ALL {
            assert_eq!(MeasurementKind::from_code(kind.code()), Some(kind));
        }
        assert_eq!((Reason::from_code(5), MeasurementKind::from_code(4)), (None, None));
    }

    #[test]
    fn rank_follows_from_record_and_signer_alone() {
        let rank_of = |record: u8, signer: u8| rank(RecordId([record; 32]), NodeId([signer; 32]));
        assert_eq!(
            hex::encode(rank_of(1, 2)),
            hex::encode(Sha256::digest([[1_u8; 32], [2; 32]].concat())),
            "32 bytes of the record, then 32 of the signer"
        );
        assert_ne!(rank_of(1, 2), rank_of(2, 1));
    }
}
