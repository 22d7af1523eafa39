//! The course of one catch-up session: which scopes it compares, and carrying out what the reconciliation of each asks
//! for.

use std::{collections::HashSet, time::Instant};

use libp2p::PeerId;
use spore_base::random::{self, Rng as _};
use spore_ingest::{Disposition, Origin};
use spore_protocol::{ObjectId, Reject, TaskId, cbor::ByteBuf};
use spore_storage::StoreError;

use super::{JobContext, objects, read};
use crate::{
    exchange::NoAnswer,
    limits::{MAX_TASKS, SESSION_LIMIT},
    messages::{ReconcileScope, SyncAnswer, SyncRequest},
    reconcile::{Comparison, ReconcileEffect, ReconcileEnd, ReconcileEvent, Reconciliation},
    state::SessionPlan,
};

/// Runs one session to its end.
pub async fn run(context: &JobContext, peer: PeerId, plan: SessionPlan) {
    let started = Instant::now();
    let mut session = CatchupSession { context, peer, accepted: 0, held: 0 };
    let end = tokio::time::timeout(SESSION_LIMIT, session.compare(plan)).await.unwrap_or(Err(NoAnswer));
    if session.accepted + session.held > 0 {
        let seconds = started.elapsed().as_secs_f64();
        tracing::info!(%peer, new = session.accepted, held = session.held, seconds, "caught up with a peer");
    }
    if end.is_err() {
        tracing::debug!(%peer, "a catch-up session ended early");
    }
}

struct CatchupSession<'a> {
    context: &'a JobContext,
    peer: PeerId,
    /// Objects stored.
    accepted: u64,
    /// Objects that wait for their parents.
    held: u64,
}

impl CatchupSession<'_> {
    async fn compare(&mut self, plan: SessionPlan) -> Result<(), NoAnswer> {
        match plan {
            SessionPlan::Tasks(tasks) => {
                for task in tasks {
                    self.task(task).await?;
                }
                Ok(())
            }
            SessionPlan::Everything => {
                self.scope(ReconcileScope::Tasks).await?;
                self.scope(ReconcileScope::Profiles).await?;
                let mut start = TaskId([0; 32]);
                random::generator().fill_bytes(&mut start.0);
                self.every_task(start).await
            }
        }
    }

    async fn task(&mut self, task: TaskId) -> Result<(), NoAnswer> {
        if self.context.ingest.blocks().list().tasks.contains(&task) {
            return Ok(());
        }
        self.scope(ReconcileScope::Records(task)).await?;
        self.scope(ReconcileScope::Controls(task)).await
    }

    /// Compares each task that the peer holds anything of: the most active ones first, then all by their ids, in a
    /// circle from `start`. Activity is cheap to make, so the most active tasks may all be spam. A random start lets
    /// sessions that end early reach every task between them.
    async fn every_task(&mut self, start: TaskId) -> Result<(), NoAnswer> {
        let active = self.peers_tasks(SyncRequest::Tasks).await?;
        for task in &active {
            self.task(*task).await?;
        }
        if active.len() < MAX_TASKS {
            return Ok(());
        }
        let active: HashSet<TaskId> = active.into_iter().collect();
        let (mut after, mut wrapped) = (start, false);
        loop {
            let page = self.peers_tasks(SyncRequest::TasksAfter(after)).await?;
            if !page.iter().is_sorted_by(|a, b| a < b) || page.first().is_some_and(|first| *first <= after) {
                return self.malformed("a list of tasks that is not in the order of ids").await;
            }
            for task in page.iter().filter(|task| !active.contains(task)) {
                if wrapped && *task > start {
                    return Ok(());
                }
                self.task(*task).await?;
            }
            match page.last() {
                Some(last) if page.len() == MAX_TASKS => after = *last,
                _ if wrapped => return Ok(()),
                _ => (after, wrapped) = (TaskId([0; 32]), true),
            }
        }
    }

    /// A list of tasks of the peer. Tasks of the existing network may have no manifest to learn them by.
    async fn peers_tasks(&self, request: SyncRequest) -> Result<Vec<TaskId>, NoAnswer> {
        match self.context.ask_sync(self.peer, request).await? {
            SyncAnswer::Tasks(tasks) if tasks.len() <= MAX_TASKS => Ok(tasks),
            _ => self.malformed("not a list of tasks").await,
        }
    }

    /// Takes points from the peer and ends the session.
    async fn malformed<T>(&self, what: &str) -> Result<T, NoAnswer> {
        self.context.penalise(self.peer, Reject::Malformed(what.to_owned())).await;
        Err(NoAnswer)
    }

    /// Drives the reconciliation of one scope.
    async fn scope(&mut self, scope: ReconcileScope) -> Result<(), NoAnswer> {
        let store = self.context.store.clone();
        let start = move || Reconciliation::start(&Comparison::new(store.sync_set(scope.stored())?));
        let (mut machine, mut effect) = read(start).await.ok_or(NoAnswer)?;
        loop {
            let event = match effect {
                ReconcileEffect::Ask(message) => self.ask(scope, message).await,
                ReconcileEffect::Fetch(batch) => self.fetch(scope, batch).await?,
                ReconcileEffect::Done(ReconcileEnd::Complete) => return Ok(()),
                ReconcileEffect::Done(ReconcileEnd::Lost) => return Err(NoAnswer),
                ReconcileEffect::Done(ReconcileEnd::Bad(bad)) => return self.malformed(&bad.to_string()).await,
                ReconcileEffect::Done(ReconcileEnd::Endless) => {
                    return self.malformed("a catch-up that does not end").await;
                }
                ReconcileEffect::Done(ReconcileEnd::Failed(error)) => {
                    tracing::error!(%error, "cannot read the store");
                    return Err(NoAnswer);
                }
            };
            let store = self.context.store.clone();
            let handle = move || {
                let effect = machine.handle(event, &Comparison::new(store.sync_set(scope.stored())?));
                Ok::<_, StoreError>((machine, effect))
            };
            (machine, effect) = read(handle).await.ok_or(NoAnswer)?;
        }
    }

    async fn ask(&self, scope: ReconcileScope, message: Vec<u8>) -> ReconcileEvent {
        let request = SyncRequest::Reconcile { scope, message: ByteBuf::from(message) };
        match self.context.ask_sync(self.peer, request).await {
            Ok(SyncAnswer::Reconcile(answer)) => ReconcileEvent::Answer(answer.into_vec()),
            Ok(_) | Err(NoAnswer) => ReconcileEvent::Lost,
        }
    }

    async fn fetch(&mut self, scope: ReconcileScope, batch: Vec<ObjectId>) -> Result<ReconcileEvent, NoAnswer> {
        let missing = objects::missing(self.context, scope.kind(), batch).await;
        if missing.is_empty() {
            return Ok(ReconcileEvent::Fetched { left: Vec::new() });
        }
        let origin = Origin::Sync(self.peer);
        let Ok(fetched) = objects::fetch(self.context, self.peer, scope.kind(), missing, origin).await else {
            return if self.context.messages.is_closed() { Err(NoAnswer) } else { Ok(ReconcileEvent::Lost) };
        };
        for (_, disposition) in &fetched.came {
            match disposition {
                Disposition::Accepted => self.accepted += 1,
                Disposition::Pending => self.held += 1,
                _ => {}
            }
        }
        Ok(ReconcileEvent::Fetched { left: fetched.left })
    }
}
