//! A real node with a made-up history, for looking at the explorer's page and for its browser tests. `npm run fixture`
//! and `npm run test:browser` in `explorer-ui/` start it.
//!
//! Without an argument the program prints the page's address and publishes a record every few seconds until it is
//! interrupted. With `--drive` it prints one line of JSON that describes the world. It then answers each command on its
//! standard input with one line of JSON, and ends when the input ends:
//!
//! - `publish` sends a new record of the first task to the node as a legacy peer. While the node is stopped, the record
//!   goes into the store directly. The answer describes the record.
//! - `stop` and `start` stop and start the node.
//! - `train` starts a second node that trains a tiny task, and answers with its address. `rest` stops it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a program of the tests that cannot go on must say so and stop"
)]

use std::{
    io::BufRead as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use serde_json::{Value, json};
use spore_protocol::{RecordId, VerifiedObject};
use spore_storage::Store;
use spore_tests::{TestNet, legacy::LegacyPeer, wait_for, world::World};

const NODE: &str = "explorer";
const FLAGS: &[&str] = &["--no-train"];
/// Bounds a hang while a record arrives on a busy machine.
const ARRIVAL_LIMIT: Duration = Duration::from_secs(60);
/// Time between two records without `--drive`.
const PACE: Duration = Duration::from_secs(4);
/// Tasks that each node has from the start.
const BUILT_IN_TASKS: u64 = 1;
const TINY: &str = include_str!("../scripts/tiny.star");
/// Seconds of a training run: long enough for a test to see its progress.
const BUDGET: u64 = 20;

#[tokio::main]
async fn main() {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let drive = match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => false,
        ["--drive"] => true,
        _ => {
            eprintln!("usage: explorer_world [--drive]");
            std::process::exit(2);
        }
    };
    let mut stage = Stage::set().await;
    if drive { stage.drive().await } else { stage.show().await }
}

/// The world, the node that serves it, and the peer that sends new records to the node.
struct Stage {
    world: World,
    net: TestNet,
    node: usize,
    /// None while the node is stopped.
    peer: Option<LegacyPeer>,
    trainer: Option<usize>,
}

impl Stage {
    async fn set() -> Self {
        let mut net = TestNet::new();
        let world = World::create(&net.dir_of(NODE), now());
        let node = net.start(NODE, None, FLAGS).await;
        let mut stage = Self { world, net, node, peer: None, trainer: None };
        stage.connect().await;
        stage
    }

    async fn connect(&mut self) {
        let mut peer = LegacyPeer::dial(self.net.node(self.node).port).await.expect("the node listens");
        peer.has_nothing().await.expect("the node is connected");
        self.peer = Some(peer);
    }

    async fn show(&mut self) {
        println!("The explorer with a made-up history is at {}", self.net.node(self.node).url("/"));
        let mut pace = tokio::time::interval(PACE);
        loop {
            tokio::select! {
                _ = pace.tick() => drop(self.publish().await),
                _ = tokio::signal::ctrl_c() => return,
            }
        }
    }

    async fn drive(&mut self) {
        let mut description = self.world.description();
        description["url"] = self.net.node(self.node).url("").into();
        description["built_in_tasks"] = BUILT_IN_TASKS.into();
        println!("{description}");
        let (lines, mut commands) = tokio::sync::mpsc::channel(1);
        std::thread::spawn(move || {
            for line in std::io::stdin().lock().lines().map_while(Result::ok) {
                if lines.blocking_send(line).is_err() {
                    break;
                }
            }
        });
        while let Some(command) = commands.recv().await {
            let answer = match command.trim() {
                "publish" => self.publish().await,
                "stop" => self.stop(),
                "start" => self.start().await,
                "train" => self.train().await,
                "rest" => self.rest(),
                other => panic!("unknown command {other:?}"),
            };
            println!("{answer}");
        }
    }

    async fn publish(&mut self) -> Value {
        let (record, described) = self.world.publish(now());
        let id = RecordId::from(record.id());
        let object = VerifiedObject::from(record);
        let Some(peer) = &mut self.peer else {
            let store = Store::open(&self.net.dir_of(NODE)).expect("the node is stopped");
            store.insert(&[object], now()).expect("room for a record");
            return described;
        };
        peer.send_object(&object).await.expect("the node is connected");
        let node = self.net.node(self.node);
        wait_for("a published record", ARRIVAL_LIMIT, async || node.api(&format!("/experiments/{id}")).await).await;
        described
    }

    fn stop(&mut self) -> Value {
        self.peer = None;
        json!({"exit_code": self.net.node_mut(self.node).interrupt()})
    }

    async fn start(&mut self) -> Value {
        self.net.node_mut(self.node).start().await;
        self.connect().await;
        json!({})
    }

    async fn train(&mut self) -> Value {
        let task = self.net.create_task("trainer", TINY, BUDGET);
        let trainer = self.net.start("trainer", None, &["--task", &task, "--device", "flex"]).await;
        self.trainer = Some(trainer);
        json!({"url": self.net.node(trainer).url(""), "task": task})
    }

    fn rest(&mut self) -> Value {
        let trainer = self.trainer.take().expect("a node trains");
        json!({"exit_code": self.net.node_mut(trainer).interrupt()})
    }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
