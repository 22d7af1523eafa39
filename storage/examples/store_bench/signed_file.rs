//! The file with a signed history, so that only the first run has to sign it.

use std::{
    error::Error,
    fs::{self, File},
    io::{BufWriter, Write},
    ops::Range,
    path::{Path, PathBuf},
    thread,
};

use spore_protocol::{Kind, SignedObject};

use crate::history;

/// Increased when `history` makes other records than before, so that older files are not read.
const VERSION: u32 = 2;

/// Bytes before an object's canonical bytes: kind code, length of the canonical bytes, signature.
const HEAD: usize = 1 + 4 + 64;

/// An object's kind, signature and canonical bytes.
type ObjectParts<'a> = (Kind, &'a [u8; 64], &'a [u8]);

/// A signed history in one piece of memory. A million objects made beforehand would leave an allocator that is slower
/// for everything measured afterwards.
pub struct SignedHistory {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

impl SignedHistory {
    /// The history of this many records, from its file if there is one.
    ///
    /// # Errors
    /// When the folder cannot be written, or the file is damaged.
    pub fn load(folder: &Path, records: usize) -> Result<Self, Box<dyn Error>> {
        let path = path(folder, records);
        if !path.is_file() {
            eprintln!("signing {records} records (kept in {} for the next run)", path.display());
            fs::create_dir_all(folder)?;
            let unfinished = path.with_extension("part");
            let mut file = BufWriter::new(File::create(&unfinished)?);
            for object in history::make(records)? {
                file.write_all(&[object.kind().code()])?;
                file.write_all(&u32::try_from(object.canonical().len())?.to_be_bytes())?;
                file.write_all(object.signature())?;
                file.write_all(object.canonical())?;
            }
            file.into_inner()?.sync_all()?;
            fs::rename(unfinished, &path)?;
        }
        let mut history = Self { bytes: fs::read(path)?, starts: Vec::new() };
        let mut start = 0;
        while start < history.bytes.len() {
            history.starts.push(start);
            start += HEAD + history.parts(start)?.2.len();
        }
        Ok(history)
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    /// The object that begins at byte `start`.
    fn parts(&self, start: usize) -> Result<ObjectParts<'_>, Box<dyn Error>> {
        let rest = self.bytes.get(start..).ok_or("an object is missing")?;
        let (code, rest) = rest.split_first().ok_or("an object is missing")?;
        let (length, rest) = rest.split_first_chunk::<4>().ok_or("a head is short")?;
        let (signature, rest) = rest.split_first_chunk::<64>().ok_or("a head is short")?;
        let canonical = rest.get(..usize::try_from(u32::from_be_bytes(*length))?).ok_or("an object is cut short")?;
        Ok((Kind::from_code(*code).ok_or("an unknown kind of object")?, signature, canonical))
    }

    /// Each object's signature and canonical bytes.
    pub fn texts(&self) -> impl Iterator<Item = (&[u8; 64], &[u8])> {
        self.starts.iter().filter_map(|start| self.parts(*start).ok()).map(|(_, signature, text)| (signature, text))
    }

    /// One object.
    ///
    /// # Errors
    /// When it is not as it was written.
    pub fn object(&self, at: usize) -> Result<SignedObject, Box<dyn Error>> {
        let (kind, signature, canonical) = self.parts(*self.starts.get(at).ok_or("no such object")?)?;
        Ok(SignedObject::from_canonical(kind, canonical, *signature)?)
    }

    /// Decodes objects on all cores, as a node's network tasks do.
    ///
    /// # Errors
    /// When an object is not as it was written.
    pub fn decode(&self, range: Range<usize>) -> Result<Vec<SignedObject>, Box<dyn Error>> {
        let range = range.start..range.end.min(self.len());
        let cores = thread::available_parallelism()?.get();
        let part = range.len().div_ceil(cores).max(1);
        let parts: Vec<Result<Vec<_>, String>> = thread::scope(|scope| {
            let one = |at: usize| self.object(at).map_err(|error| error.to_string());
            let workers: Vec<_> = range
                .clone()
                .step_by(part)
                .map(|from| {
                    let to = range.end.min(from + part);
                    scope.spawn(move || (from..to).map(one).collect())
                })
                .collect();
            workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
        });
        let mut objects = Vec::with_capacity(range.len());
        for part in parts {
            objects.extend(part?);
        }
        if objects.len() == range.len() { Ok(objects) } else { Err("a decoding thread ended early".into()) }
    }
}

fn path(folder: &Path, records: usize) -> PathBuf {
    folder.join(format!("history-{VERSION}-{records}"))
}
