//! Terms: what a record must have in common with its task, so that its result is comparable.
//!
//! A record that is not comparable is stored and shown with its [`Flaw`]. It is never on a frontier or
//! among the claims, and nobody builds on it.

use serde::{Deserialize, Serialize};

use crate::{Record, Status, TaskManifest};

/// The metric of the tasks that this version can run, in bits per byte.
pub const BITS_PER_BYTE: &str = "val_bpb";

/// The terms of a task. An empty text, and a budget of 0, bind nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    pub dataset_cid: String,
    pub prepare_cid: String,
    /// In seconds.
    pub time_budget: u64,
    /// Whether the metric must be above 0. Bits per byte are.
    pub positive_metric: bool,
}

impl Terms {
    pub fn of(manifest: &TaskManifest) -> Self {
        Self {
            dataset_cid: manifest.dataset_cid.clone(),
            prepare_cid: manifest.prepare_cid.clone(),
            time_budget: manifest.time_budget,
            positive_metric: manifest.metric == BITS_PER_BYTE,
        }
    }

    /// The terms of a legacy task without a manifest: those of its root.
    pub fn of_root(root: &Record) -> Self {
        Self {
            dataset_cid: root.dataset_cid.clone(),
            prepare_cid: root.prepare_cid.clone(),
            time_budget: root.time_budget,
            positive_metric: true,
        }
    }
}

/// Why a record is not comparable. The text is shown to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Flaw {
    #[error("another dataset than the task's")]
    OtherDataset,
    #[error("another evaluator than the task's")]
    OtherEvaluator,
    #[error("another time budget than the task's")]
    OtherBudget,
    #[error("no steps of training")]
    NoSteps,
    #[error("a metric that is not finite, or not above 0 in bits per byte")]
    BadMetric,
    #[error("no script")]
    NoScript,
}

impl Flaw {
    /// In the order of their codes.
    pub const ALL: [Self; 6] =
        [Self::OtherDataset, Self::OtherEvaluator, Self::OtherBudget, Self::NoSteps, Self::BadMetric, Self::NoScript];

    /// Stable name in snake_case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::OtherDataset => "other_dataset",
            Self::OtherEvaluator => "other_evaluator",
            Self::OtherBudget => "other_budget",
            Self::NoSteps => "no_steps",
            Self::BadMetric => "bad_metric",
            Self::NoScript => "no_script",
        }
    }

    /// Number in a store, from 1. Never reused for another flaw.
    pub const fn code(self) -> u8 {
        match self {
            Self::OtherDataset => 1,
            Self::OtherEvaluator => 2,
            Self::OtherBudget => 3,
            Self::NoSteps => 4,
            Self::BadMetric => 5,
            Self::NoScript => 6,
        }
    }

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|flaw| flaw.code() == code)
    }
}

/// The first flaw of a record under the terms of its task. None if the record is comparable.
pub fn flaw(record: &Record, terms: &Terms) -> Option<Flaw> {
    let differs = |own: &str, term: &str| !term.is_empty() && own != term;
    let finished = record.status != Status::Crash;
    let metric = record.val_bpb;
    let flaws = [
        (differs(&record.dataset_cid, &terms.dataset_cid), Flaw::OtherDataset),
        (differs(&record.prepare_cid, &terms.prepare_cid), Flaw::OtherEvaluator),
        (terms.time_budget != 0 && record.time_budget != terms.time_budget, Flaw::OtherBudget),
        (finished && record.num_steps == 0, Flaw::NoSteps),
        (finished && (!metric.is_finite() || terms.positive_metric && metric <= 0.0), Flaw::BadMetric),
        (record.code_cid.is_none(), Flaw::NoScript),
    ];
    flaws.into_iter().find_map(|(broken, flaw)| broken.then_some(flaw))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures;

    #[test]
    fn terms_of_a_manifest_bind_and_empty_ones_do_not() {
        let by = fixtures::identity(1);
        let manifest = TaskManifest { dataset_cid: "d".into(), prepare_cid: "p".into(), ..fixtures::manifest(&by) };
        let fitting = Record { dataset_cid: "d".into(), prepare_cid: "p".into(), ..fixtures::record(&by, None, None) };
        let terms = Terms::of(&manifest);
        assert_eq!(flaw(&fitting, &terms), None);
        type Change = fn(&mut Record);
        let cases: [(Flaw, Change); 9] = [
            (Flaw::OtherDataset, |r| r.dataset_cid = "other".into()),
            (Flaw::OtherDataset, |r| r.dataset_cid = String::new()),
            (Flaw::OtherEvaluator, |r| r.prepare_cid = "other".into()),
            (Flaw::OtherBudget, |r| r.time_budget = 21),
            (Flaw::NoSteps, |r| r.num_steps = 0),
            (Flaw::BadMetric, |r| r.val_bpb = 0.0),
            (Flaw::BadMetric, |r| r.val_bpb = -1.0),
            (Flaw::BadMetric, |r| r.val_bpb = f64::NAN),
            (Flaw::NoScript, |r| r.code_cid = None),
        ];
        for (expected, change) in cases {
            let mut record = fitting.clone();
            change(&mut record);
            assert_eq!(flaw(&record, &terms), Some(expected), "{expected:?}");
            assert_eq!(flaw(&fitting, &Terms::of_root(&fitting)), None);
        }
        let nothing = Terms { positive_metric: true, ..Terms::default() };
        assert_eq!(flaw(&fitting, &nothing), None);
        let crash = Record { status: Status::Crash, val_bpb: 0.0, num_steps: 0, ..fitting.clone() };
        assert_eq!(flaw(&crash, &terms), None, "a crash has no metric and no steps");
        let score = Terms::of(&TaskManifest { metric: "score".into(), ..manifest });
        assert_eq!(flaw(&Record { val_bpb: -1.0, ..fitting }, &score), None, "other metrics may be negative");
    }

    #[test]
    fn names_and_codes_of_flaws_are_unique() {
        for flaw in Flaw::ALL {
            assert_eq!(Flaw::from_code(flaw.code()), Some(flaw));
            assert_eq!(serde_json::to_value(flaw).unwrap(), flaw.name());
        }
        assert_eq!(Flaw::from_code(0), None, "0 is no flaw");
    }
}
