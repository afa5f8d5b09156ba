//! Images to vectors under load: admission, decode pool, queue, batcher, one encoder thread.

use bytes::Bytes;
use dozen_models::EncoderInfo;
use dozen_models::image::{Format, ImageError};

/// One image's way through the engine, in the caller's order.
pub struct Embedded {
    /// Unit vector.
    pub vector: Vec<f32>,
    /// Format the bytes were recognised as.
    pub format: Format,
}

/// Why the engine did not embed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// One image is bad; the others are fine.
    #[error("image {index}: {source}")]
    Image { index: usize, source: ImageError },
    /// No room for these images now.
    #[error("the queue is full")]
    QueueFull { retry_after_seconds: u64 },
    /// More images in one call than fit the queue at all.
    #[error("{actual} images in one call, the limit is {limit}")]
    TooManyImages { actual: usize, limit: usize },
    /// Waited too long.
    #[error("the deadline passed in the queue")]
    Deadline,
    /// The encoder failed or is shutting down.
    #[error("the encoder is not available: {reason}")]
    Unavailable { reason: String },
}

/// Handle to the engine; cheap to clone.
#[derive(Clone)]
pub struct Engine {}

impl Engine {
    /// The loaded encoder.
    pub fn info(&self) -> &EncoderInfo {
        todo!()
    }

    /// Embeds images; every per-image failure is that image's own.
    ///
    /// Cancel safety: dropping the future drops images still queued; the admission permit lives until the work ends.
    pub async fn embed(&self, _images: Vec<Bytes>, _keep: f32) -> Result<Vec<Result<Embedded, ImageError>>, EngineError> {
        todo!()
    }
}
