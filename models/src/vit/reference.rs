//! Plain candle tensors, differentiable: the truth every other execution is tested against.
//!
//! The network of arXiv 2204.07141: a pre-norm ViT (DeiT's) with learned position embeddings, from which masked patches
//! are dropped, not replaced.

use super::interpolate::bicubic_matrix;
use super::{Kernels, VitConfig};
use crate::Error;
use candle_core::Tensor;
use std::collections::HashMap;

/// The trunk over borrowed parameters. Parameters carry the facebook/timm names (`cls_token`, `pos_embed`,
/// `patch_embed.proj.weight` `[D,3,P,P]`, `blocks.{i}.attn.qkv.weight`, …, `norm.weight`): the crate's canonical names.
pub struct Vit {
    config: VitConfig,
    kernels: Kernels,
    cls_token: Tensor,
    pos_embed: Tensor,
    patch_embed: Affine,
    blocks: Vec<Block>,
    norm: Affine,
}

/// A weight and a bias.
struct Affine {
    weight: Tensor,
    bias: Tensor,
}

struct Block {
    norm1: Affine,
    qkv: Affine,
    projection: Affine,
    norm2: Affine,
    fc1: Affine,
    fc2: Affine,
}

impl Vit {
    /// Names and shapes of every parameter, in registration order.
    pub fn parameter_shapes(config: &VitConfig) -> Vec<(String, Vec<usize>)> {
        let (width, hidden, patch) = (config.hidden_size, config.intermediate_size, config.patch_size);
        let patches = config.grid() * config.grid();
        let mut shapes = vec![
            ("cls_token".to_owned(), vec![1, 1, width]),
            ("pos_embed".to_owned(), vec![1, patches + 1, width]),
            ("patch_embed.proj.weight".to_owned(), vec![width, config.num_channels, patch, patch]),
            ("patch_embed.proj.bias".to_owned(), vec![width]),
        ];
        let mut affine = |name: String, weight: Vec<usize>| {
            let outputs = weight[0];
            shapes.push((format!("{name}.weight"), weight));
            shapes.push((format!("{name}.bias"), vec![outputs]));
        };
        for block in 0..config.num_hidden_layers {
            affine(format!("blocks.{block}.norm1"), vec![width]);
            affine(format!("blocks.{block}.attn.qkv"), vec![3 * width, width]);
            affine(format!("blocks.{block}.attn.proj"), vec![width, width]);
            affine(format!("blocks.{block}.norm2"), vec![width]);
            affine(format!("blocks.{block}.mlp.fc1"), vec![hidden, width]);
            affine(format!("blocks.{block}.mlp.fc2"), vec![width, hidden]);
        }
        affine("norm".to_owned(), vec![width]);
        shapes
    }

    /// Builds the trunk over tensors (variables' or frozen) with the reference kernels; checks every shape.
    pub fn new(config: &VitConfig, parameters: &HashMap<String, Tensor>) -> Result<Self, Error> {
        Self::with_kernels(config, parameters, Kernels::Reference)
    }

    /// The same with another execution of the operations.
    pub fn with_kernels(
        config: &VitConfig,
        parameters: &HashMap<String, Tensor>,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        config.validate()?;
        for (name, shape) in Self::parameter_shapes(config) {
            let tensor = find(parameters, &name)?;
            if tensor.dims() != shape {
                let message =
                    format!("`{name}` has shape {:?}, the configuration asks for {shape:?}", tensor.dims());
                return Err(Error::Checkpoint(message));
            }
        }
        let affine = |name: &str| Affine::find(parameters, name);
        let block = |index: usize| -> Result<Block, Error> {
            Ok(Block {
                norm1: affine(&format!("blocks.{index}.norm1"))?,
                qkv: affine(&format!("blocks.{index}.attn.qkv"))?,
                projection: affine(&format!("blocks.{index}.attn.proj"))?,
                norm2: affine(&format!("blocks.{index}.norm2"))?,
                fc1: affine(&format!("blocks.{index}.mlp.fc1"))?,
                fc2: affine(&format!("blocks.{index}.mlp.fc2"))?,
            })
        };
        let patch = affine("patch_embed.proj")?;
        Ok(Self {
            cls_token: find(parameters, "cls_token")?.clone(),
            pos_embed: find(parameters, "pos_embed")?.clone(),
            patch_embed: Affine { weight: patch.weight.flatten_from(1)?, bias: patch.bias },
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_, _>>()?,
            norm: affine("norm")?,
            config: config.clone(),
            kernels,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Pixels `[B, 3, H, W]` to the hidden states after the last block, before the final norm: `[B, 1 + kept, D]`.
    ///
    /// `keep`: indices of the patches (0-based, without CLS) that stay, one list for the whole batch; `None` keeps all.
    /// Dropped after the position embedding is added (the paper's random masking). H and W may differ from
    /// `image_size`; position embeddings are interpolated to the grid of ⌊H/P⌋×⌊W/P⌋ patches, which must be square.
    pub fn forward(&self, pixels: &Tensor, keep: Option<&[u32]>) -> Result<Tensor, Error> {
        let mut hidden = self.embed(pixels, keep)?;
        for block in &self.blocks {
            hidden = self.run(block, &hidden)?;
        }
        Ok(hidden)
    }

    /// The final LayerNorm of any `[.., D]`.
    pub fn final_norm(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        Ok(self.kernels.layer_norm(hidden, &self.norm.weight, &self.norm.bias, self.config.layer_norm_eps)?)
    }

    /// Patches and CLS with their positions, `[B, 1 + kept, D]`.
    fn embed(&self, pixels: &Tensor, keep: Option<&[u32]>) -> Result<Tensor, Error> {
        let (patches, grid) = self.patches(pixels)?;
        let (cls_position, positions) = self.positions(grid)?;
        let kept = keep.map(|indices| Tensor::new(indices, pixels.device())).transpose()?;
        // Dropping patches before they are embedded gives the same numbers as dropping them after, for less work.
        let (patches, positions) = match &kept {
            Some(indices) => (
                patches.contiguous()?.index_select(indices, 1)?,
                positions.contiguous()?.index_select(indices, 1)?,
            ),
            None => (patches, positions),
        };
        let embedded = self.kernels.linear(&patches, &self.patch_embed.weight, &self.patch_embed.bias)?;
        let embedded = embedded.broadcast_add(&positions)?;
        let batch = pixels.dim(0)?;
        let cls = (&self.cls_token + cls_position)?.broadcast_as((batch, 1, self.config.hidden_size))?;
        Ok(Tensor::cat(&[&cls, &embedded], 1)?)
    }

    /// Pixels cut into rows `[B, N, 3·P·P]`, channel-major inside a row as the convolution's weight is; and the grid's side.
    fn patches(&self, pixels: &Tensor) -> Result<(Tensor, usize), Error> {
        let (batch, channels, height, width) = pixels.dims4()?;
        let patch = self.config.patch_size;
        let (rows, columns) = (height / patch, width / patch);
        if rows != columns || rows == 0 {
            let reason = format!("{height}×{width} pixels are not a square grid of {patch}-pixel patches");
            return Err(Error::Config { file: "input".into(), reason });
        }
        // A side that is no multiple of the patch loses its last pixels, as in an unpadded convolution.
        let cut = pixels.narrow(2, 0, rows * patch)?.narrow(3, 0, columns * patch)?;
        let cut = cut.reshape(&[batch, channels, rows, patch, columns, patch][..])?;
        let ordered = cut.permute(&[0, 2, 4, 1, 3, 5][..])?;
        Ok((ordered.reshape((batch, rows * columns, channels * patch * patch))?, rows))
    }

    /// Position embeddings of CLS `[1, 1, D]` and of a grid `[1, grid², D]`.
    fn positions(&self, grid: usize) -> Result<(Tensor, Tensor), Error> {
        let native = self.config.grid();
        let cls = self.pos_embed.narrow(1, 0, 1)?;
        let patches = self.pos_embed.narrow(1, 1, native * native)?;
        if grid == native {
            return Ok((cls, patches));
        }
        let matrix = Tensor::from_vec(
            bicubic_matrix(native, grid),
            (grid * grid, native * native),
            &candle_core::Device::Cpu,
        )?;
        let matrix = matrix.to_dtype(patches.dtype())?.to_device(patches.device())?;
        Ok((cls, matrix.matmul(&patches.squeeze(0)?)?.unsqueeze(0)?))
    }

    fn run(&self, block: &Block, hidden: &Tensor) -> Result<Tensor, Error> {
        let (kernels, eps) = (self.kernels, self.config.layer_norm_eps);
        let normed = kernels.layer_norm(hidden, &block.norm1.weight, &block.norm1.bias, eps)?;
        let qkv = kernels.linear(&normed, &block.qkv.weight, &block.qkv.bias)?;
        let mixed = kernels.attention(&qkv, self.config.num_attention_heads)?;
        let hidden = (hidden + kernels.linear(&mixed, &block.projection.weight, &block.projection.bias)?)?;
        let normed = kernels.layer_norm(&hidden, &block.norm2.weight, &block.norm2.bias, eps)?;
        let wide = kernels.gelu(&kernels.linear(&normed, &block.fc1.weight, &block.fc1.bias)?)?;
        Ok((hidden + kernels.linear(&wide, &block.fc2.weight, &block.fc2.bias)?)?)
    }
}

impl Affine {
    fn find(parameters: &HashMap<String, Tensor>, name: &str) -> Result<Self, Error> {
        let weight = find(parameters, &format!("{name}.weight"))?.clone();
        let bias = find(parameters, &format!("{name}.bias"))?.clone();
        Ok(Self { weight, bias })
    }
}

fn find<'a>(parameters: &'a HashMap<String, Tensor>, name: &str) -> Result<&'a Tensor, Error> {
    parameters.get(name).ok_or_else(|| Error::Checkpoint(format!("tensor `{name}` is missing")))
}
