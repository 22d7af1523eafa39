//! Networks of real nodes.

use std::{
    collections::{BTreeSet, hash_map::RandomState},
    fs::{File, OpenOptions},
    hash::{BuildHasher as _, Hasher as _},
    net::{TcpListener, UdpSocket},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use serde_json::Value;
use spore_protocol::{Cid, SignedObject};
use tempfile::TempDir;

use crate::{
    command::{command, spore, wait_within, with_files},
    http, wait_for,
};

/// The `gpu_model` of tests' nodes, of the class `CPU_4X8`.
pub const PROCESSOR: &str = "CPU 4x8 (test)";

/// A node is ready when its API answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// A node ends its worker, flushes and closes its store.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// Ports that systems give to no outgoing connection, of which a flood next to this test makes thousands.
const PORTS: std::ops::Range<u16> = 20_000..32_000;
/// Lines of each node's log that a failed test shows.
const LOG_LINES: usize = 60;

/// Nodes on this machine that know only each other. Dropping the network stops them all.
pub struct TestNet {
    dir: TempDir,
    nodes: Vec<Node>,
    /// Most open files of nodes that are added from now on.
    files: Option<u32>,
}

impl TestNet {
    /// No nodes yet.
    pub fn new() -> Self {
        Self {
            dir: tempfile::Builder::new().prefix("spore-test-").tempdir().expect("a temporary directory"),
            nodes: Vec::new(),
            files: None,
        }
    }

    /// The data directory of the node of this name, which need not exist yet.
    pub fn dir_of(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A directory for the files of a test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Makes a task in the data directory of `name`. Returns its id.
    pub fn create_task(&self, name: &str, script: &str, time_budget: u64) -> String {
        let base = self.dir.path().join(format!("{name}-base.star"));
        std::fs::write(&base, script).expect("a file in a temporary directory");
        let (dir, base, budget) = (self.dir_of(name), base.display().to_string(), time_budget.to_string());
        spore(&dir, &["init"]).expect_code(0);
        let args = [
            "task",
            "create",
            "--name",
            "test",
            "--description",
            "a test's task",
            "--base",
            &base,
            "--time-budget",
            &budget,
        ];
        let output = spore(&dir, &args).expect_code(0);
        let is_id = |word: &&str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
        let mut words = output.stdout.split(|c: char| !c.is_ascii_alphanumeric());
        words.find(is_id).unwrap_or_else(|| panic!("no task id in: {}", output.stdout)).to_owned()
    }

    /// Makes the node `name`, which has not started yet, trust these other nodes.
    pub fn trust(&self, name: &str, others: &[&str]) {
        let id = |name: &&str| text(&spore(&self.dir_of(name), &["init", "--json"]).expect_code(0).json()["node_id"]);
        let keys: Vec<_> = others.iter().map(id).map(|id| format!("\"{id}\"")).collect();
        spore(&self.dir_of(name), &["init"]).expect_code(0);
        let config = self.dir_of(name).join("config.toml");
        let rest = std::fs::read_to_string(&config).expect("a configuration");
        std::fs::write(config, format!("trust = [{}]\n{rest}", keys.join(", "))).expect("room for a line");
    }

    /// Starts a node with these flags and waits until its API answers. The node dials `peer` over libp2p. Returns the
    /// number of the node.
    pub async fn start(&mut self, name: &str, peer: Option<usize>, flags: &[&str]) -> usize {
        let mut flags: Vec<String> = flags.iter().map(ToString::to_string).collect();
        if let Some(peer) = peer {
            flags.extend(["--peer".to_owned(), self.nodes[peer].multiaddr()]);
        }
        let [port, p2p_port, web_port] = free_ports();
        let (dir, log) = (self.dir_of(name), self.dir.path().join(format!("{name}.log")));
        let files = self.files;
        let mut node = Node { name: name.to_owned(), dir, log, port, p2p_port, web_port, flags, files, child: None };
        node.start().await;
        self.nodes.push(node);
        self.nodes.len() - 1
    }

    /// Lets the nodes that are added from now on open only this many files at once. None: as many as this process.
    pub const fn limit_files(&mut self, files: Option<u32>) {
        self.files = files;
    }

    /// The node of a number that [`TestNet::start`] returned.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number]
    }

    /// As [`TestNet::node`], to stop it and start it again.
    pub fn node_mut(&mut self, number: usize) -> &mut Node {
        &mut self.nodes[number]
    }
}

impl Default for TestNet {
    fn default() -> Self {
        Self::new()
    }
}

/// Gives the node in `dir` the processor's class that all tests share. Measured classes could differ between processes
/// on a busy machine, and the measurement would take seconds of each start. A file that exists already stays.
pub fn fix_class(dir: &Path) {
    let file = dir.join("device.json");
    if !file.exists() {
        std::fs::create_dir_all(dir).expect("a data directory");
        std::fs::write(file, format!("{{\"fixed\": \"{PROCESSOR}\"}}")).expect("a file in the data directory");
    }
}

/// Ports that no process uses now, over TCP or UDP.
pub fn free_ports<const N: usize>() -> [u16; N] {
    // All sockets stay bound until all ports are known, so that the ports differ.
    let held = [(); N].map(|()| free_port());
    held.map(|(tcp, _udp)| tcp.local_addr().expect("a bound socket has an address").port())
}

fn free_port() -> (TcpListener, UdpSocket) {
    for _ in 0..100 {
        let number = RandomState::new().build_hasher().finish();
        let port = PORTS.start + (number % u64::from(PORTS.end - PORTS.start)) as u16;
        if let (Ok(tcp), Ok(udp)) = (TcpListener::bind(("0.0.0.0", port)), UdpSocket::bind(("0.0.0.0", port))) {
            return (tcp, udp);
        }
    }
    panic!("no port that is free over TCP and UDP");
}

/// One node: its files, ports and, while it runs, its process.
pub struct Node {
    name: String,
    dir: PathBuf,
    log: PathBuf,
    /// The legacy network's TCP.
    pub port: u16,
    /// libp2p, TCP and QUIC.
    pub p2p_port: u16,
    /// The HTTP API.
    pub web_port: u16,
    flags: Vec<String>,
    files: Option<u32>,
    child: Option<Child>,
}

impl Node {
    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The libp2p address, for other nodes.
    pub fn multiaddr(&self) -> String {
        format!("/ip4/127.0.0.1/tcp/{}", self.p2p_port)
    }

    /// The address for legacy peers.
    pub fn legacy_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Changes the flags of the next start.
    pub fn set_flags(&mut self, flags: &[&str]) {
        self.flags = flags.iter().map(ToString::to_string).collect();
    }

    /// The process id of the running node.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("the node runs").id()
    }

    /// The output of the node since its first start.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The URL of a path of the API.
    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.web_port)
    }

    /// Starts it (again) and waits until its API answers.
    pub async fn start(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        fix_class(&self.dir);
        let log =
            |path: &Path| -> File { OpenOptions::new().create(true).append(true).open(path).expect("a log file") };
        let [port, p2p_port, web_port] = [self.port, self.p2p_port, self.web_port].map(|port| port.to_string());
        let mut args = vec!["run", "--port", &port, "--p2p-port", &p2p_port, "--web-port", &web_port];
        args.extend(["--no-bootstrap", "--no-mdns"]);
        args.extend(self.flags.iter().map(String::as_str));
        let mut command = command(&self.dir, &args);
        if let Some(files) = self.files {
            command = with_files(&command, files);
        }
        // A group of its own, so that nothing that it started outlives the test.
        command.process_group(0).stdout(Stdio::from(log(&self.log))).stderr(Stdio::from(log(&self.log)));
        self.child = Some(command.spawn().expect("spore starts"));
        let what = format!("the API of {} to answer", self.name);
        wait_for(&what, START_LIMIT, async || {
            if let Some(status) = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten()) {
                panic!("{} ended at once with {status}:\n{}", self.name, tail(&self.log));
            }
            http::get_json(&self.url("/api/v1/status")).await
        })
        .await;
    }

    /// Stops the node as Ctrl-C does. Returns the exit code.
    pub fn interrupt(&mut self) -> i32 {
        self.end_by(Signal::INT)
    }

    /// Sends the node a signal that ends it. Returns the exit code.
    pub fn end_by(&mut self, signal: Signal) -> i32 {
        self.signal(signal);
        self.wait_for_end()
    }

    /// Sends the node a signal.
    pub fn signal(&self, signal: Signal) {
        let _ = kill_process(pid(self.child.as_ref().expect("the node runs")), signal);
    }

    /// Waits until the node has ended. Returns the exit code.
    pub fn wait_for_end(&mut self) -> i32 {
        let mut child = self.child.take().expect("the node runs");
        let code = wait_within(&mut child, STOP_LIMIT);
        let _ = kill_process_group(pid(&child), Signal::KILL);
        code.unwrap_or_else(|| panic!("{} did not end within {STOP_LIMIT:?}:\n{}", self.name, tail(&self.log)))
    }

    /// Kills the process of the node alone, as a power cut would. Its child processes have to notice.
    pub fn kill(&mut self) -> ProcessGroup {
        let mut child = self.child.take().expect("the node runs");
        let group = ProcessGroup(pid(&child));
        let _ = kill_process(pid(&child), Signal::KILL);
        let _ = child.wait();
        group
    }

    /// `GET /api/v1PATH`.
    ///
    /// # Errors
    /// Any answer but 200 with JSON.
    pub async fn api(&self, path: &str) -> Result<Value, String> {
        http::get_json(&self.url(&format!("/api/v1{path}"))).await.map_err(|e| format!("{}: {e}", self.name))
    }

    /// Submits a signed object, as the command line does. Asserts that the object is new and valid.
    pub async fn submit(&self, object: &SignedObject) {
        let body = self.post("/objects", object.to_json().into_bytes()).await;
        assert!(["accepted", "pending"].contains(&text(&body["outcome"]).as_str()), "{body}");
    }

    /// Stores an artifact in the node. Returns its CID.
    pub async fn put_artifact(&self, bytes: &[u8]) -> Cid {
        let cid = Cid::of(bytes);
        self.post(&format!("/artifacts?cid={cid}"), bytes.to_vec()).await;
        cid
    }

    /// Lets the node dial a peer, as `spore connect` does.
    pub async fn connect(&self, peer: &str) {
        self.post("/peers", serde_json::json!({"address": peer}).to_string().into_bytes()).await;
    }

    /// As [`Node::connect`], for a peer that may have no place.
    ///
    /// # Errors
    /// The node's answer when it could not connect.
    pub async fn try_connect(&self, peer: &str) -> Result<(), String> {
        let body = serde_json::json!({"address": peer}).to_string().into_bytes();
        self.try_post("/peers", body).await.map(drop)
    }

    async fn post(&self, path: &str, body: Vec<u8>) -> Value {
        self.try_post(path, body).await.unwrap_or_else(|e| panic!("{e}"))
    }

    async fn try_post(&self, path: &str, body: Vec<u8>) -> Result<Value, String> {
        let token = std::fs::read_to_string(self.dir.join("api_token")).expect("the node has written its token");
        let request = http::client().post(self.url(&format!("/api/v1{path}"))).bearer_auth(token.trim()).body(body);
        match http::send(request).await {
            Ok((200, body)) => serde_json::from_str(&body).map_err(|e| format!("{path}: {e}: {body}")),
            other => Err(format!("{}: {path}: {other:?}", self.name)),
        }
    }

    /// The ids of all records of a task that the node knows.
    ///
    /// # Errors
    /// As [`Node::api`].
    pub async fn records(&self, task: &str) -> Result<BTreeSet<String>, String> {
        Ok(texts(&self.api(&format!("/tasks/{task}/graph")).await?["ids"]).into_iter().collect())
    }

    /// The number of verified records of a task.
    ///
    /// # Errors
    /// As [`Node::api`].
    pub async fn verified(&self, task: &str) -> Result<usize, String> {
        let graph = self.api(&format!("/tasks/{task}/graph")).await?;
        Ok(graph["verified"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|verified| **verified == Value::Bool(true))
            .count())
    }

    /// The ids on the frontier of a task, best first.
    ///
    /// # Errors
    /// As [`Node::api`].
    pub async fn frontier(&self, task: &str) -> Result<Vec<String>, String> {
        self.listing(task, "frontier").await
    }

    /// The ids on one of the listings of a task (`frontier`, `global`, `claims` or `reference`), best first.
    pub async fn listing(&self, task: &str, view: &str) -> Result<Vec<String>, String> {
        let frontier = self.api(&format!("/tasks/{task}/frontier?limit=500&view={view}")).await?;
        Ok(frontier["items"].as_array().into_iter().flatten().map(|e| text(&e["id"])).collect())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = kill_process_group(pid(&child), Signal::KILL);
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, tail(&self.log));
        }
    }
}

/// The processes that a killed node had started. Dropping the group kills those that are left.
pub struct ProcessGroup(Pid);

impl ProcessGroup {
    /// Whether a process of the group still runs.
    pub fn alive(&self) -> bool {
        rustix::process::test_kill_process_group(self.0).is_ok()
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The last lines of a log, for a failed test.
pub fn tail(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

/// The text of a JSON string. Empty for any other value.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// The texts of a JSON array of strings.
pub fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}
