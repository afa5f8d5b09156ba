//! What each error of the other modules means to a caller: status, code, remedy. Exhaustive by construction.

use super::problem::{Code, Problem};
use crate::engine::EngineError;
use crate::learn::LearnError;
use crate::store::StoreError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use dozen_models::image::ImageError;

impl From<LearnError> for Problem {
    fn from(error: LearnError) -> Self {
        let text = sentence(&error.to_string());
        match error {
            LearnError::InvalidName { .. } => Self::new(
                Code::InvalidName,
                format!(
                    "{text} Use lower-case letters, digits, `.`, `_` and `-`, at most 64, and begin with a letter or digit."
                ),
            ),
            LearnError::UnknownClass { .. } => Self::new(
                Code::ClassNotFound,
                format!("{text} `GET /classes` lists the classes; adding an example creates one."),
            ),
            LearnError::UnknownExample { class, .. } => Self::new(
                Code::ExampleNotFound,
                format!("{text} `GET /classes/{class}/examples` lists them."),
            ),
            LearnError::UnknownHead { .. } => Self::new(
                Code::HeadNotFound,
                format!(
                    "{text} `GET /heads` lists the versions; 0 is the prototype head that is always there."
                ),
            ),
            LearnError::UnknownJob { .. } => {
                Self::new(Code::JobNotFound, format!("{text} `GET /jobs` lists the jobs."))
            }
            LearnError::ClassExists { .. } => {
                Self::new(Code::ClassExists, format!("{text} Choose another id, or use that class."))
            }
            LearnError::NoExamples => Self::new(
                Code::NoExamples,
                format!("{text} Add some with `POST /classes/{{id}}/examples`, then classify."),
            ),
            LearnError::TooFewClasses { needed, actual } => Self::new(
                Code::TooFewClasses,
                format!("{text} Add examples of another class with `POST /classes/{{id}}/examples`."),
            )
            .with_limit(needed as u64, actual as u64),
            LearnError::ClassNotInHead { .. } => Self::new(
                Code::ClassNotInHead,
                format!("{text} Add examples to it and train, or leave it out of `classes`."),
            )
            .at("/classes", text.clone()),
            LearnError::HeadOfOtherEncoder { .. } => {
                Self::new(Code::HeadOfOtherEncoder, format!("{text} Train a new one with `POST /train`."))
            }
            LearnError::JobEnded { .. } => {
                Self::new(Code::JobEnded, format!("{text} Only queued and running jobs can be cancelled."))
            }
            LearnError::Vector(error) => error.into(),
            LearnError::InvalidCursor => Self::new(
                Code::InvalidCursor,
                format!("{text} Pass `after` the value of `next` of the page before."),
            ),
            LearnError::Store(error) => error.into(),
        }
    }
}

impl From<dozen_fewshot::Error> for Problem {
    fn from(error: dozen_fewshot::Error) -> Self {
        use dozen_fewshot::Error as Vector;
        let text = sentence(&error.to_string());
        match error {
            Vector::NotFinite { .. } | Vector::ZeroVector => Self::new(Code::InvalidVector, text),
            Vector::Dimensions { expected, actual } => {
                Self::new(Code::InvalidVector, text).with_limit(expected as u64, actual as u64)
            }
            Vector::TooFewClasses { needed, actual } => {
                Self::new(Code::TooFewClasses, text).with_limit(needed as u64, actual as u64)
            }
            Vector::NotConverged { .. } => Self::new(Code::NotConverged, text),
            Vector::InvalidOption { name, .. } => {
                Self::new(Code::InvalidRequest, text.clone()).at(format!("/{name}"), text)
            }
            Vector::EmptyClass { .. } | Vector::StoredHead { .. } => {
                tracing::error!(%error, "a head does not fit the store");
                Self::new(
                    Code::StoreFailed,
                    "The stored head does not fit the stored examples. Train a new one with `POST /train`, or activate \
                     version 0, the prototype head.",
                )
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        // The cause may name paths and SQL: for the log only.
        tracing::error!(%error, "the store failed");
        let detail = match error {
            StoreError::Sql(_)
            | StoreError::Migrate(_)
            | StoreError::Io { .. }
            | StoreError::InUse { .. } => {
                "The database or a file of the store failed, and nothing was changed. Try again; if it stays, look for \
                 this request id in the server's log, and check the free space of the data directory."
            }
            StoreError::Damaged(_) => {
                "The store holds something this server did not write. Look for this request id in the server's log, and \
                 restore the data directory from a backup."
            }
        };
        Self::new(Code::StoreFailed, detail)
    }
}

impl From<EngineError> for Problem {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Image { index, source } => image_problem(index, &source),
            EngineError::QueueFull { retry_after_seconds } => Self::new(
                Code::QueueFull,
                format!("The queue has no room for these images. Try again in {retry_after_seconds} s, or send fewer at a time."),
            )
            .retry_after(retry_after_seconds),
            EngineError::TooManyImages { actual, limit } => too_many_images(actual, limit),
            EngineError::Deadline => Self::new(
                Code::DeadlinePassed,
                "The images waited too long for the encoder. Try again when there is less load, or send fewer at a time.",
            ),
            EngineError::Unavailable { reason } => {
                tracing::error!(reason, "the encoder is not available");
                Self::new(
                    Code::EncoderUnavailable,
                    "The encoder failed on these images or is shutting down. Try again; if it stays, look for this request \
                     id in the server's log.",
                )
                .retry_after(1)
            }
        }
    }
}

/// What is wrong with one image of a call.
pub(super) fn image_problem(index: usize, error: &ImageError) -> Problem {
    let (code, limits, remedy) = match error {
        ImageError::Empty => (Code::UndecodableImage, None, "Send the bytes of the file."),
        ImageError::UnsupportedFormat => (
            Code::UnsupportedImageFormat,
            None,
            "Convert it; the format is read from the bytes, not from a name or header.",
        ),
        ImageError::TooManyBytes { bytes, limit } => (
            Code::ImageTooLarge,
            Some((*limit as u64, *bytes as u64)),
            "Send a smaller file; the model looks at a small crop anyway.",
        ),
        ImageError::SideTooLong { width, height, limit } => (
            Code::ImageTooLarge,
            Some((u64::from(*limit), u64::from(*width.max(height)))),
            "Scale it down first.",
        ),
        ImageError::TooManyPixels { width, height, limit } => (
            Code::ImageTooLarge,
            Some((*limit, u64::from(*width) * u64::from(*height))),
            "Scale it down first.",
        ),
        ImageError::Undecodable { .. } => {
            (Code::UndecodableImage, None, "Check that the file is whole and opens elsewhere.")
        }
    };
    let problem =
        Problem::new(code, format!("Image {index}: {}. {remedy}", error.to_string().trim_end_matches('.')))
            .at_image(index, error.to_string());
    match limits {
        Some((limit, actual)) => problem.with_limit(limit, actual),
        None => problem,
    }
}

/// More images in one call than the server takes.
pub(super) fn too_many_images(actual: usize, limit: usize) -> Problem {
    Problem::new(
        Code::TooManyImages,
        format!("The call holds {actual} images, at most {limit} are accepted. Split it into several calls."),
    )
    .with_limit(limit as u64, actual as u64)
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(
            Code::InvalidPath,
            format!("{} Check the path against /docs.", sentence(&rejection.body_text())),
        )
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(
            Code::InvalidQuery,
            format!("{} Check the query against /docs.", sentence(&rejection.body_text())),
        )
    }
}

/// An error's text as a sentence.
pub(super) fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first}{}.", characters.as_str().trim_end_matches('.'))
}
