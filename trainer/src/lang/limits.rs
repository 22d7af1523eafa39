//! The limits of a script and of its graph. All are checked while tracing, before any tensor exists.
//!
//! The interpreter's own bounds are best effort: a single expression can still allocate a lot
//! between two checks. Untrusted scripts are therefore traced in the worker process, whose memory
//! and time the operating system bounds as well.

/// Bounds on a script and on the graph that it may declare.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// Most bytes of a script.
    pub script_bytes: usize,
    /// Most calls and loop turns of the whole run; each is one tick.
    pub ticks: u64,
    /// Most bytes of the interpreter's values.
    pub heap_bytes: usize,
    /// Most nodes while tracing, before unused ones are dropped.
    pub nodes: usize,
    /// Most trainable tensors.
    pub params: usize,
    /// Most elements of all trainable tensors together.
    pub param_elements: u64,
    /// Most elements of any one value.
    pub value_elements: u64,
    /// Most bytes of all values of one training step together, as 32-bit floats.
    pub activation_bytes: u64,
    /// Most floating-point operations of one training step, as
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
            // A large card holds this much beside the weights.
            activation_bytes: 64 << 30,
            // Ten seconds on a card of 400 TFLOP/s. A slower step would not fit into a short budget.
            step_flops: 4_000_000_000_000_000,
        }
    }
}

/// Most calls within calls. Each takes stack of the interpreter; models rarely nest ten deep.
pub(super) const CALL_DEPTH: usize = 100;
/// Most brackets within brackets: bounds the parser's recursion.
pub(super) const BRACKET_DEPTH: usize = 64;
/// Most words and signs in one statement: bounds the depth of its expression tree.
pub(super) const STATEMENT_TOKENS: usize = 2_000;
/// Most `elif` branches in a script: the parser nests each inside the one before.
pub(super) const ELIF_BRANCHES: usize = 200;
/// Most elements of a `range()`. Loops are unrolled into the graph, so no model needs more.
pub(super) const RANGE_LENGTH: i64 = 100_000;
/// Bytes of stack of the tracing thread: enough for the bounds above at a few KiB a level.
pub(super) const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Most seconds of tracing by the clock, as a last resort. The limit of ticks normally comes first,
/// and it is the same on every machine.
pub(super) const TRACE_SECONDS: u64 = 60;
/// Most tunables in a script: a proposer can only try so many.
pub(super) const TUNABLES: usize = 64;
/// Most bytes of the name of a tunable or parameter.
pub(super) const NAME_BYTES: usize = 100;
