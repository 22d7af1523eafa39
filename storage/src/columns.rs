//! Every column family, with its key and value. [`crate::keys`] builds the keys, [`crate::values`] the values.
//!
//! A change of any key or value is a new [`SCHEMA`], and then existing stores need an upgrade.

/// Number of the format on disk, stored in [`Column::Meta`].
pub const SCHEMA: u32 = 2;

/// The columns. In their descriptions, `A ++ B` is concatenation, integers are big-endian and ids have 32 bytes.
///
/// - `number`: an object's sequence number (8 bytes). Most indexes hold it instead of the id, because it is short.
/// - `class`: the SHA-256 of the class's name, so that keys are short whatever a device is called.
/// - `scope`: a tag and 32 bytes ([`crate::keys::TimeList`]).
/// - `view`: 0, or 1 ++ class.
/// - `moment`: timestamp ++ the id's first 8 bytes ++ number, which sorts as (timestamp, id) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Name (text) -> `schema`: u32; `sequence`: u64, the last one used; `tally`: CBOR [`crate::values::Totals`].
    Meta,
    /// Kind code ++ object id -> number. Of profiles, only the newest of each node.
    Ids,
    /// Number -> an object as [`crate::values::encode_stored`] makes it. Objects are in the order of their arrival,
    /// so the bulk of the data is written once and never sorted again.
    Objects,
    /// Number -> kind code; then, except for records, id ++ task if there is one: a [`crate::Change`].
    Log,
    /// Task id ++ number -> nothing.
    LogByTask,
    /// Number of a record -> [`crate::values::Placing`]: what its object does not say.
    Records,
    /// Number of the parent ++ moment -> nothing.
    Children,
    /// For lists that nodes compare (a task's records, a task's events, manifests, profiles): scope ++ timestamp ++
    /// id -> [`crate::values::GraphPoint`] for a task's records, otherwise nothing. For the other lists (all records,
    /// a node's records, all events): scope ++ moment -> nothing.
    Timeline,
    /// Scope ++ timestamp ++ id of a bucket's first item -> [`crate::values::Bucket`]: the count and the sum of a
    /// range of a timeline that nodes compare.
    Buckets,
    /// Task id ++ metric, best first (8) ++ moment -> nothing. Without strays and crashes.
    Metrics,
    /// Task id ++ view ++ metric, best first (8) ++ moment -> nothing.
    Frontier,
    /// Task id ++ view ++ timestamp ++ id ++ number -> the metric's bits (8). Keeps that are better than all before
    /// them.
    Series,
    /// Word ++ 0 ++ number of a record without its last byte (8) -> the last bytes, in order, of all such numbers
    /// whose record uses the word.
    Words,
    /// Task id ++ 0 ++ timestamp ++ id of a parentless record -> nothing. The same record also under task id ++ 1 ++
    /// signer ++ timestamp ++ id. One of them is the task's root.
    Roots,
    /// Task id -> CBOR [`crate::values::TaskState`].
    Tasks,
    /// Activity, most active first (10) ++ task id -> nothing.
    Activity,
    /// Task id ++ class -> CBOR [`crate::values::ClassState`].
    Classes,
    /// Scope ++ node id ++ class -> CBOR [`crate::values::Publisher`].
    Publishers,
    /// Scope ++ node id -> CBOR [`crate::values::NodeState`].
    Nodes,
    /// Scope ++ node id ++ timestamp ++ event id -> nothing. The measurements that count.
    Measured,
    /// Node id ++ timestamp ++ event id ++ rank -> nothing. A node's reputation is computed from its deeds.
    Deeds,
    /// Record id ++ 0 ++ timestamp ++ event id -> number ++ signer. Also for records that are not stored yet. The
    /// same event also under record id ++ 1, if the record's verdict considers it.
    About,
    /// Number of a record -> CBOR [`crate::values::Evidence`]. Only for records with events that count.
    Evidence,
    /// Id of a record with an open dispute -> nothing.
    Disputes,
    /// Node id -> timestamp ++ profile id, of the profile in force.
    Profiles,
    /// Record id -> CBOR [`crate::values::PendingEntry`]. The record waits for its parent.
    Pending,
    /// Parent id ++ arrival number ++ record id -> nothing.
    PendingByParent,
    /// Arrival number -> record id. The lowest number is dropped first.
    PendingByAge,
    /// Record id -> arrival number ++ [`crate::values::LineageFault`]. A record refused by the lineage rules; records
    /// that descend from it are refused too when they come later.
    Refused,
    /// Arrival number -> record id. The lowest number is forgotten first.
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

    /// The column family's name on disk. A name is never reused for another meaning.
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

    /// Number of leading key bytes by which the column is mostly scanned, if the column has a bloom filter for them.
    /// The filter answers a scan for a prefix without entries.
    pub const fn prefix(self) -> Option<usize> {
        match self {
            Self::About | Self::PendingByParent => Some(32),
            Self::Children => Some(8),
            _ => None,
        }
    }
}
