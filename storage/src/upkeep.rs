//! The disk space and memory that the store takes, and compaction. Both work while the store is in use.

use std::{fs, path::Path};

use rocksdb::properties;

use crate::{
    columns::Column,
    error::{Result, StoreError},
    layout,
    progress::{Stage, Watch, notify},
    store::Store,
};

/// The size of one column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnStats {
    pub name: &'static str,
    /// RocksDB's estimate. It may include overwritten and removed entries until they are compacted.
    pub keys: u64,
    /// Bytes of its table files.
    pub bytes: u64,
    pub files: u64,
    /// Bytes in memory that are not yet in a table file.
    pub memtable_bytes: u64,
}

/// The size of the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoreStats {
    pub columns: Vec<ColumnStats>,
    /// Bytes of the write-ahead logs.
    pub log_bytes: u64,
    pub artifacts: u64,
    pub artifact_bytes: u64,
    pub pins: u64,
    pub sequence: u64,
}

impl StoreStats {
    /// Bytes of all table files and write-ahead logs.
    pub fn database_bytes(&self) -> u64 {
        self.columns.iter().map(|column| column.bytes).sum::<u64>() + self.log_bytes
    }
}

impl Store {
    /// The size of each column and of the artifacts. Reads the size of each artifact's file.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stats(&self) -> Result<StoreStats> {
        let raw = self.database().raw();
        let mut stats = StoreStats { sequence: self.sequence(), ..StoreStats::default() };
        for column in Column::ALL {
            let handle = self.database().column(column)?;
            let files = raw.get_column_family_metadata_cf(handle);
            let number = |name| raw.property_int_value_cf(handle, name).map(Option::unwrap_or_default);
            stats.columns.push(ColumnStats {
                name: column.name(),
                keys: number(properties::ESTIMATE_NUM_KEYS)?,
                bytes: files.size,
                files: files.file_count as u64,
                memtable_bytes: number(properties::CUR_SIZE_ALL_MEM_TABLES)?,
            });
        }
        stats.log_bytes = bytes_of(&layout::database(self.dir()), ".log")?;
        self.artifacts().each(&mut |stored| {
            stats.artifacts += 1;
            stats.artifact_bytes += stored.size;
            Ok(())
        })?;
        stats.pins = self.artifacts().pins.all()?.len() as u64;
        Ok(stats)
    }

    /// Rewrites every column without overwritten and removed entries. Takes as much free disk space as the largest
    /// column, and some minutes for a million records.
    ///
    /// # Errors
    /// [`StoreError::ReadOnly`]; [`StoreError::Cancelled`] between two columns; [`StoreError::CompactionFailed`].
    pub fn compact(&self, watch: &mut Watch<'_>) -> Result<()> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        let before = self.background_errors()?;
        for (done, column) in Column::ALL.into_iter().enumerate() {
            notify(watch, Stage::Compact, done as u64, Column::ALL.len() as u64)?;
            let handle = self.database().column(column)?;
            self.database().raw().compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
            // The call itself returns no error.
            if self.background_errors()? > before {
                return Err(StoreError::CompactionFailed { column: column.name() });
            }
        }
        notify(watch, Stage::Compact, Column::ALL.len() as u64, Column::ALL.len() as u64)
    }

    fn background_errors(&self) -> Result<u64> {
        Ok(self.database().raw().property_int_value(properties::BACKGROUND_ERRORS)?.unwrap_or_default())
    }
}

/// Bytes of the files in a folder whose names end with `end`.
fn bytes_of(folder: &Path, end: &str) -> Result<u64> {
    let failed = |e: std::io::Error| StoreError::io("list", folder, &e);
    let mut bytes = 0;
    for entry in fs::read_dir(folder).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().to_string_lossy().ends_with(end) {
            // A file that was removed since the folder was listed counts nothing.
            bytes += entry.metadata().map(|file| file.len()).unwrap_or_default();
        }
    }
    Ok(bytes)
}
