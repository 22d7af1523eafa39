//! Artifacts on a real disk: written, read whole and in part, damaged in every way.

use super::*;

fn files(root: &Path) -> usize {
    fs::read_dir(root).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_file()).count()
}

fn folder(dir: &tempfile::TempDir) -> Artifacts {
    Artifacts::new(dir.path().join("artifacts"), false)
}

/// Two chunks and 7 bytes, with different bytes at each offset.
fn large() -> Vec<u8> {
    (0..2 * CHUNK as u32 + 7).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn artifact_is_kept_only_when_its_hash_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = folder(&dir);
    let cid = artifacts.put(b"hello").unwrap();
    assert_eq!(artifacts.read(&cid).unwrap().unwrap(), b"hello");
    assert_eq!(artifacts.read_range(&cid, 1, 3).unwrap().unwrap(), b"ell");
    assert_eq!(artifacts.read_range(&cid, 9, 3).unwrap().unwrap(), b"");
    assert_eq!(artifacts.size(&cid).unwrap(), Some(5));

    let other = Cid::of(b"other");
    assert!(artifacts.read(&other).unwrap().is_none() && artifacts.path(&other).is_none());
    assert!(artifacts.open(&other).unwrap().is_none() && artifacts.verify(&other).unwrap().is_none());
    let mut writer = artifacts.begin(other, 10).unwrap();
    writer.append(b"oth").unwrap();
    assert!(matches!(writer.finish(), Err(StoreError::HashMismatch { .. })));
    let mut writer = artifacts.begin(other, 4).unwrap();
    assert!(matches!(writer.append(b"other"), Err(StoreError::TooLarge { .. })));
    drop(writer);
    assert!(artifacts.path(&other).is_none());
    assert_eq!(files(&dir.path().join("artifacts")), 0, "no temporary file stays");
}

#[test]
fn damaged_artifact_is_noticed_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::new(dir.path().to_path_buf(), false);
    let cid = artifacts.put(b"hello").unwrap();
    fs::write(artifacts.path(&cid).unwrap(), b"hullo").unwrap();
    assert!(matches!(artifacts.read(&cid), Err(StoreError::DamagedArtifact { .. })));
    assert!(matches!(artifacts.read_range(&cid, 0, 1), Err(StoreError::DamagedArtifact { .. })));
    assert_eq!(artifacts.verify(&cid).unwrap(), Some(false));
    artifacts.put(b"hello").unwrap();
    assert_eq!(artifacts.read(&cid).unwrap().unwrap(), b"hello");
    fs::write(dir.path().join("tmp-1-1"), b"half").unwrap();
    artifacts.sweep().unwrap();
    assert_eq!(files(dir.path()), 0);
}

#[test]
fn range_of_a_large_artifact_is_right_or_refused() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = folder(&dir);
    let bytes = large();
    let cid = artifacts.put(&bytes).unwrap();
    let ranges = [(0, 10), (CHUNK - 3, 6), (5, 2 * CHUNK), (2 * CHUNK, CHUNK), (bytes.len() - 1, 9), (bytes.len(), 1)];
    for (from, len) in ranges {
        let expected = &bytes[from..bytes.len().min(from + len)];
        assert_eq!(artifacts.read_range(&cid, from as u64, len).unwrap().unwrap(), expected, "{from} {len}");
    }
    let pieces: Vec<Vec<u8>> = artifacts.open(&cid).unwrap().unwrap().map(Result::unwrap).collect();
    assert_eq!(pieces.iter().map(Vec::len).collect::<Vec<_>>(), [CHUNK, CHUNK, 7]);
    assert_eq!(pieces.concat(), bytes);

    let path = artifacts.path(&cid).unwrap();
    flip(&path, CHUNK + 100);
    // A store that was just opened has no list in memory; a running store has one. Both refuse the damaged chunk
    // only.
    for artifacts in [&artifacts, &folder(&dir)] {
        assert_eq!(artifacts.read_range(&cid, 0, CHUNK).unwrap().unwrap(), &bytes[..CHUNK]);
        let refused = artifacts.read_range(&cid, CHUNK as u64 + 7, 1);
        assert!(matches!(refused, Err(StoreError::DamagedArtifact { offset, .. }) if offset == CHUNK as u64));
        let pieces: Vec<bool> = artifacts.open(&cid).unwrap().unwrap().map(|piece| piece.is_ok()).collect();
        assert_eq!(pieces, [true, false], "nothing comes after the damage");
    }
    flip(&path, CHUNK + 100);
    let file = File::options().write(true).open(&path).unwrap();
    file.set_len(2 * CHUNK as u64).unwrap();
    assert!(matches!(artifacts.read_range(&cid, 2 * CHUNK as u64, 7), Err(StoreError::DamagedArtifact { .. })));
    assert!(matches!(folder(&dir).read_range(&cid, 0, 7), Err(StoreError::DamagedArtifact { .. })));
}

#[test]
fn lost_or_damaged_list_of_chunks_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = large();
    let cid = folder(&dir).put(&bytes).unwrap();
    let list = folder(&dir).list_of(&cid);
    let sound = fs::read(&list).unwrap();
    let damages: [&dyn Fn(); 3] =
        [&|| fs::remove_file(&list).unwrap(), &|| flip(&list, 30), &|| fs::write(&list, &sound[..20]).unwrap()];
    for damage in damages {
        damage();
        let read_only = Artifacts::new(dir.path().join("artifacts"), true);
        assert_eq!(read_only.read_range(&cid, 9, 2).unwrap().unwrap(), &bytes[9..11]);
        assert!(fs::read(&list).ok() != Some(sound.clone()), "a store opened for reading writes nothing");
        assert_eq!(folder(&dir).read_range(&cid, 9, 2).unwrap().unwrap(), &bytes[9..11]);
        assert_eq!(fs::read(&list).unwrap(), sound);
    }
    // A new list is not made from a damaged artifact.
    fs::remove_file(&list).unwrap();
    flip(&folder(&dir).path(&cid).unwrap(), 5);
    assert!(matches!(folder(&dir).read_range(&cid, 2 * CHUNK as u64, 1), Err(StoreError::DamagedArtifact { .. })));
    assert!(!list.exists());
}

#[test]
fn removing_an_artifact_removes_its_list_and_uses_are_noted_together() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = folder(&dir);
    let (small, big) = (artifacts.put(b"small").unwrap(), artifacts.put(&large()).unwrap());
    artifacts.note_uses(1000).unwrap();
    assert_eq!(artifacts.read(&small).unwrap().unwrap(), b"small");
    assert!(!artifacts.remove_unused(&small).unwrap(), "it was used since");
    artifacts.note_uses(2000).unwrap();
    let mut seen = Vec::new();
    artifacts
        .each(&mut |stored| {
            seen.push((stored.cid, stored.size, stored.last_used));
            Ok(())
        })
        .unwrap();
    seen.sort();
    let mut expected = [(small, 5, 2000), (big, large().len() as u64, 1000)];
    expected.sort();
    assert_eq!(seen, expected);
    assert!(artifacts.remove_unused(&big).unwrap() && !artifacts.list_of(&big).exists());
    fs::write(artifacts.list_of(&big), b"alone").unwrap();
    artifacts.sweep_lists().unwrap();
    assert!(!artifacts.list_of(&big).exists() && artifacts.path(&small).is_some());
    artifacts.note_uses(3000).unwrap();
    assert!(artifacts.remove_unused(&small).unwrap() && !artifacts.remove_unused(&small).unwrap());
}

#[test]
fn undamaged_artifact_is_not_removed_as_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = folder(&dir);
    let cid = artifacts.put(&large()).unwrap();
    // A caller found it damaged, and it was fetched again since.
    assert!(!artifacts.remove_damaged(&cid).unwrap());
    assert_eq!(artifacts.read(&cid).unwrap().unwrap(), large());
    flip(&artifacts.path(&cid).unwrap(), 9);
    assert!(artifacts.remove_damaged(&cid).unwrap());
    assert!(artifacts.path(&cid).is_none() && !artifacts.remove_damaged(&cid).unwrap());
}
