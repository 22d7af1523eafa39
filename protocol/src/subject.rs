//! The facts about a record that its verdict depends on.

use crate::{
    Goal, HardwareClass, NodeId, RecordId, Status,
    finding::Finding,
    measurement::{Ignored, Measurement},
};

/// The facts about a record that its verdict depends on.
#[derive(Clone, Debug, PartialEq)]
pub struct Subject {
    pub id: RecordId,
    pub publisher: NodeId,
    pub class: HardwareClass,
    pub status: Status,
    /// The metric that the publisher recorded.
    pub metric: f64,
    /// When the record was made, in Unix seconds, as the publisher says.
    pub timestamp: u64,
    /// The goal of the record's task.
    pub goal: Goal,
}

impl Subject {
    /// Whether a finding is within tolerance of the recorded metric. A reason never is.
    pub fn confirms(&self, finding: Finding) -> bool {
        finding.value().is_some_and(|value| self.agrees_with(value))
    }

    /// Whether a value is within tolerance of the recorded metric.
    pub fn agrees_with(&self, value: f64) -> bool {
        (value - self.metric).abs() <= self.class.tolerance()
    }

    /// The time that a node signs in a measurement of this record: `now` in Unix seconds, or the record's
    /// own time if the publisher dated it ahead. An older measurement would not count.
    pub fn measured_at(&self, now: u64) -> u64 {
        now.max(self.timestamp)
    }

    /// Why a measurement cannot count, by itself. A signer's further measurements and the window are
    /// not looked at.
    pub fn ignores(&self, m: &Measurement) -> Option<Ignored> {
        if m.node == self.publisher {
            Some(Ignored::OwnRecord)
        } else if self.status == Status::Crash {
            Some(Ignored::Crash)
        } else if m.class != self.class {
            Some(Ignored::OtherClass)
        } else if m.timestamp < self.timestamp {
            Some(Ignored::BeforeRecord)
        } else {
            None
        }
    }
}
