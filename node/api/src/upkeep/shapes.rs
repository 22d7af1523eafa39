//! The shapes of maintenance: jobs, their progress and their reports.
//!
//! A running node sends them, and a command that does the same work without a node prints them, so that `--json` has
//! one format. The doc comments are published in `openapi.json`.

use serde::{Deserialize, Serialize};
use spore_protocol::ObjectId;
use spore_storage as storage;
use utoipa::ToSchema;

use crate::problem::Problem;

/// A job on the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum UpkeepJob {
    /// Verify every object, compute every column again and compare.
    Check,
    /// Compare every block and every artifact with its checksum. The node removes damaged artifacts.
    Verify,
    /// Rewrite the columns without overwritten and removed entries.
    Compact,
    /// Add a backup to a folder.
    Backup {
        /// The folder: an absolute path on the machine of the node.
        folder: String,
        /// Backups of the database to keep in the folder, this one included.
        keep: u32,
    },
    /// Drop artifacts until the rest keeps to the bounds.
    Gc {
        /// Only report what would be dropped.
        dry_run: bool,
        /// Drop artifacts that were not used for so many seconds. No bound when absent.
        max_age_seconds: Option<u64>,
        /// Drop the least recently used artifacts until the others have so many bytes. No bound when absent.
        max_bytes: Option<u64>,
    },
    /// Drop objects that the operator does not want to carry, as far as no other object depends on them. They do not come
    /// back.
    Drop {
        /// What the id names.
        by: UnwantedKind,
        /// The id, in full.
        #[schema(value_type = String)]
        id: ObjectId,
    },
}

/// What the id of unwanted objects names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UnwantedKind {
    /// The key that signed them.
    Signer,
    /// The task that they belong to, the task's manifest included.
    Task,
    /// One object of any kind.
    Object,
}

impl UpkeepJob {
    /// The name of the job, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Check => "a check of the store",
            Self::Verify => "a verification of the store's files",
            Self::Compact => "a compaction",
            Self::Backup { .. } => "a backup",
            Self::Gc { .. } => "a collection of artifacts",
            Self::Drop { .. } => "a removal of unwanted objects",
        }
    }

    /// Whether the job needs a store that is open for writing.
    pub const fn writes(&self) -> bool {
        match self {
            Self::Check | Self::Verify => false,
            Self::Compact | Self::Backup { .. } | Self::Drop { .. } => true,
            Self::Gc { dry_run, .. } => !*dry_run,
        }
    }
}

/// One line of the answer to a job. The last line is the report or the error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpkeepLine {
    /// How far the job is.
    Progress(UpkeepProgress),
    /// The job is done.
    Report(UpkeepReport),
    /// The job failed.
    Error(Problem),
}

/// Progress of a job.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpkeepProgress {
    /// The stage of the job and what it counts, in words for people.
    pub stage: String,
    /// Units that are done in this stage.
    pub done: u64,
    /// Units of this stage in total, sometimes an estimate. 0 when not known.
    pub total: u64,
}

/// Report of a job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum UpkeepReport {
    Check(CheckReport),
    Verify(VerifyReport),
    Compact(CompactReport),
    Backup(BackupReport),
    Gc(GcReport),
    Drop(DropReport),
}

/// Result of a removal of unwanted objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropReport {
    /// Objects that were dropped.
    pub dropped: u64,
    /// Bytes of these objects, about. The disk has them back when the database is compacted.
    pub dropped_bytes: u64,
    /// Unwanted objects that stay, because others depend on them: they have children, a verdict, or count for one.
    pub kept: u64,
    /// Artifacts that no object names any more and that were dropped too. One that was used within the last hour stays.
    pub artifacts: u64,
}

/// Result of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// Objects whose hash and signature were verified.
    pub objects: u64,
    /// Pending records: records whose parent the node does not have yet.
    pub pending: u64,
    /// Entries that differ from what follows from the objects. 0 in a sound store.
    pub finding_count: u64,
    /// The first hundred of these entries.
    pub findings: Vec<CheckFinding>,
}

/// An entry of the store that differs from what follows from the objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckFinding {
    /// Column of the entry.
    pub column: String,
    /// Key of the entry in hex, or the kind and id of an object.
    pub key: String,
    /// The value that follows from the objects.
    pub expected: String,
    /// The value in the store.
    pub found: String,
}

/// Result of a verification of files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyReport {
    /// Table files of the database that were read.
    pub files: u64,
    /// Artifacts that were read.
    pub artifacts: u64,
    /// Table files that are damaged.
    pub damaged_files: Vec<DamagedFile>,
    /// Artifacts that are damaged.
    pub damaged_artifacts: Vec<DamagedArtifact>,
}

/// A damaged file of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DamagedFile {
    /// Column whose entries the file holds.
    pub column: String,
    /// Name of the file in the store's folder. Absent when it is not known.
    pub file: Option<String>,
    /// What is wrong with the file.
    pub why: String,
}

/// An artifact whose bytes do not hash to its content id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DamagedArtifact {
    /// Content id of the artifact.
    pub cid: String,
    /// Whether the artifact was removed. A node removes it, and fetches it again when needed. A command that only reads
    /// leaves it.
    pub removed: bool,
}

/// Result of a compaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompactReport {
    /// Size of the database before, in bytes.
    pub bytes_before: u64,
    /// Size of the database after, in bytes.
    pub bytes_after: u64,
}

/// A backup of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    /// Number of the backup in its folder.
    pub id: u32,
    /// When the backup was made.
    pub timestamp: u64,
    /// Size of its files in bytes, including files that it shares with other backups.
    pub bytes: u64,
    /// Number of its files.
    pub files: u32,
}

/// Result of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupReport {
    /// The new backup.
    pub backup: Backup,
    /// Artifacts that were copied. Artifacts that the folder already held are not copied again.
    pub artifacts_copied: u64,
    /// Bytes of the copied artifacts.
    pub artifact_bytes_copied: u64,
    /// Content ids of damaged artifacts, which were left out.
    pub artifacts_damaged: Vec<String>,
}

/// Result of a collection of artifacts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GcReport {
    /// Whether nothing was dropped, because the job only reports.
    pub dry_run: bool,
    /// Dropped artifacts, in the order in which they were dropped: the first ten thousand.
    pub dropped: Vec<DroppedArtifact>,
    /// Number of all dropped artifacts.
    pub dropped_count: u64,
    /// Bytes of all dropped artifacts.
    pub dropped_bytes: u64,
    /// Number of kept artifacts.
    pub kept_count: u64,
    /// Bytes of the kept artifacts.
    pub kept_bytes: u64,
    /// Kept artifacts that no bound can drop now: pinned, recently used, or needed for new work.
    pub protected_count: u64,
    /// Bytes of these artifacts.
    pub protected_bytes: u64,
}

/// An artifact that was dropped, or would be dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DroppedArtifact {
    /// Content id of the artifact.
    pub cid: String,
    /// Size in bytes.
    pub bytes: u64,
    /// When the artifact was last used.
    pub last_used: u64,
    /// Records and manifests in the store that name the artifact.
    pub references: u64,
    /// The bound that dropped it: `age` or `size`.
    pub reason: String,
}

/// Size of the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStats {
    /// Size of each column.
    pub columns: Vec<ColumnStats>,
    /// Bytes of all table files and write-ahead logs.
    pub database_bytes: u64,
    /// Bytes of the write-ahead logs.
    pub log_bytes: u64,
    /// Number of artifacts.
    pub artifacts: u64,
    /// Bytes of the artifacts.
    pub artifact_bytes: u64,
    /// Number of pinned artifacts.
    pub pins: u64,
    /// Pending records: records whose parent the node does not have yet.
    pub pending: u64,
    /// Sequence number of the newest change.
    pub sequence: u64,
    /// Changes that the store had acknowledged and that were missing when it was opened. Absent when none were missing.
    pub lost_changes: Option<LostChanges>,
}

/// A range of sequence numbers, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LostChanges {
    /// Sequence number of the first lost change.
    pub first: u64,
    /// Sequence number of the last lost change.
    pub last: u64,
}

/// Size of one column of the database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColumnStats {
    /// Name of the column.
    pub name: String,
    /// Estimated number of keys.
    pub keys: u64,
    /// Bytes of its table files.
    pub bytes: u64,
    /// Number of its table files.
    pub files: u64,
    /// Bytes in memory that are not in a table file yet.
    pub memtable_bytes: u64,
}

/// One page of pending records. The first ones are the first to be dropped when there are too many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingPage {
    /// Number of all pending records.
    pub total: u64,
    /// Pending records, in the order of their arrival.
    pub pending: Vec<PendingRecord>,
    /// Cursor of the last record. Pass it as `after` to get the next page. Absent on the last page.
    pub next: Option<String>,
}

/// A record whose parent the node does not have yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingRecord {
    /// Id of the record.
    pub id: String,
    /// Id of the missing parent.
    pub waits_for: String,
    /// When the record arrived.
    pub since: u64,
    /// Size of the record in bytes.
    pub bytes: u64,
}

/// Result of adding or removing a pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinOutcome {
    /// Content id of the artifact.
    pub cid: String,
    /// Whether the request changed anything. False when the artifact was pinned, or not pinned, before.
    pub changed: bool,
}

impl From<storage::StageProgress> for UpkeepProgress {
    fn from(progress: storage::StageProgress) -> Self {
        Self { stage: progress.stage.to_string(), done: progress.done, total: progress.total }
    }
}

impl From<storage::CheckReport> for CheckReport {
    fn from(report: storage::CheckReport) -> Self {
        let finding = |finding: storage::StoreFinding| CheckFinding {
            column: finding.column,
            key: finding.key,
            expected: finding.expected,
            found: finding.found,
        };
        Self {
            objects: report.objects,
            pending: report.pending,
            finding_count: report.finding_count,
            findings: report.findings.into_iter().map(finding).collect(),
        }
    }
}

impl From<storage::DamagedFile> for DamagedFile {
    fn from(damaged: storage::DamagedFile) -> Self {
        Self { column: damaged.column, file: damaged.file, why: damaged.why }
    }
}

impl From<storage::Backup> for Backup {
    fn from(backup: storage::Backup) -> Self {
        Self { id: backup.id, timestamp: backup.timestamp, bytes: backup.bytes, files: backup.files }
    }
}

impl From<storage::BackupReport> for BackupReport {
    fn from(report: storage::BackupReport) -> Self {
        Self {
            backup: report.backup.into(),
            artifacts_copied: report.artifacts_copied,
            artifact_bytes_copied: report.artifact_bytes_copied,
            artifacts_damaged: report.artifacts_damaged.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<storage::Dropped> for DroppedArtifact {
    fn from(dropped: storage::Dropped) -> Self {
        let reason = match dropped.reason {
            storage::DropReason::Age => "age",
            storage::DropReason::Size => "size",
        };
        Self {
            cid: dropped.cid.to_string(),
            bytes: dropped.bytes,
            last_used: dropped.last_used,
            references: dropped.references,
            reason: reason.into(),
        }
    }
}

impl GcReport {
    /// The store's report, and whether it was a dry run, which the store's report does not hold.
    pub fn new(report: storage::GcReport, dry_run: bool) -> Self {
        Self {
            dry_run,
            dropped: report.dropped.into_iter().map(Into::into).collect(),
            dropped_count: report.dropped_count,
            dropped_bytes: report.dropped_bytes,
            kept_count: report.kept_count,
            kept_bytes: report.kept_bytes,
            protected_count: report.protected_count,
            protected_bytes: report.protected_bytes,
        }
    }
}

impl From<storage::ColumnStats> for ColumnStats {
    fn from(column: storage::ColumnStats) -> Self {
        Self {
            name: column.name.into(),
            keys: column.keys,
            bytes: column.bytes,
            files: column.files,
            memtable_bytes: column.memtable_bytes,
        }
    }
}

impl From<storage::PendingView> for PendingRecord {
    fn from(held: storage::PendingView) -> Self {
        Self { id: held.id.to_string(), waits_for: held.waits_for.to_string(), since: held.since, bytes: held.size }
    }
}
