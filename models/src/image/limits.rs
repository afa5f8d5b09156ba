//! How big an image may be. A header of a few bytes can announce gigabytes of pixels, so sizes are checked first.

use super::ImageError;

/// What a decoder may allocate for the header and metadata, in bytes: a colour profile in a PNG is compressed, and can
/// be a bomb of its own.
pub(super) const MAX_METADATA: u64 = 32 << 20;

/// Bounds checked before pixels are decoded.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Encoded size in bytes.
    pub max_bytes: usize,
    /// Width or height in pixels.
    pub max_side: u32,
    /// Width × height.
    pub max_pixels: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 20 << 20, max_side: 16_384, max_pixels: 50_000_000 }
    }
}

impl Limits {
    /// Refuses encoded images that are empty or too long.
    pub(super) fn check_bytes(&self, bytes: &[u8]) -> Result<(), ImageError> {
        match bytes.len() {
            0 => Err(ImageError::Empty),
            length if length > self.max_bytes => {
                Err(ImageError::TooManyBytes { bytes: length, limit: self.max_bytes })
            }
            _ => Ok(()),
        }
    }

    /// Refuses sizes over the limits.
    pub(super) fn check_size(&self, width: u32, height: u32) -> Result<(), ImageError> {
        if width.max(height) > self.max_side {
            return Err(ImageError::SideTooLong { width, height, limit: self.max_side });
        }
        if u64::from(width) * u64::from(height) > self.max_pixels {
            return Err(ImageError::TooManyPixels { width, height, limit: self.max_pixels });
        }
        Ok(())
    }

    /// What a decoder may allocate: 16-bit RGBA for every pixel allowed, and room for tables and metadata.
    pub(super) fn max_alloc(&self) -> u64 {
        self.max_pixels.saturating_mul(8).saturating_add(MAX_METADATA)
    }
}
