//! Artifacts: scripts, evaluators and datasets as plain files named by their hash.
//!
//! An artifact is the file `artifacts/<2 hex>/<62 hex>`, which is complete whenever it exists. An artifact of more than
//! one chunk has a list of its chunks' hashes beside it ([`chunks`]). A disk may rot and a person may edit a file, so
//! bytes are hashed whenever they are written and whenever they are read, whole or in part. No byte leaves this module
//! unchecked, except through [`Artifacts::path`], whose callers check the hash themselves.

mod age;
mod chunks;
mod dropped;
mod graphs;
mod list_file;
mod pins;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::{HashSet, VecDeque},
    fs::{self, File, FileTimes},
    io::ErrorKind,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, UNIX_EPOCH},
};

use spore_protocol::Cid;

pub use self::writer::ArtifactWriter;
use self::{
    chunks::{CHUNK, Chunks, Hasher},
    dropped::DroppedList,
    graphs::Graphs,
    pins::Pins,
    reader::ArtifactReader,
};
use crate::{
    error::{Result, StoreError},
    files::{TEMPORARY, absent},
};

/// Ending of a list of chunks, after its artifact's name.
const LIST: &str = ".chunks";

/// Most bytes of one range that is read: as much as one message may carry.
const MAX_RANGE: usize = 16 << 20;

/// Lists of chunks kept in memory, for the large artifacts that peers fetch at one time. A list has 32 bytes for each
/// MiB of its artifact.
const LISTS: usize = 16;

/// Most artifacts whose use is remembered between two calls of [`Artifacts::note_uses`]: 4 MiB of memory. Further uses
/// are not noted, and those artifacts then seem to be unused for longer than they are.
const MAX_USES: usize = 1 << 16;

/// The folder of artifacts.
pub struct Artifacts {
    root: PathBuf,
    read_only: bool,
    lists: Mutex<VecDeque<(Cid, Arc<Chunks>)>>,
    /// Artifacts used since the last call of [`Artifacts::note_uses`].
    uses: Mutex<HashSet<Cid>>,
    pub pins: Pins,
    pub dropped: DroppedList,
    pub graphs: Graphs,
}

/// An artifact's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArtifactFileStat {
    pub cid: Cid,
    /// In bytes.
    pub size: u64,
    /// Unix seconds, as coarse as the calls of [`Artifacts::note_uses`].
    pub last_used: u64,
}

impl Artifacts {
    pub fn new(root: PathBuf, read_only: bool) -> Self {
        let (pins, dropped) = (Pins::new(&root), DroppedList::new(&root));
        let graphs = Graphs::new(&root, read_only);
        Self { root, read_only, lists: Mutex::default(), uses: Mutex::default(), pins, dropped, graphs }
    }

    /// Removes incomplete files that a crash left. Only the holder of the directory's lock may call this.
    pub fn sweep(&self) -> Result<()> {
        fs::create_dir_all(&self.root).map_err(|e| StoreError::io("create", &self.root, &e))?;
        for path in entries(&self.root)? {
            if name(&path).is_some_and(|name| name.starts_with(TEMPORARY)) {
                fs::remove_file(&path).map_err(|e| StoreError::io("remove", &path, &e))?;
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

    /// The artifact's file, if it exists. Its bytes are not checked.
    pub fn path(&self, cid: &Cid) -> Option<PathBuf> {
        let path = self.path_of(cid);
        path.is_file().then_some(path)
    }

    /// In bytes. None where there is no such artifact.
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

    /// Removes the file if it is damaged, after a caller found damage in it. The file is read again, because an
    /// undamaged one may have replaced it since. False when the file is not damaged; then its list of chunks is removed,
    /// to be made again.
    pub fn remove_damaged(&self, cid: &Cid) -> Result<bool> {
        let path = self.path_of(cid);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return Ok(absent::<()>(error, "open", &path)?.is_some()),
        };
        let read = file.metadata().map_err(|e| StoreError::io("look at", &path, &e))?;
        let mut hasher = Hasher::default();
        hasher.update_from(&file).map_err(|e| StoreError::io("read", &path, &e))?;
        let sound = hasher.finish().0 == *cid;
        let uses = self.uses();
        let same = |there: fs::Metadata| {
            let file = |file: &fs::Metadata| (file.dev(), file.ino(), file.len(), file.mtime(), file.mtime_nsec());
            file(&there) == file(&read)
        };
        if !sound && fs::metadata(&path).is_ok_and(same) {
            return self.remove_while(&uses, cid);
        }
        self.lists().retain(|(other, _)| other != cid);
        remove_if_present(&self.list_of(cid))?;
        Ok(false)
    }

    /// Removes the file unless it was used since the last call of [`Artifacts::note_uses`]. False when it is kept.
    pub fn remove_unused(&self, cid: &Cid) -> Result<bool> {
        let uses = self.uses();
        if uses.contains(cid) { Ok(false) } else { self.remove_while(&uses, cid) }
    }

    /// Removes the file and its list. The lock on the uses is held meanwhile: whoever relies on an artifact notes its
    /// use under that lock.
    fn remove_while(&self, _uses: &MutexGuard<'_, HashSet<Cid>>, cid: &Cid) -> Result<bool> {
        self.lists().retain(|(other, _)| other != cid);
        let removed = remove_if_present(&self.path_of(cid))?;
        remove_if_present(&self.list_of(cid))?;
        Ok(removed)
    }

    /// At most `len` bytes from `offset` on, fewer at the end, checked.
    pub fn read_range(&self, cid: &Cid, offset: u64, len: usize) -> Result<Option<Vec<u8>>> {
        let Some(mut reader) = self.open(cid)? else { return Ok(None) };
        self.used(cid);
        let end = offset.saturating_add(len.min(MAX_RANGE) as u64).min(reader.size());
        let mut bytes = Vec::new();
        if offset >= end {
            return Ok(Some(bytes));
        }
        reader.seek(offset);
        let mut at = offset / CHUNK as u64 * CHUNK as u64;
        while at < end
            && let Some(chunk) = reader.next_chunk()?
        {
            let from = usize::try_from(offset.saturating_sub(at)).unwrap_or(usize::MAX);
            let to = usize::try_from(end - at).unwrap_or(usize::MAX).min(chunk.len());
            bytes.extend_from_slice(chunk.get(from..to).unwrap_or_default());
            at += chunk.len() as u64;
        }
        Ok(Some(bytes))
    }

    /// All bytes in checked chunks. Does not count as a use.
    pub fn open(&self, cid: &Cid) -> Result<Option<ArtifactReader>> {
        let Some(chunks) = self.chunks(cid)? else { return Ok(None) };
        Ok(Some(ArtifactReader::open(*cid, chunks, &self.path_of(cid))?))
    }

    /// Whether every byte is right. None where there is no such artifact. Does not count as a use.
    pub fn verify(&self, cid: &Cid) -> Result<Option<bool>> {
        let path = self.path_of(cid);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) => return absent(error, "open", &path),
        };
        let mut hasher = Hasher::default();
        hasher.update_from(file).map_err(|e| StoreError::io("read", &path, &e))?;
        Ok(Some(hasher.finish().0 == *cid))
    }

    /// The hashes of the artifact's chunks. Where the list is missing or damaged, it is made from the file, which is
    /// read as a whole and checked against the artifact's hash for that.
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
        let bytes = fs::read(&list).map_err(|e| StoreError::io("read", &list, &e))?;
        Ok(Chunks::decode(cid, &bytes).filter(|chunks| chunks.size == size))
    }

    fn make_list(&self, cid: &Cid) -> Result<Chunks> {
        let path = self.path_of(cid);
        let mut hasher = Hasher::default();
        let file = File::open(&path).map_err(|e| StoreError::io("open", &path, &e))?;
        hasher.update_from(file).map_err(|e| StoreError::io("read", &path, &e))?;
        let (actual, chunks) = hasher.finish();
        if actual != *cid {
            return Err(StoreError::DamagedArtifact { cid: *cid, offset: 0 });
        }
        if !self.read_only
            && let Err(error) = writer::write_list(&self.root, &self.list_of(cid), cid, &chunks)
        {
            // Reading must not fail because the disk is full. The list is made again another time.
            tracing::debug!(%cid, %error, "could not write a list of chunks");
        }
        Ok(chunks)
    }

    /// Stores these bytes under their hash. A damaged file of that name is replaced.
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

    /// Begins to write an artifact of at most `limit` bytes.
    pub fn begin(&self, cid: Cid, limit: u64) -> Result<ArtifactWriter> {
        fs::create_dir_all(&self.root).map_err(|e| StoreError::io("create", &self.root, &e))?;
        self.used(&cid);
        self.dropped.forget(&cid);
        ArtifactWriter::new(&self.root, cid, limit, self.path_of(&cid), self.list_of(&cid))
    }

    /// Removes lists of chunks without an artifact: a crash came before the artifact got its name, or a person removed
    /// it.
    pub fn sweep_lists(&self) -> Result<()> {
        for folder in entries(&self.root)? {
            for list in entries(&folder)? {
                let artifact = name(&list).and_then(|name| name.strip_suffix(LIST)).map(|name| folder.join(name));
                // An artifact that is being written has its list before its name. Its list is made again when needed.
                if artifact.is_some_and(|artifact| !artifact.exists()) {
                    remove_if_present(&list)?;
                }
            }
        }
        Ok(())
    }

    /// Visits every artifact, in no order. Stops at an error.
    pub fn each(&self, visit: &mut dyn FnMut(ArtifactFileStat) -> Result<()>) -> Result<()> {
        for folder in entries(&self.root)? {
            let Some(start) = name(&folder).filter(|name| name.len() == 2).map(str::to_owned) else { continue };
            for path in entries(&folder)? {
                let Some(cid) = name(&path).and_then(|rest| format!("{start}{rest}").parse().ok()) else { continue };
                let file = match fs::metadata(&path) {
                    Ok(file) => file,
                    // Removed since the folder was listed.
                    Err(error) if error.kind() == ErrorKind::NotFound => continue,
                    Err(error) => return Err(StoreError::io("look at", &path, &error)),
                };
                let last_used = file.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                visit(ArtifactFileStat { cid, size: file.len(), last_used: last_used.unwrap_or_default().as_secs() })?;
            }
        }
        Ok(())
    }

    fn uses(&self) -> MutexGuard<'_, HashSet<Cid>> {
        // A panic cannot leave a set of addresses half changed.
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

    /// Sets the modification time of every artifact used since the last call to `now` (Unix seconds). The times are
    /// written together, so that a read does not cause a write.
    pub fn note_uses(&self, now: u64) -> Result<()> {
        self.dropped.save()?;
        let mut uses = self.uses();
        let Some(time) = UNIX_EPOCH.checked_add(Duration::from_secs(now)) else { return Ok(()) };
        for cid in std::mem::take(&mut *uses) {
            let path = self.path_of(&cid);
            let touched = File::open(&path).and_then(|file| file.set_times(FileTimes::new().set_modified(time)));
            match touched {
                Ok(()) => {}
                Err(error) => drop(absent::<()>(error, "set the time of", &path)?),
            }
        }
        Ok(())
    }
}

fn name(path: &Path) -> Option<&str> {
    path.file_name()?.to_str()
}

/// The paths in a folder. Empty where there is no such folder.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let failed = |e: std::io::Error| StoreError::io("list", folder, &e);
    fs::read_dir(folder).map_err(failed)?.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// Removes a file. False where there was none.
fn remove_if_present(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) => Ok(absent::<()>(error, "remove", path)?.is_some()),
    }
}
