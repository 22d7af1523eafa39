//! The explorer's page, embedded in the binary. A binary that was built without Node.js has no page; a short text says
//! how to build it.

use std::borrow::Cow;

use rust_embed::{EmbeddedFile, RustEmbed};
use warp::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::etag;

#[derive(RustEmbed)]
#[folder = "../../explorer-ui/dist"]
#[allow_missing = true]
struct Files;

const INDEX: &str = "index.html";

const MISSING: &str = "This node serves its API under /api/v1, but the explorer's page was not built into it.

To build it (Node.js 20.19 or newer):
    cd explorer-ui && npm ci && npm run build
    cargo build --release
Then start the node again.
";

/// Answers a `GET` outside the API: with a file of the page, or with the page itself for a path that the page's own
/// router reads.
pub fn answer(path: &str, headers: &HeaderMap) -> Response {
    let name = path.trim_start_matches('/');
    let is_file = name.rsplit('/').next().is_some_and(|last| last.contains('.'));
    let found = match Files::get(name) {
        Some(file) if !name.is_empty() => Some((name, file)),
        _ if is_file => None,
        _ => Files::get(INDEX).map(|file| (INDEX, file)),
    };
    match found {
        Some((name, file)) => serve(name, file, headers),
        None if is_file => text(StatusCode::NOT_FOUND, "There is no such file.\n"),
        None => text(StatusCode::OK, MISSING),
    }
}

/// Whether this binary contains the page.
pub fn embedded() -> bool {
    Files::get(INDEX).is_some()
}

fn serve(name: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let mut response = match etag::is_known(&etag, headers.get(header::IF_NONE_MATCH)) {
        true => etag::not_modified(),
        false => Response::new(match file.data {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }),
    };
    if let Ok(kind) = HeaderValue::from_str(file.metadata.mimetype()) {
        response.headers_mut().insert(header::CONTENT_TYPE, kind);
    }
    // The build puts a hash of the content into the names under assets/.
    let hashed = name.starts_with("assets/");
    etag::set(&mut response, &etag, if hashed { "public, max-age=31536000, immutable" } else { "no-cache" });
    response
}

fn text(status: StatusCode, text: &'static str) -> Response {
    let mut response = Response::new(text.into());
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_or_how_to_build_it_is_served() {
        let response = answer("/tasks/abc", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with(if embedded() { "text/html" } else { "text/plain" }), "{kind}");
        if let Some(etag) = response.headers().get(header::ETAG) {
            let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, etag.clone())]);
            assert_eq!(answer("/", &known).status(), StatusCode::NOT_MODIFIED);
        }
    }

    #[test]
    fn missing_file_is_not_answered_with_the_page() {
        for path in ["/assets/none.js", "/../Cargo.toml", "/..%2fCargo.toml"] {
            assert_eq!(answer(path, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
