//! Initial values, from a generator of our own: the same seed gives the same network on every device.
//!
//! The paper's code draws every weight from N(0, 0.02²). That suits a width of 384 and more, where it is close to
//! Xavier's rule, and runs of hundreds of epochs. At a width of 128 it makes the blocks nearly the identity, and position
//! embeddings of 0.02 beside patch embeddings of about 1 make the network blind to where things are until they have
//! grown. So the weights follow Xavier's rule and the position embeddings start from sines and cosines, as in MoCo v3
//! (arXiv 2104.02057) and MAE (arXiv 2111.06377); all of them are learned from there.

use crate::random::normal;
use rand::Rng;
use rand_chacha::ChaCha8Rng;

/// Standard deviation of the CLS token.
const CLS_DEVIATION: f64 = 0.02;

/// Longest wavelength of the position embeddings, in patches, over 2π.
const LONGEST_WAVE: f64 = 10_000.0;

/// Values of an encoder parameter: norms are the identity, biases 0, weights Xavier-uniform over their flattened inputs,
/// position embeddings two-dimensional sines and cosines.
pub(super) fn parameter(name: &str, shape: &[usize], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let count: usize = shape.iter().product();
    match name {
        "pos_embed" => positions(shape[1], shape[2]),
        "cls_token" => (0..count).map(|_| CLS_DEVIATION * normal(rng)).collect(),
        _ if name.ends_with("bias") => vec![0.0; count],
        _ if shape.len() == 1 => vec![1.0; count],
        _ => {
            // The three projections of an attention layer share one matrix; each is a square layer of its own.
            let outputs = if name.ends_with("qkv.weight") { shape[0] / 3 } else { shape[0] };
            uniform(count, (6.0 / (count / shape[0] + outputs) as f64).sqrt(), rng)
        }
    }
}

/// Values of `[K, d]` prototypes: uniform in ±1/√d.
pub(super) fn prototypes(count: usize, width: usize, rng: &mut ChaCha8Rng) -> Vec<f64> {
    uniform(count * width, 1.0 / (width as f64).sqrt(), rng)
}

/// `[1 + g², D]`: zeros for CLS, then row by row of the grid a quarter each of sin and cos of the column, sin and cos of the
/// row, with wavelengths in geometric progression.
fn positions(count: usize, width: usize) -> Vec<f64> {
    let side = (count - 1).isqrt();
    let waves = width / 4;
    let mut values = vec![0.0; width];
    for patch in 0..count - 1 {
        let mut embedding = vec![0.0; width];
        for wave in 0..waves {
            let frequency = LONGEST_WAVE.powf(-(wave as f64) / waves as f64);
            let (column, row) = ((patch % side) as f64 * frequency, (patch / side) as f64 * frequency);
            for (quarter, value) in [column.sin(), column.cos(), row.sin(), row.cos()].into_iter().enumerate()
            {
                embedding[quarter * waves + wave] = value;
            }
        }
        values.append(&mut embedding);
    }
    values
}

fn uniform(count: usize, bound: f64, rng: &mut ChaCha8Rng) -> Vec<f64> {
    (0..count).map(|_| rng.random_range(-bound..bound)).collect()
}
