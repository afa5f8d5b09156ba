//! What the generators of the `rand` crate do not draw by themselves.

use rand::Rng;
use std::f64::consts::TAU;

/// A standard normal deviate, by the Box–Muller transform.
pub(crate) fn normal(rng: &mut impl Rng) -> f64 {
    let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt();
    radius * (TAU * rng.random::<f64>()).cos()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn deviates_are_normal() {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let draws: Vec<f64> = (0..50_000).map(|_| normal(&mut rng)).collect();
        let share =
            |bound: f64| draws.iter().filter(|draw| draw.abs() < bound).count() as f64 / draws.len() as f64;
        for (bound, expected) in [(1.0, 0.6827), (2.0, 0.9545), (3.0, 0.9973)] {
            assert!((share(bound) - expected).abs() < 0.006, "{bound}: {}", share(bound));
        }
        assert!((draws.iter().sum::<f64>() / draws.len() as f64).abs() < 0.015);
    }
}
