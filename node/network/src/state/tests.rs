//! All machines together: the arrows between them.

use libp2p::gossipsub::MessageId;
use spore_base::{
    clock::ENOUGH_CLOCKS,
    random,
    standing::{Offence, PENALTY_LIMIT},
};
use spore_protocol::Reject;

use super::*;
use crate::limits::{NEWS_INTERVAL, TICK};

fn state() -> (NetworkState, Instant) {
    let now = Instant::now();
    (NetworkState::start(StateConfig::default(), random::seeded(1), now).0, now)
}

fn connect(state: &mut NetworkState, peer: PeerId, now: Instant) -> Vec<NetworkEffect> {
    let address = "/ip4/192.0.2.1/tcp/1".parse().unwrap();
    state.handle(NetworkEvent::Connected { peer, address, dialled: None }, now)
}

#[test]
fn first_connection_starts_a_session_and_a_look_for_missing_parents() {
    let (mut state, now) = state();
    let peer = PeerId::random();
    let effects = connect(&mut state, peer, now);
    let [NetworkEffect::Points(_, 0), NetworkEffect::AskTime(asked), NetworkEffect::LookForMissing] =
        effects.as_slice()
    else {
        panic!("{effects:?}")
    };
    assert_eq!(*asked, peer);
    assert!(connect(&mut state, peer, now).is_empty(), "a second connection changes nothing");
    let effects = state.handle(NetworkEvent::Tick, now + TICK);
    assert!(
        matches!(effects.as_slice(), [NetworkEffect::StartSession(one, SessionPlan::Everything)] if *one == peer),
        "{effects:?}"
    );
}

#[test]
fn peer_with_too_many_bad_messages_is_banned() {
    let (mut state, now) = state();
    let peer = PeerId::random();
    connect(&mut state, peer, now);
    let mut effects = Vec::new();
    for n in 0..PENALTY_LIMIT.div_ceil(Offence::Forged.points()) {
        let (message, acceptance) = (MessageId::new(&[n as u8]), Acceptance::Reject(Reject::BadSignature));
        effects = state.handle(NetworkEvent::Gossip(GossipEvent::Judged { message, from: peer, acceptance }), now);
    }
    assert!(
        matches!(effects.as_slice(), [NetworkEffect::Report { .. }, NetworkEffect::Ban(one)] if *one == peer),
        "{effects:?}"
    );
    assert_eq!(state.rejected().get("bad_signature"), Some(&4));
}

#[test]
fn object_that_gossip_does_not_bring_is_announced_to_connected_peers() {
    let (mut state, now) = state();
    let (stays, leaves) = (PeerId::random(), PeerId::random());
    connect(&mut state, stays, now);
    connect(&mut state, leaves, now);
    state.handle(NetworkEvent::Disconnected(leaves), now);
    state.handle(NetworkEvent::Gossip(GossipEvent::NotPublished), now);
    let effects = state.handle(NetworkEvent::Tick, now + NEWS_INTERVAL);
    let announced = effects.iter().any(|one| matches!(one, NetworkEffect::AnnounceNews(to) if *to == [stays]));
    assert!(announced, "{effects:?}");
}

#[test]
fn honest_peers_are_not_fined_while_this_clock_may_be_slow() {
    let (mut state, now) = state();
    let peers: Vec<_> = (0..ENOUGH_CLOCKS).map(|_| PeerId::random()).collect();
    let judged = |state: &mut NetworkState, n: u8, at| {
        let (message, acceptance) = (MessageId::new(&[n]), Acceptance::Reject(Reject::FromTheFuture { ahead: 10_000 }));
        state.handle(NetworkEvent::Gossip(GossipEvent::Judged { message, from: peers[0], acceptance }), at)
    };
    let fined =
        |effects: &[NetworkEffect]| effects.iter().any(|one| matches!(one, NetworkEffect::Points(_, n) if *n > 0));
    for peer in &peers {
        connect(&mut state, *peer, now);
    }
    for n in 0..200 {
        assert!(!fined(&judged(&mut state, n, now)), "nobody's clock was read");
    }
    let own = 2_000_000_000;
    let told = |state: &mut NetworkState, seconds, at| {
        for peer in &peers {
            state.handle(NetworkEvent::Clock(ClockEvent::Told { peer: *peer, seconds: Some(seconds), at }), at);
        }
        state.handle(NetworkEvent::Clock(ClockEvent::Tick { own }), at)
    };
    let effects = told(&mut state, own + 10_800, now);
    assert!(
        effects.iter().any(|one| matches!(one, NetworkEffect::ClockCompared(Some(offset)) if offset.is_wrong())),
        "{effects:?}"
    );
    assert!(!fined(&judged(&mut state, 200, now)), "this clock is 3 h behind");
    told(&mut state, own, now);
    assert!(fined(&judged(&mut state, 201, now)), "the clocks agree, so the object is wrong");
    assert_eq!(state.rejected().get("from_the_future"), Some(&202));
}
