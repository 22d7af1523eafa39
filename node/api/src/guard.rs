//! Access control: the host name of a request, the node's token, and headers that keep a browser from doing more than
//! showing the page.

use std::net::IpAddr;

use subtle::ConstantTimeEq;
use warp::http::{HeaderMap, HeaderValue, header};

use super::problem::ApiError;

/// Headers of every answer. The page's scripts, styles and data come from this server only.
const SECURITY: [(header::HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::SERVER, concat!("spore/", env!("CARGO_PKG_VERSION"))),
];

/// Adds the headers of every answer.
pub fn secure(headers: &mut HeaderMap) {
    for (name, value) in SECURITY {
        headers.insert(name, HeaderValue::from_static(value));
    }
}

/// Refuses a request by another host name than those in `names`, if the server is bound to this machine alone. A web page
/// can make its own name resolve to 127.0.0.1, and would then have the same origin as this API (DNS rebinding). A reverse
/// proxy on this machine passes on the name by which it was asked: the operator lists that name.
///
/// # Errors
/// 421.
pub fn check_host(bound: IpAddr, names: &[String], headers: &HeaderMap) -> Result<(), ApiError> {
    if !bound.is_loopback() {
        return Ok(());
    }
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split_once(']').map_or(rest, |(name, _)| name),
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let local = name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    let listed = || {
        // A name may end in the dot of the DNS root.
        let name = name.strip_suffix('.').unwrap_or(name);
        names.iter().any(|known| known.eq_ignore_ascii_case(name))
    };
    if local || listed() { Ok(()) } else { Err(ApiError::misdirected()) }
}

/// Refuses a request without the node's token. An empty token admits nobody.
///
/// # Errors
/// 401.
pub fn check_token(token: &str, headers: &HeaderMap) -> Result<(), ApiError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| value.strip_prefix("Bearer ")).unwrap_or_default();
    let equal = token.as_bytes().ct_eq(given.trim().as_bytes());
    if !token.is_empty() && bool::from(equal) { Ok(()) } else { Err(ApiError::token_required()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn local_server_refuses_foreign_host_names() {
        let local = IpAddr::from([127, 0, 0, 1]);
        for host in ["127.0.0.1:8470", "localhost", "LOCALHOST:1", "[::1]:8470", "127.0.0.2"] {
            assert!(check_host(local, &[], &with(header::HOST, host)).is_ok(), "{host}");
        }
        for host in ["evil.example:8470", "127.0.0.1.evil.example", "10.0.0.1", "", "localhost.evil.example"] {
            assert_eq!(check_host(local, &[], &with(header::HOST, host)).unwrap_err().status(), 421, "{host}");
        }
        assert!(check_host(IpAddr::from([0, 0, 0, 0]), &[], &with(header::HOST, "any.example")).is_ok());
        assert!(check_host(local, &[], &HeaderMap::new()).is_err());
    }

    #[test]
    fn local_server_admits_the_listed_name_of_a_reverse_proxy() {
        let (local, names) = (IpAddr::from([127, 0, 0, 1]), ["explorer.example.org".to_owned()]);
        for host in ["explorer.example.org", "Explorer.Example.Org:443", "explorer.example.org.", "localhost:8470"] {
            assert!(check_host(local, &names, &with(header::HOST, host)).is_ok(), "{host}");
        }
        for host in ["example.org", "explorer.example.org.evil.example", "xexplorer.example.org", ""] {
            assert_eq!(check_host(local, &names, &with(header::HOST, host)).unwrap_err().status(), 421, "{host}");
        }
    }

    #[test]
    fn token_must_match_in_full() {
        for (given, good) in [
            ("Bearer sesame", true),
            ("Bearer sesam", false),
            ("Bearer sesamex", false),
            ("sesame", false),
            ("Bearer ", false),
        ] {
            assert_eq!(check_token("sesame", &with(header::AUTHORIZATION, given)).is_ok(), good, "{given}");
        }
        assert!(check_token("", &with(header::AUTHORIZATION, "Bearer ")).is_err(), "an empty token admits nobody");
    }
}
