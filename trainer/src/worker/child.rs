//! The worker process's side.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use super::messages::{Event, Failure, FailureKind, MAX_REQUEST_BYTES, Request};
use super::{limits, script};
use crate::device;

/// Exit code of a worker whose parent is gone.
const ORPHANED: i32 = 3;

/// What the hidden command `spore worker` does: reads one [`Request`] line from `stdin`, writes
/// [`Event`] lines to `stdout`, and returns. The process exits at once when `stdin` ends before
/// that, so this is for a process of its own only.
pub fn main<R: Read + Send + 'static>(stdin: R, mut stdout: impl Write) -> ExitCode {
    limits::at_start();
    let mut stdin = BufReader::new(stdin);
    let mut line = String::new();
    let read = (&mut stdin).take(MAX_REQUEST_BYTES).read_line(&mut line);
    let request = match read.map_err(|error| error.to_string()) {
        Ok(_) => serde_json::from_str::<Request>(&line).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    std::thread::spawn(move || exit_at_end(stdin));
    let mut emit = |event: &Event| {
        // A parent that no longer reads is gone; the watching thread ends the process.
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        }
    };
    let last = match request {
        Ok(request) => catch_unwind(AssertUnwindSafe(|| answer(request, &mut emit)))
            .unwrap_or_else(|panic| Event::Failed(panic_failure(panic.as_ref()))),
        Err(error) => Event::Failed(Failure::new(FailureKind::Internal, format!("unreadable request: {error}"))),
    };
    emit(&last);
    match last {
        Event::Failed(_) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn answer(request: Request, emit: &mut dyn FnMut(&Event)) -> Event {
    match request {
        Request::Probe(choice) => match device::resolve(choice) {
            Ok((_, profile)) => Event::Device(profile),
            Err(error) => Event::Failed(Failure::new(FailureKind::Device, error.to_string())),
        },
        Request::Inspect(script) => match script::inspect(&script) {
            Ok(tunables) => Event::Tunables(tunables),
            Err(failure) => Event::Failed(failure),
        },
        Request::Train(job) => match script::run(&job, emit) {
            Ok(result) => Event::Finished(result),
            Err(failure) => Event::Failed(failure),
        },
    }
}

/// The parent holds the other end open for as long as it wants this process.
fn exit_at_end(mut stdin: impl Read) {
    let mut rest = [0; 256];
    while stdin.read(&mut rest).is_ok_and(|count| count > 0) {}
    std::process::exit(ORPHANED);
}

fn panic_failure(panic: &(dyn std::any::Any + Send)) -> Failure {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
    let memory = text.contains("out of memory") || text.contains("OutOfMemory");
    let kind = if memory { FailureKind::Memory } else { FailureKind::Internal };
    Failure::new(kind, format!("the trainer panicked: {text}"))
}
