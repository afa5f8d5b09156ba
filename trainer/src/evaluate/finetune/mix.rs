//! Mixing images and their labels in pairs: mixup (arXiv 1710.09412) and cutmix (arXiv 1905.04899).

use rand::Rng;

/// Views `[B, 3, side, side]` and targets `[B, classes]`, row-major.
pub(super) struct Batch {
    pub(super) pixels: Vec<f32>,
    pub(super) targets: Vec<f32>,
    pub(super) side: usize,
    pub(super) classes: usize,
}

impl Batch {
    /// Targets of 1 − ε on the class and ε shared by all.
    pub(super) fn new(
        pixels: Vec<f32>,
        labels: &[usize],
        side: usize,
        classes: usize,
        smoothing: f32,
    ) -> Self {
        let mut targets = vec![smoothing / classes as f32; labels.len() * classes];
        for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
            row[label] += 1.0 - smoothing;
        }
        Self { pixels, targets, side, classes }
    }

    /// Mixes image i with image B − 1 − i, all in the same proportion: whole images (mixup) or a rectangle (cutmix), one or
    /// the other at random where both are on. A strength is the α of a Beta(α, α) distribution; 0 turns it off.
    pub(super) fn mix(&mut self, mixup: f64, cutmix: f64, rng: &mut impl Rng) {
        let images = self.targets.len() / self.classes;
        let cut = cutmix > 0.0 && (mixup == 0.0 || rng.random_bool(0.5));
        let share = match (cut, mixup > 0.0) {
            (true, _) => {
                let window = window(self.side, beta(cutmix, rng), rng);
                self.paste(images, window)
            }
            (false, true) => {
                let share = beta(mixup, rng);
                blend_pairs(&mut self.pixels, images, share as f32);
                share
            }
            (false, false) => return,
        };
        blend_pairs(&mut self.targets, images, share as f32);
    }

    /// Exchanges a rectangle between the images of each pair; the share that stays.
    fn paste(&mut self, images: usize, [left, top, right, bottom]: [usize; 4]) -> f64 {
        let (side, length) = (self.side, self.pixels.len() / images);
        for image in 0..images / 2 {
            let (first, second) = self.pixels.split_at_mut((images - 1 - image) * length);
            let (first, second) = (&mut first[image * length..(image + 1) * length], &mut second[..length]);
            for (one, other) in first
                .chunks_exact_mut(side)
                .zip(second.chunks_exact_mut(side))
                .enumerate()
                .filter_map(|(line, pair)| (top..bottom).contains(&(line % side)).then_some(pair))
            {
                one[left..right].swap_with_slice(&mut other[left..right]);
            }
        }
        1.0 - ((right - left) * (bottom - top)) as f64 / (side * side) as f64
    }
}

/// `share` of each row and the rest of its partner.
fn blend_pairs(values: &mut [f32], rows: usize, share: f32) {
    let length = values.len() / rows;
    for row in 0..rows / 2 {
        let (first, second) = values.split_at_mut((rows - 1 - row) * length);
        let first = &mut first[row * length..(row + 1) * length];
        for (one, other) in first.iter_mut().zip(&mut second[..length]) {
            (*one, *other) = (share * *one + (1.0 - share) * *other, share * *other + (1.0 - share) * *one);
        }
    }
}

/// A rectangle of the image's shape with about 1 − `share` of its area around a random centre, cut off at the edges: left,
/// top, right, bottom.
fn window(side: usize, share: f64, rng: &mut impl Rng) -> [usize; 4] {
    let half = ((1.0 - share).sqrt() * side as f64 / 2.0) as usize;
    let (x, y) = (rng.random_range(0..side), rng.random_range(0..side));
    [x.saturating_sub(half), y.saturating_sub(half), (x + half).min(side), (y + half).min(side)]
}

/// Beta(α, α) for 0 < α ≤ 1 by Jöhnk's rejection.
fn beta(alpha: f64, rng: &mut impl Rng) -> f64 {
    loop {
        let mut draw = || rng.random::<f64>().powf(1.0 / alpha);
        let (one, other) = (draw(), draw());
        if one + other > 0.0 && one + other <= 1.0 {
            return one / (one + other);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    /// Three images of constant value and their classes.
    fn batch() -> Batch {
        let pixels = [0.0, 1.0, 4.0].iter().flat_map(|&value| vec![value; 3 * 16]).collect();
        Batch::new(pixels, &[0, 1, 2], 4, 3, 0.0)
    }

    #[test]
    fn smoothed_targets_sum_to_one() {
        let batch = Batch::new(Vec::new(), &[2, 0], 4, 4, 0.1);
        for (target, expected) in batch.targets.iter().zip([0.025_f32, 0.025, 0.925, 0.025]) {
            assert!((target - expected).abs() < 1e-6);
        }
        assert!((batch.targets[4..].iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn labels_are_mixed_as_the_pixels_are() {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        for (mixup, cutmix) in [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)] {
            let mut moved = false;
            for _ in 0..20 {
                let mut batch = batch();
                batch.mix(mixup, cutmix, &mut rng);
                for (row, pixels) in batch.targets.chunks_exact(3).zip(batch.pixels.chunks_exact(48)) {
                    assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-5);
                    // The mean pixel is the mean of the images in the proportion of the labels.
                    let mean = pixels.iter().sum::<f32>() / 48.0;
                    assert!((mean - (row[1] + 4.0 * row[2])).abs() < 1e-4, "{row:?} {mean}");
                    moved |= row.iter().all(|share| *share < 0.99);
                }
                // The middle image is its own partner.
                assert_eq!(batch.targets[3..6], [0.0, 1.0, 0.0]);
            }
            assert!(moved, "{mixup} {cutmix}");
        }
        let mut still = batch();
        still.mix(0.0, 0.0, &mut rng);
        assert_eq!(still.targets, batch().targets);
    }

    #[test]
    fn shares_are_beta_distributed() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (alpha, variance) in [(1.0, 1.0 / 12.0), (0.8, 0.25 / 2.6)] {
            let draws: Vec<f64> = (0..20_000).map(|_| beta(alpha, &mut rng)).collect();
            let mean = draws.iter().sum::<f64>() / draws.len() as f64;
            let spread = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / draws.len() as f64;
            assert!(
                (mean - 0.5).abs() < 0.01 && (spread - variance).abs() < 0.003,
                "{alpha}: {mean} {spread}"
            );
        }
    }
}
