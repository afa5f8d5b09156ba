//! Which patches of a masked view stay.

use rand::Rng;
use rand::seq::SliceRandom;
use serde::{Deserialize, Serialize};

/// How the patches that stay are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskRule {
    /// At random, one list for the whole batch on all ranks, as the paper's code has it.
    Batch,
    /// At random, one list for the batch of each rank.
    Rank,
    /// At random, a list for each view.
    Image,
    /// At random for each view, patches with much contrast being likelier to stay: what is dropped is mostly background.
    Content,
}

/// The patches of one group of views that stay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mask {
    /// The same for every view.
    Shared(Vec<u32>),
    /// `rows × kept` indices, view after view.
    PerView {
        /// Row-major.
        indices: Vec<u32>,
        /// Patches each view keeps.
        kept: usize,
    },
}

/// ⌊N·(1 − drop)⌋ of `patches` patches stay, at least one.
pub fn kept_patches(patches: usize, drop: f64) -> usize {
    ((patches as f64 * (1.0 - drop)).floor() as usize).clamp(1, patches)
}

/// `kept` of `patches` indices, chosen at random.
pub fn random_patches(patches: usize, kept: usize, rng: &mut impl Rng) -> Vec<u32> {
    let mut indices: Vec<u32> = (0..patches as u32).collect();
    indices.shuffle(rng);
    indices.truncate(kept);
    indices
}

/// `kept` patches of a view `[3, side, side]`, drawn without replacement with probabilities proportional to their contrast
/// (Efraimidis and Spirakis, 2006). Flat patches keep a small chance, so that a view of one colour is masked at random.
pub fn contrasting_patches(
    view: &[f32],
    side: usize,
    patch: usize,
    kept: usize,
    rng: &mut impl Rng,
) -> Vec<u32> {
    let grid = side / patch;
    let mut keyed: Vec<(f64, u32)> = (0..grid * grid)
        .map(|index| {
            let weight = contrast(view, side, patch, (index / grid, index % grid)) + LEAST_CONTRAST;
            ((1.0 - rng.random::<f64>()).ln() / weight, index as u32)
        })
        .collect();
    keyed.sort_by(|one, other| other.0.total_cmp(&one.0));
    keyed.into_iter().take(kept).map(|(_, index)| index).collect()
}

/// Contrast of a flat patch, in standard deviations of ImageNet's pixels.
const LEAST_CONTRAST: f64 = 0.02;

/// Standard deviation of a patch's pixels, over its channels' own means.
fn contrast(view: &[f32], side: usize, patch: usize, (row, column): (usize, usize)) -> f64 {
    let count = (patch * patch) as f64;
    let channels = view.chunks_exact(side * side).map(|plane| {
        let (mut sum, mut squares) = (0.0, 0.0);
        for line in plane.chunks_exact(side).skip(row * patch).take(patch) {
            for &value in &line[column * patch..(column + 1) * patch] {
                sum += f64::from(value);
                squares += f64::from(value).powi(2);
            }
        }
        (squares / count - (sum / count).powi(2)).max(0.0)
    });
    (channels.sum::<f64>() / 3.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn counts_are_the_papers() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (patches, drop, kept) in
            [(196, 0.15, 166), (196, 0.3, 137), (196, 0.5, 98), (3136, 0.7, 940), (1024, 0.7, 307)]
        {
            assert_eq!(kept_patches(patches, drop), kept, "{patches} at {drop}");
            let mut indices = random_patches(patches, kept, &mut rng);
            indices.sort_unstable();
            indices.dedup();
            assert_eq!(indices.len(), kept);
            assert!(indices.iter().all(|index| (*index as usize) < patches));
        }
        assert_eq!(kept_patches(4, 0.99), 1);
    }

    #[test]
    fn contrast_decides_what_stays() {
        // Sixteen patches of 2×2, of which the first row of four is a chessboard and the rest flat.
        let side = 8;
        let value = |index: usize| {
            let (row, column) = (index / side % side, index % side);
            if row < 2 && (row + column) % 2 == 0 { 1.0 } else { 0.0 }
        };
        let view: Vec<f32> = (0..3 * side * side).map(value).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut stays = [0_u32; 16];
        for _ in 0..500 {
            let mut kept = contrasting_patches(&view, side, 2, 6, &mut rng);
            for &index in &kept {
                stays[index as usize] += 1;
            }
            kept.sort_unstable();
            kept.dedup();
            assert_eq!(kept.len(), 6);
        }
        assert!(stays[..4].iter().all(|&count| count > 450), "{stays:?}");
        // The other two places go to the flat patches alike: 2/12 of 500 is 83.
        assert!(stays[4..].iter().all(|&count| (50..130).contains(&count)), "{stays:?}");
    }
}
