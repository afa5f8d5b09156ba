//! Our side of `cargo xtask bench twin`: lets another program take the steps of a whole run.
//!
//! Writes the experiment and its first state to a folder, prints a line of JSON, and then answers every line of its input
//! with one: `batch` writes the next batch and says the step's rates, `save` makes a checkpoint of `trained.safetensors`.
#![expect(clippy::print_stdout, reason = "lines of JSON are the answers")]

mod exchange;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Device};
use clap::Parser;
use dozen_trainer::data::ImageSet;
use dozen_trainer::data::order::Batches;
use dozen_trainer::msn::{Msn, Ranks};
use dozen_trainer::run::{Checkpoint, Loader, Progress, Shard, ViewMaker};
use std::io::BufRead as _;
use std::path::PathBuf;
use std::sync::Arc;

/// Feeds a run to another program.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    experiment: exchange::Experiment,
    /// Images to train on.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
}

fn main() -> Result<()> {
    let Arguments { experiment, data } = Arguments::parse();
    let (config, exchange) = (experiment.config()?, experiment.exchange);
    let set = Arc::new(ImageSet::open(&data, &config.data)?);
    let order = Batches::new(set.len(), config.optimisation.batch_size, config.run.seed)
        .context("a batch is larger than the set")?;
    let (images, steps_per_epoch) = (set.len(), order.steps_per_epoch());
    let steps = steps_per_epoch * config.schedule.epochs;
    let schedules = config.schedules(steps_per_epoch);
    let msn = Msn::new(config.msn(), config.run.seed, DType::F32, &Device::Cpu, &Ranks::alone())?;
    exchange::write_case(&exchange, &config, &schedules.at(1), &msn)?;
    let maker = ViewMaker::new(&set, &config, &Device::Cpu)?;
    let loader =
        Loader::start(set, &config, order, Shard { rank: 0, count: 1 }, 0..steps, maker.takes_plans())?;
    println!("{}", serde_json::json!({ "steps": steps, "batch_size": config.optimisation.batch_size }));
    let mut step = 0;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "batch" => {
                let views = maker.views(loader.next_batch()?)?;
                exchange::write_batches(&exchange, &config, &[views])?;
                step += 1;
                let rates = schedules.at(step);
                let answer = serde_json::json!({
                    "learning_rate": rates.learning_rate, "weight_decay": rates.weight_decay,
                    "momentum": rates.momentum, "sharpen": rates.sharpen,
                });
                println!("{answer}");
            }
            "save" => {
                let tensors =
                    candle_core::safetensors::load(exchange.join("trained.safetensors"), &Device::Cpu)?;
                let progress = Progress::new(step, steps_per_epoch, images, config.clone());
                Checkpoint { tensors, progress }.save(&exchange)?;
                println!("{{}}");
            }
            other => bail!("`{other}` is neither `batch` nor `save`"),
        }
    }
    Ok(())
}
