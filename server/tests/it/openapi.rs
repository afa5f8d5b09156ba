//! The API description is complete, and the committed one is this one.

use crate::support::Server;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::path::Path;

/// Adding or dropping an operation is a decision: change this number with it.
const OPERATIONS: usize = 66;

/// One pixel.
const GIF: &str = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7";

fn document() -> Value {
    serde_json::to_value(dozen::http::openapi_document()).unwrap()
}

fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut operations = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if ["get", "post", "put", "patch", "delete"].contains(&method.as_str()) {
                operations.push((format!("{method} {path}"), operation));
            }
        }
    }
    operations
}

#[test]
fn the_committed_description_is_the_generated_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../openapi/openapi.json");
    let committed = std::fs::read_to_string(path).unwrap();
    let generated = dozen::http::openapi_document().to_pretty_json().unwrap() + "\n";
    assert!(
        committed == generated,
        "openapi/openapi.json is out of date: run `cargo xtask openapi` and commit it"
    );
}

#[test]
fn every_operation_is_counted_and_described() {
    let document = document();
    let operations = operations(&document);
    assert_eq!(operations.len(), OPERATIONS);
    let mut ids = HashSet::new();
    for (name, operation) in operations {
        let text = |field: &str| operation[field].as_str().unwrap_or_default().to_owned();
        assert!(!text("summary").is_empty(), "{name} has no summary");
        assert!(text("description").len() > 20, "{name} has no description");
        assert!(ids.insert(text("operationId")), "{name} shares its operation id");
        assert_eq!(operation["tags"].as_array().unwrap().len(), 1, "{name}");
        let responses = operation["responses"].as_object().unwrap();
        assert!(responses.keys().any(|status| status.starts_with('2')), "{name} never succeeds");
        let mut problems = 0;
        for (status, response) in responses {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{name} {status}");
            if status.starts_with(['4', '5']) {
                problems += 1;
                let schema = &response["content"]["application/problem+json"]["schema"]["$ref"];
                assert_eq!(schema, "#/components/schemas/Problem", "{name} {status}");
            }
        }
        assert!(problems > 0, "{name} has no refusals");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            assert!(parameter["description"].is_string(), "{name}: {}", parameter["name"]);
        }
    }
}

#[test]
fn every_reference_leads_somewhere() {
    fn check(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(reference) = fields.get("$ref").and_then(Value::as_str) {
                    let target = document.pointer(reference.trim_start_matches('#'));
                    assert!(target.is_some(), "{reference} leads nowhere");
                }
                fields.values().for_each(|value| check(value, document));
            }
            Value::Array(items) => items.iter().for_each(|value| check(value, document)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let document = document();
    check(&document, &document);
}

/// What the names of a path stand for on this server: real ids, so that the examples find what they are about.
async fn path_with_ids(server: &Server, path: &str) -> String {
    let mut path = path.to_owned();
    let first = async |list: &str| {
        server.get(list).await.value()["data"][0]["id"].as_str().map_or_else(String::new, str::to_owned)
    };
    if path.contains("{example}") {
        path = path.replace("{example}", &first("/classes/red/examples").await);
    }
    if path.starts_with("/images/") {
        path = path.replace("{id}", &first("/images").await);
    }
    if path.contains("{job}") {
        path = path.replace("{job}", &first("/jobs").await);
    }
    path.replace("{id}", "red").replace("{number}", "1")
}

#[tokio::test]
async fn the_examples_of_json_bodies_run() {
    let document = document();
    let mut sent = 0;
    for (name, operation) in operations(&document) {
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        let Some(reference) = schema["$ref"].as_str().filter(|_| !name.contains("{collection}")) else {
            continue;
        };
        let target = document.pointer(reference.trim_start_matches('#')).unwrap();
        let example = &target["example"];
        assert!(example.is_object(), "{reference} has no example");
        // A server of its own: some examples rename or delete what others need.
        let server = Server::new().await;
        server.teach_two_classes().await;
        let pool = json!({"images": [{"type": "base64", "value": GIF}]});
        assert!(server.json("POST", "/images", &pool).await.status.is_success());
        let audit = server.json("POST", "/audit", &json!({"near_duplicate": 0.9})).await;
        while !["succeeded", "failed"]
            .contains(&server.get(audit.header("location")).await.value()["status"].as_str().unwrap())
        {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        let (method, path) = name.split_once(' ').unwrap();
        let path = path_with_ids(&server, path).await;
        let answer = server.json(&method.to_uppercase(), &path, example).await;
        assert!(answer.status.is_success(), "{name} {example}: {} {}", answer.status, answer.text());
        sent += 1;
    }
    assert!(sent >= 10, "only {sent} operations have JSON bodies");
}

#[tokio::test]
async fn the_server_serves_its_description_and_a_page_to_read_it() {
    let server = Server::new().await;
    assert_eq!(server.get("/openapi.json").await.value(), document());
    let page = server.get("/docs/").await;
    assert!(page.header("content-type").starts_with("text/html"), "{}", page.text());
    assert!(!page.text().contains("https://"), "the page loads nothing from elsewhere");
}
