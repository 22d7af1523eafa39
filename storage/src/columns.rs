//! Every column family, with its key and value. The builders of the keys are in [`crate::keys`],
//! the values in [`crate::values`].
//!
//! A change of any key or value is a new [`SCHEMA`], and then needs an upgrade of existing stores.

/// Format of what is on disk, under [`Column::Meta`].
pub const SCHEMA: u32 = 2;

/// `A ++ B` is concatenation; integers are big-endian; ids are 32 bytes; `number` is an object's
/// sequence number here (8), which stands for it in most indexes because it is short; `class` is
/// the SHA-256 of the class's name, so that keys stay short whatever a device is called; `scope`
/// is a tag and 32 bytes ([`crate::keys::TimeList`]); `view` is 0, or 1 ++ class; `moment` is
/// timestamp ++ the id's first 8 bytes ++ number, which sorts as (timestamp, id) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Name (text) -> `schema`: u32; `sequence`: u64 last given; `tally`: CBOR [`crate::values::Totals`].
    Meta,
    /// Kind code ++ object id -> number. Of profiles the newest only.
    Ids,
    /// Number -> an object as [`crate::values::encode_stored`] makes it. In the order of arrival, so
    /// that the bulk of the data is written once and never sorted again.
    Objects,
    /// Number -> kind code, and of all but records id ++ task where there is one: a [`crate::Change`].
    Log,
    /// Task id ++ number -> nothing.
    LogByTask,
    /// Number of a record -> [`crate::values::Placing`]: what is known of it here.
    Records,
    /// Number of the parent ++ moment -> nothing.
    Children,
    /// Scope ++ timestamp ++ id -> a task's records: [`crate::values::GraphPoint`]; a task's events,
    /// manifests, profiles: nothing. Scope ++ moment -> nothing: all records, a node's, all events.
    Timeline,
    /// Scope ++ timestamp ++ id of a bucket's first item -> [`crate::values::Bucket`]: count and
    /// sum of a stretch of those timelines that nodes compare.
    Buckets,
    /// Task id ++ metric in order, best first (8) ++ moment -> nothing. Neither strays nor crashes.
    Metrics,
    /// Task id ++ view ++ metric in order, best first (8) ++ moment -> nothing.
    Frontier,
    /// Task id ++ view ++ timestamp ++ id ++ number -> metric's bits (8). Keeps that beat all before them.
    Series,
    /// Word ++ 0 ++ number of a record, without its last byte (8) -> the last bytes, in order, of all such
    /// numbers whose record uses the word.
    Words,
    /// Task id ++ 0 ++ timestamp ++ id of a parentless record -> nothing, and the same under
    /// task id ++ 1 ++ signer. One of them is the task's root.
    Roots,
    /// Task id -> CBOR [`crate::values::TaskState`].
    Tasks,
    /// Activity in order, most active first (10) ++ task id -> nothing.
    Activity,
    /// Task id ++ class -> CBOR [`crate::values::ClassState`].
    Classes,
    /// Scope ++ node id ++ class -> CBOR [`crate::values::Publisher`].
    Publishers,
    /// Scope ++ node id -> CBOR [`crate::values::NodeState`].
    Nodes,
    /// Scope ++ node id ++ timestamp ++ event id -> nothing. Measurements that count.
    Measured,
    /// Node id ++ timestamp ++ event id ++ rank -> nothing. What its reputation is folded from.
    Deeds,
    /// Record id ++ 0 ++ timestamp ++ event id -> number ++ signer. Also of records that are not here yet.
    /// The same under record id ++ 1, of the events that its verdict looks at.
    About,
    /// Number of a record -> CBOR [`crate::values::Evidence`]. Only of records with events that count.
    Evidence,
    /// Record id with an open dispute -> nothing.
    Disputes,
    /// Node id -> timestamp ++ profile id, of the profile in force.
    Profiles,
    /// Record id -> CBOR [`crate::values::PendingEntry`]: waits for its parent.
    Pending,
    /// Parent id ++ arrival number ++ record id -> nothing.
    PendingByParent,
    /// Arrival number -> record id. The least is dropped first.
    PendingByAge,
    /// Record id -> arrival number ++ [`crate::values::LineageFault`]. Refused for its lineage: what comes later
    /// and descends from it is refused as well.
    Refused,
    /// Arrival number -> record id. The least is forgotten first.
    RefusedByAge,
}

impl Column {
    pub const ALL: [Self; 30] = [
        Self::Meta,
        Self::Ids,
        Self::Objects,
        Self::Log,
        Self::LogByTask,
        Self::Records,
        Self::Children,
        Self::Timeline,
        Self::Buckets,
        Self::Metrics,
        Self::Frontier,
        Self::Series,
        Self::Words,
        Self::Roots,
        Self::Tasks,
        Self::Activity,
        Self::Classes,
        Self::Publishers,
        Self::Nodes,
        Self::Measured,
        Self::Deeds,
        Self::About,
        Self::Evidence,
        Self::Disputes,
        Self::Profiles,
        Self::Pending,
        Self::PendingByParent,
        Self::PendingByAge,
        Self::Refused,
        Self::RefusedByAge,
    ];

    /// The column family's name on disk; never reused for another meaning.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Meta => "meta",
            Self::Ids => "ids",
            Self::Objects => "objects",
            Self::Log => "log",
            Self::LogByTask => "log_by_task",
            Self::Records => "records",
            Self::Children => "children",
            Self::Timeline => "timeline",
            Self::Buckets => "buckets",
            Self::Metrics => "metrics",
            Self::Frontier => "frontier",
            Self::Series => "series",
            Self::Words => "words",
            Self::Roots => "roots",
            Self::Tasks => "tasks",
            Self::Activity => "activity",
            Self::Classes => "classes",
            Self::Publishers => "publishers",
            Self::Nodes => "nodes",
            Self::Measured => "measured",
            Self::Deeds => "deeds",
            Self::About => "about",
            Self::Evidence => "evidence",
            Self::Disputes => "disputes",
            Self::Profiles => "profiles",
            Self::Pending => "pending",
            Self::PendingByParent => "pending_by_parent",
            Self::PendingByAge => "pending_by_age",
            Self::Refused => "refused",
            Self::RefusedByAge => "refused_by_age",
        }
    }

    /// Leading bytes by which the column is mostly scanned, so that a scan for a key without
    /// entries is answered by the bloom filter.
    pub const fn prefix(self) -> Option<usize> {
        match self {
            Self::About | Self::PendingByParent => Some(32),
            Self::Children => Some(8),
            _ => None,
        }
    }
}
