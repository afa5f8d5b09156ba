//! Who may call.

use crate::support::{Server, Setup, picture};
use axum::body::Body;
use axum::http::{Request, StatusCode};

#[tokio::test]
async fn keys_open_everything_but_probes_and_documentation() {
    let server = Server::with(Setup { keys: vec!["sesame", "other"], ..Setup::default() }).await;
    for path in ["/livez", "/readyz", "/healthz", "/openapi.json", "/docs/", "/problems/queue_full"] {
        assert_eq!(server.get(path).await.status, StatusCode::OK, "{path}");
    }
    for path in ["/info", "/metrics", "/classes", "/collections/a/classes", "/jobs", "/heads", "/nowhere"] {
        let answer = server.get(path).await;
        assert_eq!(answer.problem(), (401, "unauthorized".to_owned()), "{path}");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let embed = |key: &str| {
        Request::post("/embed")
            .header("authorization", format!("Bearer {key}"))
            .header("content-type", "image/bmp")
            .body(Body::from(picture(1, 2, 3)))
            .unwrap()
    };
    assert_eq!(server.send(embed("sesame")).await.status, StatusCode::OK);
    assert_eq!(server.send(embed("other")).await.status, StatusCode::OK);
    assert_eq!(server.send(embed("sesam")).await.status, StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn pages_of_other_origins_may_call_only_if_allowed() {
    let from = |origin: &str| {
        Request::get("/classes")
            .header("host", "127.0.0.1:3000")
            .header("origin", origin)
            .body(Body::empty())
            .unwrap()
    };
    let closed = Server::new().await;
    let answer = closed.send(from("https://evil.example")).await;
    assert_eq!(answer.problem(), (403, "origin_not_allowed".to_owned()));
    assert_eq!(answer.header("access-control-allow-origin"), "");

    let origins = vec!["https://label.example".to_owned()];
    let open = Server::with(Setup { cors_origins: origins, ..Setup::default() }).await;
    let answer = open.send(from("https://label.example")).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.header("access-control-allow-origin"), "https://label.example");
    assert_eq!(open.send(from("https://evil.example")).await.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn preflights_of_allowed_pages_need_no_key() {
    let origins = vec!["https://label.example".to_owned()];
    let server =
        Server::with(Setup { keys: vec!["sesame"], cors_origins: origins, ..Setup::default() }).await;
    let request = Request::options("/classify")
        .header("origin", "https://label.example")
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization")
        .body(Body::empty())
        .unwrap();
    let answer = server.send(request).await;
    assert_eq!(answer.status, StatusCode::OK);
    assert!(answer.header("access-control-allow-headers").contains("authorization"));
}
