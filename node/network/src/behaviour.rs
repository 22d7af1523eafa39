//! The libp2p behaviours of a node, their settings, and the swarm around them.

use std::{
    iter,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use libp2p::{
    Multiaddr, PeerId, Swarm, SwarmBuilder, allow_block_list,
    allow_block_list::BlockedPeers,
    autonat,
    connection_limits::{self, ConnectionLimits},
    dcutr,
    gossipsub::{self, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, ValidationMode},
    identify,
    identity::Keypair,
    kad, mdns, ping, relay,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    upnp,
};
use sha2::{Digest, Sha256};
use spore_base::standing::PENALTY_LIMIT;
use spore_protocol::{
    cbor::{self, Bytes, CborError},
    wire::MAX_MESSAGE_BYTES,
};

use super::{
    addresses::counted,
    config::{NetworkConfig, NetworkError},
    guard::AddressGuard,
    limits,
    messages::{
        ARTIFACT_PROTOCOL, ArtifactCodec, IDENTIFY_PROTOCOL, KAD_PROTOCOL, OBJECTS_PROTOCOL, ObjectsCodec,
        SYNC_PROTOCOL, SyncCodec,
    },
    slots::{self, ConnectionSlots, RelayUse},
    state::peer_of,
    topics::CanonicalTopics,
    transport::{Transport, transport},
    watch::{DialBacks, Mapped, Observers, Watched},
};

/// A peer may subscribe to topics with canonical names, and to a bounded number of them.
type Subscriptions = MaxCountSubscriptionFilter<CanonicalTopics>;

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    /// First, so that a banned peer costs nothing more.
    pub banned: allow_block_list::Behaviour<BlockedPeers>,
    limits: connection_limits::Behaviour,
    /// After all others that refuse connections, so that it closes a connection only for one that comes to be.
    pub slots: slots::Behaviour,
    pub gossip: gossipsub::Behaviour<gossipsub::IdentityTransform, Subscriptions>,
    pub sync: request_response::Behaviour<SyncCodec>,
    pub objects: request_response::Behaviour<ObjectsCodec>,
    pub artifact: request_response::Behaviour<ArtifactCodec>,
    pub kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: Watched<identify::Behaviour, Observers>,
    /// Has other nodes test whether they reach this one.
    reach_test: autonat::v2::client::Behaviour,
    /// Tests that for other nodes.
    dial_back: Watched<autonat::v2::server::Behaviour, DialBacks>,
    /// Serves as a relay, while that is enabled.
    pub relay: relay::Behaviour,
    /// Circuits through other relays.
    circuits: relay::client::Behaviour,
    /// Direct connections between peers that are connected through a relay.
    punch: dcutr::Behaviour,
    upnp: Watched<Toggle<upnp::tokio::Behaviour>, Mapped>,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

impl Behaviour {
    /// The operator named this peer: no bound of connections holds for it.
    pub fn name(&mut self, peer: PeerId) {
        self.limits.bypass_peer_id(&peer);
        self.slots.name(peer);
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Builds the swarm. Must be called within a tokio runtime.
///
/// # Errors
/// When the seed is no key, or a constant here contradicts another. Without a usable DNS configuration the swarm looks no
/// names up, with a warning; peers with IP addresses work.
pub fn swarm(
    config: &NetworkConfig,
    kind: Transport,
    guard: &AddressGuard,
    relay_use: &SharedRelayUse,
) -> Result<Swarm<Behaviour>, NetworkError> {
    let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
    let mut seed = config.seed;
    let key = Keypair::ed25519_from_bytes(&mut seed).map_err(|e| setup(&e))?;
    let (connections, circuits) = transport(kind, &key, guard.clone(), &config.warnings)?;
    let built = SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_other_transport(|_| connections)
        .map_err(|e| setup(&e))?
        .with_behaviour(|key| behaviour(key, config, circuits, guard, relay_use))
        .map_err(|e| setup(&e))?;
    let built = built.with_swarm_config(|swarm| swarm.with_idle_connection_timeout(limits::IDLE_TIMEOUT));
    Ok(built.with_connection_timeout(limits::CONNECTION_TIMEOUT).build())
}

fn behaviour(
    key: &Keypair,
    config: &NetworkConfig,
    circuits: relay::client::Behaviour,
    guard: &AddressGuard,
    relay_use: &SharedRelayUse,
) -> Result<Behaviour, BoxError> {
    let peer = key.public().to_peer_id();
    let request = request_response::Config::default()
        .with_request_timeout(limits::REQUEST_TIMEOUT)
        .with_max_concurrent_streams(limits::STREAMS);
    let both = ProtocolSupport::Full;
    let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), key.public())
        .with_agent_version(config.agent.clone())
        .with_push_listen_addr_updates(true);
    Ok(Behaviour {
        banned: allow_block_list::Behaviour::default(),
        limits: connection_limits(config),
        slots: slots::Behaviour::new(ConnectionSlots::new(&config.bootstrap)),
        gossip: gossip()?,
        sync: request_response::Behaviour::with_codec(
            SyncCodec::SYNC,
            iter::once((SYNC_PROTOCOL, both.clone())),
            request.clone(),
        ),
        objects: request_response::Behaviour::with_codec(
            ObjectsCodec::OBJECTS,
            iter::once((OBJECTS_PROTOCOL, both.clone())),
            request.clone(),
        ),
        artifact: request_response::Behaviour::with_codec(
            ArtifactCodec::ARTIFACT,
            iter::once((ARTIFACT_PROTOCOL, both)),
            request,
        ),
        kad: kademlia(peer, config),
        identify: Watched::new(identify::Behaviour::new(identify), Observers::new(guard.clone())),
        reach_test: autonat::v2::client::Behaviour::new(
            rand::make_rng(),
            autonat::v2::client::Config::default().with_probe_interval(limits::PROBE_INTERVAL),
        ),
        dial_back: Watched::new(autonat::v2::server::Behaviour::default(), DialBacks::default()),
        relay: relay_server(peer, relay_use),
        circuits,
        punch: dcutr::Behaviour::new(peer),
        upnp: Watched::new(config.upnp.then(upnp::tokio::Behaviour::default).into(), Mapped(guard.clone())),
        ping: ping::Behaviour::new(ping()),
        mdns: local_discovery(peer, config),
    })
}

/// What a relay grants by address. The relay's behaviour asks, and the network task says who left.
pub type SharedRelayUse = Arc<Mutex<RelayUse>>;

/// The relay for other nodes, which is off until [`relay::Behaviour::set_status`] says otherwise.
fn relay_server(peer: PeerId, relay_use: &SharedRelayUse) -> relay::Behaviour {
    let locked = |relay_use: &SharedRelayUse| relay_use.clone();
    let (reservations, circuits) = (locked(relay_use), locked(relay_use));
    let reserve = move |peer: PeerId, address: &Multiaddr, now: Instant| {
        reservations.lock().unwrap_or_else(PoisonError::into_inner).reserve(peer, counted(address), now)
    };
    let begin = move |_: PeerId, address: &Multiaddr, now: Instant| {
        circuits.lock().unwrap_or_else(PoisonError::into_inner).begin_circuit(counted(address), now)
    };
    let config = relay::Config {
        max_reservations: limits::RESERVATIONS,
        max_reservations_per_peer: 1,
        reservation_duration: limits::RESERVATION_TIME,
        reservation_rate_limiters: vec![Box::new(reserve)],
        max_circuits: limits::CIRCUITS,
        max_circuits_per_peer: limits::CIRCUITS_PER_PEER,
        max_circuit_duration: limits::CIRCUIT_TIME,
        max_circuit_bytes: limits::CIRCUIT_BYTES,
        circuit_src_rate_limiters: vec![Box::new(begin)],
    };
    let mut relay = relay::Behaviour::new(peer, config);
    relay.set_status(Some(relay::Status::Disable));
    relay
}

/// The bounds of outgoing connections, and of all with one peer. [`slots`] bounds the incoming ones.
fn connection_limits(config: &NetworkConfig) -> connection_limits::Behaviour {
    let bounds = ConnectionLimits::default()
        .with_max_pending_outgoing(Some(limits::MAX_PENDING_OUTGOING))
        .with_max_established_outgoing(Some(limits::MAX_OUTGOING))
        .with_max_established_per_peer(Some(limits::MAX_PER_PEER));
    let mut behaviour = connection_limits::Behaviour::new(bounds);
    // Discovered peers may use up the limits, but must not keep out the peers that the operator named.
    for peer in config.bootstrap.iter().filter_map(peer_of) {
        behaviour.bypass_peer_id(&peer);
    }
    behaviour
}

fn gossip() -> Result<gossipsub::Behaviour<gossipsub::IdentityTransform, Subscriptions>, BoxError> {
    let config = gossipsub::ConfigBuilder::default()
        // Objects carry their own signatures. A second signature by the publisher would add nothing.
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| message_id(&message.data))
        // The RPC around one message also carries its topic.
        .max_transmit_size(MAX_MESSAGE_BYTES + 1024)
        .history_length(limits::HISTORY)
        .duplicate_cache_time(limits::DUPLICATE_TIME)
        .build()?;
    let filter = Subscriptions {
        filter: CanonicalTopics,
        max_subscribed_topics: limits::MAX_SUBSCRIPTIONS,
        max_subscriptions_per_request: limits::MAX_SUBSCRIPTIONS,
    };
    let mut gossip =
        gossipsub::Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)?;
    gossip.with_peer_score(score_params(), score_thresholds())?;
    Ok(gossip)
}

/// The id of the object in a message, so that an object and its announcement are one message to gossipsub. For bytes
/// that are no message it is a hash of them; such a message is refused anyway.
pub fn message_id(data: &[u8]) -> MessageId {
    // Only the one valid encoding has the object's id: gossipsub would drop the object itself as a duplicate of another.
    let is_data = |encoded: Result<Vec<u8>, CborError>| encoded.is_ok_and(|encoded| encoded == data);
    if let Ok((kind, canonical, signature)) = cbor::decode::<(u8, &Bytes, &Bytes)>(data, MAX_MESSAGE_BYTES)
        && signature.len() == 64
        && is_data(cbor::encode(&(kind, canonical, signature)))
    {
        return MessageId::new(&Sha256::digest(&**canonical));
    }
    match cbor::decode::<(u8, &Bytes, u64)>(data, MAX_MESSAGE_BYTES) {
        Ok((kind, id, size)) if id.len() == 32 && is_data(cbor::encode(&(kind, id, size))) => MessageId::new(id),
        _ => MessageId::new(&Sha256::digest(data)),
    }
}

/// Score that the penalty points of a banned peer amount to. gossipsub's own penalties, a few points each, weigh
/// against this number.
const BAN_SCORE: f64 = 100.0;

/// How gossipsub scores peers. Topics are quiet: minutes without a message are normal, so silence (P3) costs nothing
/// and time in the mesh earns little. What counts are penalty points (P5), which [`super::state`] keeps, and broken
/// promises (P7). Many peers at one address (P6) cost nothing: [`slots`] bounds them, and honest ones may share it.
fn score_params() -> gossipsub::PeerScoreParams {
    gossipsub::PeerScoreParams {
        app_specific_weight: BAN_SCORE / f64::from(PENALTY_LIMIT),
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -5.0,
        behaviour_penalty_threshold: 4.0,
        behaviour_penalty_decay: gossipsub::score_parameter_decay(Duration::from_secs(600)),
        ..Default::default()
    }
}

fn score_thresholds() -> gossipsub::PeerScoreThresholds {
    gossipsub::PeerScoreThresholds {
        // Below these, after the second and the third heavy offence.
        gossip_threshold: -0.3 * BAN_SCORE,
        publish_threshold: -0.6 * BAN_SCORE,
        graylist_threshold: -BAN_SCORE,
        accept_px_threshold: BAN_SCORE,
        opportunistic_graft_threshold: 2.0,
    }
}

/// How gossipsub scores peers on one topic.
pub fn topic_score() -> gossipsub::TopicScoreParams {
    gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(60),
        time_in_mesh_cap: 60.0,
        first_message_deliveries_weight: 0.5,
        first_message_deliveries_decay: gossipsub::score_parameter_decay(Duration::from_secs(3600)),
        first_message_deliveries_cap: 20.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Penalty points already count refused messages. This weighs what gossipsub itself finds malformed.
        invalid_message_deliveries_weight: -0.5,
        invalid_message_deliveries_decay: gossipsub::score_parameter_decay(Duration::from_secs(3600)),
        ..Default::default()
    }
}

fn kademlia(peer: PeerId, config: &NetworkConfig) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut settings = kad::Config::new(KAD_PROTOCOL);
    settings.set_periodic_bootstrap_interval(Some(limits::KAD_BOOTSTRAP_INTERVAL));
    // Values that others want to store are refused. The network task decides about provider records.
    settings.set_record_filtering(kad::StoreInserts::FilterBoth);
    let bounds = kad::store::MemoryStoreConfig { max_provided_keys: limits::PROVIDED_KEYS, ..Default::default() };
    let store = kad::store::MemoryStore::with_config(peer, bounds);
    let mut kad = kad::Behaviour::with_config(peer, store, settings);
    // Nodes of one machine or one private network never have a confirmed external address. Without one libp2p would leave
    // all of them clients, which no node reports to others. `reachability` makes a client of a node that others cannot
    // reach.
    kad.set_mode(Some(if config.listen.is_empty() { kad::Mode::Client } else { kad::Mode::Server }));
    kad
}

fn ping() -> ping::Config {
    ping::Config::new().with_interval(limits::PING_INTERVAL).with_timeout(limits::PING_TIMEOUT)
}

/// Whether the peer at the other end of a connection is gone, by the result of a ping. libp2p keeps the first failure to
/// itself, so this is the second one in a row. It may be any: a stream that cannot be opened is no timeout to libp2p.
pub const fn is_gone(result: &Result<Duration, ping::Failure>) -> bool {
    matches!(result, Err(ping::Failure::Timeout | ping::Failure::Other { .. }))
}

fn local_discovery(peer: PeerId, config: &NetworkConfig) -> Toggle<mdns::tokio::Behaviour> {
    if !config.mdns {
        return None.into();
    }
    match mdns::tokio::Behaviour::new(mdns::Config::default(), peer) {
        Ok(behaviour) => Some(behaviour).into(),
        Err(error) => {
            tracing::warn!(%error, "cannot discover peers on the local network");
            None.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use spore_base::standing::Offence;
    use spore_protocol::cbor::ByteBuf;

    use super::*;

    #[test]
    fn gossip_settings_agree_with_each_other() {
        gossip().unwrap();
        topic_score().validate().unwrap();
    }

    #[test]
    fn every_failure_of_a_ping_counts_but_a_missing_protocol() {
        let other = ping::Failure::Other { error: "no stream".into() };
        assert!(is_gone(&Err(other)) && is_gone(&Err(ping::Failure::Timeout)));
        assert!(!is_gone(&Err(ping::Failure::Unsupported)) && !is_gone(&Ok(Duration::from_secs(9))));
    }

    #[test]
    fn heavy_offences_cross_one_threshold_after_the_other() {
        let score = |offences| -f64::from(offences * Offence::Forged.points()) * score_params().app_specific_weight;
        let thresholds = score_thresholds();
        assert!(score(1) >= thresholds.gossip_threshold && score(2) < thresholds.gossip_threshold);
        assert!(score(2) >= thresholds.publish_threshold && score(3) < thresholds.publish_threshold);
        assert!(score(3) >= thresholds.graylist_threshold && score(4) < thresholds.graylist_threshold);
    }

    #[test]
    fn announcement_and_its_object_are_one_message() {
        let canonical = ByteBuf::from(vec![b'x'; 50]);
        let id = ByteBuf::from(Sha256::digest(&canonical).to_vec());
        let object = cbor::encode(&(1u8, canonical, ByteBuf::from(vec![0; 64]))).unwrap();
        let announce = cbor::encode(&(1u8, id, 50u64)).unwrap();
        assert_eq!(message_id(&object), message_id(&announce));
        assert_ne!(message_id(b"garbage"), message_id(b"other garbage"));
        // The same object with a kind in two bytes instead of one: nodes refuse it, so it must not bear the object's id.
        let respelt = [&[object[0], 0x18], &object[1..]].concat();
        assert!(cbor::decode::<(u8, &Bytes, &Bytes)>(&respelt, MAX_MESSAGE_BYTES).is_ok());
        assert_ne!(message_id(&respelt), message_id(&object));
    }
}
