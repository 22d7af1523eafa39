//! Every column family, with its key and value. [`crate::keys`] builds the keys, [`crate::values`] the values.
//!
//! A change of any key or value is a new [`SCHEMA`], and then existing stores need an upgrade.

/// Number of the format on disk, stored in [`Column::Meta`].
pub const SCHEMA: u32 = 5;

/// The columns. In their descriptions, `A ++ B` is concatenation, integers are big-endian and ids have 32 bytes.
///
/// - `number`: an object's sequence number (8 bytes). Most indexes hold it instead of the id, because it is short.
/// - `class`: the SHA-256 of the class's name, so that keys are short whatever a device is called.
/// - `scope`: a tag and 32 bytes ([`crate::keys::TimeList`]).
/// - `view`: 0, or 1 ++ class.
/// - `list`: 0, or 1 to 3 ++ class: the reference's frontier, a class's local and global frontiers and its claims.
/// - `tier`: a signer's level in a class, 0 to 2, or 3 without weight.
/// - `rank`: the first 8 bytes of the SHA-256 of record and signer, by which measurements of a record are ordered.
/// - `moment`: timestamp ++ the id's first 8 bytes ++ number, which sorts as (timestamp, id) does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Column {
    /// Name (text) -> `schema`: u32; `sequence`: u64, the last one used; `tally`: CBOR [`crate::values::Totals`];
    /// `seeds`: the ids of the trusted keys, in order.
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
    /// Number of the parent ++ moment -> the first 8 bytes of the child's class.
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
    /// Task id ++ class ++ moment -> nothing. Without strays.
    ClassRecords,
    /// Task id ++ list ++ metric, best first (8) ++ moment -> nothing. Claims also under task id ++ 4 ++ class ++
    /// publisher ++ metric ++ moment.
    Frontier,
    /// Task id ++ view ++ timestamp ++ id ++ number -> the metric's bits (8). Of the keeps that hold locally, those
    /// that are better than all before them. All that hold also under task id ++ 2 or 3 ++ ..., in the same form.
    Series,
    /// Word ++ 0 ++ number of a record without its last byte (8) -> the last bytes, in order, of all such numbers
    /// whose record uses the word.
    Words,
    /// Task id ++ 0 ++ timestamp ++ id of a parentless record -> nothing. The same record also under task id ++ 1 ++
    /// signer ++ timestamp ++ id. One of them is the task's root.
    Roots,
    /// Task id -> CBOR [`crate::values::TaskState`].
    Tasks,
    /// Activity, most active first (14) ++ task id -> nothing.
    Activity,
    /// Signer of a manifest ++ task id -> nothing.
    Creators,
    /// Task id -> the sequence number of the last change at which verdicts of the task changed without an entry of
    /// their own in the change log, because a signer's level changed. Differs from node to node.
    Moved,
    /// Task id ++ class -> CBOR [`crate::values::ClassState`].
    Classes,
    /// Scope ++ node id ++ class -> CBOR [`crate::values::Publisher`].
    Publishers,
    /// Scope ++ node id -> CBOR [`crate::values::NodeState`].
    Nodes,
    /// Scope ++ node id ++ timestamp ++ event id -> nothing. The measurements that may count, one for each record.
    Measured,
    /// Node id ++ timestamp ++ event id ++ rank -> nothing. A node's reputation is computed from its deeds.
    Deeds,
    /// Record id ++ signer ++ timestamp ++ event id -> number ++ 1 if the event reports a re-run, else 0. Also for
    /// records that are not stored yet.
    About,
    /// Number of a record ++ tier ++ rank ++ signer -> [`crate::values::Work`]. One measurement for each signer.
    Works,
    /// Signer ++ class ++ number of a record that it published or measured -> [`crate::values::WorkMark`].
    WorksOf,
    /// 0 ++ node id ++ class -> [`crate::values::StandingState`]. Nodes with weight also under 1 ++ class ++ level ++
    /// node id -> nothing.
    Standings,
    /// What a change of levels still has to change: 0 ++ node ++ class -> the last record done; 1 ++ number of a
    /// record -> the last key of its works done. Empty between two insertions.
    Unsettled,
    /// Number of a record -> CBOR [`crate::values::Awards`]. Only for records that someone earned anything with.
    Awards,
    /// 0 ++ id of a record whose local verdict is disputed -> nothing; 1 ++ id for the global verdict.
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
    /// What was stored and then dropped, three entries each. 0 ++ kind ++ id -> order ++ reason (1) ++ the item's key in
    /// [`Column::Timeline`], if nodes compare such a list; 1 ++ that key -> nothing; 2 ++ order -> kind ++ id. The lowest
    /// order is forgotten first.
    Dropped,
}

impl Column {
    pub const ALL: [Self; 38] = [
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
        Self::ClassRecords,
        Self::Frontier,
        Self::Series,
        Self::Words,
        Self::Roots,
        Self::Tasks,
        Self::Activity,
        Self::Creators,
        Self::Moved,
        Self::Classes,
        Self::Publishers,
        Self::Nodes,
        Self::Measured,
        Self::Deeds,
        Self::About,
        Self::Works,
        Self::WorksOf,
        Self::Standings,
        Self::Unsettled,
        Self::Awards,
        Self::Disputes,
        Self::Profiles,
        Self::Pending,
        Self::PendingByParent,
        Self::PendingByAge,
        Self::Refused,
        Self::RefusedByAge,
        Self::Dropped,
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
            Self::ClassRecords => "class_records",
            Self::Frontier => "frontier",
            Self::Series => "series",
            Self::Words => "words",
            Self::Roots => "roots",
            Self::Tasks => "tasks",
            Self::Activity => "activity",
            Self::Creators => "creators",
            Self::Moved => "moved",
            Self::Classes => "classes",
            Self::Publishers => "publishers",
            Self::Nodes => "nodes",
            Self::Measured => "measured",
            Self::Deeds => "deeds",
            Self::About => "about",
            Self::Works => "works",
            Self::WorksOf => "works_of",
            Self::Standings => "standings",
            Self::Unsettled => "unsettled",
            Self::Awards => "awards",
            Self::Disputes => "disputes",
            Self::Profiles => "profiles",
            Self::Pending => "pending",
            Self::PendingByParent => "pending_by_parent",
            Self::PendingByAge => "pending_by_age",
            Self::Refused => "refused",
            Self::RefusedByAge => "refused_by_age",
            Self::Dropped => "dropped",
        }
    }

    /// Number of leading key bytes by which the column is mostly scanned, if the column has a bloom filter for them.
    /// The filter answers a scan for a prefix without entries.
    pub const fn prefix(self) -> Option<usize> {
        match self {
            Self::About | Self::PendingByParent => Some(32),
            Self::Children | Self::Works => Some(8),
            _ => None,
        }
    }
}
