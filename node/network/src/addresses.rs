//! Which addresses this node dials, and which of the addresses that a peer reports are worth keeping.
//!
//! A peer may report any address. Dialling what untrusted peers report would make this node knock on the private
//! networks of its hoster, on its own router, and on programs of its own machine. So:
//!
//! - a public address may be dialled;
//! - a private, shared or documentation address only in a network of an own interface, or in the network of an address
//!   that the operator named;
//! - a loopback address only while a peer on this machine is known;
//! - a host name only when the operator named it, because a name may lead anywhere.
//!
//! Pure. Never here: reading the interfaces (`interfaces`), refusing the dial (`guard`).

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libp2p::{Multiaddr, PeerId, multiaddr::Protocol};
use spore_base::subnet::{Subnet, ip_in};

use crate::limits::{ADDRESSES_PER_PEER, OWN_NETWORKS};

/// IPv4 networks whose addresses lead to no host of the internet: this network, private ones, carrier-grade NAT,
/// loopback, link-local, protocol assignments, documentation, 6to4 relays, benchmarks, multicast and reserved.
const SPECIAL_V4: [([u8; 4], u8); 15] = [
    ([0, 0, 0, 0], 8),
    ([10, 0, 0, 0], 8),
    ([100, 64, 0, 0], 10),
    ([127, 0, 0, 0], 8),
    ([169, 254, 0, 0], 16),
    ([172, 16, 0, 0], 12),
    ([192, 0, 0, 0], 24),
    ([192, 0, 2, 0], 24),
    ([192, 88, 99, 0], 24),
    ([192, 168, 0, 0], 16),
    ([198, 18, 0, 0], 15),
    ([198, 51, 100, 0], 24),
    ([203, 0, 113, 0], 24),
    ([224, 0, 0, 0], 4),
    ([240, 0, 0, 0], 4),
];
/// All IPv6 addresses of the internet.
const UNICAST_V6: ([u16; 8], u8) = ([0x2000, 0, 0, 0, 0, 0, 0, 0], 3);
/// Networks in [`UNICAST_V6`] that lead to no host of the internet: protocol assignments (Teredo among them),
/// documentation (two), and 6to4, whose addresses contain any IPv4 address.
const SPECIAL_V6: [([u16; 8], u8); 4] = [
    ([0x2001, 0, 0, 0, 0, 0, 0, 0], 23),
    ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32),
    ([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),
    ([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),
];
/// The network around an address that the operator named: what a household or a laboratory has.
const NAMED_PREFIX: (u8, u8) = (24, 64);

/// Whether an address belongs to a host of the internet.
pub fn is_global(ip: IpAddr) -> bool {
    let within_v4 = |ip: &Ipv4Addr, (net, length): ([u8; 4], u8)| {
        Ipv4Net::new(net.into(), length).is_ok_and(|net| net.contains(ip))
    };
    let within_v6 = |ip: &Ipv6Addr, (net, length): ([u16; 8], u8)| {
        Ipv6Net::new(net.into(), length).is_ok_and(|net| net.contains(ip))
    };
    match ip.to_canonical() {
        IpAddr::V4(ip) => !SPECIAL_V4.into_iter().any(|net| within_v4(&ip, net)),
        IpAddr::V6(ip) => within_v6(&ip, UNICAST_V6) && !SPECIAL_V6.into_iter().any(|net| within_v6(&ip, net)),
    }
}

/// Whether an address leads through a relay.
pub fn is_circuit(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay in the address of a circuit, without the peer behind it. The address itself when it is none.
pub fn first_hop(address: &Multiaddr) -> Multiaddr {
    address.iter().take_while(|part| *part != Protocol::P2pCircuit).collect()
}

/// The prefixes by which a connection counts: those of the peer, or of the relay that it leads through, since nobody
/// here knows where the peer behind a relay is.
pub fn counted(address: &Multiaddr) -> Option<Subnet> {
    Subnet::in_address(&first_hop(address))
}

/// An address without the peer id at its end.
pub fn without_peer(address: &Multiaddr) -> Multiaddr {
    let mut address = address.clone();
    if matches!(address.iter().last(), Some(Protocol::P2p(_))) {
        address.pop();
    }
    address
}

/// An address with a peer id at its end.
pub fn with_peer(address: &Multiaddr, peer: PeerId) -> Multiaddr {
    without_peer(address).with(Protocol::P2p(peer))
}

/// What this node may dial. Cheap to clone: some dozens of networks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AddressPolicy {
    /// The networks of the own interfaces, without loopback. At most [`OWN_NETWORKS`].
    own: Vec<IpNet>,
    /// The sockets that the operator named (host and port). Bounded by what one operator names.
    named: BTreeSet<Multiaddr>,
    /// The networks around those that are not public.
    named_nets: Vec<IpNet>,
    /// Whether a peer on this machine is known.
    this_machine: bool,
}

impl AddressPolicy {
    /// `named`: addresses that the operator named.
    pub fn new(named: &[Multiaddr]) -> Self {
        let mut policy = Self::default();
        for address in named {
            policy.name(address);
        }
        policy
    }

    /// The operator named an address. True when that changes anything.
    pub fn name(&mut self, address: &Multiaddr) -> bool {
        if let Some(ip) = ip_in(&first_hop(address)).map(|ip| ip.to_canonical()) {
            let length = if ip.is_ipv4() { NAMED_PREFIX.0 } else { NAMED_PREFIX.1 };
            match IpNet::new(ip, length) {
                _ if ip.is_loopback() => self.this_machine = true,
                Ok(net) if !is_global(ip) && !self.named_nets.contains(&net.trunc()) => {
                    self.named_nets.push(net.trunc());
                }
                _ => {}
            }
        }
        self.named.insert(socket(address))
    }

    /// Takes the networks of the own interfaces. True when they differ from the last ones.
    pub fn set_own(&mut self, networks: impl IntoIterator<Item = IpNet>) -> bool {
        // A default route or a point-to-point tunnel is no network of neighbours; link-local IPv6 needs a zone.
        let usable = |net: &IpNet| {
            let ip = net.addr();
            let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
            net.prefix_len() >= 8 && !ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified() && !link_local
        };
        let own: BTreeSet<IpNet> = networks.into_iter().map(|net| net.trunc()).filter(usable).collect();
        let own: Vec<IpNet> = own.into_iter().take(OWN_NETWORKS).collect();
        let changed = own != self.own;
        self.own = own;
        changed
    }

    /// A peer on this machine is connected, so that loopback addresses lead to peers. True when that was not known.
    pub fn allow_this_machine(&mut self) -> bool {
        !std::mem::replace(&mut self.this_machine, true)
    }

    /// Whether this node may dial an address.
    pub fn may_dial(&self, address: &Multiaddr) -> bool {
        match address.iter().next() {
            Some(Protocol::Ip4(_) | Protocol::Ip6(_)) => {
                let ip = ip_in(&first_hop(address));
                self.named.contains(&socket(address)) || ip.is_some_and(|ip| self.may_reach(ip) && has_port(address))
            }
            Some(Protocol::Dns(_) | Protocol::Dns4(_) | Protocol::Dns6(_) | Protocol::Dnsaddr(_)) => {
                self.named.contains(&socket(address))
            }
            // Swarms of one process, in tests.
            Some(Protocol::Memory(_)) => true,
            _ => false,
        }
    }

    fn may_reach(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        if ip.is_loopback() { self.this_machine } else { is_global(ip) || self.is_near(ip) }
    }

    /// Whether the operator's own interfaces or addresses are in the network of this one.
    fn is_near(&self, ip: IpAddr) -> bool {
        let is_host = |net: &IpNet| net.contains(&ip) && (net.prefix_len() >= 31 || ip != net.broadcast());
        !ip.is_multicast() && !ip.is_unspecified() && self.own.iter().chain(&self.named_nets).any(is_host)
    }

    /// Whether peers anywhere can use the address as far as its number says: a public one that is no circuit. A
    /// laboratory that uses documentation addresses as its internet counts as one.
    pub fn is_public(&self, address: &Multiaddr) -> bool {
        let stands_for_public = |ip: IpAddr| {
            let private = Subnet::of(ip).reach() != spore_base::subnet::Reach::Public;
            is_global(ip) || (!private && self.is_near(ip))
        };
        !is_circuit(address) && ip_in(address).is_some_and(|ip| stands_for_public(ip.to_canonical()))
    }

    /// The addresses, among those that were reported of a peer, that this node keeps. `at`: the address under which the
    /// peer that reported them is connected. A peer elsewhere cannot know who is in a network here, so its private
    /// addresses are dropped even where an own interface is in such a network.
    pub fn kept(&self, at: &Multiaddr, reported: impl IntoIterator<Item = Multiaddr>) -> Vec<Multiaddr> {
        let mut kept: Vec<Multiaddr> = Vec::new();
        for address in reported {
            if self.is_kept(at, &address) && !kept.contains(&address) {
                kept.push(address);
            }
            if kept.len() >= ADDRESSES_PER_PEER {
                break;
            }
        }
        kept
    }

    fn is_kept(&self, at: &Multiaddr, address: &Multiaddr) -> bool {
        let hop = first_hop(address);
        let circuits = address.iter().filter(|part| *part == Protocol::P2pCircuit).count();
        let Some(first) = address.iter().next() else { return false };
        if circuits > 1 || matches!(first, Protocol::Memory(_)) {
            return circuits <= 1 && matches!(at.iter().next(), Some(Protocol::Memory(_)));
        }
        let near = !is_circuit(at) && !self.is_public(at);
        match ip_in(&hop).map(|ip| ip.to_canonical()) {
            None => false,
            Some(_) if !self.may_dial(&hop) => false,
            Some(ip) if ip.is_loopback() => ip_in(at).is_some_and(|at| at.is_loopback()) && !is_circuit(at),
            Some(_) => self.is_public(&hop) || near,
        }
    }
}

/// The host and the port of an address.
fn socket(address: &Multiaddr) -> Multiaddr {
    address.iter().take(2).collect()
}

fn has_port(address: &Multiaddr) -> bool {
    matches!(address.iter().nth(1), Some(Protocol::Tcp(port) | Protocol::Udp(port)) if port != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn tcp(ip: &str) -> Multiaddr {
        let kind = if ip.contains(':') { "ip6" } else { "ip4" };
        address(&format!("/{kind}/{ip}/tcp/7471"))
    }

    #[test]
    fn addresses_that_lead_to_no_host_of_the_internet_are_not_dialled() {
        let policy = AddressPolicy::default();
        for ip in [
            "10.1.2.3",
            "172.20.0.1",
            "192.168.1.2",
            "100.64.0.1",
            "100.127.9.9",
            "169.254.1.1",
            "127.0.0.1",
            "0.0.0.0",
            "192.0.2.1",
            "198.51.100.7",
            "203.0.113.7",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "240.0.0.1",
            "::1",
            "::",
            "fe80::1",
            "fd00::1",
            "2001:db8::1",
            "3fff::1",
            "ff02::1",
            "::ffff:10.0.0.1",
            "2002:a00:1::1",
            "64:ff9b::a00:1",
            "2001::1",
        ] {
            assert!(!policy.may_dial(&tcp(ip)), "{ip}");
        }
        for ip in ["1.1.1.1", "100.63.0.1", "100.128.0.1", "172.32.0.1", "2606:4700::1111", "::ffff:1.1.1.1"] {
            assert!(policy.may_dial(&tcp(ip)), "{ip}");
        }
        assert!(!policy.may_dial(&address("/ip4/1.1.1.1/tcp/0")) && !policy.may_dial(&address("/ip4/1.1.1.1")));
        assert!(!policy.may_dial(&address("/dns4/peer.example.org/tcp/7471")), "a name may lead anywhere");
    }

    #[test]
    fn private_addresses_are_dialled_where_an_own_interface_is() {
        let mut policy = AddressPolicy::default();
        let networks = ["192.168.1.7/24", "10.0.0.1/8", "0.0.0.0/0", "127.0.0.1/8", "fd00::7/64", "fe80::1/64"];
        assert!(policy.set_own(networks.map(|net| net.parse().unwrap())));
        assert!(!policy.set_own(networks.map(|net| net.parse().unwrap())), "the same again");
        for (ip, allowed) in [
            ("192.168.1.9", true),
            ("192.168.1.255", false),
            ("192.168.2.9", false),
            ("10.200.0.1", true),
            ("172.16.0.1", false),
            ("fd00::9", true),
            ("fd00:1::9", false),
            ("fe80::9", false),
            ("127.0.0.1", false),
        ] {
            assert_eq!(policy.may_dial(&tcp(ip)), allowed, "{ip}");
        }
        assert!(policy.allow_this_machine() && !policy.allow_this_machine());
        assert!(policy.may_dial(&tcp("127.0.0.1")) && policy.may_dial(&tcp("::1")));
    }

    #[test]
    fn named_address_is_dialled_with_its_neighbours() {
        let named = [address("/ip4/10.5.0.1/tcp/7471"), address("/dns/relay.example.org/udp/7471/quic-v1")];
        let policy = AddressPolicy::new(&named);
        assert!(named.iter().all(|address| policy.may_dial(address)));
        let peer = PeerId::random();
        assert!(policy.may_dial(&with_peer(&named[1], peer)));
        assert!(policy.may_dial(&address(&format!("{}/p2p/{peer}/p2p-circuit/p2p/{peer}", named[0]))));
        assert!(policy.may_dial(&tcp("10.5.0.200")) && !policy.may_dial(&tcp("10.5.1.1")));
        assert!(!policy.may_dial(&address("/dns/relay.example.org/tcp/22")));
    }

    #[test]
    fn peer_elsewhere_names_no_address_of_this_network() {
        let mut policy = AddressPolicy::default();
        policy.set_own(["192.168.1.7/24".parse().unwrap()]);
        policy.allow_this_machine();
        let (peer, public) = (PeerId::random(), tcp("1.1.1.1"));
        let circuit = address(&format!("{public}/p2p/{peer}/p2p-circuit/p2p/{peer}"));
        let private_circuit = address(&format!("/ip4/10.9.9.9/tcp/1/p2p/{peer}/p2p-circuit/p2p/{peer}"));
        let twice = address(&format!("{circuit}/p2p-circuit/p2p/{peer}"));
        let name = address("/dns4/metadata.internal/tcp/80");
        let reported =
            [public.clone(), circuit.clone(), private_circuit, twice, name, tcp("192.168.1.9"), tcp("127.0.0.1")];
        let kept = |at: &Multiaddr| policy.kept(at, reported.clone());
        assert_eq!(kept(&tcp("8.8.8.8")), [public.clone(), circuit.clone()]);
        assert_eq!(kept(&tcp("192.168.1.9")), [public.clone(), circuit.clone(), tcp("192.168.1.9")]);
        assert_eq!(kept(&tcp("127.0.0.1")), [public, circuit.clone(), tcp("192.168.1.9"), tcp("127.0.0.1")]);
        assert_eq!(kept(&circuit).len(), 2, "nobody knows where a peer behind a relay is");
        let many = (1..200).map(|n| tcp(&format!("1.1.1.{n}")));
        assert_eq!(policy.kept(&tcp("8.8.8.8"), many).len(), ADDRESSES_PER_PEER);
    }

    #[test]
    fn documentation_addresses_count_as_public_only_in_a_laboratory_that_uses_them() {
        let mut policy = AddressPolicy::default();
        assert!(policy.is_public(&tcp("1.1.1.1")) && !policy.is_public(&tcp("203.0.113.9")));
        policy.name(&tcp("203.0.113.10"));
        policy.name(&tcp("10.0.0.1"));
        assert!(policy.is_public(&tcp("203.0.113.9")) && !policy.is_public(&tcp("10.0.0.2")));
        assert!(!policy.is_public(&address("/ip4/1.1.1.1/tcp/1/p2p-circuit")));
    }

    #[test]
    fn circuit_counts_as_its_relay() {
        let peer = PeerId::random();
        let circuit = address(&format!("/ip4/1.2.3.4/tcp/1/p2p/{peer}/p2p-circuit/p2p/{peer}"));
        assert_eq!(counted(&circuit), counted(&tcp("1.2.3.4")));
        assert_eq!(Subnet::in_address(&circuit), None, "the peer itself is somewhere else");
        assert_eq!(without_peer(&with_peer(&tcp("1.2.3.4"), peer)), tcp("1.2.3.4"));
    }
}
