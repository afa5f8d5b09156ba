//! Our side of `cargo xtask bench train`: training steps on demand, timed.
//!
//! Writes what the other side needs to take the same steps (`case.json`, `state.safetensors`, `batches.safetensors`) to a
//! folder, prints a line of JSON, and then answers every line of its input with a line of JSON: `go N` takes N more steps,
//! `matmul` measures a large matrix product.
#![expect(clippy::print_stdout, reason = "lines of JSON are the answers")]

mod exchange;

use anyhow::{Context as _, Result, bail};
use candle_core::{DType, Device, Tensor};
use clap::Parser;
use dozen_trainer::config::Config;
use dozen_trainer::data::ImageSet;
use dozen_trainer::data::order::Batches;
use dozen_trainer::msn::{Msn, Ranks, Rates, StepTimes, Views};
use dozen_trainer::run::{Loader, Shard, ViewMaker};
use std::io::BufRead as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Batches the steps take turns with.
const BATCHES: usize = 2;

/// Side of the square matrices whose product tells the machine's rate.
const MATRIX: usize = 2048;

/// Takes training steps on demand.
#[derive(Parser)]
struct Arguments {
    #[command(flatten)]
    experiment: exchange::Experiment,
    /// Train on the first CUDA device.
    #[arg(long)]
    cuda: bool,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let (config, exchange) = (arguments.experiment.config()?, &arguments.experiment.exchange);
    let device = if arguments.cuda { Device::new_cuda(0)? } else { Device::Cpu };
    let mut msn = Msn::new(config.msn(), config.run.seed, DType::F32, &device, &Ranks::alone())?;
    let rates = Rates {
        learning_rate: config.optimisation.start_learning_rate,
        weight_decay: config.optimisation.weight_decay,
        momentum: config.optimisation.start_momentum,
        sharpen: config.loss.start_sharpen,
        ensemble_temperature: config.loss.start_ensemble_temperature,
    };
    let (batches, data_seconds) = batches(&config, exchange, &device)?;
    exchange::write_case(exchange, &config, &rates, &msn)?;
    exchange::write_batches(exchange, &config, &batches)?;
    println!("{}", serde_json::json!({ "config": config, "data_seconds": data_seconds }));
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match line.split_once(' ') {
            Some(("go", steps)) => go(&mut msn, &batches, &rates, steps.parse().context("go N")?)?,
            None if line == "matmul" => serde_json::json!({ "multiply_adds_per_second": matmul(&device)? }),
            _ => bail!("`{line}` is neither `go N` nor `matmul`"),
        };
        println!("{answer}");
    }
    Ok(())
}

fn go(msn: &mut Msn, batches: &[Views], rates: &Rates, steps: usize) -> Result<serde_json::Value> {
    let (mut losses, mut norms) = (Vec::new(), Vec::new());
    let mut parts = [0.0; 3];
    let started = Instant::now();
    for _ in 0..steps {
        let batch = msn.steps() as usize % batches.len();
        let report = msn.step(&batches[batch..=batch], rates)?;
        losses.push(report.loss);
        norms.push(report.gradient_norm);
        let StepTimes { forward, backward, update } = msn.times();
        for (sum, part) in parts.iter_mut().zip([forward, backward, update]) {
            *sum += part.as_secs_f64();
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    let [forward, backward, update] = parts.map(|sum| sum / steps as f64);
    Ok(serde_json::json!({
        "seconds": seconds / steps as f64, "forward": forward, "backward": backward, "update": update,
        "losses": losses, "gradient_norms": norms,
    }))
}

/// Renders the first batches of a run over generated pictures, and the seconds per batch that takes with nothing beside it.
fn batches(config: &Config, folder: &Path, device: &Device) -> Result<(Vec<Views>, f64)> {
    const TIMED: usize = 6;
    let batch_size = config.optimisation.batch_size;
    let pictures = folder.join("pictures");
    write_pictures(&pictures, BATCHES * batch_size, config.views.random_size * 5 / 4)?;
    let set = Arc::new(ImageSet::open(&[pictures], &config.data)?);
    let order = Batches::new(set.len(), batch_size, config.run.seed).context("too few pictures")?;
    // The loader works ahead by what its channel holds: count the batches that come after.
    let maker = ViewMaker::new(&set, config, device)?;
    let (shard, steps) = (Shard { rank: 0, count: 1 }, 0..BATCHES + TIMED);
    let loader = Loader::start(set, config, order, shard, steps, maker.takes_plans())?;
    let mut batches = Vec::new();
    for _ in 0..BATCHES {
        batches.push(maker.views(loader.next_batch()?)?);
    }
    let (_, _, started) = (loader.next_batch()?, loader.next_batch()?, Instant::now());
    for _ in 2..TIMED {
        loader.next_batch()?;
    }
    Ok((batches, started.elapsed().as_secs_f64() / (TIMED - 2) as f64))
}

/// Overlapping waves, different in every picture.
fn write_pictures(folder: &Path, count: usize, side: usize) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    for number in 0..count {
        let picture = image::RgbImage::from_fn(side as u32, side as u32, |x, y| {
            let (x, y, number) = (x as f32 / side as f32, y as f32 / side as f32, number as f32);
            let wave =
                |pace: f32| 127.5 * (1.0 + (pace * (x + 0.3 * number) + (7.0 - pace) * y * y + number).sin());
            image::Rgb([9.0, 17.0, 31.0].map(|pace| wave(pace) as u8))
        });
        picture.save(folder.join(format!("{number:04}.png")))?;
    }
    Ok(())
}

/// Multiply-adds per second of a large f32 product, the best of a few.
fn matmul(device: &Device) -> Result<f64> {
    let matrix = |pace: f64| -> candle_core::Result<Tensor> {
        let values: Vec<f32> = (0..MATRIX * MATRIX).map(|n| (pace * n as f64).sin() as f32).collect();
        Tensor::from_vec(values, (MATRIX, MATRIX), device)
    };
    let (left, right) = (matrix(0.37)?, matrix(0.53)?);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        let started = Instant::now();
        let product = left.matmul(&right)?;
        device.synchronize()?;
        best = best.min(started.elapsed().as_secs_f64());
        drop(product);
    }
    Ok(MATRIX.pow(3) as f64 / best)
}
