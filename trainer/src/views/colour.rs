//! Colour operations on interleaved 8-bit RGB, with the rounding of Pillow's `ImageEnhance` and HSV conversion.

use dozen_models::image::ColourOperation;

/// Luma of ITU-R 601, as Pillow's `convert("L")`.
fn luma(pixel: &[u8]) -> u8 {
    let weighted = u32::from(pixel[0]) * 19_595 + u32::from(pixel[1]) * 38_470 + u32::from(pixel[2]) * 7_471;
    ((weighted + 0x8000) >> 16) as u8
}

/// `degenerate + factor·(value − degenerate)`, truncated and clamped to a byte.
fn blend(degenerate: u8, value: u8, factor: f32) -> u8 {
    let degenerate = f32::from(degenerate);
    // `as` saturates, which is the clamp, and truncates, as Pillow does.
    (degenerate + factor * (f32::from(value) - degenerate)) as u8
}

/// Does one of the operations of a plan.
pub(super) fn apply(pixels: &mut [u8], operation: ColourOperation) {
    match operation {
        ColourOperation::Brightness(factor) => brightness(pixels, factor),
        ColourOperation::Contrast(factor) => contrast(pixels, factor),
        ColourOperation::Saturation(factor) => saturation(pixels, factor),
        ColourOperation::Hue(turn) => hue(pixels, turn),
        ColourOperation::Grey => grey(pixels),
    }
}

/// Blends with black.
pub(super) fn brightness(pixels: &mut [u8], factor: f32) {
    for value in pixels {
        *value = blend(0, *value, factor);
    }
}

/// Blends with the image's mean luma.
pub(super) fn contrast(pixels: &mut [u8], factor: f32) {
    let sum: u64 = pixels.chunks_exact(3).map(|pixel| u64::from(luma(pixel))).sum();
    let mean = (sum as f64 / (pixels.len() / 3) as f64 + 0.5) as u8;
    for value in pixels {
        *value = blend(mean, *value, factor);
    }
}

/// Blends each pixel with its own luma.
pub(super) fn saturation(pixels: &mut [u8], factor: f32) {
    for pixel in pixels.chunks_exact_mut(3) {
        let grey = luma(pixel);
        for value in pixel {
            *value = blend(grey, *value, factor);
        }
    }
}

/// Blends with a smoothed image: the mean of a pixel and its neighbours, the pixel itself counting five times. The edge stays.
pub(super) fn sharpness(pixels: &mut [u8], side: usize, factor: f32) {
    let source = pixels.to_vec();
    let stride = 3 * side;
    for row in 1..side.saturating_sub(1) {
        for column in 3..stride.saturating_sub(3) {
            let at = row * stride + column;
            let around: u32 = [at - stride, at, at + stride]
                .into_iter()
                .flat_map(|centre| [centre - 3, centre, centre + 3])
                .map(|index| u32::from(source[index]))
                .sum();
            let smooth = (f64::from(around + 4 * u32::from(source[at])) / 13.0 + 0.5) as u8;
            pixels[at] = blend(smooth, source[at], factor);
        }
    }
}

/// Replaces each pixel by its luma.
pub(super) fn grey(pixels: &mut [u8]) {
    for pixel in pixels.chunks_exact_mut(3) {
        pixel.fill(luma(pixel));
    }
}

/// Turns the hue by `turn` of a full circle, in −0.5..=0.5, through 8-bit HSV.
pub(super) fn hue(pixels: &mut [u8], turn: f32) {
    let shift = (turn * 255.0) as i32 as u8;
    for pixel in pixels.chunks_exact_mut(3) {
        let [hue, saturation, value] = to_hsv([pixel[0], pixel[1], pixel[2]]);
        pixel.copy_from_slice(&from_hsv([hue.wrapping_add(shift), saturation, value]));
    }
}

fn to_hsv([red, green, blue]: [u8; 3]) -> [u8; 3] {
    let largest = red.max(green).max(blue);
    let smallest = red.min(green).min(blue);
    if largest == smallest {
        return [0, 0, largest];
    }
    let range = f32::from(largest - smallest);
    let distance = |value: u8| f32::from(largest - value) / range;
    let (red_distance, green_distance, blue_distance) = (distance(red), distance(green), distance(blue));
    let sixths = if red == largest {
        blue_distance - green_distance
    } else if green == largest {
        2.0 + red_distance - blue_distance
    } else {
        4.0 + green_distance - red_distance
    };
    let hue = f64::from(sixths) / 6.0;
    let hue = if hue < 0.0 { hue + 1.0 } else { hue };
    [(hue as f32 * 255.0) as u8, (range / f32::from(largest) * 255.0) as u8, largest]
}

fn from_hsv([hue, saturation, value]: [u8; 3]) -> [u8; 3] {
    if saturation == 0 {
        return [value; 3];
    }
    let sixths = f32::from(hue) * 6.0 / 255.0;
    // All values are positive: truncation is `floor`, and `round` after adding a half.
    let sector = sixths as u8;
    let (fraction, saturation) = (sixths - f32::from(sector), f32::from(saturation) / 255.0);
    let scaled = |share: f32| (f32::from(value) * share + 0.5) as u8;
    let low = scaled(1.0 - saturation);
    let falling = scaled(1.0 - saturation * fraction);
    let rising = scaled(1.0 - saturation * (1.0 - fraction));
    match sector % 6 {
        0 => [value, rising, low],
        1 => [falling, value, low],
        2 => [low, value, rising],
        3 => [low, falling, value],
        4 => [rising, low, value],
        _ => [value, low, falling],
    }
}
