//! The one table from errors to answers: RFC 9457 problems.
//!
//! Every refusal of this server is a [`Problem`] with a [`Code`] of the table below. Mappings from the errors of other
//! modules live in `problem_from.rs` and match exhaustively, so a new kind of error does not compile until it has a
//! status, a code and a remedy.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

/// Media type of every refusal.
pub const PROBLEM_JSON: &str = "application/problem+json";

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident = $status:ident $code:literal $title:literal;)+) => {
        /// What went wrong, stable across versions: clients may switch on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
        #[serde(rename_all = "snake_case")]
        pub enum Code { $($(#[doc = $doc])+ $variant,)+ }

        impl Code {
            /// Every code there is.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// HTTP status.
            pub const fn status(self) -> StatusCode {
                match self { $(Self::$variant => StatusCode::$status,)+ }
            }
            /// The code as written in answers.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $code,)+ }
            }
            /// Short title, the same for every occurrence.
            pub const fn title(self) -> &'static str {
                match self { $(Self::$variant => $title,)+ }
            }
            /// When it occurs.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),+).trim_ascii(),)+ }
            }
        }
    };
}

codes! {
    /// The body has no bytes where the operation needs some.
    EmptyBody = BAD_REQUEST "empty_body" "The request body is empty";
    /// The body breaks off or is not what its Content-Type says.
    MalformedBody = BAD_REQUEST "malformed_body" "The request body cannot be read";
    /// The body is not JSON.
    MalformedJson = BAD_REQUEST "malformed_json" "The JSON cannot be parsed";
    /// The form has a part that the operation does not know.
    UnexpectedPart = BAD_REQUEST "unexpected_part" "The form has an unknown part";
    /// The call names no images.
    NoImages = BAD_REQUEST "no_images" "The call holds no images";
    /// A query parameter is unknown or has an unusable value.
    InvalidQuery = BAD_REQUEST "invalid_query" "A query parameter is wrong";
    /// A part of the path is not UTF-8 or not a number where one is needed.
    InvalidPath = BAD_REQUEST "invalid_path" "The path is wrong";
    /// The paging cursor is not one this server gave out.
    InvalidCursor = BAD_REQUEST "invalid_cursor" "The cursor is unknown";
    /// The `Authorization` header is missing or names no known key.
    Unauthorized = UNAUTHORIZED "unauthorized" "An API key is needed";
    /// A browser page of another origin made the call, and that origin is not allowed.
    OriginNotAllowed = FORBIDDEN "origin_not_allowed" "The origin is not allowed";
    /// Nothing lives at this path.
    RouteNotFound = NOT_FOUND "route_not_found" "There is nothing at this path";
    /// The class does not exist.
    ClassNotFound = NOT_FOUND "class_not_found" "There is no such class";
    /// The example does not exist in that class.
    ExampleNotFound = NOT_FOUND "example_not_found" "There is no such example";
    /// The example was given as a vector, so there is no image.
    ExampleHasNoImage = NOT_FOUND "example_has_no_image" "The example has no image";
    /// The image is not in the pool.
    ImageNotFound = NOT_FOUND "image_not_found" "There is no such image";
    /// The image of the pool was given as a vector, so it has no bytes.
    ImageHasNoBytes = NOT_FOUND "image_has_no_bytes" "The image was given as a vector";
    /// The head version does not exist.
    HeadNotFound = NOT_FOUND "head_not_found" "There is no such head version";
    /// The job does not exist.
    JobNotFound = NOT_FOUND "job_not_found" "There is no such job";
    /// The audit has no finding of that number.
    FindingNotFound = NOT_FOUND "finding_not_found" "There is no such finding";
    /// The problem code does not exist.
    ProblemNotFound = NOT_FOUND "problem_not_found" "There is no such problem";
    /// The path exists, but not with this method.
    MethodNotAllowed = METHOD_NOT_ALLOWED "method_not_allowed" "The method is not allowed here";
    /// The `Accept` header rules out every form this answer has.
    NotAcceptable = NOT_ACCEPTABLE "not_acceptable" "No acceptable form of the answer";
    /// The body did not arrive in time.
    BodyTimeout = REQUEST_TIMEOUT "body_timeout" "The request body took too long";
    /// A class of that name exists already.
    ClassExists = CONFLICT "class_exists" "The class exists already";
    /// The class's `ETag` is none of those that `If-Match` names.
    ClassChanged = PRECONDITION_FAILED "class_changed" "The class has changed";
    /// The head was fitted on the vectors of another encoder.
    HeadOfOtherEncoder = CONFLICT "head_of_other_encoder" "The head belongs to another encoder";
    /// The finding was resolved already.
    FindingResolved = CONFLICT "finding_resolved" "The finding is resolved";
    /// The job has ended, so it cannot be cancelled.
    JobEnded = CONFLICT "job_ended" "The job has ended";
    /// The body is larger than the server accepts.
    PayloadTooLarge = PAYLOAD_TOO_LARGE "payload_too_large" "The request body is too large";
    /// More images in one call than the server accepts.
    TooManyImages = PAYLOAD_TOO_LARGE "too_many_images" "Too many images in one call";
    /// An image has more bytes or pixels than the server decodes.
    ImageTooLarge = PAYLOAD_TOO_LARGE "image_too_large" "The image is too large";
    /// The Content-Type is none the operation reads.
    UnsupportedMediaType = UNSUPPORTED_MEDIA_TYPE "unsupported_media_type" "The Content-Type is not supported";
    /// The bytes are none of the image formats the server decodes.
    UnsupportedImageFormat = UNSUPPORTED_MEDIA_TYPE "unsupported_image_format" "The image format is not supported";
    /// The image has a known format but cannot be decoded, or has no bytes.
    UndecodableImage = UNPROCESSABLE_ENTITY "undecodable_image" "The image cannot be decoded";
    /// A field of the request is unknown, missing, of another type, or out of range.
    InvalidRequest = UNPROCESSABLE_ENTITY "invalid_request" "The request is not valid";
    /// An image was given as a URL, and the server fetches none.
    UrlInputDisabled = UNPROCESSABLE_ENTITY "url_input_disabled" "Images by URL are disabled";
    /// A vector is not finite, has no length, or is not as long as the model's embeddings.
    InvalidVector = UNPROCESSABLE_ENTITY "invalid_vector" "The vector is not usable";
    /// The name is not of the form `[a-z0-9][a-z0-9._-]{0,63}`.
    InvalidName = UNPROCESSABLE_ENTITY "invalid_name" "The name is not usable";
    /// No class has examples, so nothing can be classified.
    NoExamples = UNPROCESSABLE_ENTITY "no_examples" "There are no examples yet";
    /// Training needs more classes with examples.
    TooFewClasses = UNPROCESSABLE_ENTITY "too_few_classes" "Too few classes have examples";
    /// A candidate class is unknown to the active head.
    ClassNotInHead = UNPROCESSABLE_ENTITY "class_not_in_head" "The head does not know the class";
    /// The solver did not reach its tolerance.
    NotConverged = UNPROCESSABLE_ENTITY "not_converged" "The training did not converge";
    /// The queue has no room for these images now.
    QueueFull = TOO_MANY_REQUESTS "queue_full" "The queue is full";
    /// A training job failed in a way its detail tells.
    TrainingFailed = INTERNAL_SERVER_ERROR "training_failed" "The training failed";
    /// A bug in the server; its log has more under the request id.
    Internal = INTERNAL_SERVER_ERROR "internal" "The server failed";
    /// The database or a file of the store failed; nothing was changed.
    StoreFailed = INTERNAL_SERVER_ERROR "store_failed" "The store failed";
    /// The server is loading its model.
    NotReady = SERVICE_UNAVAILABLE "not_ready" "The server is not ready";
    /// The server is shutting down.
    Draining = SERVICE_UNAVAILABLE "draining" "The server is shutting down";
    /// The encoder failed on this batch.
    EncoderUnavailable = SERVICE_UNAVAILABLE "encoder_unavailable" "The encoder is not available";
    /// The images waited longer in the queue than the server allows.
    DeadlinePassed = GATEWAY_TIMEOUT "deadline_passed" "The deadline passed in the queue";
}

/// Where in the request a problem lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct FieldError {
    /// JSON pointer into the body, `/images/3` for the fourth image of any payload form.
    #[schema(example = "/images/0")]
    pub pointer: String,
    /// What is wrong there.
    #[schema(example = "not a JPEG, PNG, WebP, GIF or BMP image")]
    pub detail: String,
}

/// Why a call was refused (RFC 9457).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[schema(example = json!({
    "type": "/problems/undecodable_image", "title": "The image cannot be decoded", "status": 422,
    "detail": "Image 0 cannot be decoded as image/jpeg: unexpected end of file. Send the whole file.",
    "instance": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "code": "undecodable_image", "index": 0,
    "errors": [{"pointer": "/images/0", "detail": "cannot be decoded as image/jpeg: unexpected end of file"}]
}))]
pub struct Problem {
    /// Where the code is explained, relative to the server.
    #[serde(rename = "type")]
    pub kind: String,
    /// Short title, the same for every occurrence of the code.
    pub title: String,
    /// HTTP status.
    pub status: u16,
    /// What happened this time, and what to do about it.
    pub detail: String,
    /// The request id, as in the `x-request-id` header and in the server's log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Stable code for programs.
    pub code: Code,
    /// Position of the first bad image in the call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub index: Option<usize>,
    /// Where in the request.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// The limit that was exceeded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
    /// What was sent against the limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actual: Option<u64>,
    /// Seconds to wait before trying again; also in the `Retry-After` header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
}

impl Problem {
    /// A problem with its detail: what happened and what to do about it.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{}", code.as_str()),
            title: code.title().to_owned(),
            status: code.status().as_u16(),
            detail: detail.into(),
            instance: None,
            code,
            index: None,
            errors: Vec::new(),
            limit: None,
            actual: None,
            retry_after: None,
        }
    }

    /// Says where in the request it lies.
    #[must_use]
    pub fn at(mut self, pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        self.errors.push(FieldError { pointer: pointer.into(), detail: detail.into() });
        self
    }

    /// Says which image of the call it is about.
    #[must_use]
    pub fn at_image(mut self, index: usize, detail: impl Into<String>) -> Self {
        self.index = Some(index);
        self.at(format!("/images/{index}"), detail)
    }

    /// Says which limit was exceeded and by what.
    #[must_use]
    pub fn with_limit(mut self, limit: u64, actual: u64) -> Self {
        self.limit = Some(limit);
        self.actual = Some(actual);
        self
    }

    /// Says when to try again.
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    /// A problem with the value of a request field.
    pub fn invalid(pointer: &str, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self::new(
            Code::InvalidRequest,
            format!("`{}` {detail}.", pointer.trim_start_matches('/').replace('/', ".")),
        )
        .at(pointer, detail)
    }

    /// The answer's bytes, once the request id is known.
    pub(super) fn render(mut self, request_id: &str) -> Vec<u8> {
        self.instance = Some(request_id.to_owned());
        // Strings, numbers and a fieldless enum always serialise.
        serde_json::to_vec(&self).unwrap_or_default()
    }
}

impl IntoResponse for Problem {
    /// Status, headers, and the problem as an extension: the request-context middleware, which knows the request id,
    /// writes the body.
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if self.code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_written_as_it_is_serialised_and_is_an_error() {
        for &code in Code::ALL {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
            assert!(code.status().is_client_error() || code.status().is_server_error(), "{code:?}");
            assert!(code.description().ends_with('.'), "{code:?}");
        }
    }
}
