//! What the engine's limits look like from outside.

use crate::support::{Server, Setup, picture};
use axum::http::StatusCode;
use dozen_models::Budget;
use std::sync::mpsc;
use std::time::Duration;

#[tokio::test]
async fn a_full_queue_is_429_with_a_time_and_a_call_above_it_413() {
    let (open, gate) = mpsc::channel();
    let server = Server::with(Setup { max_queue: Some(2), gate: Some(gate), ..Setup::default() }).await;
    let engine = server.services.engine.clone();
    let waiting = tokio::spawn(async move {
        engine.embed(vec![picture(1, 1, 1), picture(2, 2, 2)], Budget::default()).await
    });
    while server.services.engine.depth() < 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let full = server.post("/embed", "image/bmp", picture(3, 3, 3)).await;
    assert_eq!(full.problem(), (429, "queue_full".to_owned()));
    assert_eq!(full.header("retry-after"), full.value()["retry_after"].to_string());
    assert!(full.value()["retry_after"].as_u64().unwrap() >= 1);

    let above = server.form("/embed", &[picture(1, 1, 1), picture(2, 2, 2), picture(3, 3, 3)], None).await;
    assert_eq!(above.problem(), (413, "too_many_images".to_owned()));
    assert_eq!(above.value()["limit"], 2);

    for _ in 0..4 {
        open.send(()).unwrap();
    }
    assert_eq!(waiting.await.unwrap().unwrap().len(), 2);
    assert_eq!(server.post("/embed", "image/bmp", picture(3, 3, 3)).await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_panicking_encoder_is_503_and_the_server_goes_on() {
    let server = Server::new().await;
    let answer = server.post("/embed", "image/bmp", picture(0, 0, 0)).await;
    assert_eq!(answer.problem(), (503, "encoder_unavailable".to_owned()));
    assert!(!answer.text().contains("black"), "causes are for the log");
    assert_eq!(server.post("/embed", "image/bmp", picture(1, 2, 3)).await.status, StatusCode::OK);
}
