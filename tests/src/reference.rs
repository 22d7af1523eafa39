//! Processes of the reference, the existing network's own program, driven line by line.
//!
//! `tests/reference/node.py` runs the reference's classes unchanged and executes the commands of a test.
//! `tests/reference/seed.py` writes data directories as those classes leave them. When the reference is not installed,
//! [`python`] reports it and the test is skipped.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::OpenOptions,
    path::{Path, PathBuf},
    process::{Command as Program, Stdio},
    time::Duration,
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
    time::timeout,
};

use crate::{
    TestNet, command,
    net::{free_ports, tail, text, texts},
    skip::skip,
    source::root,
    wait_for,
};

/// How long Python may take to start and open five databases.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long an answer may take. The reference itself waits half a minute for each of three histories.
const ANSWER_LIMIT: Duration = Duration::from_secs(120);
/// How long the reference may take to close its databases.
const STOP_LIMIT: Duration = Duration::from_secs(30);
/// How long Python may take to sign thousands of records.
const SEED_LIMIT: Duration = Duration::from_secs(300);

/// The Python for which the reference is installed: `SPORE_REFERENCE`, or the one that `scripts/setup` installs. None,
/// with a message, when there is none.
pub fn python() -> Option<PathBuf> {
    let cache = || {
        let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)
    };
    let installed = || Some(cache()?.join("spore/reference/bin/python"));
    let found = std::env::var_os("SPORE_REFERENCE").map(PathBuf::from).or_else(installed);
    let found = found.filter(|python| python.is_file());
    if found.is_none() {
        skip("the reference is not here: scripts/setup installs it, or SPORE_REFERENCE names a Python that has it");
    }
    found
}

/// Writes a data directory with the reference's own classes. Returns the description that `seed.py` prints.
pub fn seed(python: &Path, dir: &Path, flags: &[&str]) -> Value {
    let mut program = Program::new(python);
    program.arg("-B").arg(root().join("tests/reference/seed.py")).arg(dir).args(flags);
    command::run_within(program, b"", SEED_LIMIT).expect_code(0).json()
}

/// A node of the reference: its files, its port and, while it runs, its process. Dropping this kills the process.
pub struct Reference {
    name: String,
    python: PathBuf,
    dir: PathBuf,
    log: PathBuf,
    pub port: u16,
    peers: Vec<String>,
    running: Option<ReferenceProcess>,
}

struct ReferenceProcess {
    child: Child,
    commands: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Reference {
    /// Starts a node in its folder of the test's net, where [`seed`] may have written before, and waits until it
    /// listens. The node dials `peers` (`host:port`) and the peers that it remembers.
    pub async fn start(python: &Path, net: &TestNet, name: &str, peers: &[String]) -> Self {
        let [port] = free_ports();
        let (dir, log) = (net.dir_of(name), net.dir().join(format!("{name}.log")));
        let (name, python, peers) = (name.to_owned(), python.to_owned(), peers.to_vec());
        let mut reference = Self { name, python, dir, log, port, peers, running: None };
        reference.start_again().await;
        reference
    }

    /// Starts the node again, on the same port, and waits until it listens.
    pub async fn start_again(&mut self) {
        assert!(self.running.is_none(), "{} runs already", self.name);
        let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log file");
        let mut program = Command::new(&self.python);
        // -B: Python writes no byte code beside the sources.
        program.arg("-B").arg(root().join("tests/reference/node.py"));
        program.arg(&self.dir).arg(self.port.to_string()).args(&self.peers).env("HOME", &self.dir);
        program.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).kill_on_drop(true);
        let mut child = program.spawn().expect("Python starts");
        let commands = child.stdin.take().expect("a piped standard input");
        let answers = BufReader::new(child.stdout.take().expect("a piped standard output")).lines();
        self.running = Some(ReferenceProcess { child, commands, answers });
        let what = format!("{} to listen", self.name);
        wait_for(&what, START_LIMIT, async || {
            let status = self.ask(json!({"do": "status"})).await;
            if status["listening"] == true { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// Waits until the node has dialled its peers and has their histories.
    pub async fn synced(&mut self) {
        let what = format!("{} to sync from its peers", self.name);
        wait_for(&what, ANSWER_LIMIT, async || {
            let status = self.ask(json!({"do": "status"})).await;
            if status["started"] == true { Ok(()) } else { Err(status.to_string()) }
        })
        .await;
    }

    /// The address that other nodes dial.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The node's data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Executes the command that `node.py` knows by the name `do`. Returns the answer.
    pub async fn ask(&mut self, command: Value) -> Value {
        self.try_ask(&command).await.unwrap_or_else(|error| panic!("{}: {command}: {error}", self.name))
    }

    /// As [`Reference::ask`], for a command that may fail.
    ///
    /// # Errors
    /// The error that the reference reports.
    pub async fn try_ask(&mut self, command: &Value) -> Result<Value, String> {
        let running = self.running.as_mut().expect("the reference runs");
        let line = format!("{command}\n");
        let exchange = async {
            running.commands.write_all(line.as_bytes()).await?;
            running.commands.flush().await?;
            running.answers.next_line().await
        };
        let answer = match timeout(ANSWER_LIMIT, exchange).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None) | Err(_)) => panic!("{} ended before it answered {command}", self.name),
            Err(_) => panic!("{} did not answer {command} within {ANSWER_LIMIT:?}", self.name),
        };
        let answer: Value = serde_json::from_str(&answer).unwrap_or_else(|e| panic!("{}: {e}: {answer}", self.name));
        if let Some(error) = answer.get("error") { Err(text(error)) } else { Ok(answer["answer"].clone()) }
    }

    /// All records that the node has, each with its task.
    pub async fn records(&mut self) -> BTreeMap<String, String> {
        let records = self.ask(json!({"do": "records"})).await;
        let pair = |record: &Value| (text(&record["id"]), text(&record["task"]));
        records.as_array().into_iter().flatten().map(pair).collect()
    }

    /// All tasks that the node has, each with its name.
    pub async fn tasks(&mut self) -> BTreeMap<String, String> {
        let tasks = self.ask(json!({"do": "tasks"})).await;
        tasks.as_object().into_iter().flatten().map(|(id, task)| (id.clone(), text(&task["name"]))).collect()
    }

    /// Ids of the records on a task's frontier, of any class, the best first.
    pub async fn frontier(&mut self, task: &str) -> Vec<String> {
        texts(&self.ask(json!({"do": "frontier", "task": task})).await)
    }

    /// Ids of the records that the node counts as verified.
    pub async fn verified(&mut self) -> BTreeSet<String> {
        texts(&self.ask(json!({"do": "verified"})).await).into_iter().collect()
    }

    /// Ids of the control events that the node has.
    pub async fn controls(&mut self) -> BTreeSet<String> {
        texts(&self.ask(json!({"do": "controls"})).await).into_iter().collect()
    }

    /// All nodes of which the node has a profile, each with its display name.
    pub async fn profiles(&mut self) -> BTreeMap<String, String> {
        let profiles = self.ask(json!({"do": "profiles"})).await;
        profiles.as_object().into_iter().flatten().map(|(node, name)| (node.clone(), text(name))).collect()
    }

    /// Asserts that no message has ended one of the node's connections with an error.
    pub async fn assert_unharmed(&mut self) {
        let failures = self.ask(json!({"do": "failures"})).await;
        assert_eq!(failures, json!([]), "{}: what a peer sent was too much for a connection", self.name);
    }

    /// Ends the node in an orderly way.
    pub async fn stop(&mut self) {
        self.ask(json!({"do": "stop"})).await;
        let mut running = self.running.take().expect("the reference runs");
        let ended = timeout(STOP_LIMIT, running.child.wait()).await;
        assert!(ended.is_ok(), "{} did not end within {STOP_LIMIT:?}", self.name);
    }

    /// Kills the node at once, as a power cut would.
    pub async fn kill(&mut self) {
        let mut running = self.running.take().expect("the reference runs");
        running.child.kill().await.expect("a child can be killed");
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- log of {} ----\n{}", self.name, tail(&self.log));
        }
    }
}
