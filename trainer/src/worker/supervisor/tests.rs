//! The supervisor with workers played by a shell.

use super::*;
use crate::device::DeviceChoice;
use crate::evaluate::EvalSpec;
use crate::worker::DatasetSource;

fn job(memory_limit: u64) -> TrainJob {
    TrainJob {
        task: spore_protocol::TaskId([1; 32]),
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
fn run(script: &str, job: &TrainJob, cancel: bool) -> (Result<RunResult, Failure>, Vec<WorkerEvent>) {
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
    let outcome = r#"{"finished":{"val_bpb":2.5,"bits_per_byte":2.5,"description_bytes":1,"hidden_cost":0.0,"hidden_error":0.0,"num_steps":3,"num_params":4,"peak_memory_mb":5.0,"train_seconds":1.0,"eval_seconds":1.0,"graph_hash":"00"}}"#;
    let script = format!("echo '{{\"planned\":{{\"steps\":3}}}}'; pwd > here; echo '{outcome}'; cat > /dev/null");
    let (result, events) = run(&script, &job(PLENTY), false);
    assert_eq!(result.unwrap().val_bpb, 2.5);
    assert_eq!(events, [WorkerEvent::Planned { steps: 3 }]);
}

#[test]
fn worker_that_never_ends_is_ended_at_the_deadline_without_blaming_its_script() {
    let failure = run("sleep 600 & wait", &job(PLENTY), false).0.unwrap_err();
    assert_eq!((failure.kind, failure.blames_script()), (FailureKind::Killed, false));
    assert!(failure.reason.starts_with(NO_SIGN), "{failure}");
}

#[test]
fn worker_that_takes_too_much_memory_is_ended() {
    let hog = "x=$(head -c 200000000 /dev/zero | tr '\\0' a); sleep 600";
    let mut job = job(64 << 20);
    job.time_budget = 60;
    let failure = run(hog, &job, false).0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Memory, "{failure}");
}

#[test]
fn death_of_a_worker_is_reported_without_paths_of_the_machine() {
    let noise = "echo /srv/me/driver.json not found >&2; kill -ABRT $$";
    let failure = run(noise, &job(PLENTY), false).0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Crashed);
    assert!(failure.reason.contains("signal: 6") && !failure.reason.contains('/'), "{failure}");
    let failure = run("echo memory allocation of 9 bytes failed >&2; exit 134", &job(PLENTY), false).0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Memory);
    assert!(failure.reason.ends_with("(exit status: 134): memory allocation of 9 bytes failed"), "{failure}");
}

#[test]
fn signal_of_the_system_or_of_a_driver_does_not_blame_the_script() {
    for signal in ["KILL", "SEGV", "BUS", "ILL", "FPE", "TERM", "HUP"] {
        let failure = run(&format!("kill -{signal} $$; sleep 9"), &job(PLENTY), false).0.unwrap_err();
        assert_eq!((failure.kind, failure.blames_script()), (FailureKind::Killed, false), "{signal}: {failure}");
    }
    let stopped = run("kill -STOP $$", &job(PLENTY), false).0.unwrap_err();
    assert_eq!((stopped.kind, stopped.blames_script()), (FailureKind::Killed, false), "{stopped}");
    let lost = run("echo 'Validation: DeviceLost' >&2; kill -ABRT $$", &job(PLENTY), false).0.unwrap_err();
    assert_eq!((lost.kind, lost.blames_script()), (FailureKind::Device, false), "{lost}");
}

#[test]
fn panic_is_reported_with_the_bare_name_of_its_source_file() {
    let panic = "loader: /usr/x\nthread 'trace' (7) panicked at /srv/me/src/lib.rs:3:14:\nsecret\nnote: run";
    assert_eq!(last_words(panic).unwrap(), "panicked at lib.rs:3:14");
    assert_eq!(last_words("x panicked at /srv/me and my files"), None);
    assert_eq!(last_words("memory allocation of /srv/me bytes failed"), None);
}

#[test]
fn worker_that_writes_no_events_is_ended() {
    for nonsense in ["echo hello; sleep 600", "head -c 1000000 /dev/zero; sleep 600"] {
        let failure = run(nonsense, &job(PLENTY), false).0.unwrap_err();
        assert_eq!(failure.kind, FailureKind::Crashed, "{failure}");
    }
}

#[test]
fn cancelling_ends_the_worker_without_blaming_the_script() {
    let failure = run("exec sleep 600", &job(PLENTY), true).0.unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
    assert!(!failure.blames_script());
}

#[test]
fn inspection_can_be_cancelled() {
    let scratch = tempfile::tempdir().unwrap();
    let mut supervisor = Supervisor::new("/bin/sh".into(), scratch.path().to_owned());
    supervisor.arguments = ["-c", "exec /bin/sleep 600"].map(OsString::from).to_vec();
    let failure = supervisor.inspect(Script::Starlark("x = 1".into()), &AtomicBool::new(true)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Cancelled);
}

#[test]
fn clearing_removes_directories_of_workers_and_no_others() {
    let scratch = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(scratch.path().join("worker-1-0/inner")).unwrap();
    std::fs::create_dir(scratch.path().join("other")).unwrap();
    Supervisor::new("p".into(), scratch.path().to_owned()).clear_scratch().unwrap();
    let left: Vec<_> = std::fs::read_dir(scratch.path()).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, ["other"]);
}

#[test]
fn missing_program_is_an_internal_failure() {
    let scratch = tempfile::tempdir().unwrap();
    let supervisor = Supervisor::new("/nonexistent".into(), scratch.path().to_owned());
    let failure = supervisor.run(&job(PLENTY), &AtomicBool::new(false), |_| {}).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Internal);
}

#[test]
fn workers_inherit_only_the_variables_of_drivers() {
    let variables = [("HOME", "/h"), ("VK_DRIVER_FILES", "/v"), ("SECRET", "s")];
    let supervisor = Supervisor::new("p".into(), "s".into())
        .with_environment(variables.map(|(name, value)| (name.into(), value.into())));
    assert_eq!(supervisor.environment, [("VK_DRIVER_FILES".into(), "/v".into())]);
}
