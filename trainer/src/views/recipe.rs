//! Drawing views.

use super::crop::random_window;
use dozen_models::image::{ColourOperation, ViewPlan};
use rand::Rng;
use rand::seq::SliceRandom as _;
use serde::{Deserialize, Serialize};

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

impl ViewRecipe<'_> {
    /// Draws a view of an image of `width` × `height` pixels.
    pub fn draw(&self, width: u32, height: u32, rng: &mut impl Rng) -> ViewPlan {
        let distortion = self.distortion;
        let window = random_window(width, height, self.area, rng);
        let flip = rng.random_bool(distortion.flip_probability);
        let mut colours = Vec::with_capacity(ColourOperation::KINDS);
        if rng.random_bool(distortion.jitter_probability) {
            colours.extend(jitter(distortion.jitter_strength, rng));
        }
        if rng.random_bool(distortion.grey_probability) {
            colours.push(ColourOperation::Grey);
        }
        let (low, high) = distortion.blur_sigma;
        let blur = rng.random_bool(distortion.blur_probability).then(|| rng.random_range(low..=high));
        ViewPlan { window, flip, colours, blur }
    }
}

/// Brightness, contrast, saturation and hue, in random order.
fn jitter(strength: f32, rng: &mut impl Rng) -> [ColourOperation; 4] {
    let (range, hue_range) = (0.8 * strength, 0.2 * strength);
    let mut order = [0, 1, 2, 3];
    order.shuffle(rng);
    let mut factor = || rng.random_range((1.0 - range).max(0.0)..=1.0 + range);
    let factors = [factor(), factor(), factor()];
    let turn = rng.random_range(-hue_range..=hue_range);
    order.map(|operation| match operation {
        0 => ColourOperation::Brightness(factors[0]),
        1 => ColourOperation::Contrast(factors[1]),
        2 => ColourOperation::Saturation(factors[2]),
        _ => ColourOperation::Hue(turn),
    })
}
