//! The train-script language: Starlark over symbolic tensors, run once to give a
//! [`Graph`](crate::graph::Graph).
//!
//! Tracing a script takes four steps. [`scan`] refuses text that could exhaust the parser. Starlark
//! parses and runs the script. The functions that it calls, those of [`ops`](crate::ops) through
//! [`library`] and those of [`experiment`], add nodes to a [`session`] within its [`limits`].
//! [`finish`] drops the values that no logit depends on and orders the rest.
//! `docs/train-script.md` documents the language for its users.
//!
//! Never here: the meaning of a single operation, a tensor with numbers in it, a device, files, or
//! a clock on which a graph depends. A script sees nothing of the machine, so its graph is the
//! same everywhere.

mod content;
mod error;
mod experiment;
mod finish;
mod handles;
mod library;
mod limits;
mod scan;
mod sequences;
mod session;
mod setting;
mod tensor;
mod tunable;

use std::cell::RefCell;
use std::time::{Duration, Instant};

use starlark::PrintHandler;
use starlark::codemap::FileSpanRef;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::{BeforeStmtFunc, BeforeStmtFuncDyn, Evaluator};
use starlark::syntax::{AstModule, Dialect, DialectTypes};

pub use error::ScriptError;
pub use limits::Limits;
pub use tunable::{Tunable, TuneKind, TuneValue, rewrite};

use crate::graph::Graph;
use crate::ops::Misuse;
use handles::TraceSession;

/// The result of tracing a script.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// The experiment that it declares.
    pub graph: Graph,
    /// The tunables, in the order of their declaration.
    pub tunables: Vec<Tunable>,
    /// Remarks for the script's author: lines of `print()`, parameters that were left out.
    pub notes: Vec<String>,
}

/// Runs a script once and returns the experiment that it declares.
///
/// Deterministic: the same text and limits give an equal result on every machine, up to the last
/// bit of plain numbers that come from `exp`, `log` and the like.
///
/// Blocks, usually for milliseconds, while a thread with a stack of its own runs the script. The
/// interpreter's memory is bounded only between statements, so trace untrusted scripts in a process
/// that the operating system bounds.
///
/// # Errors
/// The script's error, with its line if it has one; [`ScriptError::NoThread`] when this machine
/// cannot start the thread.
pub fn trace(script: &str, limits: &Limits) -> Result<Traced, ScriptError> {
    if script.len() > limits.script_bytes {
        return Err(ScriptError::TooLong { bytes: script.len(), limit: limits.script_bytes });
    }
    if script.starts_with('\u{feff}') {
        let reason = "the script begins with a byte-order mark (BOM): save it as UTF-8 without one";
        return Err(ScriptError::Whole(reason.to_owned()));
    }
    scan::guard(script)?;
    let run = || run(script, limits);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("trace".to_owned()).stack_size(limits::STACK_BYTES);
        let handle = thread.spawn_scoped(scope, run).map_err(|error| ScriptError::NoThread(error.to_string()))?;
        // A panic in the interpreter, which is not our code, counts as an error of the script.
        handle.join().unwrap_or_else(|_| {
            Err(ScriptError::Whole("the interpreter gave up on this script: simplify it".to_owned()))
        })
    })
}

/// Most lines of `print()` in the notes.
const PRINTED_LINES: usize = 100;
/// Most characters of one such line.
const PRINTED_CHARS: usize = 500;

/// Traces on this thread.
fn run(script: &str, limits: &Limits) -> Result<Traced, ScriptError> {
    let mut traced = run_unproved(script, limits)?;
    traced.graph.prove_causal()?;
    Ok(traced)
}

/// The graph of a script without a proof that it is causal, on this thread: to try the checks behind
/// the proof. Its evaluation enforces no mask.
///
/// # Errors
/// As [`trace`].
#[doc(hidden)]
pub fn trace_without_proof(script: &str, limits: &Limits) -> Result<Graph, ScriptError> {
    run_unproved(script, limits).map(|traced| traced.graph)
}

fn run_unproved(script: &str, limits: &Limits) -> Result<Traced, ScriptError> {
    let session = TraceSession::new(limits.clone());
    let printed = Printed::default();
    interpret(script, limits, &session, &printed)?;
    let declared = session.declared();
    let Some(experiment) = &declared.experiment else {
        return Err(ScriptError::Whole(
            "the script never calls train(model=..., batch=..., context=..., optimizer=...)".to_owned(),
        ));
    };
    let (graph, unused) = finish::graph(&declared, experiment);
    if graph.params.is_empty() {
        return Err(ScriptError::Whole(
            "no parameter affects the logits, so there is nothing to train: make some with param() or linear()"
                .to_owned(),
        ));
    }
    let checked = experiment::check_rules(&graph).and_then(|()| declared.check_cost(&graph));
    checked.map_err(|misuse| ScriptError::Whole(misuse.to_string()))?;
    let mut notes = printed.0.into_inner();
    notes.extend(unused);
    Ok(Traced { graph, tunables: declared.tunables.clone(), notes })
}

/// Parses and runs the script. Its declarations are in the session afterwards.
fn interpret(script: &str, limits: &Limits, session: &TraceSession, printed: &Printed) -> Result<(), ScriptError> {
    let ast = AstModule::parse("train.star", script.to_owned(), &dialect())
        .map_err(|error| ScriptError::from_starlark(&error))?;
    let globals = globals();
    let started = Instant::now();
    Module::with_temp_heap(|module| {
        let mut eval = Evaluator::new(&module);
        eval.extra = Some(session);
        eval.set_print_handler(printed);
        // Garbage collection recurses into nested lists. The limit of the heap makes it unnecessary.
        eval.disable_gc();
        eval.set_check_cancelled(Box::new(move || started.elapsed() > Duration::from_secs(limits::TRACE_SECONDS)));
        eval.before_stmt_for_dap(BeforeStmtFunc::from_dyn(Box::new(BeforeStatement {
            session: session.clone(),
            heap_bytes: limits.heap_bytes,
        })));
        let bounded = eval
            .set_max_callstack_size(limits::CALL_DEPTH)
            .and_then(|()| eval.set_max_heap_size(limits.heap_bytes.saturating_mul(2)))
            .and_then(|()| eval.set_max_tick_count(limits.ticks));
        bounded.map_err(|error| ScriptError::Whole(error.to_string()))?;
        let result = eval.eval_module(ast, &globals);
        result
            .map(|_| ())
            .map_err(|error| exhausted(&eval, limits, session).unwrap_or_else(|| ScriptError::from_starlark(&error)))
    })
}

/// The error of a script that reached a bound of the interpreter, with the line of the statement
/// that was running. The interpreter itself gives no line for these.
fn exhausted(eval: &Evaluator<'_, '_, '_>, limits: &Limits, session: &TraceSession) -> Option<ScriptError> {
    let line = session.declared().line;
    let message = if eval.heap().peak_allocated_bytes() > limits.heap_bytes {
        format!("the script's values take more than {} MiB: keep lists and texts short", limits.heap_bytes >> 20)
    } else if eval.get_total_tick_count() > limits.ticks {
        format!("the script has made more than {} calls and loop turns: use fewer", limits.ticks)
    } else {
        return None;
    };
    Some(ScriptError::At { line, message })
}

/// Starlark with statements at the top level, f-strings and named-only arguments, and without
/// `load`.
fn dialect() -> Dialect {
    Dialect {
        enable_load: false,
        enable_keyword_only_arguments: true,
        enable_types: DialectTypes::ParseOnly,
        enable_top_level_stmt: true,
        enable_f_strings: true,
        ..Dialect::Standard
    }
}

/// Everything that a script can name.
fn globals() -> Globals {
    use LibraryExtension::{Filter, Map, Partial, Print, StructType};
    let mut builder = GlobalsBuilder::extended_by(&[StructType, Map, Filter, Partial, Print]);
    library::register(&mut builder);
    sequences::sequences(&mut builder);
    experiment::tuning(&mut builder);
    experiment::adaptive_optimizers(&mut builder);
    experiment::momentum_optimizers(&mut builder);
    experiment::schedules(&mut builder);
    experiment::training(&mut builder);
    builder.set("pi", std::f64::consts::PI);
    builder.build()
}

/// The session of the running script, after noting in it the line of the present call.
fn running(eval: &Evaluator<'_, '_, '_>) -> Result<TraceSession, Misuse> {
    let session = eval.extra.and_then(|extra| extra.downcast_ref::<TraceSession>());
    let session = session.ok_or_else(|| Misuse::new("the script runs outside a session"))?;
    if let Some(call) = eval.call_stack_top_location() {
        session.declared().line = error::line_of(&call);
    }
    Ok(session.clone())
}

/// Runs before each statement. Notes its line for the nodes that operators make, because the
/// interpreter does not give operators their line. Also checks the size of the heap: the
/// interpreter itself checks every thousand ticks, within which a list that doubles outgrows any
/// memory. (The interpreter's limit is twice ours. It serves for comprehensions, which have no
/// statements.)
struct BeforeStatement {
    session: TraceSession,
    heap_bytes: usize,
}

impl<'e> BeforeStmtFuncDyn<'e> for BeforeStatement {
    fn call<'v>(
        &mut self,
        span: FileSpanRef<'_>,
        _continued: bool,
        eval: &mut Evaluator<'v, '_, 'e>,
    ) -> starlark::Result<()> {
        self.session.declared().line = error::line_of(&span.to_file_span());
        if eval.heap().peak_allocated_bytes() > self.heap_bytes {
            return Err(Misuse::new("out of memory").into());
        }
        Ok(())
    }
}

/// Keeps the lines that the script prints, up to a bound.
#[derive(Default)]
struct Printed(RefCell<Vec<String>>);

impl PrintHandler for Printed {
    fn println(&self, text: &str) -> starlark::Result<()> {
        let mut lines = self.0.borrow_mut();
        if lines.len() < PRINTED_LINES {
            lines.push(text.chars().take(PRINTED_CHARS).collect());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
