//! Where commands read from and write to: the running node's API, or the store itself.
//!
//! Both answer the same paths with the same JSON and the same errors, because without a node the
//! API's own reading half is called here, on the store.

use std::{sync::Arc, time::Duration};

use serde::{Serialize, de::DeserializeOwned};
use spore_api::{
    dto,
    live::Live,
    ports::TaskMaker as _,
    problem::{ApiError, Problem, ProblemKind},
    query::Query,
    read,
    route::Route,
    upkeep::shapes::{PinOutcome, UpkeepJob, UpkeepLine, UpkeepProgress, UpkeepReport},
    view::StoreView,
    write,
};
use spore_base::clock::unix_now;
use spore_ingest::{Ingest, IngestHandle};
use spore_protocol::{Cid, Identity, TaskId, VerifiedObject};
use spore_storage::{Store, StoreError};
use tokio::sync::watch;

use super::{CliError, Context, ErrorKind};
use crate::{
    data_dir::{DataDir, RunningNode},
    identity_file,
    task_maker::NodeTaskMaker,
};

/// A node on this machine answers at once, unless the machine is very busy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A graph of a large task takes a while on a machine that trains.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// A job takes as long as it takes; a node that is at it says so every few seconds.
const JOB_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
/// Bytes of a file that are hashed or sent at once.
const CHUNK: usize = 1 << 18;

/// Bytes of one line about a job: its report, with ten thousand artifacts at most.
const MAX_LINE: usize = 16 << 20;

/// Bytes of a file handed to a running node, which are held in memory on the way.
const MAX_SENT: u64 = 512 << 20;

/// A way to what a node knows.
#[allow(clippy::large_enum_variant, reason = "one of them is made for each run of the program")]
pub enum Source {
    Node(Client),
    Store(Offline),
}

/// The API of the running node.
pub struct Client {
    http: reqwest::Client,
    pub node: RunningNode,
    token: Option<String>,
}

/// The store, while no node runs.
pub struct Offline {
    view: StoreView,
    live: Live,
    pinned: Option<TaskId>,
    /// None: opened for reading.
    door: Option<Door>,
}

/// `ingest`, run for one command: what a command writes takes the same way as all else.
pub struct Door {
    pub ingest: IngestHandle,
    _stop: watch::Sender<bool>,
}

impl Door {
    /// Opens it on a store that this process holds.
    pub fn open(store: &Store) -> Self {
        let (stop, shutdown) = watch::channel(false);
        let (ingest, ..) = Ingest::spawn(store.clone(), Arc::new(unix_now), shutdown);
        Self { ingest, _stop: stop }
    }
}

impl Source {
    /// For reading. Creates nothing.
    ///
    /// # Errors
    /// When there is neither a node nor a store, or another process holds the store.
    pub async fn open(context: &Context) -> Result<Self, CliError> {
        if let Some(client) = Client::find(&context.data).await? {
            return Ok(Self::Node(client));
        }
        let store = Store::open_read_only(context.data.root()).map_err(|e| locked_without_api(e, &context.data))?;
        let identity = identity_file::load(&context.data.identity())?;
        Ok(Self::Store(Offline::new(store, identity.as_ref(), context, None)?))
    }

    /// For writing: what is written goes through the running node, or into the store, which is
    /// made if there is none, and is published when a node next runs on it.
    ///
    /// # Errors
    /// When another process holds the store.
    pub async fn open_to_write(context: &Context) -> Result<(Self, Identity), CliError> {
        context.data.create()?;
        let found = identity_file::load_or_create(&context.data.identity())?;
        if let Some(client) = Client::find(&context.data).await? {
            return Ok((Self::Node(client), found.identity));
        }
        let store = Store::open(context.data.root()).map_err(|e| locked_without_api(e, &context.data))?;
        let door = Door::open(&store);
        let offline = Offline::new(store, Some(&found.identity), context, Some(door))?;
        Ok((Self::Store(offline), found.identity))
    }

    /// The running node, or an error that says how to start one.
    ///
    /// # Errors
    /// Exit code 4.
    pub fn node(&self) -> Result<&Client, CliError> {
        match self {
            Self::Node(client) => Ok(client),
            Self::Store(_) => {
                Err(CliError::new(ErrorKind::NodeNotRunning, "no node is running on this data directory")
                    .hint("start one with `spore run`"))
            }
        }
    }

    /// The JSON text that a route of the API answers with.
    ///
    /// # Errors
    /// The API's own, with the exit code that fits its status.
    pub async fn text(&self, route: &Route, query: &Query) -> Result<Vec<u8>, CliError> {
        match self {
            Self::Node(client) => client.get(route, query).await,
            Self::Store(offline) => {
                let answer = read::answer(&offline.view, &offline.live, route, query)?;
                Ok(answer.body.as_ref().clone())
            }
        }
    }

    /// As [`Source::text`], read.
    ///
    /// # Errors
    /// As [`Source::text`].
    pub async fn get<T: DeserializeOwned>(&self, route: &Route) -> Result<T, CliError> {
        self.get_with(route, &Query::default()).await
    }

    /// As [`Source::get`], with the parameters of a query.
    ///
    /// # Errors
    /// As [`Source::text`].
    pub async fn get_with<T: DeserializeOwned>(&self, route: &Route, query: &Query) -> Result<T, CliError> {
        serde_json::from_slice(&self.text(route, query).await?).map_err(|e| {
            CliError::failed(format!("the node's answer is not understood: {e}"))
                .hint("is it of the same version as this program?")
        })
    }

    /// The task given by id, prefix or name; without one the task that the node is at.
    ///
    /// # Errors
    /// Unknown or ambiguous, or there is no task yet.
    pub async fn task(&self, given: Option<&str>) -> Result<dto::TaskSummary, CliError> {
        if let Some(given) = given {
            return self.get(&Route::Task(given.to_owned())).await;
        }
        let status: dto::NodeStatus = self.get(&Route::Status).await?;
        let id = status.active_task.ok_or_else(|| {
            CliError::not_found("no task is known yet").hint("`spore run` finds some, `spore task create` makes one")
        })?;
        self.get(&Route::Task(id)).await
    }

    /// Hands over a signed object.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn submit(&self, object: VerifiedObject) -> Result<(), CliError> {
        match self {
            Self::Node(client) => {
                client.send(&Route::SubmitObject, object.into_signed().to_json().into_bytes()).await.map(|_| ())
            }
            Self::Store(offline) => {
                write::submit(&offline.door()?.ingest, object.into_signed()).await?;
                Ok(())
            }
        }
    }

    /// Makes a task: the node does, or this command with the node's key.
    ///
    /// # Errors
    /// When its script cannot be used, or it cannot be stored.
    pub async fn create_task(&self, new: dto::NewTask, identity: &Identity) -> Result<dto::TaskSummary, CliError> {
        match self {
            Self::Node(client) => {
                let body = serde_json::to_vec(&new).map_err(|e| CliError::failed(e.to_string()))?;
                let answer = client.send(&Route::CreateTask, body).await?;
                serde_json::from_slice(&answer)
                    .map_err(|e| CliError::failed(format!("the node's answer is not understood: {e}")))
            }
            Self::Store(offline) => {
                let maker = NodeTaskMaker {
                    store: offline.view.store().clone(),
                    ingest: offline.door()?.ingest.clone(),
                    identity: identity.clone(),
                };
                let id = maker.create(new).await?;
                Ok(offline.view.task(&id.to_string())?)
            }
        }
    }

    /// Stores the file's bytes; gives their address and number.
    ///
    /// # Errors
    /// When it cannot be read or stored.
    pub async fn put_file(&self, path: &std::path::Path) -> Result<(Cid, u64), CliError> {
        let failed = |e: &std::io::Error| CliError::io(path.display(), e);
        let mut file = std::fs::File::open(path).map_err(|e| failed(&e))?;
        let (cid, size) = hash(&mut file).map_err(|e| failed(&e))?;
        std::io::Seek::rewind(&mut file).map_err(|e| failed(&e))?;
        match self {
            Self::Node(client) => client.send_file(&cid, file, size).await?,
            Self::Store(offline) => {
                let mut writer = offline.view.store().begin_artifact(cid, size)?;
                writer.fill(&mut file)?;
                writer.finish()?;
            }
        }
        Ok((cid, size))
    }

    /// Keeps an artifact from being dropped.
    ///
    /// # Errors
    /// When there are too many such, or the list cannot be written.
    pub async fn pin(&self, cid: &Cid) -> Result<(), CliError> {
        match self {
            Self::Node(client) => client.pin(cid, true).await.map(|_| ()),
            Self::Store(offline) => Ok(offline.view.store().pin(cid).map(|_| ())?),
        }
    }
}

impl Offline {
    fn new(store: Store, identity: Option<&Identity>, context: &Context, door: Option<Door>) -> Result<Self, CliError> {
        let view = StoreView::new(store, identity.map(Identity::node_id));
        let pinned = context.config()?.task.and_then(|task| view.resolve_task(&task).ok());
        Ok(Self { view, live: Live::offline(pinned), pinned, door })
    }

    /// The view, for an explorer without a node.
    pub fn view(&self) -> &StoreView {
        &self.view
    }

    /// The task that the configuration names.
    pub fn pinned(&self) -> Option<TaskId> {
        self.pinned
    }

    fn door(&self) -> Result<&Door, CliError> {
        self.door.as_ref().ok_or_else(|| CliError::failed("the store is open for reading only"))
    }
}

impl Client {
    /// The node that runs on this data directory and answers as this node.
    ///
    /// # Errors
    /// When the data directory cannot be read.
    pub async fn find(data: &DataDir) -> Result<Option<Self>, CliError> {
        let Some(node) = data.running_node() else { return Ok(None) };
        // A proxy of the environment has no business with this machine's own addresses.
        let http =
            reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
        let http = http.map_err(|e| CliError::failed(e.to_string()))?;
        let client = Self { http, node, token: None };
        // Another program may have got the process number and the port of a node that was killed.
        let status = client.get(&Route::Status, &Query::default()).await;
        let answers = status.ok().and_then(|text| serde_json::from_slice::<dto::NodeStatus>(&text).ok());
        let own = identity_file::load(&data.identity())?.map(|identity| identity.node_id().to_string());
        // The token is for this node alone, once it is known to be it.
        let token = data.read_token()?;
        Ok(answers.filter(|status| own.as_ref() == Some(&status.node_id)).map(|_| Self { token, ..client }))
    }

    /// A request for a route, with the node's token if it is known.
    fn request(&self, route: &Route, query: &Query) -> reqwest::RequestBuilder {
        let mut url = format!("http://{}{}", self.node.address, route.path());
        if !query.is_empty() {
            url.push_str(&format!("?{query}"));
        }
        let request = self.http.request(route.method(), url);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    async fn get(&self, route: &Route, query: &Query) -> Result<Vec<u8>, CliError> {
        self.answer(self.request(route, query)).await
    }

    async fn send(&self, route: &Route, body: Vec<u8>) -> Result<Vec<u8>, CliError> {
        self.answer(self.request(route, &Query::default()).body(body)).await
    }

    /// Sends a JSON body to a writing route.
    ///
    /// # Errors
    /// The API's own.
    pub async fn post<T: Serialize>(&self, route: &Route, body: &T) -> Result<(), CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::failed(e.to_string()))?;
        self.send(route, body).await.map(|_| ())
    }

    /// Deletes what a route names.
    ///
    /// # Errors
    /// The API's own.
    pub async fn delete(&self, route: &Route) -> Result<(), CliError> {
        self.answer(self.request(route, &Query::default())).await.map(|_| ())
    }

    /// Has the node do a job on its store, and hears how far it is.
    ///
    /// # Errors
    /// The API's own, or why the job did not come to its end.
    pub async fn upkeep(
        &self,
        job: &UpkeepJob,
        mut progress: impl FnMut(&UpkeepProgress),
    ) -> Result<UpkeepReport, CliError> {
        let body = serde_json::to_vec(job).map_err(|e| CliError::failed(e.to_string()))?;
        let request = self.request(&Route::Upkeep, &Query::default());
        // What this program asks for is well formed, so it is refused because the node is at something else.
        let busy = |refused: CliError| match refused.kind {
            ErrorKind::Usage => CliError { kind: ErrorKind::Locked, ..refused },
            _ => refused,
        };
        let mut response = self.accepted(request.timeout(JOB_TIMEOUT).body(body)).await.map_err(busy)?;
        let mut text = Vec::new();
        loop {
            let chunk = tokio::time::timeout(ANSWER_TIMEOUT, response.chunk()).await;
            let chunk = chunk.map_err(|_| self.unreachable("it has been silent for a minute"))?;
            let chunk = chunk.map_err(|e| self.unreachable(e.without_url()))?;
            let Some(chunk) = chunk.filter(|_| text.len() <= MAX_LINE) else {
                return Err(self.unreachable("its answer broke off"));
            };
            text.extend_from_slice(&chunk);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                match serde_json::from_slice(&line) {
                    Ok(UpkeepLine::Progress(now)) => progress(&now),
                    Ok(UpkeepLine::Report(report)) => return Ok(report),
                    Ok(UpkeepLine::Error(problem)) => {
                        return Err(CliError { kind: ErrorKind::Failed, ..ApiError::from(problem).into() });
                    }
                    Err(e) => return Err(CliError::failed(format!("the node's answer is not understood: {e}"))),
                }
            }
        }
    }

    /// Has the node pin an artifact, or take the pin back.
    ///
    /// # Errors
    /// The API's own.
    pub async fn pin(&self, cid: &Cid, pinned: bool) -> Result<PinOutcome, CliError> {
        let cid = cid.to_string();
        let route = if pinned { Route::AddPin(cid) } else { Route::RemovePin(cid) };
        let answer = self.answer(self.request(&route, &Query::default())).await?;
        serde_json::from_slice(&answer)
            .map_err(|e| CliError::failed(format!("the node's answer is not understood: {e}")))
    }

    async fn send_file(&self, cid: &Cid, mut file: std::fs::File, size: u64) -> Result<(), CliError> {
        if size > MAX_SENT {
            return Err(CliError::failed(format!("a running node takes files of at most {MAX_SENT} bytes"))
                .hint("end the node, add the file, and start the node again"));
        }
        let query = Query::default().with("cid", cid);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        std::io::Read::read_to_end(&mut file, &mut bytes).map_err(|e| CliError::io("reading the file", &e))?;
        self.answer(self.request(&Route::StoreArtifact, &query).body(bytes)).await.map(|_| ())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, CliError> {
        let response = self.accepted(request).await?;
        Ok(response.bytes().await.map_err(|e| self.unreachable(e.without_url()))?.to_vec())
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> CliError {
        let message = format!("the node at {} does not answer: {why}", self.node.address);
        CliError::new(ErrorKind::NodeNotRunning, message).hint("see what it prints, or end it and start it again")
    }

    /// The answer to a request that the node does not refuse, its body still to be read.
    async fn accepted(&self, request: reqwest::RequestBuilder) -> Result<reqwest::Response, CliError> {
        let response = request.send().await.map_err(|e| self.unreachable(e.without_url()))?;
        let status = response.status().as_u16();
        if status < 400 {
            return Ok(response);
        }
        let body = response.bytes().await.map_err(|e| self.unreachable(e.without_url()))?;
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(ApiError::from(problem).into()),
            Err(_) => Err(CliError::failed(format!("the node answered with status {status}"))),
        }
    }
}

impl From<ApiError> for CliError {
    fn from(error: ApiError) -> Self {
        let kind = match error.status() {
            404 => ErrorKind::NotFound,
            400 | 409 => ErrorKind::Usage,
            _ => ErrorKind::Failed,
        };
        Self { kind, message: error.message, hint: hint_of(error.kind).map(str::to_owned).or(error.hint) }
    }
}

/// The next step in terms of this program, where the API's own hint names routes or says nothing.
pub const fn hint_of(kind: ProblemKind) -> Option<&'static str> {
    match kind {
        ProblemKind::UnknownTask => Some("`spore tasks` lists those known"),
        ProblemKind::UnknownExperiment => Some("`spore graph` lists experiments, `spore search` finds them by words"),
        ProblemKind::UnknownDataset => Some("`spore data add FILE` adds one and prints its CID"),
        ProblemKind::DamagedStore => Some("stop the node and run `spore db check --repair`"),
        _ => None,
    }
}

/// The error of a store that a node may hold which does not answer.
pub fn locked_without_api(error: StoreError, data: &DataDir) -> CliError {
    let locked = matches!(error, StoreError::Locked { .. });
    let error = CliError::from(error);
    if locked && data.running_node().is_some() {
        return error.hint("its node is starting, ending or too busy to answer: try again");
    }
    error
}

fn hash(file: &mut std::fs::File) -> std::io::Result<(Cid, u64)> {
    use sha2::{Digest, Sha256};
    let mut digest = Sha256::new();
    let mut buffer = vec![0; CHUNK];
    let mut size = 0;
    loop {
        let read = std::io::Read::read(file, &mut buffer)?;
        match buffer.get(..read) {
            Some([]) | None => return Ok((Cid(digest.finalize().into()), size)),
            Some(bytes) => digest.update(bytes),
        }
        size += read as u64;
    }
}
