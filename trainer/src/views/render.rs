//! Making one view, and all views of a batch.

use super::blur::Blur;
use super::colour;
use super::crop::random_window;
use crate::Error;
use dozen_models::image::{Cut, Filter, Resampler, RgbImage};
use rand::Rng;
use serde::{Deserialize, Serialize};

/// Per-channel mean of ImageNet on the 0–1 scale.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Per-channel standard deviation of ImageNet on the 0–1 scale.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

/// Colour distortions shared by all views.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Distortion {
    /// Probability of a horizontal flip.
    pub flip_probability: f64,
    /// Probability that brightness, contrast, saturation and hue are jittered.
    pub jitter_probability: f64,
    /// Strength s: brightness, contrast and saturation vary by ±0.8·s, hue by ±0.2·s.
    pub jitter_strength: f32,
    /// Probability that colour is taken away.
    pub grey_probability: f64,
    /// Probability of a Gaussian blur.
    pub blur_probability: f64,
    /// Range of the blur's standard deviation in pixels.
    pub blur_sigma: (f32, f32),
}

/// How one kind of view is made.
#[derive(Clone, Copy, Debug)]
pub struct ViewRecipe<'a> {
    /// Side in pixels.
    pub size: usize,
    /// Range of the crop's share of the image area.
    pub area: (f64, f64),
    /// Colour.
    pub distortion: &'a Distortion,
}

/// Makes views one after the other; one per thread, it keeps its buffers.
#[derive(Default)]
pub struct ViewRenderer {
    resampler: Resampler,
    blur: Blur,
}

impl ViewRenderer {
    /// Writes a view of `image` to `out`, planar `[3, size, size]`, normalised by the ImageNet mean and deviation.
    pub fn render(
        &mut self,
        image: &RgbImage,
        recipe: &ViewRecipe<'_>,
        rng: &mut impl Rng,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let flip = recipe.distortion.flip_probability;
        let mut pixels = self.crop_and_flip(image, recipe.size, recipe.area, flip, rng)?;
        self.distort(&mut pixels, recipe, rng);
        normalise(&pixels, out);
        Ok(())
    }

    /// A random crop of a share of the area in `area`, resized to `size` × `size` and flipped with a probability: interleaved
    /// 8-bit RGB.
    pub(crate) fn crop_and_flip(
        &mut self,
        image: &RgbImage,
        size: usize,
        area: (f64, f64),
        flip_probability: f64,
        rng: &mut impl Rng,
    ) -> Result<Vec<u8>, Error> {
        let window = random_window(image.width, image.height, area, rng);
        let mut pixels = self.resize(image, window, size)?;
        if rng.random_bool(flip_probability) {
            flip(&mut pixels, size);
        }
        Ok(pixels)
    }

    /// Antialiased bilinear, reading nothing outside the window.
    pub(super) fn resize(&mut self, image: &RgbImage, window: Cut, size: usize) -> Result<Vec<u8>, Error> {
        let size = (size as u32, size as u32);
        Ok(self.resampler.cut(image, window, size, Filter::Bilinear)?.pixels)
    }

    fn distort(&mut self, pixels: &mut [u8], recipe: &ViewRecipe<'_>, rng: &mut impl Rng) {
        let distortion = recipe.distortion;
        if rng.random_bool(distortion.jitter_probability) {
            colour::jitter(pixels, 0.8 * distortion.jitter_strength, 0.2 * distortion.jitter_strength, rng);
        }
        if rng.random_bool(distortion.grey_probability) {
            colour::grey(pixels);
        }
        if rng.random_bool(distortion.blur_probability) {
            let sigma = rng.random_range(distortion.blur_sigma.0..=distortion.blur_sigma.1);
            self.blur.apply(pixels, recipe.size, sigma);
        }
    }
}

fn flip(pixels: &mut [u8], side: usize) {
    for row in pixels.chunks_exact_mut(side * 3) {
        for x in 0..side / 2 {
            for channel in 0..3 {
                row.swap(x * 3 + channel, (side - 1 - x) * 3 + channel);
            }
        }
    }
}

fn normalise(pixels: &[u8], out: &mut [f32]) {
    let plane = pixels.len() / 3;
    for (channel, values) in out.chunks_exact_mut(plane).enumerate() {
        let (scale, shift) = (1.0 / (255.0 * STD[channel]), MEAN[channel] / STD[channel]);
        for (value, pixel) in values.iter_mut().zip(pixels.chunks_exact(3)) {
            *value = f32::from(pixel[channel]) * scale - shift;
        }
    }
}
