//! What an answer says of its own doubt, and what the server says of its labels.

use crate::support::{Server, picture};
use axum::http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn answers_come_with_likeness_margin_and_sets() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let answer = server.post("/classify?coverage=0.5", "image/bmp", picture(210, 20, 20)).await.value();
    let item = &answer["data"][0];
    assert_eq!((&item["label"], &item["unknown"]), (&json!("red"), &json!(false)), "{item}");
    assert!(item["margin"].as_f64().unwrap() > 0.0 && item.get("reason").is_none());
    assert!(item["likeness"]["p_value"].as_f64().unwrap() > 0.0);
    assert_eq!(item["set"]["labels"][0], "red");
    assert_eq!(item["set"]["coverage"], 0.5);
    let unsure = server.post("/classify?min_confidence=1", "image/bmp", picture(120, 20, 120)).await.value();
    let item = &unsure["data"][0];
    assert_eq!((&item["label"], &item["reason"]), (&json!(null), &json!("low_confidence")), "{item}");
    for query in ["coverage=2", "false_rejection_rate=0.9"] {
        let refused = server.post(&format!("/classify?{query}"), "image/bmp", picture(1, 2, 3)).await;
        assert_eq!(refused.problem(), (422, "invalid_request".to_owned()), "{query}");
    }
}

#[tokio::test]
async fn readiness_and_versions_can_be_asked_for() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let ready = server.get("/readiness?more=8").await.value();
    assert_eq!(ready["classes"].as_array().unwrap().len(), 2, "{ready}");
    assert_eq!(ready["head"], json!({"version": 0, "method": "prototype"}));
    assert!(ready["verdict"].is_string() && ready["overall"]["interval"]["low"].is_number());
    assert_eq!(server.get("/readiness?more=0").await.problem(), (400, "invalid_query".to_owned()));
    let same = server.get("/heads/0/diff/0").await.value();
    assert_eq!((&same["differing"], &same["a"]["version"]), (&json!(0), &json!(0)));
    assert_eq!(same["pool"], json!({"compared": 0, "differing": 0, "data": []}));
    assert_eq!(server.get("/heads/0/diff/9").await.problem(), (404, "head_not_found".to_owned()));
}

#[tokio::test]
async fn an_audit_is_a_job_with_findings_to_resolve() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let accepted = server.json("POST", "/audit", &json!({"near_duplicate": 0.9})).await;
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{}", accepted.value());
    let job = accepted.header("location").to_owned();
    let ended = loop {
        let job = server.get(&job).await.value();
        if job["status"] != "queued" && job["status"] != "running" {
            break job;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    };
    assert_eq!((&ended["status"], &ended["scope"]), (&json!("succeeded"), &json!("audit")), "{ended}");
    let findings = server.get(&format!("{job}/findings?open=true")).await.value();
    let first = &findings["data"][0];
    assert_eq!(first["number"], 1, "patches of one colour are near-duplicates: {findings}");
    let accept = json!({"action": "accept"});
    let resolved = server.json("POST", &format!("{job}/findings/1"), &accept).await;
    assert_eq!(resolved.value()["resolution"], "accepted");
    let again = server.json("POST", &format!("{job}/findings/1"), &accept).await;
    assert_eq!(again.problem(), (409, "finding_resolved".to_owned()));
    let missing = server.json("POST", &format!("{job}/findings/99"), &accept).await;
    assert_eq!(missing.problem(), (404, "finding_not_found".to_owned()));
    let odd = server.json("POST", &format!("{job}/findings/2"), &json!({"action": "burn"})).await;
    assert_eq!(odd.problem(), (422, "invalid_request".to_owned()));
    let refused = server.json("POST", "/audit", &json!({"near_duplicate": 2})).await;
    assert_eq!(refused.problem(), (422, "invalid_request".to_owned()));
}
