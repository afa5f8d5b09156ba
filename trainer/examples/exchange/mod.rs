//! The experiment of a benchmark, and what its other side reads.

use anyhow::Result;
use candle_core::{Device, Tensor};
use dozen_trainer::config::Config;
use dozen_trainer::msn::{Mask, Msn, Rates, Views};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// What is trained, and where the two sides meet.
#[derive(clap::Args)]
pub(crate) struct Experiment {
    /// The experiment, a TOML file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Set a key of the configuration. Repeatable.
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    overrides: Vec<String>,
    /// Folder for what the two sides tell each other.
    #[arg(long, value_name = "DIR")]
    pub(crate) exchange: PathBuf,
}

impl Experiment {
    /// The configuration, changed as asked.
    pub(crate) fn config(&self) -> Result<Config> {
        Ok(Config::read(&self.config, &self.overrides)?)
    }
}

/// The experiment (`case.json`) and the state it begins with (`state.safetensors`).
pub(crate) fn write_case(folder: &Path, config: &Config, rates: &Rates, msn: &Msn) -> Result<()> {
    let Rates { learning_rate, weight_decay, momentum, sharpen, .. } = *rates;
    let case = serde_json::json!({
        "config": config, "learning_rate": learning_rate, "weight_decay": weight_decay, "momentum": momentum,
        "sharpen": sharpen,
    });
    std::fs::write(folder.join("case.json"), case.to_string())?;
    let state: HashMap<String, Tensor> = msn.state().into_iter().collect();
    Ok(candle_core::safetensors::save(&state, folder.join("state.safetensors"))?)
}

/// Batches to see (`batches.safetensors`).
pub(crate) fn write_batches(folder: &Path, config: &Config, batches: &[Views]) -> Result<()> {
    let mut tensors = HashMap::new();
    for (number, views) in batches.iter().enumerate() {
        tensors.insert(format!("{number}.target"), views.target.clone());
        let names = if config.views.random_views > 0 { ["random", "focal"] } else { ["focal", ""] };
        for (name, group) in names.into_iter().zip(&views.anchors) {
            tensors.insert(format!("{number}.{name}"), group.pixels.clone());
            if let Some(Mask::Shared(keep)) = &group.mask {
                let keep: Vec<i64> = keep.iter().map(|&index| i64::from(index)).collect();
                tensors.insert(format!("{number}.keep"), Tensor::new(keep, &Device::Cpu)?);
            }
        }
    }
    Ok(candle_core::safetensors::save(&tensors, folder.join("batches.safetensors"))?)
}
