//! How work is cut into pieces. The cuts depend on shapes alone, never on the number of threads or on timing, and
//! partial sums are added in the order of the pieces: a training run repeats bit for bit on one machine.

use super::vector;
use rayon::prelude::*;

/// Rows (tokens) whose activations one thread works on at a time: few enough to stay in its second-level cache at the
/// widths trained on CPUs, enough to keep matrix products near their peak.
pub(super) const ROWS_PER_CHUNK: usize = 192;

/// Most partial sums a reduction keeps: bounds the parallelism of a backward pass.
const MOST_GROUPS: usize = 16;

/// Elements that all partial sums of one reduction may take together.
const ACCUMULATOR_ELEMENTS: usize = 1 << 26;

/// Chunks per group, for reductions that keep one partial sum of `accumulator` elements per group of chunks.
pub(super) fn chunks_per_group(chunks: usize, accumulator: usize) -> usize {
    let groups = (ACCUMULATOR_ELEMENTS / accumulator.max(1)).clamp(2, MOST_GROUPS);
    chunks.div_ceil(groups).max(1)
}

/// The sum of equally long vectors, added from first to last.
pub(super) fn sum_in_order(partial_sums: Vec<Vec<f32>>) -> Vec<f32> {
    /// Elements per task; a cut between elements changes no sum.
    const SPAN: usize = 8192;
    let mut partial_sums = partial_sums.into_iter();
    let mut total = partial_sums.next().unwrap_or_default();
    let rest: Vec<_> = partial_sums.collect();
    total.par_chunks_mut(SPAN).enumerate().for_each(|(span, total)| {
        for partial_sum in &rest {
            vector::add(total, &partial_sum[span * SPAN..][..total.len()]);
        }
    });
    total
}
