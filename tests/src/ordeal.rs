//! Measures what the honest peers of a node notice of an attack: first without one, then while every kind of abuse goes
//! on at full speed.

use std::time::Duration;

use spore_protocol::{SignedObject, VerifiedObject};

use crate::{
    TestNet,
    abuse::Attack,
    probe::{HonestPeers, Latencies, quantile},
    process::MemoryWatch,
    tree::RecordTree,
};

/// How long the latencies are measured before the attack.
const QUIET: Duration = Duration::from_secs(4);
/// Records that the node has before the attack, and that the attackers send again.
const KNOWN: usize = 200;
/// The number of the tree of records.
const TREE: u8 = 9;

/// The result of the measurement.
pub struct Ordeal {
    /// The number of the node in the test's net.
    pub node: usize,
    /// The records that the node had before the attack and those that the honest peers published.
    pub tree: RecordTree,
    pub quiet: Latencies,
    pub attacked: Latencies,
    /// Most bytes of memory that the node used before the attack.
    pub quiet_memory: u64,
    /// Most bytes of memory that the node used during the attack.
    pub attack_memory: u64,
    /// How much abuse there was: one line for each kind.
    pub volume: String,
}

impl Ordeal {
    /// Starts a node in the net and attacks it for this long.
    ///
    /// # Panics
    /// When an honest peer loses its connection or a record that it sent.
    pub async fn run(net: &mut TestNet, time: Duration) -> Self {
        let (mut tree, _) = RecordTree::plant(TREE, KNOWN, &net.dir_of("node"));
        let misplaced = tree.misplaced();
        let known: Vec<SignedObject> = {
            let mut again = RecordTree::new(TREE);
            (0..KNOWN).map(|_| VerifiedObject::from(again.grow()).into_signed()).collect()
        };
        let number = net.start("node", None, &["--no-train"]).await;
        let node = net.node(number);
        let memory = MemoryWatch::start(node.pid());

        let mut peers = HonestPeers::connect(node.port).await;
        let mut publish = || VerifiedObject::from(tree.grow()).into_signed();
        // The first round is not counted: a new connection still receives history.
        peers.measure(Duration::ZERO, &mut publish).await;
        let quiet = peers.measure(QUIET, &mut publish).await;
        let quiet_memory = memory.most();
        let attack = Attack::begin(node.port, &known, &misplaced);
        let attacked = peers.measure(time, &mut publish).await;
        let volume = attack.end();
        let attack_memory = memory.most();
        Self { node: number, tree, quiet, attacked, quiet_memory, attack_memory, volume }
    }

    /// How many times as long the honest peers waited during the attack, by this quantile: the worse of ping and spread.
    pub fn slowdown(&self, share: f64) -> f64 {
        let times = |of: fn(&Latencies) -> &Vec<Duration>| {
            quantile(of(&self.attacked), share) / quantile(of(&self.quiet), share)
        };
        times(|of| &of.ping).max(times(|of| &of.spread))
    }

    /// The latencies and the memory before and during the attack: one line for each.
    pub fn report(&self) -> String {
        let line = |what: &str, of: fn(&Latencies) -> &Vec<Duration>| {
            let at = |share: f64| {
                let (quiet, attacked) = (quantile(of(&self.quiet), share), quantile(of(&self.attacked), share));
                format!("{quiet:.2} -> {attacked:.2} ms ({:.1} times)", attacked / quiet)
            };
            let count = of(&self.attacked).len();
            format!("  {what:<6} median {}, p95 {}, longest {}, {count} measured", at(0.5), at(0.95), at(1.0))
        };
        let memory = format!("  memory {} -> {} MiB", self.quiet_memory >> 20, self.attack_memory >> 20);
        [line("ping", |of| &of.ping), line("spread", |of| &of.spread), memory].join("\n")
    }
}
