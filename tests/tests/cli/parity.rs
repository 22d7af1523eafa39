//! What users and scripts of the reference (sporemesh) type, and completions with the values of a running node.

use std::{path::Path, time::Duration};

use spore_protocol::{
    ArtifactType, TaskManifest,
    fixtures::{identity, manifest, sign},
};
use spore_storage::Store;
use spore_tests::{
    Output, TestNet,
    command::{command, run},
    net::{fix_class, text},
    spore, wait_for,
};

use crate::{
    snapshot::Transcript,
    world::{seed, write_identity},
};

/// A node begins its research within seconds, but the machine may be training two models.
const BEGIN_LIMIT: Duration = Duration::from_secs(120);

/// Asserts that a command printed these texts.
#[track_caller]
fn says(output: &Output, parts: &[&str]) {
    for part in parts {
        assert!(output.stdout.contains(part), "{}: {part:?} is not printed:\n{}", output.line, output.stdout);
    }
}

/// What the program offers to bash for the last of these words.
fn completed(dir: &Path, words: &[&str]) -> Vec<String> {
    let mut program = command(dir, &[&["--", "spore"], words].concat());
    program.env("SPORE_COMPLETE", "bash").env("_CLAP_IFS", "\n").env("_CLAP_COMPLETE_INDEX", words.len().to_string());
    let Output { code, stdout, stderr, .. } = run(program, b"");
    assert!(code == 0 && stderr.is_empty(), "{code}: {stderr}");
    stdout.lines().map(str::to_owned).collect()
}

#[test]
fn flags_of_the_reference_that_are_not_here_name_others() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let mut transcript = Transcript::new(&dir);
    transcript.run(&["explorer", "-p", "7470"]);
    transcript.assert("reference-commands");
    assert!(!dir.exists(), "a pointer creates nothing");
}

#[test]
fn variables_of_the_reference_are_told_to_have_no_effect() {
    let net = TestNet::new();
    // The node does not start: the address is not one.
    let mut program = command(&net.dir_of("node"), &["run", "--no-train", "--peer", "nonsense"]);
    program.env("SPORE_DISABLE_COMPILE", "1").env("SPORE_CHALLENGE_TIMEOUT", "60").env("SPORE_DEBUG", "");
    let told = run(program, b"").expect_code(2).stderr;
    let notes: Vec<_> = told.lines().filter(|line| line.contains("has no effect")).collect();
    assert_eq!(notes.len(), 2, "{told}");
    assert!(told.contains("SPORE_DISABLE_COMPILE has") && told.contains("SPORE_CHALLENGE_TIMEOUT has"), "{told}");
}

#[test]
fn created_task_is_the_one_that_the_node_works_on() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    let built_in = text(&spore(&dir, &["status", "--json"]).expect_code(4).json()["active_task"]);
    let create = |flags: &[&str]| {
        let args = ["task", "create", "--json", "--name", "mine", "--time-budget", "20"];
        spore(&dir, &[&args, flags].concat()).expect_code(0).json()
    };
    let active = || text(&spore(&dir, &["status", "--json"]).expect_code(4).json()["active_task"]);
    // Without a script the task begins with the built-in task's.
    let first = create(&["--dataset-cid", "", "--prepare-cid", ""]);
    assert_eq!(active(), text(&first["task_id"]));
    assert_ne!(active(), built_in);
    let known = spore(&dir, &["task", "show", "--json", &built_in]).expect_code(0).json();
    assert_eq!(first["base_code_cid"], known["base_code_cid"]);
    let (base, evaluator) = (text(&known["base_code_cid"]), text(&first["prepare_cid"]));
    let named = create(&["--no-use", "--base-code-cid", &base, "--prepare-cid", &evaluator]);
    assert_eq!((&named["base_code_cid"], &named["prepare_cid"]), (&first["base_code_cid"], &first["prepare_cid"]));
    assert_eq!(active(), text(&first["task_id"]), "--no-use leaves it");
    let absent = "ab".repeat(32);
    for flag in ["--base-code-cid", "--prepare-cid"] {
        let args = ["task", "create", "--name", "mine", flag, &absent];
        spore(&dir, &args).expect_code(3).expect_stderr(&[&absent[..8]]);
    }
}

#[test]
fn python_task_is_made_and_left_to_the_existing_network() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    spore(&dir, &["init"]).expect_code(0);
    let before = text(&spore(&dir, &["status", "--json"]).expect_code(4).json()["active_task"]);
    let cid = "cd".repeat(32);
    let args = ["task", "create", "--name", "py", "--artifact-type", "python_train_script", "--dataset-cid", &cid];
    says(&spore(&dir, &args).expect_code(0), &["only passes the task on"]);
    let tasks = spore(&dir, &["tasks", "--json"]).expect_code(0).json();
    let made = tasks.as_array().unwrap().iter().find(|task| task["name"] == "py").unwrap().clone();
    assert_eq!((text(&made["dataset_cid"]), text(&made["base_code_cid"])), (cid, String::new()));
    assert_eq!(text(&spore(&dir, &["status", "--json"]).expect_code(4).json()["active_task"]), before);
}

#[test]
fn status_has_the_best_and_the_newest_and_info_the_counts() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    let world = seed(&dir);
    spore(&dir, &["task", "use", "small-gpt"]).expect_code(0);
    let status = spore(&dir, &["status", "--json"]).expect_code(4).json();
    assert_eq!(text(&status["best"]["id"]), world.best.to_string());
    let times: Vec<_> = status["newest"].as_array().unwrap().iter().map(|e| e["timestamp"].as_u64().unwrap()).collect();
    assert!(times.len() > 3 && times.is_sorted_by(|a, b| a >= b), "newest first: {times:?}");
    says(&spore(&dir, &["status"]).expect_code(4), &["val_bpb 2.750000 on CPU", "half the learning rate"]);
    let info = spore(&dir, &["info", "--json"]).expect_code(0).json();
    assert_eq!(info["store"]["experiments"], status["experiment_count"]);
    assert_eq!(text(&info["store"]["best"]["id"]), world.best.to_string());
    let claims = ["frontier", "--task", "small-gpt", "--view", "claims", "--json"];
    let of_class = spore(&dir, &[&claims[..], &["-g", "RTX 4090"]].concat()).expect_code(0).json();
    let classes: Vec<_> = of_class.as_array().unwrap().iter().map(|e| text(&e["hardware_class"])).collect();
    assert_eq!(classes, ["RTX_4090"]);
}

#[test]
fn graph_shows_as_many_generations_as_asked_for() {
    let net = TestNet::new();
    let dir = net.dir_of("node");
    seed(&dir);
    let shown = spore(&dir, &["graph", "--task", "small-gpt", "-d", "1"]).expect_code(0);
    assert!(!shown.stdout.contains("no warm-up"), "{}", shown.stdout);
    says(&shown, &["half the learning rate", "further down; `--depth N` shows more"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_name_tasks_and_experiments_of_the_running_node() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    let world = seed(&dir);
    assert!(completed(&dir, &["fro"]).contains(&"frontier".to_owned()));
    assert!(completed(&dir, &["run", "--task", "small"]).is_empty(), "no node runs");
    let number = net.start("node", None, &["--no-train", "--task", "small-gpt"]).await;
    assert_eq!(completed(&dir, &["run", "--task", "small"]), ["small-gpt"]);
    let best = world.best.to_string();
    assert_eq!(completed(&dir, &["show", &best[..6]]), [&best[..12]]);
    assert!(completed(&dir, &["show", ""]).contains(&best[..12].to_owned()));
    assert!(completed(&dir, &["set", "trust", ""]).contains(&world.publisher));
    assert_eq!(net.node_mut(number).interrupt(), 0);
    let script = spore(&dir, &["completions", "bash"]).expect_code(0).stdout;
    assert!(script.contains("SPORE_COMPLETE") && !script.contains(&dir.display().to_string()), "{script}");
}

#[tokio::test(flavor = "multi_thread")]
async fn node_pinned_to_a_python_task_says_so_once_and_how_to_change_it() {
    let mut net = TestNet::new();
    let dir = net.dir_of("node");
    write_identity(&dir);
    fix_class(&dir);
    let by = identity(1);
    let python = TaskManifest { name: "theirs".into(), artifact_type: ArtifactType::Python, ..manifest(&by) };
    let python = sign(&by, &python);
    let id = python.id().to_string();
    Store::open(&dir).unwrap().insert(&[python.into()], 1_000_000).unwrap();
    // As an import writes it, under the reference's name of the key.
    std::fs::write(dir.join("config.toml"), format!("task_id = \"{id}\"\n")).unwrap();
    let number = net.start("node", None, &["--device", "flex"]).await;
    wait_for("research to say why it waits", BEGIN_LIMIT, async || {
        let status = spore(&dir, &["status", "--json"]).stdout;
        if status.contains("\"waiting\"") { Ok(()) } else { Err(status) }
    })
    .await;
    let log = net.node(number).log();
    assert_eq!(log.matches("this node cannot work on the task theirs").count(), 1, "{log}");
    assert!(log.contains("`spore task use auto`") && !log.contains("research failed"), "{log}");
    spore(&dir, &["task", "use", "theirs"]).expect_code(0).expect_stderr(&["cannot work on the task theirs"]);
    spore(&dir, &["task", "use", "auto"]).expect_code(0);
    assert!(!std::fs::read_to_string(dir.join("config.toml")).unwrap().contains(&id));
    assert_eq!(net.node_mut(number).interrupt(), 0);
}
