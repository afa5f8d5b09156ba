//! The image contract: bytes to a `u8` RGB crop, the same for trainer and server.

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

/// The formats that are decoded, recognised by content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// GIF, first frame.
    Gif,
    /// BMP.
    Bmp,
}

impl Format {
    /// Recognises a format by its first bytes.
    pub fn sniff(_bytes: &[u8]) -> Option<Self> {
        todo!()
    }

    /// `image/jpeg`, …
    pub fn media_type(self) -> &'static str {
        todo!()
    }
}

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

/// Why bytes are not a usable image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No bytes.
    #[error("the image is empty")]
    Empty,
    /// Not one of the formats.
    #[error("not a JPEG, PNG, WebP, GIF or BMP image")]
    UnsupportedFormat,
    /// Encoded size over the limit.
    #[error("{bytes} bytes, the limit is {limit}")]
    TooManyBytes { bytes: usize, limit: usize },
    /// Header announces a side over the limit.
    #[error("{width}×{height} pixels, the longest side allowed is {limit}")]
    SideTooLong { width: u32, height: u32, limit: u32 },
    /// Header announces too many pixels.
    #[error("{width}×{height} pixels, {limit} in all are allowed")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    /// Right format, broken contents.
    #[error("cannot be decoded as {format}: {reason}")]
    Undecodable { format: &'static str, reason: String },
}

/// Checks limits from the header alone and returns (format, width, height) as stored (before orientation).
pub fn inspect(_bytes: &[u8], _limits: &Limits) -> Result<(Format, u32, u32), ImageError> {
    todo!()
}

/// Decodes to upright RGB: limits first, EXIF orientation applied, alpha flattened on white, grey, 16-bit and CMYK
/// converted, first frame of animations.
pub fn decode(_bytes: &[u8], _limits: &Limits) -> Result<RgbImage, ImageError> {
    todo!()
}

/// How an upright image becomes the encoder's square crop, and how its bytes become numbers. Read from and written as
/// `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct Preprocessor {
    /// Geometry.
    pub resize: Resize,
    /// Filter; both are antialiased when shrinking, as Pillow's are.
    pub filter: Filter,
    /// Per-channel mean on the 0–1 scale.
    pub mean: [f32; 3],
    /// Per-channel standard deviation on the 0–1 scale.
    pub std: [f32; 3],
}

/// Geometry of the resize.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resize {
    /// Short side to `short_side`, then a centre crop of `crop`: the paper's (256, 224).
    ShortSideThenCrop { short_side: u32, crop: u32 },
    /// Both sides to `size`, ignoring the aspect: the hub's.
    Squash { size: u32 },
}

/// Resampling filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    /// Pillow's BILINEAR (2).
    Bilinear,
    /// Pillow's BICUBIC (3).
    Bicubic,
}

impl Preprocessor {
    /// Side of the crop it makes.
    pub fn crop_size(&self) -> u32 {
        todo!()
    }

    /// Resizes and crops.
    pub fn crop(&self, _image: &RgbImage) -> RgbImage {
        todo!()
    }

    /// Normalises crops to planar f32, `[crops, 3, size, size]` in row-major order.
    pub fn normalise(&self, _crops: &[RgbImage]) -> Vec<f32> {
        todo!()
    }

    /// Parses `preprocessor_config.json`.
    pub fn from_json(_json: &str) -> Result<Self, crate::Error> {
        todo!()
    }

    /// Writes `preprocessor_config.json`.
    pub fn to_json(&self) -> String {
        todo!()
    }
}
