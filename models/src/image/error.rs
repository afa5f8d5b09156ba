//! Why bytes are not a usable image. The messages reach API users as they stand, so each says what to do.

/// Why bytes are not a usable image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// No bytes.
    #[error("the image is empty: send the bytes of a JPEG, PNG, WebP, GIF or BMP file")]
    Empty,
    /// Not one of the formats.
    #[error("not a JPEG, PNG, WebP, GIF or BMP image, judged by its first bytes: convert it to one of these")]
    UnsupportedFormat,
    /// Encoded size over the limit.
    #[error("the image has {bytes} bytes and {limit} are allowed: scale it down or compress it more")]
    TooManyBytes {
        /// Encoded size.
        bytes: usize,
        /// [`Limits::max_bytes`](super::Limits::max_bytes).
        limit: usize,
    },
    /// Header announces a side over the limit.
    #[error("the image has {width}×{height} pixels and the longest side allowed is {limit}: scale it down")]
    SideTooLong {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// [`Limits::max_side`](super::Limits::max_side).
        limit: u32,
    },
    /// Header announces too many pixels.
    #[error("the image has {width}×{height} pixels and {limit} in all are allowed: scale it down")]
    TooManyPixels {
        /// Width in the header.
        width: u32,
        /// Height in the header.
        height: u32,
        /// [`Limits::max_pixels`](super::Limits::max_pixels).
        limit: u64,
    },
    /// Right format, broken contents.
    #[error("the image cannot be decoded as {format}: {reason}; export it again or send another")]
    Undecodable {
        /// [`Format::name`](super::Format::name).
        format: &'static str,
        /// What the decoder says.
        reason: String,
    },
}
