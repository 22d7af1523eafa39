//! Which connections the hub admits, who answers for what, and what is bounded.

use super::{super::limits::MAX_ACCEPTED, *};

fn socket(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn hub() -> HubHandle {
    HubHandle::new(AddressBook::default())
}

fn address(text: &str) -> PeerAddress {
    text.parse().unwrap()
}

#[test]
fn dial_of_this_node_itself_is_recognised() {
    let leads = |local, remote, listening| leads_here(socket(local), socket(remote), socket(listening));
    assert!(leads("127.0.0.1:50000", "127.0.0.1:7470", "0.0.0.0:7470"));
    assert!(leads("127.0.0.1:50000", "127.0.0.2:7470", "[::]:7470"));
    assert!(leads("192.0.2.1:50000", "192.0.2.1:7470", "0.0.0.0:7470"));
    assert!(leads("[2001:db8::1]:50000", "[2001:db8::1]:7470", "[::]:7470"));
    assert!(leads("127.0.0.1:50000", "127.0.0.1:7470", "127.0.0.1:7470"));
    assert!(!leads("127.0.0.1:50000", "127.0.0.2:7470", "127.0.0.1:7470"), "another node, at another address");
    assert!(!leads("127.0.0.1:50000", "127.0.0.1:7471", "0.0.0.0:7470"));
    assert!(!leads("192.0.2.1:50000", "192.0.2.2:7470", "0.0.0.0:7470"));
}

#[test]
fn banned_address_is_refused_in_both_directions_and_its_sessions_close() {
    let hub = hub();
    let (link, mut queue) = hub.accept(socket("192.0.2.1:5000")).unwrap();
    let (_, mut second) = hub.accept(socket("192.0.2.1:5001")).unwrap();
    assert_eq!(link.direction, LinkDirection::Accepted);
    while !hub.penalise(&link, Offence::Forged) {}
    for queue in [&mut queue, &mut second] {
        assert!(matches!(queue.try_recv(), Ok(SessionCommand::Close)));
    }
    assert!(matches!(hub.accept(socket("192.0.2.1:5002")), Err(Refusal::Banned(_))));
    let other = address("192.0.2.1:7470");
    assert!(hub.check(&other, link.remote.ip()).is_err());
    assert!(matches!(hub.dialled(&other, socket("192.0.2.9:1"), socket("192.0.2.1:7470")), Err(Refusal::Banned(_))));
    hub.pardon(&other);
    assert!(hub.accept(socket("192.0.2.1:5002")).is_ok());
}

#[test]
fn banned_ipv6_address_bans_its_network() {
    let hub = hub();
    let (link, _queue) = hub.accept(socket("[2001:db8::1]:5000")).unwrap();
    while !hub.penalise(&link, Offence::Oversize) {}
    assert!(matches!(hub.accept(socket("[2001:db8::2]:5000")), Err(Refusal::Banned(_))));
    assert!(hub.accept(socket("[2001:db8:1::1]:5000")).is_ok());
}

#[test]
fn untrusted_peer_does_not_harm_a_named_peer_with_the_same_address() {
    let hub = hub();
    let named = address("peer.example.org:7470");
    hub.with_book(|book| book.name(&named, Instant::now())).unwrap();
    let (local, remote) = (socket("192.0.2.9:1"), socket("192.0.2.1:7470"));
    let (link, mut queue) = hub.dialled(&named, local, remote).unwrap();
    let (untrusted, _commands) = hub.accept(socket("192.0.2.1:5000")).unwrap();
    while !hub.penalise(&untrusted, Offence::Forged) {}
    assert!(queue.try_recv().is_err(), "the named peer stays");
    assert_eq!(hub.snapshot().first().unwrap().points, 0);
    hub.closed(link.id, 0);
    assert!(hub.check(&named, remote.ip()).is_ok());
    let (link, _queue) = hub.dialled(&named, local, remote).expect("the named peer may be dialled again");

    let (other, mut queue) = hub.accept(socket("192.0.2.2:5000")).unwrap();
    while !hub.penalise(&link, Offence::Forged) {}
    assert!(hub.check(&named, remote.ip()).is_err(), "its own offences count");
    assert!(queue.try_recv().is_err() && !hub.penalise(&other, Offence::Refused));
    hub.pardon(&named);
    assert!(hub.check(&named, remote.ip()).is_ok(), "a name is pardoned as well as an IP address");
}

/// Accepts a connection from the site with this number. Each number is a site of its own.
fn accept(hub: &HubHandle, site: u32, now: Instant) -> Result<(Link, mpsc::Receiver<SessionCommand>), Refusal> {
    let from = SocketAddr::new(IpAddr::from(((site + 1) << 16).to_be_bytes()), 5000);
    hub.lock().admit(LinkDirection::Accepted, from, Opening::Accepted, now)
}

#[test]
fn accepted_connection_that_exchanged_least_gives_way() {
    let hub = hub();
    let start = Instant::now();
    let accept = |n, now| accept(&hub, n, now);
    let mut open: Vec<_> = (0..MAX_ACCEPTED as u32).map(|n| accept(n, start).unwrap()).collect();
    for (n, (link, _)) in open.iter().enumerate() {
        let received = if n == 5 { 1 } else { 10 + n as u64 };
        hub.report(link.id, SessionStats { received, answered: true, ..SessionStats::default() });
    }
    let full = Err(Refusal::NoSlot(NoSlot::Accepted));
    assert_eq!(accept(1000, start).map(drop), full, "none is old enough");
    let late = start + SAFE_FOR;
    let (newcomer, _queue) = accept(1000, late).unwrap();
    let closed: Vec<_> = open.iter_mut().map(|(_, queue)| queue.try_recv().is_ok()).collect();
    assert_eq!(closed.iter().position(|closed| *closed), Some(5));
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 1);
    // Connections that do not end are bounded.
    for n in 1..GIVING_WAY as u32 {
        accept(1000 + n, late).unwrap();
    }
    assert_eq!(accept(2000, late).map(drop), full);
    hub.closed(open[5].0.id, 0);
    assert!(accept(2000, late).is_ok(), "its slot was given away once, and is not given again");
    assert!(hub.snapshot().iter().any(|peer| peer.link.id == newcomer.id), "a new connection is safe");
    assert_eq!(hub.snapshot().len(), MAX_ACCEPTED + GIVING_WAY);
}

#[test]
fn silent_connections_give_way_within_seconds() {
    let hub = hub();
    let start = Instant::now();
    let accept = |n, now| accept(&hub, n, now);
    let mut open: Vec<_> = (0..MAX_ACCEPTED as u32).map(|n| accept(n, start).unwrap()).collect();
    for (n, (link, _)) in open.iter().enumerate() {
        // What was sent to a silent peer may lie in buffers.
        let sent = if n == 7 { 1000 } else { 1 };
        hub.report(link.id, SessionStats { sent, answered: n != 7, ..SessionStats::default() });
    }
    assert!(accept(1000, start).is_err());
    let soon = start + SAFE_WHILE_SILENT;
    accept(1000, soon).unwrap();
    let closed: Vec<_> = open.iter_mut().map(|(_, queue)| queue.try_recv().is_ok()).collect();
    assert_eq!(closed.iter().filter(|closed| **closed).count(), 1);
    assert!(closed[7]);
    assert!(accept(2000, soon).is_err(), "the others have spoken");
}

#[test]
fn two_names_of_one_peer_make_one_connection() {
    let hub = hub();
    let [name, ip] = ["peer.example.org:7470", "192.0.2.1:7470"].map(address);
    let (local, remote) = (socket("192.0.2.9:1"), socket("192.0.2.1:7470"));
    let (link, _queue) = hub.dialled(&name, local, remote).unwrap();
    assert_eq!(hub.dialled(&ip, local, remote).unwrap_err(), Refusal::Connected(name.clone()));
    assert!(hub.accept(socket("192.0.2.1:5000")).is_ok(), "both directions may exist");
    assert_eq!(hub.sessions_with(&name).len(), 1);
    assert_eq!(hub.sessions_with(&ip).len(), 1);
    hub.closed(link.id, 0);
    assert_eq!(hub.snapshot().len(), 1);
    assert!(hub.dialled(&ip, local, remote).is_ok());
}

#[test]
fn slot_is_given_back() {
    let hub = hub();
    for n in 0..1000 {
        let (link, _queue) = hub.accept(socket("127.0.0.1:5000")).unwrap();
        hub.report(link.id, SessionStats { received: n, ..SessionStats::default() });
        assert_eq!(hub.snapshot().first().unwrap().stats.received, n);
        hub.closed(link.id, n);
    }
}

#[test]
fn remembered_synchronisations_are_bounded() {
    let hub = hub();
    let mark = |n| SyncMark { records: n, controls: 0, tasks: 0, at: Instant::now(), full: Instant::now(), through: 0 };
    let address = |n: u64| address(&format!("h{n}:1"));
    for n in 0..2 * SYNC_MARKS as u64 {
        hub.set_sync_mark(&address(n), mark(n));
    }
    assert_eq!(hub.sync_mark(&address(0)), None);
    assert!(hub.sync_mark(&address(2 * SYNC_MARKS as u64 - 1)).is_some());
    assert_eq!(hub.lock().marks.len(), SYNC_MARKS);
}
