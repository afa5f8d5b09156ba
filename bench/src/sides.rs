//! Embedding images by several engines: the same weights, the same crops, the same machine.
//!
//! Every side is a process of its own; a peer holds the model as its engine likes it best, for the one batch size. All take
//! turns in every round. Before anything is timed, all must give the same vectors.

use crate::Options;
use crate::child::Program;
use crate::report::{Row, median, write_documentation, write_json};
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 3;
/// Seconds that one side's turn should take.
const TURN: f64 = 1.0;

/// A model to embed with.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// Multiply-adds of one image's linear maps and attention, where all tokens go through all blocks.
    pub(crate) work: f64,
}

pub(crate) const CASES: [Case; 3] = [
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

/// One type of arithmetic: ours, and the engines that compute in it.
pub(crate) struct Group {
    pub(crate) dtype: &'static str,
    pub(crate) engines: &'static [&'static str],
    /// Least cosine to the reference's vectors.
    pub(crate) least_agreement: f64,
}

/// Who is compared on what.
pub(crate) struct Lineup {
    pub(crate) bench: &'static str,
    /// Where ours runs, `cpu` or `cuda`.
    pub(crate) device: &'static str,
    /// The peers' program in bench/python.
    pub(crate) script: &'static str,
    pub(crate) groups: &'static [Group],
    /// The engine whose vectors the others' are compared with; like ours it tells the machine's rate.
    pub(crate) reference: &'static str,
    pub(crate) batches: &'static [usize],
    pub(crate) quick_batches: &'static [usize],
    /// Batches a side embeds before any is timed: the first ones compile, capture and warm up.
    pub(crate) warm_up: usize,
    /// Whether processes' resident memory says what a side needs.
    pub(crate) counts_memory: bool,
}

/// The programs; `cargo xtask bench` makes and names them.
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

/// First line of a peer.
#[derive(Deserialize)]
struct Ready {
    /// Its name and version.
    peer: Option<String>,
    /// Or why it cannot take part.
    absent: Option<String>,
    /// What it computes on, where that is not the processor.
    device: Option<String>,
}

/// One engine on one model.
struct Side {
    name: String,
    engine: &'static str,
    /// Number of the group.
    group: usize,
    process: Program,
    /// Cosines to the reference's vectors: mean and least.
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
    /// Of every group, ours over the best peer in the same round: median. None without a peer.
    ratios: Vec<Option<f64>>,
    matrix_rate: f64,
}

/// Runs the comparison; `header` describes it, given what the peers compute on.
pub(crate) fn run(
    lineup: &Lineup,
    options: &Options,
    programs: &Programs,
    header: impl FnOnce(&str) -> String,
) -> Result<()> {
    let (cases, batches) =
        if options.quick { (&CASES[..2], lineup.quick_batches) } else { (&CASES[..], lineup.batches) };
    let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
    let (mut text, mut rows, mut device) = (String::new(), Vec::new(), String::new());
    for case in cases {
        let exchange = tempfile::tempdir()?;
        let mut command = Command::new(&programs.encoder);
        let status = command.arg("write").arg(exchange.path()).arg(case.name).status();
        ensure!(status.context("cannot start our side")?.success(), "our side could not write {}", case.name);
        let mut sides = sides(lineup, programs, exchange.path(), &mut device)?;
        compare(lineup, &mut sides)?;
        // Whichever is faster is nearer to what the machine can do.
        let mut matrix_rate = 0.0;
        for side in sides.iter_mut().filter(|side| ["ours", lineup.reference].contains(&side.engine)) {
            matrix_rate = side.process.matrix_rate()?.max(matrix_rate);
        }
        let mut measurements = Vec::new();
        for &batch in batches {
            measurements.push(measure(lineup, case, batch, rounds, matrix_rate, &mut sides)?);
        }
        for side in &mut sides {
            side.peak_memory = side.process.peak_memory()?;
        }
        let table = table(lineup, &sides, &measurements);
        println!("{table}");
        text += &table;
        rows.extend(measurements.iter().flat_map(|measured| rows_of(lineup, &sides, measured)));
    }
    if let Some(path) = &options.json {
        write_json(path, &rows)?;
    }
    if !options.quick {
        write_documentation(lineup.bench, &(header(&device) + &text))?;
    }
    Ok(())
}

/// Ours in every type, then the peers in every type; those that are not installed stay out.
fn sides(lineup: &Lineup, programs: &Programs, exchange: &Path, device: &mut String) -> Result<Vec<Side>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut sides = Vec::new();
    for (group, &Group { dtype, .. }) in lineup.groups.iter().enumerate() {
        let mut command = Command::new(&programs.encoder);
        command.arg("serve").arg(exchange).args([lineup.device, dtype]);
        let (process, _): (_, Value) = Program::start("our side", &mut command, threads)?;
        let name = format!("ours, {dtype}");
        sides.push(Side { name, engine: "ours", group, process, cosines: [1.0; 2], peak_memory: 0.0 });
    }
    for (group, of_group) in lineup.groups.iter().enumerate() {
        for &engine in of_group.engines {
            let mut command = Command::new(&programs.python);
            command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python").join(lineup.script));
            command.arg(exchange).arg(engine);
            let (process, ready): (_, Ready) = Program::start(engine, &mut command, threads)?;
            if let Some(reason) = ready.absent {
                println!("{engine} stays out: {reason}");
                continue;
            }
            *device = ready.device.unwrap_or_default();
            let name = ready.peer.unwrap_or_else(|| engine.to_owned());
            sides.push(Side { name, engine, group, process, cosines: [1.0; 2], peak_memory: 0.0 });
        }
    }
    Ok(sides)
}

/// Everybody's vectors beside the reference's.
fn compare(lineup: &Lineup, sides: &mut [Side]) -> Result<()> {
    let mut vectors = Vec::new();
    for side in sides.iter_mut() {
        vectors.push(side.process.ask::<Vectors>("vectors")?.vectors);
    }
    let reference = sides.iter().position(|side| side.engine == lineup.reference);
    let reference = vectors[reference.context("the reference is absent")?].clone();
    for (side, vectors) in sides.iter_mut().zip(&vectors) {
        let cosines: Vec<f64> = vectors.iter().zip(&reference).map(|(one, other)| dot(one, other)).collect();
        ensure!(cosines.len() == reference.len(), "{} gave {} vectors", side.name, cosines.len());
        let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
        side.cosines = [mean, cosines.iter().copied().fold(1.0, f64::min)];
        let agrees = side.cosines[1] > lineup.groups[side.group].least_agreement;
        ensure!(agrees, "{} gives other vectors than {}: {:?}", side.name, lineup.reference, side.cosines);
    }
    Ok(())
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(one, other)| one * other).sum()
}

fn measure(
    lineup: &Lineup,
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
        go(side, lineup.warm_up)?;
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
    let ratio = |ours: usize| {
        let peers = (lineup.groups.len()..sides.len()).filter(|&number| sides[number].group == ours);
        let best = peers.max_by(|&one, &other| rates[one][0].total_cmp(&rates[other][0]))?;
        let pairs = seconds[best].iter().zip(&seconds[ours]);
        Some(median(pairs.map(|(peer, ours)| peer / ours).collect()))
    };
    let ratios = (0..lineup.groups.len()).map(ratio).collect();
    Ok(Measurement { case: case.title, work: case.work, batch, rates, ratios, matrix_rate })
}

fn rows_of(lineup: &Lineup, sides: &[Side], measured: &Measurement) -> Vec<Row> {
    let peers = sides.iter().zip(&measured.rates).skip(lineup.groups.len());
    // Ours come first, in the order of the groups.
    let row = |(side, rates): (&Side, &[f64; 3])| Row {
        bench: lineup.bench,
        case: format!("{}, batch {}, {}", measured.case, measured.batch, lineup.groups[side.group].dtype),
        unit: "images/s",
        ours: measured.rates[side.group][0],
        peer: side.name.clone(),
        peer_value: rates[0],
        ratio: measured.rates[side.group][0] / rates[0],
        agreement: sides[side.group].cosines[0],
    };
    peers.map(row).collect()
}

fn table(lineup: &Lineup, sides: &[Side], measurements: &[Measurement]) -> String {
    let Some(first) = measurements.first() else { return String::new() };
    let memory = |cell: &str| if lineup.counts_memory { format!(" {cell} |") } else { String::new() };
    let mut text = format!("| {} | cosine |", first.case);
    // Writing to a string cannot fail.
    for measured in measurements {
        let _ = write!(text, " batch {} |", measured.batch);
    }
    text += &memory("MiB at most");
    text += "\n|---|---:|";
    text += &"---:|".repeat(measurements.len() + usize::from(lineup.counts_memory));
    text.push('\n');
    for (number, side) in sides.iter().enumerate() {
        let [mean, least] = side.cosines;
        let _ = write!(text, "| {} | {mean:.5} ({least:.5}) |", side.name);
        for measured in measurements {
            let [rate, least, largest] = measured.rates[number];
            let _ = write!(text, " {rate:.1} ({least:.1}–{largest:.1}) |");
        }
        text += &memory(&format!("{:.0}", side.peak_memory));
        text.push('\n');
    }
    for (number, Group { dtype, .. }) in lineup.groups.iter().enumerate() {
        if measurements.iter().all(|measured| measured.ratios[number].is_none()) {
            continue;
        }
        let _ = write!(text, "| **ours ÷ best peer, {dtype}** | |");
        for measured in measurements {
            let _ = write!(text, " **{:.2}** |", measured.ratios[number].unwrap_or(f64::NAN));
        }
        text += &memory("");
        text.push('\n');
    }
    let _ = write!(text, "| share of the matrix rate, ours, {} | |", lineup.groups[0].dtype);
    for measured in measurements {
        let share = 100.0 * measured.rates[0][0] * measured.work / measured.matrix_rate;
        let _ = write!(text, " {share:.0} % |");
    }
    text += &memory("");
    text += "\n\n";
    text
}
