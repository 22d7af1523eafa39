//! Access to the node's data, through the API of the running node or in the store itself.
//!
//! Both answer the same routes with the same JSON and the same errors: without a node, this module calls the reading half
//! of the API on the store.

mod client;
mod offline;

use std::io::Write as _;

use serde::de::DeserializeOwned;
use spore_api::{dto, ports::TaskMaker as _, query::Query, read, route::Route, write};
use spore_protocol::{Cid, Identity, VerifiedObject};
use spore_storage::{Store, StoreError};

pub use client::ApiClient;
pub use offline::{LocalIngest, OfflineStore};

use super::{CliError, Context, ErrorKind};
use crate::{data_dir::DataDir, hash::hash, identity_file, task_maker::NodeTaskMaker};

/// The hint where two programs of different versions may talk to each other.
pub const SAME_VERSION: &str = "check that the node and this program have the same version";

/// Access to everything that a node knows.
#[allow(clippy::large_enum_variant, reason = "one of them is made for each run of the program")]
pub enum NodeAccess {
    Node(ApiClient),
    Store(OfflineStore),
}

impl NodeAccess {
    /// Opens the data for reading. Creates nothing.
    ///
    /// # Errors
    /// When there is neither a node nor a store, or another process holds the store.
    pub async fn open(context: &Context) -> Result<Self, CliError> {
        if let Some(client) = ApiClient::find(&context.data).await? {
            return Ok(Self::Node(client));
        }
        let store = Store::open_read_only(context.data.root()).map_err(|e| locked_without_api(e, &context.data))?;
        let identity = identity_file::load(&context.data.identity())?;
        Ok(Self::Store(OfflineStore::new(store, identity.as_ref(), context, None)?))
    }

    /// Opens the data for writing: through the running node, or in the store, which is made if there is none. A node
    /// that runs on the store later publishes what was written.
    ///
    /// # Errors
    /// When another process holds the store.
    pub async fn open_to_write(context: &Context) -> Result<(Self, Identity), CliError> {
        context.data.create()?;
        let found = identity_file::load_or_create(&context.data.identity())?;
        if let Some(client) = ApiClient::find(&context.data).await? {
            return Ok((Self::Node(client), found.identity));
        }
        let store = Store::open_with_trust(context.data.root(), context.seeds()?);
        let store = store.map_err(|e| locked_without_api(e, &context.data))?;
        let ingest = LocalIngest::start(&store);
        let offline = OfflineStore::new(store, Some(&found.identity), context, Some(ingest))?;
        Ok((Self::Store(offline), found.identity))
    }

    /// The running node.
    ///
    /// # Errors
    /// Exit code 4 when no node is running.
    pub fn node(&self) -> Result<&ApiClient, CliError> {
        match self {
            Self::Node(client) => Ok(client),
            Self::Store(_) => {
                Err(CliError::new(ErrorKind::NodeNotRunning, "no node is running on this data directory")
                    .hint("start one with `spore run`"))
            }
        }
    }

    /// The store that this process holds and its ingest service. None beside a running node, or for reading.
    #[cfg(feature = "trainer")]
    pub fn local(&self) -> Option<(Store, spore_ingest::IngestHandle)> {
        match self {
            Self::Node(_) => None,
            Self::Store(offline) => Some((offline.view().store().clone(), offline.ingest().ok()?.clone())),
        }
    }

    /// The JSON text that a route of the API answers with.
    ///
    /// # Errors
    /// The error of the API, with the exit code that fits its status.
    pub async fn text(&self, route: &Route, query: &Query) -> Result<Vec<u8>, CliError> {
        match self {
            Self::Node(client) => client.get(route, query).await,
            Self::Store(offline) => {
                let answer = read::answer(offline.view(), offline.live(), route, query)?;
                Ok(answer.body.as_ref().clone())
            }
        }
    }

    /// The value that a route of the API answers with.
    ///
    /// # Errors
    /// As [`NodeAccess::text`].
    pub async fn get<T: DeserializeOwned>(&self, route: &Route) -> Result<T, CliError> {
        self.get_with(route, &Query::default()).await
    }

    /// As [`NodeAccess::get`], with the parameters of a query.
    ///
    /// # Errors
    /// As [`NodeAccess::text`].
    pub async fn get_with<T: DeserializeOwned>(&self, route: &Route, query: &Query) -> Result<T, CliError> {
        parsed(&self.text(route, query).await?)
    }

    /// The task of an id, prefix or name. Without one, the task that the node works on.
    ///
    /// # Errors
    /// When the task is unknown or ambiguous, or when no task is known yet.
    pub async fn task(&self, given: Option<&str>) -> Result<dto::TaskSummary, CliError> {
        if let Some(given) = given {
            return self.get(&Route::Task(given.to_owned())).await;
        }
        let status: dto::NodeStatus = self.get(&Route::Status).await?;
        let id = status.active_task.ok_or_else(|| {
            CliError::not_found("this node has no task yet: neither the built-in one nor one of a trusted node is here")
                .hint("name a task with `--task ID`; `spore tasks` lists those that are known, `spore task use` chooses one")
        })?;
        self.get(&Route::Task(id)).await
    }

    /// Submits a signed object.
    ///
    /// # Errors
    /// When the object is rejected.
    pub async fn submit(&self, object: VerifiedObject) -> Result<(), CliError> {
        match self {
            Self::Node(client) => {
                client.send(&Route::SubmitObject, object.into_signed().to_json().into_bytes()).await.map(|_| ())
            }
            Self::Store(offline) => {
                write::submit(offline.ingest()?, object.into_signed()).await?;
                Ok(())
            }
        }
    }

    /// Makes a task. The running node signs it, or this command does with the node's key.
    ///
    /// # Errors
    /// When the base script cannot be used, or the task cannot be stored.
    pub async fn create_task(&self, new: dto::NewTask, identity: &Identity) -> Result<dto::TaskSummary, CliError> {
        match self {
            Self::Node(client) => {
                let body = serde_json::to_vec(&new).map_err(|e| CliError::failed(e.to_string()))?;
                parsed(&client.send(&Route::CreateTask, body).await?)
            }
            Self::Store(offline) => {
                let maker = NodeTaskMaker {
                    store: offline.view().store().clone(),
                    ingest: offline.ingest()?.clone(),
                    identity: identity.clone(),
                };
                let id = maker.create(new).await?;
                Ok(offline.view().task(&id.to_string())?)
            }
        }
    }

    /// Stores the bytes of a file as an artifact. Returns its CID and its size in bytes.
    ///
    /// # Errors
    /// When the file cannot be read or stored.
    pub async fn put_file(&self, path: &std::path::Path) -> Result<(Cid, u64), CliError> {
        let failed = |e: &std::io::Error| CliError::io(path.display(), e);
        let mut file = std::fs::File::open(path).map_err(|e| failed(&e))?;
        let (cid, size) = hash(&mut file).map_err(|e| failed(&e))?;
        std::io::Seek::rewind(&mut file).map_err(|e| failed(&e))?;
        match self {
            Self::Node(client) => client.send_file(&cid, file, size).await?,
            Self::Store(offline) => {
                let mut writer = offline.view().store().begin_artifact(cid, size)?;
                writer.fill(&mut file)?;
                writer.finish()?;
            }
        }
        Ok((cid, size))
    }

    /// Pins an artifact, so that the cache never drops it.
    ///
    /// # Errors
    /// When too many artifacts are pinned, or the list cannot be written.
    pub async fn pin(&self, cid: &Cid) -> Result<(), CliError> {
        match self {
            Self::Node(client) => client.pin(cid, true).await.map(|_| ()),
            Self::Store(offline) => Ok(offline.view().store().pin(cid).map(|_| ())?),
        }
    }
}

/// Reads the JSON of an answer.
///
/// # Errors
/// When it is not the JSON that was asked for.
pub fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, CliError> {
    serde_json::from_slice(body)
        .map_err(|e| CliError::failed(format!("cannot read the node's answer: {e}")).hint(SAME_VERSION))
}

/// Says when a running node uses a changed setting.
///
/// # Errors
/// When the running node does not answer.
pub async fn note_running(context: &mut Context) -> Result<(), CliError> {
    if ApiClient::find(&context.data).await?.is_some() {
        writeln!(context.out, "The running node uses this after its next start.")?;
    }
    Ok(())
}

/// Says that no node answered, and whether a process holds the store all the same.
pub fn absence(data: &DataDir) -> &'static str {
    if Store::is_held(data.root()) {
        "The process that uses the data directory does not answer"
    } else {
        "No node is running now"
    }
}

/// The error of a store that a node may hold which does not answer.
pub fn locked_without_api(error: StoreError, data: &DataDir) -> CliError {
    let locked = matches!(error, StoreError::Locked { .. });
    let error = CliError::from(error);
    if locked && data.running_node().is_some() {
        return error.hint("the node there is starting, stopping or too busy to answer: try again");
    }
    error
}
