//! Real worker processes under the supervisor: whole experiments, and the ways they can fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;

use spore_protocol::HardwareClass;
use spore_trainer::device::known::{KeptDevices, ProbeJob};
use spore_trainer::device::{Backend, DeviceChoice, DeviceProfile};
use spore_trainer::evaluate::EvalSpec;
use spore_trainer::worker::{
    DatasetSource, Failure, FailureKind, RunResult, Script, Supervisor, TrainJob, WorkerEvent, WorkerRequest,
};

/// A table of bytes mixed with the byte before: small enough for a test on a busy machine.
const SMALL: &str = include_str!("../scripts/small.star");

/// The example that is nothing but a worker, built beside this test.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(format!("worker{}", std::env::consts::EXE_SUFFIX))
}

fn job(script: &str) -> TrainJob {
    TrainJob {
        task: spore_protocol::TaskId([1; 32]),
        script: starlark(script),
        dataset: DatasetSource::Builtin,
        device: DeviceChoice::Flex,
        seed: 7,
        time_budget: 600,
        steps: Some(30),
        eval: EvalSpec { eval_bytes: 2048, ..EvalSpec::for_budget(1) },
        threads: 1,
        memory_limit: 2 << 30,
    }
}

fn starlark(text: &str) -> Script {
    Script::Starlark(text.to_owned())
}

fn run(job: &TrainJob) -> (Result<RunResult, Failure>, Vec<WorkerEvent>) {
    let scratch = tempfile::tempdir().unwrap();
    let supervisor = Supervisor { arguments: vec![], ..Supervisor::new(program(), scratch.path().to_owned()) };
    let mut events = Vec::new();
    let result = supervisor.run(job, &AtomicBool::new(false), |event| events.push(event.clone()));
    assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0, "a directory is left behind");
    (result, events)
}

#[track_caller]
fn fails(job: &TrainJob, kind: FailureKind, reason: &str) {
    let failure = run(job).0.unwrap_err();
    assert_eq!(failure.kind, kind, "{failure}");
    assert!(failure.reason.contains(reason), "{failure}");
}

#[test]
fn equal_jobs_give_equal_metrics_with_any_number_of_threads() {
    let (first, events) = run(&job(SMALL));
    let first = first.unwrap();
    assert_eq!(first.num_steps, 30);
    assert!(first.val_bpb > 1.0 && first.val_bpb < 8.0, "{first:?}");
    assert!(matches!(&events[..2], [WorkerEvent::Started { device, .. }, WorkerEvent::Planned { steps: 30 }]
        if device.backend == Backend::Flex));
    assert!(matches!(events.last(), Some(WorkerEvent::Progress { step: 30, steps: 30, .. })));
    let second = run(&TrainJob { threads: 2, ..job(SMALL) }).0.unwrap();
    assert_eq!((second.val_bpb, second.graph_hash), (first.val_bpb, first.graph_hash));
    let other = run(&TrainJob { seed: 8, ..job(SMALL) }).0.unwrap();
    assert_ne!(other.val_bpb, first.val_bpb);
}

#[test]
fn a_budget_gives_a_number_of_steps() {
    let outcome = run(&TrainJob { time_budget: 1, steps: None, ..job(SMALL) }).0;
    match outcome {
        Ok(outcome) => assert!(outcome.num_steps >= 1),
        // On a machine whose load changes in the middle.
        Err(failure) => assert!(matches!(failure.kind, FailureKind::Busy | FailureKind::Deadline), "{failure}"),
    }
}

#[test]
fn a_script_that_is_no_script_is_its_own_fault() {
    fails(&job("train(model = "), FailureKind::Script, "");
    fails(&job(""), FailureKind::Script, "");
}

#[test]
fn a_script_that_looks_ahead_is_caught() {
    let peek = SMALL.replace("x = x + shift(x)", "x = x + x.mean(1, keep=True)");
    fails(&job(&peek), FailureKind::Causality, "not causal");
}

#[test]
fn a_script_that_diverges_says_so() {
    let wild = SMALL.replace("rms_norm(x)", "exp(100000 * x)");
    fails(&job(&wild), FailureKind::Diverged, "diverged");
}

#[cfg(target_os = "linux")]
#[test]
fn a_model_beyond_the_memory_limit_ends_as_such() {
    let large = SMALL.replace("tune(\"width\", 16, choices=[8, 16, 32])", "16384");
    fails(&TrainJob { memory_limit: 100 << 20, ..job(&large) }, FailureKind::Memory, "memory");
}

#[test]
fn data_must_be_what_the_job_names() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), vec![b'a'; 100_000]).unwrap();
    let path = file.path().to_owned();
    let dataset = DatasetSource::File { path, cid: spore_protocol::Cid([0; 32]) };
    fails(&TrainJob { dataset, ..job(SMALL) }, FailureKind::Data, "the task names 0000");
}

#[test]
fn a_probe_names_the_device() {
    let scratch = tempfile::tempdir().unwrap();
    let supervisor = Supervisor { arguments: vec![], ..Supervisor::new(program(), scratch.path().to_owned()) };
    let never = AtomicBool::new(false);
    let job = ProbeJob { device: DeviceChoice::Flex, threads: 2, kept: KeptDevices::default() };
    let known = supervisor.probe(job.clone(), &never).unwrap();
    let class = HardwareClass::of(&known.profile.gpu_model);
    assert_eq!((known.profile.backend, class.processor()), (Backend::Flex, known.steps));
    assert!(class.processor().is_some() && known.answers.products > 5, "{known:?}");

    // The answer goes into a file, and the next probe believes it.
    let mut kept = KeptDevices::default();
    assert!(kept.keep(&known));
    let text = serde_json::to_string(&kept).unwrap();
    let kept: KeptDevices = serde_json::from_str(&text).unwrap();
    assert_eq!(supervisor.probe(ProbeJob { kept, ..job }, &never).unwrap(), known);

    let calibration = supervisor.calibrate(&known.profile, 2, &never).unwrap();
    assert!(calibration.measured().now.multi > 0.0);
    assert!(!calibration.within(&HardwareClass::of("CPU 1048576x1048576")));
    let other = DeviceProfile { adapter: "another processor".into(), ..known.profile };
    let failure = supervisor.calibrate(&other, 2, &never).unwrap_err();
    assert!(failure.kind == FailureKind::Device && failure.reason.contains("no longer another"), "{failure}");
}

#[test]
fn an_inspection_names_the_tunables() {
    let scratch = tempfile::tempdir().unwrap();
    let supervisor = Supervisor { arguments: vec![], ..Supervisor::new(program(), scratch.path().to_owned()) };
    let found = supervisor.inspect(starlark(SMALL), &AtomicBool::new(false)).unwrap();
    assert_eq!(found.graph_hash.len(), 64);
    assert_eq!(found.tunables.iter().map(|tunable| tunable.name.as_str()).collect::<Vec<_>>(), ["width", "lr"]);
    assert!(supervisor.inspect(starlark("tune("), &AtomicBool::new(false)).unwrap_err().blames_script());
}

/// Comparing the two takes 2^50 steps within one operation of the interpreter.
const ENDLESS_COMPARISON: &str =
    "x = (1,)\ny = (1,)\nfor i in range(50):\n    x = (x, x)\n    y = (y, y)\nz = x == y\n";

#[test]
fn tracing_ends_after_its_processor_time() {
    let scratch = tempfile::tempdir().unwrap();
    // On a busy machine, two seconds of processor time may take minutes.
    let grace = std::time::Duration::from_secs(3600);
    let supervisor = Supervisor { arguments: vec![], grace, ..Supervisor::new(program(), scratch.path().to_owned()) };
    let failure = supervisor.inspect(starlark(ENDLESS_COMPARISON), &AtomicBool::new(false)).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Deadline, "{failure}");
    assert!(failure.reason.contains("processor time"), "{failure}");
}

/// Scripts of which one operation of the interpreter takes any time or any memory.
const GREEDY: &[(&str, &str)] = &[
    ("repeated list", "x = [0] * 500000000\n"),
    ("repeated text", "x = 'a' * 2000000000\n"),
    ("joined", "x = ('a' * 30000000).join(['b'] * 100)\n"),
    ("replaced", "x = ('a' * 3000000).replace('a', 'b' * 1000)\n"),
    ("formatted", "x = 'a' * 30000000\ny = (x + '%s') % x\nz = ('%s' * 60) % ((y,) * 60)\n"),
    ("shared text", "x = ['a' * 100]\nfor i in range(40):\n    x = [x, x]\ny = str(x)\n"),
    ("shared hash", "x = ('a',)\nfor i in range(50):\n    x = (x, x)\ny = {x: 1}\n"),
    ("digits", "x = int('9' * 10000000)\n"),
    ("squares", "x = 3\nfor i in range(40):\n    x = x * x\n"),
];

#[test]
fn tracing_ends_by_itself_with_the_scripts_error() {
    let scratch = tempfile::tempdir().unwrap();
    let grace = std::time::Duration::from_secs(3600);
    let supervisor = Supervisor { arguments: vec![], grace, ..Supervisor::new(program(), scratch.path().to_owned()) };
    for (name, script) in GREEDY {
        let failure = supervisor.inspect(starlark(script), &AtomicBool::new(false)).unwrap_err();
        assert!(matches!(failure.kind, FailureKind::Script | FailureKind::Deadline), "{name}: {failure}");
        let reason = &failure.reason;
        let named = ["MiB", "processor time", "train("].iter().any(|words| reason.contains(words));
        assert!(named || reason.starts_with("line "), "{name}: {failure}");
        assert!(!reason.contains("died"), "{name}: {failure}");
    }
}

#[test]
fn a_worker_ends_with_its_parent() {
    let mut child =
        Command::new(program()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let endless = WorkerRequest::Train(TrainJob { steps: Some(u64::MAX), ..job(SMALL) });
    writeln!(stdin, "{}", serde_json::to_string(&endless).unwrap()).unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("started"), "{line}");
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(3));
}

/// The GPU path, on a software adapter where there is no other: another order of sums, no more.
#[test]
fn wgpu_and_the_cpu_agree() {
    let small =
        TrainJob { steps: Some(5), eval: EvalSpec { eval_bytes: 256, ..EvalSpec::for_budget(1) }, ..job(SMALL) };
    let wgpu = match run(&TrainJob { device: DeviceChoice::Wgpu, memory_limit: 8 << 30, ..small.clone() }) {
        (Ok(outcome), events) => {
            assert!(matches!(&events[0], WorkerEvent::Started { device, .. } if device.backend == Backend::Wgpu));
            outcome
        }
        (Err(failure), _) if failure.kind == FailureKind::Device && std::env::var_os("CI").is_none() => {
            println!("SKIPPED: no graphics adapter, not even a software one (mesa-vulkan-drivers has one): {failure}");
            return;
        }
        (Err(failure), _) => panic!("{failure}"),
    };
    let cpu = run(&small).0.unwrap();
    assert_eq!((wgpu.num_steps, &wgpu.graph_hash), (cpu.num_steps, &cpu.graph_hash));
    assert!((wgpu.val_bpb - cpu.val_bpb).abs() < 1e-3, "{} on the GPU, {} on the CPU", wgpu.val_bpb, cpu.val_bpb);
}
