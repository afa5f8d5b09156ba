//! A whole run of ours beside the same run in PyTorch: the same first weights, views and rates, so that what the encoders
//! know at the end is a check of every step between. No timings: `bench train` has those.

use crate::Options;
use crate::child::Program;
use crate::report::{Row, machine, write_documentation, write_json};
use crate::train::{PEER, start_peer};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const CONFIG: &str = "../trainer/configs/shipped-cpu.toml";
/// Labelled images per class.
const SHOTS: [&str; 2] = ["5", "13"];

/// What is trained on, and judged by.
#[derive(clap::Args)]
pub(crate) struct Experiment {
    /// Images to train on.
    #[arg(long, value_name = "PATH")]
    data: PathBuf,
    /// Labelled images to judge by.
    #[arg(long, value_name = "PATH")]
    labelled: PathBuf,
    /// Passes over the images; `--quick` makes one.
    #[arg(long, default_value_t = 2, value_name = "N")]
    epochs: usize,
}

/// The programs; `cargo xtask bench twin` makes and names them.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// The trainer.
    #[arg(long, env = "DOZEN_BENCH_TRAINER", value_name = "FILE")]
    trainer: PathBuf,
    /// Its example `bench_feed`.
    #[arg(long, env = "DOZEN_BENCH_FEED", value_name = "FILE")]
    feed: PathBuf,
    /// A Python interpreter with the pinned packages.
    #[arg(long, env = "DOZEN_BENCH_PYTHON", value_name = "FILE")]
    python: PathBuf,
}

/// First line of the feeding side.
#[derive(Deserialize)]
struct Ready {
    steps: usize,
    batch_size: usize,
}

#[derive(Deserialize)]
struct Report {
    rows: Vec<Scored>,
}

/// One line of an evaluation.
#[derive(Deserialize)]
struct Scored {
    head: String,
    l2: Option<f64>,
    shots: u64,
    accuracy: f64,
    interval: f64,
}

pub(crate) fn run(options: &Options, experiment: &Experiment, programs: &Programs) -> Result<()> {
    let epochs = if options.quick { 1 } else { experiment.epochs };
    let exchange = tempfile::tempdir()?;
    let folder = |name: &str| -> Result<PathBuf> {
        let folder = exchange.path().join(name);
        std::fs::create_dir(&folder)?;
        Ok(folder)
    };
    let (ours, theirs) = (folder("ours")?, folder("theirs")?);
    let mut command = Command::new(&programs.trainer);
    command.args(["pretrain", "--device", "cpu", "--out"]).arg(&ours);
    finish(configure(&mut command, experiment, epochs))?;
    let images = train_peer(experiment, programs, epochs, &theirs)?;

    let ours = evaluate(experiment, programs, &ours)?;
    let theirs = evaluate(experiment, programs, &theirs)?;
    let rows: Vec<Row> = ours.rows.iter().zip(&theirs.rows).map(|(ours, theirs)| row(ours, theirs)).collect();
    ensure!(rows.len() == ours.rows.len() && rows.len() == theirs.rows.len(), "two tables of one shape");
    let table = table(&ours.rows, &theirs.rows, images);
    println!("{table}");
    if let Some(path) = &options.json {
        write_json(path, &rows)?;
    }
    if !options.quick {
        write_documentation("twin", &table)?;
    }
    Ok(())
}

fn configure<'a>(command: &'a mut Command, experiment: &Experiment, epochs: usize) -> &'a mut Command {
    let config = Path::new(env!("CARGO_MANIFEST_DIR")).join(CONFIG);
    let epochs = format!("schedule.epochs={epochs}");
    command.arg("--config").arg(config).args(["--set", &epochs, "--data"]).arg(&experiment.data)
}

fn finish(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Trains the peer, batch by batch, and leaves a checkpoint of it in `folder`; the number of images it saw.
fn train_peer(experiment: &Experiment, programs: &Programs, epochs: usize, folder: &Path) -> Result<usize> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(&programs.feed);
    configure(&mut command, experiment, epochs).arg("--exchange").arg(folder);
    let (mut feed, ready): (_, Ready) = Program::start("the feeding side", &mut command, threads)?;
    let mut peer = start_peer(&programs.python, folder, false)?;
    for step in 0..ready.steps {
        let rates: Value = feed.ask("batch")?;
        let answer: Value = peer.ask(&format!("take {rates}"))?;
        let loss = answer["loss"].as_f64().unwrap_or(f64::NAN);
        ensure!(loss.is_finite(), "PyTorch's loss is not finite at step {step}");
        if step % 50 == 0 {
            println!("{PEER}: step {step} of {}, loss {loss:.3}", ready.steps);
        }
    }
    let _: Value = peer.ask("save")?;
    let _: Value = feed.ask("save")?;
    Ok(ready.steps * ready.batch_size)
}

fn evaluate(experiment: &Experiment, programs: &Programs, run: &Path) -> Result<Report> {
    let json = run.join("accuracy.json");
    let mut command = Command::new(&programs.trainer);
    command.args(["eval", "low-shot", "--l2", "0.0025,0.3", "--shots", &SHOTS.join(","), "--data"]);
    command.arg(&experiment.labelled).arg("--model").arg(run.join("checkpoint.safetensors"));
    finish(command.arg("--json").arg(&json))?;
    let text = std::fs::read_to_string(&json).with_context(|| format!("cannot read {}", json.display()))?;
    serde_json::from_str(&text).with_context(|| format!("{} is not as expected", json.display()))
}

fn head(row: &Scored) -> String {
    row.l2.map_or_else(|| row.head.clone(), |l2| format!("{}, λ = {l2}", row.head))
}

fn row(ours: &Scored, theirs: &Scored) -> Row {
    Row {
        bench: "twin",
        case: format!("{}, {} labels", head(ours), ours.shots),
        unit: "% right",
        ours: 100.0 * ours.accuracy,
        peer: PEER.into(),
        peer_value: 100.0 * theirs.accuracy,
        ratio: ours.accuracy / theirs.accuracy,
        agreement: 1.0 - (ours.accuracy - theirs.accuracy).abs(),
    }
}

fn table(ours: &[Scored], theirs: &[Scored], images: usize) -> String {
    let mut text = format!(
        "{}; {images} images seen by each; accuracy in % over random draws of the labels and its 95 % interval.\n\n\
         | head | labels | ours | {PEER} |\n|---|---:|---:|---:|\n",
        machine()
    );
    let cell = |row: &Scored| format!("{:.1} ± {:.1}", 100.0 * row.accuracy, 100.0 * row.interval);
    for (ours, theirs) in ours.iter().zip(theirs) {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "| {} | {} | {} | {} |", head(ours), ours.shots, cell(ours), cell(theirs));
    }
    text
}
