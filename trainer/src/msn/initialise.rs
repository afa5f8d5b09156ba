//! Initial values, from a generator of our own: the same seed gives the same network on every device.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use std::f64::consts::TAU;

/// Standard deviation of linear weights, position embeddings and the CLS token.
const STANDARD_DEVIATION: f64 = 0.02;

/// Values of an encoder parameter: norms are the identity, biases 0, the patch embedding Kaiming-normal for ReLU, everything
/// else normal with a standard deviation of 0.02.
pub(super) fn parameter(name: &str, shape: &[usize], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count: usize = shape.iter().product();
    if name.rsplit('.').next() == Some("bias") {
        vec![0.0; count]
    } else if shape.len() == 1 {
        vec![1.0; count]
    } else if name == "patch_embed.proj.weight" {
        let fan_in: usize = shape[1..].iter().product();
        normals(count, (2.0 / fan_in as f64).sqrt(), rng)
    } else {
        normals(count, STANDARD_DEVIATION, rng)
    }
}

/// Values of `[K, d]` prototypes: uniform in ±1/√d.
pub(super) fn prototypes(count: usize, width: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let bound = 1.0 / (width as f64).sqrt();
    (0..count * width).map(|_| rng.random_range(-bound..bound)).collect()
}

/// Normal deviates by the Box–Muller transform.
fn normals(count: usize, deviation: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    let mut pair = || {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * deviation;
        let angle = TAU * rng.random::<f64>();
        [radius * angle.cos(), radius * angle.sin()]
    };
    std::iter::repeat_with(&mut pair).flatten().take(count).collect()
}
