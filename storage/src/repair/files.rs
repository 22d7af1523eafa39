//! Reads every byte on disk once and checks it: the blocks of the database's tables against their checksums, and the
//! artifacts against their addresses.

use std::path::Path;

use rocksdb::{LiveFile, checkpoint::Checkpoint};
use spore_protocol::Cid;

use crate::{
    artifacts::Artifacts,
    columns::Column,
    db::{Db, KeyScanner},
    error::Result,
    layout::{self, ScratchFolder},
    progress::{Stage, Watch, notify},
    salvage::{SalvageScan, ScanStep},
    store::Store,
    tuning::Access,
    types::DamagedFile,
};

/// Most damaged files that a report lists. A store has some thousand files at most.
const MAX_DAMAGES: usize = 1000;

/// Artifacts between two progress reports.
const REPORT: u64 = 50;

/// The result of reading all files.
#[derive(Clone, Debug, Default)]
pub struct FilesReport {
    /// Table files and artifacts that were read.
    pub files: u64,
    pub artifacts: u64,
    pub damaged: Vec<DamagedFile>,
    /// Artifacts that do not match their address. In a store open for writing they were removed, and can be fetched
    /// again.
    pub damaged_artifacts: Vec<Cid>,
}

impl Store {
    /// Reads every block of the database and every artifact, and reports what is damaged. Can run while the store is
    /// in use. In a store open for writing it reads hard links of the tables with a cache of its own, because the
    /// store's cache would hide damage on the disk. Where a table is missing, it reads the store itself.
    ///
    /// # Errors
    /// [`crate::StoreError::Cancelled`], [`crate::StoreError::Io`].
    pub fn verify_files(&self, watch: &mut Watch<'_>) -> Result<FilesReport> {
        let mut report = FilesReport::default();
        let (files, cut) = cut_files(self.database(), &layout::database(self.dir()))?;
        (report.files, report.damaged) = (files, cut);
        if self.read_only() {
            self.scan_blocks(&self.view(), &mut report, watch)?;
        } else {
            let scratch = ScratchFolder::new(self.dir())?;
            let copy = scratch.path().join("checkpoint");
            // The write-ahead log is copied instead of flushed: a flush would also compact tables that may be
            // damaged.
            match Checkpoint::new(self.database().raw())?.create_checkpoint_with_log_size(&copy, u64::MAX) {
                Ok(()) => self.scan_blocks(&Db::open(&copy, Access::Salvage)?, &mut report, watch)?,
                Err(error) if report.damaged.is_empty() => return Err(error.into()),
                // A missing table cannot be linked, and is reported already.
                Err(_) => self.scan_blocks(&self.view(), &mut report, watch)?,
            }
        }
        verify_artifacts(self.artifacts(), !self.read_only(), &mut report, watch)?;
        Ok(report)
    }

    fn scan_blocks(&self, source: &dyn KeyScanner, report: &mut FilesReport, watch: &mut Watch<'_>) -> Result<()> {
        for (done, column) in Column::ALL.into_iter().enumerate() {
            notify(watch, Stage::Scan, done as u64, Column::ALL.len() as u64)?;
            for step in SalvageScan::new(source, column) {
                if let ScanStep::Damage(why) = step?
                    && report.damaged.len() < MAX_DAMAGES
                {
                    report.damaged.push(DamagedFile::in_column(column, why));
                }
            }
        }
        Ok(())
    }
}

/// Reads every artifact, and removes damaged ones if `remove` is true.
pub fn verify_artifacts(
    artifacts: &Artifacts,
    remove: bool,
    report: &mut FilesReport,
    watch: &mut Watch<'_>,
) -> Result<()> {
    artifacts.each(&mut |stored| {
        // `remove_damaged` reads the file again, because an undamaged one may have replaced it.
        if artifacts.verify(&stored.cid)? == Some(false)
            && (!remove || artifacts.remove_damaged(&stored.cid)?)
            && report.damaged_artifacts.len() < MAX_DAMAGES
        {
            report.damaged_artifacts.push(stored.cid);
        }
        report.artifacts += 1;
        if report.artifacts.is_multiple_of(REPORT) {
            notify(watch, Stage::Artifacts, report.artifacts, 0)?;
        }
        Ok(())
    })
}

/// The number of table files of the database, and the files whose length is not as it was written.
pub fn cut_files(db: &Db, dir: &Path) -> Result<(u64, Vec<DamagedFile>)> {
    let files = db.raw().live_files()?;
    let mut cut: Vec<DamagedFile> = files.iter().filter_map(|file| cut_file(file, dir)).collect();
    if !cut.is_empty() {
        // A compaction may have replaced one of these files meanwhile.
        let live = db.raw().live_files()?;
        cut.retain(|cut| live.iter().any(|file| cut.file.as_deref() == Some(table_name(file))));
    }
    Ok((files.len() as u64, cut))
}

fn cut_file(file: &LiveFile, dir: &Path) -> Option<DamagedFile> {
    let name = table_name(file);
    let why = match std::fs::metadata(dir.join(name)).map(|file| file.len()) {
        Ok(length) if length == file.size as u64 => return None,
        Ok(length) => format!("it has {length} bytes of {}", file.size),
        Err(error) => error.to_string(),
    };
    Some(DamagedFile { column: file.column_family_name.clone(), file: Some(name.into()), why })
}

fn table_name(file: &LiveFile) -> &str {
    file.name.trim_start_matches('/')
}
