//! The table of routes, the OpenAPI document and the server agree.

use std::collections::BTreeSet;

use serde_json::Value;
use spore_protocol::Cid;

use super::{SCRIPT, Server, TOKEN};
use crate::route::Route;

/// A route as the OpenAPI document describes it: method, path with names in braces, whether it takes the token.
type Documented = (String, String, bool);

/// The routes that the document describes, read from the document that the server sends.
async fn documented(server: &Server) -> BTreeSet<Documented> {
    let document = server.json(&Route::OpenApi.path()).await;
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            let methods = methods.as_object().unwrap().iter();
            methods.map(|(method, about)| (method.to_uppercase(), path.clone(), about["security"].is_array()))
        })
        .collect()
}

#[tokio::test]
async fn document_describes_the_table_of_routes() {
    let server = Server::start().await;
    let table: BTreeSet<Documented> = Route::all("")
        .iter()
        .map(|route| (route.method().to_string(), route.template().to_owned(), route.needs_token()))
        .collect();
    assert_eq!(documented(&server).await, table);
}

#[tokio::test]
async fn documented_paths_are_all_served() {
    let server = Server::start().await;
    for (method, template, needs_token) in documented(&server).await {
        let id = match template.as_str() {
            path if path.starts_with("/api/v1/experiments/") => server.records[3].to_string(),
            path if path.starts_with("/api/v1/nodes/") => server.publisher.node_id().to_string(),
            path if path.contains("{cid}") => Cid::of(SCRIPT).to_string(),
            path if path.contains("{peer}") => "192.0.2.1:7470".to_owned(),
            _ => server.task.to_string(),
        };
        let path = ["{id}", "{cid}", "{peer}"].iter().fold(template.clone(), |path, name| path.replace(name, &id));
        // A search needs words. The other routes ignore the parameter.
        let request = || server.request(method.parse().unwrap(), &format!("{path}?q=number"));
        let status = request().bearer_auth(TOKEN).send().await.unwrap().status().as_u16();
        // A request without a body may be incomplete, which is not the route's fault.
        let expected = if needs_token { [200, 400] } else { [200, 200] };
        assert!(expected.contains(&status), "{method} {template}: {status}");
        let status = request().send().await.unwrap().status().as_u16();
        assert_eq!(status == 401, needs_token, "{method} {template} without a token: {status}");
    }
}

#[tokio::test]
async fn document_describes_every_parameter_and_every_field() {
    let server = Server::start().await;
    let document = server.json(&Route::OpenApi.path()).await;
    let mut missing = Vec::new();
    undescribed("", &document, &mut missing);
    assert!(missing.is_empty(), "without a description: {missing:#?}");
}

/// Collects operations without a summary, and parameters, properties and schemas without a description.
fn undescribed(place: &str, value: &Value, missing: &mut Vec<String>) {
    let described = |value: &Value, name: &str| value[name].as_str().is_some_and(|text| !text.is_empty());
    let members = |value: &Value, name: &str| value[name].as_object().cloned().unwrap_or_default();
    match value {
        Value::Array(items) => items.iter().for_each(|item| undescribed(place, item, missing)),
        Value::Object(all) => {
            if all.contains_key("operationId") && !described(value, "summary") {
                missing.push(format!("{place}: summary"));
            }
            if all.contains_key("in") && !described(value, "description") {
                missing.push(format!("{place}: parameter {}", value["name"]));
            }
            for (name, schema) in members(value, "schemas") {
                if !described(&schema, "description") {
                    missing.push(format!("schema {name}"));
                }
            }
            for (name, property) in members(value, "properties") {
                // The kinds of a union need no words: their schemas and their only value say all.
                let names_a_kind =
                    property.get("$ref").is_some() || property["enum"].as_array().is_some_and(|e| e.len() == 1);
                let optional = property["oneOf"]
                    .as_array()
                    .is_some_and(|kinds| kinds.iter().any(|kind| described(kind, "description")));
                if !described(&property, "description") && !optional && !names_a_kind {
                    missing.push(format!("{place}: property {name}"));
                }
            }
            for (name, member) in all {
                undescribed(&format!("{place}/{name}"), member, missing);
            }
        }
        _ => {}
    }
}
