//! The configuration behind a checkpoint that came without one.

use crate::Error;
use crate::vit::{Family, Parameters, Positions, VitConfig};

/// Width of a head in every ViT of the literature up to L; what `heads` defaults to.
const HEAD_WIDTH: usize = 64;

/// Reads the configuration off the shapes of canonical parameters. The number of heads leaves no trace in them:
/// `None` assumes heads 64 wide, as in every published MSN model.
pub fn infer_config(parameters: &Parameters, heads: Option<usize>) -> Result<VitConfig, Error> {
    let dimension = |name: &str, dimension: usize| {
        let tensor = parameters.get(name).ok_or_else(|| Error::Checkpoint(format!("{name} is missing")))?;
        tensor.dims().get(dimension).copied().ok_or_else(|| {
            Error::Checkpoint(format!("{name} has shape {:?}, which is too few dimensions", tensor.dims()))
        })
    };
    let hidden_size = dimension("cls_token", 2)?;
    let patch_size = dimension("patch_embed.proj.weight", 3)?;
    let positions = dimension("pos_embed", 1)?;
    let grid = positions.saturating_sub(1).isqrt();
    if grid == 0 || grid * grid + 1 != positions {
        return Err(Error::Checkpoint(format!(
            "pos_embed has {positions} positions; one for CLS and a square grid of patches are expected"
        )));
    }
    let num_attention_heads = match heads {
        Some(heads) => heads,
        None if hidden_size > 0 && hidden_size.is_multiple_of(HEAD_WIDTH) => hidden_size / HEAD_WIDTH,
        None => {
            return Err(Error::Checkpoint(format!(
                "the number of attention heads cannot be told from a width of {hidden_size}; give a config.json"
            )));
        }
    };
    let is_block = |index: &usize| parameters.contains_key(&format!("blocks.{index}.norm1.weight"));
    let depth = (0..parameters.len()).take_while(is_block).count();
    let config = VitConfig {
        hidden_size,
        num_hidden_layers: depth,
        num_attention_heads,
        intermediate_size: dimension("blocks.0.mlp.fc1.weight", 0)?,
        patch_size,
        image_size: grid * patch_size,
        num_channels: dimension("patch_embed.proj.weight", 1)?,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    };
    config.validate()?;
    Ok(config)
}
