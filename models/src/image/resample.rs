//! The one place where pixels are resampled.
//!
//! fast_image_resize is generic over pixel types and instruction sets and is compiled where it is called: for 8-bit RGB
//! alone that takes seconds, for all that it supports, minutes.

use super::{Filter, RgbImage};
use fast_image_resize::images::{TypedCroppedImage, TypedImage, TypedImageRef};
use fast_image_resize::pixels::U8x3;
use fast_image_resize::{FilterType, ResizeAlg, ResizeOptions, Resizer};

/// A rectangle of an image in pixels; it may begin and end inside a pixel.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Window {
    /// From the image's left edge.
    pub left: f64,
    /// From the image's top edge.
    pub top: f64,
    /// Width.
    pub width: f64,
    /// Height.
    pub height: f64,
}

/// A rectangle of whole pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// From the image's left edge.
    pub left: u32,
    /// From the image's top edge.
    pub top: u32,
    /// Width, at least 1.
    pub width: u32,
    /// Height, at least 1.
    pub height: u32,
}

/// The rectangle does not lie inside the image, or the image has not the pixels its size promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the part to resample does not lie inside the image")]
pub struct OutsideImage;

/// Resamples by convolution with a kernel that widens when shrinking; keeps its buffers from one image to the next.
#[derive(Default)]
pub struct Resampler(Resizer);

impl Resampler {
    /// A window at a new size `(width, height)`. The kernel reads beyond the window's edges, up to the image's.
    pub fn window(
        &mut self,
        image: &RgbImage,
        window: Window,
        size: (u32, u32),
        filter: Filter,
    ) -> Result<RgbImage, OutsideImage> {
        let whole = Cut { left: 0, top: 0, width: image.width, height: image.height };
        self.resample(image, whole, window, size, filter)
    }

    /// A part at a new size `(width, height)`, as if it had been cut out first.
    pub fn cut(
        &mut self,
        image: &RgbImage,
        cut: Cut,
        size: (u32, u32),
        filter: Filter,
    ) -> Result<RgbImage, OutsideImage> {
        let whole =
            Window { left: 0.0, top: 0.0, width: f64::from(cut.width), height: f64::from(cut.height) };
        self.resample(image, cut, whole, size, filter)
    }

    fn resample(
        &mut self,
        image: &RgbImage,
        cut: Cut,
        window: Window,
        (width, height): (u32, u32),
        filter: Filter,
    ) -> Result<RgbImage, OutsideImage> {
        let filter = match filter {
            Filter::Bilinear => FilterType::Bilinear,
            Filter::Bicubic => FilterType::CatmullRom,
        };
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
            window.left,
            window.top,
            window.width,
            window.height,
        );
        let mut pixels = vec![0; width as usize * height as usize * 3];
        let source = TypedImageRef::<U8x3>::from_buffer(image.width, image.height, &image.pixels)
            .map_err(|_| OutsideImage)?;
        let source = TypedCroppedImage::new(source, cut.left, cut.top, cut.width, cut.height)
            .map_err(|_| OutsideImage)?;
        let mut target =
            TypedImage::<U8x3>::from_buffer(width, height, &mut pixels).map_err(|_| OutsideImage)?;
        self.0.resize_typed(&source, &mut target, &options).map_err(|_| OutsideImage)?;
        Ok(RgbImage { width, height, pixels })
    }
}
