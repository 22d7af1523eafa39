//! Artifacts: scripts, evaluators and datasets as plain files named by their hash.
//!
//! `artifacts/<2 hex>/<62 hex>`, complete wherever the name exists; beside each that is larger than
//! one chunk, the list of its chunks' hashes ([`chunks`]). Bytes are hashed on the way in and on
//! every way out, whole or in part, since a disk may rot and a person may edit: nothing that is
//! not what its address says leaves this module, except by [`Artifacts::path`], whose callers
//! check themselves.

mod chunks;
mod dropped;
mod pins;
mod reader;
mod writer;

use std::{
    collections::{HashSet, VecDeque},
    fs::{self, File, FileTimes},
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, UNIX_EPOCH},
};

use spore_protocol::Cid;

use self::{
    chunks::{CHUNK, Chunks, Hasher},
    dropped::Dropped,
    pins::Pins,
};
pub use self::{
    reader::ArtifactReader,
    writer::{ArtifactWriter, replace, sync_folder},
};
use crate::error::{Result, StoreError};

/// Names of files not yet complete start so; [`Artifacts::sweep`] removes them.
const TEMPORARY: &str = "tmp-";

/// What a list of chunks is called, after its artifact's name.
const LIST: &str = ".chunks";

/// Largest piece read at once for a range: what one message may carry.
const MAX_RANGE: usize = 16 << 20;

/// Lists of chunks kept in memory: the large artifacts that peers fetch at one time. A list has
/// 32 bytes for each MiB.
const LISTS: usize = 16;

/// Artifacts whose use is remembered between two calls of [`Artifacts::note_uses`]: 4 MiB of
/// memory. Uses beyond are forgotten, which makes those artifacts seem older than they are.
const MAX_USES: usize = 1 << 16;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// The folder of artifacts.
pub struct Artifacts {
    root: PathBuf,
    read_only: bool,
    lists: Mutex<VecDeque<(Cid, Arc<Chunks>)>>,
    uses: Mutex<HashSet<Cid>>,
    pub pins: Pins,
    pub dropped: Dropped,
}

/// An artifact's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    pub cid: Cid,
    /// Of the artifact, in bytes.
    pub size: u64,
    /// Unix seconds, coarse: see [`Artifacts::note_uses`].
    pub last_used: u64,
}

impl Artifacts {
    pub fn new(root: PathBuf, read_only: bool) -> Self {
        let (pins, dropped) = (Pins::new(&root), Dropped::new(&root));
        Self { root, read_only, lists: Mutex::default(), uses: Mutex::default(), pins, dropped }
    }

    /// Removes what a crash left half written. Only for the holder of the directory's lock.
    pub fn sweep(&self) -> Result<()> {
        fs::create_dir_all(&self.root).map_err(|e| failed("create", &self.root, e))?;
        for path in entries(&self.root)? {
            if is_temporary(&path) {
                fs::remove_file(&path).map_err(|e| failed("remove", &path, e))?;
            }
        }
        Ok(())
    }

    fn path_of(&self, cid: &Cid) -> PathBuf {
        let name = cid.to_string();
        let (folder, file) = name.split_at_checked(2).unwrap_or(("", &name));
        self.root.join(folder).join(file)
    }

    fn list_of(&self, cid: &Cid) -> PathBuf {
        let mut name = self.path_of(cid).into_os_string();
        name.push(LIST);
        name.into()
    }

    /// The file, if it is there. Its bytes are not checked.
    pub fn path(&self, cid: &Cid) -> Option<PathBuf> {
        let path = self.path_of(cid);
        path.is_file().then_some(path)
    }

    /// In bytes.
    pub fn size(&self, cid: &Cid) -> Result<Option<u64>> {
        let path = self.path_of(cid);
        match fs::metadata(&path) {
            Ok(metadata) => Ok(Some(metadata.len())),
            Err(error) => absent(error, "look at", &path),
        }
    }

    /// All bytes, checked.
    pub fn read(&self, cid: &Cid) -> Result<Option<Vec<u8>>> {
        let path = self.path_of(cid);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) => return absent(error, "read", &path),
        };
        if Cid::of(&bytes) != *cid {
            return Err(StoreError::DamagedArtifact { cid: *cid, offset: 0 });
        }
        self.used(cid);
        Ok(Some(bytes))
    }

    /// Removes the file; false when there was none.
    pub fn remove(&self, cid: &Cid) -> Result<bool> {
        let uses = self.uses();
        self.remove_while(&uses, cid)
    }

    /// Removes the file if it is damaged, as somebody found: it is read again, since another may have come
    /// in its place. False where it is right; then its list of chunks goes, to be made again.
    pub fn remove_damaged(&self, cid: &Cid) -> Result<bool> {
        let path = self.path_of(cid);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return Ok(absent::<()>(error, "open", &path)?.is_some()),
        };
        let read = file.metadata().map_err(|e| failed("look at", &path, e))?;
        let mut hasher = Hasher::default();
        hasher.update_from(&file).map_err(|e| failed("read", &path, e))?;
        let right = hasher.finish().0 == *cid;
        let uses = self.uses();
        let same = |there: fs::Metadata| {
            let file = |file: &fs::Metadata| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec());
            file(&there) == file(&read)
        };
        if !right && fs::metadata(&path).is_ok_and(same) {
            return self.remove_while(&uses, cid);
        }
        self.lists().retain(|(other, _)| other != cid);
        let list = self.list_of(cid);
        fs::remove_file(&list).or_else(|e| absent::<()>(e, "remove", &list).map(|_| ()))?;
        Ok(false)
    }

    /// Removes the file unless it was used since uses were last noted; false when it is kept.
    pub fn remove_unused(&self, cid: &Cid) -> Result<bool> {
        let uses = self.uses();
        if uses.contains(cid) { Ok(false) } else { self.remove_while(&uses, cid) }
    }

    /// Whoever finds an artifact here and relies on it has said so under the same lock.
    fn remove_while(&self, _uses: &MutexGuard<'_, HashSet<Cid>>, cid: &Cid) -> Result<bool> {
        self.lists().retain(|(other, _)| other != cid);
        let path = self.path_of(cid);
        let removed = match fs::remove_file(&path) {
            Ok(()) => true,
            Err(error) => absent::<()>(error, "remove", &path)?.is_some(),
        };
        let list = self.list_of(cid);
        match fs::remove_file(&list) {
            Ok(()) => {}
            Err(error) => drop(absent::<()>(error, "remove", &list)?),
        }
        Ok(removed)
    }

    /// At most `len` bytes from `offset` on, fewer at the end, checked.
    pub fn read_range(&self, cid: &Cid, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.open(cid)? else { return Ok(None) };
        let end = offset.saturating_add(len.min(MAX_RANGE) as u64).min(reader.size());
        let mut bytes = Vec::new();
        if offset >= end {
            return Ok(Some(bytes));
        }
        reader.seek(offset);
        let mut at = offset / CHUNK as u64 * CHUNK as u64;
        while at < end
            && let Some(piece) = reader.next_piece()?
        {
            let from = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
            let to = usize::try_from(end - at).unwrap_or(usize::MAX).min(piece.len());
            bytes.extend_from_slice(piece.get(from..to).unwrap_or_default());
            at += piece.len() as u64;
        }
        Ok(Some(bytes))
    }

    /// All bytes in checked pieces.
    pub fn open(&self, cid: &Cid) -> Result<Option<ArtifactReader>> {
        let reader = self.open_unused(cid)?;
        if reader.is_some() {
            self.used(cid);
        }
        Ok(reader)
    }

    /// As [`Artifacts::open`], for what reads all of them: that makes none of them wanted.
    pub fn open_unused(&self, cid: &Cid) -> Result<Option<ArtifactReader>> {
        let Some(chunks) = self.chunks(cid)? else { return Ok(None) };
        Ok(Some(ArtifactReader::open(*cid, chunks, &self.path_of(cid))?))
    }

    /// Whether it is here and every byte is right; None where it is not here. No use of it.
    pub fn verify(&self, cid: &Cid) -> Result<Option<bool>> {
        let path = self.path_of(cid);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return absent(error, "open", &path),
        };
        let mut hasher = Hasher::default();
        hasher.update_from(file).map_err(|e| failed("read", &path, e))?;
        Ok(Some(hasher.finish().0 == *cid))
    }

    /// The hashes of its chunks. For a file that came without a list, or lost it, the list is made:
    /// one reading of the whole, which proves it at the same time.
    fn chunks(&self, cid: &Cid) -> Result<Option<Arc<Chunks>>> {
        let Some(size) = self.size(cid)? else { return Ok(None) };
        if size <= CHUNK as u64 {
            return Ok(Some(Arc::new(Chunks::single(cid, size))));
        }
        let known = self.lists().iter().find(|(other, _)| other == cid).map(|(_, chunks)| chunks.clone());
        if let Some(chunks) = known {
            return Ok(Some(chunks));
        }
        let chunks = Arc::new(match self.read_list(cid, size)? {
            Some(chunks) => chunks,
            None => self.make_list(cid)?,
        });
        let mut lists = self.lists();
        lists.push_back((*cid, chunks.clone()));
        if lists.len() > LISTS {
            lists.pop_front();
        }
        Ok(Some(chunks))
    }

    fn read_list(&self, cid: &Cid, size: u64) -> Result<Option<Chunks>> {
        let list = self.list_of(cid);
        match fs::metadata(&list) {
            Ok(file) if file.len() == Chunks::encoded_len(size) => {}
            Ok(_) => return Ok(None),
            Err(error) => return absent(error, "look at", &list),
        }
        let bytes = fs::read(&list).map_err(|e| failed("read", &list, e))?;
        Ok(Chunks::decode(cid, &bytes).filter(|chunks| chunks.size == size))
    }

    fn make_list(&self, cid: &Cid) -> Result<Chunks> {
        let path = self.path_of(cid);
        let mut hasher = Hasher::default();
        let file = File::open(&path).map_err(|e| failed("open", &path, e))?;
        hasher.update_from(file).map_err(|e| failed("read", &path, e))?;
        let (actual, chunks) = hasher.finish();
        if actual != *cid {
            return Err(StoreError::DamagedArtifact { cid: *cid, offset: 0 });
        }
        if !self.read_only
            && let Err(error) = writer::write_list(&self.root, &self.list_of(cid), cid, &chunks)
        {
            // Reading must go on when the disk is full; the list is made again another time.
            tracing::debug!(%cid, %error, "a list of chunks is not kept");
        }
        Ok(chunks)
    }

    /// Keeps these bytes under their hash. A damaged file of that name is replaced.
    pub fn put(&self, bytes: &[u8]) -> Result<Cid> {
        let cid = Cid::of(bytes);
        self.used(&cid);
        if matches!(self.read(&cid), Ok(Some(_))) {
            return Ok(cid);
        }
        let mut writer = self.begin(cid, bytes.len() as u64)?;
        writer.append(bytes)?;
        writer.finish()
    }

    pub fn begin(&self, cid: Cid, limit: u64) -> Result<ArtifactWriter> {
        fs::create_dir_all(&self.root).map_err(|e| failed("create", &self.root, e))?;
        self.used(&cid);
        self.dropped.forget(&cid);
        ArtifactWriter::new(&self.root, cid, limit, self.path_of(&cid), self.list_of(&cid))
    }

    /// Removes lists whose artifact a crash kept from getting its name, or a person removed.
    pub fn sweep_lists(&self) -> Result<()> {
        for folder in entries(&self.root)? {
            for list in entries(&folder)? {
                let artifact = name(&list).and_then(|name| name.strip_suffix(LIST)).map(|name| folder.join(name));
                // One that is being written has its list first: it is made again when it is missed.
                if artifact.is_some_and(|artifact| !artifact.exists()) {
                    fs::remove_file(&list).or_else(|e| absent::<()>(e, "remove", &list).map(|_| ()))?;
                }
            }
        }
        Ok(())
    }

    /// Visits every artifact, in no order; stops at an error.
    pub fn each(&self, visit: &mut dyn FnMut(Stored) -> Result<()>) -> Result<()> {
        for folder in entries(&self.root)? {
            let Some(start) = name(&folder).filter(|name| name.len() == 2).map(str::to_owned) else { continue };
            for path in entries(&folder)? {
                let Some(cid) = name(&path).and_then(|rest| format!("{start}{rest}").parse().ok()) else { continue };
                let file = match fs::metadata(&path) {
                    Ok(file) => file,
                    // Removed since the folder was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(failed("look at", &path, error)),
                };
                let last_used = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                visit(Stored { cid, size: file.len(), last_used: last_used.unwrap_or_default().as_secs() })?;
            }
        }
        Ok(())
    }

    fn uses(&self) -> MutexGuard<'_, HashSet<Cid>> {
        // A set of addresses is whole after any panic.
        self.uses.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lists(&self) -> MutexGuard<'_, VecDeque<(Cid, Arc<Chunks>)>> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn used(&self, cid: &Cid) {
        let mut uses = self.uses();
        if uses.len() < MAX_USES {
            uses.insert(*cid);
        }
    }

    /// Writes down that what was used since the last call was used at `now` (Unix seconds), as the
    /// files' times of modification: not a write for each read.
    pub fn note_uses(&self, now: u64) -> Result<()> {
        self.dropped.save()?;
        let mut uses = self.uses();
        let Some(time) = UNIX_EPOCH.checked_add(Duration::from_secs(now)) else { return Ok(()) };
        for cid in std::mem::take(&mut *uses) {
            let path = self.path_of(&cid);
            let touched = File::open(&path).and_then(|file| file.set_times(FileTimes::new().set_modified(time)));
            match touched {
                Ok(()) => {}
                Err(error) => drop(absent::<()>(error, "touch", &path)?),
            }
        }
        Ok(())
    }
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

fn is_temporary(path: &Path) -> bool {
    name(path).is_some_and(|name| name.starts_with(TEMPORARY))
}

fn temporary_in(folder: &Path) -> PathBuf {
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()))
}

/// What lies in a folder; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let list = fs::read_dir(folder).map_err(|e| failed("list", folder, e))?;
    list.map(|entry| entry.map(|entry| entry.path()).map_err(|e| failed("list", folder, e))).collect()
}

fn failed(doing: &str, path: &Path, source: std::io::Error) -> StoreError {
    StoreError::io(format!("cannot {doing} {}", path.display()), source)
}

fn absent<T>(error: std::io::Error, doing: &str, path: &Path) -> Result<Option<T>> {
    if error.kind() == ErrorKind::NotFound { Ok(None) } else { Err(failed(doing, path, error)) }
}

#[cfg(test)]
mod tests;
