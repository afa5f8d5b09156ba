//! The description of a ViT, in the words of Hugging Face's `config.json`.

use crate::Error;
use serde::{Deserialize, Serialize};

/// Whose conventions a model follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Family {
    /// MSN and everything this project trains: `vit_msn`.
    #[default]
    Msn,
    /// DINO and other plain ViTs: `vit`.
    Vit,
    /// `data2vec-vision`: scaled branches, keys without bias, relative positions.
    Data2VecVision,
}

/// How a network knows where a patch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Positions {
    /// Learned embeddings are added to the patches.
    pub absolute: bool,
    /// A bias by offset is added to the attention scores.
    pub relative: RelativePositions,
}

/// Whose the table of biases is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RelativePositions {
    /// There is none.
    None,
    /// Every block has one.
    PerBlock,
    /// One for all blocks.
    Shared,
}

impl Default for Positions {
    fn default() -> Self {
        Self { absolute: true, relative: RelativePositions::None }
    }
}

/// Any width, depth, heads, patch and image size. Field names are those of `config.json` (`ViTMSNConfig`).
///
/// Deserialising fills in what older files leave out and refuses what this crate cannot compute.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Fields")]
pub struct VitConfig {
    /// Width D.
    pub hidden_size: usize,
    /// Depth L.
    pub num_hidden_layers: usize,
    /// Heads.
    pub num_attention_heads: usize,
    /// Hidden width of the MLP, usually 4·D.
    pub intermediate_size: usize,
    /// Patch side in pixels.
    pub patch_size: usize,
    /// Image side the position embeddings are defined for.
    pub image_size: usize,
    /// Always 3.
    pub num_channels: usize,
    /// 1e-6 for MSN, 1e-12 for the others.
    pub layer_norm_eps: f64,
    /// Whose conventions it follows. Follows from `model_type`; what this project writes is MSN.
    #[serde(skip_serializing)]
    pub family: Family,
    /// How it knows positions; MSN's are absolute.
    #[serde(skip_serializing)]
    pub positions: Positions,
}

impl VitConfig {
    /// Patches per side at the native image size.
    pub fn grid(&self) -> usize {
        self.image_size / self.patch_size
    }

    /// Refuses sizes that describe no network, saying which field is wrong and what it would have to be.
    pub fn validate(&self) -> Result<(), Error> {
        self.check().map_err(|reason| Error::Config { file: "config.json".into(), reason })
    }

    fn check(&self) -> Result<(), String> {
        let sizes = [
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("intermediate_size", self.intermediate_size),
            ("patch_size", self.patch_size),
            ("image_size", self.image_size),
        ];
        for (field, value) in sizes {
            // The bound keeps the products of two sizes far from overflow; the largest published ViTs stay below 2^15.
            if value == 0 || value > 1 << 20 {
                return Err(format!("{field} is {value}; it must lie between 1 and {}", 1 << 20));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err(format!(
                "hidden_size {} is not a multiple of num_attention_heads {}",
                self.hidden_size, self.num_attention_heads
            ));
        }
        if self.patch_size > self.image_size {
            return Err(format!(
                "patch_size {} exceeds image_size {}; no patch would fit",
                self.patch_size, self.image_size
            ));
        }
        if self.num_channels != 3 {
            return Err(format!("num_channels is {}; only RGB (3) is supported", self.num_channels));
        }
        if !(self.layer_norm_eps.is_finite() && self.layer_norm_eps > 0.0) {
            return Err(format!("layer_norm_eps is {}; it must be a positive number", self.layer_norm_eps));
        }
        Ok(())
    }
}

/// `config.json` as it is found.
#[derive(Deserialize)]
struct Fields {
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    intermediate_size: Option<usize>,
    patch_size: Side,
    image_size: Side,
    num_channels: Option<usize>,
    layer_norm_eps: Option<f64>,
    hidden_act: Option<String>,
    qkv_bias: Option<bool>,
    model_type: Option<String>,
    #[serde(default)]
    use_absolute_position_embeddings: bool,
    #[serde(default)]
    use_relative_position_bias: bool,
    #[serde(default)]
    use_shared_relative_position_bias: bool,
}

impl Fields {
    fn family(&self) -> Result<Family, String> {
        match self.model_type.as_deref() {
            None | Some("vit_msn") => Ok(Family::Msn),
            Some("vit") => Ok(Family::Vit),
            Some("data2vec-vision") => Ok(Family::Data2VecVision),
            Some(other) => Err(format!(
                "model_type is \"{other}\"; understood are \"vit_msn\" (MSN), \"vit\" (DINO and plain ViTs) and \"data2vec-vision\""
            )),
        }
    }

    fn positions(&self, family: Family) -> Result<Positions, String> {
        if family != Family::Data2VecVision {
            return Ok(Positions::default());
        }
        let relative = match (self.use_relative_position_bias, self.use_shared_relative_position_bias) {
            (false, false) => RelativePositions::None,
            (true, false) => RelativePositions::PerBlock,
            (false, true) => RelativePositions::Shared,
            (true, true) => {
                return Err("relative position biases both shared and per block are not supported".into());
            }
        };
        Ok(Positions { absolute: self.use_absolute_position_embeddings, relative })
    }
}

/// A side in pixels, written as one number or as `[height, width]`.
#[derive(Clone, Copy, Deserialize)]
#[serde(untagged, expecting = "a number of pixels or [height, width]")]
enum Side {
    Square(usize),
    HeightWidth([usize; 2]),
}

impl Side {
    fn square(self, field: &str) -> Result<usize, String> {
        match self {
            Self::Square(side) => Ok(side),
            Self::HeightWidth([height, width]) if height == width => Ok(height),
            Self::HeightWidth([height, width]) => {
                Err(format!("{field} is {height}×{width}; only squares are supported"))
            }
        }
    }
}

impl TryFrom<Fields> for VitConfig {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        // "gelu" is the exact error-function form; "gelu_new" and others would compute something else.
        if let Some(activation) = fields.hidden_act.as_deref().filter(|&activation| activation != "gelu") {
            return Err(format!("hidden_act is \"{activation}\"; only \"gelu\" is supported"));
        }
        if fields.qkv_bias == Some(false) {
            return Err(
                "qkv_bias is false; only models with query, key and value biases are supported".into()
            );
        }
        let family = fields.family()?;
        let positions = fields.positions(family)?;
        let default_eps = if family == Family::Msn { 1e-6 } else { 1e-12 };
        let config = Self {
            hidden_size: fields.hidden_size,
            num_hidden_layers: fields.num_hidden_layers,
            num_attention_heads: fields.num_attention_heads,
            intermediate_size: fields.intermediate_size.unwrap_or(fields.hidden_size.saturating_mul(4)),
            patch_size: fields.patch_size.square("patch_size")?,
            image_size: fields.image_size.square("image_size")?,
            num_channels: fields.num_channels.unwrap_or(3),
            layer_norm_eps: fields.layer_norm_eps.unwrap_or(default_eps),
            family,
            positions,
        };
        config.check()?;
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINIMAL: &str = r#"{"hidden_size": 192, "num_hidden_layers": 12, "num_attention_heads": 3, "patch_size": 16, "image_size": 224}"#;

    fn with(change: &str) -> Result<VitConfig, String> {
        let json = format!("{}, {change}}}", &MINIMAL[..MINIMAL.len() - 1]);
        serde_json::from_str(&json).map_err(|error| error.to_string())
    }

    #[test]
    fn absent_fields_take_the_defaults_of_the_field() {
        let config: VitConfig = serde_json::from_str(MINIMAL).unwrap();
        assert_eq!(config.intermediate_size, 768);
        assert_eq!(config.num_channels, 3);
        assert!((config.layer_norm_eps - 1e-6).abs() < 1e-18);
        assert_eq!(config.grid(), 14);
    }

    #[test]
    fn a_configuration_survives_writing_and_reading() {
        let config: VitConfig = serde_json::from_str(MINIMAL).unwrap();
        assert_eq!(
            serde_json::from_str::<VitConfig>(&serde_json::to_string(&config).unwrap()).unwrap(),
            config
        );
    }

    #[test]
    fn a_side_may_be_a_pair() {
        let json = MINIMAL.replace("224", "[224, 224]").replace("16", "[16, 16]");
        assert_eq!(serde_json::from_str::<VitConfig>(&json).unwrap().image_size, 224);
        let json = MINIMAL.replace("224", "[224, 192]");
        let message = serde_json::from_str::<VitConfig>(&json).unwrap_err().to_string();
        assert!(message.contains("image_size is 224×192"), "{message}");
    }

    #[test]
    fn what_cannot_be_computed_is_refused_by_name() {
        for (change, expected) in [
            (r#""hidden_act": "gelu_new""#, "hidden_act"),
            (r#""qkv_bias": false"#, "qkv_bias"),
            (r#""num_channels": 1"#, "num_channels is 1"),
            (r#""intermediate_size": 0"#, "intermediate_size is 0"),
            (r#""layer_norm_eps": 0.0"#, "layer_norm_eps"),
        ] {
            let message = with(change).unwrap_err();
            assert!(message.contains(expected), "{change}: {message}");
        }
        let heads = MINIMAL.replace("\"num_attention_heads\": 3", "\"num_attention_heads\": 5");
        let message = serde_json::from_str::<VitConfig>(&heads).unwrap_err().to_string();
        assert!(message.contains("not a multiple of num_attention_heads 5"), "{message}");
        let patch = MINIMAL.replace("\"patch_size\": 16", "\"patch_size\": 300");
        let message = serde_json::from_str::<VitConfig>(&patch).unwrap_err().to_string();
        assert!(message.contains("exceeds image_size"), "{message}");
    }
}
