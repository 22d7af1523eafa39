//! Heads, pictures, feeds, compressed answers and readers behind a proxy, over HTTP.

use std::io::Read as _;

use reqwest::{Method, Response};

use super::{Server, profile};
use crate::{compact::BINARY, page};

async fn ask(server: &Server, path: &str, headers: &[(&'static str, &str)]) -> Response {
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let request = client.request(Method::GET, format!("http://{}{path}", server.address));
    headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)).send().await.unwrap()
}

fn text(response: &Response, name: &str) -> String {
    response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned()
}

async fn unpacked(response: Response) -> Vec<u8> {
    let bytes = response.bytes().await.unwrap();
    let mut out = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_ref()).read_to_end(&mut out).unwrap();
    out
}

#[tokio::test]
async fn large_answers_are_compressed_for_clients_that_take_it() {
    let server = Server::start().await;
    let gzip = [("accept-encoding", "gzip")];
    let task = server.task;
    for path in [format!("/api/v1/tasks/{task}/experiments"), "/api/v1/openapi.json".into(), "/api/graph".into()] {
        let (plain, packed) = (ask(&server, &path, &[]).await, ask(&server, &path, &gzip).await);
        assert_eq!((text(&plain, "content-encoding"), text(&packed, "content-encoding")), ("".into(), "gzip".into()));
        assert!(text(&plain, "vary").contains("accept-encoding"), "{path}");
        let plain = plain.bytes().await.unwrap();
        assert_eq!(unpacked(packed).await, plain, "{path}");
    }
    let small = ask(&server, "/api/v1/peers", &gzip).await;
    assert_eq!(text(&small, "content-encoding"), "", "an answer of a few bytes stays as it is");
}

#[tokio::test]
async fn compact_graph_is_compressed_under_an_etag_of_its_own() {
    let server = Server::start().await;
    let more: Vec<_> = (0..200u64)
        .map(|n| super::record(&server.publisher, server.task, Some(server.records[0]), 50 + n, 3.0))
        .map(|record| spore_protocol::Record { depth: 1, ..record })
        .map(|record| server.publisher.sign(&record).unwrap().into())
        .collect();
    server.store.insert(&more, 3000).unwrap();
    let path = format!("/api/v1/tasks/{}/graph.bin", server.task);
    let (plain, packed) = (ask(&server, &path, &[]).await, ask(&server, &path, &[("accept-encoding", "gzip")]).await);
    assert_eq!((text(&packed, "content-encoding"), text(&packed, "content-type")), ("gzip".into(), BINARY.into()));
    let (tag, other) = (text(&packed, "etag"), text(&plain, "etag"));
    assert_ne!(tag, other);
    for known in [&tag, &other] {
        let again = ask(&server, &path, &[("if-none-match", known.as_str()), ("accept-encoding", "gzip")]).await;
        assert_eq!((again.status().as_u16(), text(&again, "etag")), (304, known.clone()));
    }
    assert_eq!(unpacked(packed).await, plain.bytes().await.unwrap());
}

#[tokio::test]
async fn prefix_of_an_id_is_redirected_to_the_whole_id_and_an_unknown_one_is_404() {
    let server = Server::start().await;
    let (task, record) = (server.task.to_string(), server.records[3].to_string());
    let node = server.publisher.node_id().to_string();
    for (kind, id) in [("t", &task), ("e", &record), ("n", &node)] {
        let answer = ask(&server, &format!("/{kind}/{}?view=nodes", &id[..10].to_uppercase()), &[]).await;
        assert_eq!((answer.status().as_u16(), text(&answer, "location")), (302, format!("/{kind}/{id}?view=nodes")));
        assert_eq!(ask(&server, &format!("/{kind}/{id}"), &[]).await.status(), 200);
        let unknown = ask(&server, &format!("/{kind}/{}", "0".repeat(64)), &[]).await;
        assert_eq!(unknown.status(), if page::embedded() { 404 } else { 200 });
    }
    let named = ask(&server, "/t/first", &[]).await;
    assert_eq!(text(&named, "location"), format!("/t/{task}"));
}

#[tokio::test]
async fn head_names_the_picture_and_the_feed_by_the_host_that_was_asked() {
    let server = Server::start().await;
    if !page::embedded() {
        return;
    }
    let path = format!("/t/{}", server.task);
    let body = ask(&server, &path, &[("host", "explorer.example.org")]).await.text().await.unwrap();
    assert!(body.contains(&format!("og:image\" content=\"http://explorer.example.org{path}/chart.png\"")), "{body}");
    assert!(body.contains(&format!("href=\"{path}/feed.atom\"")) && body.contains("name=\"description\""), "{body}");
}

#[tokio::test]
async fn chart_and_badge_are_pictures_of_the_confirmed_best() {
    let server = Server::start().await;
    let path = format!("/t/{}", server.task);
    let chart = ask(&server, &format!("{path}/chart.svg"), &[]).await;
    assert_eq!((chart.status().as_u16(), text(&chart, "content-type")), (200, "image/svg+xml".into()));
    let (tag, svg) = (text(&chart, "etag"), chart.text().await.unwrap());
    assert!(svg.contains("best confirmed val_bpb 1.7000 on CPU") && svg.contains("4 results"), "{svg}");
    let again = ask(&server, &format!("{path}/chart.svg"), &[("if-none-match", &tag)]).await;
    assert_eq!(again.status(), 304);
    let of_class = ask(&server, &format!("{path}/chart.svg?class=cpu"), &[]).await.text().await.unwrap();
    assert!(of_class.contains("4 results"), "{of_class}");
    let png = ask(&server, &format!("{path}/chart.png"), &[]).await;
    assert_eq!(text(&png, "content-type"), "image/png");
    assert!(png.bytes().await.unwrap().starts_with(b"\x89PNG"));
    let badge = ask(&server, &format!("{path}/badge.svg"), &[]).await.text().await.unwrap();
    assert!(badge.contains("1.7000 on CPU"), "{badge}");
    let none = ask(&server, &format!("{path}/badge.svg?class=H100"), &[]).await.text().await.unwrap();
    assert!(none.contains("nothing confirmed"), "{none}");
    assert_eq!(ask(&server, "/t/zz/chart.svg", &[]).await.status(), 404);
}

#[tokio::test]
async fn feeds_list_what_is_new_and_hold_untrusted_text_as_text() {
    let server = Server::start().await;
    let evil = spore_protocol::NodeProfile { timestamp: 9, ..profile(&server.publisher, "<b>&\u{1}") };
    server.store.insert(&[server.publisher.sign(&evil).unwrap().into()], 3000).unwrap();
    let node = server.publisher.node_id();
    for (path, entries) in [
        (format!("/t/{}/feed.atom", server.task), 6),
        (format!("/n/{node}/feed.atom"), 4),
        ("/search/feed.atom?q=number".to_owned(), 4),
    ] {
        let feed = ask(&server, &path, &[]).await;
        assert_eq!(text(&feed, "content-type"), "application/atom+xml; charset=utf-8", "{path}");
        let body = feed.text().await.unwrap();
        assert_eq!(body.matches("<entry>").count(), entries, "{path}: {body}");
        assert!(body.contains("&lt;b&gt;&amp;") && !body.contains("<b>") && !body.contains('\u{1}'), "{body}");
        assert!(body.contains(&format!("href=\"http://{}", server.address)), "{body}");
        assert!(body.contains("<updated>1970-01-01T00:16:44Z</updated>") || body.contains("<updated>1970-"), "{body}");
    }
    assert_eq!(ask(&server, "/search/feed.atom", &[]).await.status(), 400);
    assert_eq!(ask(&server, &format!("/n/{}/feed.atom", "0".repeat(64)), &[]).await.status(), 404);
}

#[tokio::test]
async fn artifacts_may_be_kept_for_ever() {
    let server = Server::start().await;
    let cid = spore_protocol::Cid::of(super::SCRIPT);
    let answer = ask(&server, &format!("/api/v1/artifacts/{cid}"), &[]).await;
    assert!(text(&answer, "cache-control").contains("immutable"));
    assert_eq!(text(&answer, "content-disposition"), "attachment");
    assert!(text(&ask(&server, "/api/v1/status", &[]).await, "cache-control").contains("no-store"));
}

#[tokio::test]
async fn leaders_are_the_nodes_with_confirmed_work() {
    let server = Server::start().await;
    let leaders = server.json("/api/v1/leaders").await;
    assert_eq!(leaders.as_array().unwrap().len(), 0, "one confirmed record gives no weight");
    assert_eq!(server.get("/api/v1/leaders?task=zz").await.0, 404);
}
