//! The train-script language: Starlark over symbolic tensors, run once to give a
//! [`Graph`](crate::graph::Graph).
//!
//! The way of a script: [`scan`] refuses text that could exhaust the parser, Starlark parses and
//! runs it with the functions of [`arithmetic`], [`layers`] and [`experiment`], whose operations
//! ([`ops`], shape rules in [`shapes`]) add nodes to a [`session`] under its [`limits`], and
//! [`finish`] brings what the logits need into one order. The language is documented for its
//! users in `docs/train-script.md`.
//!
//! Never here: a tensor with numbers in it, a device, files, the clock as a source of anything
//! that a graph depends on. A script sees nothing of the machine, so its graph is the same
//! everywhere.

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
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use starlark::PrintHandler;
use starlark::codemap::FileSpanRef;
use starlark::environment::{Globals, GlobalsBuilder, LibraryExtension, Module};
use starlark::eval::{BeforeStmtFunc, BeforeStmtFuncDyn, Evaluator};
use starlark::syntax::{AstModule, Dialect, DialectTypes};

pub use error::ScriptError;
pub use limits::Limits;
pub use tunable::{Tunable, TuneKind, TuneValue, retune, rewrite};

use crate::graph::Graph;
use crate::ops::Misuse;
use session::TraceSession;

/// A script that was run and checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Traced {
    /// The experiment that it declares.
    pub graph: Graph,
    /// What it offers for change, in order of declaration, with the defaults of the text (not
    /// the settings that tracing was given).
    pub tunables: Vec<Tunable>,
    /// Remarks for its author: what `print()` said, parameters that were left out.
    pub notes: Vec<String>,
}

/// Runs a script once and returns what it declares.
///
/// Deterministic: the same text and limits give an equal result on every machine, up to the last
/// bit of what `exp`, `log` and their like make of plain numbers.
/// Spawns a thread for its own stack; blocks until it is done, usually milliseconds. The
/// interpreter's memory is bounded only between statements, so trace strangers' scripts in a
/// process that the operating system bounds.
///
/// # Errors
/// Whatever is wrong with the script, with its line where there is one;
/// [`ScriptError::NoThread`] is this machine's.
pub fn trace(script: &str, limits: &Limits) -> Result<Traced, ScriptError> {
    trace_with(script, limits, &BTreeMap::new())
}

/// [`trace`] with `settings` in place of the defaults of tunables of these names.
///
/// # Errors
/// Also a setting that no tunable of the script takes, or a value that it does not allow.
pub fn trace_with(
    script: &str,
    limits: &Limits,
    settings: &BTreeMap<String, TuneValue>,
) -> Result<Traced, ScriptError> {
    if script.len() > limits.script_bytes {
        return Err(ScriptError::TooLong { bytes: script.len(), limit: limits.script_bytes });
    }
    scan::guard(script)?;
    let run = || run(script, limits, settings);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("trace".to_owned()).stack_size(limits::STACK_BYTES);
        let handle = thread.spawn_scoped(scope, run).map_err(|error| ScriptError::NoThread(error.to_string()))?;
        // The interpreter is other people's code: a panic in it is a bad script, not a bad node.
        handle.join().unwrap_or_else(|_| {
            Err(ScriptError::Whole("the interpreter gave up on this script: simplify it".to_owned()))
        })
    })
}

/// Lines that `print()` may leave in the notes.
const PRINTED_LINES: usize = 100;
/// Characters of one such line.
const PRINTED_CHARS: usize = 500;

/// Traces on this thread.
fn run(script: &str, limits: &Limits, settings: &BTreeMap<String, TuneValue>) -> Result<Traced, ScriptError> {
    let session = TraceSession::new(limits.clone(), settings.clone());
    let printed = Printed::default();
    interpret(script, limits, &session, &printed)?;
    let declared = session.declared();
    if let Some(name) = declared.unused_setting() {
        return Err(tunable::no_such(name, &declared.tunables));
    }
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
    declared.check_cost(&graph).map_err(|misuse| ScriptError::Whole(misuse.to_string()))?;
    let mut notes = printed.0.into_inner();
    notes.extend(unused);
    Ok(Traced { graph, tunables: declared.tunables.clone(), notes })
}

/// Parses and runs the script; what it declares is left in the session.
fn interpret(script: &str, limits: &Limits, session: &TraceSession, printed: &Printed) -> Result<(), ScriptError> {
    let ast = AstModule::parse("train.star", script.to_owned(), &dialect())
        .map_err(|error| ScriptError::from_starlark(&error))?;
    let globals = globals();
    let started = Instant::now();
    Module::with_temp_heap(|module| {
        let mut eval = Evaluator::new(&module);
        eval.extra = Some(session);
        eval.set_print_handler(printed);
        // A collection recurses into nested lists; the heap limit makes it unnecessary.
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

/// The error of a script that ran into a bound of the interpreter, at the statement that it had
/// reached: the interpreter itself tells no line for these.
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

/// Python's statements at the top level, f-strings and named-only arguments; nothing is loaded
/// from elsewhere.
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
    experiment::recipes(&mut builder);
    experiment::training(&mut builder);
    builder.set("pi", std::f64::consts::PI);
    builder.build()
}

/// The session of the running script, told the line of the call that asks for it.
fn running(eval: &Evaluator<'_, '_, '_>) -> Result<TraceSession, Misuse> {
    let session = eval.extra.and_then(|extra| extra.downcast_ref::<TraceSession>());
    let session = session.ok_or_else(|| Misuse::new("the script runs outside a session"))?;
    if let Some(call) = eval.call_stack_top_location() {
        session.declared().line = error::line_of(&call);
    }
    Ok(session.clone())
}

/// Before each statement: notes its line, for the nodes that operators make (they are not told
/// theirs), and checks the heap, since the interpreter itself looks only every thousand ticks,
/// in which a list that doubles outgrows any memory. (Its own limit is twice ours: it is for
/// comprehensions, which have no statements.)
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

/// Keeps what the script prints, up to a bound.
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
