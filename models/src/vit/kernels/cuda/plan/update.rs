//! The optimiser's step; see source/update.cuh.

use super::{Launch, THREADS};

/// Elements of a block, and of one partial sum of squares.
const CHUNK: usize = 4096;
/// Numbers of the control array: norm, clip factor, and whether the run is healthy.
pub(in super::super) const CONTROL: usize = 3;

const DECAYED: u64 = 1;
const CLIPPED: u64 = 2;

/// Addresses of one trained tensor's arrays.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct UpdatedArrays {
    pub(in super::super) value: u64,
    pub(in super::super) first_moment: u64,
    pub(in super::super) second_moment: u64,
    /// 0 where there is no moving average.
    pub(in super::super) average: u64,
    pub(in super::super) gradient: u64,
    pub(in super::super) length: usize,
    pub(in super::super) decayed: bool,
    pub(in super::super) clipped: bool,
}

/// Numbers of one AdamW step, the same for all tensors.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(not(feature = "cuda"), expect(unreachable_pub, reason = "public with the operations"))]
pub struct Rates {
    /// Of the first moment.
    pub beta1: f64,
    /// Of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// Of the decayed tensors.
    pub weight_decay: f64,
    /// Of the moving average.
    pub momentum: f64,
    /// Number of the step, from 1.
    pub step: u64,
    /// Largest norm of the clipped gradients; 0 does not clip.
    pub limit: f64,
}

/// The table of tensors as the device reads it, seven words each, and the number of chunks.
pub(in super::super) fn table(tensors: &[UpdatedArrays]) -> (Vec<u64>, usize) {
    let mut words = Vec::with_capacity(7 * tensors.len());
    let mut chunks = 0;
    for tensor in tensors {
        let flags = u64::from(tensor.decayed) * DECAYED + u64::from(tensor.clipped) * CLIPPED;
        words.extend([
            tensor.value,
            tensor.first_moment,
            tensor.second_moment,
            tensor.average,
            tensor.gradient,
            tensor.length as u64,
            // Two 32-bit fields; CUDA devices are little-endian, as every host they are built for.
            chunks as u64 | flags << 32,
        ]);
        chunks += tensor.length.div_ceil(CHUNK);
    }
    (words, chunks)
}

/// Norms of the gradients `[count]` and the control array, then the update. `arrays` are the table, a scratch array
/// `[chunks]`, the loss (one number), the norms and the control array.
pub(in super::super) fn update(
    count: usize,
    chunks: usize,
    [table, squares, loss, norms, control]: [u64; 5],
    rates: &Rates,
) -> [Launch; 3] {
    let Rates { beta1, beta2, eps, learning_rate, weight_decay, momentum, step, limit } = *rates;
    let bias = |beta: f64| 1.0 - beta.powf(step as f64);
    let numbers = [
        beta1,
        1.0 - beta1,
        beta2,
        1.0 - beta2,
        eps,
        1.0 - learning_rate * weight_decay,
        learning_rate / bias(beta1),
        bias(beta2).sqrt(),
        momentum,
        1.0 - momentum,
    ];
    [
        Launch::new("gradient_squares".into(), [chunks, 1, 1], THREADS)
            .addresses([table])
            .ints([count])
            .addresses([squares]),
        Launch::new("gradient_control".into(), [1, 1, 1], THREADS)
            .addresses([table])
            .ints([count])
            .addresses([squares])
            .ints([chunks])
            .addresses([loss])
            .floats([limit as f32])
            .addresses([norms, control]),
        Launch::new("adamw".into(), [chunks, 1, 1], THREADS)
            .addresses([table])
            .ints([count])
            .addresses([control])
            .floats(numbers.map(|number| number as f32)),
    ]
}
