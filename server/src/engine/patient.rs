//! Embedding beside callers who wait for an answer: archives, and the pool after a change of encoder.

use super::{Embedded, Engine, EngineError};
use bytes::Bytes;
use dozen_models::Budget;
use dozen_models::image::ImageError;
use std::time::Duration;

/// Pause before images try again to enter a full queue.
const PAUSE: Duration = Duration::from_millis(250);

impl Engine {
    /// As [`Engine::embed`], but images wait outside while the queue is full, and go in smaller pieces where the encoder
    /// cannot do as many before their deadline.
    ///
    /// Cancel safety: as of [`Engine::embed`].
    pub async fn embed_patiently(
        &self,
        images: &[Bytes],
        budget: Budget,
    ) -> Result<Vec<Result<Embedded, ImageError>>, EngineError> {
        let mut results = Vec::with_capacity(images.len());
        let mut most = self.options().max_queue;
        while results.len() < images.len() {
            let rest = &images[results.len()..];
            let piece = &rest[..most.min(rest.len())];
            match self.embed(piece.to_vec(), budget).await {
                Ok(embedded) => results.extend(embedded),
                Err(EngineError::QueueFull { .. }) => tokio::time::sleep(PAUSE).await,
                Err(EngineError::Deadline) if piece.len() > 1 => most = piece.len() / 2,
                Err(error) => return Err(error),
            }
        }
        Ok(results)
    }
}
