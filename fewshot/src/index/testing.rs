//! Vectors for the tests.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::vector::unit;

/// Unit vectors around random centres, as embeddings of classes lie; a centre per hundred.
pub(super) fn clustered(count: usize, dimensions: usize, seed: u64) -> Vec<Vec<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut gaussian = move |spread: f32| -> Vec<f32> {
        let uniform_sum = |rng: &mut ChaCha8Rng| (0..12).map(|_| rng.random::<f32>()).sum::<f32>() - 6.0;
        (0..dimensions).map(|_| spread * uniform_sum(&mut rng)).collect()
    };
    let centres: Vec<_> = (0..count.div_ceil(100)).map(|_| gaussian(1.0)).collect();
    (0..count)
        .map(|i| {
            let noise = gaussian(0.7);
            let vector: Vec<f32> =
                centres[i % centres.len()].iter().zip(&noise).map(|(c, n)| c + n).collect();
            unit(&vector, dimensions).unwrap()
        })
        .collect()
}
