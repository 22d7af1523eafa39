//! Artifacts of a sporemesh node: copied into the store under the hash that their bytes have.

use std::{fs::File, io::Read, path::Path, thread};

use sha2::{Digest, Sha256};
use spore_base::fetch::ARTIFACT_LIMIT;
use spore_protocol::Cid;
use spore_storage::{
    StoreError,
    sporemesh::{ArtifactFile, Sporemesh, SporemeshError},
};

use super::{Feed, ImportError, Part, Way};

/// Files copied at once. Most are small, and each waits until the disk has it: these waits overlap.
const AT_ONCE: usize = 16;

/// Bytes hashed at once in a dry run.
const PIECE: usize = 1 << 18;

/// What a file turned out to be.
enum Found {
    New,
    Here,
    Bad(&'static str, String),
}

/// Takes in every artifact; the inner error is the source's.
///
/// # Errors
/// When the store cannot be written.
pub(super) fn take(source: &Sporemesh, feed: &mut Feed<'_>) -> Result<Result<(), SporemeshError>, ImportError> {
    let mut files = match source.artifacts() {
        Ok(files) => files,
        Err(error) => return Ok(Err(error)),
    };
    loop {
        let mut group = Vec::with_capacity(AT_ONCE);
        let mut broken = None;
        for file in files.by_ref().take(AT_ONCE) {
            match file {
                Ok(file) => group.push(file),
                Err(error) => broken = Some(error),
            }
        }
        let last = group.is_empty();
        for (file, found) in examine_all(group, feed.way()) {
            count(&file, found?, feed);
        }
        if let Some(error) = broken {
            return Ok(Err(error));
        }
        if last {
            return Ok(Ok(()));
        }
        feed.progress(Part::Artifacts, None);
    }
}

fn examine_all(group: Vec<ArtifactFile>, way: &Way<'_>) -> Vec<(ArtifactFile, Result<Found, ImportError>)> {
    thread::scope(|scope| {
        let begin = |file: ArtifactFile| {
            let path = file.path.clone();
            let found = scope.spawn(move || match file.cid {
                None => Ok(Found::Bad("not_an_artifact", "its name is no hash".into())),
                Some(cid) => examine(&path, cid, way),
            });
            (file, found)
        };
        let begun: Vec<_> = group.into_iter().map(begin).collect();
        let ended = |_| Err(ImportError::Failed("a thread that copies ended early".into()));
        begun.into_iter().map(|(file, found)| (file, found.join().unwrap_or_else(ended))).collect()
    })
}

fn count(file: &ArtifactFile, found: Found, feed: &mut Feed<'_>) {
    let tally = feed.tally(Part::Artifacts);
    tally.found += 1;
    match found {
        Found::New => tally.imported += 1,
        Found::Here => tally.already_here += 1,
        Found::Bad(reason, detail) => {
            let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            feed.refuse(Part::Artifacts, &name, None, reason, detail);
        }
    }
}

fn examine(path: &Path, cid: Cid, way: &Way<'_>) -> Result<Found, ImportError> {
    let store = match way {
        Way::Door { store, .. } => Some(*store),
        Way::Nowhere { store, .. } => *store,
    };
    if store.is_some_and(|store| store.artifact_path(&cid).is_some()) {
        return Ok(Found::Here);
    }
    let unreadable = |error: std::io::Error| Found::Bad("unreadable", error.to_string());
    let (mut file, size) = match File::open(path).and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((size, file)) => (file, size),
        Err(error) => return Ok(unreadable(error)),
    };
    if size > ARTIFACT_LIMIT {
        return Ok(Found::Bad("too_large", format!("{size} bytes, more than the {ARTIFACT_LIMIT} allowed")));
    }
    let taken = match way {
        Way::Door { store, .. } => store.begin_artifact(cid, size).and_then(|mut writer| {
            writer.fill(&mut file)?;
            writer.finish()
        }),
        Way::Nowhere { .. } => match hash(&mut file) {
            Ok(actual) if actual == cid => Ok(cid),
            Ok(actual) => Err(StoreError::HashMismatch { expected: cid, actual }),
            Err(error) => return Ok(unreadable(error)),
        },
    };
    match taken {
        Ok(_) => Ok(Found::New),
        Err(StoreError::HashMismatch { actual, .. }) => {
            Ok(Found::Bad("hash_mismatch", format!("its content hashes to {actual}")))
        }
        // It grew while it was read.
        Err(error @ StoreError::TooLarge { .. }) => Ok(Found::Bad("too_large", error.to_string())),
        Err(error) => Err(error.into()),
    }
}

fn hash(file: &mut File) -> std::io::Result<Cid> {
    let mut digest = Sha256::new();
    let mut buffer = vec![0; PIECE];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some([]) | None => return Ok(Cid(digest.finalize().into())),
            Some(bytes) => digest.update(bytes),
        }
    }
}
