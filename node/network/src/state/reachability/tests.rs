//! The machine of reachability alone.

use super::*;

const SECOND: Duration = Duration::from_secs(1);

struct World {
    machine: ReachabilityMachine,
    random: ChaCha8Rng,
    now: Instant,
}

impl World {
    fn new(fixed: Option<Reachability>, serves: bool) -> Self {
        Self { machine: ReachabilityMachine::new(fixed, serves), random: random::seeded(1), now: Instant::now() }
    }

    /// A node behind NAT that knows these relays.
    fn private(relays: &[(PeerId, &str)]) -> Self {
        let mut world = Self::new(Some(Reachability::Private), true);
        world.tick(SECOND);
        for (relay, address) in relays {
            world.found(*relay, address);
        }
        world
    }

    fn found(&mut self, relay: PeerId, address: &str) -> Vec<ReachabilityEffect> {
        self.handle(ReachabilityEvent::RelayFound { relay, address: address.parse().unwrap() })
    }

    fn handle(&mut self, event: ReachabilityEvent) -> Vec<ReachabilityEffect> {
        self.machine.handle(event, &mut self.random, self.now)
    }

    fn tick(&mut self, wait: Duration) -> Vec<ReachabilityEffect> {
        self.now += wait;
        self.handle(ReachabilityEvent::Tick)
    }

    fn active(&self) -> BTreeSet<PeerId> {
        self.machine.relays().map(|status| status.relay).collect()
    }
}

fn became(reachability: Reachability, relay: bool) -> ReachabilityEffect {
    ReachabilityEffect::Became { reachability, relay }
}

fn public_address() -> Multiaddr {
    "/ip4/1.1.1.1/tcp/7471".parse().unwrap()
}

#[test]
fn confirmed_address_makes_a_node_public_and_its_loss_private() {
    let mut world = World::new(None, true);
    assert_eq!(world.tick(1000 * SECOND), [], "nobody who could tell is connected");
    world.handle(ReachabilityEvent::PublicPeer);
    assert_eq!(world.handle(ReachabilityEvent::Confirmed(public_address())), [became(Reachability::Public, true)]);
    assert_eq!(world.tick(1000 * SECOND), []);
    let effects = world.handle(ReachabilityEvent::Expired(public_address()));
    assert_eq!(effects, [became(Reachability::Private, false), ReachabilityEffect::FindRelays]);
    let effects = world.handle(ReachabilityEvent::Confirmed(public_address()));
    assert_eq!(effects, [became(Reachability::Public, true)]);
    assert_eq!(world.handle(ReachabilityEvent::Failed(public_address()))[0], became(Reachability::Private, false));
}

#[test]
fn node_with_public_peers_and_no_confirmed_address_is_private_after_a_while() {
    for (has_public, patience) in [(false, PRIVATE_AFTER), (true, FIREWALLED_AFTER)] {
        let mut world = World::new(None, true);
        world.handle(ReachabilityEvent::Interfaces { has_public });
        world.handle(ReachabilityEvent::PublicPeer);
        assert_eq!(world.tick(patience - SECOND), []);
        assert_eq!(world.tick(SECOND)[0], became(Reachability::Private, false));
    }
}

#[test]
fn operator_decides_over_tests_and_about_serving_as_a_relay() {
    let mut world = World::new(Some(Reachability::Public), false);
    assert_eq!(world.tick(SECOND), [became(Reachability::Public, false)]);
    world.handle(ReachabilityEvent::PublicPeer);
    assert_eq!(world.handle(ReachabilityEvent::Failed(public_address())), []);
    let mut world = World::new(Some(Reachability::Private), true);
    world.tick(SECOND);
    assert_eq!(world.handle(ReachabilityEvent::Confirmed(public_address())), []);
    assert_eq!(world.machine.reachability(), Reachability::Private);
}

#[test]
fn private_node_takes_two_relays_of_different_sites() {
    let [a, b, c] = [(); 3].map(|()| PeerId::random());
    let mut world = World::private(&[(a, "/ip4/1.1.1.1/tcp/1")]);
    assert_eq!(world.active(), BTreeSet::from([a]));
    // A second one of the same site is better than none; the first one of another site is better than that.
    world.handle(ReachabilityEvent::Reserved(a));
    world.found(b, "/ip4/1.1.2.2/tcp/1");
    assert_eq!(world.active(), BTreeSet::from([a, b]));
    world.found(c, "/ip4/2.2.2.2/tcp/1");
    assert_eq!(world.active().len(), RESERVATIONS_WANTED);
    world.handle(ReachabilityEvent::ReservationLost(b));
    assert_eq!(world.active(), BTreeSet::from([a, c]));
}

#[test]
fn dead_relay_is_replaced_at_once_and_asked_again_within_a_minute() {
    let [a, b, c] = [(); 3].map(|()| PeerId::random());
    let mut world = World::private(&[(a, "/ip4/1.1.1.1/tcp/1"), (b, "/ip4/2.2.2.2/tcp/1"), (c, "/ip4/3.3.3.3/tcp/1")]);
    let first = world.active();
    for relay in &first {
        world.handle(ReachabilityEvent::Reserved(*relay));
    }
    let dead = *first.first().unwrap();
    let effects = world.handle(ReachabilityEvent::ReservationLost(dead));
    assert!(matches!(&effects[..], [ReachabilityEffect::Reserve { relay, .. }, ..] if *relay != dead), "{effects:?}");
    // With all relays dead, each is asked again and again.
    for relay in [a, b, c] {
        world.handle(ReachabilityEvent::ReservationLost(relay));
    }
    for _ in 0..5 {
        let mut asked = BTreeSet::new();
        for _ in 0..60 {
            for effect in world.tick(SECOND) {
                if let ReachabilityEffect::Reserve { relay, .. } = effect {
                    asked.insert(relay);
                    world.handle(ReachabilityEvent::ReservationLost(relay));
                }
            }
        }
        assert_eq!(asked, BTreeSet::from([a, b, c]));
    }
}

#[test]
fn relay_that_never_answers_makes_room_for_another() {
    let [silent, other] = [(); 2].map(|()| PeerId::random());
    let mut world = World::private(&[(silent, "/ip4/1.1.1.1/tcp/1")]);
    world.tick(RESERVATION_TIMEOUT);
    assert!(world.active().is_empty());
    world.found(other, "/ip4/2.2.2.2/tcp/1");
    assert_eq!(world.active(), BTreeSet::from([other]));
    world.handle(ReachabilityEvent::Reserved(silent));
    assert_eq!(world.active(), BTreeSet::from([silent, other]), "a late answer counts");
}

#[test]
fn node_that_became_public_gives_up_reservations_that_are_granted_later() {
    let relay = PeerId::random();
    let mut world = World::new(None, true);
    world.handle(ReachabilityEvent::PublicPeer);
    world.tick(PRIVATE_AFTER);
    world.found(relay, "/ip4/1.1.1.1/tcp/1");
    world.handle(ReachabilityEvent::Confirmed(public_address()));
    assert_eq!(world.handle(ReachabilityEvent::Reserved(relay)), [ReachabilityEffect::Release(relay)]);
}

#[test]
fn node_that_only_ipv6_reaches_has_relays_for_the_others() {
    let relay = PeerId::random();
    let mut world = World::new(None, true);
    let v6: Multiaddr = "/ip6/2606:4700::1/tcp/7471".parse().unwrap();
    let effects = world.handle(ReachabilityEvent::Confirmed(v6));
    assert_eq!(effects, [became(Reachability::Public, true), ReachabilityEffect::FindRelays]);
    assert_eq!(world.found(relay, "/ip6/2606:4700::2/tcp/1").len(), 1);
    world.handle(ReachabilityEvent::Confirmed(public_address()));
    assert_eq!(world.handle(ReachabilityEvent::Reserved(relay)), [ReachabilityEffect::Release(relay)]);
}

#[test]
fn kind_of_a_router_is_told_by_what_two_hosts_see() {
    for (ports, kind) in [([5, 5], NatKind::Cone), ([5, 6], NatKind::Symmetric)] {
        let mut world = World::private(&[]);
        for (host, port) in ports.into_iter().enumerate() {
            assert_eq!(world.machine.nat_kind(), None);
            let address = format!("/ip4/9.9.9.9/udp/{port}/quic-v1").parse().unwrap();
            let by = format!("1.1.1.{host}/32").parse().unwrap();
            world.handle(ReachabilityEvent::Observed { by, address });
        }
        assert_eq!(world.machine.nat_kind(), Some(kind));
        world.handle(ReachabilityEvent::Interfaces { has_public: true });
        assert_eq!(world.machine.nat_kind(), None);
    }
}

#[test]
fn known_relays_are_bounded() {
    let mut world = World::private(&[]);
    for n in 0..3 * KNOWN_RELAYS {
        world.found(PeerId::random(), &format!("/ip4/1.{}.{}.1/tcp/1", n / 200, n % 200));
    }
    assert_eq!(world.machine.relays.len(), KNOWN_RELAYS);
}
