//! Embedding images on the CPU beside the usual engines: the same weights, the same crops, the same cores.
//!
//! Every side is a process of its own; a peer holds the model as its engine likes it best, for the one batch size, with a
//! thread per core. All take turns in every round. Before anything is timed, all must give the same vectors.

use crate::Options;
use crate::child::Program;
use crate::report::{Row, machine, median, write_documentation, write_json};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 3;
/// Seconds that one side's turn should take.
const TURN: f64 = 1.0;
/// Least cosine between our vectors and PyTorch's, and other engines' in f32.
const LEAST_AGREEMENT: f64 = 0.9999;

const ENGINES: [&str; 3] = ["torch", "onnxruntime", "openvino"];
const INT8_ENGINES: [&str; 2] = ["onnxruntime-int8", "openvino-int8"];

/// A model to embed with.
struct Case {
    name: &'static str,
    title: &'static str,
    /// Multiply-adds of one image's linear maps and attention, where all tokens go through all blocks.
    work: f64,
}

const CASES: [Case; 3] = [
    Case { name: "shipped", title: "shipped, 64 pixels", work: work(128, 6, 4, 8, 64) },
    Case { name: "vit-s-16", title: "ViT-S/16, 224 pixels", work: work(384, 12, 4, 16, 224) },
    Case { name: "vit-b-16", title: "ViT-B/16, 224 pixels", work: work(768, 12, 4, 16, 224) },
];

const fn work(width: usize, depth: usize, widening: usize, patch: usize, side: usize) -> f64 {
    let patches = (side / patch).pow(2);
    let tokens = patches + 1;
    let block = tokens * width * width * (4 + 2 * widening) + 2 * tokens * tokens * width;
    (patches * 3 * patch * patch * width + depth * block) as f64
}

const BATCHES: [usize; 3] = [1, 8, 32];

/// The programs; `cargo xtask bench encoder` makes and names them.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// Our side: the models' example `bench_encoder`.
    #[arg(long, env = "DOZEN_BENCH_ENCODER", value_name = "FILE")]
    encoder: PathBuf,
    /// A Python interpreter with the pinned peers.
    #[arg(long, env = "DOZEN_BENCH_PYTHON", value_name = "FILE")]
    python: PathBuf,
}

#[derive(Deserialize)]
pub(crate) struct Turn {
    pub(crate) seconds: f64,
}

#[derive(Deserialize)]
struct Vectors {
    vectors: Vec<Vec<f64>>,
}

/// One engine on one model.
struct Side {
    name: String,
    is_int8: bool,
    process: Program,
    /// Cosines to PyTorch's vectors: mean and least.
    cosines: [f64; 2],
    peak_memory: f64,
}

/// One model at one batch size.
struct Measurement {
    case: &'static str,
    work: f64,
    batch: usize,
    /// Of every side, images per second: median, least, largest.
    rates: Vec<[f64; 3]>,
    /// Of ours in f32 and int8 over the best peer's, in the same round: median.
    ratios: [f64; 2],
    matrix_rate: f64,
}

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    let (cases, batches) =
        if options.quick { (&CASES[..2], &BATCHES[..2]) } else { (&CASES[..], &BATCHES[..]) };
    let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
    let (mut text, mut rows) = (header(), Vec::new());
    for case in cases {
        let exchange = tempfile::tempdir()?;
        let mut command = Command::new(&programs.encoder);
        let status = command.arg("write").arg(exchange.path()).arg(case.name).status();
        ensure!(status.context("cannot start our side")?.success(), "our side could not write {}", case.name);
        let mut sides = sides(programs, exchange.path())?;
        compare(&mut sides)?;
        // Ours and PyTorch's: the faster one is nearer to what the machine can do.
        let matrix_rate = sides[0].process.matrix_rate()?.max(sides[2].process.matrix_rate()?);
        let mut measurements = Vec::new();
        for &batch in batches {
            measurements.push(measure(case, batch, rounds, matrix_rate, &mut sides)?);
        }
        for side in &mut sides {
            side.peak_memory = side.process.peak_memory()?;
        }
        text += &table(&sides, &measurements);
        rows.extend(measurements.iter().flat_map(|measured| rows_of(&sides, measured)));
        println!("{}", table(&sides, &measurements));
    }
    if let Some(path) = &options.json {
        write_json(path, &rows)?;
    }
    if !options.quick {
        write_documentation("encoder", &text)?;
    }
    Ok(())
}

/// Ours in f32 and int8, then the peers in both.
fn sides(programs: &Programs, exchange: &Path) -> Result<Vec<Side>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sides = Vec::new();
    for dtype in ["f32", "int8"] {
        let mut command = Command::new(&programs.encoder);
        command.arg("serve").arg(exchange).arg(dtype);
        let (process, _): (_, Value) = Program::start("our side", &mut command, threads)?;
        let name = format!("ours, {dtype}");
        sides.push(Side { name, is_int8: dtype == "int8", process, cosines: [1.0; 2], peak_memory: 0.0 });
    }
    for engine in ENGINES.into_iter().chain(INT8_ENGINES) {
        let mut command = Command::new(&programs.python);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/encoder_peer.py"));
        command.arg(exchange).arg(engine);
        let (process, ready): (_, Value) = Program::start(engine, &mut command, threads)?;
        let name = ready["peer"].as_str().unwrap_or(engine).to_owned();
        let is_int8 = INT8_ENGINES.contains(&engine);
        sides.push(Side { name, is_int8, process, cosines: [1.0; 2], peak_memory: 0.0 });
    }
    Ok(sides)
}

/// Everybody's vectors beside PyTorch's.
fn compare(sides: &mut [Side]) -> Result<()> {
    let mut vectors = Vec::new();
    for side in sides.iter_mut() {
        vectors.push(side.process.ask::<Vectors>("vectors")?.vectors);
    }
    let torch = vectors[2].clone();
    for (side, vectors) in sides.iter_mut().zip(&vectors) {
        let cosines: Vec<f64> = vectors.iter().zip(&torch).map(|(one, other)| dot(one, other)).collect();
        ensure!(cosines.len() == torch.len(), "{} gave {} vectors", side.name, cosines.len());
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        side.cosines = [mean, cosines.iter().copied().fold(1.0, f64::min)];
        let agrees = side.is_int8 || side.cosines[1] > LEAST_AGREEMENT;
        ensure!(agrees, "{} gives other vectors than PyTorch: cosine {}", side.name, side.cosines[1]);
    }
    Ok(())
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn measure(
    case: &Case,
    batch: usize,
    rounds: usize,
    matrix_rate: f64,
    sides: &mut [Side],
) -> Result<Measurement> {
    let go = |side: &mut Side, count: usize| -> Result<f64> {
        Ok(side.process.ask::<Turn>(&format!("go {batch} {count}"))?.seconds)
    };
    let mut counts = Vec::new();
    for side in sides.iter_mut() {
        // The first turn compiles and warms up.
        go(side, 1)?;
        counts.push(((TURN / go(side, 1)?) as usize).clamp(1, 1000));
    }
    let mut seconds = vec![Vec::new(); sides.len()];
    for round in 0..rounds {
        for turn in 0..sides.len() {
            // Whoever comes later finds the machine in another state: begin elsewhere every time.
            let number = (turn + round) % sides.len();
            seconds[number].push(go(&mut sides[number], counts[number])?);
        }
    }
    let rates = seconds.iter().map(|seconds| {
        let rates: Vec<f64> = seconds.iter().map(|seconds| batch as f64 / seconds).collect();
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        [median(rates.clone()), least, rates.iter().copied().fold(0.0, f64::max)]
    });
    let rates: Vec<[f64; 3]> = rates.collect();
    let ratio = |is_int8: bool| {
        let ours = usize::from(is_int8);
        let peers = (2..sides.len()).filter(|&number| sides[number].is_int8 == is_int8);
        let best = peers.max_by(|&one, &other| rates[one][0].total_cmp(&rates[other][0])).unwrap_or(ours);
        median(seconds[best].iter().zip(&seconds[ours]).map(|(peer, ours)| peer / ours).collect())
    };
    let ratios = [ratio(false), ratio(true)];
    Ok(Measurement { case: case.title, work: case.work, batch, rates, ratios, matrix_rate })
}

fn rows_of(sides: &[Side], measured: &Measurement) -> Vec<Row> {
    let ours = |side: &Side| usize::from(side.is_int8);
    let peers = sides.iter().zip(&measured.rates).skip(2);
    let row = |(side, rates): (&Side, &[f64; 3])| Row {
        bench: "encoder",
        case: format!(
            "{}, batch {}, {}",
            measured.case,
            measured.batch,
            if side.is_int8 { "int8" } else { "f32" }
        ),
        unit: "images/s",
        ours: measured.rates[ours(side)][0],
        peer: side.name.clone(),
        peer_value: rates[0],
        ratio: measured.rates[ours(side)][0] / rates[0],
        agreement: sides[ours(side)].cosines[0],
    };
    peers.map(row).collect()
}

fn header() -> String {
    format!(
        "{}; images per second, medians of {ROUNDS} interleaved rounds (least–largest); cosines to PyTorch's vectors, mean \
         and least; the largest resident memory of each process over all its batch sizes. The share is that of the \
         rate of a 2048³ f32 product, in candle or PyTorch, whichever is faster, that the network's multiply-adds make; all \
         tokens are counted in all blocks, though of the last one only CLS is computed to the end.\n\n",
        machine()
    )
}

fn table(sides: &[Side], measurements: &[Measurement]) -> String {
    let Some(first) = measurements.first() else { return String::new() };
    let mut text = format!("| {} | cosine |", first.case);
    // Writing to a string cannot fail.
    for measured in measurements {
        let _ = write!(text, " batch {} |", measured.batch);
    }
    text += " MiB at most |\n|---|---:|";
    text += &"---:|".repeat(measurements.len() + 1);
    text.push('\n');
    for (number, side) in sides.iter().enumerate() {
        let [mean, least] = side.cosines;
        let _ = write!(text, "| {} | {mean:.5} ({least:.5}) |", side.name);
        for measured in measurements {
            let [rate, least, largest] = measured.rates[number];
            let _ = write!(text, " {rate:.1} ({least:.1}–{largest:.1}) |");
        }
        let _ = writeln!(text, " {:.0} |", side.peak_memory);
    }
    for (number, dtype) in ["f32", "int8"].into_iter().enumerate() {
        let _ = write!(text, "| **ours ÷ best peer, {dtype}** | |");
        for measured in measurements {
            let _ = write!(text, " **{:.2}** |", measured.ratios[number]);
        }
        text += " |\n";
    }
    text += "| share of the matrix rate, ours, f32 | |";
    for measured in measurements {
        let share = 100.0 * measured.rates[0][0] * measured.work / measured.matrix_rate;
        let _ = write!(text, " {share:.0} % |");
    }
    text += " |\n\n";
    text
}
