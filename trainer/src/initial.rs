//! The trunk a run begins with, where that is not a random one.

use crate::Error;
use crate::config::Config;
use crate::run::Checkpoint;
use candle_core::Device;
use dozen_models::ModelFiles;
use dozen_models::checkpoint::{ModelConfig, load_safetensors};
use dozen_models::vit::{Parameters, Positions, VitConfig};
use std::path::Path;

/// A loadable trunk: of a model folder, of the weights that ship, or of another run's checkpoint.
pub struct InitialTrunk {
    /// Its shape.
    pub vit: VitConfig,
    /// Its tensors, by canonical names.
    pub parameters: Parameters,
}

impl InitialTrunk {
    /// Reads `shipped`, a run's `checkpoint.safetensors`, or a model folder.
    pub fn read(source: &str) -> Result<Self, Error> {
        let path = Path::new(source);
        if source != "shipped" && path.is_file() {
            let checkpoint = Checkpoint::load(path, &Device::Cpu)?;
            let vit = checkpoint.progress.config.vit();
            return Ok(Self { vit, parameters: checkpoint.group("target") });
        }
        let files = if source == "shipped" { ModelFiles::shipped() } else { ModelFiles::read(path)? };
        let vit = ModelConfig::from_json(&files.config)?.vit;
        let parameters = load_safetensors(&files.weights, &Device::Cpu)?;
        Ok(Self { vit, parameters })
    }

    /// Says which keys of `config` describe another network than this trunk, and what they would have to be.
    pub fn check(&self, config: &Config) -> Result<(), Error> {
        if self.vit.positions != Positions::default() {
            let difference = "the initial model has relative positions; training continues models with position embeddings";
            return Err(Error::OtherShape { differences: vec![difference.into()] });
        }
        let wanted = config.vit();
        let pairs = [
            ("model.hidden_size", wanted.hidden_size, self.vit.hidden_size),
            ("model.num_hidden_layers", wanted.num_hidden_layers, self.vit.num_hidden_layers),
            ("model.num_attention_heads", wanted.num_attention_heads, self.vit.num_attention_heads),
            ("model.intermediate_size", wanted.intermediate_size, self.vit.intermediate_size),
            ("model.patch_size", wanted.patch_size, self.vit.patch_size),
            ("views.random_size", wanted.image_size, self.vit.image_size),
        ];
        let differences: Vec<String> = pairs
            .into_iter()
            .filter(|(_, here, there)| here != there)
            .map(|(key, here, there)| format!("{key} is {here}, the initial model needs {there}"))
            .collect();
        if differences.is_empty() { Ok(()) } else { Err(Error::OtherShape { differences }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_of_another_shape_is_told_which_keys_to_change() {
        let shipped = InitialTrunk::read("shipped").unwrap();
        let read = |name: &str| {
            let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
            Config::read(&path, &[]).unwrap()
        };
        shipped.check(&read("shipped-cpu.toml")).unwrap();
        let message = shipped.check(&read("default.toml")).unwrap_err().to_string();
        let wanted = format!("model.patch_size is 16, the initial model needs {}", shipped.vit.patch_size);
        assert!(message.contains(&wanted), "{message}");
    }

    #[test]
    fn what_is_no_model_is_named() {
        let message = InitialTrunk::read("/nowhere/model").err().unwrap().to_string();
        assert!(message.contains("/nowhere/model"), "{message}");
    }
}
