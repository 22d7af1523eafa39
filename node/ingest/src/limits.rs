//! The bounds of the ingest service, each with its reason.

use std::time::Duration;

/// Objects that wait for verification. A full inbox makes senders wait, which slows their peers down. At 2 KB an object
/// the inbox holds about 8 MB. Senders bound large objects themselves (the bridge by `limits::LARGE_KIB`).
pub const INBOX: usize = 4096;

/// Requests for missing objects that the network has not taken yet. More are dropped: catch-up brings the objects too.
pub const WANTS: usize = 1024;

/// Most objects in one insertion: enough to spread the cost of a synced write, few enough that a sender waits
/// milliseconds.
pub const BATCH: usize = 512;

/// Verified batches that wait while the batch before is inserted. With one, neither stage waits for the other. With
/// more, senders would only wait longer.
pub(crate) const BATCHES_AHEAD: usize = 1;

/// Store events that a slow listener may lag behind. A listener that lags further gets an error, and reads the store's
/// change log instead.
pub const EVENTS: usize = 4096;

/// How far ahead of our clock the timestamp of an object may be, in seconds.
pub const MAX_AHEAD_SECONDS: u64 = 3600;

/// Fewest objects for one verifying thread: for fewer, starting the thread costs more than it saves.
pub(crate) const MIN_CHUNK: usize = 16;

/// Origins that are remembered for pending objects, of about 100 bytes each. Other pending objects count as imported,
/// which costs one needless forwarding decision.
pub(crate) const PENDING_ORIGINS: usize = 16_384;

/// Time between two rounds of asking for missing parents.
pub(crate) const ASK_AGAIN: Duration = Duration::from_secs(60);

/// Missing parents asked for in one round: a fraction of [`WANTS`], so that new ones find room.
pub(crate) const ASKED_AT_ONCE: usize = WANTS / 4;

/// Time between two attempts to write to a store that refused a batch. RocksDB looks for free space as often.
pub(crate) const TRY_AGAIN: Duration = Duration::from_secs(5);

/// Seconds after which a sender may try again an object that found no room: quotas refill by a record in about a second,
/// and many senders share them.
pub(crate) const RETRY_QUOTA_SECONDS: u64 = 60;

/// Seconds after which a sender may try again an object for which there was no disk space: a person has to act.
pub(crate) const RETRY_SPACE_SECONDS: u64 = 600;

/// How far ahead of our clock the timestamp of an object of another node may be before the object is kept aside until it
/// is due. Less than [`MAX_AHEAD_SECONDS`] by more than the clocks of honest nodes differ, so that what one node passes
/// on no other node refuses.
pub const HELD_AHEAD_SECONDS: u64 = MAX_AHEAD_SECONDS - 300;

/// From here on an object from the future costs its sender penalty points. No clock that is set is this wrong.
pub(crate) const FUTURE_SECONDS: u64 = 2 * MAX_AHEAD_SECONDS;

/// Objects that are kept until they are due. An honest node whose clock is an hour ahead makes a few dozen.
pub(crate) const EARLY: usize = 1024;

/// Bytes of the objects that are kept until they are due.
pub(crate) const EARLY_BYTES: usize = 4 << 20;

/// Time between two looks for objects that are due.
pub(crate) const LOOK_FOR_DUE: Duration = Duration::from_secs(2);

/// Bytes of the objects in events that the slowest listener has not taken.
pub(crate) const EVENT_BYTES: usize = 64 << 20;

/// Objects up to this size are announced also beyond [`EVENT_BYTES`]: with [`EVENTS`] of them the bound is doubled.
pub(crate) const SMALL_EVENT_BYTES: usize = 16 << 10;
