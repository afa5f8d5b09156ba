//! `dozen-train adapt`: a few epochs on a user's own unlabelled pictures, from a trained model.

use super::note;
use super::pretrain::{Plan, RunArguments, drive};
use anyhow::Result;
use candle_core::Device;
use clap::Args;
use dozen_models::checkpoint::StoredDtype;
use dozen_trainer::config::Config;
use dozen_trainer::export::export;
use dozen_trainer::initial::InitialTrunk;
use dozen_trainer::run::Checkpoint;
use std::path::{Path, PathBuf};

#[derive(Args)]
pub(super) struct Arguments {
    /// The model to begin with: a model folder, a run's checkpoint.safetensors, or `shipped`.
    #[arg(long, default_value = "shipped", value_name = "MODEL")]
    init: String,
    #[command(flatten)]
    run: RunArguments,
    /// Folder for checkpoints, log and report; the adapted model is its folder `model`.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Passes over the pictures.
    #[arg(long, default_value_t = 5)]
    epochs: usize,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let plan = || {
        let trunk = InitialTrunk::read(&arguments.init)?;
        let config = Config::adapting(&trunk.vit, arguments.epochs, &arguments.run.overrides)?;
        trunk.check(&config)?;
        Ok(Plan { config, initial: Some(trunk) })
    };
    drive(&arguments.run, &arguments.out, plan, &|| write_model(&arguments.out))
}

fn write_model(out: &Path) -> Result<()> {
    let checkpoint = Checkpoint::load_latest(out, &Device::Cpu)?;
    let model = out.join("model");
    export(&checkpoint, &model, "adapted", StoredDtype::F16)?;
    note(&format!("model: {}", model.display()));
    Ok(())
}
