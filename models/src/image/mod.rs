//! The image contract: bytes to a `u8` RGB crop, the same for trainer and server.
//!
//! [`inspect`] and [`decode()`] take bytes from anywhere. What they promise, whatever the bytes say:
//!
//! - limits are checked against the header before any pixel is decoded or memory for pixels reserved;
//! - a truncated file is an error, never a picture with a grey lower half;
//! - a panic in a decoder crate is an error like any other.
//!
//! [`Preprocessor`] turns the upright image into the encoder's square crop, with Pillow's resampling and torchvision's
//! geometry, so that weights trained elsewhere see here what they saw there. [`Preprocessor::decode_crop`] does both at
//! once, and where the photo is much larger than the crop, with much less work.

mod container;
mod crop;
mod decode;
mod encode;
mod error;
mod flatten;
mod format;
mod jpeg;
mod limits;
mod manifest;
mod preprocess;
mod resample;
mod view;

pub use decode::{decode, inspect};
pub use encode::encode_jpeg;
pub use error::ImageError;
pub use format::Format;
pub use limits::Limits;
pub use preprocess::{Filter, Preprocessor, Resize};
pub use resample::{Cut, OutsideImage, Resampler, Window};
pub use view::{ColourOperation, ViewPlan};

/// Interleaved 8-bit RGB.
#[derive(Clone, PartialEq, Eq)]
pub struct RgbImage {
    /// Width in pixels, at least 1.
    pub width: u32,
    /// Height in pixels, at least 1.
    pub height: u32,
    /// `width · height · 3` bytes, row-major.
    pub pixels: Vec<u8>,
}

/// The size alone: nobody wants a million bytes in a log line.
impl std::fmt::Debug for RgbImage {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "RgbImage({}×{})", self.width, self.height)
    }
}
