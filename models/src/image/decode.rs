//! Bytes to upright RGB.

use std::error::Error as _;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader};

use super::container::{self, ContainerError};
use super::flatten::flatten;
use super::limits::MAX_METADATA;
use super::{Format, ImageError, Limits, RgbImage};

/// Checks limits from the header alone and returns (format, width, height) as stored (before orientation).
pub fn inspect(bytes: &[u8], limits: &Limits) -> Result<(Format, u32, u32), ImageError> {
    let format = recognise(bytes, limits)?;
    catching_panics(format, || {
        let (width, height) = open(format, bytes, limits)?.dimensions();
        Ok((format, width, height))
    })
}

/// Decodes to upright RGB: limits first, EXIF orientation applied, alpha flattened on white, grey, 16-bit and CMYK
/// converted, first frame of animations.
///
/// Colour profiles are ignored, as Pillow ignores them unless told otherwise. A JPEG that is whole but damaged inside
/// its compressed data is decoded as far as it goes, again like Pillow.
pub fn decode(bytes: &[u8], limits: &Limits) -> Result<RgbImage, ImageError> {
    let format = recognise(bytes, limits)?;
    catching_panics(format, || {
        let mut decoder = open(format, bytes, limits)?;
        // Unreadable metadata is no reason to refuse readable pixels.
        let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
        let mut image = DynamicImage::ImageRgb8(stored(format, decoder)?);
        image.apply_orientation(orientation);
        Ok(image.into_rgb8().into())
    })
}

/// The pixels as RGB, not yet upright.
pub(super) fn stored(
    format: Format,
    decoder: Box<dyn ImageDecoder + '_>,
) -> Result<::image::RgbImage, ImageError> {
    let image = DynamicImage::from_decoder(decoder).map_err(|error| undecodable(format, &error))?;
    Ok(flatten(image))
}

impl From<::image::RgbImage> for RgbImage {
    fn from(image: ::image::RgbImage) -> Self {
        let (width, height) = image.dimensions();
        Self { width, height, pixels: image.into_raw() }
    }
}

/// What the bytes hold, by their beginning.
pub(super) fn recognise(bytes: &[u8], limits: &Limits) -> Result<Format, ImageError> {
    limits.check_bytes(bytes)?;
    Format::sniff(bytes).ok_or(ImageError::UnsupportedFormat)
}

/// Reads the header and checks it against the limits; the decoder returned has not touched pixels yet.
pub(super) fn open<'a>(
    format: Format,
    bytes: &'a [u8],
    limits: &Limits,
) -> Result<Box<dyn ImageDecoder + 'a>, ImageError> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), image_format(format));
    let mut bounds = ::image::Limits::no_limits();
    bounds.max_alloc = Some(MAX_METADATA);
    reader.limits(bounds.clone());
    let mut decoder = reader.into_decoder().map_err(|error| undecodable(format, &error))?;

    let (width, height) = decoder.dimensions();
    limits.check_size(width, height)?;
    if width == 0 || height == 0 {
        return Err(broken(format, "it has no pixels"));
    }
    // Some formats may repeat their header: a later one must not announce more than the one that was checked.
    bounds.max_image_width = Some(width);
    bounds.max_image_height = Some(height);
    bounds.max_alloc = Some(limits.max_alloc());
    decoder.set_limits(bounds).map_err(|error| undecodable(format, &error))?;

    let contents = match format {
        Format::Jpeg => container::check_jpeg(bytes),
        Format::WebP => container::check_webp(bytes, limits),
        Format::Png | Format::Gif | Format::Bmp => Ok(()),
    };
    contents.map_err(|error| match error {
        ContainerError::Broken(reason) => broken(format, reason),
        ContainerError::Limit(error) => error,
    })?;
    Ok(Box::new(decoder))
}

fn image_format(format: Format) -> ImageFormat {
    match format {
        Format::Jpeg => ImageFormat::Jpeg,
        Format::Png => ImageFormat::Png,
        Format::WebP => ImageFormat::WebP,
        Format::Gif => ImageFormat::Gif,
        Format::Bmp => ImageFormat::Bmp,
    }
}

/// The decoders are written not to panic, and some day one will: on bytes from anywhere that must stay an error.
/// Nothing outlives a panic here, so nothing can be seen half-changed.
pub(super) fn catching_panics<T>(
    format: Format,
    work: impl FnOnce() -> Result<T, ImageError>,
) -> Result<T, ImageError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(broken(format, "the decoder failed on it")))
}

fn broken(format: Format, reason: &str) -> ImageError {
    ImageError::Undecodable { format: format.name(), reason: reason.to_owned() }
}

/// Keeps the cause and drops the wrapping, which names the format again.
fn undecodable(format: Format, error: &::image::ImageError) -> ImageError {
    use ::image::ImageError as Cause;
    let reason = match error {
        Cause::IoError(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            "the file is truncated".to_owned()
        }
        Cause::Decoding(_) | Cause::IoError(_) => {
            error.source().map_or_else(|| error.to_string(), ToString::to_string)
        }
        Cause::Encoding(_) | Cause::Parameter(_) | Cause::Limits(_) | Cause::Unsupported(_) => {
            error.to_string()
        }
    };
    broken(format, &reason)
}
