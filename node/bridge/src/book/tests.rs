//! What the address book guarantees, for any order of events.

use proptest::prelude::*;

use spore_base::{
    peer_book::{BACKOFF_FIRST, STEADY_AFTER},
    random::seeded,
};

use super::*;

const FROM: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 77));

fn address(n: u32) -> PeerAddress {
    format!("h{n}.example.org:7470").parse().unwrap()
}

/// Something that happens to the book. The numbers choose among few addresses, so that steps meet the same ones.
#[derive(Clone, Debug)]
enum BookStep {
    Name(u32),
    Remember(u32),
    Hear(u32),
    Due,
    Connected(u32),
    Failed(u32, bool),
    Closed(u32),
    Own(u32),
    Forget(u32),
    Wait(u64),
}

fn step() -> impl Strategy<Value = BookStep> {
    let peer = 0u32..24;
    prop_oneof![
        1 => peer.clone().prop_map(BookStep::Name),
        1 => peer.clone().prop_map(BookStep::Remember),
        1 => peer.clone().prop_map(BookStep::Hear),
        4 => Just(BookStep::Due),
        3 => peer.clone().prop_map(BookStep::Connected),
        3 => (peer.clone(), any::<bool>()).prop_map(|(peer, others)| BookStep::Failed(peer, others)),
        2 => peer.clone().prop_map(BookStep::Closed),
        1 => peer.clone().prop_map(BookStep::Own),
        1 => peer.prop_map(BookStep::Forget),
        3 => (0u64..2000).prop_map(BookStep::Wait),
    ]
}

proptest! {
    /// Uses the book as the bridge's task does: each dial and each connection is reported back once.
    #[test]
    fn address_is_never_dialled_twice_at_once(steps in proptest::collection::vec(step(), 1..300), seed: u64) {
        let mut now = Instant::now();
        let mut book = AddressBook::new(Some(address(23)));
        let (mut dialling, mut open) = (BTreeSet::new(), BTreeSet::new());
        let mut named_avoided = false;
        for (n, step) in steps.into_iter().enumerate() {
            let random = seed.wrapping_mul(n as u64 + 1);
            match step {
                BookStep::Name(n) => {
                    book.name(&address(n), now).unwrap();
                    named_avoided |= n == 23;
                }
                BookStep::Remember(n) => book.remember(vec![address(n)], now),
                BookStep::Hear(n) => book.hear(FROM, vec![address(n)], now),
                BookStep::Due => {
                    for address in book.due(now, &mut seeded(random)) {
                        prop_assert!(dialling.insert(address.clone()), "{address} is being dialled");
                        prop_assert!(!open.contains(&address), "{address} is connected");
                    }
                    prop_assert!(dialling.len() <= DIALS);
                    prop_assert!(named_avoided || !dialling.contains(&address(23)));
                }
                BookStep::Connected(n) if dialling.remove(&address(n)) => {
                    if book.source(&address(n)).is_some() {
                        book.connected(&address(n), now);
                        open.insert(address(n));
                    } else {
                        // The peer was forgotten meanwhile: the bridge's task drops the connection.
                        book.failed(&address(n), true, now, random);
                    }
                }
                BookStep::Failed(n, others) if dialling.remove(&address(n)) => {
                    book.failed(&address(n), others, now, random);
                }
                BookStep::Closed(n) if open.remove(&address(n)) => book.closed(&address(n), now, random),
                BookStep::Own(n) if dialling.remove(&address(n)) => book.is_own(&address(n)),
                // The bridge's task closes the connections of a forgotten peer, but a dial goes on.
                BookStep::Forget(n) if !open.contains(&address(n)) => {
                    book.forget(&address(n));
                }
                BookStep::Wait(ms) => now += Duration::from_millis(ms),
                _ => {}
            }
            prop_assert!(book.to_exchange(FROM).iter().all(|address| open.contains(address)));
        }
    }

    #[test]
    fn waits_grow_up_to_a_maximum_for_each_source(failures in 1u32..40, seed: u64) {
        for (source, most) in [(PeerSource::Named, BACKOFF_NAMED), (PeerSource::Known, BACKOFF_FOUND), (PeerSource::Public, BACKOFF_PUBLIC)] {
            let mut now = Instant::now();
            let mut book = AddressBook::default();
            match source {
                PeerSource::Named => book.name(&address(1), now).unwrap(),
                PeerSource::Known => book.remember(vec![address(1)], now),
                _ => book.add_public(address(1), now),
            }
            for n in 0..failures {
                prop_assert_eq!(book.due(now, &mut seeded(seed)), [address(1)]);
                prop_assert_eq!(book.failed(&address(1), false, now, seed.wrapping_mul(n.into())), n + 1);
                let full = BACKOFF_FIRST.saturating_mul(1 << n.min(16)).min(most);
                prop_assert!(book.due(now + full / 2 - Duration::from_millis(1), &mut seeded(seed)).is_empty(), "too soon");
                now += full;
            }
            prop_assert_eq!(book.due(now, &mut seeded(seed)), [address(1)], "too late");
        }
    }

    #[test]
    fn book_is_bounded_whatever_peers_name(
        told in proptest::collection::vec((0u8..8, proptest::collection::vec(0u32..100_000, 1..200)), 1..60)
    ) {
        let now = Instant::now();
        let mut book = AddressBook::default();
        for (from, peers) in told {
            let from = IpAddr::from([192, 0, 2, from]);
            book.hear(from, peers.into_iter().map(address).collect(), now);
            let by_this_peer = book.peers.iter().filter(|(_, entry)| entry.source().source == PeerSource::Heard(from)).count();
            prop_assert!(by_this_peer <= HEARD_FROM_ONE && book.peers.len() <= HEARD);
        }
    }
}

#[test]
fn found_peers_are_dialled_only_while_too_few_are_connected() {
    let now = Instant::now();
    let mut book = AddressBook::default();
    book.hear(FROM, (0..40).map(address).collect(), now);
    let first = book.due(now, &mut seeded(0));
    assert_eq!(first.len(), OUTBOUND_TARGET.min(DIALS));
    first.iter().for_each(|address| book.connected(address, now));
    assert!(book.due(now, &mut seeded(0)).is_empty());
    book.name(&address(1000), now).unwrap();
    assert_eq!(book.due(now, &mut seeded(0)), [address(1000)], "a named peer is dialled all the same");
    book.closed(&first[0], now, 0);
    book.closed(&first[1], now, 0);
    assert_eq!(book.due(now, &mut seeded(0)).len(), 1, "seven others and the named one are one too few");
}

#[test]
fn named_peers_are_dialled_first_and_heard_ones_last() {
    let now = Instant::now();
    let mut book = AddressBook::default();
    book.hear(FROM, vec![address(3)], now);
    book.remember(vec![address(2)], now);
    book.name(&address(1), now).unwrap();
    assert_eq!(book.due(now, &mut seeded(0)), [address(1), address(2), address(3)]);
}

#[test]
fn steady_connection_resets_the_backoff() {
    let mut now = Instant::now();
    let mut book = AddressBook::default();
    book.name(&address(1), now).unwrap();
    for _ in 0..10 {
        now += BACKOFF_NAMED;
        assert_eq!(book.due(now, &mut seeded(0)).len(), 1);
        book.connected(&address(1), now);
        book.closed(&address(1), now, 0);
    }
    assert!(
        book.due(now + BACKOFF_NAMED / 2 - BACKOFF_FIRST, &mut seeded(0)).is_empty(),
        "a peer that hangs up at once does not"
    );
    now += BACKOFF_NAMED;
    assert_eq!(book.due(now, &mut seeded(0)).len(), 1);
    book.connected(&address(1), now);
    now += STEADY_AFTER;
    book.closed(&address(1), now, 0);
    assert_eq!(book.due(now + BACKOFF_FIRST, &mut seeded(0)).len(), 1);
}

#[test]
fn heard_peers_are_forgotten_soon_and_known_ones_late_and_only_while_others_are_connected() {
    let mut now = Instant::now();
    let mut book = AddressBook::default();
    book.hear(FROM, vec![address(1)], now);
    book.remember(vec![address(2)], now);
    book.name(&address(3), now).unwrap();
    for n in 1..=KNOWN_FAILURES {
        now += BACKOFF_FOUND;
        for peer in book.due(now, &mut seeded(0)) {
            book.failed(&peer, false, now, 0);
        }
        assert_eq!(book.source(&address(1)).is_some(), n < HEARD_FAILURES);
    }
    assert_eq!(book.source(&address(2)), Some(PeerSource::Known), "our own network may have failed");
    assert!(book.take_unsaved().is_none());
    now += BACKOFF_FOUND;
    for peer in book.due(now, &mut seeded(0)) {
        book.failed(&peer, true, now, 0);
    }
    assert_eq!(book.source(&address(2)), None);
    assert_eq!(book.take_unsaved(), Some(vec![]));
    assert_eq!(book.source(&address(3)), Some(PeerSource::Named));
}

#[test]
fn peers_that_were_connected_are_kept_and_the_public_one_is_not() {
    let now = Instant::now();
    let mut book = AddressBook::default();
    book.name(&address(1), now).unwrap();
    book.hear(FROM, vec![address(2), address(3)], now);
    book.add_public(address(4), now);
    assert!(book.take_unsaved().is_none());
    assert_eq!(book.due(now, &mut seeded(0)).len(), 4);
    for n in [1, 2, 4] {
        book.connected(&address(n), now);
    }
    assert_eq!(book.take_unsaved(), Some(vec![address(1), address(2)]));
    assert!(book.take_unsaved().is_none(), "once");
    assert!(book.not_saved());
    assert!(!book.not_saved(), "the failure is reported once");
    assert_eq!(book.take_unsaved(), Some(vec![address(1), address(2)]));
    assert!(book.forget(&address(1)) && !book.forget(&address(1)));
    assert_eq!(book.take_unsaved(), Some(vec![address(2)]));
}

#[test]
fn kept_peers_are_bounded_and_the_one_not_connected_for_longest_makes_room() {
    let now = Instant::now();
    let mut book = AddressBook::default();
    book.remember((0..2 * KNOWN as u32).map(address).collect(), now);
    assert_eq!(book.peers.len(), KNOWN);
    for _ in 0..3 {
        for peer in book.due(now, &mut seeded(0)) {
            book.connected(&peer, now);
            book.closed(&peer, now, 0);
        }
    }
    book.name(&address(9999), now).unwrap();
    assert_eq!(book.due(now, &mut seeded(0)).first(), Some(&address(9999)));
    book.connected(&address(9999), now);
    let kept = book.take_unsaved().unwrap();
    assert_eq!(kept.len(), KNOWN);
    assert!(kept.contains(&address(9999)));
    let reached = book.peers.iter().filter(|(_, entry)| entry.reached().is_some()).count();
    assert_eq!(reached, 3 * DIALS + 1, "peers that were connected stay");
}

#[test]
fn own_address_is_never_dialled_again() {
    let now = Instant::now();
    let mut book = AddressBook::default();
    book.hear(FROM, vec![address(1)], now);
    assert_eq!(book.due(now, &mut seeded(0)), [address(1)]);
    book.is_own(&address(1));
    book.hear(FROM, vec![address(1)], now);
    book.remember(vec![address(1)], now);
    assert_eq!(book.source(&address(1)), None);
    for n in 0..2 * OWN as u32 {
        book.is_own(&address(n));
    }
    assert_eq!(book.own.len(), OWN);
}

#[test]
fn private_addresses_are_exchanged_only_among_private_ones() {
    let now = Instant::now();
    let (mut book, inside): (AddressBook, IpAddr) = (AddressBook::default(), [127, 0, 0, 1].into());
    let private: PeerAddress = "10.0.0.1:7470".parse().unwrap();
    book.hear(FROM, vec![private.clone()], now);
    assert_eq!(book.source(&private), None);
    book.hear(inside, vec![private.clone(), address(1)], now);
    assert_eq!(book.due(now, &mut seeded(0)).len(), 2);
    book.connected(&private, now);
    book.connected(&address(1), now);
    assert_eq!(book.to_exchange(FROM), [address(1)]);
    assert_eq!(book.to_exchange(inside), [private, address(1)]);
}

#[test]
fn operator_may_name_only_so_many_peers() {
    let now = Instant::now();
    let mut book = AddressBook::default();
    for n in 0..NAMED as u32 {
        book.name(&address(n), now).unwrap();
    }
    assert_eq!(book.name(&address(5000), now), Err(TooManyNamed));
    book.name(&address(0), now).unwrap();
    book.forget(&address(0));
    book.name(&address(5000), now).unwrap();
}

#[test]
fn second_address_of_a_connected_peer_rests_until_that_connection_ends() {
    let start = Instant::now();
    let mut book = AddressBook::default();
    let [one, two] = [1, 2].map(address);
    for address in [&one, &two] {
        book.name(address, start).unwrap();
    }
    assert_eq!(book.due(start, &mut seeded(0)).len(), 2);
    book.connected(&one, start);
    book.is_twin(&two, &one);
    let later = start + BACKOFF_NAMED * 100;
    assert!(book.due(later, &mut seeded(0)).is_empty() && book.is_connected(&two));
    assert_eq!(book.to_exchange(FROM), std::slice::from_ref(&one));
    book.forget(&one);
    book.closed(&one, later, 0);
    assert_eq!(book.due(later + BACKOFF_NAMED, &mut seeded(0)), [two]);
}
