//! The shapes of looking after a store: what is asked, how far it is, what it came to.
//!
//! A running node sends them, and a command that does the same work without a node prints them, so
//! that `--json` is one format.

use serde::{Deserialize, Serialize};
use spore_storage as storage;
use utoipa::ToSchema;

use super::super::dto::Problem;

/// `POST /api/v1/upkeep`: work on the store that takes its time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum Job {
    /// Verify every object, compute every column again, compare.
    Check,
    /// Read every block and every artifact against its checksum; damaged artifacts are removed.
    Verify,
    /// Rewrite the columns without what is gone.
    Compact,
    /// Add a backup to a folder.
    Backup {
        /// An absolute path on the node's machine.
        folder: String,
        /// Backups of the database kept there, this one among them.
        keep: u32,
    },
    /// Drop the artifacts that the bounds leave no room for.
    Gc {
        /// Only tell.
        dry_run: bool,
        max_age_seconds: Option<u64>,
        max_bytes: Option<u64>,
    },
}

impl Job {
    /// What is being done, for people.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Check => "a check of the store",
            Self::Verify => "a verification of the store's files",
            Self::Compact => "a compaction",
            Self::Backup { .. } => "a backup",
            Self::Gc { .. } => "a collection of artifacts",
        }
    }

    /// Whether it needs a store that is open for writing.
    pub const fn writes(&self) -> bool {
        match self {
            Self::Check | Self::Verify => false,
            Self::Compact | Self::Backup { .. } => true,
            Self::Gc { dry_run, .. } => !*dry_run,
        }
    }
}

/// A line of the answer to `POST /api/v1/upkeep`. The last one is the report or the error.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpkeepLine {
    Progress(UpkeepProgress),
    Report(UpkeepReport),
    Error(Problem),
}

/// How far a job is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpkeepProgress {
    /// What the numbers count, in words.
    pub stage: String,
    pub done: u64,
    /// An estimate where the work cannot know it; 0 where nothing is known.
    pub total: u64,
}

/// What a job came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "job", rename_all = "snake_case")]
pub enum UpkeepReport {
    Check(CheckReport),
    Verify(VerifyReport),
    Compact(CompactReport),
    Backup(BackupReport),
    Gc(GcReport),
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckReport {
    /// Objects whose hash and signature were verified.
    pub objects: u64,
    /// Records that wait for their parents.
    pub pending: u64,
    /// None in a sound store.
    pub finding_count: u64,
    /// The first hundred of them.
    pub findings: Vec<CheckFinding>,
}

/// An entry that is not what follows from the objects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CheckFinding {
    pub column: String,
    /// In hex, or what names the object.
    pub key: String,
    pub expected: String,
    pub found: String,
}

/// What reading every file found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VerifyReport {
    /// Table files of the database.
    pub files: u64,
    pub artifacts: u64,
    pub damaged_files: Vec<DamagedFile>,
    pub damaged_artifacts: Vec<DamagedArtifact>,
}

/// A file of the database that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DamagedFile {
    pub column: String,
    /// Its name in the store's folder, where it is known.
    pub file: Option<String>,
    pub why: String,
}

/// An artifact that is not what its address says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DamagedArtifact {
    pub cid: String,
    /// A node removes it, so that it is fetched again; a reading command leaves it.
    pub removed: bool,
}

/// Bytes of the database before and after.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CompactReport {
    pub bytes_before: u64,
    pub bytes_after: u64,
}

/// A backup of the database in a folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Backup {
    pub id: u32,
    pub timestamp: u64,
    /// Of its files; those that it shares with other backups too.
    pub bytes: u64,
    pub files: u32,
}

/// What making a backup came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BackupReport {
    pub backup: Backup,
    /// Copied now; what the folder had already is not copied again.
    pub artifacts_copied: u64,
    pub artifact_bytes_copied: u64,
    /// Damaged here, and left out.
    pub artifacts_damaged: Vec<String>,
}

/// What a collection dropped, or would drop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GcReport {
    pub dry_run: bool,
    /// In the order in which they go; the first ten thousand.
    pub dropped: Vec<DroppedArtifact>,
    pub dropped_count: u64,
    pub dropped_bytes: u64,
    pub kept_count: u64,
    pub kept_bytes: u64,
    /// Of those kept, what no bound could drop.
    pub protected_count: u64,
    pub protected_bytes: u64,
}

/// An artifact that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DroppedArtifact {
    pub cid: String,
    pub bytes: u64,
    pub last_used: u64,
    /// Records and manifests here that name it.
    pub references: u64,
    /// `age` or `size`.
    pub reason: String,
}

/// `GET /api/v1/upkeep/stats`: what the store takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreStats {
    pub columns: Vec<ColumnStats>,
    /// Of all table files and write-ahead logs.
    pub database_bytes: u64,
    /// Of the write-ahead logs.
    pub log_bytes: u64,
    pub artifacts: u64,
    pub artifact_bytes: u64,
    pub pins: u64,
    /// Records that wait for their parents.
    pub pending: u64,
    /// The number of the newest change.
    pub sequence: u64,
    /// Changes that were acknowledged and were not here when the store was opened.
    pub lost_changes: Option<LostChanges>,
}

/// Numbers of changes, both ends included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LostChanges {
    pub first: u64,
    pub last: u64,
}

/// One column's figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ColumnStats {
    pub name: String,
    /// An estimate.
    pub keys: u64,
    /// Of its table files.
    pub bytes: u64,
    pub files: u64,
    /// In memory, not yet in a table file.
    pub memtable_bytes: u64,
}

/// `GET /api/v1/upkeep/pending`: records that wait, the first to be dropped first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingPage {
    pub total: u64,
    pub pending: Vec<PendingRecord>,
    /// What to ask for the next page with, as `after`.
    pub next: Option<String>,
}

/// A record that waits for its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PendingRecord {
    pub id: String,
    pub waits_for: String,
    /// When it came here.
    pub since: u64,
    /// Bytes kept of it.
    pub bytes: u64,
}

/// What became of a pin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PinOutcome {
    pub cid: String,
    /// False where it was so already.
    pub changed: bool,
}

impl From<storage::Progress> for UpkeepProgress {
    fn from(progress: storage::Progress) -> Self {
        Self { stage: progress.stage.to_string(), done: progress.done, total: progress.total }
    }
}

impl From<storage::CheckReport> for CheckReport {
    fn from(report: storage::CheckReport) -> Self {
        let finding = |finding: storage::Finding| CheckFinding {
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
    /// Of the store's, with what it does not tell.
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
