//! One training step beside the same step in PyTorch: images per second, peak memory, and where the time goes.
//!
//! Both sides are processes of their own that start from the same weights, see the same views and use the same number of
//! threads. They take turns; before anything is timed, their first steps must have the same losses and gradients.

mod cost;

use crate::Options;
use crate::child::{Program, Steps, agreement};
use crate::report::{Row, machine, median, write_documentation, write_json};
use anyhow::{Result, ensure};
use cost::Configuration;
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const PEER: &str = "PyTorch 2.15.0";
const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 5;
/// Steps whose losses and gradients must agree; they also warm both sides up.
const COMPARED_STEPS: usize = 4;
/// Least agreement of losses and gradient norms in f32. bf16 on a GPU gives up two digits.
const LEAST_AGREEMENT: f64 = 0.998;
const LEAST_AGREEMENT_GPU: f64 = 0.95;

/// What is trained.
struct Case {
    name: &'static str,
    /// Below trainer/configs.
    config: &'static str,
    overrides: &'static [&'static str],
    /// Steps per round.
    steps: usize,
}

const CASES: [Case; 2] = [
    Case { name: "shipped-cpu", config: "shipped-cpu.toml", overrides: &[], steps: 3 },
    Case {
        name: "ViT-S/16, 2×224 + 10×96",
        config: "default.toml",
        overrides: &[
            "views.focal_views=10",
            "head.hidden=2048",
            "loss.prototypes=1024",
            "loss.sinkhorn=true",
            "loss.memax_weight=1.0",
            "optimisation.batch_size=4",
        ],
        steps: 2,
    },
];

/// Where the two sides are; `cargo xtask bench train` makes and names both.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// Our side: the trainer's example `bench_steps`.
    #[arg(long, env = "DOZEN_BENCH_STEPS", value_name = "FILE")]
    steps: PathBuf,
    /// A Python interpreter with the pinned packages.
    #[arg(long, env = "DOZEN_BENCH_PYTHON", value_name = "FILE")]
    python: PathBuf,
    /// Train on the first CUDA device.
    #[arg(long, env = "DOZEN_BENCH_CUDA")]
    cuda: bool,
}

/// First line of our side.
#[derive(Deserialize)]
struct Ready {
    config: Configuration,
    data_seconds: f64,
}

/// First line of the other.
#[derive(Deserialize)]
struct PeerReady {
    peer: String,
}

/// One side's results.
struct Side {
    images_per_second: f64,
    /// Seconds of forward, backward and update.
    parts: [f64; 3],
    /// Processor seconds per step.
    processor: f64,
    peak_memory: f64,
}

/// One case's results.
struct Measurement {
    case: String,
    ours: Side,
    theirs: Side,
    /// Median, least and largest ratio of the rounds.
    ratios: [f64; 3],
    agreement: f64,
    /// Seconds to render one batch of views on an idle machine.
    data: f64,
    /// Multiply-adds of one step.
    work: f64,
    /// Multiply-adds per second of the better side's large matrix product.
    matrix_rate: f64,
    batch_size: usize,
}

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    let cases = if options.quick { &CASES[..1] } else { &CASES[..] };
    let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
    let measurements =
        cases.iter().map(|case| measure(case, programs, rounds)).collect::<Result<Vec<_>>>()?;
    let tables = tables(&measurements, programs.cuda);
    println!("{tables}");
    if let Some(path) = &options.json {
        write_json(path, &measurements.iter().flat_map(rows).collect::<Vec<_>>())?;
    }
    if !options.quick {
        write_documentation("train", &tables)?;
    }
    Ok(())
}

fn measure(case: &Case, programs: &Programs, rounds: usize) -> Result<Measurement> {
    let bench = Path::new(env!("CARGO_MANIFEST_DIR"));
    let exchange = tempfile::tempdir()?;
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(&programs.steps);
    command.arg("--config").arg(bench.join("../trainer/configs").join(case.config));
    command.args(case.overrides.iter().flat_map(|one| ["--set", *one]));
    command.arg("--exchange").arg(exchange.path()).args(programs.cuda.then_some("--cuda"));
    let (mut ours, ready): (_, Ready) = Program::start("our side", &mut command, threads)?;
    let mut theirs = start_peer(&programs.python, exchange.path(), programs.cuda)?;

    let agreement = compare(&mut ours, &mut theirs, programs.cuda)?;
    let (mut our_steps, mut their_steps) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Whoever is second finds the machine in another state: take turns.
        if round % 2 == 0 {
            our_steps.push(ours.go(case.steps)?);
            their_steps.push(theirs.go(case.steps)?);
        } else {
            their_steps.push(theirs.go(case.steps)?);
            our_steps.push(ours.go(case.steps)?);
        }
    }
    let ratios: Vec<f64> =
        our_steps.iter().zip(&their_steps).map(|(ours, theirs)| theirs.seconds / ours.seconds).collect();
    let batch_size = ready.config.optimisation.batch_size;
    let sides = [side(&our_steps, &ours, batch_size)?, side(&their_steps, &theirs, batch_size)?];
    let [our_side, their_side] = sides;
    Ok(Measurement {
        case: format!("{}, batch {batch_size}", case.name),
        ours: our_side,
        theirs: their_side,
        ratios: [
            median(ratios.clone()),
            ratios.iter().copied().fold(f64::INFINITY, f64::min),
            ratios.iter().copied().fold(0.0, f64::max),
        ],
        agreement,
        data: ready.data_seconds,
        work: ready.config.multiply_adds(),
        matrix_rate: ours.matrix_rate()?.max(theirs.matrix_rate()?),
        batch_size,
    })
}

/// Starts the PyTorch side on what lies in `exchange`.
pub(crate) fn start_peer(python: &Path, exchange: &Path, cuda: bool) -> Result<Program> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/train_twin.py")).arg(exchange);
    command.arg(if cuda { "cuda" } else { "cpu" });
    let (process, PeerReady { peer }) = Program::start("the PyTorch side", &mut command, threads)?;
    ensure!(peer.starts_with(PEER), "the peer is {peer}, not {PEER}");
    Ok(process)
}

/// How far losses and gradient norms of the first steps agree; an error if they do not.
fn compare(ours: &mut Program, theirs: &mut Program, cuda: bool) -> Result<f64> {
    let (ours, theirs) = (ours.go(COMPARED_STEPS)?, theirs.go(COMPARED_STEPS)?);
    let losses = agreement(&ours.losses, &theirs.losses)?;
    let norms = agreement(&ours.gradient_norms, &theirs.gradient_norms)?;
    let least = if cuda { LEAST_AGREEMENT_GPU } else { LEAST_AGREEMENT };
    ensure!(
        losses >= least && norms >= least,
        "the two sides do not train alike, so their speeds say nothing: ours {ours:?}, theirs {theirs:?}"
    );
    Ok(losses)
}

fn side(steps: &[Steps], trainer: &Program, batch_size: usize) -> Result<Side> {
    let median_of = |part: fn(&Steps) -> f64| median(steps.iter().map(part).collect());
    Ok(Side {
        images_per_second: batch_size as f64 / median_of(|one| one.seconds),
        parts: [median_of(|one| one.forward), median_of(|one| one.backward), median_of(|one| one.update)],
        processor: median_of(|one| one.processor),
        peak_memory: trainer.peak_memory()?,
    })
}

fn rows(measured: &Measurement) -> [Row; 2] {
    let Measurement { case, ours, theirs, ratios, agreement, .. } = measured;
    [
        Row {
            bench: "train",
            case: case.clone(),
            unit: "images/s",
            ours: ours.images_per_second,
            peer: PEER.into(),
            peer_value: theirs.images_per_second,
            ratio: ratios[0],
            agreement: *agreement,
        },
        Row {
            bench: "train",
            case: case.clone(),
            unit: "MiB at most",
            ours: ours.peak_memory,
            peer: PEER.into(),
            peer_value: theirs.peak_memory,
            ratio: theirs.peak_memory / ours.peak_memory,
            agreement: *agreement,
        },
    ]
}

fn tables(measurements: &[Measurement], cuda: bool) -> String {
    let device = if cuda { "first CUDA device, PyTorch in bf16 with torch.compile" } else { "CPU, f32" };
    let mut text = format!(
        "{}, {device}, medians of interleaved rounds (least and largest ratio in brackets); agreement of the first \
         {COMPARED_STEPS} losses.\n\n\
         | case | ours, images/s | {PEER}, images/s | ratio | ours, MiB at most | {PEER}, MiB at most | agreement |\n\
         |---|---:|---:|---:|---:|---:|---:|\n",
        machine()
    );
    // Writing to a string cannot fail.
    for m in measurements {
        let [ratio, least, largest] = m.ratios;
        let _ = writeln!(
            text,
            "| {} | {:.1} | {:.1} | {ratio:.2} ({least:.2}–{largest:.2}) | {:.0} | {:.0} | {:.6} |",
            m.case,
            m.ours.images_per_second,
            m.theirs.images_per_second,
            m.ours.peak_memory,
            m.theirs.peak_memory,
            m.agreement
        );
    }
    if !cuda {
        text += "| the same on a GPU | not yet measured | not yet measured | | | | |\n";
    }
    text += "\nMilliseconds per step; rendering the views runs beside the step. The matrix rate is that of a 2048³ product, the \
             better side's, and the share what the step's multiply-adds (none counted twice) make of it.\n\n\
             | case | side | views | forward | backward | optimiser | processor time | GMAC per step | matrix rate, GMAC/s | share |\n\
             |---|---|---:|---:|---:|---:|---:|---:|---:|---:|\n";
    for m in measurements {
        for (name, side, views) in
            [("ours", &m.ours, format!("{:.0}", 1e3 * m.data)), (PEER, &m.theirs, String::new())]
        {
            let [forward, backward, update] = side.parts.map(|seconds| 1e3 * seconds);
            let steps_per_second = side.images_per_second / m.batch_size as f64;
            let _ = writeln!(
                text,
                "| {} | {name} | {views} | {forward:.0} | {backward:.0} | {update:.0} | {:.0} | {:.1} | {:.0} | {:.0} % |",
                m.case,
                1e3 * side.processor,
                m.work / 1e9,
                m.matrix_rate / 1e9,
                100.0 * m.work * steps_per_second / m.matrix_rate
            );
        }
    }
    text
}
