//! Fitting a logistic head beside scikit-learn and cyanure: the same vectors, the same objective, the same minimum.
//!
//! Every peer stops by a rule of its own. Each gets the loosest tolerance at which its objective is within a millionth of
//! the least that anybody reached, and is timed with that. All may use all processors, and take turns in every round.

use crate::Options;
use crate::child::Program;
use crate::report::{Row, machine, median, write_documentation, write_json};
use anyhow::{Result, ensure};
use dozen_fewshot::Examples;
use dozen_fewshot::heads::{LogisticHead, LogisticOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

const ROUNDS: usize = 3;
const PER_CLASS: usize = 13;
const L2: f64 = 0.3;
/// Noise of an example's components for each unit of its class's; in the plane of two classes that is a cosine of 0.67
/// within a class and 0 between classes.
const SPREAD: f32 = 0.7;
/// Objectives this near, relatively, are the same.
const SAME: f64 = 1e-6;
const PEERS: [&str; 4] = ["lbfgs-float64", "lbfgs-float32", "newton-cg-float64", "cyanure-float32"];
/// What peers may be asked for, loosest first.
const TOLERANCES: [f64; 7] = [1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9];

/// Classes and dimensions.
const CASES: [(usize, usize); 3] = [(20, 384), (100, 384), (1000, 384)];
const QUICK_CASES: usize = 2;

/// The program; `cargo xtask bench logistic` makes and names it.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// A Python interpreter with the pinned peers.
    #[arg(long, env = "DOZEN_BENCH_PYTHON", value_name = "FILE")]
    python: PathBuf,
}

/// First line of a peer.
#[derive(Deserialize)]
struct Ready {
    /// Its name and version.
    peer: Option<String>,
    /// Or why it cannot take part.
    absent: Option<String>,
}

#[derive(Deserialize)]
struct Fitted {
    seconds: f64,
    objective: f64,
}

struct Side {
    name: String,
    process: Program,
    /// None where no tolerance gets it to the minimum.
    tolerance: Option<f64>,
    objective: f64,
    seconds: Vec<f64>,
}

/// One problem.
struct Measurement {
    case: String,
    seconds: Vec<f64>,
    objective: f64,
    peers: Vec<Side>,
}

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    let cases = if options.quick { &CASES[..QUICK_CASES] } else { &CASES[..] };
    let measurements = cases
        .iter()
        .map(|&(classes, dimensions)| measure(&programs.python, classes, dimensions))
        .collect::<Result<Vec<_>>>()?;
    let text = header() + &measurements.iter().map(table).collect::<Vec<_>>().join("\n");
    println!("{text}");
    if let Some(path) = &options.json {
        write_json(path, &measurements.iter().flat_map(rows).collect::<Vec<_>>())?;
    }
    if !options.quick {
        write_documentation("logistic", &text)?;
    }
    Ok(())
}

fn measure(python: &Path, classes: usize, dimensions: usize) -> Result<Measurement> {
    let vectors = vectors(classes, dimensions);
    let labelled = vectors.chunks_exact(dimensions).enumerate();
    let examples =
        Examples::new(dimensions, labelled.map(|(example, row)| ((example / PER_CLASS) as u64, row)))?;
    let exchange = tempfile::tempdir()?;
    let file = exchange.path().join("features");
    let bytes: Vec<u8> = examples.vectors().iter().flat_map(|component| component.to_le_bytes()).collect();
    std::fs::write(&file, bytes)?;

    let mut least =
        ours(&examples, LogisticOptions { l2: L2, tolerance: 1e-10, ..LogisticOptions::default() })?
            .objective;
    let mut peers = Vec::new();
    for peer in PEERS {
        if let Some(side) = start(python, peer, &file, [classes, PER_CLASS, dimensions])? {
            peers.push(side);
        }
    }
    for side in &mut peers {
        for tolerance in TOLERANCES {
            side.objective = side.process.ask::<Fitted>(&format!("fit {tolerance:e}"))?.objective;
            least = least.min(side.objective);
            if side.objective <= least * (1.0 + SAME) {
                side.tolerance = Some(tolerance);
                break;
            }
        }
    }
    let (mut seconds, mut objective) = (Vec::new(), f64::NAN);
    for round in 0..ROUNDS {
        for turn in 0..=peers.len() {
            // Whoever comes later finds the machine in another state: begin elsewhere every time.
            let number = (turn + round) % (peers.len() + 1);
            if number == peers.len() {
                let fitted = ours(&examples, LogisticOptions { l2: L2, ..LogisticOptions::default() })?;
                seconds.push(fitted.seconds);
                objective = fitted.objective;
            } else if let Some(tolerance) = peers[number].tolerance {
                let fitted: Fitted = peers[number].process.ask(&format!("fit {tolerance:e}"))?;
                peers[number].seconds.push(fitted.seconds);
            }
        }
    }
    ensure!(objective <= least * (1.0 + SAME), "ours ends at {objective}, the minimum is at most {least}");
    let case = format!("{classes} classes × {PER_CLASS} examples × {dimensions} dimensions");
    Ok(Measurement { case, seconds, objective, peers })
}

fn ours(examples: &Examples, options: LogisticOptions) -> Result<Fitted> {
    let started = Instant::now();
    let (_, report) = LogisticHead::fit(examples, &options, &mut |_| ControlFlow::Continue(()))?;
    Ok(Fitted { seconds: started.elapsed().as_secs_f64(), objective: report.objective })
}

/// None where the peer is not installed.
fn start(python: &Path, peer: &str, file: &Path, shape: [usize; 3]) -> Result<Option<Side>> {
    let mut command = Command::new(python);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/logistic_peer.py");
    command.arg(script).arg(peer).arg(file).args(shape.map(|number| number.to_string())).arg(L2.to_string());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (process, ready): (_, Ready) = Program::start(peer, &mut command, threads)?;
    let Some(name) = ready.peer else {
        println!("{peer} does not take part: {}", ready.absent.unwrap_or_default());
        return Ok(None);
    };
    Ok(Some(Side { name, process, tolerance: None, objective: f64::NAN, seconds: Vec::new() }))
}

/// Around random centres, class by class; [`Examples`] scales them to length 1.
fn vectors(classes: usize, dimensions: usize) -> Vec<f32> {
    let mut rng = ChaCha8Rng::seed_from_u64(0);
    let mut vectors = Vec::with_capacity(classes * PER_CLASS * dimensions);
    // Nearly Gaussian components: sums of four uniform ones.
    let mut noise = || (0..4).map(|_| rng.random::<f32>() - 0.5).sum::<f32>();
    for _ in 0..classes {
        let centre: Vec<f32> = (0..dimensions).map(|_| noise()).collect();
        for _ in 0..PER_CLASS {
            vectors.extend(centre.iter().map(|centre| centre + SPREAD * noise()));
        }
    }
    vectors
}

/// Of the seconds in the same round, theirs over ours: median.
fn ratio(measured: &Measurement, side: &Side) -> f64 {
    median(side.seconds.iter().zip(&measured.seconds).map(|(theirs, ours)| theirs / ours).collect())
}

fn rows(measured: &Measurement) -> Vec<Row> {
    let timed = measured.peers.iter().filter(|side| side.tolerance.is_some());
    let row = |side: &Side| Row {
        bench: "logistic",
        case: measured.case.clone(),
        unit: "seconds",
        ours: median(measured.seconds.clone()),
        peer: side.name.clone(),
        peer_value: median(side.seconds.clone()),
        ratio: ratio(measured, side),
        agreement: 1.0 - (measured.objective / side.objective - 1.0).abs(),
    };
    timed.map(row).collect()
}

fn header() -> String {
    format!(
        "{}, all of them for everybody; λ = {L2}, no intercept; clustered unit vectors; medians of {ROUNDS} interleaved rounds \
         (least–largest). Each peer has the loosest tolerance that brings its objective within {SAME:e} of the minimum.\n\n",
        machine()
    )
}

fn table(measured: &Measurement) -> String {
    let spread = |seconds: &[f64]| {
        let least = seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let largest = seconds.iter().copied().fold(0.0, f64::max);
        format!("{:.3} ({least:.3}–{largest:.3})", median(seconds.to_vec()))
    };
    let mut table = format!(
        "| {} | seconds | ÷ ours | objective | its tolerance |\n|---|---:|---:|---:|---:|\n\
         | ours | {} | 1 | {:.9} | {:e} |\n",
        measured.case,
        spread(&measured.seconds),
        measured.objective,
        LogisticOptions::default().tolerance
    );
    for side in &measured.peers {
        // Writing to a string cannot fail.
        let _ = match side.tolerance {
            Some(tolerance) => writeln!(
                table,
                "| {} | {} | {:.1} | {:.9} | {tolerance:e} |",
                side.name,
                spread(&side.seconds),
                ratio(measured, side),
                side.objective
            ),
            None => writeln!(table, "| {} | | | {:.9} | never there |", side.name, side.objective),
        };
    }
    table
}
