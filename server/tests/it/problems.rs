//! What callers can get wrong: each mistake has its status and code, and the answer says what to do.

use crate::support::{FORM, Server, base64, bmp, form_body, picture};
use axum::body::{Body, Bytes};
use axum::http::{Request, StatusCode};
use serde_json::{Value, json};

/// Bad requests to `POST /embed`: what is sent, and what comes back.
fn bad_embeds() -> Vec<(&'static str, &'static str, Bytes, u16, &'static str)> {
    let good = base64(&picture(1, 2, 3));
    let json = |value: Value| Bytes::from(value.to_string());
    let form = |parts: &[(&str, Bytes)], options| Bytes::from(form_body(parts, options));
    let image = || ("image", picture(1, 2, 3));
    let text = || Bytes::from_static(b"just some text");
    vec![
        ("/embed", "image/jpeg", Bytes::new(), 400, "empty_body"),
        ("/embed", "application/json", Bytes::new(), 400, "empty_body"),
        ("/embed", "text/plain", Bytes::new(), 400, "empty_body"),
        ("/embed", "text/plain", text(), 415, "unsupported_media_type"),
        ("/embed", "application/x-www-form-urlencoded", text(), 415, "unsupported_media_type"),
        ("/embed", "image/jpeg", text(), 415, "unsupported_image_format"),
        ("/embed", "image/bmp", picture(1, 2, 3).slice(..60), 422, "undecodable_image"),
        ("/embed", "image/bmp", bmp(30_000, 30_000, &[0; 48]), 413, "image_too_large"),
        ("/embed", "image/bmp", bmp(1500, 1500, &[0; 48]), 413, "image_too_large"),
        ("/embed", "image/bmp", vec![0; (1 << 20) + 1].into(), 413, "image_too_large"),
        ("/embed", "image/bmp", vec![0; (2 << 20) + 1].into(), 413, "payload_too_large"),
        ("/embed?keep=0", "image/bmp", picture(1, 2, 3), 422, "invalid_request"),
        ("/embed?keep=2", "image/bmp", picture(1, 2, 3), 422, "invalid_request"),
        ("/embed?dimensions=5", "image/bmp", picture(1, 2, 3), 422, "invalid_request"),
        ("/embed?normalize=false", "image/bmp", picture(1, 2, 3), 422, "invalid_request"),
        ("/embed?masks=3", "image/bmp", picture(1, 2, 3), 422, "invalid_request"),
        ("/embed?keep=0.5&min_cosine=0.9", "image/bmp", picture(1, 2, 3), 422, "invalid_request"),
        ("/embed?keep=0.5&select=corners", "image/bmp", picture(1, 2, 3), 400, "invalid_query"),
        ("/embed?keep=half", "image/bmp", picture(1, 2, 3), 400, "invalid_query"),
        ("/embed?colour=red", "image/bmp", picture(1, 2, 3), 400, "invalid_query"),
        ("/embed", "application/json", Bytes::from_static(b"{\"images\": ["), 400, "malformed_json"),
        ("/embed", "application/json", Bytes::from_static(b"[1, 2]"), 422, "invalid_request"),
        ("/embed", "application/json", json(json!({})), 400, "no_images"),
        ("/embed", "application/json", json(json!({"images": []})), 400, "no_images"),
        ("/embed", "application/json", json(json!({"images": good})), 422, "invalid_request"),
        ("/embed", "application/json", json(json!({"images": [good], "colour": 1})), 422, "invalid_request"),
        ("/embed", "application/json", json(json!({"images": [good], "keep": "x"})), 422, "invalid_request"),
        ("/embed?keep=1", "application/json", json(json!({"images": [good]})), 400, "invalid_query"),
        ("/embed", "application/json", json(json!({"images": ["%%%"]})), 422, "invalid_request"),
        ("/embed", "application/json", json(json!({"images": [""]})), 422, "undecodable_image"),
        (
            "/embed",
            "application/json",
            json(json!({"images": ["https://a.example/b.jpg"]})),
            422,
            "url_input_disabled",
        ),
        (
            "/embed",
            "application/json",
            json(json!({"images": [{"type": "embedding", "value": [1, 0, 0, 0]}]})),
            422,
            "invalid_request",
        ),
        ("/embed", FORM, form(&[], None), 400, "no_images"),
        ("/embed", FORM, form(&[image()], Some("{")), 400, "malformed_json"),
        ("/embed", FORM, form(&[image()], Some("{\"top_k\":1}")), 422, "invalid_request"),
        ("/embed", FORM, form(&[("photo", picture(1, 2, 3))], None), 400, "unexpected_part"),
        ("/embed", FORM, form(&[image()], None).slice(..80), 400, "malformed_body"),
        ("/embed", FORM, form(&[image(), ("image", Bytes::new())], None), 422, "undecodable_image"),
        ("/embed", "multipart/form-data", form(&[image()], None), 400, "malformed_body"),
    ]
}

#[tokio::test]
async fn every_bad_image_call_has_its_status_and_code() {
    let server = Server::new().await;
    for (path, content_type, body, status, code) in bad_embeds() {
        let shown: String = String::from_utf8_lossy(&body).chars().take(80).collect();
        let answer = server.post(path, content_type, body).await;
        assert_eq!(
            answer.problem(),
            (status, code.to_owned()),
            "{path} {content_type} {shown}: {}",
            answer.text()
        );
    }
    let good = server.post("/embed", "image/bmp", picture(1, 2, 3)).await;
    assert_eq!(good.status, StatusCode::OK, "the server keeps serving");
}

#[tokio::test]
async fn a_thousand_images_in_one_call_are_refused_with_the_limit() {
    let server = Server::new().await;
    let images = vec![("image", picture(1, 2, 3)); 1000];
    let form = server.post("/classes/red/examples", FORM, form_body(&images, None)).await;
    let encoded = vec![base64(&picture(1, 2, 3)); 1000];
    let json = server.json("POST", "/classes/red/examples", &json!({"images": encoded})).await;
    for answer in [form, json] {
        assert_eq!(answer.problem(), (413, "too_many_images".to_owned()));
        assert_eq!((&answer.value()["limit"], &answer.value()["actual"]), (&json!(128), &json!(1000)));
    }
    assert_eq!(server.get("/classes").await.value()["data"], json!([]), "nothing is stored");
}

#[tokio::test]
async fn one_bad_image_fails_the_whole_add_and_nothing_is_stored() {
    let server = Server::new().await;
    let images = [picture(1, 2, 3), picture(4, 5, 6), picture(7, 8, 9).slice(..60)];
    let answer = server.form("/classes/red/examples", &images, None).await;
    assert_eq!(answer.problem(), (422, "undecodable_image".to_owned()));
    assert_eq!(answer.value()["index"], 2);
    assert_eq!(server.get("/classes/red").await.problem(), (404, "class_not_found".to_owned()));
}

#[tokio::test]
async fn calls_that_do_not_fit_the_state_say_so() {
    let server = Server::new().await;
    let picture = picture(200, 10, 10);
    let classify = |path: &'static str| server.post(path, "image/bmp", picture.clone());
    assert_eq!(classify("/classify").await.problem(), (422, "no_examples".to_owned()));
    server.teach("red", &[(200, 10, 10)]).await;
    let train = server.json("POST", "/train", &json!({})).await;
    assert_eq!(train.problem(), (422, "too_few_classes".to_owned()));
    assert_eq!((&train.value()["limit"], &train.value()["actual"]), (&json!(2), &json!(1)));

    for (path, status, code) in [
        ("/classify?top_k=0", 422, "invalid_request"),
        ("/classify?min_confidence=2", 422, "invalid_request"),
        ("/classify?explain=perhaps", 400, "invalid_query"),
        ("/classify?classes=green", 422, "class_not_in_head"),
        ("/classes/Not%20A%20Slug/examples", 422, "invalid_name"),
        ("/collections/UPPER/classes/red/examples", 422, "invalid_name"),
    ] {
        assert_eq!(classify(path).await.problem(), (status, code.to_owned()), "{path}");
    }
    for (method, path, body, status, code) in [
        ("GET", "/nowhere", json!({}), 404, "route_not_found"),
        ("GET", "/classes/green", json!({}), 404, "class_not_found"),
        ("PATCH", "/classes/green", json!({"name": "Green"}), 404, "class_not_found"),
        ("DELETE", "/classes/green", json!({}), 404, "class_not_found"),
        ("GET", "/classes/green/examples", json!({}), 404, "class_not_found"),
        ("DELETE", "/classes/red/examples/nothing", json!({}), 404, "example_not_found"),
        ("POST", "/classes/red/examples/nothing/restore", json!({}), 404, "example_not_found"),
        ("POST", "/classes", json!({"id": "red"}), 409, "class_exists"),
        ("POST", "/classes", json!({"id": "../red"}), 422, "invalid_name"),
        ("POST", "/classes", json!({"colour": "red"}), 422, "invalid_request"),
        ("POST", "/heads/7/activate", json!({}), 404, "head_not_found"),
        ("POST", "/heads/seven/activate", json!({}), 400, "invalid_path"),
        ("GET", "/classes?limit=0", json!({}), 400, "invalid_query"),
        ("GET", "/classes?limit=1001", json!({}), 400, "invalid_query"),
        ("GET", "/classes?after=nonsense", json!({}), 400, "invalid_cursor"),
        ("GET", "/jobs/nothing", json!({}), 404, "job_not_found"),
        ("GET", "/jobs/nothing/events", json!({}), 404, "job_not_found"),
        ("POST", "/train", json!({"method": "magic"}), 422, "invalid_request"),
        ("POST", "/train", json!({"l2": -1}), 422, "invalid_request"),
        ("GET", "/problems/nothing", json!({}), 404, "problem_not_found"),
    ] {
        let answer = server.json(method, path, &body).await;
        assert_eq!(answer.problem(), (status, code.to_owned()), "{method} {path}: {}", answer.text());
    }
}

#[tokio::test]
async fn a_wrong_method_names_the_right_ones() {
    let server = Server::new().await;
    let answer = server.json("PUT", "/classes", &json!({})).await;
    assert_eq!(answer.problem(), (405, "method_not_allowed".to_owned()));
    assert!(answer.header("allow").contains("POST"), "{}", answer.header("allow"));
}

#[tokio::test]
async fn a_body_of_another_type_than_json_is_refused() {
    let server = Server::new().await;
    let answer = server.post("/classes", "text/plain", "{}").await;
    assert_eq!(answer.problem(), (415, "unsupported_media_type".to_owned()));
}

#[tokio::test]
async fn the_callers_request_id_is_the_instance_if_it_is_usable() {
    let server = Server::new().await;
    let with_id = |id: &str| Request::get("/nowhere").header("x-request-id", id).body(Body::empty()).unwrap();
    let answer = server.send(with_id("call-7")).await;
    assert_eq!(answer.value()["instance"], "call-7");
    assert_eq!(answer.header("x-request-id"), "call-7");
    let answer = server.send(with_id(&"x".repeat(129))).await;
    assert!(answer.header("x-request-id").len() < 129);
}

/// The whole documents of the commonest refusals, as clients see them.
#[tokio::test]
async fn problem_documents() {
    let server = Server::new().await;
    server.teach("red", &[(200, 10, 10)]).await;
    let images = [picture(1, 2, 3), Bytes::from_static(b"text")];
    let documents = [
        ("text_as_image", server.form("/embed", &images, None).await),
        ("image_too_large", server.post("/embed", "image/bmp", bmp(30_000, 30_000, &[0; 48])).await),
        ("payload_too_large", server.post("/embed", "image/bmp", vec![0; (2 << 20) + 1]).await),
        ("empty_body", server.post("/embed", "image/bmp", "").await),
        ("too_few_classes", server.json("POST", "/train", &json!({})).await),
        ("class_not_found", server.get("/classes/green").await),
        (
            "invalid_vector",
            server
                .json("POST", "/classify", &json!({"images": [{"type": "embedding", "value": [1, 2]}]}))
                .await,
        ),
        ("invalid_request", server.post("/embed?keep=2", "image/bmp", picture(1, 2, 3)).await),
        ("route_not_found", server.get("/nowhere").await),
    ];
    for (name, answer) in documents {
        insta::assert_json_snapshot!(name, answer.value(), {".instance" => "[request id]"});
    }
}
