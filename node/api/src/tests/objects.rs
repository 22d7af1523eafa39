//! Signed objects page by page.

use super::Server;
use crate::{objects::ObjectLines, route::Route};

async fn lines(server: &Server, parameters: &str) -> Vec<String> {
    let (mut all, mut after) = (Vec::new(), String::new());
    // Four kinds, and ten objects at most.
    for _ in 0..20 {
        let path = format!("{}?{parameters}{after}", Route::Objects.path());
        let page: ObjectLines = serde_json::from_value(server.json(&path).await).unwrap();
        all.extend(page.lines);
        match page.next {
            Some(next) => after = format!("&after={next}"),
            None => return all,
        }
    }
    panic!("the list does not end");
}

#[tokio::test]
async fn pages_of_objects_hold_each_object_once_in_one_order() {
    let server = Server::start().await;
    let all = lines(&server, "limit=500").await;
    assert_eq!(all.len(), 7, "a task, four records, an event and a profile");
    assert!(all.iter().all(|line| line.ends_with('\n') && line.matches('\n').count() == 1), "{all:?}");
    for limit in [1, 2, 3] {
        assert_eq!(lines(&server, &format!("limit={limit}")).await, all, "in pages of {limit}");
    }
    let of_task = lines(&server, &format!("limit=2&task={}", server.task)).await;
    assert_eq!(of_task, all[..6], "all but the profile");
    assert_eq!(lines(&server, "limit=3&kind=experiment").await, all[1..5]);
    assert_eq!(lines(&server, "kind=profile").await, all[6..]);
    assert!(lines(&server, &format!("kind=profile&task={}", server.task)).await.is_empty());
}

#[tokio::test]
async fn objects_refuse_an_unknown_kind_and_a_cursor_of_another_list() {
    let server = Server::start().await;
    for wrong in ["kind=records", "after=x", "after=profile&kind=task", "limit=501"] {
        let path = format!("{}?{wrong}", Route::Objects.path());
        let answer = server.request(reqwest::Method::GET, &path).send().await.unwrap();
        assert_eq!(answer.status(), 400, "{wrong}");
    }
}
