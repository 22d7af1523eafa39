//! The node's side: starts a worker process, reads its events, and ends it at a limit.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing::warn;

use super::messages::{
    BUDGET_OVERRUN, CALIBRATION_LIMIT, CalibrateJob, Failure, FailureKind, GRACE, INSPECT_MEMORY, Inspection,
    MAX_EVENT_BYTES, PROBE_LIMIT, RunResult, Script, TrainJob, WorkerEvent, WorkerRequest,
};
use crate::device::DeviceProfile;
use crate::device::known::{Calibration, KnownDevice, ProbeJob};
use crate::memory::ProcessMemory;

/// The environment variables that graphics drivers and their loaders may need. A worker inherits
/// these, where set, and no others.
pub const ENVIRONMENT: &[&str] = &[
    "CUDA_VISIBLE_DEVICES",
    "DISPLAY",
    "LD_LIBRARY_PATH",
    "NVIDIA_DRIVER_CAPABILITIES",
    "NVIDIA_VISIBLE_DEVICES",
    "SystemRoot",
    "VK_ADD_DRIVER_FILES",
    "VK_DRIVER_FILES",
    "VK_ICD_FILENAMES",
    "WAYLAND_DISPLAY",
    "XDG_RUNTIME_DIR",
];

/// Time between two checks of the clock, the memory and the cancel flag.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// Most events that wait to be handled. At this many the reader stops reading, and so the child
/// stops writing.
const MAX_WAITING_EVENTS: usize = 64;
/// Bytes of the end of standard error that are kept, for the log and for [`last_words`].
const STDERR_TAIL_BYTES: usize = 4 << 10;
/// The reason of a worker that is ended at its deadline begins with this.
const NO_SIGN: &str = "the worker gave no result";
/// The names of workers' directories begin with this.
const DIRECTORY: &str = "worker-";
/// Texts that drivers and their libraries print when a graphics card is gone: after a suspend, or a fault.
const LOST_DEVICE: [&str; 3] = ["DeviceLost", "DEVICE_LOST", "device is lost"];
/// Time within which a child must exit after its last event.
const EXIT_WITHIN: Duration = Duration::from_secs(5);

/// How worker processes are started.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// The program, usually this one.
    pub program: PathBuf,
    /// The arguments that make the program a worker.
    pub arguments: Vec<OsString>,
    /// An existing directory. Each worker gets a directory in it, which is removed afterwards.
    pub scratch: PathBuf,
    /// Environment of the worker, see [`ENVIRONMENT`].
    pub environment: Vec<(OsString, OsString)>,
    /// Time for everything but training.
    pub grace: Duration,
}

impl Supervisor {
    /// Workers that are `program worker`, without any environment.
    pub fn new(program: PathBuf, scratch: PathBuf) -> Self {
        Self { program, arguments: vec!["worker".into()], scratch, environment: Vec::new(), grace: GRACE }
    }

    /// Gives workers those of `variables` that are in [`ENVIRONMENT`].
    #[must_use]
    pub fn with_environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let allowed = |name: &OsString| ENVIRONMENT.iter().any(|allowed| name == allowed);
        self.environment = variables.into_iter().filter(|(name, _)| allowed(name)).collect();
        self
    }

    /// Runs one experiment and returns when its process has ended. Blocks. `cancel` is checked
    /// every 50 ms. `on_event` receives every event but the last.
    ///
    /// # Errors
    /// The [`Failure`] that the worker reported, or the reason why it was ended.
    pub fn run(
        &self,
        job: &TrainJob,
        cancel: &AtomicBool,
        on_event: impl FnMut(&WorkerEvent),
    ) -> Result<RunResult, Failure> {
        let training = if job.steps.is_some() { job.steps_limit() } else { job.budget() * BUDGET_OVERRUN };
        let limit = training + job.budget() + self.grace;
        let request = WorkerRequest::Train(job.clone());
        match self.converse(&request, job.threads, job.memory_limit, limit, cancel, on_event)? {
            WorkerEvent::Finished(result) => Ok(result),
            _ => Err(Failure::new(FailureKind::Internal, "the worker's answer does not fit the request")),
        }
    }

    /// The device that a choice means on this machine. A worker process opens it, tries it on known
    /// answers and measures it, as far as that is not known already. `cancel` is checked every 50 ms.
    ///
    /// # Errors
    /// There is no such device, it computes wrong numbers, or the process died.
    pub fn probe(&self, job: ProbeJob, cancel: &AtomicBool) -> Result<KnownDevice, Failure> {
        let threads = job.threads;
        let answer = self.converse(&WorkerRequest::Probe(job), threads, u64::MAX, PROBE_LIMIT, cancel, |_| {});
        let answer = answer.map_err(|failure| match failure.kind {
            FailureKind::Killed if failure.reason.starts_with(NO_SIGN) => {
                let reason = format!("the device did not give the known answers within {} s", PROBE_LIMIT.as_secs());
                Failure::new(FailureKind::Device, reason)
            }
            _ => failure,
        });
        match answer? {
            WorkerEvent::Device(known) => Ok(*known),
            _ => Err(Failure::new(FailureKind::Internal, "the worker's answer does not fit the request")),
        }
    }

    /// Measures the speed of a probed device now, beside everything else that runs. Takes about three
    /// seconds, in which the device must do nothing else for this node. `cancel` is checked every 50 ms.
    ///
    /// # Errors
    /// The device is another one by now, it failed, or the process died.
    pub fn calibrate(
        &self,
        device: &DeviceProfile,
        threads: usize,
        cancel: &AtomicBool,
    ) -> Result<Calibration, Failure> {
        let request = WorkerRequest::Calibrate(CalibrateJob { device: device.backend.into(), threads });
        match self.converse(&request, threads, u64::MAX, CALIBRATION_LIMIT, cancel, |_| {})? {
            WorkerEvent::Measured { device: found, measured } if found.is(device) => {
                Ok(Calibration::new(device, measured))
            }
            WorkerEvent::Measured { device: found, .. } => {
                let reason = format!("the device is {} now, no longer {}", found.adapter, device.adapter);
                Err(Failure::new(FailureKind::Device, reason))
            }
            _ => Err(Failure::new(FailureKind::Internal, "the worker's answer does not fit the request")),
        }
    }

    /// The tunables and the identity of a script. A worker process traces it, because the script may be untrusted.
    /// `cancel` is checked every 50 ms.
    ///
    /// # Errors
    /// The script's error ([`Failure::blames_script`]), the process's death, or
    /// [`FailureKind::Cancelled`].
    pub fn inspect(&self, script: Script, cancel: &AtomicBool) -> Result<Inspection, Failure> {
        let answer = self.converse(&WorkerRequest::Inspect(script), 1, INSPECT_MEMORY, self.grace, cancel, |_| {});
        let answer = answer.map_err(|failure| match failure.kind {
            // Nothing but the script's values takes memory there. One value that is larger than the limit ends the
            // process before it can answer.
            FailureKind::Memory => Failure::too_large_to_trace(),
            _ => failure,
        });
        match answer? {
            WorkerEvent::Inspected(inspection) => Ok(inspection),
            _ => Err(Failure::new(FailureKind::Internal, "the worker's answer does not fit the request")),
        }
    }

    /// Removes the directories of workers whose node was killed. Call it before the first worker,
    /// and only where no other node uses the scratch directory.
    ///
    /// # Errors
    /// The scratch directory cannot be read, or a directory in it cannot be removed.
    pub fn clear_scratch(&self) -> std::io::Result<()> {
        for entry in std::fs::read_dir(&self.scratch)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(DIRECTORY) && entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            }
        }
        Ok(())
    }

    fn converse(
        &self,
        request: &WorkerRequest,
        threads: usize,
        memory: u64,
        limit: Duration,
        cancel: &AtomicBool,
        mut on_event: impl FnMut(&WorkerEvent),
    ) -> Result<WorkerEvent, Failure> {
        let mut running = RunningWorker::start(self, request, threads)?;
        let deadline = Instant::now() + limit;
        let verdict = loop {
            match running.events.recv_timeout(WATCH_EVERY) {
                Ok(
                    event @ (WorkerEvent::Device(_)
                    | WorkerEvent::Measured { .. }
                    | WorkerEvent::Inspected(_)
                    | WorkerEvent::Finished(_)),
                ) => break Some(Ok(event)),
                Ok(WorkerEvent::Failed(failure)) => break Some(Err(failure)),
                Ok(event) => on_event(&event),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let stop = if cancel.load(Ordering::Relaxed) {
                Some(Failure::new(FailureKind::Cancelled, "cancelled"))
            } else if Instant::now() > deadline {
                // A script meets limits of its own long before: training, evaluating and tracing end themselves.
                Some(Failure::new(FailureKind::Killed, format!("{NO_SIGN} after {} s", limit.as_secs())))
            } else {
                running.over(memory)
            };
            if let Some(failure) = stop {
                running.kill();
                break Some(Err(failure));
            }
        };
        let (status, stderr) = running.finish();
        verdict.unwrap_or_else(|| Err(died(status, &stderr)))
    }
}

/// A started worker. Dropping it kills the process and removes its directory.
struct RunningWorker {
    child: Child,
    memory: ProcessMemory,
    /// While this lives, the child's standard input stays open.
    hold: Option<SyncSender<()>>,
    events: Receiver<WorkerEvent>,
    /// Receives the end of standard error when the child closes it.
    stderr: Receiver<Vec<u8>>,
    // The last field, so that it is removed after the process has ended.
    _directory: Directory,
}

impl RunningWorker {
    fn start(supervisor: &Supervisor, request: &WorkerRequest, threads: usize) -> Result<Self, Failure> {
        let internal = |what: &str, error: &dyn std::fmt::Display| {
            Failure::new(FailureKind::Internal, format!("cannot {what}: {error}"))
        };
        let directory =
            Directory::new(&supervisor.scratch).map_err(|error| internal("make a working directory", &error))?;
        let mut line = serde_json::to_vec(request).map_err(|error| internal("write the request", &error))?;
        line.push(b'\n');
        let mut command = Command::new(&supervisor.program);
        command
            .args(&supervisor.arguments)
            .env_clear()
            .envs(supervisor.environment.iter().map(|(name, value)| (name, value)))
            // burn's CPU kernels run on rayon's global pool, which reads this variable.
            .env("RAYON_NUM_THREADS", threads.to_string())
            // The allocator makes addresses writable when it uses them: the limit of memory counts what is writable.
            .env("MIMALLOC_ARENA_EAGER_COMMIT", "0")
            // Shader caches would be files outside the worker's directory.
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .env("__GL_SHADER_DISK_CACHE", "0")
            .current_dir(&directory.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A process group of its own, so that Ctrl-C in the terminal reaches the node only.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|error| internal("start the worker", &error))?;
        let (hold, wait) = sync_channel(0);
        let (sender, events) = sync_channel(MAX_WAITING_EVENTS);
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        if let Some(stdin) = stdin {
            std::thread::spawn(move || write_and_hold(stdin, &line, &wait));
        }
        if let Some(stdout) = stdout {
            std::thread::spawn(move || read_events(stdout, &sender));
        }
        let (tail_sender, tail_receiver) = sync_channel(1);
        if let Some(stderr) = stderr {
            std::thread::spawn(move || tail_sender.send(tail(stderr)));
        }
        let memory = ProcessMemory::of(child.id());
        Ok(Self { child, memory, hold: Some(hold), events, stderr: tail_receiver, _directory: directory })
    }

    fn over(&mut self, limit: u64) -> Option<Failure> {
        let used = self.memory.resident().filter(|used| *used > limit)?;
        let mib = |bytes: u64| bytes >> 20;
        let reason = format!("out of memory: {} MiB used, {} MiB allowed", mib(used), mib(limit));
        Some(Failure::new(FailureKind::Memory, reason))
    }

    /// Ends the process and all processes that it may have started.
    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
    }

    /// Waits until the process ends; kills it after [`EXIT_WITHIN`]. No status when it was killed here: the signal says
    /// nothing then.
    fn finish(&mut self) -> (Option<ExitStatus>, String) {
        self.hold = None;
        let by = Instant::now() + EXIT_WITHIN;
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < by => std::thread::sleep(WATCH_EVERY / 5),
                Ok(Some(status)) => break Some(status),
                _ => {
                    self.kill();
                    let _ = self.child.wait();
                    break None;
                }
            }
        };
        // No join: another process might hold the pipe open.
        let tail = self.stderr.recv_timeout(WATCH_EVERY * 10).unwrap_or_default();
        (status, String::from_utf8_lossy(&tail).trim().to_owned())
    }
}

impl Drop for RunningWorker {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// A directory that is removed, with its contents, when this is dropped.
struct Directory(PathBuf);

impl Directory {
    fn new(parent: &Path) -> std::io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("{DIRECTORY}{}-{count}", std::process::id()));
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        builder.create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn write_and_hold(mut stdin: ChildStdin, line: &[u8], wait: &Receiver<()>) {
    // An error means that the child died, which its exit status shows.
    if stdin.write_all(line).and_then(|()| stdin.flush()).is_ok() {
        let _ = wait.recv();
    }
}

/// Passes events on until the pipe ends or a line is no event. A child that writes anything else
/// is broken, and dropping the pipe ends it.
fn read_events(stdout: impl Read, sender: &SyncSender<WorkerEvent>) {
    let mut stdout = BufReader::new(stdout);
    let mut line = Vec::new();
    loop {
        line.clear();
        match (&mut stdout).take(MAX_EVENT_BYTES as u64).read_until(b'\n', &mut line) {
            Ok(count) if count > 0 => {}
            _ => return,
        }
        let Ok(event) = serde_json::from_slice(&line) else { return };
        if sender.send(event).is_err() {
            return;
        }
    }
}

/// The last bytes of a stream, read to its end.
fn tail(mut stream: impl Read) -> Vec<u8> {
    let (mut kept, mut chunk) = (Vec::new(), [0; 1024]);
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        kept.extend_from_slice(chunk.get(..count).unwrap_or_default());
        let excess = kept.len().saturating_sub(STDERR_TAIL_BYTES);
        kept.drain(..excess);
    }
    kept
}

/// The failure of a worker that ended without a last event.
///
/// The reason may become part of a public record. The text that drivers and loaders printed may
/// hold paths of this machine, so it goes to the log only.
fn died(status: Option<ExitStatus>, stderr: &str) -> Failure {
    if status.is_some_and(|status| status.success()) {
        // The child reported success, so the two sides of this program disagree.
        return Failure::new(FailureKind::Internal, "the worker ended without a readable answer");
    }
    let killed = ended_by_machine(status);
    let status = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
    warn!(%status, stderr, "a worker died");
    let words = last_words(stderr).map(|words| format!(": {words}")).unwrap_or_default();
    // The texts that Rust and drivers print for a failed allocation.
    let (kind, what) = if stderr.contains("memory allocation of") || stderr.contains("ut of memory") {
        (FailureKind::Memory, "out of memory: ")
    } else if LOST_DEVICE.iter().any(|text| stderr.contains(text)) {
        (FailureKind::Device, "the device was lost: ")
    } else if killed {
        (FailureKind::Killed, "")
    } else {
        (FailureKind::Crashed, "")
    };
    Failure::new(kind, format!("{what}the worker died ({status}){words}"))
}

/// Whether a signal ended the process that no script can send: the kernel's when memory runs out or somebody's `kill`
/// (SIGKILL, SIGTERM, SIGHUP, SIGINT, SIGQUIT), or that of a fault in a driver or in the memory (SIGSEGV, SIGBUS,
/// SIGILL, SIGFPE). Safe Rust code ends by SIGABRT.
#[cfg(unix)]
fn ended_by_machine(status: Option<ExitStatus>) -> bool {
    use rustix::process::Signal;
    use std::os::unix::process::ExitStatusExt as _;
    let faults = [Signal::SEGV, Signal::BUS, Signal::ILL, Signal::FPE];
    let sent = [Signal::KILL, Signal::TERM, Signal::HUP, Signal::INT, Signal::QUIT];
    let signal = status.and_then(|status| status.signal());
    signal.is_some_and(|signal| faults.iter().chain(&sent).any(|one| one.as_raw() == signal))
}

/// Windows: the codes of an access violation and of an illegal instruction.
#[cfg(not(unix))]
fn ended_by_machine(status: Option<ExitStatus>) -> bool {
    const FAULTS: [u32; 2] = [0xC000_0005, 0xC000_001D];
    status.and_then(|status| status.code()).is_some_and(|code| FAULTS.contains(&code.cast_unsigned()))
}

/// Rust's last message about a failed allocation or a panic, reduced to numbers and the bare name
/// of the source file: `memory allocation of 9 bytes failed` or `panicked at file.rs:1:2`.
fn last_words(stderr: &str) -> Option<String> {
    stderr.lines().rev().find_map(|line| {
        if let Some((_, rest)) = line.split_once("memory allocation of ") {
            let bytes: u64 = rest.split_once(" bytes failed")?.0.parse().ok()?;
            return Some(format!("memory allocation of {bytes} bytes failed"));
        }
        let (_, place) = line.split_once(" panicked at ")?;
        let name = place.trim_end_matches(':').rsplit(['/', '\\']).next()?;
        let bare = |c: char| c.is_ascii_alphanumeric() || "._-:".contains(c);
        name.chars().all(bare).then(|| format!("panicked at {name}"))
    })
}

#[cfg(all(test, target_os = "linux"))]
mod tests;
