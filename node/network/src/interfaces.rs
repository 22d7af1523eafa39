//! The networks of this machine's interfaces: on Linux from the kernel's tables of routes, elsewhere guessed from the
//! addresses on which the node listens.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use libp2p::Multiaddr;
use spore_base::subnet::ip_in;

/// Routes of IPv4, one a line, numbers in hexadecimal and in the machine's order of bytes.
const ROUTES_V4: &str = "/proc/net/route";
/// Routes of IPv6, one a line, numbers in hexadecimal.
const ROUTES_V6: &str = "/proc/net/ipv6_route";
/// The usual networks at home, where no table of routes can be read.
const GUESSED_PREFIX: (u8, u8) = (24, 64);
/// Bit of a route that leads through a router.
const THROUGH_ROUTER: u32 = 2;
/// Bit of an IPv6 route to an address of this machine itself.
const LOCAL_V6: u32 = 0x8000_0000;

/// The networks that this machine reaches without a router. `listening`: the addresses on which the node listens.
pub fn networks(listening: &[Multiaddr]) -> Vec<IpNet> {
    let read = |file| fs::read_to_string(file).unwrap_or_default();
    let (v4, v6) = (read(ROUTES_V4), read(ROUTES_V6));
    if v4.is_empty() && v6.is_empty() {
        return listening.iter().filter_map(guessed).collect();
    }
    v4.lines().filter_map(route_v4).chain(v6.lines().filter_map(route_v6)).collect()
}

fn guessed(address: &Multiaddr) -> Option<IpNet> {
    let ip = ip_in(address)?;
    let length = if ip.is_ipv4() { GUESSED_PREFIX.0 } else { GUESSED_PREFIX.1 };
    IpNet::new(ip, length).ok().map(|net| net.trunc())
}

/// A line such as `eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF ...`: 192.168.1.0/24 without a router.
fn route_v4(line: &str) -> Option<IpNet> {
    let mut fields = line.split_whitespace();
    let (_, network) = (fields.next()?, fields.next()?);
    let (_, flags) = (fields.next()?, u32::from_str_radix(fields.next()?, 16).ok()?);
    let mask = fields.nth(3)?;
    let address = |text: &str| u32::from_str_radix(text, 16).ok().map(|bits| Ipv4Addr::from(bits.to_ne_bytes()));
    let net = Ipv4Net::with_netmask(address(network)?, address(mask)?).ok()?;
    (flags & THROUGH_ROUTER == 0 && net.prefix_len() > 0).then_some(net.into())
}

/// A line such as `fd00..00 40 00..00 00 00..00 00000100 ... 00000001 eth0`: fd00::/64 without a router.
fn route_v6(line: &str) -> Option<IpNet> {
    let mut fields = line.split_whitespace();
    let network = u128::from_str_radix(fields.next()?, 16).ok()?;
    let length = u8::from_str_radix(fields.next()?, 16).ok()?;
    let flags = u32::from_str_radix(fields.nth(6)?, 16).ok()?;
    let net = Ipv6Net::new(Ipv6Addr::from(network), length).ok()?;
    (flags & (THROUGH_ROUTER | LOCAL_V6) == 0 && length > 0 && length < 128).then_some(net.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_of_interfaces_are_read_from_the_table_of_routes() {
        let header = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT";
        let default = "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0";
        let bits = |text: &str| format!("{:08X}", u32::from_ne_bytes(text.parse::<Ipv4Addr>().unwrap().octets()));
        let direct =
            format!("eth0\t{}\t00000000\t0001\t0\t0\t0\t{}\t0\t0\t0", bits("192.168.1.0"), bits("255.255.255.0"));
        assert_eq!((route_v4(header), route_v4(default)), (None, None));
        assert_eq!(route_v4(&direct), "192.168.1.0/24".parse().ok());
        let zero = "0".repeat(32);
        let line = |net: &str, length: &str, flags: &str| {
            format!("{net} {length} {zero} 00 {zero} 00000100 00000001 00000000 {flags}     eth0")
        };
        let net = format!("fd00{}", "0".repeat(28));
        assert_eq!(route_v6(&line(&net, "40", "00000001")), "fd00::/64".parse().ok());
        assert_eq!(route_v6(&line(&zero, "00", "00000003")), None);
        assert_eq!(route_v6(&line(&net, "80", "80200001")), None);
    }

    #[test]
    fn networks_are_guessed_around_addresses_where_no_table_is() {
        assert_eq!(guessed(&"/ip4/192.168.1.7/tcp/1".parse().unwrap()), "192.168.1.0/24".parse().ok());
        assert_eq!(guessed(&"/dns/example.org/tcp/1".parse().unwrap()), None);
    }
}
