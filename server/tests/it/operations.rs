//! Probes, metrics, and what the server says of itself.

use crate::support::{Server, Setup, picture};
use axum::http::StatusCode;
use serde_json::json;

#[tokio::test]
async fn a_loading_server_lives_but_is_not_ready() {
    let server = Server::with(Setup { loading: true, ..Setup::default() }).await;
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
    for path in ["/readyz", "/healthz", "/info", "/classes"] {
        let answer = server.get(path).await;
        assert_eq!(answer.problem(), (503, "not_ready".to_owned()), "{path}");
        assert_eq!(answer.header("retry-after"), "2");
    }
    let embed = server.post("/embed", "image/bmp", picture(1, 2, 3)).await;
    assert_eq!(embed.problem(), (503, "not_ready".to_owned()));

    server.state.set_services(server.services.clone());
    assert_eq!(server.get("/readyz").await.value(), json!({"status": "ok"}));

    server.shutdown.cancel();
    assert_eq!(server.get("/readyz").await.problem(), (503, "draining".to_owned()));
    assert_eq!(server.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn metrics_count_images_and_requests_under_route_templates() {
    let server = Server::new().await;
    server.teach_two_classes().await;
    server.post("/classify", "image/bmp", picture(200, 1, 1)).await;
    server.post("/embed", "image/bmp", "not an image").await;
    server.get("/no/such/path").await;
    let answer = server.get("/metrics").await;
    assert!(answer.header("content-type").starts_with("text/plain"));
    let text = answer.text();
    for line in [
        "http_server_request_duration_seconds_bucket{method=\"POST\",route=\"/classes/{id}/examples\",status=\"201\"",
        "http_server_request_duration_seconds_count{method=\"GET\",route=\"<unmatched>\",status=\"404\"",
        "http_server_active_requests",
        "dozen_images_total{op=\"examples\",outcome=\"ok\"}",
        "dozen_images_total{op=\"embed\",outcome=\"error\"}",
        "dozen_classify_total{outcome=\"known\"}",
        "dozen_rejected_total{reason=\"bad_image\"}",
        "dozen_decode_seconds_count{format=\"image/bmp\"}",
        "dozen_inference_seconds_count{model=\"first-colour\",device=\"cpu\"}",
        "dozen_batch_size_bucket",
        "dozen_queue_wait_seconds_sum",
        "dozen_queue_depth",
        "dozen_classes 2",
        "dozen_examples 6",
        "dozen_jobs{state=\"queued\"} 0",
        "process_resident_memory_bytes",
        "process_open_fds",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    assert!(!text.contains("/no/such/path"), "paths are not labels");
}

#[tokio::test]
async fn the_server_tells_its_model_and_limits() {
    let server = Server::new().await;
    let info = server.get("/info").await.value();
    assert_eq!(info["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&info["model"]["name"], &info["model"]["dimensions"]), (&json!("first-colour"), &json!(4)));
    assert_eq!(info["limits"]["max_client_batch_size"], 128);
    assert_eq!(info["limits"]["max_image_pixels"], 1_000_000);
}

#[tokio::test]
async fn the_type_of_every_problem_leads_somewhere() {
    let server = Server::new().await;
    let problem = server.get("/nowhere").await.value();
    let kind = server.get(problem["type"].as_str().unwrap()).await;
    assert_eq!(kind.status, StatusCode::OK);
    assert_eq!((&kind.value()["code"], &kind.value()["status"]), (&json!("route_not_found"), &json!(404)));
}
