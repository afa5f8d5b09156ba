//! Stochastic depth: whole branches of a block are left out, image by image (arXiv 1603.09382).
//!
//! Only the anchor network drops branches: the target is what it should agree with. (The published code would drop them in
//! both, but none of its configurations turns it on.)

use candle_core::{Device, Result, Tensor};
use rand::Rng;

/// Factors `[depth, 2, rows]` of the attention and MLP branches: 0 for those left out, 1/(1 − rate) for the others. The
/// rate grows linearly from 0 in the first block to `rate` in the last.
pub(crate) fn branch_scales(
    depth: usize,
    rows: usize,
    rate: f64,
    rng: &mut impl Rng,
    device: &Device,
) -> Result<Tensor> {
    let mut scales = Vec::with_capacity(depth * 2 * rows);
    for block in 0..depth {
        let keep = 1.0 - rate * block as f64 / (depth - 1).max(1) as f64;
        scales.extend((0..2 * rows).map(|_| if rng.random_bool(keep) { (1.0 / keep) as f32 } else { 0.0 }));
    }
    Tensor::from_vec(scales, (depth, 2, rows), device)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn later_blocks_drop_more_and_the_mean_stays_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let scales = branch_scales(3, 4_000, 0.4, &mut rng, &Device::Cpu).unwrap().to_vec3::<f32>().unwrap();
        for (block, keep) in [1.0_f32, 0.8, 0.6].into_iter().enumerate() {
            for branch in &scales[block] {
                assert!(branch.iter().all(|scale| *scale == 0.0 || (scale - 1.0 / keep).abs() < 1e-6));
                let mean = branch.iter().sum::<f32>() / branch.len() as f32;
                assert!((mean - 1.0).abs() < 0.05, "block {block}: {mean}");
            }
        }
    }
}
