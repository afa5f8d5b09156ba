//! `dozen-train export`.

use super::note;
use anyhow::{Context as _, Result};
use candle_core::Device;
use clap::{Args, ValueEnum};
use dozen_models::checkpoint::StoredDtype;
use dozen_trainer::export::export;
use dozen_trainer::run::Checkpoint;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    /// A run's checkpoint.safetensors.
    #[arg(long, value_name = "FILE")]
    checkpoint: PathBuf,
    /// The model folder to write: model.safetensors, config.json, preprocessor_config.json.
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
    /// Name of the model; the folder's where none is given.
    #[arg(long)]
    name: Option<String>,
    /// Type the weights are stored in.
    #[arg(long, value_enum, default_value = "f32")]
    dtype: DtypeArgument,
}

#[derive(Clone, Copy, ValueEnum)]
enum DtypeArgument {
    F32,
    Bf16,
    F16,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let checkpoint = Checkpoint::load(&arguments.checkpoint, &Device::Cpu)?;
    let folder_name = || Some(arguments.out.file_name()?.to_string_lossy().into_owned());
    let name = arguments.name.clone().or_else(folder_name);
    let name = name.context("--out has no name of its own; give --name")?;
    let dtype = match arguments.dtype {
        DtypeArgument::F32 => StoredDtype::F32,
        DtypeArgument::Bf16 => StoredDtype::Bf16,
        DtypeArgument::F16 => StoredDtype::F16,
    };
    export(&checkpoint, &arguments.out, &name, dtype)?;
    let progress = &checkpoint.progress;
    let epochs = progress.step as f64 / progress.steps_per_epoch as f64;
    note(&format!("{}: the target encoder after {epochs:.1} epochs", arguments.out.display()));
    Ok(())
}
