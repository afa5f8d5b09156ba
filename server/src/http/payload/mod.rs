//! Images of a call, in any of the forms a caller may send them: a form, raw bytes, or JSON.

pub mod budget;
mod json;
pub mod options;
pub mod schema;

pub use json::ImageInput;

use super::extract::{
    body_problem, json_problem, media_type, parse_json, read_body, refuse_long_body, unsupported, within_time,
};
use super::problem::{Code, Problem};
use super::problem_from::too_many_images;
use super::state::AppState;
use axum::body::{Bytes, HttpBody};
use axum::extract::multipart::MultipartError;
use axum::extract::{FromRequest, Multipart, Query, Request};
use axum::http::Uri;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// One image of a call.
#[derive(Clone, Debug, PartialEq)]
pub enum Input {
    /// The bytes of an image file.
    Image(Bytes),
    /// A vector as given: neither finite nor of unit length until checked.
    Vector(Vec<f32>),
}

/// The images of a call, at least one and no more than the server takes, and the call's options.
#[derive(Debug)]
pub struct Payload<O> {
    /// In the caller's order.
    pub inputs: Vec<Input>,
    /// What the call asks for.
    pub options: O,
}

impl<O: DeserializeOwned + Send> FromRequest<AppState> for Payload<O> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &AppState) -> Result<Self, Problem> {
        let payload = match media_type(request.headers()).as_deref() {
            Some("multipart/form-data") => within_time(state, from_form(request, state)).await??,
            Some("application/json") => from_json(request, state).await?,
            Some(raw) if raw.starts_with("image/") || raw == "application/octet-stream" => {
                let options = query_options(request.uri())?;
                let bytes = not_empty(read_body(request, state).await?)?;
                Self { inputs: vec![Input::Image(bytes)], options }
            }
            other => {
                // An empty body is the likelier mistake than a missing header.
                let other = other.map(str::to_owned);
                not_empty(read_body(request, state).await?)?;
                return Err(unsupported(
                    other.as_deref(),
                    "an image's bytes with its own type such as `image/jpeg`, a `multipart/form-data` form with parts \
                     named `image`, or `application/json`",
                ));
            }
        };
        let limit = state.options().max_client_batch_size;
        match payload.inputs.len() {
            0 => Err(no_images()),
            count if count > limit => Err(too_many_images(count, limit)),
            _ => Ok(payload),
        }
    }
}

pub(super) fn no_images() -> Problem {
    Problem::new(
        Code::NoImages,
        "The call holds no images. Send parts named `image`, or a list `images`, with at least one.",
    )
}

fn not_empty(bytes: Bytes) -> Result<Bytes, Problem> {
    if bytes.is_empty() {
        return Err(Problem::new(
            Code::EmptyBody,
            "The body is empty. With curl, `--data-binary @photo.jpg -H 'Content-Type: image/jpeg'` sends a file.",
        ));
    }
    Ok(bytes)
}

/// One image as a line of NDJSON has it: an element of `images`.
pub(super) fn parse_line(line: &[u8], index: usize) -> Result<Input, Problem> {
    let item: json::Item = serde_json::from_slice(line).map_err(|error| {
        let problem = json_problem(&error);
        let detail = problem.detail.clone();
        problem.at_image(index, detail)
    })?;
    item.into_input(index)
}

/// Options of the query, where the body has no room for them.
pub(super) fn query_options<O: DeserializeOwned>(uri: &Uri) -> Result<O, Problem> {
    Ok(Query::<O>::try_from_uri(uri)?.0)
}

/// Options in two places would leave it open which of them count.
fn refuse_query(uri: &Uri) -> Result<(), Problem> {
    if uri.query().is_some_and(|query| !query.is_empty()) {
        return Err(Problem::new(
            Code::InvalidQuery,
            "The body carries the options of this call. Move the query's parameters there.",
        ));
    }
    Ok(())
}

async fn from_json<O: DeserializeOwned>(request: Request, state: &AppState) -> Result<Payload<O>, Problem> {
    refuse_query(request.uri())?;
    let bytes = not_empty(read_body(request, state).await?)?;
    let body: json::Body = parse_json(&bytes)?;
    drop(bytes);
    let items = body.images.unwrap_or_default();
    // Before base64 is decoded: a call that is refused for its length should not cost that work.
    let limit = state.options().max_client_batch_size;
    if items.len() > limit {
        return Err(too_many_images(items.len(), limit));
    }
    let options =
        serde_json::from_value(Value::Object(body.options)).map_err(|error| json_problem(&error))?;
    let inputs = items
        .into_iter()
        .enumerate()
        .map(|(index, item)| item.into_input(index))
        .collect::<Result<_, _>>()?;
    Ok(Payload { inputs, options })
}

async fn from_form<O: DeserializeOwned + Send>(
    request: Request,
    state: &AppState,
) -> Result<Payload<O>, Problem> {
    refuse_long_body(request.headers(), state)?;
    if request.body().is_end_stream() {
        // A form without parts: some clients leave out even the closing boundary.
        return Err(no_images());
    }
    let uri = request.uri().clone();
    let broken = |error: MultipartError| body_problem(error.status(), &error.body_text(), state);
    let mut form = Multipart::from_request(request, state)
        .await
        .map_err(|rejection| body_problem(rejection.status(), &rejection.body_text(), state))?;
    let limit = state.options().max_client_batch_size;
    let mut inputs = Vec::new();
    let mut images = 0;
    let mut options = None;
    while let Some(part) = form.next_field().await.map_err(broken)? {
        match part.name() {
            Some("image" | "file") => {
                images += 1;
                // Beyond the limit parts are counted, for the problem to say how many there were, but not held.
                if images <= limit {
                    inputs.push(Input::Image(part.bytes().await.map_err(broken)?));
                }
            }
            Some("options") => {
                refuse_query(&uri)?;
                options = Some(parse_json(&part.bytes().await.map_err(broken)?)?);
            }
            other => {
                let name = other.unwrap_or_default();
                return Err(Problem::new(
                    Code::UnexpectedPart,
                    format!("The form has a part `{name}`. Name images `image`, and options `options`."),
                ));
            }
        }
    }
    if images > limit {
        return Err(too_many_images(images, limit));
    }
    let options = match options {
        Some(options) => options,
        None => query_options(&uri)?,
    };
    Ok(Payload { inputs, options })
}
