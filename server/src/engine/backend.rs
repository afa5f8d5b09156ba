//! What the engine asks of an encoder.

use dozen_models::image::{Preprocessor, RgbImage};
use dozen_models::{Budget, Embedding, Encoder, EncoderInfo};

/// Crops in, unit vectors out. Called from one thread only, so an implementation needs no lock of its own.
pub trait Backend: Send + Sync + 'static {
    /// Name, identity and sizes.
    fn info(&self) -> &EncoderInfo;
    /// The preprocessing the weights expect.
    fn preprocessor(&self) -> &Preprocessor;
    /// One unit vector per crop, in order, of what the budget leaves of it.
    ///
    /// The reason of a failure is for the log; callers only learn that the encoder is not available.
    fn embed(&self, crops: &[RgbImage], budget: &Budget) -> Result<Vec<Embedding>, String>;
}

impl Backend for Encoder {
    fn info(&self) -> &EncoderInfo {
        Self::info(self)
    }

    fn preprocessor(&self) -> &Preprocessor {
        Self::preprocessor(self)
    }

    fn embed(&self, crops: &[RgbImage], budget: &Budget) -> Result<Vec<Embedding>, String> {
        self.embed_within(crops, budget).map_err(|error| error.to_string())
    }
}
