//! The course of one catch-up session: which scopes it compares, and carrying out what the reconciliation of each asks
//! for.

use std::{collections::HashSet, time::Instant};

use libp2p::PeerId;
use spore_base::random;
use spore_ingest::{Disposition, Origin, Source};
use spore_protocol::{ObjectId, Reject, TaskId, cbor::ByteBuf};
use spore_storage::{Store, StoreError, TaskDigest};

use super::{
    JobContext,
    fruitless::{Compared, Digests},
    objects, read, serve,
    shards::differing,
};
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
    let mut session = CatchupSession { context, peer, accepted: 0, held: 0, left_open: 0 };
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
    /// Objects that the peer may bring another time, and tasks that were left out.
    left_open: u64,
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
            self.left_open += 1;
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
        let differing = self.worth_comparing(differing(&own, &theirs), &own, &theirs);
        if differing.is_empty() {
            return Ok(());
        }
        let active = match self.context.ask_sync(self.peer, SyncRequest::Tasks).await? {
            SyncAnswer::Tasks(tasks) if tasks.len() <= ACTIVE_TASKS => tasks,
            _ => return self.malformed("not a list of tasks").await,
        };
        let mut seen = HashSet::new();
        for task in own_active.into_iter().chain(active) {
            let may_differ = task.0.first().is_some_and(|shard| differing.iter().any(|(other, _)| other == shard));
            if may_differ && seen.insert(task) {
                self.task(task).await?;
            }
        }
        let mut fruitless = 0;
        let shards = random::shuffled(differing, &mut random::generator());
        for (shard, digests) in shards {
            let before = self.outcome();
            self.shard(shard, &mut fruitless).await?;
            if fruitless < FRUITLESS_TASKS && self.outcome() == before {
                self.context.fruitless.note(self.peer, Compared::Shard(shard), digests, Instant::now());
            }
        }
        Ok(())
    }

    /// These shards with the digests of both sides, without those in which nothing changed since a comparison that brought
    /// nothing.
    fn worth_comparing(
        &self,
        differing: Vec<u8>,
        own: &[Option<TaskDigest>],
        theirs: &[(u8, TaskDigest)],
    ) -> Vec<(u8, Digests)> {
        let own = |shard: u8| own.get(usize::from(shard)).copied().flatten();
        let of_both = theirs.iter().map(|(shard, digest)| (*shard, (own(*shard), *digest)));
        let is_new = |(shard, digests): &(u8, Digests)| {
            !self.context.fruitless.knows(self.peer, Compared::Shard(*shard), *digests, Instant::now())
        };
        of_both.filter(|(shard, _)| differing.contains(shard)).filter(is_new).collect()
    }

    /// Changes when a comparison was of use, or may be another time.
    const fn outcome(&self) -> (u64, u64) {
        (self.accepted + self.held, self.left_open)
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
            for (task, digests) in differing {
                if *fruitless >= FRUITLESS_TASKS {
                    break;
                }
                if self.context.fruitless.knows(self.peer, Compared::Task(task), digests, Instant::now()) {
                    continue;
                }
                let before = self.outcome();
                self.task(task).await?;
                *fruitless = if self.outcome().0 > before.0 { 0 } else { *fruitless + 1 };
                if self.outcome() == before {
                    self.context.fruitless.note(self.peer, Compared::Task(task), digests, Instant::now());
                }
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
        let (kind, now) = (scope.kind(), Instant::now());
        let refused = |id: &&ObjectId| self.context.ingest.was_refused(kind, **id, Source::Peer(self.peer));
        self.left_open += batch.iter().filter(refused).count() as u64;
        let mut missing = objects::missing(self.context, self.peer, kind, batch).await;
        missing.retain(|id| !self.context.fruitless.is_absent(self.peer, kind, *id, now));
        if missing.is_empty() {
            return Ok(ReconcileEvent::Fetched { left: Vec::new() });
        }
        let origin = Origin::Sync(self.peer);
        let Ok(fetched) = objects::fetch(self.context, self.peer, kind, missing, origin).await else {
            return if self.context.messages.is_closed() { Err(NoAnswer) } else { Ok(ReconcileEvent::Lost) };
        };
        for (_, disposition) in &fetched.came {
            match disposition {
                Disposition::Accepted => self.accepted += 1,
                Disposition::Pending => self.held += 1,
                Disposition::Later(_) | Disposition::Failed(_) => self.left_open += 1,
                Disposition::Known | Disposition::Rejected(_) => {}
            }
        }
        self.context.fruitless.note_absent(self.peer, kind, &fetched.absent, now);
        Ok(ReconcileEvent::Fetched { left: fetched.left })
    }
}

/// The tasks of which the peer has another digest than this node, with both.
fn differing_tasks(store: &Store, theirs: Vec<(TaskId, TaskDigest)>) -> Result<Vec<(TaskId, Digests)>, StoreError> {
    let mut differing = Vec::new();
    for (task, digest) in theirs {
        let own = store.task_digest(&task)?;
        if own != Some(digest) {
            differing.push((task, (own, digest)));
        }
    }
    Ok(differing)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use spore_ingest::Ingest;
    use spore_protocol::{Identity, Kind, ObjectId};
    use spore_storage::{Unwanted, unwatched};
    use tokio::sync::{mpsc, watch};

    use super::*;
    use crate::{
        jobs::{JobMessage, TaskShards},
        messages::ObjectsRequest,
        tests::{objects::verified, support},
    };

    /// Runs a session with a peer that holds this store, with fresh digests on both sides. Returns how often each kind of
    /// request was made.
    async fn session(
        context: &mut JobContext,
        sent: &mut mpsc::Receiver<JobMessage>,
        peer: PeerId,
        theirs: &Store,
    ) -> BTreeMap<&'static str, usize> {
        let shards = TaskShards::default();
        context.shards = TaskShards::default();
        let (context, mut asked) = (&*context, BTreeMap::new());
        let running = run(context, peer, SessionPlan::Everything);
        tokio::pin!(running);
        loop {
            let message = tokio::select! {
                () = &mut running => return asked,
                message = sent.recv() => message.unwrap(),
            };
            match message {
                JobMessage::AskSync(_, request, sender) => {
                    let name = match &request {
                        SyncRequest::Reconcile {
                            scope: ReconcileScope::Records(_) | ReconcileScope::Controls(_),
                            ..
                        } => "task",
                        _ => "other",
                    };
                    *asked.entry(name).or_default() += 1;
                    let answer = serve::sync(theirs, &shards, &context.clock, &request);
                    sender.send(Ok(answer.unwrap_or(SyncAnswer::Heard))).unwrap();
                }
                JobMessage::AskObjects(_, ObjectsRequest { kind, ids }, sender) => {
                    *asked.entry("objects").or_default() += 1;
                    let answer = serve::objects(theirs, &ObjectsRequest { kind, ids });
                    sender.send(Ok(answer.unwrap_or_else(|_| panic!("readable")))).unwrap();
                }
                _ => {}
            }
        }
    }

    #[tokio::test]
    async fn objects_that_a_peer_dropped_are_asked_for_once() {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [own, theirs] = dirs.each_ref().map(|dir| Store::open(dir.path()).unwrap());
        let (signer, task, peer) = (Identity::from_seed(&[1; 32]), TaskId([7; 32]), PeerId::random());
        let records: Vec<_> = (1..4).map(|number| verified(&signer, task, None, number, "one")).collect();
        theirs.insert(&records, 2_000_000_000).unwrap();
        let dropped: ObjectId = records[2].id();
        theirs.drop_unwanted(Unwanted::Object(Kind::Experiment, dropped), &mut unwatched).unwrap();
        let (_stop, stopped) = watch::channel(false);
        let (ingest, ..) = Ingest::spawn(own.clone(), std::sync::Arc::new(|| 2_000_000_000), stopped);
        let (messages, mut sent) = mpsc::channel(4);
        let mut context = support::context(own.clone(), ingest, messages);
        let first = session(&mut context, &mut sent, peer, &theirs).await;
        assert!(first["objects"] >= 1 && own.contains(Kind::Experiment, &records[0].id()).unwrap(), "{first:?}");
        // What came changed this side, so the task is compared once more.
        let second = session(&mut context, &mut sent, peer, &theirs).await;
        assert_eq!(second.get("objects"), None, "{second:?}");
        let third = session(&mut context, &mut sent, peer, &theirs).await;
        assert_eq!((third.get("objects"), third.get("task")), (None, None), "{third:?}");
        theirs.insert(&[verified(&signer, task, None, 9, "one")], 2_000_000_000).unwrap();
        let news = session(&mut context, &mut sent, peer, &theirs).await;
        assert!(news["objects"] >= 1, "what is new comes: {news:?}");
    }
}
