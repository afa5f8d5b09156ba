//! The patch budget: what it saves, and what it costs in likeness and accuracy.

use crate::Options;
use crate::child::Program;
use crate::report::{Row, machine, median, write_documentation, write_json};
use crate::sides::Turn;
use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const ROUNDS: usize = 9;
const QUICK_ROUNDS: usize = 3;
/// Seconds that one budget's turn should take.
const TURN: f64 = 0.5;
const BATCH: usize = 8;
const SHARES: [&str; 4] = ["1", "0.7", "0.5", "0.3"];
/// Rules whose speed is measured: choosing by content has to look at the pixels, the others are tables.
const TIMED_RULES: [&str; 2] = ["spread", "content"];
const RULES: [&str; 4] = ["spread", "content", "centre", "random"];
const CASES: [(&str, &str); 2] = [("shipped", "shipped, 64 pixels"), ("vit-s-16", "ViT-S/16, 224 pixels")];

/// What accuracy is measured on.
#[derive(clap::Args)]
pub(crate) struct Labelled {
    /// Labelled images: class folders or archives of them.
    #[arg(long, value_name = "PATH")]
    labelled: PathBuf,
}

/// The programs; `cargo xtask bench budget` makes and names them.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// The models' example `bench_encoder`.
    #[arg(long, env = "DOZEN_BENCH_ENCODER", value_name = "FILE")]
    encoder: PathBuf,
    /// The trainer, which evaluates.
    #[arg(long, env = "DOZEN_BENCH_TRAINER", value_name = "FILE")]
    trainer: PathBuf,
}

#[derive(Deserialize)]
struct Report {
    queries: usize,
    classes: usize,
    rows: Vec<Scored>,
}

/// A budget's line of `dozen-train eval budget`.
#[derive(Deserialize)]
struct Scored {
    case: String,
    accuracy: f64,
    interval: f64,
    cosine: f64,
}

/// How many times as fast as all patches, by share and rule: median over the rounds.
struct Speeds {
    title: String,
    speeds: Vec<(&'static str, &'static str, f64)>,
}

pub(crate) fn run(options: &Options, labelled: &Labelled, programs: &Programs) -> Result<()> {
    let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
    let mut speeds = Vec::new();
    for ((case, title), dtype) in
        CASES.into_iter().flat_map(|case| ["f32", "int8"].map(|dtype| (case, dtype)))
    {
        speeds.push(Speeds {
            title: format!("{title}, {dtype}"),
            speeds: measure(programs, case, dtype, rounds)?,
        });
    }
    let report = evaluate(labelled, programs, options.quick)?;
    let table = table(&speeds, &report);
    println!("{table}");
    if let Some(path) = &options.json {
        write_json(path, &rows(&speeds, &report))?;
    }
    if !options.quick {
        write_documentation("budget", &table)?;
    }
    Ok(())
}

/// Times every budget in turn, round after round.
fn measure(
    programs: &Programs,
    case: &str,
    dtype: &str,
    rounds: usize,
) -> Result<Vec<(&'static str, &'static str, f64)>> {
    let exchange = tempfile::tempdir()?;
    let status = Command::new(&programs.encoder).arg("write").arg(exchange.path()).arg(case).status();
    ensure!(status.context("cannot start our side")?.success(), "our side could not write {case}");
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut command = Command::new(&programs.encoder);
    command.arg("serve").arg(exchange.path()).arg("cpu").arg(dtype);
    let (mut process, _): (_, Value) = Program::start("our side", &mut command, threads)?;
    let mut go = |share: &str, rule: &str, count: usize| -> Result<f64> {
        Ok(process.ask::<Turn>(&format!("go {BATCH} {count} {share} {rule}"))?.seconds)
    };
    let budgets: Vec<_> =
        SHARES.into_iter().flat_map(|share| TIMED_RULES.map(|rule| (share, rule))).collect();
    let mut counts = Vec::new();
    for (share, rule) in &budgets {
        go(share, rule, 1)?;
        counts.push(((TURN / go(share, rule, 1)?) as usize).clamp(1, 2000));
    }
    let mut ratios = vec![Vec::new(); budgets.len()];
    for round in 0..rounds {
        let mut seconds = vec![0.0; budgets.len()];
        for turn in 0..budgets.len() {
            let number = (turn + round) % budgets.len();
            let (share, rule) = budgets[number];
            seconds[number] = go(share, rule, counts[number])?;
        }
        for (ratios, own) in ratios.iter_mut().zip(&seconds) {
            ratios.push(seconds[0] / own);
        }
    }
    Ok(budgets.into_iter().zip(ratios).map(|((share, rule), ratios)| (share, rule, median(ratios))).collect())
}

fn evaluate(labelled: &Labelled, programs: &Programs, quick: bool) -> Result<Report> {
    let folder = tempfile::tempdir()?;
    let json = folder.path().join("report.json");
    let mut command = Command::new(&programs.trainer);
    command.args([
        "eval",
        "budget",
        "--cpu",
        "--model",
        "shipped",
        "--draws",
        if quick { "3" } else { "20" },
    ]);
    command.args(["--keep", &SHARES.join(","), "--select", &RULES.join(",")]);
    command.arg("--data").arg(&labelled.labelled).arg("--json").arg(&json);
    let status = command.stdout(std::process::Stdio::null()).status();
    ensure!(status.context("cannot start the trainer")?.success(), "the trainer could not evaluate");
    let text = std::fs::read_to_string(Path::new(&json)).context("the trainer wrote no report")?;
    Ok(serde_json::from_str(&text)?)
}

fn scored<'a>(report: &'a Report, share: &str, rule: &str) -> Option<&'a Scored> {
    report.rows.iter().find(|row| row.case == format!("{share} {rule}"))
}

fn table(speeds: &[Speeds], report: &Report) -> String {
    let mut text = format!(
        "{}; speed as a multiple of that with all patches, batch {BATCH}, medians of {ROUNDS} interleaved rounds. Cosine \
         to the vector of all patches and accuracy on {} queries of {} classes with the shipped weights in f32: 13 labelled \
         images per class with all patches, queries within the budget, logistic regression, 20 draws.\n\n| keep | select |",
        machine(),
        report.queries,
        report.classes
    );
    // Writing to a string cannot fail.
    for speeds in speeds {
        let _ = write!(text, " {} |", speeds.title);
    }
    text += " cosine | accuracy |\n|---|---|";
    text += &"---:|".repeat(speeds.len() + 2);
    text.push('\n');
    for (share, rule) in SHARES.into_iter().flat_map(|share| RULES.map(|rule| (share, rule))) {
        let Some(scored) = scored(report, share, rule) else { continue };
        if share == "1" && rule != RULES[0] {
            continue;
        }
        let _ = write!(text, "| {share} | {rule} |");
        for speeds in speeds {
            let speed = speeds.speeds.iter().find(|speed| speed.0 == share && speed.1 == rule);
            let _ = match speed {
                Some((_, _, speed)) => write!(text, " {speed:.2} |"),
                None => write!(text, " |"),
            };
        }
        let (accuracy, interval) = (100.0 * scored.accuracy, 100.0 * scored.interval);
        let _ = writeln!(text, " {:.3} | {accuracy:.1} ± {interval:.1} |", scored.cosine);
    }
    text.push('\n');
    text
}

/// All patches are the peer of every budget.
fn rows(speeds: &[Speeds], report: &Report) -> Vec<Row> {
    let row = |(title, (share, rule, speed)): (&str, &(&'static str, &'static str, f64))| Row {
        bench: "budget",
        case: format!("{title}, batch {BATCH}, keep {share}, {rule}"),
        unit: "speed",
        ours: *speed,
        peer: "all patches".into(),
        peer_value: 1.0,
        ratio: *speed,
        agreement: scored(report, share, rule).map_or(f64::NAN, |scored| scored.cosine),
    };
    speeds
        .iter()
        .flat_map(|case| case.speeds.iter().map(|speed| (case.title.as_str(), speed)))
        .map(row)
        .collect()
}
