//! What scripts compute: the graph hash of each script that was traced here, and the record that tried it.
//!
//! A local index in the file `artifacts/graphs`, a line for each script: graph hash, script, record or `-`. Scripts that
//! differ in comments, layout or names have one graph. No column holds it, because the columns are computed from the
//! objects, and no object says what a script computes. A lost or damaged line costs a trace, so bad lines are skipped.

use std::{
    collections::{HashMap, VecDeque},
    fs::{self, OpenOptions},
    io::Write as _,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use spore_protocol::{Cid, RecordId};

use crate::{
    error::{Result, StoreError},
    files::{absent, replace},
};

/// Scripts that are remembered, of some 250 bytes of memory each: what a node tries in months.
const SCRIPTS: usize = 16_384;
/// Lines after which the file is written anew without those that are forgotten.
const LINES: usize = 2 * SCRIPTS;
/// Most bytes of the file that are read: of so many lines of 195 bytes, with room to spare.
const MAX_BYTES: u64 = 8 << 20;
/// Records of one graph that are remembered: the first ones tell enough.
const RECORDS: usize = 8;

/// The index. The file is read at the first use.
pub struct Graphs {
    path: PathBuf,
    read_only: bool,
    known: Mutex<Option<Known>>,
}

#[derive(Default)]
struct Known {
    /// The graph of each script, and the record that ran it, as far as it is known.
    of: HashMap<Cid, (Cid, Option<RecordId>)>,
    /// The scripts in the order in which they came.
    order: VecDeque<Cid>,
    records: HashMap<Cid, Vec<RecordId>>,
    lines: usize,
}

impl Graphs {
    pub fn new(root: &Path, read_only: bool) -> Self {
        Self { path: root.join("graphs"), read_only, known: Mutex::new(None) }
    }

    /// The graph hash of a script.
    pub fn of(&self, script: &Cid) -> Result<Option<Cid>> {
        Ok(self.load()?.as_ref().and_then(|known| known.of.get(script)).map(|(graph, _)| *graph))
    }

    /// Records whose scripts have this graph, the first ones that were noted.
    pub fn records(&self, graph: &Cid) -> Result<Vec<RecordId>> {
        Ok(self.load()?.as_ref().and_then(|known| known.records.get(graph)).cloned().unwrap_or_default())
    }

    /// Notes what a script computes, and the record that ran it. A store that is only read remembers it in memory.
    pub fn note(&self, script: Cid, graph: Cid, record: Option<RecordId>) -> Result<()> {
        let mut held = self.load()?;
        let Some(known) = held.as_mut() else { return Ok(()) };
        if !known.add(script, graph, record) || self.read_only {
            return Ok(());
        }
        known.lines += 1;
        if known.lines > LINES {
            known.lines = known.of.len();
            let text: String =
                known.order.iter().filter_map(|script| Some(line(*script, known.of.get(script)?))).collect();
            let Some(folder) = self.path.parent() else { return Ok(()) };
            return replace(folder, &self.path, text.as_bytes());
        }
        self.append(&line(script, &(graph, record)))
    }

    fn append(&self, line: &str) -> Result<()> {
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(|e| StoreError::io("create", folder, &e))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        file.and_then(|mut file| file.write_all(line.as_bytes())).map_err(|e| StoreError::io("write", &self.path, &e))
    }

    fn load(&self) -> Result<MutexGuard<'_, Option<Known>>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_none() {
            *known = Some(self.read()?);
        }
        Ok(known)
    }

    fn read(&self) -> Result<Known> {
        let mut known = Known::default();
        let text = match fs::metadata(&self.path) {
            Ok(file) if file.len() > MAX_BYTES => return Ok(known),
            Ok(_) => fs::read(&self.path).map_err(|e| StoreError::io("read", &self.path, &e))?,
            Err(error) => absent(error, "read", &self.path)?.unwrap_or_default(),
        };
        for line in String::from_utf8_lossy(&text).lines() {
            known.lines += 1;
            let mut words = line.split(' ');
            let (graph, script) = (words.next().map(str::parse), words.next().map(str::parse));
            let (Some(Ok(graph)), Some(Ok(script))) = (graph, script) else { continue };
            known.add(script, graph, words.next().and_then(|record| record.parse().ok()));
        }
        Ok(known)
    }
}

impl Known {
    /// Adds what is new. False when nothing is.
    fn add(&mut self, script: Cid, graph: Cid, record: Option<RecordId>) -> bool {
        let before = self.of.get(&script).copied();
        let record = record.or(before.and_then(|(_, record)| record));
        if before == Some((graph, record)) {
            return false;
        }
        if self.of.insert(script, (graph, record)).is_none() {
            self.order.push_back(script);
        }
        if let Some(record) = record {
            let records = self.records.entry(graph).or_default();
            if records.len() < RECORDS && !records.contains(&record) {
                records.push(record);
            }
        }
        while self.order.len() > SCRIPTS {
            let Some((graph, _)) = self.order.pop_front().and_then(|oldest| self.of.remove(&oldest)) else { break };
            self.records.remove(&graph);
        }
        true
    }
}

fn line(script: Cid, (graph, record): &(Cid, Option<RecordId>)) -> String {
    let record = record.map_or_else(|| "-".to_owned(), |record| record.to_string());
    format!("{graph} {script} {record}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cid(number: usize) -> Cid {
        Cid::of(&number.to_be_bytes())
    }

    #[test]
    fn graphs_survive_a_restart_and_a_damaged_line() {
        let dir = tempfile::tempdir().unwrap();
        let (graph, record) = (cid(100), RecordId([7; 32]));
        let graphs = Graphs::new(dir.path(), false);
        graphs.note(cid(1), graph, None).unwrap();
        graphs.note(cid(1), graph, Some(record)).unwrap();
        graphs.note(cid(2), graph, None).unwrap();
        graphs.append("half a li").unwrap();
        graphs.append("ne\n").unwrap();
        graphs.note(cid(3), cid(101), Some(RecordId([8; 32]))).unwrap();
        let again = Graphs::new(dir.path(), true);
        assert_eq!((again.of(&cid(1)).unwrap(), again.of(&cid(2)).unwrap()), (Some(graph), Some(graph)));
        assert_eq!((again.records(&graph).unwrap(), again.of(&cid(9)).unwrap()), (vec![record], None));
        assert_eq!(again.records(&cid(101)).unwrap(), [RecordId([8; 32])]);
        again.note(cid(9), graph, None).unwrap();
        assert_eq!(
            Graphs::new(dir.path(), true).of(&cid(9)).unwrap(),
            None,
            "a store that is only read writes nothing"
        );
    }

    #[test]
    fn oldest_graphs_are_forgotten_and_the_file_stays_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let graphs = Graphs::new(dir.path(), false);
        let mut known = Known { lines: LINES, ..Known::default() };
        for number in 0..=SCRIPTS {
            known.add(cid(number), cid(number + SCRIPTS * 2), Some(RecordId([1; 32])));
        }
        *graphs.known.lock().unwrap() = Some(known);
        graphs.note(cid(SCRIPTS + 1), cid(5), None).unwrap();
        assert_eq!((graphs.of(&cid(0)).unwrap(), graphs.of(&cid(1)).unwrap()), (None, None));
        assert!(graphs.of(&cid(2)).unwrap().is_some() && graphs.records(&cid(SCRIPTS * 2)).unwrap().is_empty());
        assert_eq!(fs::read_to_string(dir.path().join("graphs")).unwrap().lines().count(), SCRIPTS);
    }
}
