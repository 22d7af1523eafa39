//! The API of the running node.

use std::time::Duration;

use serde::Serialize;
use spore_api::{
    dto,
    problem::{ApiError, Problem},
    query::Query,
    route::Route,
    upkeep::shapes::{PinOutcome, UpkeepJob, UpkeepLine, UpkeepProgress, UpkeepReport},
};
use spore_protocol::Cid;
use spore_storage::Store;

use super::parsed;
use crate::{
    cli::{CliError, ErrorKind},
    data_dir::{DataDir, RunningNode},
    identity_file,
};

/// Time to connect. A node on this machine accepts at once, unless the machine is very busy.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for the first answer, by which a command learns that a node is there. After a kill, another program may hang on
/// the port, and a stopped process answers nothing.
const PROBE_TIMEOUT: Duration = Duration::from_secs(2);
/// Time for a running node to write `node.json` again after somebody removed it; the node looks every second.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(2);
const ANNOUNCED_INTERVAL: Duration = Duration::from_millis(100);
/// Time to answer. The graph of a large task takes a while on a machine that trains.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Time for a job on the store, which can be long. A working node reports its progress every few seconds.
const JOB_TIMEOUT: Duration = Duration::from_secs(7 * 86_400);
/// Bytes of one line of a job's answer: its report, with ten thousand artifacts at most.
const MAX_LINE: usize = 16 << 20;
/// Bytes of a file that is sent to a running node. The whole file is in memory meanwhile.
const MAX_SENT: u64 = 512 << 20;

/// The node that `node.json` names. While a process holds the store and there is no such file, it may come back.
async fn announced(data: &DataDir) -> Option<RunningNode> {
    let began = std::time::Instant::now();
    loop {
        let node = data.running_node();
        if node.is_some() || began.elapsed() > ANNOUNCED_WITHIN || !Store::is_held(data.root()) {
            return node;
        }
        tokio::time::sleep(ANNOUNCED_INTERVAL).await;
    }
}

/// A client of the running node.
pub struct ApiClient {
    http: reqwest::Client,
    pub node: RunningNode,
    token: Option<String>,
}

impl ApiClient {
    /// Finds the node that runs on this data directory and answers with this directory's identity.
    ///
    /// # Errors
    /// When the data directory cannot be read.
    pub async fn find(data: &DataDir) -> Result<Option<Self>, CliError> {
        let Some(node) = announced(data).await else { return Ok(None) };
        // A proxy from the environment must not see requests to this machine.
        let http =
            reqwest::Client::builder().no_proxy().connect_timeout(CONNECT_TIMEOUT).timeout(ANSWER_TIMEOUT).build();
        let http = http.map_err(|e| CliError::failed(e.to_string()))?;
        let client = Self { http, node, token: None };
        // After a node was killed, another program may have its process id and its port.
        let probe = client.request(&Route::Status, &Query::default()).timeout(PROBE_TIMEOUT);
        let status = client.answer(probe).await;
        let answers = status.ok().and_then(|text| serde_json::from_slice::<dto::NodeStatus>(&text).ok());
        let own = identity_file::load(&data.identity())?.map(|identity| identity.node_id().to_string());
        // Only this node may get the token, so it is added once the identity is known.
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

    pub(super) async fn get(&self, route: &Route, query: &Query) -> Result<Vec<u8>, CliError> {
        self.answer(self.request(route, query)).await
    }

    pub(super) async fn send(&self, route: &Route, body: Vec<u8>) -> Result<Vec<u8>, CliError> {
        self.answer(self.request(route, &Query::default()).body(body)).await
    }

    /// Sends a JSON body to a route that changes the node.
    ///
    /// # Errors
    /// The error of the API.
    pub async fn post<T: Serialize>(&self, route: &Route, body: &T) -> Result<(), CliError> {
        let body = serde_json::to_vec(body).map_err(|e| CliError::failed(e.to_string()))?;
        self.send(route, body).await.map(|_| ())
    }

    /// Deletes what a route names.
    ///
    /// # Errors
    /// The error of the API.
    pub async fn delete(&self, route: &Route) -> Result<(), CliError> {
        self.answer(self.request(route, &Query::default())).await.map(|_| ())
    }

    /// Lets the node do a job on its store. `progress` hears of the job's progress.
    ///
    /// # Errors
    /// The error of the API, or the reason why the job stopped early.
    pub async fn upkeep(
        &self,
        job: &UpkeepJob,
        mut progress: impl FnMut(&UpkeepProgress),
    ) -> Result<UpkeepReport, CliError> {
        let body = serde_json::to_vec(job).map_err(|e| CliError::failed(e.to_string()))?;
        let request = self.request(&Route::Upkeep, &Query::default());
        // This program sends well-formed jobs only, so a refusal means that another job is running.
        let busy = |refused: CliError| match refused.kind {
            ErrorKind::Usage => CliError { kind: ErrorKind::Locked, ..refused },
            _ => refused,
        };
        let mut response = self.accepted(request.timeout(JOB_TIMEOUT).body(body)).await.map_err(busy)?;
        let mut text = Vec::new();
        loop {
            let chunk = tokio::time::timeout(ANSWER_TIMEOUT, response.chunk()).await;
            let chunk = chunk.map_err(|_| self.unreachable("it sent nothing for a minute"))?;
            let chunk = chunk.map_err(|e| self.unreachable(e.without_url()))?;
            let Some(chunk) = chunk.filter(|_| text.len() <= MAX_LINE) else {
                return Err(self.unreachable("its answer ended early"));
            };
            text.extend_from_slice(&chunk);
            while let Some(end) = text.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                match parsed(&line)? {
                    UpkeepLine::Progress(now) => progress(&now),
                    UpkeepLine::Report(report) => return Ok(report),
                    UpkeepLine::Error(problem) => {
                        return Err(CliError { kind: ErrorKind::Failed, ..ApiError::from(problem).into() });
                    }
                }
            }
        }
    }

    /// Pins an artifact in the node's store, or removes the pin.
    ///
    /// # Errors
    /// The error of the API.
    pub async fn pin(&self, cid: &Cid, pinned: bool) -> Result<PinOutcome, CliError> {
        let cid = cid.to_string();
        let route = if pinned { Route::AddPin(cid) } else { Route::RemovePin(cid) };
        parsed(&self.answer(self.request(&route, &Query::default())).await?)
    }

    pub(super) async fn send_file(&self, cid: &Cid, mut file: std::fs::File, size: u64) -> Result<(), CliError> {
        if size > MAX_SENT {
            return Err(CliError::failed(format!("a running node takes files of at most {MAX_SENT} bytes"))
                .hint("stop the node, add the file, and start the node again"));
        }
        let query = Query::default().with("cid", cid);
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
        std::io::Read::read_to_end(&mut file, &mut bytes).map_err(|e| CliError::io("cannot read the file", &e))?;
        self.answer(self.request(&Route::StoreArtifact, &query).body(bytes)).await.map(|_| ())
    }

    async fn answer(&self, request: reqwest::RequestBuilder) -> Result<Vec<u8>, CliError> {
        let response = self.accepted(request).await?;
        Ok(response.bytes().await.map_err(|e| self.unreachable(e.without_url()))?.to_vec())
    }

    fn unreachable(&self, why: impl std::fmt::Display) -> CliError {
        let message = format!("the node at {} does not answer: {why}", self.node.address);
        CliError::new(ErrorKind::NodeNotRunning, message)
            .hint("see the messages of the node, or stop it and start it again")
    }

    /// Sends a request. Returns the response with its body still unread.
    ///
    /// # Errors
    /// When the node does not answer, or refuses the request.
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
