//! Gaussian blur of interleaved 8-bit RGB, separable, edges repeated.

/// Buffers of one blur, kept between calls.
#[derive(Default)]
pub(super) struct Blur {
    kernel: Vec<f32>,
    padded: Vec<f32>,
    rows: Vec<f32>,
}

/// Channels of a pixel.
const CHANNELS: usize = 3;

impl Blur {
    /// Blurs a square image of `side` pixels with standard deviation `sigma` pixels.
    pub(super) fn apply(&mut self, pixels: &mut [u8], side: usize, sigma: f32) {
        let radius = (3.0 * sigma).ceil().max(1.0) as usize;
        self.kernel.clear();
        let weight = |tap: usize| (-(tap as f32 - radius as f32).powi(2) / (2.0 * sigma * sigma)).exp();
        self.kernel.extend((0..=2 * radius).map(weight));
        let sum: f32 = self.kernel.iter().sum();
        self.kernel.iter_mut().for_each(|weight| *weight /= sum);

        let stride = side * CHANNELS;
        self.rows.clear();
        self.rows.resize(side * stride, 0.0);
        for (row, blurred) in pixels.chunks_exact(stride).zip(self.rows.chunks_exact_mut(stride)) {
            self.padded.clear();
            let left = row[..CHANNELS].repeat(radius);
            let right = row[stride - CHANNELS..].repeat(radius);
            self.padded.extend(left.iter().chain(row).chain(&right).map(|&value| f32::from(value)));
            for (tap, weight) in self.kernel.iter().enumerate() {
                add_scaled(blurred, &self.padded[tap * CHANNELS..][..stride], *weight);
            }
        }
        let mut sum = vec![0.0; stride];
        for (y, row) in pixels.chunks_exact_mut(stride).enumerate() {
            sum.fill(0.0);
            for (tap, weight) in self.kernel.iter().enumerate() {
                let source = (y + tap).saturating_sub(radius).min(side - 1);
                add_scaled(&mut sum, &self.rows[source * stride..][..stride], *weight);
            }
            for (value, blurred) in row.iter_mut().zip(&sum) {
                *value = (blurred + 0.5) as u8;
            }
        }
    }
}

fn add_scaled(sum: &mut [f32], values: &[f32], weight: f32) {
    for (sum, value) in sum.iter_mut().zip(values) {
        *sum += weight * value;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flat_image_stays_and_a_spot_spreads_by_sigma() {
        let mut flat = vec![77; 16 * 16 * 3];
        Blur::default().apply(&mut flat, 16, 1.3);
        assert!(flat.iter().all(|&value| value == 77));

        let side = 31;
        let mut spot = vec![0; side * side * 3];
        // A bright bar across the middle column, so that 8 bits resolve the tails.
        for y in 0..side {
            spot[(y * side + 15) * 3] = 255;
        }
        Blur::default().apply(&mut spot, side, 2.0);
        let middle: Vec<f64> = (0..side).map(|x| f64::from(spot[(15 * side + x) * 3])).collect();
        let mass: f64 = middle.iter().sum();
        let variance: f64 =
            middle.iter().enumerate().map(|(x, value)| value * (x as f64 - 15.0).powi(2)).sum::<f64>() / mass;
        assert!((mass - 255.0).abs() < 8.0, "mass {mass}");
        assert!((variance - 4.0).abs() < 0.3, "variance {variance}");
        assert!(spot.iter().skip(1).step_by(3).all(|&value| value == 0), "channels must not mix");
    }

    #[test]
    fn a_tiny_sigma_changes_almost_nothing() {
        let mut pixels: Vec<u8> = (0..8 * 8 * 3).map(|value| (value * 37 % 256) as u8).collect();
        let before = pixels.clone();
        Blur::default().apply(&mut pixels, 8, 0.1);
        assert_eq!(pixels, before);
    }
}
