//! Every bound and interval of the bridge, with its unit and its reason. Nothing else in this module
//! may carry a tuning number of its own.

use std::time::Duration;

// === the hub: connections, addresses, bans ===============================================

// --- connections -------------------------------------------------------------------------

/// Legacy connections in both directions. Each holds some hundred KB, and while large histories are
/// exchanged up to 8 MB: 3.5 MB of ids that the peer is known to have, two pages of [`PAGE_BYTES`] and the
/// buffers around them, [`WINDOW_BYTES`] of objects. What is large is bounded over all ([`LARGE_KIB`]).
pub const MAX_SESSIONS: usize = 128;
/// Of these, connections that others opened: the rest is kept for peers of our own choice.
pub const MAX_ACCEPTED: usize = 64;
/// Connections with one address: some nodes behind one router, and one each way where both dial. What
/// the operator names is dialled beyond it.
pub const MAX_PER_ADDRESS: usize = 8;
/// How long an accepted connection is safe: after it, the one that has exchanged least makes room where
/// all slots for such are taken. A slow peer has sent its first objects by then.
pub const SAFE_FOR: Duration = Duration::from_secs(2 * 60);
/// Connections that have given their slot to another and not ended yet. They end within milliseconds;
/// were some stuck, this is how many there may be beyond [`MAX_ACCEPTED`].
pub const GIVING_WAY: usize = 8;
/// Below this many connections of our own making, peers heard of are dialled. Every record goes to
/// every legacy peer, so more would only repeat it.
pub const OUTBOUND_TARGET: usize = 8;
/// Dials under way.
pub const DIALLING: usize = 8;
/// How long one IP address may take to answer a dial.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a name may take to be looked up: what the usual resolvers take for two attempts.
pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(15);
/// IP addresses of one name that are tried, one after the other.
pub const TRIED_ADDRESSES: usize = 8;
/// Pause after the system could not hand over a connection (no file descriptors left): time for some
/// to be closed, and no busy loop.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(500);
/// The hub's own clock: redials, the file of known peers.
pub const TICK: Duration = Duration::from_millis(250);
/// Commands that wait for the hub. Callers wait when it is full.
pub const COMMANDS: usize = 64;
/// Commands that wait for one session. They are few; a session that does not take them is stuck.
pub const SESSION_COMMANDS: usize = 16;
/// How long sessions may take to end at shutdown: they only close their sockets.
pub const SESSIONS_END_WITHIN: Duration = Duration::from_secs(3);

// --- redialling --------------------------------------------------------------------------

/// First wait before a peer is dialled again.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait for a peer that the operator named: one that was down for a day is found within a
/// minute.
pub const BACKOFF_NAMED: Duration = Duration::from_secs(60);
/// Longest wait for a peer that we found ourselves: there are others.
pub const BACKOFF_FOUND: Duration = Duration::from_secs(10 * 60);
/// Longest wait for the public peer, which serves everybody and may be gone for good.
pub const BACKOFF_PUBLIC: Duration = Duration::from_secs(60 * 60);
/// A connection that lasted this long was a good one: waits start afresh. A shorter one counts as a
/// failure, or a peer that hangs up at once would be dialled every second.
pub const STEADY_AFTER: Duration = Duration::from_secs(60);

// --- the address book --------------------------------------------------------------------

/// Peers that the operator names: with [`OUTBOUND_TARGET`] others they always find room beside
/// [`MAX_ACCEPTED`] connections. More are refused with a message.
pub const NAMED: usize = MAX_SESSIONS - MAX_ACCEPTED - OUTBOUND_TARGET;
/// Peers that were connected once and are kept in the file: 20 KB of text at most.
pub const KNOWN: usize = 256;
/// Peers heard of and not yet reached.
pub const HEARD: usize = 256;
/// Of these, from one address, so that one liar does not fill the book.
pub const HEARD_FROM_ONE: usize = 64;
/// Failures in a row after which a peer that was only heard of is forgotten.
pub const HEARD_FAILURES: u32 = 3;
/// Failures in a row after which a peer that was known is forgotten, if others are connected
/// meanwhile: at [`BACKOFF_FOUND`] some three hours.
pub const KNOWN_FAILURES: u32 = 24;
/// Addresses remembered to be this node's own.
pub const OWN: usize = 64;
/// Peers named in one answer to a peer exchange.
pub const EXCHANGED: usize = 64;
/// Bytes read of the file of known peers: [`KNOWN`] lines, were each the longest name.
pub const KNOWN_BYTES: u64 = 64 * 1024;
/// Shortest time between two writes of that file.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// Peers whose last synchronisation is remembered.
pub const SYNC_MARKS: usize = 1024;

// --- misbehaviour ------------------------------------------------------------------------

/// Penalty points at which an address is banned and its connections are closed, or a peer that the
/// operator named is not dialled for as long as a ban lasts.
pub const PENALTY_LIMIT: u32 = 1000;
/// For what no honest node sends (see `Offence`): the fourth within some minutes is too many.
pub const HEAVY: u32 = 250;
/// For a frame that does not come to its end: eight connections of one address that do nothing else are
/// banned within two minutes, and a slow line never is.
pub const LATE: u32 = 50;
/// For an object that only our stricter reading refuses: the reference relays such in good faith.
pub const LIGHT: u32 = 1;
/// Points that light offences alone can add up to: they never ban.
pub const LIGHT_MOST: u32 = PENALTY_LIMIT / 2;
/// One point is forgiven each time: a heavy offence is forgotten within about four minutes.
pub const FORGIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Addresses with points that are remembered, connected or not.
pub const PENALTIES: usize = 4096;
/// First ban of an address; each further one is twice as long.
pub const BAN_FIRST: Duration = Duration::from_secs(5 * 60);
/// Longest ban.
pub const BAN_MOST: Duration = Duration::from_secs(24 * 60 * 60);
/// How long after its end a ban is remembered, so that the next one doubles.
pub const BAN_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);
/// Bans remembered; the one that ends first makes room.
pub const BANS: usize = 1024;

// --- artifacts ---------------------------------------------------------------------------

/// Sessions asked for one artifact at once: the answer is the whole artifact, so each that has it sends
/// it whole.
pub const FETCH_AT_ONCE: usize = 2;
/// How long a session may take to bring an artifact. The reference says nothing when it has none.
pub const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
/// Sessions asked for one artifact.
pub const FETCH_SESSIONS: usize = 16;
/// Artifacts being fetched at once: at 10 MiB each.
pub const FETCHES: usize = 4;

// === sessions ============================================================================

// --- reading -----------------------------------------------------------------------------

/// Bytes asked of the socket at once: some hundred records, so that few system calls are made.
pub const READ_BYTES: usize = 256 * 1024;
/// What a connection's read buffer may keep when a large frame is dealt with.
pub const BUFFER_KEPT: usize = 1024 * 1024;
/// Frames dealt with before everything else has its turn: a tenth of a millisecond of work with
/// usual records, some milliseconds with the largest that are read at once ([`LARGE_BYTES`]). A flood's other
/// peers wait for that long at each of a message's stations.
pub const TURN_FRAMES: usize = 4;
/// Objects handed to `ingest` and not yet decided: four of its batches, one being inserted, one that
/// waits for that, one being verified and one being read. With fewer, each stage waits for another.
/// When there are as many, nothing is read, and TCP slows the peer down.
pub const WINDOW: usize = 4 * spore_ingest::BATCH;
/// Canonical bytes of these objects, beyond which nothing is read either: a thousand usual ones. All sessions
/// together may hold [`MAX_SESSIONS`] times as much, beside what is large ([`LARGE_KIB`]).
pub const WINDOW_BYTES: usize = 1024 * 1024;
/// Bytes above which a frame or an artifact is large. Usual ones, of a few KB, never are.
pub const LARGE_BYTES: usize = 256 * 1024;
/// KiB of what is large that all sessions together hold at once, by length: frames that are coming in,
/// objects that `ingest` has not decided, artifacts on their way out. Ten of the largest. Who finds no room
/// waits, in turn, and is not read meanwhile.
pub const LARGE_KIB: u32 = 96 * 1024;
/// How long one may hold such room for a frame to come in or an artifact to be taken: others wait for it.
/// The largest needs 3 megabits a second.
pub const LARGE_DEADLINE: Duration = Duration::from_secs(30);
/// Bodies up to so many times the limit are read past. The reference sends an object as ASCII without
/// looking at its size, and a character of one byte can take six.
pub const SKIPPED_TIMES: usize = 6;
/// How long a frame that has begun may go without another byte.
pub const FRAME_STALL: Duration = Duration::from_secs(30);
/// How long a frame may take in all: the largest, at half a megabit a second.
pub const FRAME_DEADLINE: Duration = Duration::from_secs(180);

// --- writing -----------------------------------------------------------------------------

/// Objects in one page of a history: one read of the store of some milliseconds.
pub const PAGE_OBJECTS: usize = 512;
/// Bytes in a page, after which it ends (with the object that went past it). Two pages are held, one
/// being written while the next one is read.
pub const PAGE_BYTES: usize = 1024 * 1024;
/// Bytes left of what is being written below which the next page is read.
pub const READ_AHEAD: usize = 512 * 1024;
/// Answers that wait for the peer to take them, all of them small: artifacts are read when their turn
/// comes. A reference that takes a history from us asks for a script with each record, ahead of what it
/// reads by what the sockets' buffers hold: some thousand records.
pub const ANSWERS: usize = 16 * 1024;
/// Bytes of answers put together for one write, before the history goes on.
pub const ANSWER_BYTES: usize = 256 * 1024;
/// Histories that a peer may have asked for and not yet got: each of the three, and each once more.
pub const WALKS: usize = 6;
/// How long the socket may take nothing while the peer says nothing either. The reference reads nothing
/// while it sends a history or dials others.
pub const WRITE_STALL: Duration = Duration::from_secs(120);
/// How long the socket may take nothing, whatever the peer says meanwhile.
pub const WRITE_STALL_MOST: Duration = Duration::from_secs(15 * 60);

// --- what a peer has ---------------------------------------------------------------------

/// Ids remembered of what a peer sent, as two generations of so many: what is offered to a peer that
/// does not ask leaves these out. 2.4 MB with a peer that has more objects; of these some then go to it again.
pub const HEARD_IDS: usize = 64 * 1024;
/// The same of what the peer was sent, so that nothing goes twice: what is new is sent within moments.
pub const TOLD_IDS: usize = 32 * 1024;
/// Tasks introduced over a connection. All are forgotten when there are more, which only repeats some.
pub const INTRODUCED: usize = 16 * 1024;
/// Frames without a new object (known ones, repeated ones, small talk, what we refuse) before a peer is
/// read more slowly: it may have a long history that we have from others.
pub const DUPLICATE_BURST: f64 = 100_000.0;
/// After that, so many a second: a tenth of a core.
pub const DUPLICATES_PER_SECOND: f64 = 5_000.0;
/// Bytes that make such a frame count once more: reading it takes time by its length. A burst is at most
/// 100 MB, whatever it consists of, and then come 5 MB a second.
pub const IDLE_BYTES: f64 = 1024.0;
/// Such frames that an object counts for which only the store or its signature shows to be wrong: it
/// was verified, and others waited meanwhile.
pub const REFUSED_FRAMES: f64 = 20.0;

// --- synchronising -----------------------------------------------------------------------

/// A session's own clock: time limits, statistics.
pub const SESSION_TICK: Duration = Duration::from_secs(1);
/// After so long between two of its ticks a session was itself what was waited for (`ingest` was slow),
/// and the peer is not to blame.
pub const BUSY: Duration = Duration::from_secs(5);
/// How long a history that we asked for may pause. The reference answers one message after the other,
/// and may be busy with others first.
pub const SYNC_PATIENCE: Duration = Duration::from_secs(180);
/// How long all of it may take, with however much coming in between: an hour brings millions of records.
pub const SYNC_PATIENCE_MOST: Duration = Duration::from_secs(60 * 60);
/// How often a history is asked for that comes short of what the peer counted.
pub const SYNC_ATTEMPTS: u32 = 2;
/// Seconds asked for again, before what the last synchronisation reached: publishers choose their
/// timestamps, and what they date back by less than a day still comes.
pub const SYNC_OVERLAP: u64 = 24 * 60 * 60;
/// How long after everything was asked for it is asked for again, at the next connection.
pub const FULL_SYNC_AFTER: Duration = Duration::from_secs(6 * 60 * 60);
/// Shortest time between two synchronisations on one connection, when something turns out to be missing.
pub const SYNC_AGAIN_AFTER: Duration = Duration::from_secs(10 * 60);
/// How far ahead of our clock a timestamp may be to count for where a synchronisation resumes, in
/// seconds: as `ingest` has it.
pub const SYNC_AHEAD: u64 = spore_ingest::MAX_AHEAD_SECONDS;
/// How long a peer may take to ask for our history, before it is offered what it lacks.
pub const OFFER_GRACE: Duration = Duration::from_secs(3);
/// Changes since the last connection that are sent one by one at the next; after more, everything that
/// the peer lacks is offered.
pub const LOG_RESUME: u64 = 100_000;

// --- silence -----------------------------------------------------------------------------

/// How long nothing may come before the peer is pinged.
pub const PING_AFTER: Duration = Duration::from_secs(30);
/// Shortest time between two pings by which we learn what the peer has dealt with.
pub const CONFIRM_INTERVAL: Duration = Duration::from_secs(10);
/// Pings without an answer that are kept track of.
pub const PINGS: usize = 64;
/// How long nothing may come before the connection is closed. The reference may take minutes over
/// addresses that do not answer, one after the other.
pub const SILENCE: Duration = Duration::from_secs(10 * 60);

// --- artifacts over one connection -------------------------------------------------------

/// Largest artifact sent: in base64 it fits in a frame of 10 MiB.
pub const CODE_BYTES: u64 = 7 * 1024 * 1024;
/// Artifacts asked for and not yet answered.
pub const CODES_ASKED: usize = 8;
/// How long an artifact is waited for where the peer answers no ping either.
pub const CODE_PATIENCE: Duration = Duration::from_secs(60);
