//! Killed without warning in the middle of its work, the store keeps what it acknowledged and is
//! sound. The victim is this test program itself, started again.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use spore_protocol::{Goal, ObjectId, Record, Verified, VerifiedObject};

use super::objects::{manifest, profile, record, sign, task_of, verification};
use crate::Store;

/// Where the victim works.
const DIR: &str = "SPORE_STORE_KILL_DIR";
/// Which stretch of the work it does.
const ROUND: &str = "SPORE_STORE_KILL_ROUND";

const ROUNDS: u64 = 6;

/// The one test here, which the victim runs too: the variables above make it the victim.
const NAME: &str = "tests::kill::what_was_acknowledged_survives_kill_9_and_the_indexes_agree";

/// A stretch of work: a tree that grows under two roots, events, the manifest in the middle of it.
fn batches(round: u64) -> Vec<Vec<VerifiedObject>> {
    let manifest = manifest(u8::try_from(round).unwrap() + 1, Goal::Maximize);
    let task = task_of(&manifest);
    let signer = manifest_signer(round);
    let mut trees: Vec<Vec<Verified<Record>>> = vec![
        vec![sign(9, &record(9, Some(task), None, 1.0, 1))],
        vec![sign(signer, &record(signer, Some(task), None, 1.0, 2))],
    ];
    let mut batches: Vec<Vec<VerifiedObject>> = vec![trees.iter().map(|tree| tree[0].clone().into()).collect()];
    for i in 0..60u64 {
        let tree = &mut trees[usize::try_from(i % 2).unwrap()];
        let parent = tree.len() - 1 - usize::try_from(i % 3).unwrap().min(tree.len() - 1);
        let metric = 1.0 + f64::from(u32::try_from(i * 7 % 11).unwrap()) / 10.0;
        let child = sign(8, &record(8, Some(task), Some(&tree[parent]), metric, 10 + i));
        let mut batch = vec![
            verification(7, &child, metric, 20 + i),
            child.clone().into(),
            profile(8, "x", 100 * round + i).into(),
        ];
        if i == 20 {
            batch.push(manifest.clone().into());
        }
        tree.push(child);
        batches.push(batch);
    }
    batches
}

fn manifest_signer(round: u64) -> u8 {
    u8::try_from(round).unwrap() + 1
}

/// What the victim does.
fn work(dir: &str, round: u64) {
    let store = Store::open(dir.as_ref()).unwrap();
    let mut out = std::io::stdout().lock();
    for batch in batches(round) {
        store.insert(&batch, 5).unwrap();
        for object in batch {
            writeln!(out, "stored {} {}", object.kind(), object.id()).unwrap();
        }
        out.flush().unwrap();
    }
    writeln!(out, "end").unwrap();
}

#[test]
fn what_was_acknowledged_survives_kill_9_and_the_indexes_agree() {
    if let (Ok(dir), Ok(round)) = (std::env::var(DIR), std::env::var(ROUND)) {
        return work(&dir, round.parse().unwrap());
    }
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    let mut interrupted = 0;
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", NAME, "--nocapture", "--test-threads=1"])
            .env(DIR, dir.path())
            .env(ROUND, round.to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // A different moment in each round, before and after the manifest comes.
        let until = 5 + round * 29;
        let mut ended = false;
        let mut seen = 0;
        while let Some(Ok(line)) = lines.next() {
            ended |= line == "end";
            if let Some((kind, id)) = line.strip_prefix("stored ").and_then(|rest| rest.split_once(' ')) {
                acknowledged.push((kind.parse().unwrap(), id.parse::<ObjectId>().unwrap()));
                seen += 1;
            }
            if seen == until {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        interrupted += u32::from(!ended);

        let store = Store::open(dir.path()).unwrap();
        for (kind, id) in &acknowledged {
            let replaced = *kind == spore_protocol::Kind::Profile;
            assert!(replaced || store.contains(*kind, id).unwrap(), "round {round}: {kind} {id} is lost");
        }
        assert_eq!(store.check().unwrap(), Vec::<String>::new(), "round {round}");
    }
    assert!(interrupted >= 3, "the victim was killed at work in {interrupted} rounds only");
    assert!(acknowledged.len() > 300);
}
