//! Random resized crop, sampled as torchvision's `RandomResizedCrop`.

use dozen_models::image::Cut;
use rand::Rng;

/// Aspect ratios (width / height) are drawn log-uniformly from this range.
const RATIO: (f64, f64) = (3.0 / 4.0, 4.0 / 3.0);

/// Draws a window whose area is a uniform share in `area` of the image's.
///
/// Ten tries; then the largest centred window whose ratio lies in the range.
pub(super) fn random_window(width: u32, height: u32, area: (f64, f64), rng: &mut impl Rng) -> Cut {
    let total = f64::from(width) * f64::from(height);
    for _ in 0..10 {
        let target = total * rng.random_range(area.0..=area.1);
        let ratio = rng.random_range(RATIO.0.ln()..=RATIO.1.ln()).exp();
        let crop_width = (target * ratio).sqrt().round() as u32;
        let crop_height = (target / ratio).sqrt().round() as u32;
        if (1..=width).contains(&crop_width) && (1..=height).contains(&crop_height) {
            let top = rng.random_range(0..=height - crop_height);
            let left = rng.random_range(0..=width - crop_width);
            return Cut { left, top, width: crop_width, height: crop_height };
        }
    }
    largest_centred(width, height)
}

fn largest_centred(width: u32, height: u32) -> Cut {
    let ratio = f64::from(width) / f64::from(height);
    let (crop_width, crop_height) = if ratio < RATIO.0 {
        (width, ((f64::from(width) / RATIO.0).round() as u32).clamp(1, height))
    } else if ratio > RATIO.1 {
        (((f64::from(height) * RATIO.1).round() as u32).clamp(1, width), height)
    } else {
        (width, height)
    };
    Cut {
        left: (width - crop_width) / 2,
        top: (height - crop_height) / 2,
        width: crop_width,
        height: crop_height,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn windows_keep_to_the_image_the_area_and_the_ratio() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut areas = Vec::new();
        for _ in 0..2_000 {
            let window = random_window(120, 90, (0.3, 1.0), &mut rng);
            assert!(window.left + window.width <= 120 && window.top + window.height <= 90);
            let ratio = f64::from(window.width) / f64::from(window.height);
            assert!((0.73..1.37).contains(&ratio), "{window:?}");
            areas.push(f64::from(window.width * window.height) / 10_800.0);
        }
        assert!(areas.iter().all(|area| (0.29..=1.0).contains(area)));
        let mean = areas.iter().sum::<f64>() / areas.len() as f64;
        // Uniform on (0.3, 1), less what is rejected near 1 because it does not fit.
        assert!((0.55..0.66).contains(&mean), "mean area {mean}");
    }

    #[test]
    fn an_image_no_window_fits_falls_back_to_the_centre() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let window = random_window(100, 10, (0.9, 1.0), &mut rng);
        assert_eq!(window, Cut { left: 43, top: 0, width: 13, height: 10 });
        assert_eq!(random_window(1, 50, (0.9, 1.0), &mut rng), Cut { left: 0, top: 24, width: 1, height: 1 });
    }
}
