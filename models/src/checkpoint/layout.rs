//! Which tensor of a foreign checkpoint becomes which parameter.

use crate::Error;
use crate::vit::Parameters;
use candle_core::Tensor;
use std::collections::BTreeMap;

/// What a refused checkpoint is told.
pub(super) const UNDERSTOOD: &str = "understood are the Hugging Face names of ViTMSNModel and ViTModel (bare or under \
     \"vit.\") and of Data2VecVisionModel (bare or under \"data2vec_vision.\"), facebook \"target_encoder\" checkpoints (with \
     or without \"module.\") and timm VisionTransformer names";

/// Parts of a checkpoint that are not the trunk: projection and classification heads, poolers, prototypes, and the
/// mask token, which MSN never uses.
const IGNORED: [&str; 8] = [
    "fc.",
    "fc_norm.",
    "head.",
    "classifier.",
    "pooler.dense.",
    "prototypes",
    "mask_token",
    "embeddings.mask_token",
];

/// Where a tensor goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// It is the parameter of this canonical name.
    Whole(String),
    /// It is the query (0), key (1) or value (2) third of this parameter's rows.
    Third(String, usize),
    /// It multiplies the output of the layer of this canonical name, channel by channel.
    Scale(String),
    /// Not part of the trunk.
    Ignored,
    /// Of another architecture.
    Unknown,
}

/// Finds the place of a tensor by its name.
pub(super) fn place(name: &str) -> Place {
    let name = name.strip_prefix("module.").unwrap_or(name);
    let name =
        ["vit.", "data2vec_vision."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    // Offsets of patches, which some versions stored, follow from the grid.
    if IGNORED.iter().any(|prefix| name.starts_with(prefix)) || name.ends_with("relative_position_index") {
        return Place::Ignored;
    }
    match name {
        "cls_token" | "embeddings.cls_token" => return Place::Whole("cls_token".into()),
        "pos_embed" | "embeddings.position_embeddings" => return Place::Whole("pos_embed".into()),
        "encoder.relative_position_bias.relative_position_bias_table"
        | "rel_pos_bias.relative_position_bias_table" => {
            return Place::Whole("rel_pos_bias.relative_position_bias_table".into());
        }
        _ => {}
    }
    if let Some(place) = place_of_data2vec(name) {
        return place;
    }
    let Some((module, kind)) = name.rsplit_once('.').filter(|(_, kind)| matches!(*kind, "weight" | "bias"))
    else {
        return Place::Unknown;
    };
    match module {
        "patch_embed.proj" | "embeddings.patch_embeddings.projection" => {
            Place::Whole(format!("patch_embed.proj.{kind}"))
        }
        // data2vec's norm is in its pooler, after the mean of the patches.
        "norm" | "layernorm" | "pooler.layernorm" => Place::Whole(format!("norm.{kind}")),
        _ => place_in_block(module, kind).unwrap_or(Place::Unknown),
    }
}

/// What only data2vec's blocks have: factors of their branches, and position biases.
fn place_of_data2vec(name: &str) -> Option<Place> {
    let (index, rest) = name.strip_prefix("encoder.layer.")?.split_once('.')?;
    let index: usize = index.parse().ok()?;
    match rest {
        "lambda_1" => Some(Place::Scale(format!("blocks.{index}.attn.proj"))),
        "lambda_2" => Some(Place::Scale(format!("blocks.{index}.mlp.fc2"))),
        "attention.attention.relative_position_bias.relative_position_bias_table" => {
            Some(Place::Whole(format!("blocks.{index}.attn.relative_position_bias_table")))
        }
        _ => None,
    }
}

/// The names inside a block: timm's, those Hugging Face stores, and those of `transformers` 5 in memory.
fn place_in_block(module: &str, kind: &str) -> Option<Place> {
    let rest =
        ["blocks.", "encoder.layer.", "layers."].iter().find_map(|prefix| module.strip_prefix(prefix))?;
    let (index, module) = rest.split_once('.')?;
    let index: usize = index.parse().ok()?;
    let third = |third| Some(Place::Third(format!("blocks.{index}.attn.qkv.{kind}"), third));
    let canonical = match module {
        "attention.attention.query" | "attention.q_proj" => return third(0),
        "attention.attention.key" | "attention.k_proj" => return third(1),
        "attention.attention.value" | "attention.v_proj" => return third(2),
        "attn.qkv" => "attn.qkv",
        "norm1" | "layernorm_before" => "norm1",
        "norm2" | "layernorm_after" => "norm2",
        "attn.proj" | "attention.output.dense" | "attention.o_proj" => "attn.proj",
        "mlp.fc1" | "intermediate.dense" => "mlp.fc1",
        "mlp.fc2" | "output.dense" => "mlp.fc2",
        _ => return None,
    };
    Some(Place::Whole(format!("blocks.{index}.{canonical}.{kind}")))
}

/// Puts a checkpoint's tensors in their places.
#[derive(Default)]
pub(super) struct Assembly {
    parameters: Parameters,
    thirds: BTreeMap<String, [Option<Tensor>; 3]>,
    scales: BTreeMap<String, Tensor>,
}

impl Assembly {
    /// Refuses a checkpoint of another architecture by its names, before anything is read.
    pub(super) fn check_names<'a>(names: impl Iterator<Item = &'a str>) -> Result<(), Error> {
        let (mut unknown, mut trunk, mut all) = (Vec::new(), 0, 0);
        for name in names {
            all += 1;
            match place(name) {
                Place::Unknown => unknown.push(name),
                Place::Whole(_) | Place::Third(..) | Place::Scale(_) => trunk += 1,
                Place::Ignored => {}
            }
        }
        unknown.sort_unstable();
        match unknown.first() {
            None if trunk > 0 => Ok(()),
            None => Err(Error::Checkpoint(format!(
                "none of its {all} tensors belongs to a ViT trunk; {UNDERSTOOD}"
            ))),
            Some(first) => Err(Error::Checkpoint(format!(
                "{} of its {all} tensors have no place in this architecture, such as \"{first}\"; {UNDERSTOOD}",
                unknown.len()
            ))),
        }
    }

    /// Takes one tensor; those that are not of the trunk are dropped.
    pub(super) fn insert(&mut self, name: &str, tensor: Tensor) -> Result<(), Error> {
        let (canonical, replaced) = match place(name) {
            Place::Whole(canonical) => {
                let replaced = self.parameters.insert(canonical.clone(), tensor).is_some();
                (canonical, replaced)
            }
            Place::Third(canonical, third) => {
                let thirds = self.thirds.entry(canonical.clone()).or_default();
                (canonical, thirds[third].replace(tensor).is_some())
            }
            Place::Scale(layer) => {
                let replaced = self.scales.insert(layer.clone(), tensor).is_some();
                (layer, replaced)
            }
            Place::Ignored | Place::Unknown => return Ok(()),
        };
        if replaced {
            return Err(Error::Checkpoint(format!(
                "two tensors claim to be {canonical}, the second is \"{name}\""
            )));
        }
        Ok(())
    }

    /// Joins queries, keys and values, and lets the layers take up the factors of their outputs: λ·(W·x + b) is
    /// (λ·W)·x + λ·b.
    pub(super) fn finish(mut self) -> Result<Parameters, Error> {
        self.fill_key_biases()?;
        for (layer, scale) in std::mem::take(&mut self.scales) {
            for kind in ["weight", "bias"] {
                let name = format!("{layer}.{kind}");
                let values = self.parameters.get_mut(&name);
                let values = values.ok_or_else(|| Error::Checkpoint(format!("{name} is missing")))?;
                let factor = if kind == "weight" { scale.reshape(((), 1))? } else { scale.clone() };
                *values = values.broadcast_mul(&factor)?;
            }
        }
        for (canonical, thirds) in self.thirds {
            let [Some(query), Some(key), Some(value)] = &thirds else {
                let missing: Vec<_> = ["query", "key", "value"]
                    .iter()
                    .zip(&thirds)
                    .filter(|(_, tensor)| tensor.is_none())
                    .map(|(name, _)| *name)
                    .collect();
                return Err(Error::Checkpoint(format!("{canonical} lacks its {}", missing.join(" and "))));
            };
            if query.dims() != key.dims() || query.dims() != value.dims() {
                return Err(Error::Checkpoint(format!(
                    "{canonical}: query, key and value have different shapes {:?}, {:?}, {:?}",
                    query.dims(),
                    key.dims(),
                    value.dims()
                )));
            }
            let joined = Tensor::cat(&[query, key, value], 0)?;
            if self.parameters.insert(canonical.clone(), joined).is_some() {
                return Err(Error::Checkpoint(format!(
                    "{canonical} is there both packed and in three parts"
                )));
            }
        }
        Ok(self.parameters)
    }

    /// Where no key of the whole network has a bias, it is an architecture without: the biases are 0.
    fn fill_key_biases(&mut self) -> Result<(), Error> {
        let is_without = |(name, thirds): (&String, &[Option<Tensor>; 3])| {
            !is_bias(name) || matches!(thirds, [Some(_), None, Some(_)])
        };
        if self.thirds.iter().all(is_without) {
            for (name, [query, key, _]) in &mut self.thirds {
                if let Some(query) = query
                    && is_bias(name)
                {
                    *key = Some(query.zeros_like()?);
                }
            }
        }
        Ok(())
    }
}

fn is_bias(name: &str) -> bool {
    name.rsplit('.').next() == Some("bias")
}

/// The names under which Hugging Face stores a canonical parameter: one, or three for packed queries, keys, values.
pub(super) fn hugging_face_names(canonical: &str) -> Vec<String> {
    match canonical {
        "cls_token" => return vec!["embeddings.cls_token".into()],
        "pos_embed" => return vec!["embeddings.position_embeddings".into()],
        _ => {}
    }
    if let Some(kind) = canonical.strip_prefix("patch_embed.proj.") {
        return vec![format!("embeddings.patch_embeddings.projection.{kind}")];
    }
    if let Some((index, rest)) = canonical.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
        let layer = format!("encoder.layer.{index}");
        if let Some(kind) = rest.strip_prefix("attn.qkv.") {
            return ["query", "key", "value"]
                .map(|part| format!("{layer}.attention.attention.{part}.{kind}"))
                .into();
        }
        let stored = [
            ("norm1.", "layernorm_before."),
            ("norm2.", "layernorm_after."),
            ("attn.proj.", "attention.output.dense."),
            ("mlp.fc1.", "intermediate.dense."),
            ("mlp.fc2.", "output.dense."),
        ];
        for (ours, theirs) in stored {
            if let Some(kind) = rest.strip_prefix(ours) {
                return vec![format!("{layer}.{theirs}{kind}")];
            }
        }
    }
    // Only norm.weight and norm.bias are left.
    vec![format!("layer{canonical}")]
}
