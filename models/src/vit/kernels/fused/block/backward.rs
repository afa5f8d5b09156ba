//! The block's backward pass, in two phases: chunk by chunk the gradients that flow through the block, then the weights'
//! gradients, each thread summing its rows of them over all chunks.
//!
//! One pass with partial sums of the weights' gradients would clear, fill and add as many copies of the weights as there
//! are sums: gigabytes per step of a ViT-S. The price is to hold what the second phase multiplies (14·D values per row),
//! which [`ROWS_PER_SEGMENT`] bounds.

use super::super::linear::{OUTPUTS_PER_TASK, accumulate_weight};
use super::super::partition::sum_in_order;
use super::{
    Block, Buffer, LaidOut, PARAMETERS, Scratch, Weights, gelu, layer_norm, split, split_mut, vector,
};
use rayon::prelude::*;

/// Rows of x whose gradients are held at a time.
const ROWS_PER_SEGMENT: usize = 8192;

/// One chunk's way through the first phase.
struct Chunk<'a> {
    x_gradient: &'a mut [f32],
    flow: &'a mut [f32],
    x: &'a [f32],
    y_gradient: &'a [f32],
    kept: &'a [f32],
}

impl Block {
    /// The gradients of x and of the concatenated parameters.
    pub(super) fn backward(
        &self,
        x: &[f32],
        parameters: &[f32],
        y_gradient: &[f32],
        kept: &[f32],
    ) -> (Vec<f32>, Vec<f32>) {
        let parameters = split(parameters, self.sizes());
        let weights = self.weights(&parameters, LaidOut::stored);
        let mut x_gradient = vec![0.0; x.len()];
        let mut gradients = vec![0.0; self.sizes().into_iter().sum()];
        let chunk = self.attention.images_per_chunk();
        let chunks_per_segment = (ROWS_PER_SEGMENT / (chunk * self.attention.tokens)).max(1);
        let segment = self.images(x).min(chunks_per_segment * chunk);
        let mut flow = Buffer::new(segment * self.flow_per_image());
        let segments = x_gradient.chunks_mut(segment * self.given()).zip(x.chunks(segment * self.given()));
        let segments = segments.zip(y_gradient.chunks(segment * self.asked()));
        let mut vectors = Vec::new();
        for (((x_gradient, x), y_gradient), kept) in
            segments.zip(kept.chunks(segment * self.kept_per_image()))
        {
            let flow = &mut flow[..self.images(x) * self.flow_per_image()];
            let chunks = (
                x_gradient.par_chunks_mut(chunk * self.given()),
                flow.par_chunks_mut(chunk * self.flow_per_image()),
                x.par_chunks(chunk * self.given()),
                y_gradient.par_chunks(chunk * self.asked()),
                kept.par_chunks(chunk * self.kept_per_image()),
            );
            vectors.par_extend(chunks.into_par_iter().map_init(
                || self.scratch(),
                |scratch, (x_gradient, flow, x, y_gradient, kept)| {
                    let chunk = Chunk { x_gradient, flow, x, y_gradient, kept };
                    self.flow_through_chunk(chunk, &parameters, &weights, scratch)
                },
            ));
            self.accumulate_weights(&mut gradients, flow, y_gradient, kept);
        }
        self.place_vectors(&mut gradients, &sum_in_order(vectors));
        (x_gradient, gradients)
    }

    fn flow_per_image(&self) -> usize {
        self.flow_sizes(1).into_iter().sum()
    }

    /// Elements of what the second phase multiplies: the gradient of fc1's output, GELU's output, norm2's output, the
    /// gradient of m, that of qkv, and norm1's output.
    fn flow_sizes(&self, images: usize) -> [usize; 6] {
        let (given, asked) = (images * self.given(), images * self.asked());
        let hidden = images * self.attention.queries * self.hidden;
        [hidden, hidden, asked, asked, 3 * given, given]
    }

    /// Lengths of the gradients of vectors: norm1's two, qkv's bias, proj's bias, norm2's two, fc1's and fc2's bias.
    fn vector_sizes(&self) -> [usize; 8] {
        let width = self.width();
        [width, width, 3 * width, width, width, width, self.hidden, width]
    }

    /// Writes x's gradient and what the second phase multiplies; returns the gradients of vectors.
    fn flow_through_chunk(
        &self,
        chunk: Chunk,
        parameters: &[&[f32]; PARAMETERS],
        weights: &Weights,
        scratch: &mut Scratch,
    ) -> Vec<f32> {
        let Chunk { x_gradient, flow, x, y_gradient, kept } = chunk;
        let images = self.images(x);
        let [norm1, norm1_bias, _, _, _, _, norm2, norm2_bias, ..] = *parameters;
        let [middle, qkv_rows, _, hidden] = split(kept, self.kept_sizes(images));
        let [hidden_gradient, activated, normalised2, middle_gradient, qkv_gradient, normalised1] =
            split_mut(flow, self.flow_sizes(images));
        let mut vectors = vec![0.0; self.vector_sizes().into_iter().sum()];
        let [d_norm1, d_norm1_bias, d_qkv_bias, d_proj_bias, d_norm2, d_norm2_bias, d_fc1_bias, d_fc2_bias] =
            split_mut(&mut vectors, self.vector_sizes());

        weights.fc2.multiply(hidden_gradient, y_gradient);
        gelu::recompute_and_backward(activated, hidden_gradient, hidden);
        vector::add_row_sums(d_fc2_bias, y_gradient);
        vector::add_row_sums(d_fc1_bias, hidden_gradient);
        layer_norm::forward(normalised2, middle, norm2, norm2_bias, self.eps);
        let branch = &mut scratch.normalised[..middle.len()];
        weights.fc1.multiply(branch, hidden_gradient);
        middle_gradient.copy_from_slice(y_gradient);
        layer_norm::backward(middle_gradient, d_norm2, d_norm2_bias, middle, norm2, branch, self.eps);

        vector::add_row_sums(d_proj_bias, middle_gradient);
        weights.proj.multiply(branch, middle_gradient);
        self.attention.backward(qkv_gradient, qkv_rows, branch, &mut scratch.attention);
        vector::add_row_sums(d_qkv_bias, qkv_gradient);
        layer_norm::forward(normalised1, x, norm1, norm1_bias, self.eps);
        let branch = &mut scratch.normalised[..x.len()];
        weights.qkv.multiply(branch, qkv_gradient);
        let residual = middle_gradient.chunks_exact(self.asked());
        for (x_gradient, middle_gradient) in x_gradient.chunks_exact_mut(self.given()).zip(residual) {
            x_gradient[..self.asked()].copy_from_slice(middle_gradient);
        }
        layer_norm::backward(x_gradient, d_norm1, d_norm1_bias, x, norm1, branch, self.eps);
        vectors
    }

    /// Adds the weights' gradients of one segment.
    fn accumulate_weights(&self, gradients: &mut [f32], flow: &[f32], y_gradient: &[f32], kept: &[f32]) {
        let chunk = self.attention.images_per_chunk();
        let chunks = flow
            .chunks(chunk * self.flow_per_image())
            .zip(kept.chunks(chunk * self.kept_per_image()))
            .zip(y_gradient.chunks(chunk * self.asked()));
        // Per chunk, the gradient of each linear map's output and its input, in the order of the maps.
        let factors: Vec<[(&[f32], &[f32]); 4]> = chunks
            .map(|((flow, kept), y_gradient)| {
                let images = y_gradient.len() / self.asked();
                let [hidden_gradient, activated, normalised2, middle_gradient, qkv_gradient, normalised1] =
                    split(flow, self.flow_sizes(images));
                let [_, _, attended, _] = split(kept, self.kept_sizes(images));
                [
                    (qkv_gradient, normalised1),
                    (middle_gradient, attended),
                    (hidden_gradient, normalised2),
                    (y_gradient, activated),
                ]
            })
            .collect();
        let [_, _, qkv, _, proj, _, _, _, fc1, _, fc2, _] = split_mut(gradients, self.sizes());
        let mut tasks = Vec::new();
        let widths = [self.width(), self.width(), self.width(), self.hidden];
        for (map, (gradient, width)) in [qkv, proj, fc1, fc2].into_iter().zip(widths).enumerate() {
            let out = gradient.len() / width;
            for (part, gradient) in gradient.chunks_mut(OUTPUTS_PER_TASK * width).enumerate() {
                tasks.push((map, gradient, part * OUTPUTS_PER_TASK, [out, width]));
            }
        }
        tasks.into_par_iter().with_max_len(1).for_each(|(map, gradient, first_output, shape)| {
            for factors in &factors {
                let (y_gradient, x) = factors[map];
                accumulate_weight(gradient, y_gradient, x, first_output, shape);
            }
        });
    }

    /// Copies the gradients of vectors to their places among those of all parameters.
    fn place_vectors(&self, gradients: &mut [f32], vectors: &[f32]) {
        let [norm1, norm1_bias, _, qkv_bias, _, proj_bias, norm2, norm2_bias, _, fc1_bias, _, fc2_bias] =
            split_mut(gradients, self.sizes());
        let places = [norm1, norm1_bias, qkv_bias, proj_bias, norm2, norm2_bias, fc1_bias, fc2_bias];
        for (place, values) in places.into_iter().zip(split(vectors, self.vector_sizes())) {
            place.copy_from_slice(values);
        }
    }
}
