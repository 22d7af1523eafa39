//! How the database is set up: what RocksDB may use of memory and disk, and how each column is
//! written, by the way it is used. The figures are those of a node that is a guest on its machine and
//! may hold a million records (docs/storage.md has the measurements).

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel, Options, SliceTransform,
    WriteOptions,
};

use crate::columns::Column;

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Made where it is missing.
    Write,
    Read,
    /// Read as far as it can be: beside files that are cut short, and behind damaged records of the log,
    /// which ends at the first such record when it is opened otherwise. What is read is to be verified.
    Salvage,
    /// Made to be thrown away, or to be complete only once [`Db::seal`] was called: its batches are
    /// not logged.
    Scratch,
}

impl Access {
    pub fn reads_only(self) -> bool {
        matches!(self, Self::Read | Self::Salvage)
    }
}

/// One block cache for all columns, indexes and filters included: what is asked for often of a
/// million records fits, and a relay stays below 400 MiB.
const BLOCK_CACHE: usize = 128 << 20;
/// Whole entries that were asked for by key, so that a hundred records of a listing, which lie in as many
/// blocks, do not each need a block kept: some 80 000 records.
const ROW_CACHE: usize = 96 << 20;
/// Of a database that is thrown away, or read as far as it can be: once, in order, and beside an open store.
const SCRATCH_CACHE: usize = 8 << 20;
/// All memtables together. The log of writes is the nearer bound.
const WRITE_BUFFERS: usize = 96 << 20;
/// Log of writes above which the oldest memtables are flushed: some 25 000 records. Bounds the time
/// that opening after a crash takes to a second or so. What is flushed more often is merged more
/// often. Not compressed, which would take as much of a core as writing to the memtables does.
const WAL_LIMIT: u64 = 64 << 20;
/// Table files kept open; the usual limit of a process is 1024.
const OPEN_FILES: i32 = 256;
/// RocksDB's own log, of warnings only.
const LOG_FILE: usize = 1 << 20;
/// Flushes and compactions at once: one of each beside the node's own work.
const BACKGROUND_JOBS: i32 = 2;

/// Memtable of a column with large values, in bytes.
const BULK_BUFFER: usize = 16 << 20;
/// Memtable of any other column.
const BUFFER: usize = 8 << 20;
/// A memtable grows in such steps. Each column has one, and most hold little.
const ARENA: usize = 64 << 10;
/// Uncompressed block where large values are read one at a time.
const BULK_BLOCK: usize = 16 << 10;
/// Uncompressed block of any other column: larger ones compress better, smaller ones are read faster.
const BLOCK: usize = 8 << 10;
/// What the blocks of one file have in common is kept once: the names of fields, nodes and classes
/// are found in it, which a block of some ten records would have to hold itself.
const DICTIONARY: i32 = 32 << 10;
/// Files of columns with dictionaries: a file is held in memory until its dictionary is made.
const BULK_FILE: u64 = 16 << 20;
/// Flushed files of an index that wait to be merged into the rest of it. Each merge writes most of
/// the index again; each waiting file is one more place to look in.
const FILES_TO_MERGE: i32 = 8;
/// 10 bits a key give about 1 % false positives.
const BLOOM_BITS: f64 = 10.0;

/// Part of a memtable that its own filter takes.
const MEMTABLE_BLOOM: f64 = 0.02;

/// Set on the column of objects once the database is open, as there is no other way here. Without it,
/// RocksDB writes every file of objects once more as soon as a snapshot was read and let go, to spare
/// 7 bytes of each entry: as much work as the first time, while somebody waits for an answer.
pub const OBJECTS_OPENED: &[(&str, &str)] = &[("bottommost_file_compaction_delay", "4294967295")];

/// How a column is used, which decides how it is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AccessPattern {
    /// Large values in the order of arrival: what is flushed is never merged again.
    Bulk,
    /// Also asked for by whole keys: a filter spares looking into most files.
    Lookup,
    /// Only read in ranges.
    Range,
}

const fn used(column: Column) -> AccessPattern {
    match column {
        Column::Objects => AccessPattern::Bulk,
        Column::Log | Column::LogByTask | Column::Timeline | Column::Metrics | Column::Frontier | Column::Activity => {
            AccessPattern::Range
        }
        _ => AccessPattern::Lookup,
    }
}

/// Whether little is asked for twice.
const fn is_read_once(access: Access) -> bool {
    matches!(access, Access::Scratch | Access::Salvage)
}

/// What all columns share.
pub fn cache(access: Access) -> Cache {
    Cache::new_lru_cache(if is_read_once(access) { SCRATCH_CACHE } else { BLOCK_CACHE })
}

/// Options of the whole database.
pub fn database(access: Access) -> Options {
    let create = matches!(access, Access::Write | Access::Scratch);
    let mut options = Options::default();
    if !is_read_once(access) {
        options.set_row_cache(&Cache::new_lru_cache(ROW_CACHE));
    }
    options.create_if_missing(create);
    options.create_missing_column_families(create);
    options.set_db_write_buffer_size(WRITE_BUFFERS);
    options.set_max_total_wal_size(WAL_LIMIT);
    options.set_max_open_files(OPEN_FILES);
    options.set_max_background_jobs(BACKGROUND_JOBS);
    options.set_log_level(LogLevel::Warn);
    options.set_keep_log_file_num(2);
    options.set_max_log_file_size(LOG_FILE);
    options
}

/// A write that is on disk when it returns; not, in a database that is thrown away.
pub fn write(access: Access) -> WriteOptions {
    let mut options = WriteOptions::default();
    match access {
        Access::Scratch => options.disable_wal(true),
        _ => options.set_sync(true),
    }
    // The entries of a batch are sorted within each column.
    options.set_memtable_insert_hint_per_batch(true);
    options
}

/// A column with its options.
pub fn column(column: Column, cache: &Cache) -> ColumnFamilyDescriptor {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_cache_index_and_filter_blocks(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);
    let mut options = Options::default();
    options.set_arena_block_size(ARENA);
    options.set_compression_type(DBCompressionType::Zstd);
    match used(column) {
        AccessPattern::Bulk => {
            table.set_block_size(BULK_BLOCK);
            options.set_write_buffer_size(BULK_BUFFER);
            options.set_target_file_size_base(BULK_FILE);
            options.set_compression_options(WINDOW, LEVEL, 0, DICTIONARY);
        }
        AccessPattern::Lookup | AccessPattern::Range => {
            table.set_block_size(BLOCK);
            options.set_write_buffer_size(BUFFER);
            options.set_level_zero_file_num_compaction_trigger(FILES_TO_MERGE);
            options.set_compression_options(WINDOW, INDEX_LEVEL, 0, 0);
        }
    }
    if used(column) == AccessPattern::Lookup || column.prefix().is_some() {
        table.set_bloom_filter(BLOOM_BITS, false);
    }
    if column == Column::Ids {
        // Most of what is asked for here is new.
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM);
        options.set_memtable_whole_key_filtering(true);
    }
    if let Some(length) = column.prefix() {
        options.set_prefix_extractor(SliceTransform::create_fixed_prefix(length));
        options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM);
    }
    options.set_block_based_table_factory(&table);
    ColumnFamilyDescriptor::new(column.name(), options)
}

/// Zstandard's usual level and window.
const LEVEL: i32 = 3;
/// What is merged again and again: keys in order, of whose entropy most is that of ids.
const INDEX_LEVEL: i32 = 1;
const WINDOW: i32 = -14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[test]
    fn what_is_read_once_takes_little_memory_beside_a_store() {
        let dir = tempfile::tempdir().unwrap();
        for (access, expected) in
            [(Access::Write, BLOCK_CACHE), (Access::Read, BLOCK_CACHE), (Access::Salvage, SCRATCH_CACHE)]
        {
            let db = Db::open(dir.path(), access).unwrap();
            let column = db.column(Column::Objects).unwrap();
            let capacity = db.raw().property_int_value_cf(column, rocksdb::properties::BLOCK_CACHE_CAPACITY);
            assert_eq!(capacity.unwrap(), Some(expected as u64), "{access:?}");
        }
    }
}
