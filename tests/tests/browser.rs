//! The explorer in Chromium, against real nodes.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    io::{BufRead as _, BufReader, Read as _},
    os::unix::process::CommandExt as _,
    path::Path,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use spore_tests::{TestNet, command::spore_with_input, seed::SeededTask, skip::skip};

/// The browser that scripts/setup installs, or `CHROMIUM`.
fn chromium() -> Option<String> {
    let named = std::env::var("CHROMIUM").ok();
    let known = ["/usr/bin/chromium", "/usr/bin/google-chrome", "/usr/bin/chromium-browser"];
    let installed = std::env::var("HOME").ok().and_then(|home| {
        let cache = Path::new(&home).join(".cache/ms-playwright");
        let versions = std::fs::read_dir(cache).ok()?.flatten();
        let programs = versions.map(|version| version.path().join("chrome-linux/headless_shell"));
        programs.filter(|path| path.is_file()).map(|path| path.display().to_string()).next()
    });
    named.or_else(|| known.into_iter().find(|path| Path::new(path).is_file()).map(str::to_owned)).or(installed)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_explorer_shows_a_task_an_experiment_and_what_arrives_meanwhile() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let Some(chromium) = chromium() else { return skip("no Chromium: scripts/setup installs one, or set CHROMIUM") };
    if !root.join("explorer-ui/node_modules/playwright-core").is_dir() {
        return skip("explorer-ui/node_modules is missing: scripts/setup installs it");
    }
    let mut net = TestNet::new();
    // More than a page of the table holds.
    let (short, long) = (SeededTask::new(3, 60), SeededTask::new(3, 63));
    short.store(&net.dir_of("shown"));
    long.store(&net.dir_of("other"));
    let shown = net.start("shown", None, &["--no-train"]).await;

    let experiment = short.verified().next().unwrap().to_string();
    let arguments = [net.node(shown).url(""), short.task.to_string(), experiment.clone(), chromium];
    let mut script = Command::new("node")
        .arg(root.join("tests/browser/explorer.mjs"))
        .args(arguments)
        .current_dir(&root)
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("node starts");
    let group = Group(Pid::from_child(&script));
    let mut lines = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut log = Vec::new();
    let mut signed = None;
    while let Some(Ok(line)) = lines.next() {
        // The page shows sixty records now; three more arrive from another node while it is open.
        if line == "waiting for news" {
            net.start("other", Some(shown), &["--no-train"]).await;
        }
        if let Some(json) = line.strip_prefix("signed: ") {
            signed = Some(serde_json::from_str::<String>(json).unwrap());
        }
        log.push(line);
    }
    let mut complaints = String::new();
    script.stderr.take().unwrap().read_to_string(&mut complaints).unwrap();
    assert!(script.wait().unwrap().success(), "{}\n{complaints}", log.join("\n"));
    drop(group);

    // What the page gives out as the signed record is one, to the last digit.
    let signed = signed.expect("the signed record was copied");
    let output = spore_with_input(net.dir(), &["inspect", "--json", "-"], signed.as_bytes()).expect_code(0);
    let found: Value = output.json_lines().remove(0);
    assert_eq!((&found["id"], &found["valid"]), (&Value::from(experiment), &Value::Bool(true)));
}

/// The script and its browser; dropping it ends both.
struct Group(Pid);

impl Drop for Group {
    fn drop(&mut self) {
        let _ = kill_process_group(self.0, Signal::KILL);
    }
}
