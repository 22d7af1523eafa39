//! A process that is killed fifty times while it writes keeps what it acknowledged, and its store is sound. The
//! process is this test program, started again.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::Duration,
};

use spore_protocol::{Cid, Goal, Kind, ObjectId, Record, Verified, VerifiedObject};

use super::{
    findings,
    objects::{identity, manifest, profile, record, sign, task_of, verification},
};
use crate::{Store, unwatched};

/// The data directory of the killed process.
const DIR: &str = "SPORE_STORE_KILL_DIR";
/// Which part of the work it does.
const ROUND: &str = "SPORE_STORE_KILL_ROUND";

const ROUNDS: u8 = 50;

/// Batches of one part: more than a process completes before it is killed.
const BATCHES: u64 = 60;

/// The only test here. The killed process runs it too; the variables above say that it is the one to be killed.
const NAME: &str = "tests::kill::acknowledged_objects_survive_kill_9_and_the_store_is_sound";

/// One part of the work: a tree that grows under two roots, events, children before their parents, and the manifest
/// in the middle.
fn batches(round: u8) -> Vec<Vec<VerifiedObject>> {
    let signer = round + 1;
    let manifest = manifest(signer, Goal::Maximize);
    let task = task_of(&manifest);
    let mut trees: Vec<Vec<Verified<Record>>> = vec![
        vec![sign(200, &record(200, Some(task), None, 1.0, 1))],
        vec![sign(signer, &record(signer, Some(task), None, 1.0, 2))],
    ];
    let mut batches: Vec<Vec<VerifiedObject>> = vec![trees.iter().map(|tree| tree[0].clone().into()).collect()];
    let mut late: Option<VerifiedObject> = None;
    for i in 0..BATCHES {
        let tree = &mut trees[usize::try_from(i % 2).unwrap()];
        let parent = tree.len() - 1 - usize::try_from(i % 3).unwrap().min(tree.len() - 1);
        let metric = 1.0 + f64::from(u32::try_from(i * 7 % 11).unwrap()) / 10.0;
        let child = sign(201, &record(201, Some(task), Some(&tree[parent]), metric, 10 + i));
        let mut batch =
            vec![verification(202, &child, metric, 20 + i), profile(203, "x", 100 * u64::from(round) + i).into()];
        // Every fifth record arrives one batch late, after its event and perhaps its child.
        batch.extend(late.take());
        if i % 5 == 4 {
            late = Some(child.clone().into());
        } else {
            batch.push(child.clone().into());
        }
        if i == 8 {
            batch.push(manifest.clone().into());
        }
        tree.push(child);
        batches.push(batch);
    }
    batches
}

/// The work of the killed process: it prints what is stored, once it is.
fn work(dir: &str, round: u8) {
    let store = Store::open(dir.as_ref()).unwrap();
    let mut out = std::io::stdout().lock();
    for (number, batch) in batches(round).into_iter().enumerate() {
        let report = store.insert(&batch, 5).unwrap();
        for (object, (id, outcome)) in batch.iter().zip(report.outcomes) {
            if object.kind() == Kind::Profile {
                writeln!(out, "profile {}", object.timestamp()).unwrap();
                continue;
            }
            let kept = !matches!(outcome, crate::InsertOutcome::Rejected(_));
            assert!(kept, "{outcome:?}");
            writeln!(out, "stored {} {id}", object.kind()).unwrap();
        }
        if number % 4 == 0 {
            let cid = store.put_artifact(format!("script {number} of {round}").as_bytes()).unwrap();
            writeln!(out, "artifact {cid}").unwrap();
        }
        out.flush().unwrap();
    }
    writeln!(out, "end").unwrap();
}

/// What a process printed before it was killed, and whether it completed its work.
struct Said {
    objects: Vec<(Kind, ObjectId)>,
    artifacts: Vec<Cid>,
    /// Timestamp of the newest profile stored; 0 without one.
    profile: u64,
    ended: bool,
}

/// Starts a process, and kills it a moment after it has stored so many objects.
fn kill_one(dir: &std::path::Path, round: u8, until: usize, moment: Duration) -> Said {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(ROUND, round.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = Said { objects: Vec::new(), artifacts: Vec::new(), profile: 0, ended: false };
    let mut killed = false;
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        // A line that was cut short by the kill does not count.
        let Ok(line) = line else { break };
        said.ended |= line == "end";
        match line.split(' ').collect::<Vec<_>>()[..] {
            ["stored", kind, id] => {
                if let (Ok(kind), Ok(id)) = (kind.parse(), id.parse()) {
                    said.objects.push((kind, id));
                }
            }
            ["profile", timestamp] => said.profile = said.profile.max(timestamp.parse().unwrap_or_default()),
            ["artifact", cid] => said.artifacts.extend(cid.parse::<Cid>()),
            _ => {}
        }
        if said.objects.len() >= until && !killed {
            std::thread::sleep(moment);
            child.kill().unwrap();
            killed = true;
        }
    }
    child.wait().unwrap();
    said
}

#[test]
fn acknowledged_objects_survive_kill_9_and_the_store_is_sound() {
    if let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) {
        return work(&dir, round.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let (mut objects, mut artifacts, mut profile, mut interrupted) = (Vec::new(), Vec::new(), 0, 0);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    for round in 0..ROUNDS {
        // A fixed sequence of numbers: the moments differ, and are the same in every run.
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (until, moment) = (1 + random as u32 as usize % 60, Duration::from_micros(random >> 52));
        let said = kill_one(dir.path(), round, until, moment);
        interrupted += u32::from(!said.ended);
        objects.extend(said.objects);
        artifacts.extend(said.artifacts);
        profile = profile.max(said.profile);

        let store = Store::open(dir.path()).unwrap();
        assert_eq!(store.lost_changes(), None, "round {round}");
        for (kind, id) in &objects {
            // A record may be pending.
            let here = store.contains(*kind, id).unwrap()
                || *kind == Kind::Experiment && store.is_pending(&(*id).into()).unwrap();
            assert!(here, "round {round}: {kind} {id} is lost");
        }
        // Only the newest profile is kept.
        let in_force = store.profile(&identity(203).node_id()).unwrap().map_or(0, |profile| profile.timestamp);
        assert!(in_force >= profile, "round {round}: profile {profile} is lost, {in_force} is in force");
        assert!(artifacts.iter().all(|cid| store.verify_artifact(cid).unwrap()), "round {round}");
        // The whole store is checked after every fifth kill.
        if round % 5 == 4 {
            assert_eq!(findings(&store), Vec::<String>::new(), "round {round}");
        }
    }
    let store = Store::open(dir.path()).unwrap();
    assert_eq!(findings(&store), Vec::<String>::new());
    let files = store.verify_files(&mut unwatched).unwrap();
    assert!(files.damaged.is_empty() && files.damaged_artifacts.is_empty(), "{files:?}");
    assert!(interrupted >= 45, "the victim was killed at work in {interrupted} rounds only");
    assert!(objects.len() > 1000, "{}", objects.len());
}
