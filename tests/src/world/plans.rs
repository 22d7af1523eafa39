//! The content of the world: tasks, people and changes of scripts.

use spore_protocol::Goal;

macro_rules! hostile {
    () => {
        "<img src=x onerror=\"window.__hostile=1\"><script>window.__hostile=1</script>"
    };
}

/// Markup that would run as a script if the page did not escape it.
pub const HOSTILE: &str = hostile!();

/// A task, and how its records are created.
pub struct Plan {
    pub name: &'static str,
    pub description: &'static str,
    pub metric: &'static str,
    pub goal: Goal,
    pub records: usize,
    /// The root runs on the first one.
    pub devices: &'static [&'static str],
    /// The root's metric, and the metric that later records approach.
    pub start: f64,
    pub floor: f64,
    /// Time budget of an experiment.
    pub seconds: u64,
    /// Seconds from the second record until now.
    pub span: u64,
    /// Whether some metrics are far from the others.
    pub outliers: bool,
    /// Whether its texts are hostile.
    pub hostile: bool,
    /// Whether the task is a chain of version 1 records without a manifest.
    pub legacy: bool,
}

const PLAIN: Plan = Plan {
    name: "",
    description: "",
    metric: "val_bpb",
    goal: Goal::Minimize,
    records: 0,
    devices: &["CPU"],
    start: 2.9,
    floor: 1.7,
    seconds: 20,
    span: 60,
    outliers: false,
    hostile: false,
    legacy: false,
};

pub const PLANS: &[Plan] = &[
    Plan {
        name: "bytes-20s",
        description: "A language model over bytes of made text, trained from scratch in twenty seconds.",
        records: 640,
        devices: &["NVIDIA GeForce RTX 4090", "CPU", "H100 80GB HBM3"],
        // A whole number: its signed text is `2.0`, which JavaScript would print as `2`.
        start: 2.0,
        floor: 0.9,
        span: 86_400 * 3,
        outliers: true,
        ..PLAIN
    },
    Plan {
        name: "tiny-stories-5m",
        description: "Five minutes on children’s stories; held-out bits per byte.",
        records: 50_000,
        devices: &["NVIDIA GeForce RTX 4090", "A100-SXM4-80GB", "NVIDIA GeForce RTX 3090", "Apple M3 Max"],
        start: 2.1,
        floor: 0.89,
        seconds: 300,
        span: 86_400 * 120,
        ..PLAIN
    },
    Plan {
        name: "digits-accuracy",
        description: "Classify small digits; share of right answers on the held-out set.",
        metric: "accuracy",
        goal: Goal::Maximize,
        records: 180,
        start: 0.71,
        floor: 0.985,
        seconds: 60,
        span: 86_400 * 9,
        ..PLAIN
    },
    Plan { name: "", records: 42, seconds: 300, span: 86_400 * 30, legacy: true, ..PLAIN },
    Plan {
        name: concat!("hostile ", hostile!()),
        description: "Right-to-left \u{202e}egnirts\u{202c} and veryveryveryveryveryveryveryveryveryveryveryveryveryvery\
            veryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryveryvery long",
        records: 12,
        start: 2.0,
        span: 7_200,
        hostile: true,
        ..PLAIN
    },
    Plan { name: "not-started", description: "Created, and nobody has come yet.", ..PLAIN },
    Plan {
        name: "first-steps",
        description: "Minutes old, on a base script written long before.",
        records: 5,
        span: 180,
        ..PLAIN
    },
    Plan { name: "root-only", description: "Its creator has published the root.", records: 1, ..PLAIN },
];

/// A node's profile. A node without a name has no profile.
pub struct Person {
    pub name: &'static str,
    pub bio: &'static str,
    pub website: &'static str,
}

const fn person(name: &'static str) -> Person {
    Person { name, bio: "", website: "" }
}

/// The last one publishes nothing. The node of the tests trusts its measurements.
pub const PEOPLE: &[Person] = &[
    Person {
        name: "amanita",
        bio: "Two cards in a cellar. Short budgets only.",
        website: "https://example.org/amanita",
    },
    person("bolete"),
    person(""),
    person("chanterelle"),
    person("morel"),
    person("oyster"),
    person("enoki"),
    person(""),
    person("truffle"),
    Person { name: HOSTILE, bio: HOSTILE, website: "javascript:window.__hostile=1" },
    person("lion’s mane"),
    person("puffball"),
    Person { name: "warden", bio: "Re-runs what others publish, and publishes nothing.", website: "" },
];

/// Descriptions and hypotheses of records. `$` becomes a number.
pub const CHANGES: &[(&str, &str)] = &[
    (
        "Raise the learning rate to $",
        "The loss curve is still steep at the deadline: larger steps should use the budget better.",
    ),
    ("Widen the MLP by a factor of $", "More capacity per token at little cost in steps."),
    ("Cosine schedule with warm-up of $ steps", "A short warm-up steadies the first steps of AdamW."),
    ("Halve the depth, double the width", "Fewer layers run faster, and short budgets reward throughput."),
    ("Rotary base $", "Longer wavelengths help with the far repeats in this corpus."),
    ("Tie input and output embeddings", "Saves parameters where the vocabulary is only bytes."),
    ("RMS norm before attention only", "One norm fewer a layer buys steps."),
    ("Batch of $ sequences", "Smaller batches, more updates."),
    ("Weight decay $", "Hardly any overfitting is possible in this budget."),
    ("Squared ReLU in the MLP", "Sparser activations, about the same cost."),
    ("Query and key norm", "Lets the learning rate go up without blowing up attention."),
    ("Logit soft cap at $", "Keeps early logits small."),
];
