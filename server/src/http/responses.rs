//! Answers that several operations share.

use super::problem::{PROBLEM_JSON, Problem};
use axum::body::Bytes;
use axum::http::header;
use axum::response::IntoResponse;
use std::collections::BTreeMap;
use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, PartialSchema, ToSchema};

/// The bytes of a stored image. They come from a caller: a browser must not take them for anything but an image.
pub(super) fn stored_image(bytes: Bytes, media_type: String) -> impl IntoResponse + use<> {
    let headers = [
        (header::CONTENT_TYPE, media_type),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'; sandbox".to_owned()),
    ];
    (headers, bytes)
}

type Responses = BTreeMap<String, RefOr<Response>>;

fn problems(table: &[(&str, &str)]) -> Responses {
    let schema = || RefOr::Ref(Ref::from_schema_name(Problem::name()));
    let mut responses = Responses::new();
    for (status, description) in table {
        let content = ContentBuilder::new().schema(Some(schema())).build();
        let response =
            ResponseBuilder::new().description(*description).content(PROBLEM_JSON, content).build();
        responses.insert((*status).to_owned(), response.into());
    }
    responses
}

/// What any call can meet.
pub(super) struct CommonProblems;

const COMMON: &[(&str, &str)] = &[
    ("400", "The path, the query or the body cannot be read."),
    ("401", "The server has keys and the call names none of them."),
    ("403", "A web page of another origin called, or the server was called by a name that is not its own."),
    ("500", "The server or its store failed; its log has more under the request id."),
    ("503", "The server is loading its model or shutting down; `Retry-After` says when to try again."),
];

impl IntoResponses for CommonProblems {
    fn responses() -> Responses {
        problems(COMMON)
    }
}

/// What calls with images can meet.
pub(super) struct ImageProblems;

impl IntoResponses for ImageProblems {
    fn responses() -> Responses {
        let mut responses = problems(COMMON);
        responses.append(&mut problems(&[
            ("408", "The body did not arrive in time."),
            ("413", "The body, the number of images or an image exceeds a limit; `limit` and `actual` say by how much."),
            ("415", "The Content-Type or the image format is not supported; the format is read from the bytes."),
            ("422", "An image cannot be decoded, a vector is not usable, or an option is out of range."),
            ("429", "The queue is full; `Retry-After` says when there is room."),
            ("504", "The images waited too long in the queue."),
        ]));
        responses
    }
}

macro_rules! named_problem {
    ($(#[doc = $doc:literal] $name:ident = $status:literal $description:literal;)+) => {$(
        #[doc = $doc]
        pub(super) struct $name;
        impl IntoResponses for $name {
            fn responses() -> Responses {
                problems(&[($status, $description)])
            }
        }
    )+};
}

named_problem! {
    /// The thing of the path is not there.
    NotFound = "404" "What the path names does not exist; `code` says which part of it.";
    /// The state of the thing forbids the call.
    Conflict = "409" "The state of what the path names does not allow it; `code` says why.";
    /// Changed since the caller has seen it.
    Changed = "412" "It has changed since the `ETag` of `If-Match`; nothing was done.";
    /// A JSON body that is not valid.
    BadJson = "422" "A field is unknown, missing, of another type, or out of range.";
    /// A body of another type.
    NotJson = "415" "The Content-Type is not `application/json`.";
}

/// Keeps the schema of problems among the components, where the responses above refer to it.
pub(super) fn problem_schemas() -> Vec<(String, RefOr<utoipa::openapi::Schema>)> {
    let mut schemas = vec![(Problem::name().into_owned(), Problem::schema())];
    Problem::schemas(&mut schemas);
    schemas
}
