//! The address on which a legacy peer listens: `host:port`, as the reference writes it everywhere.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use super::subnet::Subnet;

/// Length of the longest DNS name, in characters.
const MAX_NAME: usize = 253;

/// A host (a DNS name, an IPv4 address, or an IPv6 address in brackets) and a TCP port other than 0.
///
/// Each address has one spelling, so that equal addresses compare equal: names and addresses are lower-case, and IPv6
/// addresses have their shortest form.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerAddress {
    host: Host,
    port: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// The text is not `host:port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a host and a port, such as 192.0.2.1:7470 or peer.example.org:7470")]
pub struct NoAddress;

impl PeerAddress {
    /// The public peer of the existing network.
    pub fn public() -> Self {
        Self { host: Host::Name("peer.sporemesh.com".into()), port: 7470 }
    }

    /// The IP address. None for a name, which has to be looked up.
    pub fn ip(&self) -> Option<IpAddr> {
        match &self.host {
            Host::Ip(ip) => Some(*ip),
            Host::Name(_) => None,
        }
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The host without brackets, for looking it up.
    pub fn host(&self) -> String {
        match &self.host {
            Host::Ip(ip) => ip.to_string(),
            Host::Name(name) => name.clone(),
        }
    }

    /// Whether the reference can read the address. It splits at the first colon, so it fails on IPv6 addresses.
    pub fn is_legible_to_the_reference(&self) -> bool {
        !matches!(self.host, Host::Ip(IpAddr::V6(_)))
    }

    /// Whether the address lies on this machine or in a private network, so that only peers there can use it.
    pub fn is_local(&self) -> bool {
        match &self.host {
            Host::Ip(ip) => is_local(*ip),
            // By multicast DNS and RFC 6761, these names never lead out of the local network.
            Host::Name(name) => name == "localhost" || name.ends_with(".localhost") || name.ends_with(".local"),
        }
    }
}

/// Whether an address lies on this machine or in a private network, or is no address of a single host.
pub fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local() || !is_unicast(ip.into()),
        IpAddr::V6(ip) => {
            ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local() || !is_unicast(ip.into())
        }
    }
}

/// Whether the address names a single host, which can be dialled.
pub fn is_unicast(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_broadcast() && !ip.is_multicast(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
    }
}

/// The key by which a single host is counted and banned: [`Subnet::host`] without its length.
pub fn subject(ip: IpAddr) -> IpAddr {
    Subnet::of(ip).host().addr()
}

impl From<SocketAddr> for PeerAddress {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip().to_canonical()), port: address.port() }
    }
}

impl FromStr for PeerAddress {
    type Err = NoAddress;

    fn from_str(text: &str) -> Result<Self, NoAddress> {
        let (host, port) = text.rsplit_once(':').ok_or(NoAddress)?;
        // `u16` would accept a sign.
        let port: u16 = port.parse().ok().filter(|_| port.bytes().all(|b| b.is_ascii_digit())).ok_or(NoAddress)?;
        let host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => Host::Ip(IpAddr::V6(inner.parse().map_err(|_| NoAddress)?).to_canonical()),
            None => match host.parse() {
                Ok(ip) => Host::Ip(IpAddr::V4(ip)),
                Err(_) => Host::Name(name(host).ok_or(NoAddress)?),
            },
        };
        if port == 0 { Err(NoAddress) } else { Ok(Self { host, port }) }
    }
}

/// A name as DNS compares it: lower-case and without the final dot. None for a text that is no DNS name.
fn name(text: &str) -> Option<String> {
    let text = text.strip_suffix('.').unwrap_or(text);
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    let labels = !text.is_empty() && text.split('.').all(|label| !label.is_empty() && label.bytes().all(plain));
    // A name of digits and dots alone is a mistyped IPv4 address, which some resolvers read in their own way.
    let letters = text.bytes().any(|b| b.is_ascii_alphabetic());
    (labels && letters && text.len() <= MAX_NAME).then(|| text.to_ascii_lowercase())
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_has_one_spelling() {
        for (text, shown) in [
            ("192.0.2.1:7470", "192.0.2.1:7470"),
            ("Peer.Example.ORG.:1", "peer.example.org:1"),
            ("[2001:DB8:0::1]:65535", "[2001:db8::1]:65535"),
            ("[::ffff:192.0.2.1]:5", "192.0.2.1:5"),
            ("my_host-2:80", "my_host-2:80"),
        ] {
            let address: PeerAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), shown);
            assert_eq!(shown.parse(), Ok(address));
        }
        for text in [
            "",
            ":",
            "host",
            "host:",
            ":1",
            "host:0",
            "host:65536",
            "host:+1",
            "::1:7470",
            "[::1]",
            "[host]:1",
            "a b:1",
            "a..b:1",
            "300.0.0.1:1",
            "1.2.3:4",
            "ho/st:1",
            "/ip4/127.0.0.1/tcp/1",
            "[192.0.2.1]:1",
            "h\u{f6}st:1",
        ] {
            assert_eq!(text.parse::<PeerAddress>(), Err(NoAddress), "{text}");
        }
        assert!(format!("{}:1", "a".repeat(MAX_NAME + 1)).parse::<PeerAddress>().is_err());
    }

    #[test]
    fn public_peer_has_a_valid_address() {
        assert_eq!("peer.sporemesh.com:7470".parse(), Ok(PeerAddress::public()));
    }

    #[test]
    fn addresses_of_private_networks_are_local() {
        for text in
            ["127.0.0.2:1", "10.1.2.3:1", "192.168.0.1:1", "[::1]:1", "[fe80::1]:1", "[fd00::1]:1", "localhost:1"]
        {
            assert!(text.parse::<PeerAddress>().unwrap().is_local(), "{text}");
        }
        for text in ["192.0.2.1:1", "[2001:db8::1]:1", "peer.example.org:1"] {
            assert!(!text.parse::<PeerAddress>().unwrap().is_local(), "{text}");
        }
    }

    #[test]
    fn ipv6_addresses_of_one_customer_are_one_subject() {
        let subject = |text: &str| subject(text.parse().unwrap()).to_string();
        assert_eq!(subject("2001:db8:1:2:3::4"), "2001:db8:1:2::");
        assert_eq!(subject("::ffff:192.0.2.1"), "192.0.2.1");
        assert_eq!(subject("127.0.0.2"), "127.0.0.2");
        assert_eq!(subject("::1"), "::1");
    }
}
