//! Runs `spore` commands to their end, away from the user's own files.
//!
//! Every process of these tests gets its environment here: its own home and no `SPORE_*` variable. So no process reads or
//! changes the data directory of the person who runs the tests.

use std::{
    fs::File,
    io::{Read as _, Write as _},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::Value;

/// A command that only reads or writes files takes well under a second, but the machine may be training two models
/// meanwhile.
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// The `spore` that was built with these tests, two directories above the test's own program.
///
/// `SPORE_BINARY` names another one.
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("SPORE_BINARY") {
        return path.into();
    }
    let test = std::env::current_exe().expect("the test program has a path");
    let path = test.parent().and_then(Path::parent).expect("target/PROFILE/deps/TEST").join("spore");
    assert!(
        path.is_file(),
        "{} is missing: scripts/test builds it (or: cargo build --release --workspace --bins)",
        path.display()
    );
    path
}

/// `spore` with these arguments. `dir` is both its data directory and its home.
pub fn command(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("SPORE_") {
            command.env_remove(name);
        }
    }
    command.args(args).env("HOME", dir).env("SPORE_HOME", dir).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

/// The same command with a limit of open files.
pub fn with_files(command: &Command, files: u32) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!("ulimit -n {files}; exec \"$0\" \"$@\""));
    limited.arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(name, value),
            None => limited.env_remove(name),
        };
    }
    limited
}

/// The exit code and the output of a command.
#[derive(Debug)]
pub struct Output {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; -1 when a signal ended the process.
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Output {
    /// Asserts the exit code.
    #[track_caller]
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, code, "exit code of {}\n{}{}", self.line, self.stdout, self.stderr);
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{}: not JSON ({e}):\n{}", self.line, self.stdout))
    }

    /// Standard output as JSON lines.
    #[track_caller]
    pub fn json_lines(&self) -> Vec<Value> {
        let parse =
            |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{}: not JSON ({e}): {line}", self.line));
        self.stdout.lines().map(parse).collect()
    }

    /// Asserts that standard error contains all of these texts.
    #[track_caller]
    pub fn expect_stderr(self, parts: &[&str]) -> Self {
        for part in parts {
            assert!(self.stderr.contains(part), "{}: {part:?} is not in the message:\n{}", self.line, self.stderr);
        }
        assert!(!self.stderr.contains("panicked"), "{}: {}", self.line, self.stderr);
        self
    }
}

/// Runs `spore ARGS` on the data directory `dir`.
pub fn spore(dir: &Path, args: &[&str]) -> Output {
    run(command(dir, args), b"")
}

/// Runs `spore ARGS` with `input` on standard input.
pub fn spore_with_input(dir: &Path, args: &[&str], input: &[u8]) -> Output {
    run(command(dir, args), input)
}

/// Runs a command to its end, for at most [`COMMAND_LIMIT`].
pub fn run(command: Command, input: &[u8]) -> Output {
    run_within(command, input, COMMAND_LIMIT)
}

/// Runs a command to its end. Kills it and fails after `limit`.
pub fn run_within(mut command: Command, input: &[u8], limit: Duration) -> Output {
    let line = format!("{command:?}");
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = |name: &str| dir.path().join(name);
    let create = |name: &str| File::create(path(name)).expect("a file in a temporary directory");
    command.stdin(Stdio::piped()).stdout(create("out")).stderr(create("err"));
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{line}: {e}"));
    if let Some(mut stdin) = child.stdin.take() {
        // A command that reads nothing may have closed the pipe already.
        let _ = stdin.write_all(input);
    }
    let code = wait_within(&mut child, limit);
    let read = |name: &str| {
        let mut bytes = Vec::new();
        File::open(path(name)).and_then(|mut f| f.read_to_end(&mut bytes)).expect("the output that was just written");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let (stdout, stderr) = (read("out"), read("err"));
    let code = code.unwrap_or_else(|| panic!("{line}: still running after {limit:?}\n{stdout}{stderr}"));
    Output { line, code, stdout, stderr }
}

/// Waits for a process to end and returns its exit code. Kills the process at the limit and returns None.
pub fn wait_within(child: &mut Child, limit: Duration) -> Option<i32> {
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status.code().unwrap_or(-1));
        }
        if start.elapsed() > limit {
            let _ = child.kill();
            let _ = child.wait();
            return None;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}
