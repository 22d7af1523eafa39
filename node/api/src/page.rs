//! The explorer's page, embedded in the binary. A binary that was built without Node.js has no page; a short text says
//! how to build it.
//!
//! The page itself is one file for all of its addresses. [`Head`] gives each address its title and description, for link
//! previews and for readers without scripts.

use std::{
    borrow::Cow,
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use rust_embed::{EmbeddedFile, RustEmbed};
use warp::{
    http::{HeaderMap, HeaderValue, StatusCode, header},
    hyper::body::Bytes,
    reply::Response,
};

use super::{encoding, etag, markup::escaped, view::Head};

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
const PLACES: [&str; 5] = ["/", "/search", "/network", "/nodes", "/compare"];
/// What the page's file has where the head of an address belongs.
const TITLE: &str = "<title>Spore explorer</title>";

/// The kind and the id of the object that an address of the page shows, such as `t` and a task's id, decoded.
pub fn object_of(path: &str) -> Option<(&str, String)> {
    let (kind, id) = path.strip_prefix('/')?.split_once('/')?;
    let known = matches!(kind, "t" | "e" | "n") && !id.is_empty() && !id.contains('/');
    known.then(|| (kind, decoded(id)))
}

/// A part of an address without its percent-encoding.
pub fn decoded(part: &str) -> String {
    percent_encoding::percent_decode_str(part).decode_utf8_lossy().into_owned()
}

/// Answers a `GET` for an address that shows an object: the page with the object's head, or with 404 and no head where
/// this node has no such object. `origin` begins absolute addresses, which previews need.
pub fn about(head: Option<&Head>, origin: &str) -> Response {
    let Some(page) = Files::get(INDEX) else { return text(StatusCode::OK, MISSING) };
    let page = String::from_utf8_lossy(&page.data);
    let (status, page) = match head {
        Some(head) => (StatusCode::OK, page.replacen(TITLE, &tags(head, origin), 1)),
        None => (StatusCode::NOT_FOUND, page.into_owned()),
    };
    let mut response = text(status, page);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

/// Sends a reader from a prefix of an id to the address with the whole id. Later another id may begin so too.
pub fn redirect(address: &str) -> Response {
    let mut response = text(StatusCode::FOUND, "The whole id is in the header Location.\n");
    if let Ok(address) = HeaderValue::from_str(address) {
        response.headers_mut().insert(header::LOCATION, address);
    }
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    response
}

fn tags(head: &Head, origin: &str) -> String {
    let (title, description) = (escaped(&head.title), escaped(&head.description));
    let (path, address) = (escaped(&head.path), escaped(&format!("{origin}{}", head.path)));
    let mut tags = format!(
        "<title>{title} \u{b7} Spore</title>\n    \
         <meta name=\"description\" content=\"{description}\" />\n    \
         <meta property=\"og:title\" content=\"{title}\" />\n    \
         <meta property=\"og:description\" content=\"{description}\" />\n    \
         <meta property=\"og:type\" content=\"website\" />\n    \
         <meta property=\"og:site_name\" content=\"Spore\" />\n    \
         <meta property=\"og:url\" content=\"{address}\" />\n    \
         <link rel=\"canonical\" href=\"{path}\" />"
    );
    if let Some(picture) = &head.picture {
        let picture = escaped(&format!("{origin}{picture}"));
        tags.push_str(&format!(
            "\n    <meta property=\"og:image\" content=\"{picture}\" />\n    \
             <meta property=\"og:image:width\" content=\"1200\" />\n    \
             <meta property=\"og:image:height\" content=\"630\" />\n    \
             <meta name=\"twitter:card\" content=\"summary_large_image\" />"
        ));
    }
    if let Some(feed) = &head.feed {
        let feed = escaped(feed);
        tags.push_str(&format!(
            "\n    <link rel=\"alternate\" type=\"application/atom+xml\" title=\"News\" href=\"{feed}\" />"
        ));
    }
    tags
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
        Some((INDEX, _)) if !PLACES.contains(&path) && path != "/index.html" => about(None, ""),
        Some((name, file)) => serve(name, file, headers),
        None if is_file => text(StatusCode::NOT_FOUND, "There is no such file.\n"),
        None => text(StatusCode::OK, MISSING),
    }
}

/// Whether this binary contains the page.
pub fn embedded() -> bool {
    Files::get(INDEX).is_some()
}

/// The files of the page in gzip, by name: made once, when the first of them is asked for.
static PACKED: LazyLock<HashMap<String, Bytes>> = LazyLock::new(|| {
    let packed = |name: Cow<'static, str>| {
        let bytes = encoding::gzip_shared(&Files::get(&name)?.data)?;
        Some((name.into_owned(), Bytes::from(Arc::unwrap_or_clone(bytes))))
    };
    Files::iter().filter_map(packed).collect()
});

fn serve(name: &str, file: EmbeddedFile, headers: &HeaderMap) -> Response {
    let packed = if encoding::is_accepted(headers) { PACKED.get(name) } else { None };
    let plain = format!("\"{}\"", hex::encode(file.metadata.sha256_hash()));
    let etag = if packed.is_some() { etag::in_gzip(&plain) } else { plain };
    let mut response = match (etag::is_known(&etag, headers.get(header::IF_NONE_MATCH)), packed) {
        (true, _) => etag::not_modified(),
        (false, Some(packed)) => Response::new(packed.clone().into()),
        (false, None) => Response::new(match file.data {
            Cow::Borrowed(bytes) => bytes.into(),
            Cow::Owned(bytes) => bytes.into(),
        }),
    };
    if packed.is_some() && response.status() == StatusCode::OK {
        encoding::mark(response.headers_mut());
    }
    encoding::vary(response.headers_mut());
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
        let head = Head {
            title: "<b>\"'&".into(),
            description: "\"><script>".into(),
            path: "/t/1".into(),
            picture: Some("/t/1/chart.png".into()),
            feed: Some("/t/1/feed.atom".into()),
        };
        let tags = tags(&head, "http://a.example\"><script>");
        assert!(!tags.contains("<b>") && !tags.contains("<script>"), "{tags}");
        assert!(tags.starts_with("<title>&lt;b&gt;&quot;&#39;&amp;"), "{tags}");
        for tag in ["name=\"description\"", "og:image\"", "rel=\"canonical\" href=\"/t/1\"", "application/atom+xml"] {
            assert!(tags.contains(tag), "{tag} is missing in {tags}");
        }
    }

    #[test]
    fn files_of_the_page_are_sent_in_gzip_with_an_etag_of_its_own() {
        let gzip = HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static("gzip"))]);
        let (plain, packed) = (answer("/", &HeaderMap::new()), answer("/", &gzip));
        if embedded() && PACKED.contains_key(INDEX) {
            assert_eq!(packed.headers()[header::CONTENT_ENCODING], "gzip");
            assert_ne!(packed.headers()[header::ETAG], plain.headers()[header::ETAG]);
            assert!(plain.headers().get(header::CONTENT_ENCODING).is_none());
        }
    }

    #[test]
    fn missing_file_is_not_answered_with_the_page() {
        for path in ["/assets/none.js", "/../Cargo.toml", "/..%2fCargo.toml"] {
            assert_eq!(answer(path, &HeaderMap::new()).status(), StatusCode::NOT_FOUND, "{path}");
        }
    }
}
