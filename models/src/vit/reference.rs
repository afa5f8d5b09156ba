//! Plain candle tensors, differentiable: the truth every other execution is tested against.

use super::kernels::{Affine, BlockParameters, Kernels};
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
    cls_token: Tensor,
    pos_embed: Tensor,
    patch_embed: Affine,
    blocks: Vec<BlockParameters>,
    norm: Affine,
}

/// What a forward pass leaves out or scales.
#[derive(Clone, Copy, Debug, Default)]
pub struct ForwardOptions<'a> {
    /// The patches that stay; `None` keeps all. They are dropped as if after the position embedding was added (arXiv
    /// 2204.07141 §3).
    pub keep: Option<Keep<'a>>,
    /// Factors `[depth, 2, B]` of the attention and the MLP branch of every block for every image: stochastic depth.
    pub branch_scales: Option<&'a Tensor>,
}

/// Patches (0-based, without CLS) that stay.
#[derive(Clone, Copy, Debug)]
pub enum Keep<'a> {
    /// The same for every image of the batch.
    Shared(&'a [u32]),
    /// `[B, kept]` of type u32, a row for each image.
    PerImage(&'a Tensor),
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
            cls_token: get("cls_token")?,
            pos_embed: get("pos_embed")?,
            patch_embed: affine("patch_embed.proj")?,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_, _>>()?,
            norm: affine("norm")?,
        })
    }

    /// The configuration.
    pub fn config(&self) -> &VitConfig {
        &self.config
    }

    /// [`Self::forward_with`] that keeps the same patches of every image, or all.
    pub fn forward(&self, pixels: &Tensor, keep: Option<&[u32]>) -> Result<Tensor, Error> {
        self.forward_with(pixels, &ForwardOptions { keep: keep.map(Keep::Shared), branch_scales: None })
    }

    /// Pixels `[B, 3, H, W]` to the hidden states after the last block, before the final norm: `[B, 1 + kept, D]`. H and W
    /// may differ from `image_size`; position embeddings are interpolated to ⌊H/P⌋×⌊W/P⌋.
    pub fn forward_with(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Tensor, Error> {
        let (heads, eps) = (self.config.num_attention_heads, self.config.layer_norm_eps);
        let mut hidden = self.embed_patches(pixels, options.keep)?;
        for (index, block) in self.blocks.iter().enumerate() {
            hidden = match options.branch_scales {
                Some(scales) => self.scaled_block(&hidden, block, &scales.get(index)?)?,
                None => self.kernels.block(&hidden, block, heads, eps)?,
            };
        }
        Ok(hidden)
    }

    /// A block whose branches are multiplied by the rows of `scales` `[2, B]`.
    fn scaled_block(&self, x: &Tensor, block: &BlockParameters, scales: &Tensor) -> Result<Tensor, Error> {
        let (kernels, eps) = (self.kernels, self.config.layer_norm_eps);
        let BlockParameters { norm1, qkv, projection, norm2, fc1, fc2 } = block;
        let scaled = |branch: Tensor, index: usize| {
            let scale = scales.get(index)?.reshape((branch.dim(0)?, 1, 1))?.to_dtype(branch.dtype())?;
            branch.broadcast_mul(&scale)
        };
        let normed = kernels.layer_norm(x, &norm1.weight, &norm1.bias, eps)?;
        let packed = kernels.linear(&normed, &qkv.weight, &qkv.bias)?;
        let mixed = kernels.attention(&packed, self.config.num_attention_heads)?;
        let mixed = kernels.linear(&mixed, &projection.weight, &projection.bias)?;
        let middle = (x + scaled(mixed, 0)?)?;
        let normed = kernels.layer_norm(&middle, &norm2.weight, &norm2.bias, eps)?;
        let wide = kernels.gelu(&kernels.linear(&normed, &fc1.weight, &fc1.bias)?)?;
        let out = scaled(kernels.linear(&wide, &fc2.weight, &fc2.bias)?, 1)?;
        Ok((middle + out)?)
    }

    /// The final LayerNorm of any `[.., D]`.
    pub fn final_norm(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let eps = self.config.layer_norm_eps;
        Ok(self.kernels.layer_norm(hidden, &self.norm.weight, &self.norm.bias, eps)?)
    }

    /// CLS and the kept patches with their position embeddings, `[B, 1 + kept, D]`.
    fn embed_patches(&self, pixels: &Tensor, keep: Option<Keep<'_>>) -> Result<Tensor, Error> {
        let width = self.config.hidden_size;
        let (batch, _, image_height, image_width) = pixels.dims4()?;
        let (rows, columns) = (image_height / self.config.patch_size, image_width / self.config.patch_size);
        let mut patches = self.patchify(pixels, rows, columns)?;
        let grid = self.config.grid();
        let positions = self.pos_embed.get(0)?;
        let cls_position = positions.narrow(0, 0, 1)?;
        let mut positions =
            interpolate::resize_grid(&positions.narrow(0, 1, grid * grid)?, grid, rows, columns)?;
        // Embedding and adding positions act on each patch alone, so dropping first gives the same for less work.
        match keep {
            None => {}
            Some(Keep::Shared(keep)) => {
                check_keep(keep, rows * columns)?;
                let keep = Tensor::new(keep, pixels.device())?;
                patches = patches.index_select(&keep, 1)?;
                positions = positions.index_select(&keep, 0)?;
            }
            Some(Keep::PerImage(keep)) => {
                let kept = keep.dim(1)?;
                for row in keep.to_vec2::<u32>()? {
                    check_keep(&row, rows * columns)?;
                }
                positions = positions.index_select(&keep.flatten_all()?, 0)?.reshape((batch, kept, width))?;
                let first = (Tensor::arange(0, batch as u32, pixels.device())? * (rows * columns) as f64)?;
                let of_batch = keep.broadcast_add(&first.reshape((batch, 1))?)?.flatten_all()?;
                patches = patches.flatten_to(1)?.index_select(&of_batch, 0)?.reshape((batch, kept, ()))?;
            }
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
