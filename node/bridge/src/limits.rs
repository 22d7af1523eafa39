//! Every bound and interval of the bridge, with its unit and its reason. No other module of the bridge may hold a
//! number that tunes behaviour.
//!
//! Penalty points and bans are not here: [`spore_base::standing`] has one table for both networks.

use std::time::Duration;

// === the hub: connections and addresses ==================================================

// --- connections -------------------------------------------------------------------------

/// Legacy connections in both directions. Each one holds some hundred KB. While two peers exchange large histories,
/// it holds up to 8 MB: 3.5 MB of ids that the peer is known to have, two pages of [`PAGE_BYTES`] with the buffers
/// around them, and [`WINDOW_BYTES`] of objects. [`LARGE_KIB`] bounds large messages over all connections.
pub const MAX_SESSIONS: usize = 128;
/// Connections that peers opened. The rest of [`MAX_SESSIONS`] is kept for peers that this node chose.
pub const MAX_ACCEPTED: usize = 64;
/// Connections with one address: some nodes behind one router, and two with a peer when both sides dial. Peers that
/// the operator named are not counted.
pub const MAX_PER_ADDRESS: usize = 8;
/// Connections that peers of one public subnet opened (an IPv4 /24, an IPv6 /56): a quarter of [`MAX_ACCEPTED`], so that
/// one rented subnet leaves slots to others.
pub const MAX_PER_SUBNET: usize = MAX_ACCEPTED / 4;
/// Connections that peers of one public site opened (an IPv4 /16, an IPv6 /48).
pub const MAX_PER_SITE: usize = MAX_ACCEPTED / 2;
/// Age below which an accepted connection is not closed for a new one. Past it, when all slots are taken, the
/// accepted connection that exchanged the fewest objects is closed. A slow peer has sent its first objects by then.
pub const SAFE_FOR: Duration = Duration::from_secs(2 * 60);
/// The same for a connection whose peer has sent no message. Peers speak as soon as they are connected.
pub const SAFE_WHILE_SILENT: Duration = Duration::from_secs(10);
/// Connections that gave their slot to another one and have not ended yet. They end within milliseconds. If some
/// were stuck, this is how many there may be beyond [`MAX_ACCEPTED`].
pub const GIVING_WAY: usize = 8;
/// Connections that this node opened, below which it dials peers that it only heard of. Every record goes to every
/// legacy peer, so more connections would only repeat records.
pub const OUTBOUND_TARGET: usize = 8;
/// Dials under way at once.
pub const DIALS: usize = 8;
/// How long one IP address may take to answer a dial.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the lookup of a name may take. The usual resolvers need this for two attempts.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// IP addresses of one name that are tried, one after the other.
pub const TRIED_ADDRESSES: usize = 8;
/// Pause after the operating system refused to accept a connection, for example because no file descriptor is left.
/// Some may be closed meanwhile, and the loop does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// How often the bridge's task looks for peers to dial and for a changed file of known peers.
pub const TICK: Duration = Duration::from_millis(250);
/// Commands queued for the bridge's task. Callers wait when the queue is full.
pub const COMMANDS: usize = 64;
/// Commands queued for one session. They are rare, so a session whose queue is full is stuck.
pub const SESSION_COMMANDS: usize = 16;
/// How long sessions may take to end at shutdown. They only close their sockets.
pub const SESSIONS_END_WITHIN: Duration = Duration::from_secs(3);

// --- redialling --------------------------------------------------------------------------

/// Longest wait before a peer that the operator named is dialled again. A peer that was down for a day is reached
/// again within a minute.
pub const BACKOFF_NAMED: Duration = Duration::from_secs(60);
/// Longest wait for a peer that this node found itself. There are others.
pub const BACKOFF_FOUND: Duration = Duration::from_secs(10 * 60);
/// Longest wait for the public peer, which serves everybody and may never come back.
pub const BACKOFF_PUBLIC: Duration = Duration::from_secs(60 * 60);

// --- the address book --------------------------------------------------------------------

/// Peers that the operator may name. Together with [`OUTBOUND_TARGET`] others they always find room beside
/// [`MAX_ACCEPTED`] connections. More are refused with a message.
pub const NAMED: usize = MAX_SESSIONS - MAX_ACCEPTED - OUTBOUND_TARGET;
/// Peers that were connected once and are kept in the file: at most 20 KB of text.
pub const KNOWN: usize = 256;
/// Peers that others named and that were never connected.
pub const HEARD: usize = 256;
/// Peers of [`HEARD`] that one address may name, so that one liar does not fill the book.
pub const HEARD_FROM_ONE: usize = 64;
/// Addresses in the book. The bounds above add up to less, with room for peers that are connected while they change
/// from one kind to another. About 200 bytes each.
pub const BOOK: usize = NAMED + KNOWN + HEARD + MAX_SESSIONS;
/// Failures in a row after which a peer that was never connected is forgotten.
pub const HEARD_FAILURES: u32 = 3;
/// Failures in a row after which a peer that was connected once is forgotten, if others are connected meanwhile. At
/// [`BACKOFF_FOUND`] this takes some three hours.
pub const KNOWN_FAILURES: u32 = 24;
/// Addresses that are remembered as this node's own.
pub const OWN: usize = 64;
/// Peers that are read of one answer to a peer exchange, and peers that are named in one.
pub const EXCHANGED: usize = 64;
/// Bytes that are read of the file of known peers: [`KNOWN`] lines of the longest names.
pub const KNOWN_BYTES: u64 = 64 * 1024;
/// Shortest time between two writes of that file.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// Peers whose last synchronisation is remembered.
pub const SYNC_MARKS: usize = 1024;

// --- fetching artifacts ------------------------------------------------------------------

/// Sessions that are asked for one artifact at once. Each that has the artifact sends all of it.
pub const FETCH_AT_ONCE: usize = 2;
/// How long a session may take to deliver an artifact. The reference sends no answer when it does not have one.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
/// Sessions that are asked for one artifact.
pub const FETCH_SESSIONS: usize = 16;
/// Artifacts that are fetched at once, of up to 10 MiB each.
pub const FETCHES: usize = 4;

// === sessions ============================================================================

// --- reading -----------------------------------------------------------------------------

/// Bytes that one read asks the socket for: some hundred records, so that few system calls are made.
pub const READ_BYTES: usize = 256 * 1024;
/// Capacity that a connection's buffer may keep after a large frame.
pub const BUFFER_KEPT: usize = 1024 * 1024;
/// Frames that a session handles before it yields: a tenth of a millisecond of work with usual records, some
/// milliseconds with the largest ones that need no permit ([`LARGE_BYTES`]). During a flood, other peers wait for
/// this long at each stage that a message passes.
pub const FRAMES_AT_ONCE: usize = 4;
/// Objects handed to the ingest service that have no verdict yet. The service has four batches in work: one being
/// inserted, one waiting for that, one being verified, one being collected. With fewer objects a stage would stand
/// idle. At this number the session stops reading, and TCP slows the peer down.
pub const WINDOW: usize = 4 * spore_ingest::BATCH;
/// Canonical bytes of those objects at which the session stops reading, too: a thousand usual objects. All sessions
/// together may hold [`MAX_SESSIONS`] times as much, beside the large objects of [`LARGE_KIB`].
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// Bytes above which a frame or an artifact is large. Usual ones have a few KB and never are.
pub const LARGE_BYTES: usize = 256 * 1024;
/// KiB of large messages that all sessions together hold at once: frames that are coming in, objects without a
/// verdict, artifacts that are being sent. Ten of the largest. A session that finds no room waits in a queue and
/// reads nothing meanwhile.
pub const LARGE_KIB: u32 = 96 * 1024;
/// How long a session may hold such memory while a frame comes in or the peer reads an artifact. Other sessions wait
/// for the memory. The largest frame needs 3 megabits a second.
pub const LARGE_DEADLINE: Duration = Duration::from_secs(30);
/// Bodies of up to this many times the limit are skipped instead of ending the connection. The reference writes an
/// object as ASCII and does not check the size of the result, in which one byte can become six.
pub const SKIPPED_TIMES: usize = 6;
/// How long a frame that has begun may pause.
pub const FRAME_STALL: Duration = Duration::from_secs(30);
/// How long a frame may take in all: the largest one at half a megabit a second.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(180);

// --- writing -----------------------------------------------------------------------------

/// Objects in one page of a history. The store reads a page in some milliseconds.
pub const PAGE_OBJECTS: usize = 512;
/// Bytes at which a page ends, including the object that passed the bound. A session holds two pages: one is being
/// written while the next one is read.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// The next page is read when fewer bytes than these are left of the one being written.
pub const READ_AHEAD: usize = 512 * 1024;
/// Answers queued for the peer. All of them are small, because an artifact is read only when its answer is next. A
/// reference that receives a history from us asks for a script with each record, and may be some thousand records
/// behind: as many as the sockets' buffers hold.
pub const ANSWERS: usize = 16 * 1024;
/// Bytes of answers that are written together before the history goes on.
pub const ANSWER_BYTES: usize = 256 * 1024;
/// Histories that a peer may have asked for and not received yet: each of the three, twice.
pub const WALKS: usize = 6;
/// How long the socket may accept nothing while the peer sends nothing either. The reference does not read while it
/// sends a history or dials others.
pub const WRITE_STALL: Duration = Duration::from_secs(120);
/// How long the socket may accept nothing, whatever the peer sends meanwhile.
pub const WRITE_STALL_MOST: Duration = Duration::from_secs(15 * 60);

// --- what a peer has ---------------------------------------------------------------------

/// Ids that a session remembers of the objects that the peer sent, in two generations of this many. Objects that are
/// offered to a peer leave these out. 2.4 MB with a peer that has more objects; some of those then go back to it.
pub const RECEIVED_IDS: usize = 64 * 1024;
/// Ids that a session remembers of the objects that it sent, so that none goes twice. Fewer are enough, because new
/// objects are sent within moments.
pub const SENT_IDS: usize = 32 * 1024;
/// Tasks that a session has introduced. When there are more, all are forgotten, and some are introduced again.
pub const INTRODUCED: usize = 16 * 1024;
/// Frames without a new object (known or repeated objects, messages without one, refused objects) that a peer may
/// send before it is read more slowly. The peer may have a long history that this node has from others.
pub const IDLE_BURST: f64 = 100_000.0;
/// Such frames per second that are read after that: a tenth of a core.
pub const IDLE_PER_SECOND: f64 = 5_000.0;
/// Bytes for which such a frame counts once more, because reading takes time by length. A burst is at most 100 MB,
/// whatever it consists of, and 5 MB a second follow.
pub const IDLE_BYTES: f64 = 1024.0;
/// Frames that a refused object counts for when only the store or the signature shows that it is wrong. It was
/// verified, and other objects waited meanwhile.
pub const REFUSED_FRAMES: f64 = 20.0;

// --- synchronising -----------------------------------------------------------------------

/// How often a session checks its deadlines and reports its statistics.
pub const SESSION_TICK: Duration = Duration::from_secs(1);
/// Time for the first message of a peer that a user asked to connect to, and waits for. Peers answer at once, and a busy
/// one within a few seconds.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// Time between two looks for that message: shorter than a person notices.
pub const ANSWER_INTERVAL: Duration = Duration::from_millis(50);
/// Time between two of its ticks after which a session was held up itself, by a slow ingest service. The peer is not
/// to blame for a frame that is late.
pub const HELD_UP: Duration = Duration::from_secs(5);
/// How long a history that was asked for may pause. The reference handles one message after the other and may serve
/// others first.
pub const SYNC_PATIENCE: Duration = Duration::from_secs(180);
/// How long all three histories may take, whatever comes in between. An hour brings millions of records.
pub const SYNC_PATIENCE_MOST: Duration = Duration::from_secs(60 * 60);
/// How often a history is asked for when fewer objects come than the peer counted.
pub const SYNC_ATTEMPTS: u32 = 2;
/// Seconds before the end of the last synchronisation from which the next one asks. Publishers choose their
/// timestamps, and objects that are dated back by less than a day still come.
pub const SYNC_OVERLAP: u64 = 24 * 60 * 60;
/// Age of the last full synchronisation at which the next connection asks for everything again.
pub const FULL_SYNC_AFTER: Duration = Duration::from_secs(6 * 60 * 60);
/// Shortest time between two synchronisations on one connection, when an object turns out to be missing.
pub const SYNC_AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// Seconds by which a timestamp may be ahead of the clock and still say where a synchronisation resumes. The ingest
/// service accepts no object that is further ahead.
pub const SYNC_AHEAD: u64 = spore_ingest::MAX_AHEAD_SECONDS;
/// How long a peer may take to ask for this node's history before it is offered what it lacks.
pub const OFFER_GRACE: Duration = Duration::from_secs(3);
/// Changes since the last connection that are sent one by one at the next one. When there are more, everything that
/// the peer lacks is offered.
pub const LOG_RESUME: u64 = 100_000;

// --- silence -----------------------------------------------------------------------------

/// How long a peer may send nothing before it is pinged.
pub const PING_AFTER: Duration = Duration::from_secs(30);
/// Shortest time between two pings that find out what the peer has handled.
pub const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);
/// Pings without an answer that a session keeps track of.
pub const PINGS: usize = 64;
/// How long a peer may send nothing before the connection is closed. The reference may spend minutes on addresses
/// that do not answer, one after the other.
pub const SILENCE: Duration = Duration::from_secs(10 * 60);

// --- artifacts over one connection -------------------------------------------------------

/// Largest artifact that is sent, in bytes. In base64 it fits a frame of 10 MiB.
pub const ARTIFACT_BYTES: u64 = 7 * 1024 * 1024;
/// Artifacts that a session has asked for and not received.
pub const ARTIFACTS_ASKED: usize = 8;
/// How long a session waits for an artifact from a peer that answers no ping either.
pub const ARTIFACT_PATIENCE: Duration = Duration::from_secs(60);
