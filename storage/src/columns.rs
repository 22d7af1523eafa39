//! Every column family, with its key and value. The builders of the keys are in [`crate::keys`],
//! the values in [`crate::values`].
//!
//! A change of any key or value is a new [`SCHEMA`], with a migration.

use rocksdb::{BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, Options, SliceTransform};

/// Format of what is on disk, under [`Column::Meta`].
pub const SCHEMA: u32 = 1;

/// Memtable of one column, in bytes: with the columns' total bounded too, most stay far below.
const WRITE_BUFFER: usize = 16 << 20;

/// 10 bits a key give about 1 % false positives.
const BLOOM_BITS: f64 = 10.0;

/// `A ++ B` is concatenation; integers are big-endian; ids are 32 bytes; `class` is the SHA-256 of
/// the class's name, so that keys stay short whatever a device is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Name (text) -> `schema`: u32; `sequence`: u64 last given; `tally`: CBOR [`crate::values::Tally`].
    Meta,
    /// kind code ++ object id -> signature (64) ++ canonical bytes. Of profiles the newest only.
    Objects,
    /// Record id -> CBOR [`crate::values::Facts`]. Never changes.
    Records,
    /// Record id -> [`crate::values::Standing`] (2 bytes). What other objects change about it.
    Standing,
    /// Parent id ++ record id -> nothing.
    Children,
    /// Scope (tag ++ 32 bytes) ++ timestamp ++ record id -> nothing.
    Timeline,
    /// Task id ++ record id of a parentless record -> nothing. One of them is the task's root.
    Roots,
    /// Task id -> CBOR [`crate::values::TaskState`].
    Tasks,
    /// Task id ++ class -> CBOR [`crate::values::ClassState`].
    Classes,
    /// Task id ++ node id ++ class -> CBOR [`crate::values::Publisher`].
    Publishers,
    /// Task id ++ view (0 or 1 ++ class) ++ metric in order, best first (8) ++ timestamp ++ record id -> nothing.
    Frontier,
    /// Record id ++ timestamp ++ event id -> nothing. Also of records that are not here yet.
    About,
    /// Task id ++ timestamp ++ event id -> nothing. The record's task; the event's claim while
    /// the record is not here.
    Controls,
    /// Record id with an open dispute -> nothing.
    Disputes,
    /// Node id -> timestamp ++ profile id, of the profile in force.
    Profiles,
    /// Sequence -> CBOR [`spore_protocol::Kind`], id, task: a [`crate::Change`].
    Log,
    /// Task id ++ sequence -> nothing.
    LogByTask,
    /// Record id -> CBOR [`crate::values::Held`]: waits for its parent.
    Pending,
    /// Parent id ++ arrival number ++ record id -> nothing.
    PendingByParent,
    /// Arrival number -> record id. The least is dropped first.
    PendingByAge,
}

impl Column {
    pub const ALL: [Self; 20] = [
        Self::Meta,
        Self::Objects,
        Self::Records,
        Self::Standing,
        Self::Children,
        Self::Timeline,
        Self::Roots,
        Self::Tasks,
        Self::Classes,
        Self::Publishers,
        Self::Frontier,
        Self::About,
        Self::Controls,
        Self::Disputes,
        Self::Profiles,
        Self::Log,
        Self::LogByTask,
        Self::Pending,
        Self::PendingByParent,
        Self::PendingByAge,
    ];

    /// The column family's name on disk; never reused for another meaning.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Objects => "objects",
            Self::Records => "records",
            Self::Standing => "standing",
            Self::Children => "children",
            Self::Timeline => "timeline",
            Self::Roots => "roots",
            Self::Tasks => "tasks",
            Self::Classes => "classes",
            Self::Publishers => "publishers",
            Self::Frontier => "frontier",
            Self::About => "about",
            Self::Controls => "controls",
            Self::Disputes => "disputes",
            Self::Profiles => "profiles",
            Self::Log => "log",
            Self::LogByTask => "log_by_task",
            Self::Pending => "pending",
            Self::PendingByParent => "pending_by_parent",
            Self::PendingByAge => "pending_by_age",
        }
    }

    /// Leading bytes by which the column is mostly scanned, so that a scan for a key without
    /// entries is answered by the bloom filter.
    pub const fn prefix(self) -> Option<usize> {
        match self {
            Self::Children | Self::About | Self::PendingByParent => Some(32),
            _ => None,
        }
    }

    pub fn descriptor(self, cache: &Cache) -> ColumnFamilyDescriptor {
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(cache);
        table.set_bloom_filter(BLOOM_BITS, false);
        table.set_cache_index_and_filter_blocks(true);
        let mut options = Options::default();
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(WRITE_BUFFER);
        options.set_compression_type(DBCompressionType::Lz4);
        options.set_bottommost_compression_type(DBCompressionType::Zstd);
        if let Some(length) = self.prefix() {
            options.set_prefix_extractor(SliceTransform::create_fixed_prefix(length));
            options.set_memtable_prefix_bloom_ratio(0.05);
        }
        ColumnFamilyDescriptor::new(self.name(), options)
    }
}
