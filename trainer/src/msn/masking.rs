//! Which patches of a masked view stay.

use rand::Rng;
use rand::seq::SliceRandom;

/// Indices of ⌊N·(1 − drop)⌋ of `patches` patches, at least one, chosen at random: one list for a whole batch, as the
/// paper's code has it.
pub fn keep_indices(patches: usize, drop: f64, rng: &mut impl Rng) -> Vec<u32> {
    let kept = ((patches as f64 * (1.0 - drop)).floor() as usize).clamp(1, patches);
    let mut indices: Vec<u32> = (0..patches as u32).collect();
    indices.shuffle(rng);
    indices.truncate(kept);
    indices
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
            let mut indices = keep_indices(patches, drop, &mut rng);
            assert_eq!(indices.len(), kept, "{patches} at {drop}");
            indices.sort_unstable();
            indices.dedup();
            assert_eq!(indices.len(), kept);
            assert!(indices.iter().all(|index| (*index as usize) < patches));
        }
        assert_eq!(keep_indices(4, 0.99, &mut rng).len(), 1);
    }
}
