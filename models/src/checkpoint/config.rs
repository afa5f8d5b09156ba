//! `config.json` as a whole: the network, and what this project adds to it.

use super::{CONFIG_FILE, StoredDtype};
use crate::Error;
use crate::vit::{Family, VitConfig};
use serde::{Deserialize, Serialize};

/// Which vector an image is described by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// CLS of the last block before the final LayerNorm, its own mean subtracted, scaled to length 1: the low-shot
    /// protocol of arXiv 2204.07141.
    #[default]
    ClsBeforeNorm,
    /// CLS after the final LayerNorm, scaled to length 1: what `last_hidden_state[:, 0]` gives in `transformers`. How DINO
    /// (arXiv 2104.14294) evaluates frozen features.
    ClsAfterNorm,
    /// Mean of the patches of the last block, then the pooler's LayerNorm where there is one, scaled to length 1: what
    /// data2vec (arXiv 2202.03555) classifies by.
    MeanPatches,
}

/// The contents of `config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct ModelConfig {
    /// The network.
    pub vit: VitConfig,
    /// What the model calls itself.
    pub name: Option<String>,
    /// The vector it gives.
    pub feature: Feature,
}

/// The section `dozen`, which `transformers` carries along unread.
#[derive(Default, Serialize, Deserialize)]
struct Section {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    feature: Option<Feature>,
}

#[derive(Deserialize)]
struct Reading {
    #[serde(flatten)]
    vit: VitConfig,
    /// data2vec's.
    use_mean_pooling: Option<bool>,
    #[serde(default)]
    dozen: Section,
}

impl Reading {
    /// The feature a family's authors evaluate, where the folder does not name one.
    fn usual_feature(&self) -> Feature {
        match self.vit.family {
            Family::Msn => Feature::ClsBeforeNorm,
            Family::Vit => Feature::ClsAfterNorm,
            Family::Data2VecVision if self.use_mean_pooling == Some(false) => Feature::ClsAfterNorm,
            Family::Data2VecVision => Feature::MeanPatches,
        }
    }
}

/// Every field that `ViTMSNConfig` has, so that no reader falls back on a default of its own.
#[derive(Serialize)]
struct Writing<'a> {
    architectures: [&'static str; 1],
    model_type: &'static str,
    #[serde(flatten)]
    vit: &'a VitConfig,
    hidden_act: &'static str,
    hidden_dropout_prob: f64,
    attention_probs_dropout_prob: f64,
    initializer_range: f64,
    qkv_bias: bool,
    torch_dtype: &'static str,
    dozen: Section,
}

impl ModelConfig {
    /// Parses `config.json`; without a `dozen` section the name is unknown and the feature the one the model's authors
    /// evaluate.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        let read: Reading = serde_json::from_str(json)
            .map_err(|error| Error::Config { file: CONFIG_FILE.into(), reason: error.to_string() })?;
        let feature = read.dozen.feature.unwrap_or_else(|| read.usual_feature());
        Ok(Self { vit: read.vit, name: read.dozen.name, feature })
    }

    /// Writes `config.json` for weights stored as `dtype`.
    pub fn to_json(&self, dtype: StoredDtype) -> Result<String, Error> {
        let writing = Writing {
            architectures: ["ViTMSNModel"],
            model_type: "vit_msn",
            vit: &self.vit,
            hidden_act: "gelu",
            hidden_dropout_prob: 0.0,
            attention_probs_dropout_prob: 0.0,
            initializer_range: 0.02,
            qkv_bias: true,
            torch_dtype: dtype.torch_name(),
            dozen: Section { name: self.name.clone(), feature: Some(self.feature) },
        };
        serde_json::to_string_pretty(&writing)
            .map(|json| json + "\n")
            .map_err(|error| Error::Config { file: CONFIG_FILE.into(), reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HUB: &str = r#"{"architectures": ["ViTMSNModel"], "hidden_size": 384, "num_hidden_layers": 12,
        "num_attention_heads": 6, "intermediate_size": 1536, "patch_size": 16, "image_size": 224,
        "hidden_act": "gelu", "model_type": "vit_msn", "id2label": {"0": "tench"}}"#;

    #[test]
    fn a_hub_configuration_gives_the_papers_feature() {
        let config = ModelConfig::from_json(HUB).unwrap();
        assert_eq!((config.vit.hidden_size, config.vit.num_hidden_layers), (384, 12));
        assert_eq!(config.name, None);
        assert_eq!(config.feature, Feature::ClsBeforeNorm);
    }

    #[test]
    fn each_family_gives_the_feature_its_authors_evaluate() {
        let with = |change: &str| ModelConfig::from_json(&HUB.replace("\"model_type\": \"vit_msn\"", change));
        let dino = with(r#""model_type": "vit""#).unwrap();
        assert_eq!(dino.feature, Feature::ClsAfterNorm);
        assert!((dino.vit.layer_norm_eps - 1e-12).abs() < 1e-15);
        let data2vec = r#""model_type": "data2vec-vision", "use_relative_position_bias": true"#;
        let config = with(data2vec).unwrap();
        assert_eq!(config.feature, Feature::MeanPatches);
        assert!(!config.vit.positions.absolute);
        let with_cls = with(&format!("{data2vec}, \"use_mean_pooling\": false")).unwrap();
        assert_eq!(with_cls.feature, Feature::ClsAfterNorm);
        let message = with(r#""model_type": "swin""#).unwrap_err().to_string();
        assert!(message.contains("swin") && message.contains("data2vec-vision"), "{message}");
    }

    #[test]
    fn what_is_written_is_read_back() {
        let mut config = ModelConfig::from_json(HUB).unwrap();
        config.name = Some("small".into());
        config.feature = Feature::ClsAfterNorm;
        let json = config.to_json(StoredDtype::F16).unwrap();
        assert_eq!(ModelConfig::from_json(&json).unwrap(), config);
        let fields: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(fields["torch_dtype"], "float16");
        assert_eq!(fields["architectures"][0], "ViTMSNModel");
        assert_eq!(fields["dozen"]["feature"], "cls_after_norm");
    }

    #[test]
    fn errors_name_the_file_and_the_field() {
        let message = ModelConfig::from_json(r#"{"hidden_size": 384}"#).unwrap_err().to_string();
        assert!(message.contains("config.json") && message.contains("num_hidden_layers"), "{message}");
        let json = HUB.replace("\"model_type\"", "\"dozen\": {\"feature\": \"mean\"}, \"model_type\"");
        let message = ModelConfig::from_json(&json).unwrap_err().to_string();
        assert!(message.contains("cls_before_norm"), "{message}");
    }
}
