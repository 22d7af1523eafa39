//! The slots alone, and between two swarms.

use std::collections::BTreeSet;

use futures::StreamExt;
use libp2p::{
    Swarm,
    core::{Transport as _, transport::MemoryTransport, upgrade::Version},
    identity::Keypair,
    noise,
    swarm::{self, SwarmEvent, dial_opts::DialOpts},
    yamux,
};
use proptest::prelude::*;
use spore_protocol::Identity;

use super::*;

/// Incoming connections, one after the other.
struct World {
    slots: ConnectionSlots,
    now: Instant,
    opened: usize,
}

impl World {
    fn new() -> Self {
        Self { slots: ConnectionSlots::new(&[]), now: Instant::now(), opened: 0 }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
    }

    /// A connection from an address. Returns it, with the one that was closed for it.
    fn connect(&mut self, ip: &str, peer: PeerId) -> Result<(ConnectionId, Option<ConnectionId>), NoSlot> {
        let subnet = Some(Subnet::of(ip.parse().unwrap()));
        let connection = ConnectionId::new_unchecked(self.opened);
        self.opened += 1;
        self.slots.begin(connection, subnet)?;
        self.slots.end(connection);
        let closed = self.slots.make_room(peer, subnet, self.now)?.map(|(_, closed)| closed);
        self.slots.opened(connection, peer, subnet, self.now);
        if let Some(closed) = closed {
            self.slots.closed(closed);
        }
        Ok((connection, closed))
    }

    /// How many new peers at these addresses get a slot without anybody else losing one.
    fn crowd(&mut self, ips: impl Iterator<Item = String>) -> usize {
        ips.filter(|ip| matches!(self.connect(ip, PeerId::random()), Ok((_, None)))).count()
    }
}

#[test]
fn host_subnet_and_site_have_bounds_of_their_own() {
    let mut world = World::new();
    assert_eq!(world.crowd((0..50).map(|_| "192.0.2.1".into())), PUBLIC_BOUNDS.host);
    assert_eq!(world.crowd((2..250).map(|n| format!("192.0.2.{n}"))), PUBLIC_BOUNDS.subnet - PUBLIC_BOUNDS.host);
    assert_eq!(world.crowd((3..250).map(|n| format!("192.0.{n}.1"))), PUBLIC_BOUNDS.site - PUBLIC_BOUNDS.subnet);
    assert_eq!(world.crowd((0..50).map(|n| format!("2001:db8:1:1::{n:x}"))), PUBLIC_BOUNDS.host);
    assert_eq!(world.crowd((0..250).map(|n| format!("2001:db8:2:{n:x}00::1"))), PUBLIC_BOUNDS.site);
    assert_eq!(world.crowd((0..50).map(|_| "192.168.0.1".into())), PRIVATE_BOUNDS.host);
    assert_eq!(world.crowd((0..50).map(|_| "127.0.0.1".into())), 50, "one machine is bounded by the total");
}

#[test]
fn full_host_makes_room_among_its_own_once_their_grace_has_passed() {
    let mut world = World::new();
    let old: Vec<_> = (0..PUBLIC_BOUNDS.host)
        .map(|_| {
            world.wait(Duration::from_secs(1));
            world.connect("192.0.2.1", PeerId::random()).unwrap().0
        })
        .collect();
    let other = world.connect("198.51.100.1", PeerId::random()).unwrap().0;
    let host = Subnet::of("192.0.2.1".parse().unwrap()).host();
    assert_eq!(world.connect("192.0.2.1", PeerId::random()), Err(NoSlot::Prefix(host)));
    world.wait(GRACE);
    let (newcomer, closed) = world.connect("192.0.2.1", PeerId::random()).unwrap();
    assert_eq!(closed, old.last().copied(), "the youngest one");
    let (_, closed) = world.connect("192.0.2.1", PeerId::random()).unwrap();
    assert!(closed.is_some_and(|closed| closed != newcomer && closed != other));
}

#[test]
fn peers_of_use_and_named_peers_keep_their_connections() {
    let mut world = World::new();
    let (useful, named) = (PeerId::random(), PeerId::random());
    let [signer, other] = [1, 2].map(|seed| Identity::from_seed(&[seed; 32]).node_id());
    world.slots.name(named);
    let mut kept = Vec::new();
    for peer in [useful, named].into_iter().chain((2..PUBLIC_BOUNDS.host).map(|_| PeerId::random())) {
        kept.push(world.connect("192.0.2.1", peer).unwrap().0);
    }
    world.slots.was_useful(useful, signer, world.now);
    world.slots.was_useful(PeerId::random(), other, world.now);
    assert_eq!(world.slots.useful.len(), 1, "only of connected peers");
    for _ in 0..100 {
        world.wait(GRACE);
        let (_, closed) = world.connect("192.0.2.1", PeerId::random()).unwrap();
        assert!(closed.is_some_and(|closed| closed != kept[0] && closed != kept[1]));
        world.slots.was_useful(useful, signer, world.now);
    }
    for _ in 0..20 {
        let named = world.connect("192.0.2.1", named).unwrap();
        assert_eq!(named.1, None, "nobody makes room for a named peer, which has no bound");
    }
}

#[test]
fn signer_with_confirmed_work_protects_one_connection() {
    let mut world = World::new();
    let signer = Identity::from_seed(&[1; 32]).node_id();
    let peers: Vec<_> = (0..PUBLIC_BOUNDS.host).map(|_| PeerId::random()).collect();
    let kept: Vec<_> = peers.iter().map(|peer| world.connect("192.0.2.1", *peer).unwrap().0).collect();
    for peer in &peers {
        world.slots.was_useful(*peer, signer, world.now);
    }
    world.wait(GRACE);
    let closed = peers[1..].iter().map(|_| world.connect("192.0.2.1", PeerId::random()).unwrap().1.unwrap());
    let closed: Vec<_> = closed.collect();
    assert!(!closed.contains(&kept[0]) && closed.iter().all(|one| kept.contains(one)), "{closed:?} of {kept:?}");
    world.wait(USEFUL_TIME);
    world.slots.was_useful(peers[0], signer, world.now);
    assert_eq!(world.slots.useful[&signer].0, peers[0]);
}

#[test]
fn crowd_of_one_site_makes_room_for_a_peer_from_elsewhere_at_once() {
    let mut world = World::new();
    let honest = world.connect("203.0.113.1", PeerId::random()).unwrap().0;
    let mut site = 0;
    while world.slots.open.len() < MAX_INCOMING {
        site += 1;
        world.crowd((0..=255).map(|n| format!("45.{site}.{n}.1")));
    }
    for number in 1..50 {
        let (_, closed) = world.connect(&format!("80.{number}.0.1"), PeerId::random()).unwrap();
        assert!(closed.is_some_and(|closed| closed != honest));
        assert_eq!(world.slots.open.len(), MAX_INCOMING);
    }
}

#[test]
fn crowd_of_many_sites_makes_room_once_a_grace_has_passed() {
    let mut world = World::new();
    let honest = world.connect("203.0.113.1", PeerId::random()).unwrap().0;
    world.wait(Duration::from_secs(1));
    world.crowd((1..MAX_INCOMING).map(|site| format!("45.{site}.0.1")));
    assert_eq!(world.connect("80.1.0.1", PeerId::random()), Err(NoSlot::Full));
    world.wait(GRACE);
    for number in 1..50 {
        let (_, closed) = world.connect(&format!("80.{number}.0.1"), PeerId::random()).unwrap();
        assert!(closed.is_some_and(|closed| closed != honest), "who was here before the crowd stays");
    }
}

#[test]
fn half_open_connections_of_one_site_leave_places_to_others() {
    let mut slots = ConnectionSlots::new(&["/ip4/45.1.0.1/tcp/1".parse().unwrap()]);
    let mut next = 0;
    let mut begin = |slots: &mut ConnectionSlots, ip: &str| {
        next += 1;
        slots.begin(ConnectionId::new_unchecked(next), Some(Subnet::of(ip.parse().unwrap())))
    };
    let begun = (0..1000).filter(|n| begin(&mut slots, &format!("127.60.{}.{}", n / 256, n % 256)).is_ok()).count();
    assert_eq!(begun, PENDING_BOUNDS.site);
    assert_eq!(begin(&mut slots, "127.0.0.1"), Ok(()));
    let more = (2..200).filter(|site| begin(&mut slots, &format!("45.{site}.0.1")).is_ok()).count();
    assert_eq!(begun + 1 + more, MAX_PENDING_INCOMING);
    assert_eq!(begin(&mut slots, "80.1.0.1"), Err(NoSlot::Pending));
    assert_eq!(begin(&mut slots, "45.1.0.1"), Ok(()), "a host that the operator named");
    slots.end(ConnectionId::new_unchecked(1));
    slots.end(ConnectionId::new_unchecked(2));
    assert_eq!(begin(&mut slots, "80.1.0.1"), Ok(()));
}

#[test]
fn banned_host_or_subnet_loses_its_connections_and_gets_no_others() {
    let mut world = World::new();
    let (named, liar, other) = (PeerId::random(), PeerId::random(), PeerId::random());
    world.slots.name(named);
    let subnet = Subnet::of("192.0.2.1".parse().unwrap());
    for net in [subnet.host(), subnet.subnet()] {
        let closed = world.connect("192.0.2.1", liar).unwrap().0;
        let kept = [world.connect("192.0.2.1", named).unwrap().0, world.connect("198.51.100.1", other).unwrap().0];
        assert_eq!(world.slots.ban(net), [(liar, closed)]);
        world.slots.closed(closed);
        assert_eq!(world.connect("192.0.2.1", PeerId::random()), Err(NoSlot::Banned(net)));
        assert_eq!(world.slots.may_dial(liar, Some(subnet)), Err(NoSlot::Banned(net)));
        assert_eq!(world.slots.may_dial(named, Some(subnet)), Ok(()));
        world.slots.unban(net);
        assert_eq!(world.slots.may_dial(liar, Some(subnet)), Ok(()));
        for kept in kept {
            assert!(world.slots.open.contains_key(&kept));
            world.slots.closed(kept);
        }
    }
}

proptest! {
    // Each case opens hundreds of connections, a second of work.
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn bounds_hold_whoever_connects_and_leaves(
        steps in proptest::collection::vec((any::<[u8; 4]>(), 0u8..8, any::<u16>()), 1..1500)
    ) {
        let mut world = World::new();
        let mut open = BTreeSet::new();
        for ([a, b, c, d], step, which) in steps {
            world.wait(Duration::from_secs(u64::from(step)));
            if step == 0 {
                if let Some(left) = open.iter().nth(usize::from(which) % open.len().max(1)).copied() {
                    open.remove(&left);
                    world.slots.closed(left);
                }
                continue;
            }
            let ip = format!("{}.{}.{}.{}", 40 + a % 2, b % 3, c % 8, d % 16);
            if let Ok((opened, closed)) = world.connect(&ip, PeerId::random()) {
                open.insert(opened);
                closed.map(|closed| open.remove(&closed));
            }
            prop_assert_eq!(world.slots.open.len(), open.len());
            prop_assert!(open.len() <= MAX_INCOMING);
            for slot in world.slots.open.values() {
                let subnet = slot.subnet.unwrap();
                let within = |net| world.slots.open.values().filter(|one| holds(net, one.subnet.unwrap())).count();
                prop_assert!(within(subnet.host()) <= PUBLIC_BOUNDS.host);
                prop_assert!(within(subnet.subnet()) <= PUBLIC_BOUNDS.subnet);
                prop_assert!(within(subnet.site()) <= PUBLIC_BOUNDS.site);
            }
        }
        prop_assert!(world.slots.pending.is_empty());
    }
}

// --- between swarms ----------------------------------------------------------------------

fn swarm_with(slots: ConnectionSlots) -> Swarm<Behaviour> {
    let key = Keypair::generate_ed25519();
    let transport = MemoryTransport::default()
        .upgrade(Version::V1)
        .authenticate(noise::Config::new(&key).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(600));
    Swarm::new(transport, Behaviour::new(slots), key.public().to_peer_id(), config)
}

/// Runs the relay and the peers until a peer dialled the relay: whether it is connected. Notes whom the relay lost.
async fn dial(
    relay: &mut Swarm<Behaviour>,
    peers: &mut [Swarm<Behaviour>],
    which: usize,
    address: &Multiaddr,
    lost: &mut Vec<PeerId>,
) -> bool {
    let id = *peers[which].local_peer_id();
    peers[which].dial(DialOpts::unknown_peer_id().address(address.clone()).build()).unwrap();
    loop {
        let others = futures::future::select_all(peers.iter_mut().map(|peer| peer.next()));
        tokio::select! {
            event = relay.select_next_some() => match event {
                SwarmEvent::ConnectionEstablished { peer_id, .. } if peer_id == id => return true,
                SwarmEvent::ConnectionClosed { peer_id, .. } => lost.push(peer_id),
                SwarmEvent::IncomingConnectionError { .. } => return false,
                _ => {}
            },
            _ = others => {}
        }
    }
}

#[tokio::test]
async fn swarm_closes_a_connection_of_no_use_for_a_new_one() {
    for (grace, enters) in [(Duration::ZERO, true), (GRACE, false)] {
        let mut relay = swarm_with(ConnectionSlots { most: 2, grace, ..ConnectionSlots::new(&[]) });
        relay.listen_on("/memory/0".parse().unwrap()).unwrap();
        let address = loop {
            if let SwarmEvent::NewListenAddr { address, .. } = relay.select_next_some().await {
                break address;
            }
        };
        let mut peers: Vec<_> = (0..4).map(|_| swarm_with(ConnectionSlots::new(&[]))).collect();
        let ids: Vec<_> = peers.iter().map(|peer| *peer.local_peer_id()).collect();
        let mut lost = Vec::new();
        assert!(dial(&mut relay, &mut peers, 0, &address, &mut lost).await);
        relay.behaviour_mut().was_useful(ids[0], Identity::from_seed(&[1; 32]).node_id());
        assert!(dial(&mut relay, &mut peers, 1, &address, &mut lost).await);
        assert_eq!(dial(&mut relay, &mut peers, 2, &address, &mut lost).await, enters);
        relay.behaviour_mut().name(ids[3]);
        assert!(dial(&mut relay, &mut peers, 3, &address, &mut lost).await, "a named peer");
        while enters && lost.is_empty() {
            if let SwarmEvent::ConnectionClosed { peer_id, .. } = relay.select_next_some().await {
                lost.push(peer_id);
            }
        }
        let expected: &[PeerId] = if enters { &ids[1..2] } else { &[] };
        assert_eq!(lost, expected);
    }
}
