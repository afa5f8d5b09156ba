//! Jobs, their events, and the head versions they make.

use crate::support::{Server, picture};
use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;

/// Trains and waits for the end; answers the ended job.
async fn train(server: &Server) -> Value {
    let accepted = server.json("POST", "/train", &json!({"scope": "head", "method": "logistic"})).await;
    let value = accepted.value();
    assert_eq!(accepted.status, StatusCode::ACCEPTED, "{value}");
    assert_eq!((&value["scope"], &value["method"]), (&json!("head"), &json!("logistic")));
    assert!(value["created_at"].is_string());
    assert_eq!(accepted.header("location"), format!("/jobs/{}", value["id"].as_str().unwrap()));
    for _ in 0..500 {
        let job = server.get(accepted.header("location")).await.value();
        match job["status"].as_str().unwrap() {
            "queued" | "running" => tokio::time::sleep(Duration::from_millis(10)).await,
            _ => return job,
        }
    }
    panic!("the job did not end in 5 s");
}

#[tokio::test]
async fn training_makes_a_head_that_answers_and_can_be_stepped_back_from() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let job = train(&server).await;
    assert_eq!((&job["status"], &job["progress"]), (&json!("succeeded"), &json!(1.0)), "{job}");
    assert_eq!((&job["result"]["head_version"], job.get("error")), (&json!(1), None));
    assert!(job["started_at"].is_string() && job["finished_at"].is_string());

    let answer = server.post("/classify", "image/bmp", picture(210, 20, 20)).await.value();
    assert_eq!(answer["head"], json!({"version": 1, "method": "logistic"}));
    assert_eq!(answer["data"][0]["label"], "red");

    let heads = server.get("/heads").await.value();
    let newest = &heads["data"][0];
    assert_eq!(
        (&newest["version"], &newest["active"], &newest["parent"]),
        (&json!(1), &json!(true), &json!(0))
    );
    let back = server.json("POST", "/heads/0/activate", &json!({})).await;
    assert_eq!((back.status, &back.value()["active"]), (StatusCode::OK, &json!(true)));
    let answer = server.post("/classify", "image/bmp", picture(210, 20, 20)).await.value();
    assert_eq!(answer["head"], json!({"version": 0, "method": "prototype"}));

    let id = job["id"].as_str().unwrap();
    let cancel = server.json("POST", &format!("/jobs/{id}/cancel"), &json!({})).await;
    assert_eq!(cancel.problem(), (409, "job_ended".to_owned()));
    let jobs = server.get("/jobs").await.value();
    assert_eq!((&jobs["data"][0]["id"], &jobs["has_more"]), (&job["id"], &json!(false)));
}

#[tokio::test]
async fn an_empty_body_trains_with_the_defaults() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let answer = server.send(Request::post("/train").body(Body::empty()).unwrap()).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{:?}", answer.value());
}

/// (id, event, data) of each event of a stream.
fn events(stream: &str) -> Vec<(i64, String, Value)> {
    let field = |block: &str, name: &str| {
        block.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned())
    };
    stream
        .split("\n\n")
        .filter_map(|block| {
            let id = field(block, "id:")?.parse().unwrap();
            Some((id, field(block, "event:")?, serde_json::from_str(&field(block, "data:")?).unwrap()))
        })
        .collect()
}

#[tokio::test]
async fn events_stream_until_the_end_and_resume_where_they_broke_off() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    let accepted = server.json("POST", "/train", &json!({})).await.value();
    let path = format!("/jobs/{}/events", accepted["id"].as_str().unwrap());
    // Read while the job runs: the stream closes by itself when the job has ended.
    let live = tokio::time::timeout(Duration::from_secs(10), server.get(&path)).await.unwrap();
    assert_eq!(live.header("content-type"), "text/event-stream");
    assert!(live.text().contains("retry: 3000") || live.text().contains("retry:3000"), "{}", live.text());
    let all = events(&live.text());
    assert_eq!(all.last().unwrap().1, "done", "{all:?}");
    assert!(all.windows(2).all(|pair| pair[0].0 < pair[1].0), "{all:?}");

    let resume = |id: String, accept: &'static str| {
        Request::get(&path).header("last-event-id", id).header("accept", accept).body(Body::empty()).unwrap()
    };
    let rest = server.send(resume(all[0].0.to_string(), "text/event-stream")).await;
    assert_eq!(events(&rest.text()), all[1..]);
    let nothing = server.send(resume(all.last().unwrap().0.to_string(), "text/event-stream")).await;
    assert_eq!(events(&nothing.text()), [], "an ended job's stream ends even without events");

    let list = server.send(resume("0".to_owned(), "application/json")).await.value();
    let listed: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| {
            (item["id"].as_i64().unwrap(), item["event"].as_str().unwrap().to_owned(), item["data"].clone())
        })
        .collect();
    assert_eq!(listed, all);

    assert_eq!(server.send(resume("x".to_owned(), "*/*")).await.problem(), (400, "invalid_query".to_owned()));
    assert_eq!(
        server.send(resume("0".to_owned(), "image/png")).await.problem(),
        (406, "not_acceptable".to_owned())
    );
}
