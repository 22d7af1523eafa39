//! What offences lead to, and what is bounded.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

const IP: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));

fn standing() -> Standing<IpAddr> {
    Standing::new(FIRST_BAN_OF_ADDRESS)
}

/// Commits an offence until it bans, and returns how many there were.
fn offend_until_banned(standing: &mut Standing<IpAddr>, offence: Offence, now: Instant) -> u32 {
    let mut offences = 1;
    while !standing.penalise(&IP, offence, now).is_ban() {
        offences += 1;
    }
    offences
}

#[test]
fn each_offence_bans_after_the_number_in_its_description() {
    let expected = [
        (Offence::Malformed, 4),
        (Offence::Oversize, 4),
        (Offence::Forged, 4),
        (Offence::Misplaced, 10),
        (Offence::Late, 30),
        (Offence::FromTheFuture, 100),
    ];
    for (offence, number) in expected {
        assert_eq!(offend_until_banned(&mut standing(), offence, Instant::now()), number, "{offence:?}");
    }
}

#[test]
fn points_fade_and_a_ban_ends() {
    let start = Instant::now();
    let mut standing = standing();
    let heavy = Offence::Malformed.points();
    assert_eq!(standing.penalise(&IP, Offence::Malformed, start), Consequence::Points(heavy), "one mistake is no ban");
    assert_eq!(standing.points(&IP, start + FORGIVE_INTERVAL), heavy - 1);
    let later = start + FORGIVE_INTERVAL * heavy;
    assert_eq!(standing.points(&IP, later), 0);
    assert_eq!(standing.forgive(later), [(IP, 0)], "the last time with 0");
    assert!(standing.points.is_empty());
    assert_eq!(offend_until_banned(&mut standing, Offence::Forged, later), 4);
    assert_eq!(standing.banned(&IP, later), Some(FIRST_BAN_OF_ADDRESS));
    assert_eq!(standing.banned(&IP, later + FIRST_BAN_OF_ADDRESS), None);
}

#[test]
fn forgiveness_counts_whole_intervals_over_several_offences() {
    let start = Instant::now();
    let mut standing = standing();
    let mut now = start;
    for _ in 0..20 {
        let _ = standing.penalise(&IP, Offence::FromTheFuture, now);
        now += FORGIVE_INTERVAL * 3 / 2;
    }
    assert_eq!(standing.points(&IP, now), 20 * Offence::FromTheFuture.points() - 30);
}

#[test]
fn forgiveness_is_reported_once_in_each_interval() {
    let start = Instant::now();
    let mut standing = standing();
    assert_eq!(standing.forgive(start), []);
    let _ = standing.penalise(&IP, Offence::Refused, start);
    let _ = standing.penalise(&IP, Offence::FromTheFuture, start);
    assert_eq!(standing.forgive(start), []);
    assert_eq!(standing.forgive(start + FORGIVE_INTERVAL), [(IP, 10)]);
    assert_eq!(standing.forgive(start + FORGIVE_INTERVAL), []);
}

#[test]
fn slow_line_is_never_banned_and_eight_stalled_connections_are_within_two_minutes() {
    let start = Instant::now();
    let mut slow = standing();
    let mut now = start;
    for _ in 0..10_000 {
        assert!(!slow.penalise(&IP, Offence::Late, now).is_ban());
        now += Duration::from_secs(180);
    }
    let mut stalled = standing();
    let rounds = (1..=4).map(|round| start + Duration::from_secs(30 * round));
    let offences = rounds.flat_map(|now| [now; 8]);
    assert!(offences.map(|now| stalled.penalise(&IP, Offence::Late, now)).any(|one| one.is_ban()));
}

#[test]
fn bans_double_and_are_forgotten() {
    let mut now = Instant::now();
    let mut standing = standing();
    let mut expected = FIRST_BAN_OF_ADDRESS;
    for _ in 0..12 {
        offend_until_banned(&mut standing, Offence::Forged, now);
        assert_eq!(standing.banned(&IP, now), Some(expected));
        now += expected;
        expected = (expected * 2).min(LONGEST_BAN);
    }
    now += BAN_MEMORY;
    standing.forgive(now);
    assert!(standing.bans.is_empty());
    offend_until_banned(&mut standing, Offence::Forged, now);
    assert_eq!(standing.banned(&IP, now), Some(FIRST_BAN_OF_ADDRESS));
    standing.pardon(&IP);
    assert_eq!(standing.banned(&IP, now), None);
}

#[test]
fn end_of_a_ban_is_reported_once() {
    let start = Instant::now();
    let mut standing = Standing::new(FIRST_BAN_OF_KEY);
    while !standing.penalise(&7, Offence::Forged, start).is_ban() {}
    assert_eq!(standing.penalise(&7, Offence::Refused, start), Consequence::Ban { instead_of: None }, "it is banned");
    assert_eq!(standing.points(&7, start), 0);
    assert_eq!(standing.ended(start), []);
    assert_eq!(standing.ended(start + FIRST_BAN_OF_KEY), [7]);
    assert_eq!(standing.ended(start + FIRST_BAN_OF_KEY), []);
}

#[test]
fn objects_that_an_honest_reference_relays_never_ban() {
    let now = Instant::now();
    let mut standing = standing();
    for _ in 0..10 * PENALTY_LIMIT {
        assert!(!standing.penalise(&IP, Offence::Refused, now).is_ban());
    }
    assert_eq!(standing.points(&IP, now), REFUSED_MOST);
    assert!(!standing.penalise(&IP, Offence::Forged, now).is_ban());
    let heavier = standing.points(&IP, now);
    assert!(!standing.penalise(&IP, Offence::Refused, now).is_ban());
    assert_eq!(standing.points(&IP, now), heavier, "a light offence takes nothing off a heavy one");
}

#[test]
fn offence_over_libp2p_is_heavy_where_nodes_check_before_they_relay() {
    for reject in [Reject::BadSignature, Reject::IdMismatch { actual: String::new() }, Reject::NotCanonical] {
        assert_eq!(Offence::of(&reject).points(), Offence::Forged.points(), "{reject}");
    }
    assert_eq!(Offence::of(&Reject::TaskMismatch), Offence::Misplaced);
    assert_eq!(Offence::of(&Reject::FromTheFuture { ahead: 9 }), Offence::FromTheFuture);
}

#[test]
fn full_table_drops_the_ban_that_ends_first_and_reports_it() {
    let now = Instant::now();
    let mut standing = Standing::new(FIRST_BAN_OF_KEY);
    let mut ban = |culprit| loop {
        if let Consequence::Ban { instead_of } = standing.penalise(&culprit, Offence::Forged, now) {
            break instead_of;
        }
    };
    let dropped = (0..BANS + 10).filter_map(&mut ban).count();
    assert_eq!(dropped, 10);
    assert_eq!(standing.bans.len(), BANS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]
    #[test]
    fn both_tables_are_bounded(ips in proptest::collection::vec(any::<[u8; 4]>(), 1..200), heavy: bool) {
        let now = Instant::now();
        let mut standing = standing();
        // A prefix of full tables, so that few cases reach the bounds.
        for n in 0..CULPRITS as u32 + 10 {
            let _ = standing.penalise(&IpAddr::from(n.to_be_bytes()), Offence::Refused, now);
        }
        for n in 0..BANS as u32 + 10 {
            while !standing.penalise(&IpAddr::from(n.to_be_bytes()), Offence::Forged, now).is_ban() {}
        }
        for ip in ips {
            let offence = if heavy { Offence::Oversize } else { Offence::Refused };
            let _ = standing.penalise(&IpAddr::from(ip), offence, now);
        }
        prop_assert!(standing.points.len() <= CULPRITS && standing.bans.len() <= BANS);
    }
}

#[test]
fn culprit_that_peers_share_is_banned_by_as_many_times_the_points() {
    let now = Instant::now();
    for peers in [1, 2, 8] {
        let mut standing = Standing::shared_by(peers, FIRST_BAN_OF_ADDRESS);
        let before = (0..1000).take_while(|_| !standing.penalise(&IP, Offence::Forged, now).is_ban()).count() as u32;
        assert_eq!((before + 1) * Offence::Forged.points() / PENALTY_LIMIT, peers);
    }
}
