//! What every request gets: an id, a span, a problem body for every refusal, and its place in the metrics.

use super::problem::{Code, PROBLEM_JSON, Problem};
use crate::telemetry::metrics as names;
use axum::body::Body;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::time::Instant;
use tracing::Instrument;

/// Comes in from a proxy or client that has one, goes out always.
pub(super) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longer ids are replaced: the id ends up in every log line.
const LONGEST_REQUEST_ID: usize = 128;

/// Gives the request an id and a span, and writes the body of problems, which carry the id.
pub(super) async fn request_context(request: Request, next: Next) -> Response {
    let id = request
        .headers()
        .get(X_REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| !id.is_empty() && id.len() <= LONGEST_REQUEST_ID)
        .map_or_else(|| ulid::Ulid::generate().to_string(), str::to_owned);
    let span = tracing::info_span!("request", id, method = %request.method(), path = request.uri().path());
    let started = Instant::now();
    let answer = async {
        let response = next.run(request).await;
        let milliseconds = started.elapsed().as_micros() as f64 / 1e3;
        let status = response.status().as_u16();
        if response.status().is_server_error() {
            tracing::warn!(status, milliseconds, "answered");
        } else {
            tracing::info!(status, milliseconds, "answered");
        }
        response
    };
    let mut response = with_problem_body(answer.instrument(span).await, &id);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(X_REQUEST_ID, value);
    }
    response
}

/// Writes the body of a [`Problem`], whether a handler made it or the router refused by itself (404, 405).
fn with_problem_body(response: Response, request_id: &str) -> Response {
    let problem = match response.extensions().get::<Problem>() {
        Some(problem) => problem.clone(),
        None => match routing_problem(&response) {
            Some(problem) => problem,
            None => return response,
        },
    };
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
    Response::from_parts(parts, Body::from(problem.render(request_id)))
}

/// The problem of a refusal that no handler made.
fn routing_problem(response: &Response) -> Option<Problem> {
    match response.status() {
        StatusCode::NOT_FOUND => Some(Problem::new(
            Code::RouteNotFound,
            "Nothing lives at this path. `GET /docs` shows every operation of this server.",
        )),
        StatusCode::METHOD_NOT_ALLOWED => Some(Problem::new(
            Code::MethodNotAllowed,
            "The path exists, but not with this method; the `Allow` header lists those it has.",
        )),
        _ => None,
    }
}

/// Counts and times the request under its route template, never under the path itself.
pub(super) async fn request_metrics(request: Request, next: Next) -> Response {
    // Callers may make up methods; labels must not grow with them.
    let method = match request.method().as_str() {
        known @ ("GET" | "HEAD" | "POST" | "PUT" | "PATCH" | "DELETE" | "OPTIONS") => known.to_owned(),
        _ => "<other>".to_owned(),
    };
    let route =
        request.extensions().get::<MatchedPath>().map_or("<unmatched>", MatchedPath::as_str).to_owned();
    let _active = ActiveRequest::new();
    let started = Instant::now();
    let response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::histogram!(
        names::HTTP_REQUEST_DURATION_SECONDS,
        "method" => method, "route" => route, "status" => status
    )
    .record(started.elapsed().as_secs_f64());
    response
}

/// Counted while it lives, also when the caller hangs up and the request is dropped half-way.
struct ActiveRequest;

impl ActiveRequest {
    fn new() -> Self {
        metrics::gauge!(names::HTTP_ACTIVE_REQUESTS).increment(1.0);
        Self
    }
}

impl Drop for ActiveRequest {
    fn drop(&mut self) {
        metrics::gauge!(names::HTTP_ACTIVE_REQUESTS).decrement(1.0);
    }
}

/// The answer to a request whose handler panicked.
#[expect(clippy::needless_pass_by_value, reason = "the signature that CatchPanicLayer calls")]
pub(super) fn panic_response(panic: Box<dyn std::any::Any + Send + 'static>) -> Response {
    let message = panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message");
    tracing::error!(message, "a handler panicked");
    Problem::new(
        Code::Internal,
        "This is a bug in the server. Look for this request id in its log, and report it with what you sent.",
    )
    .into_response()
}
