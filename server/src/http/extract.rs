//! Extractors whose refusals are problems.

use super::problem::{Code, Problem};
use super::problem_from::sentence;
use super::state::AppState;
use axum::body::Bytes;
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::{HeaderMap, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// [`Path`] with problems.
#[derive(FromRequestParts)]
#[from_request(via(Path), rejection(Problem))]
pub(super) struct PathParams<T>(pub(super) T);

/// [`Query`] with problems.
#[derive(FromRequestParts)]
#[from_request(via(Query), rejection(Problem))]
pub(super) struct QueryParams<T>(pub(super) T);

/// The collection of the path, `default` where the path names none.
#[derive(Deserialize)]
pub(super) struct CollectionPath {
    #[serde(default = "default_collection")]
    pub(super) collection: String,
}

/// A class of the path.
#[derive(Deserialize)]
pub(super) struct ClassPath {
    #[serde(default = "default_collection")]
    pub(super) collection: String,
    pub(super) id: String,
}

/// An example of the path.
#[derive(Deserialize)]
pub(super) struct ExamplePath {
    #[serde(default = "default_collection")]
    pub(super) collection: String,
    pub(super) id: String,
    pub(super) example: String,
}

/// An image of the pool in the path.
#[derive(Deserialize)]
pub(super) struct ImagePath {
    #[serde(default = "default_collection")]
    pub(super) collection: String,
    pub(super) id: String,
}

fn default_collection() -> String {
    crate::learn::DEFAULT_COLLECTION.to_owned()
}

/// A JSON body; an empty one stands for `{}`.
pub(super) struct JsonBody<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest<AppState> for JsonBody<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let media_type = media_type(request.headers());
        let bytes = read_body(request, state).await?;
        if bytes.is_empty() {
            return parse_json(b"{}").map(Self);
        }
        match media_type.as_deref() {
            Some("application/json") => parse_json(&bytes).map(Self),
            other => Err(unsupported(other, "application/json")),
        }
    }
}

/// The Content-Type without parameters, in lower case.
pub(super) fn media_type(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
    Some(value.split(';').next()?.trim().to_ascii_lowercase())
}

/// The refusal of a Content-Type.
pub(super) fn unsupported(media_type: Option<&str>, supported: &str) -> Problem {
    let sent = media_type
        .map_or("there is no `Content-Type`".to_owned(), |sent| format!("`Content-Type` is `{sent}`"));
    Problem::new(Code::UnsupportedMediaType, format!("The {sent}. Send {supported}."))
}

/// The whole body within the limits of size and time.
pub(super) async fn read_body(request: Request, state: &AppState) -> Result<Bytes, Problem> {
    refuse_long_body(request.headers(), state)?;
    within_time(state, Bytes::from_request(request, state))
        .await?
        .map_err(|rejection| body_problem(rejection.status(), &rejection.body_text(), state))
}

/// Bounds the time that reading a body takes, so that a caller who sends a byte a minute holds nothing for long.
pub(super) async fn within_time<F: Future>(state: &AppState, reading: F) -> Result<F::Output, Problem> {
    let limit = state.options().body_timeout;
    tokio::time::timeout(limit, reading).await.map_err(|_| {
        Problem::new(
            Code::BodyTimeout,
            format!("The body was not complete after {} s. Send fewer images at a time.", limit.as_secs()),
        )
    })
}

/// Refuses a body that announces more than the limit before any of it is read.
pub(super) fn refuse_long_body(headers: &HeaderMap, state: &AppState) -> Result<(), Problem> {
    let limit = state.options().payload_limit;
    let announced =
        headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    match announced {
        Some(length) if length > limit as u64 => {
            let mut problem = payload_too_large(limit);
            problem.actual = Some(length);
            Err(problem)
        }
        _ => Ok(()),
    }
}

fn payload_too_large(limit: usize) -> Problem {
    let mut problem = Problem::new(
        Code::PayloadTooLarge,
        format!("The body is larger than {limit} bytes. Send fewer or smaller images at a time."),
    );
    problem.limit = Some(limit as u64);
    problem
}

/// A body that could not be read: too large, or broken off.
pub(super) fn body_problem(status: StatusCode, text: &str, state: &AppState) -> Problem {
    if status == StatusCode::PAYLOAD_TOO_LARGE {
        payload_too_large(state.options().payload_limit)
    } else {
        Problem::new(Code::MalformedBody, format!("{} Send the body again, whole.", sentence(text)))
    }
}

/// Parses JSON: broken text is 400, a well-formed body of another shape is 422.
pub(super) fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(bytes).map_err(|error| json_problem(&error))
}

/// What a JSON error means to the caller.
pub(super) fn json_problem(error: &serde_json::Error) -> Problem {
    let text = error.to_string();
    // JSON numbers that no f64 holds, like 1e400, are infinite vectors rather than broken syntax.
    if error.is_data() || text.starts_with("number out of range") {
        Problem::new(Code::InvalidRequest, format!("{} Compare the body with /docs.", sentence(&text)))
    } else {
        Problem::new(
            Code::MalformedJson,
            format!("{} Check the JSON's syntax there; it has no NaN or Infinity.", sentence(&text)),
        )
    }
}
