//! ETags: the versions of answers that a client may keep, and ask for only when they changed.

use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

/// Whether `etag` names a version that the client has, according to its `If-None-Match`: one ETag or a list. A weak one
/// counts too: a proxy that compresses an answer makes its ETag weak.
pub fn is_known(etag: &str, if_none_match: Option<&HeaderValue>) -> bool {
    let known = if_none_match.and_then(|known| known.to_str().ok()).unwrap_or_default();
    known.split(',').map(str::trim).any(|known| known.strip_prefix("W/").unwrap_or(known) == etag)
}

/// The ETag of the same version in gzip: other bytes need another ETag.
pub fn in_gzip(etag: &str) -> String {
    format!("{}-gzip\"", etag.strip_suffix('"').unwrap_or(etag))
}

/// The answer to a client that has the current version: no body.
pub fn not_modified() -> Response {
    let mut response = Response::default();
    *response.status_mut() = StatusCode::NOT_MODIFIED;
    response
}

/// Names the version of an answer, and says how a client may keep it.
pub fn set(response: &mut Response, etag: &str, cache_control: &'static str) {
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(header::ETAG, etag);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(cache_control));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etag_is_known_in_a_list_and_when_a_proxy_made_it_weak() {
        let known = |text| is_known("\"a\"", Some(&HeaderValue::from_static(text)));
        assert!(known("\"a\"") && known("\"b\", \"a\"") && known("W/\"a\""));
        assert!(!known("\"b\"") && !known("a") && !known("\"a-gzip\"") && !is_known("\"a\"", None));
        assert_eq!(in_gzip("\"a\""), "\"a-gzip\"");
    }
}
