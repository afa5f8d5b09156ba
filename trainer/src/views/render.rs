//! Making views on the CPU.

use super::blur::Blur;
use super::colour;
use super::crop::random_window;
use crate::Error;
use dozen_models::image::{Cut, Filter, Resampler, RgbImage, ViewPlan};
use rand::Rng;

/// Per-channel mean of ImageNet on the 0–1 scale.
pub const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
/// Per-channel standard deviation of ImageNet on the 0–1 scale.
pub const STD: [f32; 3] = [0.229, 0.224, 0.225];

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
        plan: &ViewPlan,
        size: usize,
        out: &mut [f32],
    ) -> Result<(), Error> {
        let mut pixels = self.resize(image, plan.window, size)?;
        if plan.flip {
            flip(&mut pixels, size);
        }
        for &operation in &plan.colours {
            colour::apply(&mut pixels, operation);
        }
        if let Some(sigma) = plan.blur {
            self.blur.apply(&mut pixels, size, sigma);
        }
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
