//! One head's attention over one image's tokens.

use super::Precision;
use super::workspace::Scratch;
use crate::vit::kernels::fused::vector::{self, vectorized};
use crate::vit::kernels::packed::{
    Instructions, Onto, Panels, Rows, RowsMut, WordPanels, WordRows, pack, pack_transposed,
};

/// Rows of queries whose scores are in the cache at a time.
pub(super) const QUERIES: usize = 24;

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

/// Room for what a head's two products read: the keys of all tokens, their values, and some rows on the other side.
pub(super) enum Operands {
    Floats { keys: Vec<f32>, values: Vec<f32>, instructions: Instructions },
    Words { rows: WordRows, keys: WordPanels, values: WordPanels },
}

impl Operands {
    /// For heads of that width over at most so many tokens.
    pub(super) fn new(tokens: usize, width: usize, precision: Precision, instructions: Instructions) -> Self {
        if precision == Precision::F32 || !WordPanels::are_fast() {
            let room = |depth, width| vec![0.0; instructions.packed_length(depth, width)];
            return Self::Floats { keys: room(width, tokens), values: room(tokens, width), instructions };
        }
        Self::Words {
            rows: WordRows::new(QUERIES, tokens.max(width)),
            keys: WordPanels::new(width, tokens),
            values: WordPanels::new(tokens, width),
        }
    }

    /// Takes over a head's keys and values.
    fn take(&mut self, &Head { keys: of_keys, values: of_values, tokens, width, .. }: &Head<'_>) {
        match self {
            Self::Floats { keys, values, instructions } => {
                pack_transposed(keys, of_keys, [width, tokens], *instructions);
                pack(values, of_values, [tokens, width], *instructions);
            }
            Self::Words { keys, values, .. } => {
                keys.fill_transposed(of_keys, [width, tokens]);
                values.fill(of_values, [tokens, width]);
            }
        }
    }

    /// `scores = queries · keysᵀ`, `[count, tokens]`.
    fn score(&mut self, scores: &mut [f32], head: &Head<'_>, queries: Rows<'_>) {
        let &Head { tokens, width, .. } = head;
        let count = scores.len() / tokens;
        let scores = RowsMut { values: scores, stride: tokens };
        match self {
            Self::Floats { keys, instructions, .. } => {
                let keys = Panels::new(keys, [width, tokens], *instructions);
                keys.product(scores, queries, count, Onto::Nothing);
            }
            Self::Words { rows, keys, .. } => {
                rows.fill(queries, [count, width]);
                keys.product(scores, rows, count);
            }
        }
    }

    /// `out = shares · values`, `[count, width]`.
    fn mix(&mut self, out: &mut [f32], head: &Head<'_>, shares: &[f32]) {
        let &Head { tokens, width, .. } = head;
        let count = out.len() / width;
        let out = RowsMut { values: out, stride: width };
        let shares = Rows { values: shares, stride: tokens };
        match self {
            Self::Floats { values, instructions, .. } => {
                let values = Panels::new(values, [tokens, width], *instructions);
                values.product(out, shares, count, Onto::Nothing);
            }
            Self::Words { rows, values, .. } => {
                rows.fill(shares, [count, tokens]);
                values.product(out, rows, count);
            }
        }
    }
}

impl Head<'_> {
    /// Writes `[queries, width]`: softmax(q·kᵀ/√width)·v.
    pub(super) fn attend(&self, out: &mut [f32], scratch: &mut Scratch) {
        let Self { queries, tokens, width, .. } = *self;
        let Scratch { operands, scores, .. } = scratch;
        operands.take(self);
        for (number, out) in out.chunks_mut(QUERIES * width).enumerate() {
            let scores = &mut scores[..out.len() / width * tokens];
            let first = Rows { values: &queries.values[number * QUERIES * queries.stride..], ..queries };
            operands.score(scores, self, first);
            let scale = 1.0 / (width as f32).sqrt();
            let mut shares = [0.0; QUERIES];
            exponentials(scores, tokens, scale, &mut shares);
            operands.mix(out, self, scores);
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
