//! Every bound and interval of the network, with its unit and its reason. Never elsewhere in this crate: a number that
//! tunes behaviour.

use std::time::Duration;

use spore_protocol::signed::MAX_OBJECT_BYTES;

/// Most connections with one host, one subnet and one site ([`spore_base::subnet::Subnet`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixBounds {
    pub host: usize,
    pub subnet: usize,
    pub site: usize,
}

// --- connections -------------------------------------------------------------------------

/// Incoming connections. A relay serves a few hundred; an idle one costs some tens of KB.
pub const MAX_INCOMING: usize = 256;
/// Incoming connections with public addresses. A host is a household, a subnet some rented servers, and four sites fill
/// all slots, so that whoever has one site leaves most of the slots to others.
pub const PUBLIC_BOUNDS: PrefixBounds = PrefixBounds { host: 8, subnet: 16, site: 64 };
/// Incoming connections with private addresses. The network may be a laboratory's, or hold everybody behind a container's
/// router, so that a host has more slots than a public one. Half of all slots stay free.
pub const PRIVATE_BOUNDS: PrefixBounds = PrefixBounds { host: 32, subnet: 64, site: 128 };
/// How long a new connection is safe from being closed for another one: a peer needs a session or two to show that it is
/// of use.
pub const GRACE: Duration = Duration::from_secs(2 * 60);
/// How long a peer counts as one of use after it brought an object of a signer with confirmed work. Such objects come
/// every few minutes in a task with some nodes.
pub const USEFUL_TIME: Duration = Duration::from_secs(60 * 60);
/// Signers whose peers of use are remembered, one for each: more than there are slots.
pub const USEFUL_SIGNERS: usize = 4 * MAX_INCOMING;
/// Time between two looks at which peers were of use. Each look reads a key or two for each signer.
pub const USEFUL_INTERVAL: Duration = Duration::from_secs(5);
/// Pairs of a peer and a signer that one look is about. Further ones are left out: a peer of use brings more.
pub const DELIVERIES: usize = 256;
/// Outgoing connections. Gossip needs a mesh of 8; the rest is room for named and discovered peers.
pub const MAX_OUTGOING: u32 = 64;
/// Handshakes of incoming connections under way. A handshake costs CPU before the peer is known, and ten seconds pass
/// before a silent one is given up.
pub const MAX_PENDING_INCOMING: usize = 64;
/// The same by address. Half of the places stay free for other sites, however many half-open connections one has.
pub const PENDING_BOUNDS: PrefixBounds = PrefixBounds { host: 16, subnet: 24, site: 32 };
/// Dials under way.
pub const MAX_PENDING_OUTGOING: u32 = 64;
/// Connections to one peer: two when both sides dial at once, and one more while QUIC replaces TCP.
pub const MAX_PER_PEER: u32 = 3;
/// A connection without any stream is closed after this time. Connections are bounded by their number, so this only
/// clears forgotten ones. It is longer than identify's interval of five minutes, which keeps a healthy connection open.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(15 * 60);
/// Below this many connected peers, peers that Kademlia knows are dialled. A gossip mesh has 6 to 12.
pub const TARGET_PEERS: usize = 8;
/// Peers dialled after one search. Few, so that many nodes which look for peers do not flood one.
pub const DISCOVERY_DIALS: usize = 4;
/// Time between two searches for peers while there are too few.
pub const DISCOVERY_INTERVAL: Duration = Duration::from_secs(30);
/// Time between two refreshes of Kademlia's table.
pub const KAD_BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Addresses taken from one peer's identify. A host has a handful; a lying peer sends thousands.
pub const ADDRESSES_PER_PEER: usize = 16;
/// Characters kept of a peer's name for its program, which people see.
pub const AGENT_LENGTH: usize = 64;
/// Longest backoff before a named peer is dialled again. A relay that was down for a day is found again within a
/// minute.
pub const BACKOFF_MOST: Duration = Duration::from_secs(60);
/// Interval of [`crate::state::NetworkEvent::Tick`]. Short, because wants and sessions wait for it.
pub const TICK: Duration = Duration::from_millis(250);

// --- addresses ---------------------------------------------------------------------------

/// Networks of own interfaces that are remembered. A machine with containers has some dozens.
pub const OWN_NETWORKS: usize = 256;
/// Time between two looks at the own interfaces, so that a laptop in another network is noticed.
pub const OWN_NETWORKS_INTERVAL: Duration = Duration::from_secs(15);
/// Failed dials in a row after which a peer is taken out of Kademlia's table. It is back with its next connection.
pub const DIAL_FAILURES: u8 = 3;
/// Peers whose failed dials are counted.
pub const FAILED_PEERS: usize = 1024;
/// Own addresses, as other peers see them, that are tested or used for hole punching, in all and by the subnet of those
/// who report them. Behind a symmetric router every peer sees another one. A lying peer costs a few tests.
pub const OBSERVED: usize = 32;
pub const OBSERVED_PER_SUBNET: usize = 4;
/// How long an observed address is remembered after it was last reported.
pub const OBSERVED_TIME: Duration = Duration::from_secs(60 * 60);
/// Time between two rounds of reachability tests of observed addresses.
pub const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// Dials a minute that other nodes may cause here by asking whether they are reachable, in all and by the subnet that is
/// dialled: a node needs two or three at its start. Each asker has also sent 30 kB or more for an address that is not
/// the one it is seen at.
pub const DIAL_BACKS: usize = 32;
pub const DIAL_BACKS_PER_SUBNET: usize = 6;
pub const DIAL_BACKS_TIME: Duration = Duration::from_secs(60);

// --- reachability ------------------------------------------------------------------------

/// Time with a public peer after which a node without a public address of its own counts as private. Only a forwarded port
/// would make it public, and a test says so a few seconds later.
pub const PRIVATE_AFTER: Duration = Duration::from_secs(3);
/// The same for a node with a public address, which a firewall may protect.
pub const FIREWALLED_AFTER: Duration = Duration::from_secs(45);
/// Relays at which a private node has reservations.
pub const RESERVATIONS_WANTED: usize = 2;
/// Relays known and not used.
pub const KNOWN_RELAYS: usize = 64;
/// Time in which a relay answers a request for a reservation.
pub const RESERVATION_TIMEOUT: Duration = Duration::from_secs(20);
/// Wait before a relay that refused or died is asked again: the first one, and the longest. A private node is reachable
/// again within a minute after its only relay is back.
pub const RELAY_BACKOFF_FIRST: Duration = Duration::from_secs(2);
pub const RELAY_BACKOFF_MOST: Duration = Duration::from_secs(20);
/// Time between two searches for relays in Kademlia while there are too few.
pub const RELAY_SEARCH_INTERVAL: Duration = Duration::from_secs(30);
/// Relays dialled after one search.
pub const RELAY_DIALS: usize = 4;
/// How long a direct connection lasts before the one through a relay is closed: the other side has it too by then.
pub const DIRECT_AFTER: Duration = Duration::from_secs(3);

// --- relay -------------------------------------------------------------------------------

/// Reservations of a relay. A reservation is an open connection, of which there are [`MAX_INCOMING`], and a timer.
pub const RESERVATIONS: usize = 128;
/// The same by address. A household has two or three machines; four sites take half of the places.
pub const RESERVATION_BOUNDS: PrefixBounds = PrefixBounds { host: 4, subnet: 8, site: 16 };
/// How long a reservation lasts without renewal. libp2p renews it after three quarters of it.
pub const RESERVATION_TIME: Duration = Duration::from_secs(60 * 60);
/// Circuits of a relay at once, and of one peer.
pub const CIRCUITS: usize = 64;
pub const CIRCUITS_PER_PEER: usize = 8;
/// Longest time of a circuit. Peers that cannot connect directly make a new one.
pub const CIRCUIT_TIME: Duration = Duration::from_secs(60 * 60);
/// Bytes of a circuit in both directions: a dataset of some tens of megabytes passes in one.
pub const CIRCUIT_BYTES: u64 = 64 * 1024 * 1024;
/// Circuits that one subnet may begin at once, and the time after which one more is allowed. With [`CIRCUIT_BYTES`] a
/// subnet moves at most 1.3 GiB at once and 200 kB/s after that, so that a relay is a poor proxy.
pub const CIRCUIT_BURST: usize = 20;
pub const CIRCUIT_INTERVAL: Duration = Duration::from_secs(5 * 60);
/// Subnets whose circuits are counted.
pub const CIRCUIT_SUBNETS: usize = 4096;

// --- providers ---------------------------------------------------------------------------

/// Keys for which Kademlia keeps providers of other nodes, twenty for each, of some 200 bytes: 4 MiB.
pub const PROVIDED_KEYS: usize = 1024;

// --- peers of other peers ----------------------------------------------------------------

/// Peers that one answer about other peers names. With [`PEER_ADDRESSES`] of some 80 bytes each it has 10 kB.
pub const PEERS_NAMED: usize = 16;
/// Addresses of each of them.
pub const PEER_ADDRESSES: usize = 8;
/// Peers asked for other peers in one search.
pub const PEERS_ASKED: usize = 2;
/// Time after a new connection in which peers are searched for, while there are too few; and the first time between two
/// searches, which grows to [`DISCOVERY_INTERVAL`].
pub const FIRST_SEARCH: Duration = Duration::from_secs(2);

// --- peers of earlier runs ---------------------------------------------------------------

/// Peers remembered over restarts, of about 150 bytes each.
pub const REMEMBERED: usize = 256;
/// Of these, in one subnet and in one site, so that nobody fills the memory with the addresses of one hoster.
pub const REMEMBERED_PER_SUBNET: usize = 4;
pub const REMEMBERED_PER_SITE: usize = 16;
/// Of these, peers that only reported their address: anybody may report any.
pub const REMEMBERED_TOLD: usize = 64;
/// Days after which a peer that did not answer since is forgotten.
pub const REMEMBERED_DAYS: u64 = 30;
/// Time between two saves of the remembered peers.
pub const REMEMBER_INTERVAL: Duration = Duration::from_secs(60);

// --- silent peers ------------------------------------------------------------------------

/// Time between two pings. A peer that is gone without a word is noticed after two of them have failed in a row: within
/// twice this time, [`PING_TIMEOUT`], and the ten seconds in which libp2p waits for a new stream, which are 30 s.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// Time in which a ping is answered. A line that is busy with a large chunk delays the answer by some seconds.
pub const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Time in which a connection is set up. Shorter than the ten seconds in which libp2p answers a node that asks whether it is
/// reachable: a silent router would leave that question without an answer.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(8);

// --- bans --------------------------------------------------------------------------------

/// Peers that may share a public host: its points ban it at as many times the points of a peer. Honest ones behind one
/// router are cut off for minutes with a liar, so two liars are needed.
pub const HOST_SHARED_BY: u32 = 2;
/// The same for a subnet.
pub const SUBNET_SHARED_BY: u32 = 8;
/// Peers whose addresses are remembered after they left, of about 100 bytes each: those whose messages are being judged.
pub const LEFT_PEERS: usize = 256;
/// Time between two log lines about refused messages.
pub const REFUSED_INTERVAL: Duration = Duration::from_secs(60);

// --- clocks ------------------------------------------------------------------------------

/// Time between two looks at this machine's clock. A jump is noticed within this time.
pub const CLOCK_LOOK: Duration = Duration::from_secs(1);
/// Time between two readings of one peer's clock. Between them its clock is reckoned to go on at the right speed.
pub const CLOCK_INTERVAL: Duration = Duration::from_secs(10 * 60);
/// The same while the clocks differ widely, so that a clock that was set right is noticed, on either side. After this
/// machine slept, its own reckoning is wrong until the clocks are read again.
pub const CLOCK_FAR_INTERVAL: Duration = Duration::from_secs(30);

// --- gossip ------------------------------------------------------------------------------

/// Tasks whose topics are followed. Each costs three subscriptions with every peer. Further tasks come by catch-up
/// alone.
pub const MAX_TASKS: usize = 1024;
/// Of these, tasks that are followed although nobody has a result in them that holds here. However many new tasks there
/// are, they take no more, and at least so many are followed.
pub const NEW_TASKS: usize = 256;
/// New tasks that may take the place of older new ones between two looks. Each changes three subscriptions with every
/// peer.
pub const NEW_TASK_CHANGES: usize = 16;
/// Ticks between two looks at which tasks are to be followed: a minute. A look reads two keys for each task.
pub const FOLLOW_TICKS: u32 = 240;
/// Subscriptions accepted from one peer: those of a node with [`MAX_TASKS`] tasks, the two that everybody has, and some
/// room. At some 130 bytes each they take 0.4 MiB.
pub const MAX_SUBSCRIPTIONS: usize = 3 * MAX_TASKS + 64;
/// Gossip messages being validated. Further ones are ignored, and come by catch-up.
pub const VALIDATING: usize = 1024;
/// Objects remembered that came by gossip before their parents. These objects are announced when they are stored.
pub const HELD: usize = 4096;
/// Objects published between two ticks. An import of thousands would fill every peer's queue. The rest is announced as
/// news, and peers fetch it by catch-up.
pub const PUBLISH_BURST: usize = 128;
/// How long gossipsub keeps messages for forwarding, in heartbeats of a second. A busy `ingest` may take some seconds
/// to decide.
pub const HISTORY: usize = 12;
/// How long gossipsub remembers a message's id, so that the message is not handled twice.
pub const DUPLICATE_TIME: Duration = Duration::from_secs(120);

// --- requests ----------------------------------------------------------------------------

/// Time after which a request without an answer has failed. A chunk of 1 MiB takes 17 s at 0.5 Mbit/s.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Streams of one protocol on one connection.
pub const STREAMS: usize = 16;
/// Requests of others being answered, for each protocol. At 1 MiB an answer they take 64 MiB of memory.
pub const ANSWERING: usize = 64;
/// Requests of one peer being answered, for each protocol, so that one peer cannot take up [`ANSWERING`]. A peer needs
/// a session and a few wanted objects or artifacts at a time.
pub const ANSWERING_PER_PEER: usize = 8;
/// The same for the peers of one public host, subnet and site, whatever number of keys they have: a quarter, a little more
/// for some machines in a row, and half, so that others are answered beside whoever has a whole site.
pub const ANSWERING_BOUNDS: PrefixBounds =
    PrefixBounds { host: ANSWERING / 4, subnet: ANSWERING * 3 / 8, site: ANSWERING / 2 };
/// Bytes that one public subnet is answered at once: a history of 50,000 records. Whoever has one IPv6 host has 256.
pub const UPLOAD_BURST: u32 = 64 * 1024 * 1024;
/// Bytes a second that one public subnet is answered after that: a good line at home.
pub const UPLOAD_RATE: u32 = 4 * 1024 * 1024;
/// Least bytes that an answer counts for: what reading and comparing cost, which small answers need too.
pub const LEAST_ANSWER: u32 = 16 * 1024;
/// How long an answer waits for its turn. Then it is dropped, before the peer gives up, which asks again.
pub const UPLOAD_WAIT: Duration = Duration::from_secs(20);
/// Subnets whose uploads are remembered, of about 150 bytes each. Full buckets are forgotten beyond.
pub const UPLOAD_SUBNETS: usize = 4096;
/// Messages from jobs that wait for the network task. A job waits while the queue is full.
pub const JOB_MESSAGES: usize = 1024;

// --- catch-up ----------------------------------------------------------------------------

/// Time between two sessions with a random peer.
pub const RECONCILE_INTERVAL: Duration = Duration::from_secs(60);
/// Time between two announcements of news. What is stored in between is announced together.
pub const NEWS_INTERVAL: Duration = Duration::from_secs(2);
/// The same while a session is running, which will bring more news. A long catch-up should not make every peer start a
/// session every few seconds.
pub const NEWS_BUSY_INTERVAL: Duration = Duration::from_secs(15);
/// How long gossip may miss messages after a connection or a subscription: some heartbeats of a second.
pub const SETTLE: Duration = Duration::from_secs(4);
/// Shortest time between two sessions with one peer, however often it announces news.
pub const SESSION_PAUSE: Duration = Duration::from_secs(2);
/// Sessions running. Each uses a thread now and then, and holds one answer in memory.
pub const SESSIONS: usize = 8;
/// Longest session. Each request has its own timeout; this limit stops a peer that answers each one just in time and
/// would hold one of [`SESSIONS`] for hours. The objects that came are kept, so a later session has less to do.
pub const SESSION_LIMIT: Duration = Duration::from_secs(10 * 60);
/// Tasks in the plan of one session. With more, the session compares everything.
pub const SESSION_TASKS: usize = 32;
/// Bytes of a reconciliation message: about 500 ids, so that one request can ask for the ids of one message.
pub const FRAME_BYTES: usize = 16 * 1024;
/// Most active tasks that a peer names, and own ones, that are compared before all others. Tasks in which somebody has
/// confirmed work are the most active, so no flood of new ones keeps them waiting.
pub const ACTIVE_TASKS: usize = 64;
/// Changes of the store after which all shards are read again, not only those with a changed task.
pub const SHARD_CHANGES: usize = 4096;
/// Time after which all shards are read again. An event moves to another task when its record arrives, which the
/// change log tells of the record's task alone.
pub const SHARDS_ANEW: Duration = Duration::from_secs(10 * 60);
/// Share of a core that reading shards may take: one in so many. Between two long reads, the digests are older.
pub const SHARDS_SHARE: u32 = 32;
/// Tasks in a row that a session compares without learning anything. The rest is left to the next session, which begins
/// at another shard. A peer that holds much of what this node refuses would otherwise have all of it compared
/// each time.
pub const FRUITLESS_TASKS: usize = 512;
/// Comparisons and absent objects that are remembered because they brought nothing, of about 150 bytes each.
pub const FRUITLESS: usize = 16_384;
/// How long they are remembered. What a peer lacks it may get, and what changed is compared at once.
pub const FRUITLESS_TIME: Duration = Duration::from_secs(60 * 60);
/// Bytes of a catch-up request or answer: a frame, or the digests of [`MAX_TASKS`] tasks of 48 bytes.
pub const SYNC_BYTES: usize = 64 * 1024;
/// Rounds of one reconciliation: two million objects at a frame each. A peer that needs more invents ids.
pub const ROUNDS: u32 = 4096;
/// Rounds in a row that name no new id. An honest peer that lacks a scattered tenth of 100,000 objects needs some 250
/// (modelled with these limits).
pub const IDLE_ROUNDS: u32 = 2048;
/// How often a lost message is sent again before the session ends.
pub const RETRIES: u32 = 2;
/// Ids in one request for objects: as many as a frame can name.
pub const OBJECTS_PER_REQUEST: usize = 512;
/// Canonical bytes of objects after which an answer takes no more objects. The rest is asked for again.
pub const OBJECTS_BYTES: usize = 1024 * 1024;
/// Bytes of an answer with objects: [`OBJECTS_BYTES`], one more object of the largest size, and their encoding.
pub const OBJECTS_ANSWER_BYTES: usize = OBJECTS_BYTES + MAX_OBJECT_BYTES + 256 * 1024;
/// Bytes of a request for objects: 34 bytes for an id, and some room.
pub const OBJECTS_REQUEST_BYTES: usize = 64 * OBJECTS_PER_REQUEST;

// --- wanted objects ----------------------------------------------------------------------

/// Objects wanted and not yet asked for. Further ones are dropped: `ingest` repeats a want while the object is missing.
pub const WANTED: usize = 1024;
/// Requests for wanted objects under way.
pub const WANT_TASKS: usize = 16;
/// Peers asked for a wanted object, besides the one that named it; and peers asked about a new task.
pub const WANT_PEERS: usize = 3;
/// Missing parents that are asked for when a peer connects.
pub const MISSING: usize = 256;

// --- artifacts ---------------------------------------------------------------------------

/// Bytes of a chunk of an artifact.
pub const CHUNK_BYTES: usize = 1024 * 1024;
/// Artifacts that are being fetched or wait for that.
pub const FETCHES: usize = 64;
/// Artifacts being fetched at once.
pub const FETCHING: usize = 4;
/// Peers asked for one artifact, one after the other.
pub const FETCH_PEERS: usize = 16;
/// Bytes a second that a peer must give of an artifact, after [`RATE_GRACE`], or the next peer is asked: so slow a peer
/// would hold one of [`FETCHING`], and research that waits for its dataset, for hours. When all peers are slower, this
/// node's line may be the reason, and the fastest of them is asked again.
pub const LEAST_RATE: u64 = 256 * 1024;
/// The same for the fastest of the slow peers: a line of 128 kbit/s.
pub const SLOWEST_RATE: u64 = 16 * 1024;
/// Longest time for an artifact that comes so slowly: 115 MiB over a line of 256 kbit/s.
pub const SLOW_TIME: Duration = Duration::from_secs(60 * 60);
/// Time in which an artifact may come at any rate. A script is here by then over the slowest line.
pub const RATE_GRACE: Duration = Duration::from_secs(30);
/// Time for an artifact from one peer, besides the time that its size takes at the least rate.
pub const FETCH_TIME: Duration = Duration::from_secs(60);
/// As many times as long all peers have together: as many liars hold back an honest peer that is asked after them.
pub const FETCH_LIARS: u32 = 3;
