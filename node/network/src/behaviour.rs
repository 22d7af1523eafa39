//! The libp2p behaviours of a node and the swarm around them.

use std::{collections::HashSet, iter, net::IpAddr, time::Duration};

use libp2p::{
    PeerId, Swarm, SwarmBuilder, allow_block_list,
    allow_block_list::BlockedPeers,
    connection_limits::{self, ConnectionLimits},
    gossipsub::{self, MaxCountSubscriptionFilter, MessageAuthenticity, MessageId, ValidationMode},
    identify,
    identity::Keypair,
    kad, mdns, noise, ping,
    request_response::{self, ProtocolSupport},
    swarm::{NetworkBehaviour, behaviour::toggle::Toggle},
    tcp, yamux,
};
use sha2::{Digest, Sha256};
use spore_protocol::{
    cbor::{self, Bytes},
    reject::PENALTY_LIMIT,
    wire::MAX_MESSAGE_BYTES,
};

use super::{
    bootstrap::peer_of,
    config::{NetworkConfig, NetworkError},
    limits,
    messages::{
        ARTIFACT_PROTOCOL, ArtifactCodec, IDENTIFY_PROTOCOL, KAD_PROTOCOL, OBJECTS_PROTOCOL, ObjectsCodec,
        SYNC_PROTOCOL, SyncCodec,
    },
};

/// Any topic may be named by a peer, but not without end.
type Subscriptions = MaxCountSubscriptionFilter<gossipsub::AllowAllSubscriptionFilter>;

#[derive(NetworkBehaviour)]
pub struct Behaviour {
    /// First, so that a refused peer costs nothing more.
    pub refused: allow_block_list::Behaviour<BlockedPeers>,
    limits: connection_limits::Behaviour,
    pub gossip: gossipsub::Behaviour<gossipsub::IdentityTransform, Subscriptions>,
    pub sync: request_response::Behaviour<SyncCodec>,
    pub objects: request_response::Behaviour<ObjectsCodec>,
    pub artifact: request_response::Behaviour<ArtifactCodec>,
    pub kad: kad::Behaviour<kad::store::MemoryStore>,
    identify: identify::Behaviour,
    ping: ping::Behaviour,
    mdns: Toggle<mdns::tokio::Behaviour>,
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Builds the swarm: TCP (noise, yamux) and QUIC, with DNS. Must be called within a tokio runtime.
///
/// # Errors
/// When the system's DNS configuration cannot be read, or a constant here contradicts another.
pub fn swarm(config: &NetworkConfig) -> Result<Swarm<Behaviour>, NetworkError> {
    let setup = |error: &dyn std::fmt::Display| NetworkError::Setup(error.to_string());
    let mut seed = config.seed;
    let key = Keypair::ed25519_from_bytes(&mut seed).map_err(|e| setup(&e))?;
    Ok(SwarmBuilder::with_existing_identity(key)
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), noise::Config::new, yamux::Config::default)
        .map_err(|e| setup(&e))?
        .with_quic()
        .with_dns()
        .map_err(|e| NetworkError::Setup(format!("the system's DNS configuration: {e}")))?
        .with_behaviour(|key| behaviour(key, config))
        .map_err(|e| setup(&e))?
        .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(limits::IDLE_TIMEOUT))
        .build())
}

fn behaviour(key: &Keypair, config: &NetworkConfig) -> Result<Behaviour, BoxError> {
    let peer = key.public().to_peer_id();
    let request = request_response::Config::default()
        .with_request_timeout(limits::REQUEST_TIMEOUT)
        .with_max_concurrent_streams(limits::STREAMS);
    let both = ProtocolSupport::Full;
    let identify = identify::Config::new(IDENTIFY_PROTOCOL.to_owned(), key.public())
        .with_agent_version(config.agent.clone())
        .with_push_listen_addr_updates(true);
    Ok(Behaviour {
        refused: allow_block_list::Behaviour::default(),
        limits: connection_limits(config),
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
        identify: identify::Behaviour::new(identify),
        ping: ping::Behaviour::default(),
        mdns: local_discovery(peer, config),
    })
}

fn connection_limits(config: &NetworkConfig) -> connection_limits::Behaviour {
    let bounds = ConnectionLimits::default()
        .with_max_pending_incoming(Some(limits::MAX_PENDING))
        .with_max_pending_outgoing(Some(limits::MAX_PENDING))
        .with_max_established_incoming(Some(limits::MAX_INCOMING))
        .with_max_established_outgoing(Some(limits::MAX_OUTGOING))
        .with_max_established_per_peer(Some(limits::MAX_PER_PEER));
    let mut behaviour = connection_limits::Behaviour::new(bounds);
    // Discovered peers may take every place, but none from those that the operator named.
    for peer in config.bootstrap.iter().filter_map(peer_of) {
        behaviour.bypass_peer_id(&peer);
    }
    behaviour
}

fn gossip() -> Result<gossipsub::Behaviour<gossipsub::IdentityTransform, Subscriptions>, BoxError> {
    let config = gossipsub::ConfigBuilder::default()
        // Objects carry their own signatures; a second one by each publisher would add nothing.
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| message_id(&message.data))
        // The RPC around one message carries its topic too.
        .max_transmit_size(MAX_MESSAGE_BYTES + 1024)
        .history_length(limits::HISTORY)
        .duplicate_cache_time(limits::DUPLICATE_TIME)
        .build()?;
    let filter = Subscriptions {
        filter: gossipsub::AllowAllSubscriptionFilter {},
        max_subscribed_topics: limits::MAX_SUBSCRIPTIONS,
        max_subscriptions_per_request: limits::MAX_SUBSCRIPTIONS,
    };
    let mut gossip =
        gossipsub::Behaviour::new_with_subscription_filter(MessageAuthenticity::Anonymous, config, filter)?;
    gossip.with_peer_score(score_params(), score_thresholds())?;
    Ok(gossip)
}

/// The object's own id, so that one object by two roads is one message; a hash of the bytes where
/// they are no message (it is refused anyway).
pub fn message_id(data: &[u8]) -> MessageId {
    if let Ok((_, canonical, _)) = cbor::decode::<(u8, Bytes, Bytes)>(data, MAX_MESSAGE_BYTES) {
        return MessageId::new(&Sha256::digest(&canonical.0));
    }
    match cbor::decode::<(u8, Bytes, u64)>(data, MAX_MESSAGE_BYTES) {
        Ok((_, id, _)) if id.0.len() == 32 => MessageId::new(&id.0),
        _ => MessageId::new(&Sha256::digest(data)),
    }
}

/// How gossip rates peers. Research is quiet: minutes without a message are normal on a topic, so
/// silence (P3) costs nothing and time in the mesh earns little; what counts is penalty points (P5),
/// which [`super::peers`] keeps, broken promises (P7), and crowding from one address (P6), where this
/// machine's own is not counted.
fn score_params() -> gossipsub::PeerScoreParams {
    gossipsub::PeerScoreParams {
        app_specific_weight: 1.0,
        ip_colocation_factor_weight: -5.0,
        ip_colocation_factor_threshold: 16.0,
        ip_colocation_factor_whitelist: HashSet::from([
            IpAddr::from([127, 0, 0, 1]),
            IpAddr::from(std::net::Ipv6Addr::LOCALHOST),
        ]),
        behaviour_penalty_weight: -5.0,
        behaviour_penalty_threshold: 4.0,
        behaviour_penalty_decay: gossipsub::score_parameter_decay(Duration::from_secs(600)),
        ..Default::default()
    }
}

fn score_thresholds() -> gossipsub::PeerScoreThresholds {
    let limit = f64::from(PENALTY_LIMIT);
    gossipsub::PeerScoreThresholds {
        gossip_threshold: -limit / 4.0,
        publish_threshold: -limit / 2.0,
        graylist_threshold: -limit,
        accept_px_threshold: limit,
        opportunistic_graft_threshold: 2.0,
    }
}

/// How gossip rates peers on one topic.
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
        // Penalty points already count these; this weighs what gossip itself finds malformed.
        invalid_message_deliveries_weight: -0.5,
        invalid_message_deliveries_decay: gossipsub::score_parameter_decay(Duration::from_secs(3600)),
        ..Default::default()
    }
}

fn kademlia(peer: PeerId, config: &NetworkConfig) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut settings = kad::Config::new(KAD_PROTOCOL);
    settings.set_periodic_bootstrap_interval(Some(limits::KAD_BOOTSTRAP_INTERVAL));
    // Only for finding peers: what others would like to keep here is refused.
    settings.set_record_filtering(kad::StoreInserts::FilterBoth);
    let mut kad = kad::Behaviour::with_config(peer, kad::store::MemoryStore::new(peer), settings);
    // Without a confirmed external address, which nodes behind a router and on one machine never
    // have, libp2p would leave everybody a client, whom nobody tells others of.
    kad.set_mode(Some(if config.listen.is_empty() { kad::Mode::Client } else { kad::Mode::Server }));
    kad
}

fn local_discovery(peer: PeerId, config: &NetworkConfig) -> Toggle<mdns::tokio::Behaviour> {
    if !config.mdns {
        return None.into();
    }
    match mdns::tokio::Behaviour::new(mdns::Config::default(), peer) {
        Ok(behaviour) => Some(behaviour).into(),
        Err(error) => {
            tracing::warn!(%error, "no discovery on the local network");
            None.into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settings_agree_with_each_other() {
        gossip().unwrap();
        topic_score().validate().unwrap();
    }

    #[test]
    fn an_announcement_and_its_object_are_one_message() {
        let canonical = Bytes(vec![b'x'; 50]);
        let id = Bytes(Sha256::digest(&canonical.0).to_vec());
        let object = cbor::encode(&(1u8, canonical, Bytes(vec![0; 64]))).unwrap();
        let announce = cbor::encode(&(1u8, id, 50u64)).unwrap();
        assert_eq!(message_id(&object), message_id(&announce));
        assert_ne!(message_id(b"garbage"), message_id(b"other garbage"));
    }
}
