//! Every bad input has a defined answer, the server keeps serving, and nothing stored changes.

use dozen_tests::Server;
use dozen_tests::photos::{photo, photos, plain_png, png_announcing};
use serde_json::json;
use std::sync::{Arc, Mutex, PoisonError, Weak};

/// A server and its data.
type Shared = (tempfile::TempDir, Server);

/// One server for all of these that run at a time: each leaves it as it was, and the last one ends it. (A static that held
/// it would never be dropped, and the process would outlive the tests.)
fn shared() -> Arc<Shared> {
    static RUNNING: Mutex<Weak<Shared>> = Mutex::new(Weak::new());
    // A test that failed while it started the server must not fail the others.
    let mut running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
    running.upgrade().unwrap_or_else(|| {
        let data = tempfile::tempdir().unwrap();
        let server = Server::start(data.path(), &[]);
        server.post_images("/classes/hat/examples", &photos("hat", 1..=2)).expect(201);
        server.post_images("/classes/shoes/examples", &photos("shoes", 1..=2)).expect(201);
        let shared = Arc::new((data, server));
        *running = Arc::downgrade(&shared);
        shared
    })
}

/// Runs a bad call and checks that the stored classes are the same and good calls still work.
#[track_caller]
fn unharmed(call: impl FnOnce(&Server)) {
    let shared = shared();
    let server = &shared.1;
    let stored = || server.get("/classes").expect(200)["data"].clone();
    let before = stored();
    call(server);
    assert_eq!(stored(), before);
    server.post_images("/embed", &[photo("hat", 3)]).expect(200);
}

#[test]
fn empty_body() {
    unharmed(|server| {
        server.post_raw("/embed", "image/jpeg", Vec::new()).expect_problem(400, "empty_body");
        server.post_raw("/embed", "application/json", Vec::new()).expect_problem(400, "empty_body");
        server.post_json("/embed", &json!({ "images": [] })).expect_problem(400, "no_images");
        server.post_images("/classes/hat/examples", &[]).expect_problem(400, "no_images");
    });
}

#[test]
fn text_as_image() {
    unharmed(|server| {
        let text = b"Dear server, this is not a picture.".to_vec();
        server.post_raw("/embed", "image/jpeg", text.clone()).expect_problem(415, "unsupported_image_format");
        server.post_images("/classes/hat/examples", &[text]).expect_problem(415, "unsupported_image_format");
    });
}

#[test]
fn truncated_jpeg() {
    unharmed(|server| {
        let mut image = photo("hat", 5);
        image.truncate(image.len() / 2);
        let batch = [photo("hat", 6), image];
        let problem =
            server.post_images("/classes/hat/examples", &batch).expect_problem(422, "undecodable_image");
        assert_eq!(problem["errors"][0]["pointer"], "/images/1", "{problem}");
    });
}

#[test]
fn one_pixel_is_an_image() {
    unharmed(|server| {
        let answer = server.post_images("/embed", &[plain_png(1, 1, [200, 30, 30])]).expect(200);
        assert_eq!(answer["usage"]["images"], 1);
    });
}

#[test]
fn header_of_thirty_thousand_pixels() {
    unharmed(|server| {
        let problem = server
            .post_images("/embed", &[png_announcing(30_000, 30_000)])
            .expect_problem(413, "image_too_large");
        assert!(problem["limit"].is_u64() && problem["actual"].is_u64(), "{problem}");
    });
}

#[test]
fn decompression_bomb() {
    unharmed(|server| {
        // 588 MB of pixels.
        let bomb = plain_png(14_000, 14_000, [0, 0, 0]);
        assert!(bomb.len() < 6_000_000, "{} bytes", bomb.len());
        server.post_images("/embed", &[bomb]).expect_problem(413, "image_too_large");
    });
}

#[test]
fn wrong_content_type() {
    unharmed(|server| {
        server
            .post_raw("/embed", "text/plain", photo("hat", 1))
            .expect_problem(415, "unsupported_media_type");
        // The bytes decide what an image is, not its label.
        server.post_raw("/embed", "image/png", photo("hat", 1)).expect(200);
    });
}

#[test]
fn a_thousand_images_in_one_call() {
    unharmed(|server| {
        let images = vec![plain_png(8, 8, [1, 2, 3]); 1_000];
        let problem =
            server.post_images("/classes/hat/examples", &images).expect_problem(413, "too_many_images");
        assert_eq!(problem["actual"], 1_000, "{problem}");
        assert!(problem["limit"].as_u64().unwrap() < 1_000, "{problem}");
    });
}

#[test]
fn unknown_class() {
    unharmed(|server| {
        server.get("/classes/unicorn").expect_problem(404, "class_not_found");
        server.delete("/classes/unicorn").expect_problem(404, "class_not_found");
        let body = json!({ "images": [{ "type": "embedding", "value": vec![0.1; dimensions(server)] }], "classes": ["unicorn"] });
        let problem = server.post_json("/classify", &body).expect_problem(422, "class_not_in_head");
        assert_eq!(problem["errors"][0]["pointer"], "/classes", "{problem}");
    });
}

#[test]
fn unusable_class_name() {
    unharmed(|server| {
        server
            .post_images("/classes/Big%20Cat!/examples", &[photo("hat", 1)])
            .expect_problem(422, "invalid_name");
    });
}

#[test]
fn classify_with_no_classes() {
    unharmed(|server| {
        server
            .post_images("/collections/empty/classify", &[photo("hat", 1)])
            .expect_problem(422, "no_examples");
    });
}

#[test]
fn train_with_one_class() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    server.post("/train").expect_problem(422, "too_few_classes");
    server.post_images("/classes/hat/examples", &photos("hat", 1..=2)).expect(201);
    server.post("/train").expect_problem(422, "too_few_classes");
    assert_eq!(server.get("/jobs").expect(200)["data"], json!([]));
}

#[test]
fn vectors_that_are_not_numbers() {
    unharmed(|server| {
        let dimensions = dimensions(server);
        // JSON has no NaN; 1e999 overflows to infinity.
        let infinite = format!(
            r#"{{"images":[{{"type":"embedding","value":[1e999{}]}}]}}"#,
            ",0.5".repeat(dimensions - 1)
        );
        let reply = server.post_raw("/classes/hat/examples", "application/json", infinite.into_bytes());
        assert!(matches!(reply.status, 400 | 422), "{}", reply.body);
        let not_numbers = base64_vector(&vec![f32::NAN; dimensions]);
        let body = json!({ "images": [{ "type": "embedding", "value": not_numbers }] });
        server.post_json("/classes/hat/examples", &body).expect_problem(422, "invalid_vector");
        server.post_json("/classify", &body).expect_problem(422, "invalid_vector");
        let short = json!({ "images": [{ "type": "embedding", "value": [0.1, 0.2] }] });
        server.post_json("/classify", &short).expect_problem(422, "invalid_vector");
    });
}

#[test]
fn unknown_path_and_method() {
    unharmed(|server| {
        server.get("/no/such/path").expect_problem(404, "route_not_found");
        server.get("/embed").expect_problem(405, "method_not_allowed");
    });
}

#[test]
fn binding_beyond_loopback_needs_a_key() {
    let data = tempfile::tempdir().unwrap();
    let mut command = dozen_tests::program("dozen");
    let output = command
        .args(["--hostname", "0.0.0.0", "--port", "0", "--data-dir"])
        .arg(data.path())
        .output()
        .unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(message.contains("--api-key") && message.contains("--allow-unauthenticated"), "{message}");
}

fn dimensions(server: &Server) -> usize {
    let answer = server.post_images("/embed", &[photo("hat", 1)]).expect(200);
    answer["dimensions"].as_u64().unwrap() as usize
}

fn base64_vector(vector: &[f32]) -> String {
    use base64::Engine as _;
    let bytes: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
