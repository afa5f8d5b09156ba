//! Multi-head self-attention on packed `[q | k | v]` rows, without transposing or splitting them.
//!
//! One image and head at a time: its T×T probabilities live in the cache and are computed again in the backward
//! pass, which for the few hundred tokens of an image costs less than keeping them. Where only the first tokens' output
//! is asked for, the matrices have only those rows.

use super::buffers::Buffer;
use super::matrix::{Matrix, MatrixMut, multiply};
use super::partition::ROWS_PER_CHUNK;
use super::storage::{output, slice, tensor, with_slices};
use super::vector::{self, vectorized};
use candle_core::{CpuStorage, CustomOp1, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

/// `[B, T, 3·D]` to `[B, Q, D]`, Q of the T tokens asking.
#[derive(Clone, Copy)]
pub(super) struct Attention {
    pub(super) tokens: usize,
    /// Leading tokens whose output is asked for; the others are attended to only.
    pub(super) queries: usize,
    /// D, over all heads.
    pub(super) width: usize,
    pub(super) heads: usize,
}

/// The Q×T matrices of one image and head.
pub(super) struct Scratch {
    probabilities: Buffer,
    gradients: Buffer,
}

impl CustomOp1 for Attention {
    fn name(&self) -> &'static str {
        "fused-attention"
    }

    fn cpu_fwd(&self, qkv: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let qkv = slice(qkv, layout)?;
        let images = layout.dims()[0];
        let mut out = vec![0.0; images * self.queries * self.width];
        let span = self.images_per_chunk() * self.width;
        out.par_chunks_mut(span * self.queries)
            .zip(qkv.par_chunks(3 * span * self.tokens))
            .for_each_init(|| self.scratch(), |scratch, (out, qkv)| self.forward(out, qkv, scratch));
        Ok(output(out, (images, self.queries, self.width)))
    }

    fn bwd(&self, qkv: &Tensor, _out: &Tensor, out_gradient: &Tensor) -> Result<Option<Tensor>> {
        let out_gradient = out_gradient.contiguous()?;
        let qkv_gradient = with_slices([qkv, &out_gradient], |[qkv, out_gradient]| {
            let mut qkv_gradient = vec![0.0; qkv.len()];
            let span = self.images_per_chunk() * self.width;
            let packed = 3 * span * self.tokens;
            (
                qkv_gradient.par_chunks_mut(packed),
                qkv.par_chunks(packed),
                out_gradient.par_chunks(span * self.queries),
            )
                .into_par_iter()
                .for_each_init(
                    || self.scratch(),
                    |scratch, (qkv_gradient, qkv, out_gradient)| {
                        self.backward(qkv_gradient, qkv, out_gradient, scratch);
                    },
                );
            qkv_gradient
        })?;
        Ok(Some(tensor(qkv_gradient, qkv.shape())?))
    }
}

impl Attention {
    pub(super) fn scratch(&self) -> Scratch {
        let scores = self.queries * self.tokens;
        Scratch { probabilities: Buffer::new(scores), gradients: Buffer::new(scores) }
    }

    /// Whole images that make up one chunk of work.
    pub(super) fn images_per_chunk(&self) -> usize {
        (ROWS_PER_CHUNK / self.tokens).max(1)
    }

    /// Attends within each image of `qkv` `[images, T, 3·D]`; writes `out` `[images, Q, D]`.
    pub(super) fn forward(&self, out: &mut [f32], qkv: &[f32], scratch: &mut Scratch) {
        let (asking, packed) = (self.queries * self.width, 3 * self.tokens * self.width);
        for (out, qkv) in out.chunks_exact_mut(asking).zip(qkv.chunks_exact(packed)) {
            for head in 0..self.heads {
                self.probabilities(&mut scratch.probabilities, qkv, head);
                let probabilities = Matrix::packed(&scratch.probabilities, self.tokens);
                multiply(self.head_mut(out, head), 1.0, probabilities, self.part(qkv, 2, head));
            }
        }
    }

    /// Writes the gradient of `qkv` given that of the output.
    pub(super) fn backward(
        &self,
        qkv_gradient: &mut [f32],
        qkv: &[f32],
        out_gradient: &[f32],
        scratch: &mut Scratch,
    ) {
        let (asking, packed) = (self.queries * self.width, 3 * self.tokens * self.width);
        let images = qkv_gradient.chunks_exact_mut(packed).zip(qkv.chunks_exact(packed));
        for ((qkv_gradient, qkv), out_gradient) in images.zip(out_gradient.chunks_exact(asking)) {
            for row in qkv_gradient.chunks_exact_mut(3 * self.width).skip(self.queries) {
                row[..self.width].fill(0.0);
            }
            for head in 0..self.heads {
                self.backward_head(qkv_gradient, qkv, out_gradient, head, scratch);
            }
        }
    }

    fn backward_head(
        &self,
        qkv_gradient: &mut [f32],
        qkv: &[f32],
        out_gradient: &[f32],
        head: usize,
        scratch: &mut Scratch,
    ) {
        let [q, k, v] = [0, 1, 2].map(|part| self.part(qkv, part, head));
        let out_gradient = self.head(out_gradient, head);
        self.probabilities(&mut scratch.probabilities, qkv, head);
        let probabilities = Matrix::packed(&scratch.probabilities, self.tokens);
        multiply(self.part_mut(qkv_gradient, 2, head), 1.0, probabilities.transposed(), out_gradient);

        multiply(MatrixMut::packed(&mut scratch.gradients, self.tokens), 1.0, out_gradient, v.transposed());
        softmax_backward(&mut scratch.gradients, &scratch.probabilities, self.tokens);
        let scores_gradient = Matrix::packed(&scratch.gradients, self.tokens);
        multiply(self.part_mut(qkv_gradient, 0, head), self.scale(), scores_gradient, k);
        multiply(self.part_mut(qkv_gradient, 1, head), self.scale(), scores_gradient.transposed(), q);
    }

    /// softmax(q·kᵀ/√d) of one head of one image.
    fn probabilities(&self, probabilities: &mut [f32], qkv: &[f32], head: usize) {
        let (q, k) = (self.part(qkv, 0, head), self.part(qkv, 1, head));
        multiply(MatrixMut::packed(probabilities, self.tokens), self.scale(), q, k.transposed());
        softmax(probabilities, self.tokens);
    }

    fn head_width(&self) -> usize {
        self.width / self.heads
    }

    fn scale(&self) -> f32 {
        1.0 / (self.head_width() as f32).sqrt()
    }

    /// Rows of q, k or v that take part.
    fn rows(&self, part: usize) -> usize {
        if part == 0 { self.queries } else { self.tokens }
    }

    /// q, k or v (`part` 0, 1, 2) of one head: `[Q or T, D/heads]`.
    fn part<'a>(&self, qkv: &'a [f32], part: usize, head: usize) -> Matrix<'a> {
        let offset = part * self.width + head * self.head_width();
        Matrix::strided(&qkv[offset..], self.rows(part), self.head_width(), 3 * self.width)
    }

    fn part_mut<'a>(&self, qkv: &'a mut [f32], part: usize, head: usize) -> MatrixMut<'a> {
        let offset = part * self.width + head * self.head_width();
        MatrixMut::strided(&mut qkv[offset..], self.rows(part), self.head_width(), 3 * self.width)
    }

    fn head<'a>(&self, rows: &'a [f32], head: usize) -> Matrix<'a> {
        let offset = head * self.head_width();
        Matrix::strided(&rows[offset..], self.queries, self.head_width(), self.width)
    }

    fn head_mut<'a>(&self, rows: &'a mut [f32], head: usize) -> MatrixMut<'a> {
        let offset = head * self.head_width();
        MatrixMut::strided(&mut rows[offset..], self.queries, self.head_width(), self.width)
    }
}

/// Softmax of each row, in place.
fn softmax(rows: &mut [f32], width: usize) {
    vectorized(
        #[inline(always)]
        || {
            for row in rows.chunks_exact_mut(width) {
                let max = vector::max(row);
                for value in row.iter_mut() {
                    *value = vector::exp(*value - max);
                }
                let scale = 1.0
                    / vector::sum(
                        row,
                        #[inline(always)]
                        |value| value,
                    );
                for value in row.iter_mut() {
                    *value *= scale;
                }
            }
        },
    );
}

/// The gradient of the scores from that of the probabilities p, in place: p ⊙ (dp − Σ p ⊙ dp) per row.
fn softmax_backward(gradients: &mut [f32], probabilities: &[f32], width: usize) {
    vectorized(
        #[inline(always)]
        || {
            for (gradients, probabilities) in
                gradients.chunks_exact_mut(width).zip(probabilities.chunks_exact(width))
            {
                let mean = vector::dot(gradients, probabilities);
                for (gradient, &probability) in gradients.iter_mut().zip(probabilities) {
                    *gradient = probability * (*gradient - mean);
                }
            }
        },
    );
}
