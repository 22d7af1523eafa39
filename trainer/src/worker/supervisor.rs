//! The node's side: starts a worker process, listens, and ends it when it must.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use tracing::warn;

use super::messages::{
    BUDGET_OVERRUN, Event, Failure, FailureKind, GRACE, INSPECT_MEMORY, Job, MAX_EVENT_BYTES, Request, RunResult,
    Script,
};
use crate::device::{DeviceChoice, DeviceProfile};
use crate::lang::Tunable;
use crate::memory::ProcessMemory;

/// Variables of the node's environment that graphics drivers and their loaders may need. A worker
/// is started with these, if set, and nothing else.
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

/// Time between two looks at the clock, the memory and the cancel flag.
const WATCH_EVERY: Duration = Duration::from_millis(50);
/// Events waiting to be handled; the reader then stops reading, and the child writing.
const MAX_WAITING_EVENTS: usize = 64;
/// Bytes kept of the end of standard error, for this machine's log and [`last_words`].
const STDERR_TAIL_BYTES: usize = 4 << 10;
/// Names of workers' directories start so.
const DIRECTORY: &str = "worker-";
/// Time for a child to exit after its last event.
const EXIT_WITHIN: Duration = Duration::from_secs(5);

/// How worker processes are started.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// The program, usually this one.
    pub program: PathBuf,
    /// Arguments that make it a worker.
    pub arguments: Vec<OsString>,
    /// Each worker gets a fresh directory in here, which must exist, and loses it afterwards.
    pub scratch: PathBuf,
    /// Environment of the worker, see [`ENVIRONMENT`].
    pub environment: Vec<(OsString, OsString)>,
    /// Time for what is not training.
    pub grace: Duration,
}

impl Supervisor {
    /// Workers that are `program worker`, without any environment.
    pub fn new(program: PathBuf, scratch: PathBuf) -> Self {
        Self { program, arguments: vec!["worker".into()], scratch, environment: Vec::new(), grace: GRACE }
    }

    /// Lets those of `variables` pass that are in [`ENVIRONMENT`].
    #[must_use]
    pub fn with_environment(mut self, variables: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let allowed = |name: &OsString| ENVIRONMENT.iter().any(|allowed| name == allowed);
        self.environment = variables.into_iter().filter(|(name, _)| allowed(name)).collect();
        self
    }

    /// Runs one experiment and returns when its process is gone. Blocks; `cancel` is looked at
    /// every 50 ms. `on_event` gets every event but the last.
    ///
    /// # Errors
    /// The [`Failure`] that the worker reported, or what ended it.
    pub fn run(&self, job: &Job, cancel: &AtomicBool, on_event: impl FnMut(&Event)) -> Result<RunResult, Failure> {
        let training = if job.steps.is_some() { job.steps_limit() } else { job.budget() * BUDGET_OVERRUN };
        let limit = training + job.budget() + self.grace;
        let request = Request::Train(job.clone());
        match self.converse(&request, job.threads, job.memory_limit, limit, cancel, on_event)? {
            Event::Finished(result) => Ok(result),
            _ => Err(Failure::new(FailureKind::Internal, "the worker gave another answer than asked for")),
        }
    }

    /// What `choice` means on this machine, found out by a process of its own.
    ///
    /// # Errors
    /// No such device, or the probing process died.
    pub fn probe(&self, choice: DeviceChoice) -> Result<DeviceProfile, Failure> {
        let never = AtomicBool::new(false);
        match self.converse(&Request::Probe(choice), 1, u64::MAX, self.grace, &never, |_| {})? {
            Event::Device(profile) => Ok(profile),
            _ => Err(Failure::new(FailureKind::Internal, "the worker gave another answer than asked for")),
        }
    }

    /// What a script offers for change. The script may be a stranger's, so a process of its own
    /// looks at it; it is ended when `cancel` turns true, which is looked at every 50 ms.
    ///
    /// # Errors
    /// What is wrong with the script ([`Failure::blames_script`]), the process died, or
    /// [`FailureKind::Cancelled`].
    pub fn inspect(&self, script: Script, cancel: &AtomicBool) -> Result<Vec<Tunable>, Failure> {
        match self.converse(&Request::Inspect(script), 1, INSPECT_MEMORY, self.grace, cancel, |_| {})? {
            Event::Tunables(tunables) => Ok(tunables),
            _ => Err(Failure::new(FailureKind::Internal, "the worker gave another answer than asked for")),
        }
    }

    /// Removes the directories of workers that outlived their node, which was killed. Only for the
    /// one user of the scratch directory, before its first worker.
    ///
    /// # Errors
    /// When the scratch directory cannot be read, or something in it cannot be removed.
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
        request: &Request,
        threads: usize,
        memory: u64,
        limit: Duration,
        cancel: &AtomicBool,
        mut on_event: impl FnMut(&Event),
    ) -> Result<Event, Failure> {
        let mut running = Running::start(self, request, threads)?;
        let deadline = Instant::now() + limit;
        let verdict = loop {
            match running.events.recv_timeout(WATCH_EVERY) {
                Ok(event @ (Event::Device(_) | Event::Tunables(_) | Event::Finished(_))) => break Some(Ok(event)),
                Ok(Event::Failed(failure)) => break Some(Err(failure)),
                Ok(event) => on_event(&event),
                Err(RecvTimeoutError::Disconnected) => break None,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let stop = if cancel.load(Ordering::Relaxed) {
                Some(Failure::new(FailureKind::Cancelled, "cancelled"))
            } else if Instant::now() > deadline {
                Some(Failure::new(FailureKind::Deadline, format!("deadline: no result after {} s", limit.as_secs())))
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
struct Running {
    child: Child,
    memory: ProcessMemory,
    /// Dropped to end the writer, which holds the child's standard input open.
    hold: Option<SyncSender<()>>,
    events: Receiver<Event>,
    /// The end of standard error, once that is closed.
    stderr: Receiver<Vec<u8>>,
    // Last: removed after the process is gone.
    _directory: Directory,
}

impl Running {
    fn start(supervisor: &Supervisor, request: &Request, threads: usize) -> Result<Self, Failure> {
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
            // burn's CPU kernels run on rayon's global pool, which reads this.
            .env("RAYON_NUM_THREADS", threads.to_string())
            // Shader caches are files outside the worker's directory.
            .env("MESA_SHADER_CACHE_DISABLE", "true")
            .env("__GL_SHADER_DISK_CACHE", "0")
            .current_dir(&directory.0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        // A group of its own: Ctrl-C in the terminal goes to the node, which decides.
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

    /// Ends the process and whatever it may have started.
    fn kill(&mut self) {
        #[cfg(unix)]
        if let Some(group) = i32::try_from(self.child.id()).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = self.child.kill();
    }

    /// Waits for the end, and forces it after a while.
    fn finish(&mut self) -> (Option<ExitStatus>, String) {
        self.hold = None;
        let by = Instant::now() + EXIT_WITHIN;
        let status = loop {
            match self.child.try_wait() {
                Ok(None) if Instant::now() < by => std::thread::sleep(WATCH_EVERY / 5),
                Ok(Some(status)) => break Some(status),
                _ => {
                    self.kill();
                    break self.child.wait().ok();
                }
            }
        };
        // Not a join: something else might hold the pipe open.
        let tail = self.stderr.recv_timeout(WATCH_EVERY * 10).unwrap_or_default();
        (status, String::from_utf8_lossy(&tail).trim().to_owned())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(Some(_))) {
            self.kill();
            let _ = self.child.wait();
        }
    }
}

/// A directory that is removed with everything in it.
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
    // A child that died first shows in its exit status.
    if stdin.write_all(line).and_then(|()| stdin.flush()).is_ok() {
        let _ = wait.recv();
    }
}

/// Hands on events until the pipe ends or a line is no event: a child that writes anything else
/// is broken, and dropping the pipe ends it.
fn read_events(stdout: impl Read, sender: &SyncSender<Event>) {
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

/// The failure of a worker that ended without a last event. Its reason may become part of a public
/// record, so that what drivers and loaders printed, with paths of this machine, is only logged.
fn died(status: Option<ExitStatus>, stderr: &str) -> Failure {
    if status.is_some_and(|status| status.success()) {
        // It believes that it answered: the two sides of this program disagree.
        return Failure::new(FailureKind::Internal, "the worker ended without an answer that can be read");
    }
    let status = status.map_or_else(|| "unknown status".to_owned(), |status| status.to_string());
    warn!(%status, stderr, "a worker died");
    let words = last_words(stderr).map(|words| format!(": {words}")).unwrap_or_default();
    // Rust's words for a failed allocation, and drivers'.
    let (kind, what) = if stderr.contains("memory allocation of") || stderr.contains("ut of memory") {
        (FailureKind::Memory, "out of memory: ")
    } else {
        (FailureKind::Crashed, "")
    };
    Failure::new(kind, format!("{what}the worker died ({status}){words}"))
}

/// What Rust itself last said of a failed allocation or a panic, as `memory allocation of 9 bytes
/// failed` or `panicked at file.rs:1:2`: numbers and the source file's bare name.
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
mod tests {
    use super::*;
    use crate::evaluate::EvalSpec;
    use crate::worker::DatasetSource;

    fn job(memory_limit: u64) -> Job {
        Job {
            script: Script::Starlark("x".repeat(200_000)),
            dataset: DatasetSource::Builtin,
            device: DeviceChoice::Flex,
            seed: 1,
            time_budget: 1,
            steps: None,
            eval: EvalSpec::for_budget(1),
            threads: 1,
            memory_limit,
        }
    }

    /// Runs a shell script in place of a worker; a second of grace.
    fn run(script: &str, job: &Job, cancel: bool) -> (Result<RunResult, Failure>, Vec<Event>) {
        let scratch = tempfile::tempdir().unwrap();
        let supervisor = Supervisor {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            scratch: scratch.path().to_owned(),
            environment: vec![("PATH".into(), "/usr/bin:/bin".into())],
            grace: Duration::from_secs(1),
        };
        let mut events = Vec::new();
        let result = supervisor.run(job, &AtomicBool::new(cancel), |event| events.push(event.clone()));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "a directory is left behind");
        (result, events)
    }

    const PLENTY: u64 = 1 << 40;

    #[test]
    fn events_come_in_order_and_the_outcome_last() {
        let outcome = r#"{"finished":{"val_bpb":2.5,"num_steps":3,"num_params":4,"peak_memory_mb":5.0,"train_seconds":1.0,"eval_seconds":1.0,"graph_hash":"00"}}"#;
        let script = format!("echo '{{\"planned\":{{\"steps\":3}}}}'; pwd > here; echo '{outcome}'; cat > /dev/null");
        let (result, events) = run(&script, &job(PLENTY), false);
        assert_eq!(result.unwrap().val_bpb, 2.5);
        assert_eq!(events, [Event::Planned { steps: 3 }]);
    }

    #[test]
    fn a_worker_that_never_ends_meets_the_deadline() {
        let failure = run("sleep 600 & wait", &job(PLENTY), false).0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Deadline);
        assert!(failure.reason.starts_with("deadline"), "{failure}");
    }

    #[test]
    fn a_worker_that_takes_too_much_memory_is_ended() {
        let hog = "x=$(head -c 200000000 /dev/zero | tr '\\0' a); sleep 600";
        let mut job = job(64 << 20);
        job.time_budget = 60;
        let failure = run(hog, &job, false).0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Memory, "{failure}");
    }

    #[test]
    fn a_worker_that_dies_tells_how_and_nothing_of_the_machine() {
        let noise = "echo /srv/me/driver.json not found >&2; kill -ABRT $$";
        let failure = run(noise, &job(PLENTY), false).0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Crashed);
        assert!(failure.reason.contains("signal: 6") && !failure.reason.contains('/'), "{failure}");
        let failure = run("echo memory allocation of 9 bytes failed >&2; exit 134", &job(PLENTY), false).0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Memory);
        assert!(failure.reason.ends_with("(exit status: 134): memory allocation of 9 bytes failed"), "{failure}");
    }

    #[test]
    fn of_a_panic_the_source_files_name_is_told() {
        let panic = "loader: /usr/x\nthread 'trace' (7) panicked at /srv/me/src/lib.rs:3:14:\nsecret\nnote: run";
        assert_eq!(last_words(panic).unwrap(), "panicked at lib.rs:3:14");
        assert_eq!(last_words("x panicked at /srv/me and my files"), None);
        assert_eq!(last_words("memory allocation of /srv/me bytes failed"), None);
    }

    #[test]
    fn a_worker_that_talks_nonsense_is_ended() {
        for nonsense in ["echo hello; sleep 600", "head -c 1000000 /dev/zero; sleep 600"] {
            let failure = run(nonsense, &job(PLENTY), false).0.unwrap_err();
            assert_eq!(failure.kind, FailureKind::Crashed, "{failure}");
        }
    }

    #[test]
    fn cancelling_ends_the_worker_and_blames_nobody() {
        let failure = run("exec sleep 600", &job(PLENTY), true).0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled);
        assert!(!failure.blames_script());
    }

    #[test]
    fn looking_at_a_script_can_be_cancelled_too() {
        let scratch = tempfile::tempdir().unwrap();
        let mut supervisor = Supervisor::new("/bin/sh".into(), scratch.path().to_owned());
        supervisor.arguments = ["-c", "exec /bin/sleep 600"].map(OsString::from).to_vec();
        let failure = supervisor.inspect(Script::Starlark("x = 1".into()), &AtomicBool::new(true)).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Cancelled);
    }

    #[test]
    fn what_a_killed_node_left_is_removed_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(scratch.path().join("worker-1-0/inner")).unwrap();
        std::fs::create_dir(scratch.path().join("other")).unwrap();
        Supervisor::new("p".into(), scratch.path().to_owned()).clear_scratch().unwrap();
        let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
        assert_eq!(left, ["other"]);
    }

    #[test]
    fn a_missing_program_is_an_internal_failure() {
        let scratch = tempfile::tempdir().unwrap();
        let supervisor = Supervisor::new("/nonexistent".into(), scratch.path().to_owned());
        let failure = supervisor.run(&job(PLENTY), &AtomicBool::new(false), |_| {}).unwrap_err();
        assert_eq!(failure.kind, FailureKind::Internal);
    }

    #[test]
    fn only_what_drivers_need_is_passed_on() {
        let variables = [("HOME", "/h"), ("VK_DRIVER_FILES", "/v"), ("SECRET", "s")];
        let supervisor = Supervisor::new("p".into(), "s".into())
            .with_environment(variables.map(|(name, value)| (name.into(), value.into())));
        assert_eq!(supervisor.environment, [("VK_DRIVER_FILES".into(), "/v".into())]);
    }
}
