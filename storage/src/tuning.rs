//! How the database is opened: what RocksDB may use of memory and disk, and how each column is stored according to
//! its use.
//!
//! The numbers are for a node that shares its machine with other programs and may hold a million records.
//! docs/storage.md has the measurements.

use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, LogLevel, Options, SliceTransform,
    WriteOptions,
};

use crate::columns::Column;

/// What a database is opened for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Created where it is missing.
    Write,
    Read,
    /// Read as far as possible: files that are cut short do not matter, and the write-ahead log is read beyond
    /// damaged records, at the first of which it ends otherwise. Everything that is read has to be verified.
    Salvage,
    /// Created to be thrown away, or to be complete only after [`crate::db::Db::seal`]: its batches are not logged.
    Scratch,
}

impl Access {
    pub fn reads_only(self) -> bool {
        matches!(self, Self::Read | Self::Salvage)
    }
}

/// One block cache for all columns, indexes and filters included. The often-read entries of a million records fit,
/// and a relay stays below 400 MiB.
const BLOCK_CACHE: usize = 128 << 20;
/// Whole entries that were read by key: some 80 000 records. The hundred records of a listing lie in as many blocks,
/// and without this cache each of these blocks would have to stay in the block cache.
const ROW_CACHE: usize = 96 << 20;
/// Block cache of a database that is thrown away, or salvaged. It is read once, in order, and beside an open store.
const SCRATCH_CACHE: usize = 8 << 20;
/// Most bytes of all memtables together. The limit of the write-ahead log is reached before this one.
const WRITE_BUFFERS: usize = 96 << 20;
/// Bytes of the write-ahead log above which the oldest memtables are flushed: some 25 000 records. A start after a
/// crash then takes a second or so. With a lower limit, memtables are flushed and merged more often. The log is not
/// compressed, because that would take as much processor time as writing to the memtables.
const WAL_LIMIT: u64 = 64 << 20;
/// Table files kept open. The usual limit of a process is 1024 files.
const OPEN_FILES: i32 = 256;
/// Bytes of RocksDB's own log, which has warnings only.
const LOG_FILE: usize = 1 << 20;
/// Flushes and compactions at the same time: one of each, beside the node's own work.
const BACKGROUND_JOBS: i32 = 2;

/// Bytes of the memtable of a column with large values.
const BULK_BUFFER: usize = 16 << 20;
/// Bytes of the memtable of any other column.
const BUFFER: usize = 8 << 20;
/// Bytes by which a memtable grows. Each column has a memtable, and most hold little.
const ARENA: usize = 64 << 10;
/// Bytes of an uncompressed block in a column whose large values are read one at a time.
const BULK_BLOCK: usize = 16 << 10;
/// Bytes of an uncompressed block in any other column. Larger blocks compress better, smaller ones are read faster.
const BLOCK: usize = 8 << 10;
/// Bytes of the compression dictionary of a file of objects. It has what the blocks of the file have in common, such
/// as the names of fields, nodes and classes. Without it, each block of some ten records would contain them again.
const DICTIONARY: i32 = 32 << 10;
/// Bytes of a file with a dictionary. The file is held in memory until its dictionary is made.
const BULK_FILE: u64 = 16 << 20;
/// Flushed files of an index that wait to be merged. Each merge writes most of the index again; each waiting file is
/// one more file to search.
const FILES_TO_MERGE: i32 = 8;
/// Bits of a bloom filter for each key: 10 give about 1 % false positives.
const BLOOM_BITS: f64 = 10.0;

/// Share of a memtable that its own bloom filter takes.
const MEMTABLE_BLOOM: f64 = 0.02;

/// Options of the column of objects that can only be set once the database is open. By default, RocksDB rewrites each
/// file of objects as soon as a snapshot was released, to save 7 bytes of each entry. That takes as much work as
/// writing the file did, while a reader waits for an answer.
pub const OBJECTS_OPENED: &[(&str, &str)] = &[("bottommost_file_compaction_delay", "4294967295")];

/// How a column is used. It decides how the column is stored.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AccessPattern {
    /// Large values in the order of arrival. Flushed files are never merged.
    Bulk,
    /// Also read by whole keys. A bloom filter saves searching most files.
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

/// Whether most entries are read once only.
const fn is_read_once(access: Access) -> bool {
    matches!(access, Access::Scratch | Access::Salvage)
}

/// The block cache that all columns share.
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

/// Options of a write. It is on disk when it returns, except in a database that is thrown away.
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
        // Most lookups in this column are for objects that are not stored yet.
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

/// The default level of Zstandard.
const LEVEL: i32 = 3;
/// Indexes are merged again and again, and most of their entropy is that of ids.
const INDEX_LEVEL: i32 = 1;
/// The default window of Zstandard.
const WINDOW: i32 = -14;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::db::Db;

    #[test]
    fn salvaged_database_has_a_small_cache() {
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
