//! The database: opening it with bounded memory, and reading it by key and by prefix.

use std::{ops::ControlFlow, path::Path};

use rocksdb::{
    ColumnFamily, ColumnFamilyDescriptor, DB, DBAccess, DBRawIteratorWithThreadMode, DBRecoveryMode, Direction,
    FlushOptions, IteratorMode, Options, PrefixRange, ReadOptions, SnapshotWithThreadMode, WriteBatch,
};

use crate::{
    columns::{Column, SCHEMA},
    error::{Damage, Result, StoreError},
    keys,
    tuning::{self, Access},
    values::{self, Totals},
};

/// Receives each key and value. Returns `Break` to stop the walk.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>> + 'a;

/// The order in which keys are visited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrder {
    Ascending,
    Descending,
}

/// Something that can be read by key and by prefix.
pub trait KeyReader {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>>;

    /// The values under these keys, in the order of the keys.
    fn get_all(&self, column: Column, keys: &[[u8; 8]]) -> Result<Vec<Option<Vec<u8>>>> {
        keys.iter().map(|key| self.get(column, key)).collect()
    }

    /// Visits the keys that start with `prefix`, in order. Begins at `from` (included), or else at the first key in
    /// that order.
    fn walk(
        &self,
        column: Column,
        prefix: &[u8],
        from: Option<&[u8]>,
        way: KeyOrder,
        visit: &mut Visit<'_>,
    ) -> Result<()>;

    /// Visits the keys that start with `prefix`, in ascending order.
    fn each(&self, column: Column, prefix: &[u8], visit: &mut Visit<'_>) -> Result<()> {
        self.walk(column, prefix, None, KeyOrder::Ascending, visit)
    }

    fn has(&self, column: Column, key: &[u8]) -> Result<bool> {
        Ok(self.get(column, key)?.is_some())
    }

    /// The keys that start with `prefix`. Only for prefixes with few keys.
    fn keys(&self, column: Column, prefix: &[u8]) -> Result<Vec<Vec<u8>>> {
        let mut keys = Vec::new();
        self.each(column, prefix, &mut |key, _| {
            keys.push(key.to_vec());
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(keys)
    }

    /// The first entry of a walk.
    fn first(
        &self,
        column: Column,
        prefix: &[u8],
        from: Option<&[u8]>,
        way: KeyOrder,
    ) -> Result<Option<(Vec<u8>, Vec<u8>)>> {
        let mut first = None;
        self.walk(column, prefix, from, way, &mut |key, value| {
            first = Some((key.to_vec(), value.to_vec()));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(first)
    }
}

/// A key and its value.
pub type KeyValue = (Box<[u8]>, Box<[u8]>);

/// Entries of a column in ascending order, read without filling the block cache.
pub type KeyValues<'a> = Box<dyn Iterator<Item = Result<KeyValue>> + 'a>;

/// Something that can also be scanned from end to end, by several threads.
pub trait KeyScanner: KeyReader + Sync {
    /// The entries from `from` on, up to the end or the first damage.
    fn scan<'a>(&'a self, column: Column, from: &[u8]) -> Result<KeyValues<'a>>;
}

/// An open database.
pub struct Db {
    inner: DB,
    access: Access,
}

impl Db {
    /// Opens the database in `dir`, and creates it where `access` allows that.
    pub fn open(dir: &Path, access: Access) -> Result<Self> {
        let exists = dir.join("CURRENT").exists();
        let read_only = access.reads_only();
        if exists {
            check_columns(dir)?;
        } else if read_only {
            return Err(StoreError::NotFound(dir.to_path_buf()));
        }
        let cache = tuning::cache(access);
        let mut options = tuning::database(access);
        if access == Access::Salvage {
            options.set_paranoid_checks(false);
            options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
        }
        let mut descriptors: Vec<_> = Column::ALL.iter().map(|column| tuning::column(*column, &cache)).collect();
        descriptors.push(unused_column());
        if access == Access::Salvage {
            let there = column_names(dir)?;
            descriptors.retain(|column| there.iter().any(|name| name == column.name()));
        }
        let inner = if read_only {
            DB::open_cf_descriptors_read_only(&options, dir, descriptors, false)?
        } else {
            DB::open_cf_descriptors(&options, dir, descriptors)?
        };
        if !read_only && let Some(objects) = inner.cf_handle(Column::Objects.name()) {
            inner.set_options_cf(objects, tuning::OBJECTS_OPENED)?;
        }
        let db = Self { inner, access };
        db.check_schema(exists)?;
        Ok(db)
    }

    /// Refuses a database of another schema. A database that is being salvaged may have lost the schema's number;
    /// then it is assumed to be this program's.
    fn check_schema(&self, existed: bool) -> Result<()> {
        let salvage = self.access == Access::Salvage;
        let number = match self.get(Column::Meta, keys::SCHEMA) {
            Err(_) if salvage => return Ok(()),
            number => number?,
        };
        match number {
            Some(bytes) => match decode_schema(&bytes) {
                Some(SCHEMA) => Ok(()),
                Some(found) => Err(unsupported(found)),
                None if salvage => Ok(()),
                None => Err(Damage::BadSchema.into()),
            },
            None if salvage => Ok(()),
            None if self.read_only() => Err(Damage::NoSchema.into()),
            None if existed && self.has(Column::Meta, keys::SEQUENCE)? => Err(Damage::NoSchema.into()),
            // The database is new, or a crash came between its creation and this write.
            None => {
                let mut batch = WriteBatch::default();
                let meta = self.column(Column::Meta)?;
                batch.put_cf(meta, keys::SCHEMA, SCHEMA.to_be_bytes());
                batch.put_cf(meta, keys::SEQUENCE, 0_u64.to_be_bytes());
                batch.put_cf(meta, keys::TALLY, values::encode(&Totals::default())?);
                self.write(batch)
            }
        }
    }

    pub fn column(&self, column: Column) -> Result<&ColumnFamily> {
        self.inner.cf_handle(column.name()).ok_or_else(|| Damage::NoColumn(column.name()).into())
    }

    /// Whether a column is missing from a database that is being salvaged. RocksDB's repair knows a column only by
    /// its tables.
    fn lacks(&self, column: Column) -> bool {
        self.access == Access::Salvage && self.inner.cf_handle(column.name()).is_none()
    }

    /// Whether it was opened for reading only.
    pub fn read_only(&self) -> bool {
        self.access.reads_only()
    }

    /// RocksDB's own handle, for questions about files.
    pub fn raw(&self) -> &DB {
        &self.inner
    }

    /// Flushes all memtables, so that writes without a write-ahead log are on disk too.
    pub fn seal(&self) -> Result<()> {
        let columns = Column::ALL.iter().map(|column| self.column(*column)).collect::<Result<Vec<_>>>()?;
        let mut options = FlushOptions::default();
        options.set_wait(true);
        Ok(self.inner.flush_cfs_opt(&columns, &options)?)
    }

    pub fn snapshot(&self) -> DbSnapshot<'_> {
        DbSnapshot { db: self, snapshot: self.inner.snapshot() }
    }

    /// Applies all edits in one atomic write. A value of None deletes the key. On disk when this returns.
    pub fn commit<'a>(
        &self,
        entries: impl IntoIterator<Item = (Column, &'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Result<()> {
        if self.read_only() {
            return Err(StoreError::ReadOnly);
        }
        let sizes = entries.clone().into_iter().map(|(_, key, value)| key.len() + value.map_or(0, <[u8]>::len) + HEAD);
        // Allocated at its final size: a growing batch would be copied again and again.
        let mut batch = WriteBatch::with_capacity_bytes(sizes.sum());
        for (column, key, value) in entries {
            let column = self.column(column)?;
            match value {
                Some(value) => batch.put_cf(column, key, value),
                None => batch.delete_cf(column, key),
            }
        }
        self.write(batch)
    }

    fn write(&self, batch: WriteBatch) -> Result<()> {
        Ok(self.inner.write_opt(batch, &tuning::write(self.access))?)
    }
}

/// The database as it is now. Only the writer may decide by this, because only the writer changes it.
impl KeyReader for Db {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        if self.lacks(column) {
            return Ok(None);
        }
        Ok(self.inner.get_cf(self.column(column)?, key)?)
    }

    fn walk(
        &self,
        column: Column,
        prefix: &[u8],
        from: Option<&[u8]>,
        way: KeyOrder,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let options = read_options(column, prefix, way);
        run(self.inner.raw_iterator_cf_opt(self.column(column)?, options), from, way, visit)
    }
}

/// Most bytes that an entry of a batch takes besides its key and value: kind, column, two lengths.
const HEAD: usize = 12;

/// The database at one moment, for reads that must agree with each other.
pub struct DbSnapshot<'a> {
    db: &'a Db,
    snapshot: SnapshotWithThreadMode<'a, DB>,
}

impl KeyReader for DbSnapshot<'_> {
    fn get(&self, column: Column, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.snapshot.get_cf(self.db.column(column)?, key)?)
    }

    /// Searches each file for all keys at once, and reads a block with several of them once.
    fn get_all(&self, column: Column, keys: &[[u8; 8]]) -> Result<Vec<Option<Vec<u8>>>> {
        let mut options = ReadOptions::default();
        options.set_snapshot(&self.snapshot);
        let values = self.db.inner.batched_multi_get_cf_opt(self.db.column(column)?, keys, false, &options);
        values.into_iter().map(|value| Ok(value?.map(|value| value.to_vec()))).collect()
    }

    fn walk(
        &self,
        column: Column,
        prefix: &[u8],
        from: Option<&[u8]>,
        way: KeyOrder,
        visit: &mut Visit<'_>,
    ) -> Result<()> {
        let options = read_options(column, prefix, way);
        run(self.snapshot.raw_iterator_cf_opt(self.db.column(column)?, options), from, way, visit)
    }
}

/// Walks an iterator that is bounded by the prefix already.
fn run<D: DBAccess>(
    mut iterator: DBRawIteratorWithThreadMode<'_, D>,
    from: Option<&[u8]>,
    way: KeyOrder,
    visit: &mut Visit<'_>,
) -> Result<()> {
    match (from, way) {
        (None, KeyOrder::Ascending) => iterator.seek_to_first(),
        (None, KeyOrder::Descending) => iterator.seek_to_last(),
        (Some(from), KeyOrder::Ascending) => iterator.seek(from),
        (Some(from), KeyOrder::Descending) => iterator.seek_for_prev(from),
    }
    while let Some((key, value)) = iterator.item() {
        if visit(key, value)?.is_break() {
            return Ok(());
        }
        match way {
            KeyOrder::Ascending => iterator.next(),
            KeyOrder::Descending => iterator.prev(),
        }
    }
    // Past the last entry, or stopped by an error.
    Ok(iterator.status()?)
}

impl KeyScanner for Db {
    fn scan<'a>(&'a self, column: Column, from: &[u8]) -> Result<KeyValues<'a>> {
        if self.lacks(column) {
            return Ok(Box::new(std::iter::empty()));
        }
        let mode = IteratorMode::From(from, Direction::Forward);
        let entries = self.inner.iterator_cf_opt(self.column(column)?, scan_options(), mode);
        Ok(Box::new(entries.map(|entry| Ok(entry?))))
    }
}

impl KeyScanner for DbSnapshot<'_> {
    fn scan<'a>(&'a self, column: Column, from: &[u8]) -> Result<KeyValues<'a>> {
        let mode = IteratorMode::From(from, Direction::Forward);
        let entries = self.snapshot.iterator_cf_opt(self.db.column(column)?, scan_options(), mode);
        Ok(Box::new(entries.map(|entry| Ok(entry?))))
    }
}

fn scan_options() -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_total_order_seek(true);
    options.fill_cache(false);
    options
}

fn read_options(column: Column, prefix: &[u8], way: KeyOrder) -> ReadOptions {
    let mut options = ReadOptions::default();
    match column.prefix() {
        Some(length) if prefix.len() >= length && way == KeyOrder::Ascending => options.set_prefix_same_as_start(true),
        _ => options.set_total_order_seek(true),
    }
    options.set_iterate_range(PrefixRange(prefix));
    options
}

/// The column that every RocksDB database has. It holds nothing here, but the size of its memtable matters: after a
/// full disk, RocksDB continues only when there is room for the largest memtable.
fn unused_column() -> ColumnFamilyDescriptor {
    let mut options = Options::default();
    options.set_write_buffer_size(1 << 20);
    ColumnFamilyDescriptor::new("default", options)
}

/// Refuses a database with a column that this program does not know, because an older or a newer program wrote it.
/// RocksDB cannot open it for writing without that column.
fn check_columns(dir: &Path) -> Result<()> {
    let known = |name: &String| name == "default" || Column::ALL.iter().any(|column| column.name() == name);
    if column_names(dir)?.iter().all(known) {
        return Ok(());
    }
    Err(unsupported(schema_of(dir).filter(|found| *found != SCHEMA).unwrap_or(SCHEMA + 1)))
}

/// The names of the columns of the database in `dir`.
fn column_names(dir: &Path) -> Result<Vec<String>> {
    Ok(DB::list_cf(&Options::default(), dir)?)
}

/// The number of the schema of the database in `dir`, whatever columns it has. None where it cannot be read.
fn schema_of(dir: &Path) -> Option<u32> {
    let meta = Column::Meta.name();
    let db = DB::open_cf_for_read_only(&Options::default(), dir, ["default", meta], false).ok()?;
    let bytes = db.get_cf(db.cf_handle(meta)?, keys::SCHEMA).ok()??;
    decode_schema(&bytes)
}

fn decode_schema(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

fn unsupported(found: u32) -> StoreError {
    if found > SCHEMA {
        StoreError::NewerSchema { found, supported: SCHEMA }
    } else {
        StoreError::OlderSchema { found, supported: SCHEMA }
    }
}
