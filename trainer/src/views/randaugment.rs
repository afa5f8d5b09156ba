//! RandAugment (arXiv 1909.13719) at magnitude 9 with deviation 0.5: the augmentation of the paper's fine-tuning
//! (arXiv 2204.07141, A.4), in the "increasing" form of the MAE recipe, where a larger magnitude always distorts more.

use super::affine::{rotate, transform};
use super::colour;
use crate::random::normal;
use rand::Rng;

/// Operations per image, each applied half of the time.
const OPERATIONS: usize = 2;
/// Mean and standard deviation of the magnitude, out of 10.
const MAGNITUDE: (f64, f64) = (9.0, 0.5);

/// One operation, with what it needs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Operation {
    /// Each channel stretched over the whole range.
    AutoContrast,
    /// Each channel's histogram made flat.
    Equalize,
    /// The negative.
    Invert,
    /// By degrees, counter-clockwise.
    Rotate(f64),
    /// To this many bits per channel.
    Posterize(u32),
    /// Values from this on are inverted.
    Solarize(u16),
    /// This much is added to values below 128.
    SolarizeAdd(u8),
    /// Saturation, contrast, brightness and sharpness: 0 takes it away, 1 leaves it.
    Colour(f32),
    Contrast(f32),
    Brightness(f32),
    Sharpness(f32),
    /// Rows, or columns, shifted by this share of their distance from the corner.
    ShearX(f64),
    ShearY(f64),
    /// By a share of the side.
    TranslateX(f64),
    TranslateY(f64),
}

/// Number of operations to choose from.
const KINDS: usize = 15;

impl Operation {
    fn draw(rng: &mut impl Rng) -> Self {
        let share = (MAGNITUDE.0 + MAGNITUDE.1 * normal(rng)).clamp(0.0, 10.0) / 10.0;
        let kind = rng.random_range(0..KINDS);
        let signed = if rng.random_bool(0.5) { share } else { -share };
        let factor = (1.0 + 0.9 * signed).max(0.1) as f32;
        match kind {
            0 => Self::AutoContrast,
            1 => Self::Equalize,
            2 => Self::Invert,
            3 => Self::Rotate(30.0 * signed),
            4 => Self::Posterize(4 - (4.0 * share) as u32),
            5 => Self::Solarize(256 - (256.0 * share) as u16),
            6 => Self::SolarizeAdd((110.0 * share) as u8),
            7 => Self::Colour(factor),
            8 => Self::Contrast(factor),
            9 => Self::Brightness(factor),
            10 => Self::Sharpness(factor),
            11 => Self::ShearX(0.3 * signed),
            12 => Self::ShearY(0.3 * signed),
            13 => Self::TranslateX(0.45 * signed),
            _ => Self::TranslateY(0.45 * signed),
        }
    }

    /// Changes a square image of interleaved 8-bit RGB.
    pub(super) fn apply(self, pixels: &mut [u8], side: usize) {
        let map = |pixels: &mut [u8], change: &dyn Fn(u8) -> u8| {
            for value in pixels {
                *value = change(*value);
            }
        };
        let side_length = side as f64;
        match self {
            Self::AutoContrast => by_channel(pixels, stretch),
            Self::Equalize => by_channel(pixels, equalize),
            Self::Invert => map(pixels, &|value| 255 - value),
            Self::Rotate(degrees) => rotate(pixels, side, degrees),
            Self::Posterize(bits) => {
                let mask = if bits == 0 { 0 } else { 0xff_u8 << (8 - bits) };
                map(pixels, &|value| value & mask);
            }
            Self::Solarize(from) => {
                map(pixels, &|value| if u16::from(value) < from { value } else { 255 - value });
            }
            Self::SolarizeAdd(add) => {
                map(pixels, &|value| if value < 128 { value.saturating_add(add) } else { value });
            }
            Self::Colour(factor) => colour::saturation(pixels, factor),
            Self::Contrast(factor) => colour::contrast(pixels, factor),
            Self::Brightness(factor) => colour::brightness(pixels, factor),
            Self::Sharpness(factor) => colour::sharpness(pixels, side, factor),
            Self::ShearX(factor) => transform(pixels, side, [1.0, factor, 0.0, 0.0, 1.0, 0.0]),
            Self::ShearY(factor) => transform(pixels, side, [1.0, 0.0, 0.0, factor, 1.0, 0.0]),
            Self::TranslateX(share) => {
                transform(pixels, side, [1.0, 0.0, share * side_length, 0.0, 1.0, 0.0]);
            }
            Self::TranslateY(share) => {
                transform(pixels, side, [1.0, 0.0, 0.0, 0.0, 1.0, share * side_length]);
            }
        }
    }
}

/// Two random operations, each half of the time, on a square image of interleaved 8-bit RGB.
pub(crate) fn randaugment(pixels: &mut [u8], side: usize, rng: &mut impl Rng) {
    for _ in 0..OPERATIONS {
        let operation = Operation::draw(rng);
        if rng.random_bool(0.5) {
            operation.apply(pixels, side);
        }
    }
}

/// Maps each channel by a table made from its histogram; `None` leaves it.
fn by_channel(pixels: &mut [u8], table: impl Fn(&[u32; 256]) -> Option<[u8; 256]>) {
    for channel in 0..3 {
        let mut histogram = [0; 256];
        for pixel in pixels.chunks_exact(3) {
            histogram[usize::from(pixel[channel])] += 1;
        }
        if let Some(table) = table(&histogram) {
            for pixel in pixels.chunks_exact_mut(3) {
                pixel[channel] = table[usize::from(pixel[channel])];
            }
        }
    }
}

/// As Pillow's `autocontrast` without a cutoff.
fn stretch(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let low = histogram.iter().position(|&count| count > 0)?;
    let high = histogram.iter().rposition(|&count| count > 0).filter(|&high| high > low)?;
    let scale = 255.0 / (high - low) as f64;
    Some(std::array::from_fn(|value| (value as f64 * scale - low as f64 * scale) as u8))
}

/// As Pillow's `equalize`.
fn equalize(histogram: &[u32; 256]) -> Option<[u8; 256]> {
    let last = histogram.iter().rev().find(|&&count| count > 0)?;
    let step = (histogram.iter().sum::<u32>() - last) / 255;
    if step == 0 {
        return None;
    }
    let mut passed = step / 2;
    Some(std::array::from_fn(|value| {
        let level = (passed / step).min(255) as u8;
        passed += histogram[value];
        level
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;
    use serde_json::Value;

    fn operation(name: &str, value: &Value) -> Operation {
        let number = value.as_f64().unwrap_or(0.0);
        match name {
            "autocontrast" => Operation::AutoContrast,
            "equalize" => Operation::Equalize,
            "invert" => Operation::Invert,
            "rotate" => Operation::Rotate(number),
            "posterize" => Operation::Posterize(number as u32),
            "solarize" => Operation::Solarize(number as u16),
            "colour" => Operation::Colour(number as f32),
            "contrast" => Operation::Contrast(number as f32),
            "brightness" => Operation::Brightness(number as f32),
            "sharpness" => Operation::Sharpness(number as f32),
            "shear-x" => Operation::ShearX(number),
            "shear-y" => Operation::ShearY(number),
            "translate-x" => Operation::TranslateX(number),
            "translate-y" => Operation::TranslateY(number),
            other => panic!("{other}"),
        }
    }

    /// tests/fixtures/randaugment/cases.json (made by xtask/python/fixtures/randaugment.py).
    #[test]
    fn operations_are_pillows() {
        let path =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/randaugment/cases.json");
        let cases: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let bytes = |value: &Value| {
            value.as_array().unwrap().iter().map(|byte| byte.as_u64().unwrap() as u8).collect::<Vec<_>>()
        };
        let side = cases["side"].as_u64().unwrap() as usize;
        assert!(cases["cases"].as_array().unwrap().len() >= 14);
        for case in cases["cases"].as_array().unwrap() {
            let name = case["operation"].as_str().unwrap();
            let mut pixels = bytes(&cases["source"]);
            operation(name, &case["value"]).apply(&mut pixels, side);
            let expected = bytes(&case["pixels"]);
            let worst =
                pixels.iter().zip(&expected).map(|(ours, theirs)| ours.abs_diff(*theirs)).max().unwrap();
            let is_geometric = ["rotate", "shear-x", "shear-y", "translate-x", "translate-y"].contains(&name);
            assert!(worst <= u8::from(is_geometric), "{name} {}: off by {worst}", case["value"]);
        }
    }

    #[test]
    fn a_dark_image_is_lifted_by_solarize_add() {
        let mut pixels = vec![10, 127, 200];
        Operation::SolarizeAdd(110).apply(&mut pixels, 1);
        assert_eq!(pixels, [120, 237, 200]);
    }

    #[test]
    fn every_operation_is_drawn_and_magnitudes_are_about_nine() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let mut seen = std::collections::HashSet::new();
        let mut angles = Vec::new();
        for _ in 0..2_000 {
            let operation = Operation::draw(&mut rng);
            seen.insert(std::mem::discriminant(&operation));
            if let Operation::Rotate(degrees) = operation {
                angles.push(degrees);
            }
        }
        assert_eq!(seen.len(), KINDS);
        assert!(angles.iter().all(|angle| (20.0..=30.0).contains(&angle.abs())), "{angles:?}");
        assert!(angles.iter().any(|angle| *angle > 0.0) && angles.iter().any(|angle| *angle < 0.0));
    }
}
