//! One head's attention over one image's tokens.

use super::workspace::{QUERIES, Scratch};
use crate::vit::kernels::fused::vector::{self, vectorized};
use crate::vit::kernels::packed::{Instructions, Onto, Panels, Rows, RowsMut, pack, pack_transposed};

/// Queries, keys and values of one head: rows inside wider ones.
#[derive(Clone, Copy)]
pub(super) struct Head<'a> {
    pub(super) queries: Rows<'a>,
    pub(super) keys: Rows<'a>,
    pub(super) values: Rows<'a>,
    /// Keys and values.
    pub(super) tokens: usize,
    /// Width of the head.
    pub(super) width: usize,
}

impl Head<'_> {
    /// Writes `[queries, width]`: softmax(q·kᵀ/√width)·v.
    pub(super) fn attend(&self, out: &mut [f32], scratch: &mut Scratch, instructions: Instructions) {
        let Self { queries, keys, values, tokens, width } = *self;
        pack_transposed(&mut scratch.keys, keys, [width, tokens], instructions);
        pack(&mut scratch.values, values, [tokens, width], instructions);
        let keys = Panels::new(&scratch.keys, [width, tokens], instructions);
        let values = Panels::new(&scratch.values, [tokens, width], instructions);
        for (number, out) in out.chunks_mut(QUERIES * width).enumerate() {
            let rows = out.len() / width;
            let scores = &mut scratch.scores[..rows * tokens];
            let first = Rows { values: &queries.values[number * QUERIES * queries.stride..], ..queries };
            keys.product(RowsMut { values: scores, stride: tokens }, first, rows, Onto::Nothing);
            let scale = 1.0 / (width as f32).sqrt();
            let mut shares = [0.0; QUERIES];
            exponentials(scores, tokens, scale, &mut shares);
            let to = RowsMut { values: out, stride: width };
            values.product(to, Rows { values: scores, stride: tokens }, rows, Onto::Nothing);
            scale_rows(out, width, &shares);
        }
    }
}

/// Replaces each row's scores by exp(scale·(score − largest)), and writes 1 over their sum to `shares`.
fn exponentials(rows: &mut [f32], width: usize, scale: f32, shares: &mut [f32]) {
    vectorized(
        #[inline(always)]
        || {
            let scale = scale * std::f32::consts::LOG2_E;
            for (row, share) in rows.chunks_exact_mut(width).zip(shares) {
                let shift = -scale * vector::max(row);
                for value in row.iter_mut() {
                    *value = vector::exp2(value.mul_add(scale, shift));
                }
                *share = 1.0
                    / vector::sum(
                        row,
                        #[inline(always)]
                        |value| value,
                    );
            }
        },
    );
}

fn scale_rows(rows: &mut [f32], width: usize, factors: &[f32]) {
    vectorized(
        #[inline(always)]
        || {
            for (row, &factor) in rows.chunks_exact_mut(width).zip(factors) {
                for value in row {
                    *value *= factor;
                }
            }
        },
    );
}
