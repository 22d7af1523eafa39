//! Reads from the store what verification chooses from: bounded parts of indexes, publishers in turn.
//!
//! No date and no number of records or keys decides whose record comes next. Each read costs the same in a task of a
//! million records. Never here: running anything.

use std::{
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use spore_protocol::{NodeId, RecordId, Verdict};
use spore_storage::{RecordSummary, Span, Store, StoreError, TaskView};

use super::policy::{OpenDispute, Policy, before, in_turn, waits};

/// Open disputes that are looked at in one round. One is answered at a time, the next round looks at the next ones.
const DISPUTES: usize = 64;
/// Publishers whose claims are looked at in one round.
const PUBLISHERS: usize = 32;
/// Claims of one publisher that are looked at, the best first. At the rate of a researcher, one in ten, all but one
/// publisher in thirty have a claim among these that this node re-runs.
const CLAIMS: usize = 32;
/// Nodes with weight that are read, for the turns of their claims and for disputes.
const WEIGHTY: usize = 64;
/// Most re-runs that disputes are ahead of all others. A longer list of disputes is not paid for with as long a pause.
const AHEAD: u32 = 16;
/// Newest records of a class that are looked at when no claim is left.
const NEWEST: usize = 128;

/// Where the turns stand.
#[derive(Clone, Debug, Default)]
pub struct Turns {
    /// The publisher that was served last, and the one among those with weight.
    pub publisher: Option<NodeId>,
    pub weighty: Option<NodeId>,
    pub dispute: Option<RecordId>,
    /// A publisher with weight is next. Every second re-run is of one, so that any number of new keys takes only the
    /// other half.
    pub weighty_next: bool,
    /// Re-runs for disputes that no other re-run has followed yet. While there are any, the other records of a task
    /// come first: at most every second re-run answers a dispute, however many there are.
    pub disputes_ahead: u32,
    /// The time in Unix seconds from which a publisher's best open claim is re-run although it is not in the sample.
    pub best_after: u64,
}

/// What to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Re-run a record that is disputed here.
    Respond(Box<RecordSummary>),
    /// Re-run a record.
    Check(Box<RecordSummary>),
    /// These publishers have nothing; others come later.
    GoOn,
    Nothing,
}

/// Disputed records that this node has to measure.
#[derive(Default)]
struct Disputes {
    ready: Option<RecordSummary>,
    /// Of a publisher that waits, see [`waits`].
    waiting: Option<RecordSummary>,
}

fn respond(record: RecordSummary, turns: &mut Turns) -> Next {
    turns.disputes_ahead = turns.disputes_ahead.saturating_add(1).min(AHEAD);
    Next::Respond(Box::new(record))
}

/// A reader of one task.
pub struct Look<'a> {
    pub store: &'a Store,
    pub policy: &'a Policy,
    pub task: &'a TaskView,
    /// Records on cooldown, and publishers.
    pub skipped: &'a HashSet<RecordId>,
    pub resting: &'a HashSet<NodeId>,
    pub now: u64,
}

impl Look<'_> {
    /// The next record to re-run. Moves the turns on.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next(&self, turns: &mut Turns) -> Result<Next, StoreError> {
        let Disputes { ready, waiting } = self.disputes(turns)?;
        if turns.disputes_ahead == 0
            && let Some(record) = ready
        {
            return Ok(respond(record, turns));
        }
        match self.check(turns)? {
            Next::Nothing => Ok(ready.or(waiting).map_or(Next::Nothing, |record| respond(record, turns))),
            Next::GoOn => Ok(Next::GoOn),
            found => {
                turns.disputes_ahead = turns.disputes_ahead.saturating_sub(1);
                Ok(found)
            }
        }
    }

    /// The next record to re-run that this node need not respond to.
    fn check(&self, turns: &mut Turns) -> Result<Next, StoreError> {
        let weighty_first = turns.weighty_next;
        if weighty_first && let Some(record) = self.claim_of_weighty(turns)? {
            turns.weighty_next = false;
            return Ok(Next::Check(Box::new(record)));
        }
        let (claim, all_seen) = self.claim(turns)?;
        if let Some(record) = claim {
            turns.weighty_next = true;
            return Ok(Next::Check(Box::new(record)));
        }
        if !weighty_first && let Some(record) = self.claim_of_weighty(turns)? {
            return Ok(Next::Check(Box::new(record)));
        }
        if !all_seen {
            return Ok(Next::GoOn);
        }
        Ok(self.other(turns)?.map_or(Next::Nothing, |record| Next::Check(Box::new(record))))
    }

    /// Disputed records that this node has to measure, publishers in turn.
    fn disputes(&self, turns: &mut Turns) -> Result<Disputes, StoreError> {
        let mut due = Disputes::default();
        let ids = self.store.open_disputes_in_turn(turns.dispute, DISPUTES)?;
        if ids.is_empty() {
            return Ok(due);
        }
        let weighty = self.store.weighty(&self.policy.class, WEIGHTY)?;
        let mut open = Vec::new();
        for id in &ids {
            let fit = |r: &RecordSummary| r.task_id == self.task.task_id && self.policy.can_measure(r);
            let Some(record) = self.store.summary(id)?.filter(fit) else { continue };
            let judged = self.store.judgement(id)?;
            let Some(dispute) = judged.and_then(|judged| judged.local.dispute) else { continue };
            let time_budget = self.task.manifest.as_ref().map_or(0, |manifest| manifest.time_budget);
            open.push(OpenDispute { record, dispute, time_budget, goal: self.task.goal, weighty: weighty.clone() });
        }
        turns.dispute = ids.last().copied();
        for open in in_turn(open, |open| open.record.node_id, turns.publisher) {
            if !self.policy.answers(&open, self.now) || self.is_done(&open.record)? {
                continue;
            }
            if !waits(&self.store.standing(&open.record.node_id, &self.policy.class)?) {
                due.ready = Some(open.record);
                break;
            }
            due.waiting.get_or_insert(open.record);
        }
        Ok(due)
    }

    /// A claim of the next publishers, and whether that was the end of a round of all publishers.
    fn claim(&self, turns: &mut Turns) -> Result<(Option<RecordSummary>, bool), StoreError> {
        let claims = self.claims(turns.publisher, PUBLISHERS)?;
        let publishers: BTreeSet<NodeId> = claims.iter().map(|r| r.node_id).collect();
        let last = claims.last().map(|r| r.node_id);
        let all_seen = publishers.len() < PUBLISHERS || last <= turns.publisher;
        let mut waiting = HashSet::new();
        for publisher in publishers {
            if waits(&self.store.standing(&publisher, &self.policy.class)?) {
                waiting.insert(publisher);
            }
        }
        let claims = in_turn(claims, |r| r.node_id, turns.publisher);
        let (waiting, ready): (Vec<_>, Vec<_>) = claims.into_iter().partition(|r| waiting.contains(&r.node_id));
        let rested = waiting.into_iter().filter(|r| !self.resting.contains(&r.node_id));
        // Those who wait come after all publishers of a round, not only after these.
        let found = match self.first_claim(ready, turns)? {
            None if all_seen => self.first_claim(rested, turns)?,
            found => found,
        };
        turns.publisher = found.as_ref().map(|r| r.node_id).or(last);
        Ok((found, all_seen))
    }

    /// A claim of the next node with weight in the class.
    fn claim_of_weighty(&self, turns: &mut Turns) -> Result<Option<RecordSummary>, StoreError> {
        let nodes = self.store.weighty(&self.policy.class, WEIGHTY)?;
        for node in in_turn(nodes, |node| *node, turns.weighty) {
            let mut claims = self.claims(before(node), 1)?;
            claims.retain(|r| r.node_id == node);
            if let Some(record) = self.first_claim(claims, turns)? {
                turns.weighty = Some(node);
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Claims by publisher, those that are disputed anywhere first, then the best.
    fn claims(&self, after: Option<NodeId>, publishers: usize) -> Result<Vec<RecordSummary>, StoreError> {
        let mut claims =
            self.store.claims_in_turn(&self.task.task_id, &self.policy.class, after, publishers, CLAIMS)?;
        // A stable sort: publishers stay together after `in_turn`, and the best stay first among equals.
        let disputed = |r: &RecordSummary| r.global_verdict == Verdict::Disputed;
        let last = claims.last().map(|r| r.node_id);
        claims.sort_by_key(|r| (last == Some(r.node_id), r.node_id, !disputed(r)));
        Ok(claims)
    }

    /// A record that is no claim: a discard, or one that only others have measured.
    fn other(&self, turns: &Turns) -> Result<Option<RecordSummary>, StoreError> {
        let newest = self.store.newest_in_class(&self.task.task_id, &self.policy.class, &Span::first(NEWEST))?;
        let rest: Vec<_> = newest.items.into_iter().filter(|r| !r.is_claim()).collect();
        self.first(in_turn(rest, |r| r.node_id, turns.publisher))
    }

    /// The first of these claims that this node re-runs. From time to time that is the best open one of the next
    /// publisher, in the sample or not: else a publisher's best claims, when none is in the sample, would hide its
    /// others for ever.
    fn first_claim(
        &self,
        claims: impl IntoIterator<Item = RecordSummary>,
        turns: &mut Turns,
    ) -> Result<Option<RecordSummary>, StoreError> {
        let best_is_due = self.policy.rate > 0.0 && self.now >= turns.best_after;
        for record in claims {
            let sampled = self.policy.wants(&record);
            let chosen = sampled || (best_is_due && self.policy.can_measure(&record));
            if chosen && !self.is_done(&record)? {
                if !sampled {
                    turns.best_after = self.now.saturating_add(self.best_pause());
                }
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    /// Seconds between two re-runs outside the sample. They take about as large a share of the time as the sample takes
    /// of the records.
    fn best_pause(&self) -> u64 {
        let time_budget = self.task.manifest.as_ref().map_or(0, |manifest| manifest.time_budget);
        let pause = Duration::try_from_secs_f64(time_budget as f64 / self.policy.rate);
        pause.map_or(u64::MAX, |pause| pause.as_secs())
    }

    /// The first of these that this node re-runs.
    fn first(&self, records: impl IntoIterator<Item = RecordSummary>) -> Result<Option<RecordSummary>, StoreError> {
        for record in records {
            if self.policy.wants(&record) && !self.is_done(&record)? {
                return Ok(Some(record));
            }
        }
        Ok(None)
    }

    fn is_done(&self, record: &RecordSummary) -> Result<bool, StoreError> {
        Ok(self.skipped.contains(&record.id) || self.store.measured_by(&self.policy.node, &record.id)?)
    }
}

#[cfg(test)]
mod tests;
