//! ETags: the versions of answers that a client may keep, and ask for only when they changed.

use warp::{
    http::{HeaderValue, StatusCode, header},
    reply::Response,
};

/// Whether `etag` names the version that the client has, according to its `If-None-Match`.
pub fn is_known(etag: &str, if_none_match: Option<&HeaderValue>) -> bool {
    if_none_match.is_some_and(|known| known.as_bytes() == etag.as_bytes())
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
