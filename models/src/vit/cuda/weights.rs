//! A network's parameters in one piece of memory, as the products and kernels read them.

use super::Network;
use crate::Error;
use crate::vit::kernels::cuda::plan::{Attention, Element};
use crate::vit::kernels::{Affine, Outputs};
use crate::vit::{Vit, VitConfig};
use candle_core::{DType, Tensor};

/// Multiples at which arrays begin: what cuBLASLt's fastest algorithms want.
pub(super) const ALIGNMENT: usize = 256;

/// Rows of matrices are padded to multiples of so many elements, 16 bytes at least.
const PADDING: usize = 8;

/// What goes into a network and what is wanted of it.
#[derive(Clone, Copy, Debug)]
pub struct Task {
    /// Side of a crop in pixels.
    pub side: usize,
    /// By which bytes are normalised: of each channel, on the 0–1 scale.
    pub mean: [f32; 3],
    /// Likewise.
    pub deviation: [f32; 3],
    /// CLS, or the mean of all other tokens, after the last block.
    pub outputs: Outputs,
    /// Whether the final LayerNorm follows, where the network has one.
    pub normalised: bool,
}

/// Places of a weight and of a bias in the memory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Places {
    pub(super) weight: usize,
    pub(super) bias: usize,
}

/// How tokens ask and answer.
#[derive(Clone, Copy, Debug)]
pub(super) enum Projections {
    /// All of them ask: queries, keys and values.
    All(Places),
    /// CLS asks, all answer: queries; keys and values.
    First { queries: Places, answers: Places },
}

/// Places of a block's parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block {
    pub(super) norm1: Places,
    pub(super) projections: Projections,
    pub(super) projection: Places,
    pub(super) norm2: Places,
    pub(super) fc1: Places,
    pub(super) fc2: Places,
}

/// Lays a network out; `None` where it has parts that this execution does not know: biases by position, heads that are
/// neither 32 nor 64 wide. The second part is the memory.
pub(super) fn lay_out(vit: &Vit, task: &Task, element: Element) -> Result<Option<(Network, Vec<u8>)>, Error> {
    let config = vit.config();
    let (width, heads) = (config.hidden_size, config.num_attention_heads);
    let attention = Attention { element, batch: 1, tokens: 1, width, heads };
    if vit.has_position_biases() || config.num_channels != 3 || !attention.is_supported() {
        return Ok(None);
    }
    let mut memory = Memory { bytes: Vec::new(), element };
    let side = config.patch_size;
    let network = Network {
        element,
        width,
        heads,
        hidden: config.intermediate_size.next_multiple_of(PADDING),
        inputs: (3 * side * side).next_multiple_of(PADDING),
        side,
        grid: task.side / side,
        line: task.side,
        middle: middle(task.mean),
        eps: config.layer_norm_eps as f32,
        outputs: task.outputs,
        patches: 0,
        offsets: 0,
        cls: 0,
        blocks: Vec::with_capacity(config.num_hidden_layers),
        norm: None,
    };
    let network = memory.patch_embedding(vit, task, network)?;
    let norm = vit.final_norm_parameters().filter(|_| task.normalised);
    let mut network = Network { norm: norm.map(|norm| memory.norm(norm)).transpose()?, ..network };
    for (index, parameters) in vit.blocks().iter().enumerate() {
        let is_last = index + 1 == config.num_hidden_layers;
        let outputs = if is_last { task.outputs } else { Outputs::All };
        let (qkv, fc1, fc2) = (&parameters.qkv, &parameters.fc1, &parameters.fc2);
        let projections = match outputs {
            Outputs::All => Projections::All(memory.linear(qkv)?),
            Outputs::First => Projections::First {
                queries: memory.linear(&part(qkv, 0, width)?)?,
                answers: memory.linear(&part(qkv, width, 2 * width)?)?,
            },
        };
        let [fc1, fc2] = [memory.widening(fc1, config)?, memory.narrowing(fc2, config)?];
        network.blocks.push(Block {
            norm1: memory.norm(&parameters.norm1)?,
            projections,
            projection: memory.linear(&parameters.projection)?,
            norm2: memory.norm(&parameters.norm2)?,
            fc1,
            fc2,
        });
    }
    Ok(Some((network, memory.bytes)))
}

/// The level nearest to a channel's mean. A byte less it is a whole number below 256, which bf16 holds exactly.
fn middle(mean: [f32; 3]) -> [u8; 3] {
    mean.map(|mean| (255.0 * mean).round() as u8)
}

fn part(affine: &Affine, first: usize, count: usize) -> Result<Affine, Error> {
    Ok(Affine { weight: affine.weight.narrow(0, first, count)?, bias: affine.bias.narrow(0, first, count)? })
}

fn floats(tensor: &Tensor) -> Result<Vec<f32>, Error> {
    Ok(tensor.to_dtype(DType::F32)?.flatten_all()?.to_vec1()?)
}

/// Rows with zeros behind each, up to `length`.
fn padded(values: &[f32], width: usize, length: usize) -> Vec<f32> {
    let rows = values.chunks_exact(width);
    rows.flat_map(|row| row.iter().copied().chain(std::iter::repeat_n(0.0, length - width))).collect()
}

struct Memory {
    bytes: Vec<u8>,
    element: Element,
}

impl Memory {
    /// Appends an array; its place.
    fn put(&mut self, element: Element, values: &[f32]) -> usize {
        self.bytes.resize(self.bytes.len().next_multiple_of(ALIGNMENT), 0);
        let place = self.bytes.len();
        self.bytes.extend(element.bytes_of(values));
        place
    }

    /// LayerNorms' parameters stay f32.
    fn norm(&mut self, affine: &Affine) -> Result<Places, Error> {
        let (weight, bias) = (floats(&affine.weight)?, floats(&affine.bias)?);
        Ok(Places { weight: self.put(Element::F32, &weight), bias: self.put(Element::F32, &bias) })
    }

    fn linear(&mut self, affine: &Affine) -> Result<Places, Error> {
        let (weight, bias) = (floats(&affine.weight)?, floats(&affine.bias)?);
        Ok(Places { weight: self.put(self.element, &weight), bias: self.put(self.element, &bias) })
    }

    /// The map into the MLP, whose outputs are padded; its bias is added in f32, with the GELU.
    fn widening(&mut self, affine: &Affine, config: &VitConfig) -> Result<Places, Error> {
        let (mut weight, mut bias) = (floats(&affine.weight)?, floats(&affine.bias)?);
        let hidden = config.intermediate_size.next_multiple_of(PADDING);
        weight.resize(hidden * config.hidden_size, 0.0);
        bias.resize(hidden, 0.0);
        Ok(Places { weight: self.put(self.element, &weight), bias: self.put(Element::F32, &bias) })
    }

    /// The map out of it, whose inputs are padded.
    fn narrowing(&mut self, affine: &Affine, config: &VitConfig) -> Result<Places, Error> {
        let (weight, bias) = (floats(&affine.weight)?, floats(&affine.bias)?);
        let hidden = config.intermediate_size;
        let weight = padded(&weight, hidden, hidden.next_multiple_of(PADDING));
        Ok(Places { weight: self.put(self.element, &weight), bias: self.put(self.element, &bias) })
    }

    /// Bytes v are normalised to (v/255 − mean)/deviation: W·x + b over normalised pixels is W'·(v − middle) + b' with
    /// W' = W/(255·deviation) and b' = b + Σ W·(middle/255 − mean)/deviation. A patch's offset is b' and its position.
    fn patch_embedding(&mut self, vit: &Vit, task: &Task, network: Network) -> Result<Network, Error> {
        let Network { side, inputs, width, grid, middle, .. } = network;
        let affine = vit.patch_embedding();
        let (planar, mut bias) = (floats(&affine.weight)?, floats(&affine.bias)?);
        let area = side * side;
        let mut weight = vec![0.0; width * inputs];
        let rows = planar.chunks_exact(3 * area).zip(weight.chunks_exact_mut(inputs));
        for ((planar, weight), bias) in rows.zip(&mut bias) {
            let mut shift = 0.0;
            for (place, &value) in planar.iter().enumerate() {
                let (channel, pixel) = (place / area, place % area);
                let value = f64::from(value) / f64::from(task.deviation[channel]);
                // Pixels of a crop are interleaved.
                weight[3 * pixel + channel] = (value / 255.0) as f32;
                shift += value * (f64::from(middle[channel]) / 255.0 - f64::from(task.mean[channel]));
            }
            *bias = (f64::from(*bias) + shift) as f32;
        }
        let (cls, positions) = vit.token_positions(grid)?;
        let positions = positions.as_ref().map_or_else(|| Ok(vec![0.0; grid * grid * width]), floats)?;
        let offsets: Vec<f32> =
            positions.iter().zip(bias.iter().cycle()).map(|(position, bias)| position + bias).collect();
        Ok(Network {
            patches: self.put(self.element, &weight),
            offsets: self.put(self.element, &offsets),
            cls: self.put(self.element, &floats(&cls)?),
            ..network
        })
    }
}
