//! The file that keeps a signed history, so that only the first run has to sign it.

use std::{
    error::Error,
    fs::{self, File},
    io::{BufReader, BufWriter, ErrorKind, Read, Write},
    path::{Path, PathBuf},
    thread,
};

use spore_protocol::{Kind, SignedObject};

use crate::history;

/// Raised when `history` makes other records than before: older files are not read then.
const VERSION: u32 = 2;

/// An object as it travels: what a node gets before it decodes it.
pub struct Raw {
    pub kind: Kind,
    pub signature: [u8; 64],
    pub canonical: Vec<u8>,
}

/// The history of this many records, out of the file where there is one.
///
/// # Errors
/// When the folder cannot be written, or the file is damaged.
pub fn load(folder: &Path, records: usize) -> Result<Vec<Raw>, Box<dyn Error>> {
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
    read(&path)
}

fn path(folder: &Path, records: usize) -> PathBuf {
    folder.join(format!("history-{VERSION}-{records}"))
}

fn read(path: &Path) -> Result<Vec<Raw>, Box<dyn Error>> {
    let mut file = BufReader::new(File::open(path)?);
    let mut objects = Vec::new();
    loop {
        let mut head = [0; 69];
        match file.read_exact(&mut head) {
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(objects),
            other => other?,
        }
        let [code, rest @ ..] = head;
        let (length, signature) = rest.split_first_chunk::<4>().ok_or("a head is short")?;
        let mut canonical = vec![0; usize::try_from(u32::from_be_bytes(*length))?];
        file.read_exact(&mut canonical)?;
        objects.push(Raw {
            kind: Kind::from_code(code).ok_or("an unknown kind of object")?,
            signature: signature.try_into()?,
            canonical,
        });
    }
}

/// Decodes on all cores, as network tasks do before they hand objects to a node's one door.
///
/// # Errors
/// When an object is not what was written.
pub fn decode(raw: &[Raw]) -> Result<Vec<SignedObject>, Box<dyn Error>> {
    let cores = thread::available_parallelism()?.get();
    let parts: Vec<Result<Vec<_>, _>> = thread::scope(|scope| {
        let one = |raw: &Raw| SignedObject::from_canonical(raw.kind, &raw.canonical, raw.signature);
        let workers: Vec<_> = raw
            .chunks(raw.len().div_ceil(cores).max(1))
            .map(|part| scope.spawn(move || part.iter().map(one).collect::<Result<Vec<_>, _>>()))
            .collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).collect()
    });
    let mut objects = Vec::with_capacity(raw.len());
    for part in parts {
        objects.extend(part?);
    }
    Ok(objects)
}
