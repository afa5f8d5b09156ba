//! A whole pre-norm transformer block as one operation:
//! `m = x + proj(attention(qkv(norm1(x))))`, `y = m + fc2(gelu(fc1(norm2(m))))`.
//!
//! Each thread takes a few images through the block while their activations are in its cache, instead of passing the
//! whole batch through memory once per operation; and candle's backward pass adds one gradient per block to a zeroed
//! tensor instead of ten. Kept for the backward pass, per row: m, qkv, the attention's output and fc1's output (9·D
//! values for the usual MLP of 4·D); what follows from them without a matrix product is computed again.
//!
//! Where only the leading tokens' output is asked for (the last block of a network that reads its CLS token), the other
//! tokens only serve as keys and values: their rows of m, the attention's output, the MLP and y do not exist.

mod backward;

use super::attention::{Attention, Scratch as AttentionScratch};
use super::buffers::Buffer;
use super::laid_out::LaidOut;
use super::storage::{output, slice, tensor, with_slices};
use super::{gelu, layer_norm, vector};
use candle_core::{CpuStorage, CustomOp2, Layout, Result, Shape, Tensor};
use rayon::prelude::*;
use std::sync::OnceLock;

/// Parameters per block: weight and bias of norm1, qkv, proj, norm2, fc1, fc2, in this order.
pub(super) const PARAMETERS: usize = 12;

/// `x` `[B, T, D]` and the block's parameters, flattened and concatenated, to `y` `[B, Q, D]`.
pub(super) struct Block {
    /// Its queries are the leading tokens whose output is asked for.
    pub(super) attention: Attention,
    /// Hidden width F of the MLP.
    pub(super) hidden: usize,
    pub(super) eps: f32,
    /// Whether the forward pass keeps its activations; a backward pass without them computes them again.
    pub(super) keep_activations: bool,
    /// What the forward pass keeps, chunk after chunk (see [`Block::kept_sizes`]).
    pub(super) kept: OnceLock<Buffer>,
}

/// Working memory of one thread, for one chunk.
struct Scratch {
    attention: AttentionScratch,
    /// A LayerNorm's output, `[rows, D]`.
    normalised: Buffer,
    /// After GELU, `[asked rows, F]`.
    hidden: Buffer,
}

/// The weights of the four linear maps, laid out for one direction.
struct Weights {
    qkv: LaidOut,
    proj: LaidOut,
    fc1: LaidOut,
    fc2: LaidOut,
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
        let parameters = slice(parameters, parameters_layout)?;
        let images = self.images(x);
        let mut y = vec![0.0; images * self.asked()];
        if self.keep_activations {
            let kept = self.activations(x, parameters, Some(&mut y));
            self.kept.get_or_init(|| kept);
        } else {
            self.forward(&mut y, x, parameters);
        }
        Ok(output(y, (images, self.attention.queries, self.width())))
    }

    fn bwd(
        &self,
        x: &Tensor,
        parameters: &Tensor,
        _y: &Tensor,
        y_gradient: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let y_gradient = y_gradient.contiguous()?;
        let (x_gradient, parameter_gradients) =
            with_slices([x, parameters, &y_gradient], |[x, parameters, y_gradient]| {
                if let Some(kept) = self.kept.get() {
                    return self.backward(x, parameters, y_gradient, kept);
                }
                let kept = self.activations(x, parameters, None);
                self.backward(x, parameters, y_gradient, &kept)
            })?;
        Ok((Some(tensor(x_gradient, x.shape())?), Some(tensor(parameter_gradients, parameters.shape())?)))
    }
}

impl Block {
    fn width(&self) -> usize {
        self.attention.width
    }

    fn images(&self, x: &[f32]) -> usize {
        x.len() / self.given()
    }

    /// Elements of one image of x.
    fn given(&self) -> usize {
        self.attention.tokens * self.width()
    }

    /// Elements of one image of y.
    fn asked(&self) -> usize {
        self.attention.queries * self.width()
    }

    fn kept_per_image(&self) -> usize {
        self.kept_sizes(1).into_iter().sum()
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
    fn kept_sizes(&self, images: usize) -> [usize; 4] {
        let (given, asked) = (images * self.given(), images * self.asked());
        [asked, 3 * given, asked, images * self.attention.queries * self.hidden]
    }

    /// The weights laid out by `pack`, which is given each weight and the width of its inputs.
    fn weights(&self, parameters: &[&[f32]; PARAMETERS], pack: fn(&[f32], usize) -> LaidOut) -> Weights {
        let [_, _, qkv, _, proj, _, _, _, fc1, _, fc2, _] = *parameters;
        let width = self.width();
        let (qkv, proj) = (pack(qkv, width), pack(proj, width));
        Weights { qkv, proj, fc1: pack(fc1, width), fc2: pack(fc2, self.hidden) }
    }

    fn scratch(&self) -> Scratch {
        let images = self.attention.images_per_chunk();
        Scratch {
            attention: self.attention.scratch(),
            normalised: Buffer::new(images * self.given()),
            hidden: Buffer::new(images * self.attention.queries * self.hidden),
        }
    }

    /// y, keeping nothing.
    fn forward(&self, y: &mut [f32], x: &[f32], parameters: &[f32]) {
        let parameters = split(parameters, self.sizes());
        let weights = self.weights(&parameters, LaidOut::transposed);
        let chunk = self.attention.images_per_chunk();
        y.par_chunks_mut(chunk * self.asked()).zip(x.par_chunks(chunk * self.given())).for_each_init(
            || (self.scratch(), Buffer::new(chunk * self.kept_per_image())),
            |(scratch, kept), (y, x)| {
                let kept = &mut kept[..self.images(x) * self.kept_per_image()];
                self.activations_of_chunk(kept, x, &parameters, &weights, scratch);
                self.output_of_chunk(y, kept, &parameters, &weights, scratch);
            },
        );
    }

    /// What a backward pass needs; y too, if there is a place for it.
    fn activations(&self, x: &[f32], parameters: &[f32], y: Option<&mut [f32]>) -> Buffer {
        let parameters = split(parameters, self.sizes());
        let weights = self.weights(&parameters, LaidOut::transposed);
        let chunk = self.attention.images_per_chunk();
        let mut kept = Buffer::new(self.images(x) * self.kept_per_image());
        let chunks =
            kept.par_chunks_mut(chunk * self.kept_per_image()).zip(x.par_chunks(chunk * self.given()));
        match y {
            Some(y) => chunks.zip(y.par_chunks_mut(chunk * self.asked())).for_each_init(
                || self.scratch(),
                |scratch, ((kept, x), y)| {
                    self.activations_of_chunk(kept, x, &parameters, &weights, scratch);
                    self.output_of_chunk(y, kept, &parameters, &weights, scratch);
                },
            ),
            None => chunks.for_each_init(
                || self.scratch(),
                |scratch, (kept, x)| self.activations_of_chunk(kept, x, &parameters, &weights, scratch),
            ),
        }
        kept
    }

    fn activations_of_chunk(
        &self,
        kept: &mut [f32],
        x: &[f32],
        parameters: &[&[f32]; PARAMETERS],
        weights: &Weights,
        scratch: &mut Scratch,
    ) {
        let [norm1, norm1_bias, _, qkv_bias, _, proj_bias, norm2, norm2_bias, _, fc1_bias, ..] = *parameters;
        let [middle, qkv, attended, hidden] = split_mut(kept, self.kept_sizes(self.images(x)));

        let normalised = &mut scratch.normalised[..x.len()];
        layer_norm::forward(normalised, x, norm1, norm1_bias, self.eps);
        weights.qkv.multiply_onto_bias(qkv, normalised, qkv_bias);
        self.attention.forward(attended, qkv, &mut scratch.attention);
        for (middle, x) in middle.chunks_exact_mut(self.asked()).zip(x.chunks_exact(self.given())) {
            vector::add_bias(middle, &x[..self.asked()], proj_bias);
        }
        weights.proj.multiply_add(middle, attended);

        let normalised = &mut scratch.normalised[..middle.len()];
        layer_norm::forward(normalised, middle, norm2, norm2_bias, self.eps);
        weights.fc1.multiply_onto_bias(hidden, normalised, fc1_bias);
    }

    fn output_of_chunk(
        &self,
        y: &mut [f32],
        kept: &[f32],
        parameters: &[&[f32]; PARAMETERS],
        weights: &Weights,
        scratch: &mut Scratch,
    ) {
        let [middle, _, _, hidden] = split(kept, self.kept_sizes(y.len() / self.asked()));
        let activated = &mut scratch.hidden[..hidden.len()];
        gelu::forward(activated, hidden);
        vector::add_bias(y, middle, parameters[PARAMETERS - 1]);
        weights.fc2.multiply_add(y, activated);
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
