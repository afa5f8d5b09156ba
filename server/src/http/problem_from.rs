//! What each error of the other modules means to a caller. Exhaustive by construction; the errors' own texts name the
//! remedy.

use super::problem::{Code, Problem};
use crate::engine::EngineError;
use crate::learn::LearnError;
use crate::store::StoreError;
use axum::extract::rejection::{PathRejection, QueryRejection};
use dozen_models::image::ImageError;

impl From<LearnError> for Problem {
    fn from(error: LearnError) -> Self {
        let detail = sentence(&error.to_string());
        match error {
            LearnError::InvalidName { .. } => Self::new(Code::InvalidName, detail),
            LearnError::UnknownClass { .. } => Self::new(Code::ClassNotFound, detail),
            LearnError::UnknownExample { .. } => Self::new(Code::ExampleNotFound, detail),
            LearnError::UnknownImage { .. } => Self::new(Code::ImageNotFound, detail),
            LearnError::UnknownHead { .. } => Self::new(Code::HeadNotFound, detail),
            LearnError::UnknownJob { .. } => Self::new(Code::JobNotFound, detail),
            LearnError::UnknownFinding { .. } => Self::new(Code::FindingNotFound, detail),
            LearnError::FindingResolved { .. } => Self::new(Code::FindingResolved, detail),
            LearnError::NowhereToMove { .. } => {
                Self::new(Code::InvalidRequest, detail.clone()).at("/to", detail)
            }
            LearnError::ClassChanged { .. } => Self::new(Code::ClassChanged, detail),
            LearnError::ClassExists { .. } => Self::new(Code::ClassExists, detail),
            LearnError::NoExamples => Self::new(Code::NoExamples, detail),
            LearnError::TooFewClasses { needed, actual } => {
                Self::new(Code::TooFewClasses, detail).with_limit(needed as u64, actual as u64)
            }
            LearnError::ClassNotInHead { .. } => {
                Self::new(Code::ClassNotInHead, detail.clone()).at("/classes", detail)
            }
            LearnError::HeadOfOtherEncoder { .. } => Self::new(Code::HeadOfOtherEncoder, detail),
            LearnError::JobEnded { .. } => Self::new(Code::JobEnded, detail),
            LearnError::Vector(error) => error.into(),
            LearnError::InvalidCursor => Self::new(Code::InvalidCursor, detail),
            LearnError::Store(error) => error.into(),
        }
    }
}

impl From<dozen_fewshot::Error> for Problem {
    fn from(error: dozen_fewshot::Error) -> Self {
        use dozen_fewshot::Error as Vector;
        let detail = sentence(&error.to_string());
        match error {
            Vector::NotFinite { .. } | Vector::ZeroVector => Self::new(Code::InvalidVector, detail),
            Vector::Dimensions { expected, actual } => {
                Self::new(Code::InvalidVector, detail).with_limit(expected as u64, actual as u64)
            }
            Vector::TooFewClasses { needed, actual } => {
                Self::new(Code::TooFewClasses, detail).with_limit(needed as u64, actual as u64)
            }
            Vector::NotConverged { .. } => Self::new(Code::NotConverged, detail),
            // Only the end of the server breaks off work that a caller waits for.
            Vector::Cancelled => Self::new(Code::Draining, detail),
            Vector::InvalidOption { name, .. } => {
                Self::new(Code::InvalidRequest, detail.clone()).at(format!("/{name}"), detail)
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
    let text = error.to_string();
    let problem = |code| Problem::new(code, format!("Image {index}: {text}.")).at_image(index, text.clone());
    match error {
        ImageError::Empty | ImageError::Undecodable { .. } => problem(Code::UndecodableImage),
        ImageError::UnsupportedFormat => problem(Code::UnsupportedImageFormat),
        ImageError::TooManyBytes { bytes, limit } => {
            problem(Code::ImageTooLarge).with_limit(*limit as u64, *bytes as u64)
        }
        ImageError::SideTooLong { width, height, limit } => {
            problem(Code::ImageTooLarge).with_limit(u64::from(*limit), u64::from(*width.max(height)))
        }
        ImageError::TooManyPixels { width, height, limit } => {
            problem(Code::ImageTooLarge).with_limit(*limit, u64::from(*width) * u64::from(*height))
        }
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
