//! Copies the artifacts of a sporemesh node into the store, under the hash of their bytes.

use std::{fs::File, path::Path, thread};

use spore_base::fetch::ARTIFACT_LIMIT;
use spore_protocol::Cid;
use spore_storage::{
    StoreError,
    sporemesh::{ArtifactFile, Sporemesh, SporemeshError},
};

use super::{Destination, ImportError, ImportKind, Importer};
use crate::hash::hash;

/// Files that are copied at the same time. Most are small, and each waits for the disk: these waits overlap.
const AT_ONCE: usize = 16;

/// The result for one file.
enum FileState {
    New,
    /// The store has the artifact already.
    Here,
    /// Rejected, with the stable name of the reason and a sentence about it.
    Bad(&'static str, String),
}

/// Imports every artifact. The inner error comes from the source.
///
/// # Errors
/// When the store cannot be written.
pub(super) fn take(source: &Sporemesh, importer: &mut Importer<'_>) -> Result<Result<(), SporemeshError>, ImportError> {
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
        for (file, found) in examine_all(group, importer.destination()) {
            count(&file, found?, importer);
        }
        if let Some(error) = broken {
            return Ok(Err(error));
        }
        if last {
            return Ok(Ok(()));
        }
        importer.progress(ImportKind::Artifacts, None);
    }
}

fn examine_all(
    group: Vec<ArtifactFile>,
    destination: &Destination<'_>,
) -> Vec<(ArtifactFile, Result<FileState, ImportError>)> {
    thread::scope(|scope| {
        let begin = |file: ArtifactFile| {
            let path = file.path.clone();
            let found = scope.spawn(move || match file.cid {
                None => Ok(FileState::Bad("not_an_artifact", "its name is not a hash".into())),
                Some(cid) => examine(&path, cid, destination),
            });
            (file, found)
        };
        let begun: Vec<_> = group.into_iter().map(begin).collect();
        let ended = |_| Err(ImportError::Failed("a thread that copies artifacts ended early".into()));
        begun.into_iter().map(|(file, found)| (file, found.join().unwrap_or_else(ended))).collect()
    })
}

fn count(file: &ArtifactFile, found: FileState, importer: &mut Importer<'_>) {
    let tally = importer.tally(ImportKind::Artifacts);
    tally.found += 1;
    match found {
        FileState::New => tally.imported += 1,
        FileState::Here => tally.already_here += 1,
        FileState::Bad(reason, detail) => {
            let name = file.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            importer.refuse(ImportKind::Artifacts, &name, None, reason, detail);
        }
    }
}

fn examine(path: &Path, cid: Cid, destination: &Destination<'_>) -> Result<FileState, ImportError> {
    let store = match destination {
        Destination::Store { store, .. } => Some(*store),
        Destination::DryRun { store, .. } => *store,
    };
    if store.is_some_and(|store| store.artifact_path(&cid).is_some()) {
        return Ok(FileState::Here);
    }
    let unreadable = |error: std::io::Error| FileState::Bad("unreadable", error.to_string());
    let (mut file, size) = match File::open(path).and_then(|file| Ok((file.metadata()?.len(), file))) {
        Ok((size, file)) => (file, size),
        Err(error) => return Ok(unreadable(error)),
    };
    if size > ARTIFACT_LIMIT {
        return Ok(FileState::Bad("too_large", format!("{size} bytes, more than the {ARTIFACT_LIMIT} allowed")));
    }
    let taken = match destination {
        Destination::Store { store, .. } => store.begin_artifact(cid, size).and_then(|mut writer| {
            writer.fill(&mut file)?;
            writer.finish()
        }),
        Destination::DryRun { .. } => match hash(&mut file) {
            Ok((actual, _)) if actual == cid => Ok(cid),
            Ok((actual, _)) => Err(StoreError::HashMismatch { expected: cid, actual }),
            Err(error) => return Ok(unreadable(error)),
        },
    };
    match taken {
        Ok(_) => Ok(FileState::New),
        Err(StoreError::HashMismatch { actual, .. }) => {
            Ok(FileState::Bad("hash_mismatch", format!("its content has the hash {actual}")))
        }
        // The file grew while it was read.
        Err(error @ StoreError::TooLarge { .. }) => Ok(FileState::Bad("too_large", error.to_string())),
        Err(error) => Err(error.into()),
    }
}
