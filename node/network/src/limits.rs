//! Every bound and interval of the network, with its unit and its reason. Nothing else in this
//! module may carry a tuning number of its own.

use std::time::Duration;

use spore_protocol::object::MAX_OBJECT_BYTES;

// --- connections -------------------------------------------------------------------------

/// Peers that may dial us. A relay serves a few hundred; each costs some tens of KB idle.
pub const MAX_INCOMING: u32 = 256;
/// Peers that we dial. Gossip needs a mesh of 8; the rest is room for bootstrap and discovery.
pub const MAX_OUTGOING: u32 = 64;
/// Handshakes under way in each direction: they cost CPU before we know who it is.
pub const MAX_PENDING: u32 = 64;
/// Connections to one peer: one each way when both dial at once, one more while QUIC replaces TCP.
pub const MAX_PER_PEER: u32 = 3;
/// Connections are bounded by count, not closed for being quiet; this only clears dead wood. Longer
/// than identify's interval of five minutes, which therefore keeps a healthy connection alive.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Below this many peers, peers known to Kademlia are dialled. A gossip mesh has 6 to 12.
pub const TARGET_PEERS: usize = 8;
/// Peers dialled for that at once: discovery is a trickle, not a storm.
pub const DISCOVERY_DIALS: usize = 4;
/// How often too few peers are looked for.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);
/// How often Kademlia refreshes its table.
pub const KAD_BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Addresses taken from one peer's identify: a host has a handful; a liar would send thousands.
pub const ADDRESSES_PER_PEER: usize = 16;
/// Characters kept of a peer's agent string, which is shown to people.
pub const AGENT_LENGTH: usize = 64;
/// First wait before a bootstrap peer is dialled again.
pub const BACKOFF_FIRST: Duration = Duration::from_secs(1);
/// Longest wait: a relay that was down for a day is found again within a minute.
pub const BACKOFF_MOST: Duration = Duration::from_secs(60);
/// The network's own clock: redial, decay, queues.
pub const TICK: Duration = Duration::from_millis(250);

// --- misbehaviour ------------------------------------------------------------------------

/// Peers with penalty points that are remembered, connected or not.
pub const PENALTIES: usize = 4096;
/// Peers refused at one time; the one refused longest ago is let go when it is full.
pub const REFUSED: usize = 1024;
/// Pings in a row without an answer, 15 s apart, after which a peer is taken for dead.
pub const UNANSWERED_PINGS: u32 = 3;
/// How long a peer at the penalty limit is refused.
pub const REFUSED_FOR: Duration = Duration::from_secs(60 * 60);
/// One point is forgiven each time, so that rare mistakes of a long-lived peer do not add up.
pub const FORGIVE_INTERVAL: Duration = Duration::from_secs(60);

// --- gossip ------------------------------------------------------------------------------

/// Tasks whose topics are followed, the most active first. Each costs three
/// subscriptions with every peer; beyond it tasks come by catch-up alone.
pub const MAX_TASKS: usize = 1024;
/// Subscriptions accepted from one peer: what a node at [`MAX_TASKS`] has, and the global two.
pub const MAX_SUBSCRIPTIONS: usize = 3 * MAX_TASKS + 64;
/// Gossip messages in validation. More are ignored, and come by catch-up.
pub const VALIDATING: usize = 1024;
/// Objects remembered that came by gossip before their parents, to tell peers of when these come.
pub const HELD: usize = 4096;
/// Objects published between two ticks. An import of thousands would fill every peer's queue;
/// the rest is told as news, and peers fetch it by catch-up.
pub const PUBLISH_BURST: usize = 128;
/// How long gossip remembers messages for forwarding, in heartbeats of a second: a busy `ingest`
/// may take some seconds to decide.
pub const HISTORY: usize = 12;
/// How long a message's id is remembered so that it is not handled twice.
pub const DUPLICATE_TIME: Duration = Duration::from_secs(120);

// --- requests ----------------------------------------------------------------------------

/// A request without an answer after this is lost. A chunk of 1 MiB takes 17 s at 0.5 Mbit/s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams of one protocol on one connection.
pub const STREAMS: usize = 16;
/// Requests of others being answered, of each protocol: at 1 MiB an answer, 64 MiB of memory.
pub const ANSWERING: usize = 64;
/// Of those, for one peer, so that one cannot take them all. A peer needs a session and a few
/// wanted objects or artifacts at a time.
pub const ANSWERING_PER_PEER: usize = 8;
/// Messages from spawned work to the network task.
pub const WORK: usize = 1024;

// --- catch-up ----------------------------------------------------------------------------

/// How often one random peer is asked what we miss.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(60);
/// How long news that gossip may have missed is gathered before peers are told of it.
pub const NEWS_INTERVAL: Duration = Duration::from_secs(2);
/// The same while a session is running, which will bring more news: a long catch-up should not send
/// every peer looking every few seconds.
pub const NEWS_BUSY_INTERVAL: Duration = Duration::from_secs(15);
/// How long after a connection or a subscription gossip may still miss messages: some heartbeats of a second.
pub const SETTLE: Duration = Duration::from_secs(4);
/// Shortest time between two sessions with one peer, however often it reports news.
pub const SESSION_PAUSE: Duration = Duration::from_secs(2);
/// Sessions running, one for a peer at most: each has a thread at work now and then, and an answer in memory.
pub const SESSIONS: usize = 8;
/// Longest session. Each request has its own time; this ends a peer that answers every one of them
/// just in time and would hold one of [`SESSIONS`] for hours. What came is kept, and a later
/// session goes on from there.
pub const SESSION_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Tasks queued for a session with one peer; beyond it everything is reconciled.
pub const SESSION_TASKS: usize = 32;
/// A negentropy message: about 500 ids, so that what one round names can be asked for at once.
pub const FRAME_BYTES: usize = 16 * 1024;
/// A catch-up request or answer: a frame, or a list of [`MAX_TASKS`] tasks of 34 bytes.
pub const SYNC_BYTES: usize = 64 * 1024;
/// Rounds in one scope: two million objects at a frame each. More is a peer that makes ids up.
pub const ROUNDS: u32 = 4096;
/// Rounds in a row that name nothing new. An honest tree of 2^32 objects is 8 deep.
pub const IDLE_ROUNDS: u32 = 64;
/// Times a lost message is sent again before the session ends.
pub const RETRIES: u32 = 2;
/// Ids in one request for objects: what a frame can name.
pub const OBJECTS_PER_REQUEST: usize = 512;
/// Canonical bytes of objects in one answer, after which the rest is asked for again.
pub const OBJECTS_BYTES: usize = 1024 * 1024;
/// An answer with objects: up to the budget, then one more object of the largest size.
pub const OBJECTS_ANSWER_BYTES: usize = OBJECTS_BYTES + MAX_OBJECT_BYTES + 256 * 1024;
/// A request for objects: 34 bytes an id.
pub const OBJECTS_REQUEST_BYTES: usize = 64 * OBJECTS_PER_REQUEST;

// --- wanted objects ----------------------------------------------------------------------

/// Objects wanted and not yet asked for. More are dropped: `ingest` repeats what is still
/// missed.
pub const WANTED: usize = 1024;
/// Requests for wanted objects under way.
pub const WANT_TASKS: usize = 16;
/// Peers asked for a wanted object besides the one that spoke of it.
pub const WANT_PEERS: usize = 3;
/// Missing parents asked for when a peer connects.
pub const MISSING: usize = 256;

// --- artifacts ---------------------------------------------------------------------------

/// Bytes of an artifact in one answer.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// Artifacts being fetched or waiting for it.
pub const FETCHES: usize = 64;
/// Artifacts being fetched at once.
pub const FETCHING: usize = 4;
/// Peers asked for one artifact, one after the other.
pub const FETCH_PEERS: usize = 16;
