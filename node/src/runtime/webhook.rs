//! The webhook: tells an address of the owner's choice when a hardware class has a new best, and when a record of this node
//! is refuted.
//!
//! Only what this node itself holds counts, so strangers cause no messages. Messages are JSON with a sentence in `text` and
//! `content`, where chat services look for it. A redirect is not followed: it could lead into the owner's own network.
//! Never here: what is valid or best.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use serde_json::{Value, json};
use spore_base::{
    backoff::backoff,
    random,
    shutdown::{Shutdown, stopped},
};
use spore_ingest::StoreEvent;
use spore_protocol::{HardwareClass, Kind, NodeId, RecordId, SignedObject, TaskId, Verdict};
use spore_storage::{Change, Span, Store, StoreError, TaskView};
use tokio::sync::{
    broadcast::{self, error::RecvError},
    mpsc,
};

/// Tasks whose best is remembered: the most active ones at the start, and new ones.
const MOST_TASKS: usize = 2_000;
/// Tasks looked at when the node starts.
const FIRST_TASKS: usize = 500;
/// Refuted records that are remembered, so that each is told once.
const MOST_REFUTED: usize = 10_000;
/// Changes read from the store in one step.
const PAGE: usize = 256;
/// Messages that wait for their sending. More are dropped, with a line in the log.
const QUEUE: usize = 64;
/// Attempts at sending a message.
const ATTEMPTS: u32 = 5;
/// The first and the longest wait between two attempts: all take some minutes.
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(120);
/// Time for an attempt.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Characters of a name in a sentence.
const MAX_NAME: usize = 60;

/// What the service needs.
pub struct Webhook {
    pub url: String,
    /// Whose best is told. None: of no class.
    pub class: Option<HardwareClass>,
    /// Whose records are told when they are refuted.
    pub own: NodeId,
    pub store: Store,
    pub changes: broadcast::Receiver<StoreEvent>,
}

/// Runs until the node shuts down.
pub async fn run(webhook: Webhook, mut shutdown: Shutdown) {
    let Webhook { url, class, own, store, mut changes } = webhook;
    let (messages, queue) = mpsc::channel(QUEUE);
    let sending = tokio::spawn(send_all(url, queue, shutdown.clone()));
    let mut at = store.sequence();
    let look = tokio::task::spawn_blocking({
        let store = store.clone();
        move || Seen::new(store, class, own)
    });
    let Ok(Ok(mut seen)) = look.await else {
        tracing::warn!("the webhook cannot read the store, and tells nothing until the next start");
        stopped(&mut shutdown).await;
        return;
    };
    loop {
        tokio::select! {
            () = stopped(&mut shutdown) => break,
            change = changes.recv() => if matches!(change, Err(RecvError::Closed)) {
                stopped(&mut shutdown).await;
                break;
            },
        }
        let (from, store) = (at, store.clone());
        let read = tokio::task::spawn_blocking(move || {
            let news = seen.news(&store, from);
            (seen, news)
        });
        let Ok((kept, news)) = read.await else { break };
        seen = kept;
        match news {
            Ok((next, news)) => {
                at = next;
                for message in news {
                    if messages.try_send(message).is_err() {
                        tracing::warn!("a message of the webhook is dropped: {QUEUE} others wait");
                    }
                }
            }
            Err(error) => tracing::warn!(%error, "the webhook cannot read the store"),
        }
    }
    drop(messages);
    sending.abort();
}

/// What was told, or held when the node started.
struct Seen {
    class: Option<HardwareClass>,
    own: NodeId,
    /// The best of the class in each task.
    bests: HashMap<TaskId, Option<RecordId>>,
    refuted: HashSet<RecordId>,
}

impl Seen {
    fn new(store: Store, class: Option<HardwareClass>, own: NodeId) -> Result<Self, StoreError> {
        let mut seen = Self { class, own, bests: HashMap::new(), refuted: HashSet::new() };
        for task in store.active_tasks(&Span::first(FIRST_TASKS))?.items {
            let best = seen.best(&task).map(|(id, _)| id);
            seen.bests.insert(task.task_id, best);
        }
        Ok(seen)
    }

    fn best(&self, task: &TaskView) -> Option<(RecordId, f64)> {
        let class = self.class.as_ref()?;
        task.classes.iter().find(|one| one.class == *class)?.best
    }

    /// The messages that the changes after a sequence number cause, and the newest number.
    fn news(&mut self, store: &Store, after: u64) -> Result<(u64, Vec<Value>), StoreError> {
        let (mut at, mut news, mut tasks) = (after, Vec::new(), HashSet::new());
        loop {
            let changes = store.changes_since(at, PAGE)?;
            let Some(last) = changes.last() else { break };
            at = last.sequence;
            for change in &changes {
                tasks.extend(change.task_id);
                news.extend(self.refuted(store, change)?);
            }
        }
        for task in tasks {
            news.extend(self.new_best(store, task)?);
        }
        Ok((at, news))
    }

    fn new_best(&mut self, store: &Store, task: TaskId) -> Result<Option<Value>, StoreError> {
        let Some(view) = store.task(&task)? else { return Ok(None) };
        let best = self.best(&view);
        let id = best.map(|(id, _)| id);
        let before = match self.bests.get(&task) {
            Some(before) => *before,
            None if self.bests.len() >= MOST_TASKS => return Ok(None),
            // Seen for the first time: what is best already is no news.
            None => id,
        };
        self.bests.insert(task, id);
        let (Some((id, value)), Some(class)) = (best, &self.class) else { return Ok(None) };
        if before == Some(id) {
            return Ok(None);
        }
        let (name, metric) = (plain(&view.name), plain(&view.metric));
        let text =
            format!("New best on {} in {name}: {metric} {value:.4}, experiment {}", plain(class.as_str()), id.short());
        Ok(Some(json!({
            "event": "best", "text": text, "content": text, "task_id": task.to_string(), "task_name": view.name,
            "hardware_class": class.to_string(), "experiment_id": id.to_string(), "metric": view.metric, "value": value,
            "previous_experiment_id": before.map(|id| id.to_string()),
        })))
    }

    fn refuted(&mut self, store: &Store, change: &Change) -> Result<Option<Value>, StoreError> {
        if change.kind != Kind::Control {
            return Ok(None);
        }
        let Some(SignedObject::Control(event)) = store.object(Kind::Control, &change.id)? else { return Ok(None) };
        let Some(record) = event.experiment_id().map(|id| store.summary(&id)).transpose()?.flatten() else {
            return Ok(None);
        };
        let is_refuted = matches!(record.verdict, Verdict::Rejected | Verdict::Disputed);
        if record.node_id != self.own || !is_refuted || self.refuted.len() >= MOST_REFUTED {
            return Ok(None);
        }
        if !self.refuted.insert(record.id) {
            return Ok(None);
        }
        let verdict = record.verdict.name();
        let text =
            format!("Experiment {} of this node is {verdict}: others measured something else", record.id.short());
        Ok(Some(json!({
            "event": "refuted", "text": text, "content": text, "task_id": record.task_id.to_string(),
            "experiment_id": record.id.to_string(), "value": record.metric, "verdict": verdict,
        })))
    }
}

/// An untrusted name as a part of a sentence: without characters by which chat services call people.
fn plain(name: &str) -> String {
    let shown = name.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_' | '.' | '/' | '+'));
    shown.take(MAX_NAME).collect::<String>().trim().to_owned()
}

async fn send_all(url: String, mut queue: mpsc::Receiver<Value>, mut shutdown: Shutdown) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("spore/", env!("CARGO_PKG_VERSION")))
        .build();
    let Ok(client) = client else {
        tracing::warn!("the webhook cannot send: no HTTP client could be made");
        return;
    };
    while let Some(message) = queue.recv().await {
        for attempt in 0..ATTEMPTS {
            match client.post(&url).json(&message).send().await {
                Ok(answer) if answer.status().is_success() => break,
                Ok(answer) => {
                    let status = answer.status().as_u16();
                    tracing::warn!(status, attempt, "the webhook's address does not take a message");
                    let may_pass = status >= 500 || matches!(status, 408 | 425 | 429);
                    if !may_pass {
                        break;
                    }
                }
                // Without the address, which may hold a secret.
                Err(error) => {
                    tracing::warn!(error = %error.without_url(), attempt, "the webhook's address cannot be reached")
                }
            }
            let wait = backoff(FIRST_WAIT, LONGEST_WAIT, attempt, random::number());
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = stopped(&mut shutdown) => return,
            }
        }
    }
}

#[cfg(test)]
#[path = "webhook/tests.rs"]
mod tests;
