//! A whole pre-norm transformer block as one operation:
//! `m = x + proj(attention(qkv(norm1(x))))`, `y = m + fc2(gelu(fc1(norm2(m))))`.
//!
//! Each thread takes a few images through the block while their activations are in its cache, instead of passing the
//! whole batch through memory once per operation; and candle's backward pass adds one gradient per block to a zeroed
//! tensor instead of ten. Kept for the backward pass, per row: m, qkv, the attention's output and fc1's output (9·D
//! values for the usual MLP of 4·D); what follows from them without a matrix product is computed again.

use super::attention::{Attention, Scratch as AttentionScratch};
use super::matrix::{Matrix, MatrixMut, multiply, multiply_add, transpose};
use super::partition::{chunks_per_group, sum_in_order};
use super::storage::{output, slice, tensor, with_slices};
use super::{gelu, layer_norm, linear, vector};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Parameters per block: weight and bias of norm1, qkv, proj, norm2, fc1, fc2, in this order.
pub(super) const PARAMETERS: usize = 12;

/// `x` `[B, T, D]` and the block's parameters, flattened and concatenated, to `y` `[B, T, D]`.
pub(super) struct Block {
    pub(super) attention: Attention,
    /// Hidden width F of the MLP.
    pub(super) hidden: usize,
    pub(super) eps: f32,
    /// Whether a backward pass may follow.
    pub(super) keep_activations: bool,
    /// What the forward pass keeps, chunk after chunk (see [`Block::kept_sizes`]).
    pub(super) kept: OnceLock<Vec<f32>>,
}

/// What one chunk of rows brings into its backward pass.
struct Chunk<'a> {
    x: &'a [f32],
    y_gradient: &'a [f32],
    kept: &'a [f32],
}

/// Working memory of one thread, for one chunk.
struct Scratch {
    attention: AttentionScratch,
    /// A LayerNorm's output, `[rows, D]`.
    normalised: Vec<f32>,
    /// After GELU, `[rows, F]`.
    hidden: Vec<f32>,
    /// Of fc1's output, qkv and a LayerNorm's output: `[rows, F]`, `[rows, 3·D]`, `[rows, D]`. Empty when going forward.
    gradients: Vec<f32>,
}

/// The weights of the four linear maps, transposed to `[in, out]`: products of few rows need no packing then.
struct Transposed {
    qkv: Vec<f32>,
    proj: Vec<f32>,
    fc1: Vec<f32>,
    fc2: Vec<f32>,
}

impl CustomOp2 for Block {
    fn name(&self) -> &'static str {
        "fused-block"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        parameters: &CpuStorage,
        parameters_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let x = slice(x, x_layout)?;
        let parameters = split(slice(parameters, parameters_layout)?, self.sizes());
        let transposed = self.transposed(&parameters);
        let mut y = vec![0.0; x.len()];
        let span = self.rows_per_chunk() * self.width();
        let chunks = y.par_chunks_mut(span).zip(x.par_chunks(span));
        if self.keep_activations {
            let mut kept = vec![0.0; x.len() / self.width() * self.kept_per_row()];
            chunks.zip(kept.par_chunks_mut(self.rows_per_chunk() * self.kept_per_row())).for_each_init(
                || self.scratch(0),
                |scratch, ((y, x), kept)| self.forward_chunk(y, x, &parameters, &transposed, kept, scratch),
            );
            self.kept.get_or_init(|| kept);
        } else {
            chunks.for_each_init(
                || (self.scratch(0), vec![0.0; self.rows_per_chunk() * self.kept_per_row()]),
                |(scratch, kept), (y, x)| {
                    let kept = &mut kept[..x.len() / self.width() * self.kept_per_row()];
                    self.forward_chunk(y, x, &parameters, &transposed, kept, scratch);
                },
            );
        }
        Ok(output(y, x_layout.shape()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let Some(kept) = self.kept.get() else {
            candle_core::bail!("the block's forward pass kept no activations for its backward pass");
        };
        let y_gradient = y_gradient.contiguous()?;
        let (x_gradient, parameter_gradients) =
            with_slices([x, parameters, &y_gradient], |[x, parameters, y_gradient]| {
                self.backward(x, parameters, y_gradient, kept)
            })?;
        Ok((Some(tensor(x_gradient, x.shape())?), Some(tensor(parameter_gradients, parameters.shape())?)))
    }
}

impl Block {
    fn width(&self) -> usize {
        self.attention.width
    }

    fn rows_per_chunk(&self) -> usize {
        self.attention.images_per_chunk() * self.attention.tokens
    }

    fn kept_per_row(&self) -> usize {
        5 * self.width() + self.hidden
    }

    fn sizes(&self) -> [usize; PARAMETERS] {
        let (width, hidden) = (self.width(), self.hidden);
        let (norm, qkv, proj) = ([width; 2], [3 * width * width, 3 * width], [width * width, width]);
        let (fc1, fc2) = ([width * hidden, hidden], [width * hidden, width]);
        let mut sizes = [0; PARAMETERS];
        for (size, known) in sizes.iter_mut().zip([norm, qkv, proj, norm, fc1, fc2].as_flattened()) {
            *size = *known;
        }
        sizes
    }

    /// Elements of m, qkv, the attention's output and fc1's output.
    fn kept_sizes(&self, rows: usize) -> [usize; 4] {
        [rows * self.width(), 3 * rows * self.width(), rows * self.width(), rows * self.hidden]
    }

    fn transposed(&self, parameters: &[&[f32]; PARAMETERS]) -> Transposed {
        let [_, _, qkv, _, proj, _, _, _, fc1, _, fc2, _] = *parameters;
        Transposed {
            qkv: transpose(qkv, self.width()),
            proj: transpose(proj, self.width()),
            fc1: transpose(fc1, self.width()),
            fc2: transpose(fc2, self.hidden),
        }
    }

    fn scratch(&self, gradients_per_row: usize) -> Scratch {
        let rows = self.rows_per_chunk();
        Scratch {
            attention: self.attention.scratch(),
            normalised: vec![0.0; rows * self.width()],
            hidden: vec![0.0; rows * self.hidden],
            gradients: vec![0.0; rows * gradients_per_row],
        }
    }

    fn forward_chunk(
        &self,
        y: &mut [f32],
        x: &[f32],
        parameters: &[&[f32]; PARAMETERS],
        transposed: &Transposed,
        kept: &mut [f32],
        scratch: &mut Scratch,
    ) {
        let (width, hidden_width) = (self.width(), self.hidden);
        let [norm1, norm1_bias, _, qkv_bias, _, proj_bias, norm2, norm2_bias, _, fc1_bias, _, fc2_bias] =
            *parameters;
        let [middle, qkv, attended, hidden] = split_mut(kept, self.kept_sizes(x.len() / width));
        let normalised = &mut scratch.normalised[..x.len()];
        let activated = &mut scratch.hidden[..hidden.len()];

        layer_norm::forward(normalised, x, norm1, norm1_bias, self.eps);
        vector::fill_rows(qkv, qkv_bias);
        multiply_rows(qkv, normalised, &transposed.qkv, width);
        self.attention.forward(attended, qkv, &mut scratch.attention);
        vector::add_bias(middle, x, proj_bias);
        multiply_rows(middle, attended, &transposed.proj, width);

        layer_norm::forward(normalised, middle, norm2, norm2_bias, self.eps);
        vector::fill_rows(hidden, fc1_bias);
        multiply_rows(hidden, normalised, &transposed.fc1, width);
        gelu::forward(activated, hidden);
        vector::add_bias(y, middle, fc2_bias);
        multiply_rows(y, activated, &transposed.fc2, hidden_width);
    }

    /// The gradients of x and of the concatenated parameters.
    fn backward(
        &self,
        x: &[f32],
        parameters: &[f32],
        y_gradient: &[f32],
        kept: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let width = self.width();
        let rows = x.len() / width;
        let chunk = self.rows_per_chunk();
        let group = chunk * chunks_per_group(rows.div_ceil(chunk), parameters.len());
        let weights = split(parameters, self.sizes());
        let mut x_gradient = vec![0.0; x.len()];
        let partial_sums = (
            x_gradient.par_chunks_mut(group * width),
            x.par_chunks(group * width),
            y_gradient.par_chunks(group * width),
            kept.par_chunks(group * self.kept_per_row()),
        )
            .into_par_iter()
            .map(|(x_gradient, x, y_gradient, kept)| {
                let mut sums = vec![0.0; parameters.len()];
                let mut scratch = self.scratch(4 * width + self.hidden);
                let chunks = x_gradient.chunks_mut(chunk * width).zip(x.chunks(chunk * width));
                let chunks = chunks.zip(y_gradient.chunks(chunk * width));
                for (((x_gradient, x), y_gradient), kept) in
                    chunks.zip(kept.chunks(chunk * self.kept_per_row()))
                {
                    let sums = split_mut(&mut sums, self.sizes());
                    let inputs = Chunk { x, y_gradient, kept };
                    self.backward_chunk(x_gradient, sums, &inputs, &weights, &mut scratch);
                }
                sums
            })
            .collect();
        (x_gradient, sum_in_order(partial_sums))
    }

    fn backward_chunk(
        &self,
        x_gradient: &mut [f32],
        parameter_gradients: [&mut [f32]; PARAMETERS],
        inputs: &Chunk,
        parameters: &[&[f32]; PARAMETERS],
        scratch: &mut Scratch,
    ) {
        let (width, hidden_width) = (self.width(), self.hidden);
        let Chunk { x, y_gradient, kept } = *inputs;
        let rows = x.len() / width;
        let [norm1, norm1_bias, qkv, _, proj, _, norm2, norm2_bias, fc1, _, fc2, _] = *parameters;
        let [d_norm1, d_norm1_bias, d_qkv, d_qkv_bias, d_proj, d_proj_bias, d_norm2, d_norm2_bias, rest @ ..] =
            parameter_gradients;
        let [d_fc1, d_fc1_bias, d_fc2, d_fc2_bias] = rest;
        let [middle, qkv_rows, attended, hidden] = split(kept, self.kept_sizes(rows));
        let normalised = &mut scratch.normalised[..x.len()];
        let activated = &mut scratch.hidden[..hidden.len()];
        let [hidden_gradient, qkv_gradient, branch_gradient] =
            split_mut(&mut scratch.gradients, [rows * hidden_width, 3 * x.len(), x.len()]);

        // Both residual paths add up in x_gradient: first it is that of y, then of m, at last of x.
        x_gradient.copy_from_slice(y_gradient);
        backward_rows(hidden_gradient, y_gradient, fc2, hidden_width);
        gelu::recompute_and_backward(activated, hidden_gradient, hidden);
        linear::accumulate_parameters(d_fc2, d_fc2_bias, y_gradient, activated);
        layer_norm::forward(normalised, middle, norm2, norm2_bias, self.eps);
        linear::accumulate_parameters(d_fc1, d_fc1_bias, hidden_gradient, normalised);
        backward_rows(branch_gradient, hidden_gradient, fc1, width);
        layer_norm::backward(x_gradient, d_norm2, d_norm2_bias, middle, norm2, branch_gradient, self.eps);

        linear::accumulate_parameters(d_proj, d_proj_bias, x_gradient, attended);
        backward_rows(branch_gradient, x_gradient, proj, width);
        self.attention.backward(qkv_gradient, qkv_rows, branch_gradient, &mut scratch.attention);
        layer_norm::forward(normalised, x, norm1, norm1_bias, self.eps);
        linear::accumulate_parameters(d_qkv, d_qkv_bias, qkv_gradient, normalised);
        backward_rows(branch_gradient, qkv_gradient, qkv, width);
        layer_norm::backward(x_gradient, d_norm1, d_norm1_bias, x, norm1, branch_gradient, self.eps);
    }
}

/// The leading parts of a slice, of the given sizes.
fn split<const N: usize>(mut flat: &[f32], sizes: [usize; N]) -> [&[f32]; N] {
    sizes.map(|size| {
        let (part, rest) = flat.split_at(size);
        flat = rest;
        part
    })
}

/// As [`split`], mutably.
fn split_mut<const N: usize>(mut flat: &mut [f32], sizes: [usize; N]) -> [&mut [f32]; N] {
    sizes.map(|size| {
        let (part, rest) = std::mem::take(&mut flat).split_at_mut(size);
        flat = rest;
        part
    })
}

/// `y += x · weight` with `weight` transposed to `[in, out]`.
fn multiply_rows(y: &mut [f32], x: &[f32], weight: &[f32], width: usize) {
    let out = weight.len() / width;
    multiply_add(MatrixMut::packed(y, out), Matrix::packed(x, width), Matrix::packed(weight, out));
}

/// `dx = dy · weight` with `weight` `[out, in]` as stored.
fn backward_rows(x_gradient: &mut [f32], y_gradient: &[f32], weight: &[f32], width: usize) {
    let out = weight.len() / width;
    let y_gradient = Matrix::packed(y_gradient, out);
    multiply(MatrixMut::packed(x_gradient, width), 1.0, y_gradient, Matrix::packed(weight, width));
}
