//! A linear map.

use super::Precision;
use crate::Error;
use crate::vit::kernels::packed::{
    BytePanels, ByteRows, Instructions, Onto, Panels, Rows, RowsMut, pack_transposed,
};

/// `x·Wᵀ + b`, W packed.
pub(super) struct Dense {
    weight: Weight,
    bias: Vec<f32>,
    /// Inputs and outputs.
    shape: [usize; 2],
}

enum Weight {
    Floats(Vec<f32>, Instructions),
    Bytes(BytePanels),
}

impl Dense {
    /// Of a weight `[outputs, inputs]`.
    pub(super) fn new(
        weight: &[f32],
        bias: Vec<f32>,
        precision: Precision,
        instructions: Instructions,
    ) -> Self {
        let shape = [weight.len() / bias.len(), bias.len()];
        let weight = match precision {
            Precision::F32 => {
                let mut panels = vec![0.0; instructions.packed_length(shape[0], shape[1])];
                pack_transposed(&mut panels, Rows { values: weight, stride: shape[0] }, shape, instructions);
                Weight::Floats(panels, instructions)
            }
            Precision::Int8 | Precision::Mixed => Weight::Bytes(BytePanels::new(weight, shape[0])),
        };
        Self { weight, bias, shape }
    }

    pub(super) fn inputs(&self) -> usize {
        self.shape[0]
    }

    pub(super) fn outputs(&self) -> usize {
        self.shape[1]
    }

    /// Writes `y` `[rows, outputs]` for `x` `[rows, inputs]`.
    pub(super) fn forward(&self, y: &mut [f32], x: &[f32], bytes: &mut ByteRows) {
        self.product(y, x, bytes, Onto::Bias(&self.bias));
    }

    /// Adds to `y` instead.
    pub(super) fn add(&self, y: &mut [f32], x: &[f32], bytes: &mut ByteRows) {
        self.product(y, x, bytes, Onto::OldAndBias(&self.bias));
    }

    fn product(&self, y: &mut [f32], x: &[f32], bytes: &mut ByteRows, onto: Onto<'_>) {
        let [inputs, outputs] = self.shape;
        let rows = x.len() / inputs;
        let y = RowsMut { values: y, stride: outputs };
        match &self.weight {
            Weight::Floats(panels, instructions) => {
                let panels = Panels::new(panels, self.shape, *instructions);
                panels.product(y, Rows { values: x, stride: inputs }, rows, onto);
            }
            Weight::Bytes(panels) => {
                bytes.fill(x, inputs);
                panels.product(y, bytes, rows, onto);
            }
        }
    }
}

/// A tensor's elements on the host.
pub(super) fn floats(tensor: &candle_core::Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.to_dtype(candle_core::DType::F32)?.flatten_all()?.to_vec1()?)
}
