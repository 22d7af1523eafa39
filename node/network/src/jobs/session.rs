//! The course of one catch-up session: which scopes it compares, and carrying out what the reconciliation of each asks
//! for.

use std::{collections::HashSet, time::Instant};

use libp2p::PeerId;
use spore_base::random;
use spore_ingest::{Disposition, Origin};
use spore_protocol::{ObjectId, Reject, TaskId, cbor::ByteBuf};
use spore_storage::{Store, StoreError, TaskDigest};

use super::{JobContext, objects, read, serve, shards::differing};
use crate::{
    exchange::NoAnswer,
    limits::{ACTIVE_TASKS, FRUITLESS_TASKS, SESSION_LIMIT},
    messages::{ReconcileScope, SyncAnswer, SyncRequest, decode_shards, decode_tasks},
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
                self.every_task().await
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

    /// Compares the tasks of which the peer holds other objects than this node: the most active ones first, then all by
    /// their ids. Tasks of the existing network may have no manifest to learn them by.
    ///
    /// Activity is cheap to make, so the most active tasks may all be spam. A random order of shards lets sessions that
    /// end early reach every task between them.
    async fn every_task(&mut self) -> Result<(), NoAnswer> {
        let (store, shards) = (self.context.store.clone(), self.context.shards.clone());
        let read_own =
            move || Ok::<_, StoreError>((shards.digests(&store)?, serve::active_tasks(&store, ACTIVE_TASKS)?));
        let (own, own_active) = read(read_own).await.ok_or(NoAnswer)?;
        let theirs = match self.context.ask_sync(self.peer, SyncRequest::Shards).await? {
            SyncAnswer::Shards(bytes) => decode_shards(&bytes),
            _ => None,
        };
        let Some(theirs) = theirs else { return self.malformed("not the digests of shards").await };
        let differing = differing(&own, &theirs);
        if differing.is_empty() {
            return Ok(());
        }
        let active = match self.context.ask_sync(self.peer, SyncRequest::Tasks).await? {
            SyncAnswer::Tasks(tasks) if tasks.len() <= ACTIVE_TASKS => tasks,
            _ => return self.malformed("not a list of tasks").await,
        };
        let mut seen = HashSet::new();
        for task in own_active.into_iter().chain(active) {
            let may_differ = task.0.first().is_some_and(|shard| differing.contains(shard));
            if may_differ && seen.insert(task) {
                self.task(task).await?;
            }
        }
        let mut fruitless = 0;
        let shards = random::shuffled(differing, &mut random::generator());
        for shard in shards {
            self.shard(shard, &mut fruitless).await?;
        }
        Ok(())
    }

    /// Compares the tasks of a shard that differ. `fruitless`: tasks compared since the last one that brought anything.
    async fn shard(&mut self, shard: u8, fruitless: &mut usize) -> Result<(), NoAnswer> {
        let mut after = None;
        while *fruitless < FRUITLESS_TASKS {
            let page = match self.context.ask_sync(self.peer, SyncRequest::TasksOf { shard, after }).await? {
                SyncAnswer::TasksOf(bytes) => decode_tasks(&bytes, shard, after),
                _ => None,
            };
            let Some(page) = page else { return self.malformed("not the digests of a shard's tasks").await };
            let Some((last, _)) = page.last() else { break };
            after = Some(*last);
            let store = self.context.store.clone();
            let differing = read(move || differing_tasks(&store, page)).await.ok_or(NoAnswer)?;
            for task in differing {
                if *fruitless >= FRUITLESS_TASKS {
                    break;
                }
                let before = self.accepted + self.held;
                self.task(task).await?;
                *fruitless = if self.accepted + self.held > before { 0 } else { *fruitless + 1 };
            }
        }
        Ok(())
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

/// The tasks of which the peer has another digest than this node.
fn differing_tasks(store: &Store, theirs: Vec<(TaskId, TaskDigest)>) -> Result<Vec<TaskId>, StoreError> {
    let mut differing = Vec::new();
    for (task, digest) in theirs {
        if store.task_digest(&task)? != Some(digest) {
            differing.push(task);
        }
    }
    Ok(differing)
}
