//! How much a script may ask for. Everything is checked while tracing, before any tensor exists.
//!
//! The interpreter's own bounds are best effort: a single expression can still allocate a lot
//! between two checks. Scripts of strangers are therefore traced in the worker process, whose
//! memory and time the operating system bounds as well.

/// Bounds on a script and on the graph that it may declare.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Longest script in bytes.
    pub script_bytes: usize,
    /// Calls and loop turns of the whole run, each one tick.
    pub ticks: u64,
    /// Memory of the interpreter's values, in bytes.
    pub heap_bytes: usize,
    /// Nodes while tracing, before unused ones are dropped.
    pub nodes: usize,
    /// Trainable tensors.
    pub params: usize,
    /// Elements of all trainable tensors together.
    pub param_elements: u64,
    /// Elements of any one value.
    pub value_elements: u64,
    /// Bytes of all values of one training step together, as 32-bit floats.
    pub activation_bytes: u64,
    /// Floating-point operations of one training step, as
    /// [`Graph::flops_per_step`](crate::graph::Graph::flops_per_step) counts them.
    pub step_flops: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // A well-commented GPT takes 6 KiB; gossip carries a body of 64 KiB in one message.
            script_bytes: 64 * 1024,
            // A model of 100 layers takes some ten thousand; a million takes well under a second.
            ticks: 1_000_000,
            // Values are numbers, names and symbols: real scripts need less than 1 MiB.
            heap_bytes: 64 * 1024 * 1024,
            // A layer takes about 30 nodes, so this is several hundred layers.
            nodes: 20_000,
            params: 4_000,
            // 4 GiB of weights; with gradients and two moments 16 GiB, which a 24 GiB card holds.
            param_elements: 1 << 30,
            // 4 GiB in one buffer: more than most adapters bind at once.
            value_elements: 1 << 30,
            // What a large card holds beside the weights.
            activation_bytes: 64 << 30,
            // Ten seconds on a card of 400 TFLOP/s; anything slower never finishes a short budget.
            step_flops: 4_000_000_000_000_000,
        }
    }
}

/// Calls within calls. Each takes interpreter stack; models rarely nest ten deep.
pub(super) const CALL_DEPTH: usize = 100;
/// Brackets within brackets: bounds the parser's recursion.
pub(super) const BRACKET_DEPTH: usize = 64;
/// Words and signs in one statement: bounds the depth of its expression tree.
pub(super) const STATEMENT_TOKENS: usize = 2_000;
/// `elif` branches in a script: each nests a statement inside the one before.
pub(super) const ELIF_BRANCHES: usize = 200;
/// Elements that `range()` may span: loops are unrolled into the graph, so nothing needs more.
pub(super) const RANGE_LENGTH: i64 = 100_000;
/// Stack of the tracing thread in bytes: the bounds above, with a few KiB for each level.
pub(super) const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Wall-clock seconds of tracing, a last resort: the tick limit comes first and is the same on
/// every machine.
pub(super) const TRACE_SECONDS: u64 = 60;
/// Tunables in a script: a proposer can only try so many.
pub(super) const TUNABLES: usize = 64;
/// Bytes of a name of a tunable or parameter.
pub(super) const NAME_BYTES: usize = 100;
