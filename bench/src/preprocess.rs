//! From JPEG bytes to crops beside the usual libraries: the same photos, the same core.
//!
//! Every side is a process of its own with one thread, all on one core, and all take turns in every round. Photos are the
//! folders given, each a case, and those of the first enlarged to 12 megapixels, as phones take them.

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
const TURN: f64 = 0.5;
/// Of the first folder, how many photos are enlarged.
const ENLARGED: usize = 32;
/// Short side after the resize, and side of the crop: the papers', and the shipped model's.
const GEOMETRIES: [(u32, u32); 2] = [(256, 224), (64, 64)];
/// Plain Pillow first: the others are compared to its crops.
const PEERS: [&str; 5] = ["pillow", "pillow-draft", "opencv", "opencv-reduced", "torchvision"];
const PILLOW: usize = 1;

/// Photos and programs; `cargo xtask bench preprocess` makes and names the programs.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// Folders of JPEG photos, nothing else in them.
    #[arg(long, required = true, num_args = 1.., value_name = "FOLDER")]
    photos: Vec<PathBuf>,
    /// Our side: the models' example `bench_preprocess`.
    #[arg(long, env = "DOZEN_BENCH_PREPROCESS", value_name = "FILE")]
    preprocess: PathBuf,
    /// A Python interpreter with the pinned peers.
    #[arg(long, env = "DOZEN_BENCH_PYTHON", value_name = "FILE")]
    python: PathBuf,
}

#[derive(Deserialize)]
struct Turn {
    seconds: f64,
}

struct Side {
    name: String,
    process: Program,
}

/// One folder in one geometry.
struct Measurement {
    case: String,
    /// Of every side, photos per second: median, least, largest.
    rates: Vec<[f64; 3]>,
    /// Of every side, ours over it, in the same round: median.
    ratios: Vec<f64>,
    /// Of every side, the mean absolute difference to plain Pillow's crops, in levels of 255.
    differences: Vec<f64>,
}

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    let exchange = tempfile::tempdir()?;
    let enlarged = exchange.path().join("12 megapixels");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/preprocess_peer.py");
    let first = programs.photos.first().context("no folder of photos")?;
    let mut command = Command::new(&programs.python);
    command.arg(&script).arg("enlarge").arg(first).arg(&enlarged).arg(ENLARGED.to_string());
    ensure!(command.status().context("cannot start Python")?.success(), "the photos cannot be enlarged");

    let folders: Vec<PathBuf> = programs.photos.iter().cloned().chain([enlarged]).collect();
    let mut sides = sides(programs, &script, &folders)?;
    let geometries = if options.quick { &GEOMETRIES[..1] } else { &GEOMETRIES[..] };
    let mut measurements = Vec::new();
    for (number, folder) in folders.iter().enumerate() {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        for &(short_side, crop) in geometries {
            let request = format!("{number} {short_side} {crop}");
            let case = format!("{name}, {crop} pixels");
            measurements.push(measure(case, &request, options.quick, &mut sides, exchange.path())?);
        }
    }
    let text = header() + &table(&sides, &measurements);
    println!("{text}");
    if let Some(path) = &options.json {
        let rows: Vec<Row> = measurements.iter().flat_map(|measured| rows_of(&sides, measured)).collect();
        write_json(path, &rows)?;
    }
    if !options.quick {
        write_documentation("preprocess", &text)?;
    }
    Ok(())
}

/// Ours, then the peers; all on the first core.
fn sides(programs: &Programs, script: &Path, folders: &[PathBuf]) -> Result<Vec<Side>> {
    let pinned = |program: &Path| {
        let mut command = Command::new("taskset");
        command.args(["--cpu-list", "0"]).arg(program);
        command
    };
    let (process, _): (_, Value) = Program::start("our side", pinned(&programs.preprocess).args(folders), 1)?;
    let mut sides = vec![Side { name: "ours".to_owned(), process }];
    for peer in PEERS {
        let mut command = pinned(&programs.python);
        command.arg(script).arg(peer).args(folders);
        let (process, ready): (_, Value) = Program::start(peer, &mut command, 1)?;
        sides.push(Side { name: ready["peer"].as_str().unwrap_or(peer).to_owned(), process });
    }
    Ok(sides)
}

fn measure(
    case: String,
    request: &str,
    is_quick: bool,
    sides: &mut [Side],
    exchange: &Path,
) -> Result<Measurement> {
    let go = |side: &mut Side, count: usize| -> Result<f64> {
        Ok(side.process.ask::<Turn>(&format!("go {request} {count}"))?.seconds)
    };
    let (mut counts, mut crops) = (Vec::new(), Vec::new());
    let file = exchange.join("crops");
    for side in sides.iter_mut() {
        // Which also warms up.
        let answer: Value = side.process.ask(&format!("crops {request} {}", file.display()))?;
        let photos = answer["photos"].as_f64().unwrap_or_default();
        crops.push(std::fs::read(&file)?);
        counts.push(((TURN / go(side, 1)? / photos) as usize).clamp(1, 1000));
    }
    let differences = crops.iter().map(|one| difference(one, &crops[PILLOW])).collect::<Result<_>>()?;
    let mut seconds = vec![Vec::new(); sides.len()];
    for round in 0..if is_quick { QUICK_ROUNDS } else { ROUNDS } {
        for turn in 0..sides.len() {
            // Whoever comes later finds the machine in another state: begin elsewhere every time.
            let number = (turn + round) % sides.len();
            seconds[number].push(go(&mut sides[number], counts[number])?);
        }
    }
    let rates = seconds.iter().map(|seconds| {
        let rates: Vec<f64> = seconds.iter().map(|seconds| 1.0 / seconds).collect();
        let least = rates.iter().copied().fold(f64::INFINITY, f64::min);
        [median(rates.clone()), least, rates.iter().copied().fold(0.0, f64::max)]
    });
    let ratios = seconds
        .iter()
        .map(|theirs| median(theirs.iter().zip(&seconds[0]).map(|(theirs, ours)| theirs / ours).collect()));
    Ok(Measurement { case, rates: rates.collect(), ratios: ratios.collect(), differences })
}

fn difference(one: &[u8], other: &[u8]) -> Result<f64> {
    ensure!(one.len() == other.len(), "{} bytes of crops beside {}", one.len(), other.len());
    let sum: u64 = one.iter().zip(other).map(|(one, other)| u64::from(one.abs_diff(*other))).sum();
    Ok(sum as f64 / one.len() as f64)
}

/// The fastest peer's number.
fn best(measured: &Measurement) -> usize {
    let rate = |number: &usize| measured.rates[*number][0];
    (1..measured.rates.len()).max_by(|one, other| rate(one).total_cmp(&rate(other))).unwrap_or(PILLOW)
}

/// The best peer's row first.
fn rows_of(sides: &[Side], measured: &Measurement) -> Vec<Row> {
    let best = best(measured);
    let others = (1..sides.len()).filter(|&number| number != best);
    let row = |number: usize| Row {
        bench: "preprocess",
        case: measured.case.clone(),
        unit: "photos/s",
        ours: measured.rates[0][0],
        peer: sides[number].name.clone(),
        peer_value: measured.rates[number][0],
        ratio: measured.ratios[number],
        agreement: 1.0 - measured.differences[0] / 255.0,
    };
    std::iter::once(best).chain(others).map(row).collect()
}

fn header() -> String {
    format!(
        "{}, one core, one thread; photos per second from JPEG bytes to crops, medians of {ROUNDS} interleaved rounds \
         (least–largest); in square brackets the mean difference to plain Pillow's crops, in levels of 255.\n\n",
        machine()
    )
}

fn table(sides: &[Side], measurements: &[Measurement]) -> String {
    let mut text = "| |".to_owned();
    // Writing to a string cannot fail.
    for measured in measurements {
        let _ = write!(text, " {} |", measured.case);
    }
    text += "\n|---|";
    text += &"---:|".repeat(measurements.len());
    text.push('\n');
    for (number, side) in sides.iter().enumerate() {
        let _ = write!(text, "| {} |", side.name);
        for measured in measurements {
            let [rate, least, largest] = measured.rates[number];
            let difference = measured.differences[number];
            let _ = write!(text, " {rate:.0} ({least:.0}–{largest:.0}) [{difference:.2}] |");
        }
        text.push('\n');
    }
    text += "| **ours ÷ best peer** |";
    for measured in measurements {
        let _ = write!(text, " **{:.2}** |", measured.ratios[best(measured)]);
    }
    text += "\n| **ours ÷ plain Pillow** |";
    for measured in measurements {
        let _ = write!(text, " **{:.2}** |", measured.ratios[PILLOW]);
    }
    text + "\n"
}
