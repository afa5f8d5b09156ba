//! The weights of a block laid out for the products of one pass.

use super::buffers::Buffer;
use crate::vit::kernels::packed::{Instructions, Onto, Panels, Rows, RowsMut, pack, pack_transposed};

/// The right-hand side `[depth, width]` of products.
pub(super) struct LaidOut {
    panels: Buffer,
    shape: [usize; 2],
    instructions: Instructions,
}

impl LaidOut {
    /// A weight `[out, in]` as stored: takes gradients from outputs to inputs.
    pub(super) fn stored(weight: &[f32], inputs: usize) -> Self {
        Self::new(weight, inputs, [weight.len() / inputs, inputs], pack)
    }

    /// A weight `[out, in]` transposed: takes inputs to outputs.
    pub(super) fn transposed(weight: &[f32], inputs: usize) -> Self {
        Self::new(weight, inputs, [inputs, weight.len() / inputs], pack_transposed)
    }

    fn new(
        weight: &[f32],
        inputs: usize,
        shape: [usize; 2],
        pack: fn(&mut [f32], Rows<'_>, [usize; 2], Instructions),
    ) -> Self {
        let instructions = Instructions::best();
        let mut panels = Buffer::new(instructions.packed_length(shape[0], shape[1]));
        pack(&mut panels, Rows { values: weight, stride: inputs }, shape, instructions);
        Self { panels, shape, instructions }
    }

    /// `y = x · weight`, `y` `[rows, width]` and `x` `[rows, depth]`.
    pub(super) fn multiply(&self, y: &mut [f32], x: &[f32]) {
        self.product(y, x, Onto::Nothing);
    }

    /// `y = x · weight + bias`.
    pub(super) fn multiply_onto_bias(&self, y: &mut [f32], x: &[f32], bias: &[f32]) {
        self.product(y, x, Onto::Bias(bias));
    }

    /// `y += x · weight`.
    pub(super) fn multiply_add(&self, y: &mut [f32], x: &[f32]) {
        self.product(y, x, Onto::Old);
    }

    fn product(&self, y: &mut [f32], x: &[f32], onto: Onto<'_>) {
        let [depth, width] = self.shape;
        let panels = Panels::new(&self.panels, self.shape, self.instructions);
        let rows = x.len() / depth;
        panels.product(RowsMut { values: y, stride: width }, Rows { values: x, stride: depth }, rows, onto);
    }
}
