//! The address prefixes by which connections, requests and offences are counted.
//!
//! Keys cost nothing and addresses cost something, but not one by one: a customer gets a whole IPv6 prefix, and a rented
//! server often some neighbouring IPv4 addresses. So limits hold for each of three prefixes, from one host to what a
//! tunnel broker or a small hoster gives to one customer.
//!
//! Never here: the limits themselves.

use std::{
    fmt,
    net::{IpAddr, Ipv6Addr},
};

pub use ipnet::IpNet;
use multiaddr::{Multiaddr, Protocol};

/// Prefix lengths of a host, a subnet and a site, for IPv4: one address, the smallest prefix that is routed on its own,
/// and a common size of a provider's block.
const IPV4: [u8; 3] = [32, 24, 16];
/// The same for IPv6: what one machine picks its addresses from, what a provider gives to a household, and what tunnel
/// brokers and hosters give to one customer.
const IPV6: [u8; 3] = [64, 56, 48];

/// Who can be at the address of a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Programs and proxies on this machine.
    ThisMachine,
    /// Machines of a private network, or everybody behind its router, proxy or container network.
    Private,
    Public,
}

/// The prefixes of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subnet {
    host: IpNet,
    subnet: IpNet,
    site: IpNet,
}

impl Subnet {
    /// The prefixes of an address. An IPv4 address that is written as an IPv6 one counts as itself.
    pub fn of(ip: IpAddr) -> Self {
        let ip = ip.to_canonical();
        // The prefixes of `::1` hold other addresses.
        if ip == Ipv6Addr::LOCALHOST {
            return Self { host: ip.into(), subnet: ip.into(), site: ip.into() };
        }
        let [host, subnet, site] = if ip.is_ipv4() { IPV4 } else { IPV6 };
        let prefix = |length| IpNet::new(ip, length).map_or_else(|_| IpNet::from(ip), |net| net.trunc());
        Self { host: prefix(host), subnet: prefix(subnet), site: prefix(site) }
    }

    /// The prefixes of the IP address in a libp2p address. None for an address without one, such as a name.
    pub fn in_address(address: &Multiaddr) -> Option<Self> {
        ip_in(address).map(Self::of)
    }

    /// What one machine has: an IPv4 address, or an IPv6 /64.
    pub const fn host(&self) -> IpNet {
        self.host
    }

    /// What one household or rented server may have: an IPv4 /24, or an IPv6 /56.
    pub const fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// What a customer of a hoster may have: an IPv4 /16, or an IPv6 /48.
    pub const fn site(&self) -> IpNet {
        self.site
    }

    /// Who can be there.
    pub fn reach(&self) -> Reach {
        match self.host.addr() {
            ip if ip.is_loopback() => Reach::ThisMachine,
            IpAddr::V4(ip) if ip.is_private() || ip.is_link_local() || is_shared(ip.octets()) => Reach::Private,
            IpAddr::V6(ip) if ip.is_unique_local() || ip.is_unicast_link_local() => Reach::Private,
            _ => Reach::Public,
        }
    }
}

/// Whether an IPv4 address lies between the customers of a provider and its router (RFC 6598).
const fn is_shared(octets: [u8; 4]) -> bool {
    let [first, second, ..] = octets;
    first == 100 && second & 0b1100_0000 == 64
}

impl fmt::Display for Subnet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.host.fmt(f)
    }
}

/// The IP address in a libp2p address. None for an address without one, such as a name, and for a peer behind a relay:
/// the address is the relay's there.
pub fn ip_in(address: &Multiaddr) -> Option<IpAddr> {
    if address.iter().any(|part| part == Protocol::P2pCircuit) {
        return None;
    }
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(ip.into()),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subnet(text: &str) -> Subnet {
        Subnet::of(text.parse().unwrap())
    }

    #[test]
    fn address_has_the_prefixes_of_its_host_its_subnet_and_its_site() {
        let shown = |text| {
            let subnet = subnet(text);
            [subnet.host(), subnet.subnet(), subnet.site()].map(|net| net.to_string())
        };
        assert_eq!(shown("192.0.2.1"), ["192.0.2.1/32", "192.0.2.0/24", "192.0.0.0/16"]);
        assert_eq!(shown("2001:db8:1:203:4::5"), ["2001:db8:1:203::/64", "2001:db8:1:200::/56", "2001:db8:1::/48"]);
        assert_eq!(subnet("::ffff:192.0.2.1"), subnet("192.0.2.1"));
    }

    #[test]
    fn libp2p_address_has_the_prefixes_of_its_ip_address() {
        let of = |text: &str| Subnet::in_address(&text.parse().unwrap());
        assert_eq!(of("/ip4/192.0.2.1/udp/1/quic-v1"), Some(subnet("192.0.2.1")));
        assert_eq!(of("/ip6/2001:db8::1/tcp/1"), Some(subnet("2001:db8::1")));
        assert_eq!((of("/dns/example.org/tcp/1"), of("/memory/1")), (None, None));
        assert_eq!(of("/ip4/192.0.2.1/tcp/1/p2p-circuit"), None, "the address of a relay");
    }

    #[test]
    fn addresses_that_one_machine_picks_are_one_host() {
        assert_eq!(subnet("2001:db8:1:2::1").host(), subnet("2001:db8:1:2:ffff::9").host());
        assert_ne!(subnet("2001:db8:1:2::1").host(), subnet("2001:db8:1:3::1").host());
        assert_ne!(subnet("::1").host(), subnet("::2").host());
    }

    #[test]
    fn this_machine_and_private_networks_are_told_from_the_public_one() {
        for (text, reach) in [
            ("127.0.0.2", Reach::ThisMachine),
            ("::1", Reach::ThisMachine),
            ("::ffff:127.0.0.1", Reach::ThisMachine),
            ("10.1.2.3", Reach::Private),
            ("172.17.0.1", Reach::Private),
            ("192.168.0.1", Reach::Private),
            ("169.254.1.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("100.127.255.1", Reach::Private),
            ("fd00::1", Reach::Private),
            ("fe80::1", Reach::Private),
            ("100.63.0.1", Reach::Public),
            ("100.128.0.1", Reach::Public),
            ("192.0.2.1", Reach::Public),
            ("::2", Reach::Public),
            ("2001:db8::1", Reach::Public),
        ] {
            assert_eq!(subnet(text).reach(), reach, "{text}");
        }
    }
}
