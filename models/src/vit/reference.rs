//! Plain candle tensors, differentiable: the truth every other execution is tested against.

use super::kernels::{Affine, BlockOptions, BlockParameters, Kernels, Outputs};
use super::{Family, Parameters, RelativePositions, VitConfig, interpolate, relative};
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
    pos_embed: Option<Tensor>,
    patch_embed: Affine,
    blocks: Vec<BlockParameters>,
    /// Tables of position biases: one for each block, one for all, or none.
    relative: Vec<Tensor>,
    norm: Option<Affine>,
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
    /// `[B, kept]` of type u32, a row for each image. Rows are not looked at, which would wait for the device: they must be
    /// as [`check_keep`] wants them.
    PerImage(&'a Tensor),
}

impl Vit {
    /// Names and shapes of every parameter, in registration order.
    pub fn parameter_shapes(config: &VitConfig) -> Vec<(String, Vec<usize>)> {
        let (width, hidden, patch) = (config.hidden_size, config.intermediate_size, config.patch_size);
        let mut shapes = vec![("cls_token".to_owned(), vec![1, 1, width])];
        if config.positions.absolute {
            shapes.push(("pos_embed".to_owned(), vec![1, config.grid().pow(2) + 1, width]));
        }
        let table = vec![relative::table_rows(config.grid()), config.num_attention_heads];
        shapes.extend(relative_tables(config).into_iter().map(|name| (name, table.clone())));
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
        if has_norm(config) {
            affine("norm".into(), vec![width], width);
        }
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
            pos_embed: if config.positions.absolute { Some(get("pos_embed")?) } else { None },
            patch_embed: affine("patch_embed.proj")?,
            blocks: (0..config.num_hidden_layers).map(block).collect::<Result<_, _>>()?,
            relative: relative_tables(config).iter().map(|name| get(name)).collect::<Result<_, _>>()?,
            norm: if has_norm(config) || parameters.contains_key("norm.weight") {
                Some(affine("norm")?)
            } else {
                None
            },
        })
    }

    /// The same network keeping only the blocks' inputs for a backward pass, if `recompute` (see
    /// [`BlockOptions::recompute`]).
    #[must_use]
    pub fn with_recompute(self, recompute: bool) -> Self {
        Self { recompute, ..self }
    }

    /// The blocks' parameters, in order.
    pub(super) fn blocks(&self) -> &[BlockParameters] {
        &self.blocks
    }

    /// The map from the pixels of a patch, `[D, C, P, P]`.
    pub(super) fn patch_embedding(&self) -> &Affine {
        &self.patch_embed
    }

    /// The final LayerNorm, where there is one.
    pub(super) fn final_norm_parameters(&self) -> Option<&Affine> {
        self.norm.as_ref()
    }

    /// Whether attention scores have a bias by offset.
    pub(super) fn has_position_biases(&self) -> bool {
        !self.relative.is_empty()
    }

    /// CLS with its position `[1, D]`, and the positions of the patches of a square grid `[grid², D]`.
    pub(super) fn token_positions(&self, grid: usize) -> Result<(Tensor, Option<Tensor>), Error> {
        let mut cls = self.cls_token.get(0)?;
        if let Some(all) = &self.pos_embed {
            cls = (cls + all.get(0)?.narrow(0, 0, 1)?)?;
        }
        Ok((cls, self.patch_positions(grid, grid)?))
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
        self.run(pixels, options, Outputs::All)
    }

    /// The CLS token alone after the last block, before the final norm: `[B, D]`, equal to the first token of
    /// [`Self::forward_with`]. The last block then computes no other token's output: a network of L blocks costs L − ¾.
    pub fn forward_cls(&self, pixels: &Tensor, options: &ForwardOptions<'_>) -> Result<Tensor, Error> {
        Ok(self.run(pixels, options, Outputs::First)?.squeeze(1)?)
    }

    fn run(&self, pixels: &Tensor, options: &ForwardOptions<'_>, outputs: Outputs) -> Result<Tensor, Error> {
        let mut hidden = self.embed_patches(pixels, options.keep)?;
        let biases = self.position_biases(pixels, options.keep)?;
        for (index, block) in self.blocks.iter().enumerate() {
            let bias = if biases.len() > 1 { biases.get(index) } else { biases.first() };
            let scales = options.branch_scales.map(|scales| scales.get(index)).transpose()?;
            let is_last = index + 1 == self.blocks.len();
            let outputs = if is_last { outputs } else { Outputs::All };
            hidden = if bias.is_none() && scales.is_none() {
                let options = BlockOptions {
                    heads: self.config.num_attention_heads,
                    eps: self.config.layer_norm_eps,
                    outputs,
                    recompute: self.recompute,
                };
                self.kernels.block(&hidden, block, &options)?
            } else {
                let all = self.composed_block(&hidden, block, scales.as_ref(), bias)?;
                if outputs == Outputs::First { all.narrow(1, 0, 1)?.contiguous()? } else { all }
            };
        }
        Ok(hidden)
    }

    /// A block whose branches are multiplied by the rows of `scales` `[2, B]`, and whose attention scores have a bias.
    fn composed_block(
        &self,
        x: &Tensor,
        block: &BlockParameters,
        scales: Option<&Tensor>,
        bias: Option<&Tensor>,
    ) -> Result<Tensor, Error> {
        let (kernels, eps, heads) =
            (self.kernels, self.config.layer_norm_eps, self.config.num_attention_heads);
        let BlockParameters { norm1, qkv, projection, norm2, fc1, fc2 } = block;
        let scaled = |branch: Tensor, index: usize| {
            let Some(scales) = scales else { return Ok(branch) };
            let scale = scales.get(index)?.reshape((branch.dim(0)?, 1, 1))?.to_dtype(branch.dtype())?;
            branch.broadcast_mul(&scale)
        };
        let normed = kernels.layer_norm(x, &norm1.weight, &norm1.bias, eps)?;
        let packed = kernels.linear(&normed, &qkv.weight, &qkv.bias)?;
        let mixed = match bias {
            Some(bias) => relative::attention(&packed, heads, bias)?,
            None => kernels.attention(&packed, heads)?,
        };
        let mixed = kernels.linear(&mixed, &projection.weight, &projection.bias)?;
        let middle = (x + scaled(mixed, 0)?)?;
        let normed = kernels.layer_norm(&middle, &norm2.weight, &norm2.bias, eps)?;
        let wide = kernels.gelu(&kernels.linear(&normed, &fc1.weight, &fc1.bias)?)?;
        let out = scaled(kernels.linear(&wide, &fc2.weight, &fc2.bias)?, 1)?;
        Ok((middle + out)?)
    }

    /// The biases of the attention scores: one for each block, one for all, or none.
    fn position_biases(&self, pixels: &Tensor, keep: Option<Keep<'_>>) -> Result<Vec<Tensor>, Error> {
        if self.relative.is_empty() {
            return Ok(Vec::new());
        }
        let (_, _, height, width) = pixels.dims4()?;
        let (rows, columns) = (height / self.config.patch_size, width / self.config.patch_size);
        let kept = match keep {
            None => None,
            Some(Keep::Shared(kept)) => Some(vec![kept.to_vec()]),
            Some(Keep::PerImage(kept)) => Some(kept.to_vec2::<u32>()?),
        };
        let of_table = |table: &Tensor| {
            let whole = relative::bias(table, self.config.grid(), rows, columns)?;
            kept.as_ref().map_or(Ok(whole.clone()), |kept| relative::keep(&whole, kept))
        };
        Ok(self.relative.iter().map(of_table).collect::<candle_core::Result<_>>()?)
    }

    /// The final LayerNorm of any `[.., D]`; unchanged where the network has none.
    pub fn final_norm(&self, hidden: &Tensor) -> Result<Tensor, Error> {
        let eps = self.config.layer_norm_eps;
        match &self.norm {
            Some(norm) => Ok(self.kernels.layer_norm(hidden, &norm.weight, &norm.bias, eps)?),
            None => Ok(hidden.clone()),
        }
    }

    /// CLS and the kept patches with their position embeddings, `[B, 1 + kept, D]`.
    fn embed_patches(&self, pixels: &Tensor, keep: Option<Keep<'_>>) -> Result<Tensor, Error> {
        let width = self.config.hidden_size;
        let (batch, _, image_height, image_width) = pixels.dims4()?;
        let (rows, columns) = (image_height / self.config.patch_size, image_width / self.config.patch_size);
        let mut patches = self.patchify(pixels, rows, columns)?;
        let mut positions = self.patch_positions(rows, columns)?;
        // Embedding and adding positions act on each patch alone, so dropping first gives the same for less work.
        match keep {
            None => {}
            Some(Keep::Shared(keep)) => {
                check_keep(keep, rows * columns)?;
                let keep = Tensor::new(keep, pixels.device())?;
                patches = patches.index_select(&keep, 1)?;
                positions = positions.map(|positions| positions.index_select(&keep, 0)).transpose()?;
            }
            Some(Keep::PerImage(keep)) => {
                let kept = keep.dim(1)?;
                let of_each = |positions: Tensor| {
                    positions.index_select(&keep.flatten_all()?, 0)?.reshape((batch, kept, width))
                };
                positions = positions.map(of_each).transpose()?;
                let first = (Tensor::arange(0, batch as u32, pixels.device())? * (rows * columns) as f64)?;
                let of_batch = keep.broadcast_add(&first.reshape((batch, 1))?)?.flatten_all()?;
                let inputs = patches.dim(2)?;
                patches = patches
                    .reshape(((), inputs))?
                    .index_select(&of_batch, 0)?
                    .reshape((batch, kept, inputs))?;
            }
        }
        let weight = self.patch_embed.weight.reshape((width, ()))?;
        let mut tokens = self.kernels.linear(&patches, &weight, &self.patch_embed.bias)?;
        let mut cls = self.cls_token.get(0)?;
        if let (Some(positions), Some(all)) = (positions, &self.pos_embed) {
            tokens = tokens.broadcast_add(&positions)?;
            cls = (cls + all.get(0)?.narrow(0, 0, 1)?)?;
        }
        Ok(Tensor::cat(&[&cls.broadcast_as((batch, 1, width))?, &tokens], 1)?)
    }

    /// The position embeddings of the patches of a grid, `[rows · columns, D]`, where the network has any.
    fn patch_positions(&self, rows: usize, columns: usize) -> Result<Option<Tensor>, Error> {
        let Some(all) = &self.pos_embed else { return Ok(None) };
        let grid = self.config.grid();
        let of_patches = all.get(0)?.narrow(0, 1, grid * grid)?;
        Ok(Some(interpolate::resize_grid(&of_patches, grid, rows, columns)?))
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

/// Canonical names of the tables of position biases.
fn relative_tables(config: &VitConfig) -> Vec<String> {
    const TABLE: &str = "relative_position_bias_table";
    match config.positions.relative {
        RelativePositions::None => Vec::new(),
        RelativePositions::Shared => vec![format!("rel_pos_bias.{TABLE}")],
        RelativePositions::PerBlock => {
            (0..config.num_hidden_layers).map(|index| format!("blocks.{index}.attn.{TABLE}")).collect()
        }
    }
}

/// Whether a final norm is part of every such network. data2vec's has none before its pooler, which may be missing.
fn has_norm(config: &VitConfig) -> bool {
    config.family != Family::Data2VecVision
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

/// Refuses lists of patches that are empty, name one twice, or one that is not there.
pub fn check_keep(keep: &[u32], patches: usize) -> Result<(), Error> {
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
