//! The explorer's page, embedded in the binary. A binary that was built without Node.js has no page; a short text says
//! how to build it.
//!
//! The page itself is one file for all of its addresses. [`Head`] gives each address its title and description, for link
//! previews and for readers without scripts.

use std::borrow::Cow;

use rust_embed::{EmbeddedFile, RustEmbed};
use warp::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    reply::Response,
};

use super::{etag, view::Head};

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

/// Addresses of the page without an object.
const PLACES: [&str; 3] = ["/", "/search", "/network"];
/// What the page's file has where the head of an address belongs.
const TITLE: &str = "<title>Spore explorer</title>";

/// The kind and the id of the object that an address of the page shows, such as `t` and a task's id, decoded.
pub fn object_of(path: &str) -> Option<(&str, String)> {
    let (kind, id) = path.strip_prefix('/')?.split_once('/')?;
    let known = matches!(kind, "t" | "e" | "n") && !id.is_empty() && !id.contains('/');
    known.then(|| (kind, percent_encoding::percent_decode_str(id).decode_utf8_lossy().into_owned()))
}

/// Answers a `GET` for an address that shows an object: the page with the object's head, or with 404 and no head where
/// this node has no such object.
pub fn about(head: Option<&Head>) -> Response {
    let Some(page) = Files::get(INDEX) else { return text(StatusCode::OK, MISSING) };
    let page = String::from_utf8_lossy(&page.data);
    let (status, page) = match head {
        Some(head) => (StatusCode::OK, page.replacen(TITLE, &tags(head), 1)),
        None => (StatusCode::NOT_FOUND, page.into_owned()),
    };
    let mut response = text(status, page);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn tags(head: &Head) -> String {
    let (title, description, path) = (escaped(&head.title), escaped(&head.description), escaped(&head.path));
    format!(
        "<title>{title} \u{b7} Spore</title>\n    \
         <meta property=\"og:title\" content=\"{title}\" />\n    \
         <meta property=\"og:description\" content=\"{description}\" />\n    \
         <meta property=\"og:type\" content=\"website\" />\n    \
         <meta property=\"og:site_name\" content=\"Spore\" />\n    \
         <link rel=\"canonical\" href=\"{path}\" />"
    )
}

/// Untrusted text as HTML, also within a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

/// Answers any other `GET` outside the API: with a file of the page, or with the page itself, as 404 where it has no such
/// address.
pub fn answer(path: &str, headers: &HeaderMap) -> Response {
    let name = path.trim_start_matches('/');
    let is_file = name.rsplit('/').next().is_some_and(|last| last.contains('.'));
    let found = match Files::get(name) {
        Some(file) if !name.is_empty() => Some((name, file)),
        _ if is_file => None,
        _ => Files::get(INDEX).map(|file| (INDEX, file)),
    };
    match found {
        Some((INDEX, _)) if !PLACES.contains(&path) && path != "/index.html" => about(None),
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

fn text(status: StatusCode, text: impl Into<Cow<'static, str>>) -> Response {
    let mut response = Response::new(match text.into() {
        Cow::Borrowed(text) => text.into(),
        Cow::Owned(text) => text.into(),
    });
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_or_how_to_build_it_is_served() {
        let response = answer("/search", &HeaderMap::new());
        assert_eq!(response.status(), StatusCode::OK);
        let kind = response.headers()[header::CONTENT_TYPE].to_str().unwrap();
        assert!(kind.starts_with(if embedded() { "text/html" } else { "text/plain" }), "{kind}");
        if let Some(etag) = response.headers().get(header::ETAG) {
            let known = HeaderMap::from_iter([(header::IF_NONE_MATCH, etag.clone())]);
            assert_eq!(answer("/", &known).status(), StatusCode::NOT_MODIFIED);
        }
    }

    #[test]
    fn address_without_a_page_is_answered_with_404() {
        let expected = if embedded() { StatusCode::NOT_FOUND } else { StatusCode::OK };
        for path in ["/rss", "/metrics", "/task/abc", "/t", "/t/a/b"] {
            assert_eq!(object_of(path), None, "{path}");
            assert_eq!(answer(path, &HeaderMap::new()).status(), expected, "{path}");
        }
        assert_eq!(object_of("/t/a%20b"), Some(("t", "a b".to_owned())));
    }

    #[test]
    fn head_of_an_address_is_escaped() {
        let head = Head { title: "<b>\"'&".into(), description: "\"><script>".into(), path: "/t/1".into() };
        let tags = tags(&head);
        assert!(!tags.contains("<b>") && !tags.contains("<script>"), "{tags}");
        assert!(tags.starts_with("<title>&lt;b&gt;&quot;&#39;&amp;"), "{tags}");
    }

    #[test]
    fn missing_file_is_not_answered_with_the_page() {
        for path in ["/assets/none.js", "/../Cargo.toml", "/..%2fCargo.toml"] {
            assert_eq!(answer(path, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
