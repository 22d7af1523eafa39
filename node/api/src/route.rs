//! The routes of the API: the one table that the server, the command line and the OpenAPI document share.
//!
//! A leaf. Adding a route takes a line here; the compiler then asks for its answer in [`crate::read`] or
//! [`crate::write`], and a test asks for its documentation in [`crate::openapi`].

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use warp::http::Method;

/// Characters of a parameter that a path cannot hold as they are: all but RFC 3986's unreserved ones.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

macro_rules! routes {
    ($($(#[$doc:meta])* $name:ident $(($parameter:ident))? = $method:ident $template:literal;)*) => {
        /// A method and a path of the API. A route with a parameter holds its value, decoded.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub enum Route {
            $($(#[$doc])* $name $((routes!(@type $parameter)))?,)*
        }

        impl Route {
            /// The route of a request. `HEAD` counts as `GET`. None when the API has no such route.
            pub fn parse(method: &Method, path: &str) -> Option<Self> {
                let method = if method == Method::HEAD { &Method::GET } else { method };
                $(
                    if method == Method::$method && let Some(_value) = parameter($template, path) {
                        return Some(Self::$name $(({ let $parameter = _value; $parameter }))?);
                    }
                )*
                None
            }

            /// The method of the route's requests.
            pub const fn method(&self) -> Method {
                match self {
                    $(Self::$name { .. } => Method::$method,)*
                }
            }

            /// The path with the parameter's name in braces, as the OpenAPI document writes it.
            pub const fn template(&self) -> &'static str {
                match self {
                    $(Self::$name { .. } => $template,)*
                }
            }

            /// The value of the path's parameter. None for a path without one.
            fn value(&self) -> Option<&str> {
                match self {
                    $(Self::$name $(($parameter))? => None $(.or(Some($parameter.as_str())))?,)*
                }
            }

            /// Every route once, with `value` as the parameter of those that take one.
            pub fn all(value: &str) -> Vec<Self> {
                vec![$(Self::$name $(({ let $parameter = value; $parameter.to_owned() }))?,)*]
            }
        }
    };
    (@type $parameter:ident) => { String };
}

routes! {
    Status = GET "/api/v1/status";
    /// The counts that the Python implementation serves, under its names.
    Stat = GET "/api/stat";
    Peers = GET "/api/v1/peers";
    AddPeer = POST "/api/v1/peers";
    RemovePeer(peer) = DELETE "/api/v1/peers/{peer}";
    OpenApi = GET "/api/v1/openapi.json";
    Tasks = GET "/api/v1/tasks";
    CreateTask = POST "/api/v1/tasks";
    UseTask = POST "/api/v1/task/use";
    Task(id) = GET "/api/v1/tasks/{id}";
    /// A task's graph as JSON, or in the compact form where the request accepts it.
    Graph(id) = GET "/api/v1/tasks/{id}/graph";
    /// A task's graph in the compact form.
    CompactGraph(id) = GET "/api/v1/tasks/{id}/graph.bin";
    Frontier(id) = GET "/api/v1/tasks/{id}/frontier";
    TaskExperiments(id) = GET "/api/v1/tasks/{id}/experiments";
    Improvements(id) = GET "/api/v1/tasks/{id}/improvements";
    TaskActivity(id) = GET "/api/v1/tasks/{id}/activity";
    TaskNodes(id) = GET "/api/v1/tasks/{id}/nodes";
    Activity = GET "/api/v1/activity";
    Experiments = GET "/api/v1/experiments";
    Experiment(id) = GET "/api/v1/experiments/{id}";
    Judgement(id) = GET "/api/v1/experiments/{id}/judgement";
    Children(id) = GET "/api/v1/experiments/{id}/children";
    Search = GET "/api/v1/search";
    Nodes = GET "/api/v1/nodes";
    /// Nodes with weight here, by what was confirmed of them.
    Leaders = GET "/api/v1/leaders";
    Node(id) = GET "/api/v1/nodes/{id}";
    Profile(id) = GET "/api/v1/nodes/{id}/profile";
    Artifact(cid) = GET "/api/v1/artifacts/{cid}";
    StoreArtifact = POST "/api/v1/artifacts";
    /// Signed objects as lines, page by page.
    Objects = GET "/api/v1/objects";
    SubmitObject = POST "/api/v1/objects";
    Events = GET "/api/v1/events";
    /// A job on the store.
    Upkeep = POST "/api/v1/upkeep";
    StoreStats = GET "/api/v1/upkeep/stats";
    PendingRecords = GET "/api/v1/upkeep/pending";
    Pins = GET "/api/v1/upkeep/pins";
    AddPin(cid) = POST "/api/v1/upkeep/pins/{cid}";
    RemovePin(cid) = DELETE "/api/v1/upkeep/pins/{cid}";
}

/// Stands for a parameter where only [`Route::template`] is wanted.
pub(crate) const ID: String = String::new();

impl Route {
    /// The path of a request, with the parameter percent-encoded.
    pub fn path(&self) -> String {
        let template = self.template();
        match (self.value(), template.split_once('{'), template.split_once('}')) {
            (Some(value), Some((before, _)), Some((_, after))) => {
                format!("{before}{}{after}", utf8_percent_encode(value, RESERVED))
            }
            _ => template.to_owned(),
        }
    }

    /// Whether the route only reads.
    pub fn reads(&self) -> bool {
        self.method() == Method::GET
    }

    /// Whether the request needs the node's token: to change the node, and to see what is its owner's business.
    pub fn needs_token(&self) -> bool {
        !self.reads() || matches!(self, Self::StoreStats | Self::PendingRecords | Self::Pins)
    }
}

/// The parameter of a path, decoded, or an empty text when the template has none. None when the path does not match
/// the template. Every segment is decoded before it is compared, so that no spelling of a path avoids its route.
fn parameter(template: &str, path: &str) -> Option<String> {
    let mut value = String::new();
    let mut segments = path.split('/');
    for expected in template.split('/') {
        let segment = percent_decode_str(segments.next()?).decode_utf8_lossy();
        if expected.starts_with('{') {
            value = segment.into_owned();
        } else if segment != expected {
            return None;
        }
    }
    segments.next().is_none().then_some(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn path_of_a_route_is_parsed_as_that_route(value: String) {
            for route in Route::all(&value) {
                prop_assert_eq!(Route::parse(&route.method(), &route.path()), Some(route));
            }
        }
    }

    #[test]
    fn path_is_matched_whole_and_decoded() {
        let get = |path| Route::parse(&Method::GET, path);
        assert_eq!(get("/api/v1/%75pkeep/stats"), Some(Route::StoreStats));
        assert_eq!(get("/api/v1/tasks/a%20b+c/graph.bin"), Some(Route::CompactGraph("a b+c".into())));
        assert_eq!(Route::Task("a/b ü%+?".into()).path(), "/api/v1/tasks/a%2Fb%20%C3%BC%25%2B%3F");
        for path in ["", "/", "/api/v1", "/api/v1/status/", "/api/v2/status", "/api/v1x/status", "/api/v1/tasks/a/b/c"]
        {
            assert_eq!(get(path), None, "{path}");
        }
    }

    #[test]
    fn method_is_part_of_the_route() {
        let parse = |method| Route::parse(&method, "/api/v1/peers");
        assert_eq!(parse(Method::HEAD), Some(Route::Peers));
        assert_eq!(parse(Method::POST), Some(Route::AddPeer));
        assert_eq!(parse(Method::DELETE), None);
    }
}
