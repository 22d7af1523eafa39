//! Judgements: who measured an experiment again, what of it counts, and what follows.

use std::{cmp::Reverse, collections::BTreeMap};

use spore_protocol::{EventId, Finding, Measurement, Reason, terms::Flaw, verdict};
use spore_storage::RecordSummary;

use super::{StoreView, text::DisplayNames};
use crate::{dto, problem::ApiError, query::MAX_LIST};

impl StoreView {
    /// What the measurements of an experiment say, here and everywhere.
    ///
    /// # Errors
    /// As [`StoreView::experiment`].
    pub fn judgement(&self, given: &str) -> Result<dto::Judgement, ApiError> {
        let record = self.resolve_record(given)?;
        let found = self.store.summary(&record)?.ok_or_else(|| ApiError::unknown_experiment(given))?;
        self.judgement_of(&found, &mut DisplayNames::default())
    }

    pub(super) fn judgement_of(
        &self,
        record: &RecordSummary,
        names: &mut DisplayNames,
    ) -> Result<dto::Judgement, ApiError> {
        let judgement = self.store.judgement(&record.id)?;
        let sides = judgement.as_ref().map(|both| (&both.local, &both.global));
        let verdict = |name: &str, side: Option<&verdict::Assessment>| dto::Assessment {
            verdict: side.map_or(name, |side| side.verdict.name()).into(),
            ground_truth: side.and_then(|side| side.ground_truth),
        };
        let mut measurements = Vec::new();
        if let Some((local, global)) = sides {
            for (measured, ignored, ignored_globally) in joined(&local.measurements, &global.measurements) {
                let display_name = self.display_name(names, &measured.node)?;
                measurements.push(measurement(record, measured, display_name, ignored, ignored_globally));
            }
        }
        measurements
            .sort_by_key(|m| (m.ignored.is_some(), m.ignored_globally.is_some(), Reverse(m.weight), m.timestamp));
        measurements.truncate(MAX_LIST);
        Ok(dto::Judgement {
            local: verdict(record.verdict.name(), sides.map(|sides| sides.0)),
            global: verdict(record.global_verdict.name(), sides.map(|sides| sides.1)),
            support: support(&record.support),
            tolerance: record.class.tolerance(),
            measurements,
        })
    }
}

/// Why a measurement does not count on one side. None if it counts.
type Side = Option<String>;

/// Each measurement once, with why it does not count here, and why not globally.
fn joined<'a>(local: &'a [Measurement], global: &'a [Measurement]) -> Vec<(&'a Measurement, Side, Side)> {
    let unseen = || Some("enough other signers measured this record".to_owned());
    let mut all: BTreeMap<EventId, (&Measurement, Side, Side)> = BTreeMap::new();
    for m in local {
        let why = m.ignored.map(|why| why.to_string());
        let why = why.or_else(|| (m.weight == 0).then(|| "unknown signer".to_owned()));
        all.insert(m.event_id, (m, why, unseen()));
    }
    for m in global {
        let why = m.ignored.map(|why| why.to_string());
        all.entry(m.event_id).or_insert((m, unseen(), None)).2 = why;
    }
    all.into_values().collect()
}

fn measurement(
    record: &RecordSummary,
    m: &Measurement,
    display_name: Option<String>,
    ignored: Side,
    ignored_globally: Side,
) -> dto::Measurement {
    let (value, found) = match m.finding {
        Finding::Value(value) => (Some(value), None),
        Finding::Refuted(found) => (None, Some(reason(found))),
    };
    dto::Measurement {
        event_id: m.event_id.to_string(),
        kind: m.kind.name().into(),
        node_id: m.node.to_string(),
        display_name,
        hardware_class: m.class.to_string(),
        value,
        reason: found,
        agrees: value.is_some_and(|value| (value - record.metric).abs() <= record.class.tolerance()),
        timestamp: m.timestamp,
        weight: m.weight,
        ignored,
        ignored_globally,
    }
}

pub(super) fn support(support: &verdict::Support) -> dto::Support {
    dto::Support {
        trusted_for: support.trusted_for,
        trusted_against: support.trusted_against,
        unknown_for: support.unknown_for,
        unknown_against: support.unknown_against,
    }
}

pub(super) fn reason(reason: Reason) -> dto::Reason {
    dto::Reason { name: reason.name().into(), text: reason.to_string() }
}

pub(super) fn flaw(flaw: Flaw) -> dto::Reason {
    dto::Reason { name: flaw.name().into(), text: flaw.to_string() }
}
