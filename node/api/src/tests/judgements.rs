//! What holds, who confirmed it, and what is only claimed, over HTTP.

use serde_json::{Value, json};
use spore_protocol::{
    ControlEvent, Identity, Reason, Record, RecordId, Verified, VerifiedObject, control::Refutation, fixtures,
};

use super::{Server, record};

/// A child of the server's first record.
fn child(server: &Server, number: u64, metric: f64) -> Record {
    Record { depth: 1, ..record(&server.publisher, server.task, Some(server.records[0]), number, metric) }
}

fn refutation(by: &Identity, of: &Verified<Record>, reason: Reason) -> Verified<ControlEvent> {
    let refutation = Refutation {
        experiment_id: of.id().into(),
        task_id: of.task_id,
        node_id: by.node_id(),
        gpu: of.gpu_model.clone(),
        reason,
    };
    fixtures::sign(by, &ControlEvent::refutation(refutation, 2600))
}

fn ids(page: &Value) -> Vec<String> {
    page["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

/// Adds a claim that twelve unknown nodes confirm, a record that the trusted node refutes, and one with other terms.
async fn contested(server: &Server) -> [RecordId; 3] {
    let sign = |record: Record| server.publisher.sign(&record).unwrap();
    let bought = sign(child(server, 20, 0.5));
    let refuted = sign(child(server, 21, 0.4));
    let longer = sign(Record { time_budget: 40, ..child(server, 22, 0.3) });
    let mut objects: Vec<VerifiedObject> = vec![bought.clone().into(), refuted.clone().into(), longer.clone().into()];
    for number in 30..42 {
        objects.push(fixtures::verification(&fixtures::identity(number), &bought, 0.5, 2500).into());
    }
    objects.push(refutation(&fixtures::identity(2), &refuted, Reason::NotCausal).into());
    let report = server.store.insert(&objects, 3000).unwrap();
    assert_eq!(report.changes.len(), objects.len(), "{:?}", report.outcomes);
    [bought, refuted, longer].map(|record| record.id().into())
}

#[tokio::test]
async fn claim_is_not_best_however_many_unknown_nodes_confirm_it() {
    let server = Server::start().await;
    let [bought, refuted, longer] = contested(&server).await;
    let task = format!("/api/v1/tasks/{}", server.task);
    let list = async |view: &str| ids(&server.json(&format!("{task}/frontier?view={view}")).await);
    let holding = server.records[3].to_string();
    assert_eq!(list("frontier").await, std::slice::from_ref(&holding));
    assert_eq!(list("global").await.first(), Some(&bought.to_string()));
    let claims = list("claims").await;
    assert_eq!(claims.first(), Some(&bought.to_string()));
    let reference = list("reference").await;
    for id in [refuted, longer] {
        assert!(!claims.contains(&id.to_string()) && reference.contains(&id.to_string()), "{id}");
    }
    let summary = server.json(&task).await;
    assert_eq!((&summary["best"], &summary["best_id"]), (&json!(1.7), &json!(holding)));
    assert_eq!((&summary["best_global"], &summary["claims_count"]), (&json!(0.5), &json!(claims.len())));
    let claim = server.json(&format!("/api/v1/experiments/{bought}")).await["experiment"].clone();
    assert_eq!(
        (&claim["claim"], &claim["verdict"], &claim["global_verdict"]),
        (&json!(true), &json!("unverified"), &json!("verified"))
    );
    let support = json!({"trusted_for": 0, "trusted_against": 0, "unknown_for": 12, "unknown_against": 0});
    assert_eq!(claim["support"], support);
    let flaw = &server.json(&format!("/api/v1/experiments/{longer}")).await["experiment"]["flaw"];
    assert_eq!(flaw["name"], "other_budget");
    assert!(flaw["text"].as_str().unwrap().contains("time budget"));
}

#[tokio::test]
async fn judgement_shows_what_was_found_and_what_it_weighs() {
    let server = Server::start().await;
    let [bought, refuted, _] = contested(&server).await;
    let judgement = server.json(&format!("/api/v1/experiments/{refuted}/judgement")).await;
    assert_eq!(
        (&judgement["local"]["verdict"], &judgement["support"]["trusted_against"]),
        (&json!("rejected"), &json!(1))
    );
    let [found] = judgement["measurements"].as_array().unwrap().as_slice() else { panic!("{judgement}") };
    assert_eq!(
        (&found["kind"], &found["value"], &found["agrees"]),
        (&json!("refutation"), &Value::Null, &json!(false))
    );
    assert_eq!((&found["reason"]["name"], &found["ignored"]), (&json!("not_causal"), &Value::Null));
    assert!(found["weight"].as_u64() > Some(0), "{found}");
    let judgement = server.json(&format!("/api/v1/experiments/{bought}/judgement")).await;
    let measurements = judgement["measurements"].as_array().unwrap();
    assert_eq!(measurements.len(), 12);
    for unknown in measurements {
        assert_eq!((&unknown["weight"], &unknown["ignored_globally"]), (&json!(0), &Value::Null), "{unknown}");
        assert!(unknown["ignored"].is_string() && unknown["agrees"] == true, "{unknown}");
    }
}

#[tokio::test]
async fn refutation_is_an_activity_with_its_reason() {
    let server = Server::start().await;
    let [_, refuted, _] = contested(&server).await;
    let newest = &server.json(&format!("/api/v1/tasks/{}/activity?limit=1", server.task)).await[0];
    assert_eq!((&newest["kind"], &newest["reason"]["name"]), (&json!("refutation"), &json!("not_causal")));
    assert_eq!((&newest["experiment_id"], &newest["value"]), (&json!(refuted.to_string()), &Value::Null));
    assert!(newest["text"].as_str().unwrap().contains("refutes it: "), "{newest}");
}

#[tokio::test]
async fn trusted_keys_and_the_standing_of_nodes_are_shown() {
    let server = Server::start().await;
    let verifier = fixtures::identity(2).node_id();
    assert_eq!(server.json("/api/v1/status").await["trusted"], json!([verifier.to_string()]));
    let node = server.json(&format!("/api/v1/nodes/{verifier}")).await;
    assert_eq!(node["trusted"], true);
    let publisher = server.json(&format!("/api/v1/nodes/{}", server.publisher.node_id())).await;
    let standing = json!([{"class": "CPU", "level": null, "weight": 0, "confirmed": 1, "refuted": 0}]);
    assert_eq!((&publisher["trusted"], &publisher["standings"]), (&json!(false), &standing));
}
