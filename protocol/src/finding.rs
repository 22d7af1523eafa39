//! Findings: the metric that a re-run of a record measured, or the reason why there is none.

use serde::{Deserialize, Serialize};

use crate::Goal;

/// Why a record has no value that could hold. Anybody can find the same by running the record again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    #[error("the script's graph sees text that it must predict")]
    NotCausal,
    #[error("the script does not trace to a graph")]
    DoesNotTrace,
    #[error("the training diverges")]
    Diverges,
    #[error("the recorded steps need more than one and a half time budgets")]
    OverBudget,
    #[error("the script could not be had from three peers in 24 hours")]
    NoScript,
}

impl Reason {
    /// In the order of their codes.
    pub const ALL: [Self; 5] = [Self::NotCausal, Self::DoesNotTrace, Self::Diverges, Self::OverBudget, Self::NoScript];

    /// The text that events sign.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotCausal => "not_causal",
            Self::DoesNotTrace => "does_not_trace",
            Self::Diverges => "diverges",
            Self::OverBudget => "over_budget",
            Self::NoScript => "no_script",
        }
    }

    /// The reason with this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }

    /// Number in a store. Never reused for another reason.
    pub const fn code(self) -> u8 {
        match self {
            Self::NotCausal => 0,
            Self::DoesNotTrace => 1,
            Self::Diverges => 2,
            Self::OverBudget => 3,
            Self::NoScript => 4,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.code() == code)
    }
}

/// What a re-run found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Finding {
    /// The metric. Finite.
    Value(f64),
    /// The record has no value that could hold.
    Refuted(Reason),
}

impl Finding {
    /// The measured metric.
    pub const fn value(self) -> Option<f64> {
        match self {
            Self::Value(value) => Some(value),
            Self::Refuted(_) => None,
        }
    }

    /// Place on the scale of the metric, for a median. A reason is worse than every value.
    pub const fn on_scale(self, goal: Goal) -> f64 {
        match (self, goal) {
            (Self::Value(value), _) => value,
            (Self::Refuted(_), Goal::Minimize) => f64::INFINITY,
            (Self::Refuted(_), Goal::Maximize) => f64::NEG_INFINITY,
        }
    }
}
