//! The child's side: what the process `spore worker` does.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use super::messages::{CalibrateJob, Failure, FailureKind, MAX_REQUEST_BYTES, WorkerEvent, WorkerRequest};
use super::{limits, script};
use crate::device::known::{self, ProbeError};
use crate::device::speed::Measured;
use crate::device::{self, DeviceProfile};

/// Exit code of a worker whose parent has ended.
const ORPHANED: i32 = 3;

/// The hidden command `spore worker`: reads one [`WorkerRequest`] line from `stdin`, writes
/// [`WorkerEvent`] lines to `stdout`, and returns.
///
/// The whole process exits at once when `stdin` ends before the answer is written, so call this
/// only in a process that does nothing else.
pub fn main<R: Read + Send + 'static>(stdin: R, mut stdout: impl Write) -> ExitCode {
    limits::at_start();
    let mut stdin = BufReader::new(stdin);
    let mut line = String::new();
    let read = (&mut stdin).take(MAX_REQUEST_BYTES).read_line(&mut line);
    let request = match read.map_err(|error| error.to_string()) {
        Ok(_) => serde_json::from_str::<WorkerRequest>(&line).map_err(|error| error.to_string()),
        Err(error) => Err(error),
    };
    std::thread::spawn(move || exit_at_end(stdin));
    let mut emit = |event: &WorkerEvent| {
        // Writing fails when the parent has ended. `exit_at_end` then ends this process.
        if let Ok(mut line) = serde_json::to_vec(event) {
            line.push(b'\n');
            let _ = stdout.write_all(&line).and_then(|()| stdout.flush());
        }
    };
    let last = match request {
        Ok(request) => catch_unwind(AssertUnwindSafe(|| answer(request, &mut emit)))
            .unwrap_or_else(|panic| WorkerEvent::Failed(panic_failure(panic.as_ref()))),
        Err(error) => WorkerEvent::Failed(Failure::new(FailureKind::Internal, format!("unreadable request: {error}"))),
    };
    emit(&last);
    match last {
        WorkerEvent::Failed(_) => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}

fn answer(request: WorkerRequest, emit: &mut dyn FnMut(&WorkerEvent)) -> WorkerEvent {
    match request {
        WorkerRequest::Probe(job) => match known::probe(&job) {
            Ok(known) => WorkerEvent::Device(Box::new(known)),
            Err(error) => WorkerEvent::Failed(Failure::new(FailureKind::Device, error.to_string())),
        },
        WorkerRequest::Calibrate(job) => match calibrate(job) {
            Ok((device, measured)) => WorkerEvent::Measured { device, measured },
            Err(error) => WorkerEvent::Failed(Failure::new(FailureKind::Device, error.to_string())),
        },
        WorkerRequest::Inspect(script) => match script::inspect(&script) {
            Ok(inspection) => WorkerEvent::Inspected(inspection),
            Err(failure) => WorkerEvent::Failed(failure),
        },
        WorkerRequest::Train(job) => match script::run(&job, emit) {
            Ok(result) => WorkerEvent::Finished(result),
            Err(failure) => WorkerEvent::Failed(failure),
        },
    }
}

fn calibrate(job: CalibrateJob) -> Result<(DeviceProfile, Measured), ProbeError> {
    let (device, profile) = device::resolve(job.device)?;
    let measured = known::measure(&profile, &device, job.threads)?;
    Ok((profile, measured))
}

/// Ends the process when `stdin` does: the parent holds the other end open while it needs this process.
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
