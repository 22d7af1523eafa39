//! The noise of a class and the gain of an experiment, over HTTP.

use serde_json::json;
use spore_protocol::{ControlEvent, RecordId, Repeats, VerifiedObject, fixtures};

use super::Server;

fn repeats(server: &Server, by: u8, record: RecordId, first_seed: u64, results: &[f64]) -> VerifiedObject {
    let summary = server.store.summary(&record).unwrap().unwrap();
    let by = fixtures::identity(by);
    let repeats = Repeats {
        experiment_id: record,
        task_id: Some(server.task),
        node_id: by.node_id(),
        gpu: summary.gpu_model,
        steps: summary.num_steps,
        first_seed,
        results: results.to_vec(),
    };
    fixtures::sign(&by, &ControlEvent::repeats(repeats, 2700)).into()
}

#[tokio::test]
async fn noise_and_gain_follow_from_repeats_of_trusted_nodes() {
    let server = Server::start().await;
    let (root, task) = (server.records[0], format!("/api/v1/tasks/{}", server.task));
    let child = server.store.children(&root, 1).unwrap()[0];
    let path = format!("/api/v1/experiments/{child}");
    let before = server.json(&path).await["experiment"]["gain"].clone();
    assert_eq!((&before["parent"], &before["words"]), (&json!(root.to_string()), &json!("noise not measured")));
    assert!(before["p"].is_null() && before["believable"] == json!(false) && before["difference"].is_number());
    // A node that is not trusted here says that there is no noise.
    server.store.insert(&[repeats(&server, 9, root, 0, &[2.0, 2.0, 2.0])], 3000).unwrap();
    assert!(server.json(&task).await["classes"][0]["noise"].is_null());
    server.store.insert(&[repeats(&server, 2, root, 0, &[2.0, 2.5, 1.5, 2.25])], 3000).unwrap();
    let noise = server.json(&task).await["classes"][0]["noise"].clone();
    assert_eq!((&noise["runs"], &noise["signers"], &noise["freedom"]), (&json!(4), &json!(1), &json!(3)));
    let after = server.json(&path).await["experiment"]["gain"].clone();
    assert_eq!((&after["runs"], &after["believable"]), (&json!(1), &json!(false)));
    assert!(after["low"].as_f64().unwrap() < after["high"].as_f64().unwrap(), "{after}");
    let activity = &server.json(&format!("{task}/activity?limit=1")).await[0];
    assert!(activity["text"].as_str().unwrap().contains("with other seeds, 4 times"), "{activity}");
}
