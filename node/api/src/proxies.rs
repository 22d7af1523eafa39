//! Reverse proxies: whom the operator lets say where a request comes from.
//!
//! Behind a proxy all readers have the proxy's address, and would share the part of one host. The operator lists the
//! addresses of proxies; what they say in `X-Forwarded-For` or `Forwarded` is believed, and nobody else is. A client may
//! send such a header itself: of the addresses in it, the last one that is no listed proxy counts, which a listed proxy has
//! written.

use std::{net::IpAddr, str::FromStr as _};

use ipnet::IpNet;
use warp::http::{HeaderMap, HeaderName, HeaderValue, header};

/// Most addresses of a header that are looked at: more proxies than any request passes.
const MOST_HOPS: usize = 32;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The networks of the listed proxies. Empty: nobody's word is believed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Reads addresses and networks, such as `127.0.0.1` and `10.0.0.0/8`.
    ///
    /// # Errors
    /// The first text that is neither.
    pub fn parse(texts: &[String]) -> Result<Self, String> {
        let net = |text: &String| {
            let text = text.trim();
            let net = IpNet::from_str(text).or_else(|_| IpAddr::from_str(text).map(IpNet::from));
            net.map(|net| net.trunc()).map_err(|_| text.to_owned())
        };
        texts.iter().map(net).collect::<Result<_, _>>().map(Self)
    }

    /// Whether an address is that of a listed proxy.
    pub fn has(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.iter().any(|net| net.contains(&address))
    }

    /// Where a request comes from that a peer sent: what the peer says when it is a listed proxy, or else the peer. A proxy
    /// that says nothing readable is the client itself.
    pub fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.has(peer) {
            return peer.to_canonical();
        }
        let hops = hops(headers);
        let mut client = peer.to_canonical();
        for hop in hops.into_iter().rev().take(MOST_HOPS) {
            // What stands before an unreadable address may be anybody's word.
            let Some(address) = hop else { break };
            client = address;
            if !self.has(address) {
                break;
            }
        }
        client
    }

    /// Whether the reader used https, as a listed proxy says.
    pub fn is_https(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let said = headers.get(FORWARDED_PROTO).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let of_forwarded =
            || forwarded(headers).flat_map(parameters).any(|(name, value)| name == "proto" && value == "https");
        self.has(peer) && (said.trim().eq_ignore_ascii_case("https") || of_forwarded())
    }
}

/// The addresses of a request's way, the nearest last. None in it for one that cannot be read.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let listed: Vec<_> = headers.get_all(FORWARDED_FOR).iter().flat_map(texts).map(address).collect();
    if !listed.is_empty() {
        return listed;
    }
    let of = |element: &str| parameters(element).find(|(name, _)| name == "for").and_then(|(_, value)| address(&value));
    forwarded(headers).map(of).collect()
}

/// The elements of `Forwarded`.
fn forwarded(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers.get_all(header::FORWARDED).iter().flat_map(texts)
}

/// The parts of a value between commas. A value that is no text is one part that cannot be read.
fn texts(value: &HeaderValue) -> impl Iterator<Item = &str> {
    value.to_str().unwrap_or("?").split(',')
}

/// The parameters of an element of `Forwarded`, with names in lower case.
fn parameters(element: &str) -> impl Iterator<Item = (String, String)> {
    element.split(';').filter_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        Some((name.trim().to_ascii_lowercase(), value.trim().trim_matches('"').to_owned()))
    })
}

/// An address, also with a port, and in brackets as `[2001:db8::1]:443`.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map(|(inside, _)| inside)?,
        None if text.matches(':').count() == 1 => text.split_once(':').map_or(text, |(host, _)| host),
        None => text,
    };
    bare.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(texts: &[&str]) -> Proxies {
        Proxies::parse(&texts.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn with(name: HeaderName, values: &[&'static str]) -> HeaderMap {
        values.iter().map(|value| (name.clone(), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn client_is_the_last_address_that_is_no_listed_proxy() {
        let proxies = proxies(&["127.0.0.1", "10.0.0.0/8", "::1"]);
        for (values, expected) in [
            (vec!["198.51.100.7"], "198.51.100.7"),
            (vec!["203.0.113.9, 198.51.100.7"], "198.51.100.7"),
            (vec!["203.0.113.9", "198.51.100.7, 10.1.2.3"], "198.51.100.7"),
            (vec!["198.51.100.7:4711"], "198.51.100.7"),
            (vec!["[2001:db8::1]:443"], "2001:db8::1"),
            (vec!["2001:db8::1"], "2001:db8::1"),
            (vec!["::ffff:198.51.100.7"], "198.51.100.7"),
            (vec!["10.9.9.9"], "10.9.9.9"),
            (vec!["203.0.113.9, nonsense"], "127.0.0.1"),
            (vec!["203.0.113.9, nonsense, 10.1.2.3"], "10.1.2.3"),
            (vec![], "127.0.0.1"),
        ] {
            assert_eq!(proxies.client(ip("127.0.0.1"), &with(FORWARDED_FOR, &values)), ip(expected), "{values:?}");
        }
        let forwarded =
            with(header::FORWARDED, &["for=203.0.113.9, For=\"[2001:db8::1]:443\";proto=https;by=10.1.2.3"]);
        assert_eq!(proxies.client(ip("::1"), &forwarded), ip("2001:db8::1"));
        assert!(proxies.is_https(ip("::1"), &forwarded));
    }

    #[test]
    fn word_of_an_unlisted_peer_is_not_believed() {
        let headers = with(FORWARDED_FOR, &["198.51.100.7"]);
        assert_eq!(Proxies::default().client(ip("127.0.0.1"), &headers), ip("127.0.0.1"));
        assert_eq!(proxies(&["127.0.0.1"]).client(ip("203.0.113.9"), &headers), ip("203.0.113.9"));
        assert!(!Proxies::default().is_https(ip("127.0.0.1"), &with(FORWARDED_PROTO, &["https"])));
        assert!(proxies(&["127.0.0.1"]).is_https(ip("127.0.0.1"), &with(FORWARDED_PROTO, &["https"])));
    }

    #[test]
    fn text_that_is_no_network_is_refused() {
        for wrong in ["proxy.example.org", "10.0.0.0/33", "", "1.2.3"] {
            assert_eq!(Proxies::parse(&[wrong.to_owned()]), Err(wrong.to_owned()));
        }
    }
}
