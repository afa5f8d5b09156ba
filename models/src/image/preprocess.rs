//! Upright image to the encoder's square crop, and crops to numbers.
//!
//! Geometry is torchvision's `Resize` and `CenterCrop`, resampling Pillow's: convolution whose kernel widens when
//! shrinking. fast_image_resize rounds its weights a little differently, which is worth one level of 255.

use super::RgbImage;
use super::resample::{Resampler, Window};

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
    ShortSideThenCrop {
        /// Length of the short side after the resize, at least `crop`: a shorter one is taken as `crop`.
        short_side: u32,
        /// Side of the crop.
        crop: u32,
    },
    /// Both sides to `size`, ignoring the aspect: the hub's.
    Squash {
        /// Side of the result.
        size: u32,
    },
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
        match self.resize {
            Resize::ShortSideThenCrop { crop, .. } => crop,
            Resize::Squash { size } => size,
        }
    }

    /// Resizes and crops.
    ///
    /// The resized image in between is never made: each pixel of the crop is computed from the source, so a 1×10000
    /// image costs no more than others.
    pub fn crop(&self, image: &RgbImage) -> RgbImage {
        let window = self.resize.window(image.width, image.height);
        crop_window(image, window, self.crop_size(), self.filter, Order::of(self.filter))
    }

    /// Normalises crops, all of one size, to planar f32, `[crops, 3, size, size]` in row-major order.
    pub fn normalise(&self, crops: &[RgbImage]) -> Vec<f32> {
        let tables = self.tables();
        let values = crops.iter().map(|crop| crop.pixels.len()).sum();
        let mut planes = Vec::with_capacity(values);
        for crop in crops {
            for (channel, table) in tables.iter().enumerate() {
                let (pixels, _) = crop.pixels.as_chunks::<3>();
                planes.extend(pixels.iter().map(|pixel| table[usize::from(pixel[channel])]));
            }
        }
        planes
    }

    /// `(byte / 255 − mean) / std` for every byte, by channel: a look-up is faster than the arithmetic, and exact.
    fn tables(&self) -> [[f32; 256]; 3] {
        std::array::from_fn(|channel| {
            std::array::from_fn(|byte| (byte as f32 / 255.0 - self.mean[channel]) / self.std[channel])
        })
    }
}

impl Resize {
    /// The part of a `width` × `height` source that the crop shows.
    pub(super) fn window(self, width: u32, height: u32) -> Window {
        match self {
            Self::Squash { .. } => {
                Window { left: 0.0, top: 0.0, width: f64::from(width), height: f64::from(height) }
            }
            Self::ShortSideThenCrop { short_side, crop } => {
                let short_side = short_side.max(crop);
                let (resized_width, resized_height) = resized_size(width, height, short_side);
                let (left, width) = span(width, resized_width, crop);
                let (top, height) = span(height, resized_height, crop);
                Window { left, top, width, height }
            }
        }
    }
}

impl Filter {
    /// How far the kernel reaches to each side, in pixels of the result when shrinking.
    pub(super) fn support(self) -> f64 {
        match self {
            Self::Bilinear => 1.0,
            Self::Bicubic => 2.0,
        }
    }
}

/// Which way is resampled first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Along rows, then along columns.
    RowsFirst,
    /// The library's own.
    ColumnsFirst,
}

impl Order {
    /// Catmull-Rom in the order of Pillow up to version 12: first along rows. (Version 13 starts with the columns where they
    /// shrink much more than the rows.)
    ///
    /// The cubic overshoots at edges and both Pillow and fast_image_resize cut that off between the passes, so the order
    /// shows: up to 8 levels at hard edges. Bilinear weights are never negative, and there the library's own order,
    /// columns first, is faster.
    pub(super) fn of(filter: Filter) -> Self {
        match filter {
            Filter::Bilinear => Self::ColumnsFirst,
            Filter::Bicubic => Self::RowsFirst,
        }
    }

    /// What it is for an image whose rows and columns are exchanged.
    pub(super) fn other(self) -> Self {
        match self {
            Self::RowsFirst => Self::ColumnsFirst,
            Self::ColumnsFirst => Self::RowsFirst,
        }
    }
}

/// A window of an image as a square of `size`.
pub(super) fn crop_window(
    image: &RgbImage,
    window: Window,
    size: u32,
    filter: Filter,
    order: Order,
) -> RgbImage {
    match order {
        Order::ColumnsFirst => resample(image, window, (size, size), filter),
        Order::RowsFirst => rows_first(image, window, size, filter),
    }
}

fn rows_first(image: &RgbImage, window: Window, size: u32, filter: Filter) -> RgbImage {
    let reach = filter.support() * (window.height / f64::from(size)).max(1.0);
    let first = (window.top - reach).floor().max(0.0);
    let last = (window.top + window.height + reach).ceil().min(f64::from(image.height));
    let rows = Window { top: first, height: last - first, ..window };
    let narrow = resample(image, rows, (size, rows.height as u32), filter);
    let top = window.top - first;
    let height = window.height.min(rows.height - top);
    let columns = Window { left: 0.0, top, width: f64::from(size), height };
    resample(&narrow, columns, (size, size), filter)
}

/// A window of the image at the size given; a side that keeps its length is not touched.
fn resample(image: &RgbImage, window: Window, size: (u32, u32), filter: Filter) -> RgbImage {
    let resized = Resampler::default().window(image, window, size, filter);
    // The window lies inside the image by construction, and the image has the pixels its type promises.
    debug_assert!(resized.is_ok(), "{window:?} of {image:?}");
    resized.unwrap_or_else(|_| RgbImage {
        width: size.0,
        height: size.1,
        pixels: vec![0; size.0 as usize * size.1 as usize * 3],
    })
}

/// torchvision's `Resize(short_side)`: the long side is truncated, not rounded.
fn resized_size(width: u32, height: u32, short_side: u32) -> (u64, u64) {
    let (width, height, short_side) = (u64::from(width), u64::from(height), u64::from(short_side));
    if width <= height {
        (short_side, short_side * height / width)
    } else {
        (short_side * width / height, short_side)
    }
}

/// Offset and length, in source pixels, of a centred crop along one axis.
fn span(source: u32, resized: u64, crop: u32) -> (f64, f64) {
    let offset = centre_offset(resized - u64::from(crop));
    // Multiplied before divided: whole numbers stay whole, and then pixels are copied, not resampled.
    let in_source = |position: f64| position * f64::from(source) / resized as f64;
    let start = in_source(offset as f64);
    (start, in_source(f64::from(crop)).min(f64::from(source) - start))
}

/// torchvision's `CenterCrop` offset, `int(round(margin / 2.0))` with Python's rounding of halves to even.
fn centre_offset(margin: u64) -> u64 {
    let half = margin / 2;
    half + (margin % 2) * (half % 2)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn paper() -> Preprocessor {
        Preprocessor {
            resize: Resize::ShortSideThenCrop { short_side: 256, crop: 224 },
            filter: Filter::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    fn solid(width: u32, height: u32, colour: [u8; 3]) -> RgbImage {
        RgbImage { width, height, pixels: colour.repeat((width * height) as usize) }
    }

    #[test]
    fn sizes_truncate_and_offsets_round_half_to_even() {
        assert_eq!(resized_size(640, 480, 256), (341, 256));
        assert_eq!(resized_size(480, 640, 256), (256, 341));
        assert_eq!(resized_size(500, 500, 256), (256, 256));
        // round(0.5) = 0, round(1.5) = 2, round(2.5) = 2, round(58.5) = 58
        assert_eq!([1, 3, 5, 117, 32].map(centre_offset), [0, 2, 2, 58, 16]);
    }

    #[test]
    fn any_aspect_gives_the_colour_back() {
        let colour = [10, 200, 77];
        for (width, height) in [(1, 1), (1, 10_000), (10_000, 1), (2, 3), (224, 224), (256, 256), (4000, 3)] {
            for resize in [paper().resize, Resize::Squash { size: 224 }] {
                for filter in [Filter::Bilinear, Filter::Bicubic] {
                    let preprocessor = Preprocessor { resize, filter, ..paper() };
                    let crop = preprocessor.crop(&solid(width, height, colour));
                    assert!(
                        crop == solid(224, 224, colour),
                        "{width}×{height} {resize:?} {filter:?}: {:?}",
                        &crop.pixels[..3]
                    );
                }
            }
        }
    }

    #[test]
    fn a_crop_without_scaling_copies_pixels() {
        let pixels: Vec<u8> = (0..6 * 4 * 3).collect();
        let image = RgbImage { width: 6, height: 4, pixels };
        let preprocessor =
            Preprocessor { resize: Resize::ShortSideThenCrop { short_side: 4, crop: 2 }, ..paper() };
        let crop = preprocessor.crop(&image);
        let row = |y: usize| image.pixels[(y * 6 + 2) * 3..][..6].to_vec();
        assert_eq!(crop.pixels, [row(1), row(2)].concat());
    }

    #[test]
    fn normalise_is_planar_and_exact() {
        let preprocessor = Preprocessor { resize: Resize::Squash { size: 1 }, ..paper() };
        let numbers = preprocessor.normalise(&[solid(1, 1, [0, 128, 255]), solid(1, 1, [255, 0, 0])]);
        let expected = [(0.0, 0), (128.0, 1), (255.0, 2), (255.0, 0), (0.0, 1), (0.0, 2)].map(
            |(byte, channel): (f64, usize)| {
                (byte / 255.0 - f64::from(preprocessor.mean[channel])) / f64::from(preprocessor.std[channel])
            },
        );
        for (number, expected) in numbers.iter().zip(expected) {
            assert!((f64::from(*number) - expected).abs() < 1e-6, "{number} against {expected}");
        }
        assert_eq!(numbers.len(), 6);
    }

    proptest! {
        /// Rounding must never push a window over the edge, which would leave the crop black.
        #[test]
        fn windows_stay_inside_any_image(
            width in 1..400_u32, height in 1..400_u32, crop in 1..48_u32, margin in 0..48_u32, cubic in any::<bool>(),
        ) {
            let image = solid(width, height, [90, 160, 230]);
            let filter = if cubic { Filter::Bicubic } else { Filter::Bilinear };
            for resize in [
                Resize::ShortSideThenCrop { short_side: crop + margin, crop },
                Resize::Squash { size: crop },
            ] {
                let made = Preprocessor { resize, filter, ..paper() }.crop(&image);
                prop_assert!(made == solid(crop, crop, [90, 160, 230]), "{:?} of {:?}", resize, image);
            }
        }
    }
}
