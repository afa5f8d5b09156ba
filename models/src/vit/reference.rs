//! Plain candle tensors, differentiable: the truth every other execution is tested against.

use super::kernels::{Affine, BlockOptions, BlockParameters, Kernels, Outputs};
use super::{Parameters, VitConfig, interpolate};
use crate::Error;
use candle_core::Tensor;

#[cfg(test)]
mod tests;

/// Wrong tensors an error names: enough to see the pattern, while a wrong depth or width would list hundreds.
const PROBLEMS_NAMED: usize = 5;

/// The trunk over borrowed parameters. Parameters carry the facebook/timm names (`cls_token`, `pos_embed`,
/// `patch_embed.proj.weight` `[D,3,P,P]`, `blocks.{i}.attn.qkv.weight`, …, `norm.weight`): the crate's canonical names.
pub struct Vit {
    config: VitConfig,
    kernels: Kernels,
    recompute: bool,
    cls_token: Tensor,
    pos_embed: Tensor,
    patch_embed: Affine,
    blocks: Vec<BlockParameters>,
    norm: Affine,
}

impl Vit {
    /// Names and shapes of every parameter, in registration order.
    pub fn parameter_shapes(config: &VitConfig) -> Vec<(String, Vec<usize>)> {
        let (width, hidden, patch) = (config.hidden_size, config.intermediate_size, config.patch_size);
        let mut shapes = vec![
            ("cls_token".to_owned(), vec![1, 1, width]),
            ("pos_embed".to_owned(), vec![1, config.grid().pow(2) + 1, width]),
        ];
        let mut affine = |name: String, weight: Vec<usize>, outputs: usize| {
            shapes.push((format!("{name}.weight"), weight));
            shapes.push((format!("{name}.bias"), vec![outputs]));
        };
        affine("patch_embed.proj".into(), vec![width, config.num_channels, patch, patch], width);
        for index in 0..config.num_hidden_layers {
            let block = format!("blocks.{index}");
            affine(format!("{block}.norm1"), vec![width], width);
            affine(format!("{block}.attn.qkv"), vec![3 * width, width], 3 * width);
            affine(format!("{block}.attn.proj"), vec![width, width], width);
            affine(format!("{block}.norm2"), vec![width], width);
            affine(format!("{block}.mlp.fc1"), vec![hidden, width], hidden);
            affine(format!("{block}.mlp.fc2"), vec![width, hidden], width);
        }
        affine("norm".into(), vec![width], width);
        shapes
    }

    /// Builds the trunk over tensors (variables' or frozen); checks every shape.
    pub fn new(config: &VitConfig, parameters: &Parameters) -> Result<Self, Error> {
        Self::with_kernels(config, parameters, Kernels::Reference)
    }

    /// The same with a choice of execution.
    pub fn with_kernels(
        config: &VitConfig,
        parameters: &Parameters,
        kernels: Kernels,
    ) -> Result<Self, Error> {
        config.validate()?;
        check_shapes(config, parameters)?;
        let get = |name: &str| {
            parameters.get(name).cloned().ok_or_else(|| Error::Checkpoint(format!("{name} is missing")))
        };
        let affine = |name: &str| {
            Ok::<_, Error>(Affine {
                weight: get(&format!("{name}.weight"))?,
                bias: get(&format!("{name}.bias"))?,
            })
        };
        let block = |index: usize| {
            Ok::<_, Error>(BlockParameters {
                norm1: affine(&format!("blocks.{index}.norm1"))?,
                qkv: affine(&format!("blocks.{index}.attn.qkv"))?,
                projection: affine(&format!("blocks.{index}.attn.proj"))?,
                norm2: affine(&format!("blocks.{index}.norm2"))?,
                fc1: affine(&format!("blocks.{index}.mlp.fc1"))?,
                fc2: affine(&format!("blocks.{index}.mlp.fc2"))?,
            })
        };
        Ok(Self {
            config: config.clone(),
            kernels,
            recompute: false,
            cls_token: get("cls_token")?,
            pos_embed: get("pos_embed")?,
            patch_embed: affine("patch_embed.proj")?,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_, _>>()?,
            norm: affine("norm")?,
        })
    }

    /// The same network keeping only the blocks' inputs for a backward pass, if `recompute` (see
    /// [`BlockOptions::recompute`]).
    #[must_use]
    pub fn with_recompute(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// The configuration.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// Pixels `[B, 3, H, W]` to the hidden states after the last block, before the final norm: `[B, 1 + kept, D]`.
    ///
    /// `keep`: indices of the patches (0-based, without CLS) that stay, one list for the whole batch; `None` keeps all.
    /// They are dropped as if after the position embedding was added (arXiv 2204.07141 §3). H and W may differ from
    /// `image_size`; position embeddings are interpolated to ⌊H/P⌋×⌊W/P⌋.
    pub fn forward(&self, pixels: &Tensor, keep: Option<&[u32]>) -> Result<Tensor, Error> {
        self.run(pixels, keep, Outputs::All)
    }

    /// The CLS token alone after the last block, before the final norm: `[B, D]`, equal to the first token of
    /// [`Self::forward`]. The last block then computes no other token's output: a network of L blocks costs L − ¾.
    pub fn forward_cls(&self, pixels: &Tensor, keep: Option<&[u32]>) -> Result<Tensor, Error> {
        Ok(self.run(pixels, keep, Outputs::First)?.squeeze(1)?)
    }

    fn run(&self, pixels: &Tensor, keep: Option<&[u32]>, outputs: Outputs) -> Result<Tensor, Error> {
        let mut hidden = self.embed_patches(pixels, keep)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let is_last = index + 1 == self.blocks.len();
            let options = BlockOptions {
                heads: self.config.num_attention_heads,
                eps: self.config.layer_norm_eps,
                outputs: if is_last { outputs } else { Outputs::All },
                recompute: self.recompute,
            };
            hidden = self.kernels.block(&hidden, block, &options)?;
        }
        Ok(hidden)
    }

    /// The final LayerNorm of any `[.., D]`.
    pub fn final_norm(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let eps = self.config.layer_norm_eps;
        Ok(self.kernels.layer_norm(hidden, &self.norm.weight, &self.norm.bias, eps)?)
    }

    /// CLS and the kept patches with their position embeddings, `[B, 1 + kept, D]`.
    fn embed_patches(&self, pixels: &Tensor, keep: Option<&[u32]>) -> Result<Tensor, Error> {
        let width = self.config.hidden_size;
        let (batch, _, image_height, image_width) = pixels.dims4()?;
        let (rows, columns) = (image_height / self.config.patch_size, image_width / self.config.patch_size);
        let mut patches = self.patchify(pixels, rows, columns)?;
        let grid = self.config.grid();
        let positions = self.pos_embed.get(0)?;
        let cls_position = positions.narrow(0, 0, 1)?;
        let mut positions =
            interpolate::resize_grid(&positions.narrow(0, 1, grid * grid)?, grid, rows, columns)?;
        if let Some(keep) = keep {
            // Embedding and adding positions act on each patch alone, so dropping first gives the same for less work.
            check_keep(keep, rows * columns)?;
            let keep = Tensor::new(keep, pixels.device())?;
            patches = patches.index_select(&keep, 1)?;
            positions = positions.index_select(&keep, 0)?;
        }
        let weight = self.patch_embed.weight.reshape((width, ()))?;
        let tokens =
            self.kernels.linear(&patches, &weight, &self.patch_embed.bias)?.broadcast_add(&positions)?;
        let cls = self.cls_token.get(0)?.add(&cls_position)?.broadcast_as((batch, 1, width))?;
        Ok(Tensor::cat(&[&cls, &tokens], 1)?)
    }

    /// `[B, 3, H, W]` to `[B, rows · columns, 3·P·P]`; pixels beyond the last whole patch are cut off, as a strided
    /// convolution would.
    fn patchify(&self, pixels: &Tensor, rows: usize, columns: usize) -> Result<Tensor, Error> {
        let side = self.config.patch_size;
        let (batch, channels, height, width) = pixels.dims4()?;
        if channels != self.config.num_channels || rows == 0 || columns == 0 {
            return Err(Error::Input(format!(
                "pixels are {channels}×{height}×{width}; they must be {}×H×W with H and W at least {side}",
                self.config.num_channels
            )));
        }
        Ok(pixels
            .to_dtype(self.patch_embed.weight.dtype())?
            .narrow(2, 0, rows * side)?
            .narrow(3, 0, columns * side)?
            .contiguous()?
            .reshape(&[batch, channels, rows, side, columns, side])?
            .permute(vec![0, 2, 4, 1, 3, 5])?
            .contiguous()?
            .reshape((batch, rows * columns, channels * side * side))?)
    }
}

/// Every parameter present with its shape, or an error that names those that are not.
fn check_shapes(config: &VitConfig, parameters: &Parameters) -> Result<(), Error> {
    let mut problems = Vec::new();
    for (name, shape) in Vit::parameter_shapes(config) {
        match parameters.get(&name) {
            None => problems.push(format!("{name} is missing")),
            Some(tensor) if tensor.dims() != shape => {
                problems.push(format!(
                    "{name} has shape {:?}, the configuration asks for {shape:?}",
                    tensor.dims()
                ));
            }
            Some(_) => {}
        }
    }
    if problems.is_empty() {
        return Ok(());
    }
    let rest = problems.len().saturating_sub(PROBLEMS_NAMED);
    problems.truncate(PROBLEMS_NAMED);
    let rest = if rest > 0 { format!("; and {rest} more") } else { String::new() };
    Err(Error::Checkpoint(format!("{}{rest}", problems.join("; "))))
}

fn check_keep(keep: &[u32], patches: usize) -> Result<(), Error> {
    let mut seen = vec![false; patches];
    for &index in keep {
        match seen.get_mut(index as usize) {
            Some(seen) if !*seen => *seen = true,
            Some(_) => return Err(Error::Input(format!("patch {index} is kept twice"))),
            None => {
                return Err(Error::Input(format!("patch {index} is kept, but the image has only {patches}")));
            }
        }
    }
    if keep.is_empty() {
        return Err(Error::Input("no patch is kept; keep at least one".into()));
    }
    Ok(())
}
