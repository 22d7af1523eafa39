//! A node under attack, and what its honest peers notice of it: measured quietly first, then while
//! every kind of abuse goes on at full speed.

use std::time::Duration;

use spore_protocol::{SignedObject, VerifiedObject};

use crate::{
    TestNet,
    abuse::Attack,
    probe::{Latencies, Probe, quantile},
    process::Memory,
    tree::Tree,
};

/// How long the same is measured without an attack, before it.
const QUIET: Duration = Duration::from_secs(4);
/// Records that the node has beforehand, and that are sent to it again.
const KNOWN: usize = 200;
/// The tree's number.
const TREE: u8 = 9;

/// What was measured.
pub struct Ordeal {
    /// The node, in the test's net.
    pub node: usize,
    /// What it had beforehand and what honest peers published.
    pub tree: Tree,
    pub quiet: Latencies,
    pub attacked: Latencies,
    /// Most bytes of memory that the node had without an attack.
    pub quiet_memory: u64,
    /// The same during the attack.
    pub attack_memory: u64,
    /// How much abuse there was, a line for each kind.
    pub volume: String,
}

impl Ordeal {
    /// Starts a node in the net and attacks it for this long.
    ///
    /// # Panics
    /// When an honest peer loses its connection, or something that it sent.
    pub async fn run(net: &mut TestNet, time: Duration) -> Self {
        let (mut tree, _) = Tree::plant(TREE, KNOWN, &net.dir_of("node"));
        let misplaced = tree.misplaced();
        let known: Vec<SignedObject> = {
            let mut again = Tree::new(TREE);
            (0..KNOWN).map(|_| VerifiedObject::from(again.grow()).into_signed()).collect()
        };
        let number = net.start("node", None, &["--no-train"]).await;
        let node = net.node(number);
        let memory = Memory::watch(node.pid());

        let mut probe = Probe::connect(node.port).await;
        let mut publish = || VerifiedObject::from(tree.grow()).into_signed();
        // What comes late on a new connection is no part of what is measured.
        probe.measure(Duration::ZERO, &mut publish).await;
        let quiet = probe.measure(QUIET, &mut publish).await;
        let quiet_memory = memory.most();
        let attack = Attack::begin(node.port, &known, &misplaced);
        let attacked = probe.measure(time, &mut publish).await;
        let volume = attack.end();
        let attack_memory = memory.most();
        Self { node: number, tree, quiet, attacked, quiet_memory, attack_memory, volume }
    }

    /// How many times as long things take honest peers, by this quantile: the worse of both.
    pub fn slowdown(&self, share: f64) -> f64 {
        let times = |of: fn(&Latencies) -> &Vec<Duration>| {
            quantile(of(&self.attacked), share) / quantile(of(&self.quiet), share)
        };
        times(|of| &of.ping).max(times(|of| &of.spread))
    }

    /// What honest peers noticed, a line for each thing.
    pub fn told(&self) -> String {
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
