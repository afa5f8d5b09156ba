//! The vector index beside the usual libraries: scans, and graphs at equal recall.
//!
//! Every peer is a process of its own on the same vectors. How wide a search must be to recall enough is found for each side;
//! then all take turns in every round. Graphs are given all queries in one call, for a call from Python costs as much as a
//! small search; scans answer one query at a time, as a server does, and faiss's also all together.

mod data;
mod graphs;
mod scans;

use crate::Options;
use crate::child::Program;
use crate::report::{Row, machine, median, write_documentation, write_json};
use anyhow::{Context, Result};
use data::Data;
use dozen_fewshot::index::Hit;
use serde::Deserialize;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

const DIMENSIONS: usize = 384;
const QUERIES: usize = 1000;
const NEIGHBOURS: usize = 10;
/// Numbers of vectors. The largest is not given to hnsw_rs, which already takes over a minute to build the one before.
const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];
const ROUNDS: usize = 7;
const QUICK_ROUNDS: usize = 3;
const THREADS: [usize; 2] = [1, 2];

/// `cargo xtask bench` makes and names it.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// A Python interpreter with the pinned peers.
    #[arg(long, env = "DOZEN_BENCH_PYTHON", value_name = "FILE")]
    python: PathBuf,
}

/// What a size's measurements share.
struct Run<'a> {
    data: &'a Data,
    programs: &'a Programs,
    rounds: usize,
    is_largest: bool,
}

/// One line of the table.
struct Line {
    name: String,
    kind: &'static str,
    /// Seconds and MiB that building took.
    build: Option<[f64; 2]>,
    recall: f64,
    /// Queries per second on each number of threads, and ours over them in the same round: medians.
    rates: Vec<f64>,
    ratios: Vec<f64>,
}

#[derive(Deserialize)]
struct Ready {
    peer: String,
}

#[derive(Deserialize)]
struct Built {
    seconds: f64,
    mebibytes: f64,
}

#[derive(Deserialize)]
struct Searched {
    seconds: f64,
}

pub(crate) fn run(options: &Options, programs: &Programs) -> Result<()> {
    let sizes = if options.quick { &SIZES[..1] } else { &SIZES[..] };
    let (mut text, mut rows) = (header(), Vec::new());
    for &size in sizes {
        let data = Data::write(size)?;
        let rounds = if options.quick { QUICK_ROUNDS } else { ROUNDS };
        let run = Run { data: &data, programs, rounds, is_largest: size == SIZES[2] };
        let (truth, scans) = scans::measure(&run)?;
        let lines: Vec<Line> = graphs::measure(&run, &truth)?.into_iter().chain(scans).collect();
        let table = table(size, &lines);
        println!("{table}");
        text += &table;
        rows.extend(rows_of(size, &lines));
        // What is done is kept, should a larger size fail.
        if let Some(path) = &options.json {
            write_json(path, &rows)?;
        }
        if !options.quick {
            write_documentation("index", &text)?;
        }
    }
    Ok(())
}

/// A peer that has taken in the vectors.
fn peer(run: &Run<'_>, name: &str) -> Result<(Program, String, Built)> {
    let mut command = Command::new(&run.programs.python);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("python/index_peer.py"));
    command.arg(name).arg(run.data.vectors_file()).arg(run.data.queries_file());
    command.args([DIMENSIONS, NEIGHBOURS].map(|number| number.to_string()));
    let (mut process, Ready { peer }) = Program::start(name, &mut command, THREADS[1])?;
    let built = process.ask(&format!("build {}", THREADS[1]))?;
    Ok((process, peer, built))
}

/// Seconds of all queries, and the ids a peer found.
fn ask_peer(
    run: &Run<'_>,
    process: &mut Program,
    width: usize,
    threads: usize,
) -> Result<(f64, Vec<Vec<u64>>)> {
    let file = run.data.answers_file();
    let Searched { seconds } = process.ask(&format!("search {width} {threads} {}", file.display()))?;
    let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let (ids, _) = bytes.as_chunks();
    let ids: Vec<u64> = ids.iter().map(|id| u64::from_le_bytes(*id)).collect();
    Ok((seconds, ids.chunks(NEIGHBOURS).map(<[u64]>::to_vec).collect()))
}

fn ids(hits: &[Hit]) -> Vec<u64> {
    hits.iter().map(|hit| hit.id).collect()
}

fn recall(answers: &[Vec<u64>], truth: &[Vec<u64>]) -> f64 {
    let pairs = answers.iter().zip(truth);
    let found: usize =
        pairs.map(|(answer, truth)| truth.iter().filter(|id| answer.contains(id)).count()).sum();
    found as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
}

/// Memory of this process that no file backs, in MiB.
fn anonymous_memory() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status").context("cannot read /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.strip_suffix("kB"));
    Ok(line.context("/proc/self/status has no RssAnon")?.trim().parse::<f64>()? / 1024.0)
}

/// Median rates of each side, and of the rates of side `ours` over them in the same round. `seconds[side][round]`.
fn compare(seconds: &[Vec<f64>], ours: usize) -> (Vec<f64>, Vec<f64>) {
    let rate = |one: &Vec<f64>| median(one.iter().map(|seconds| QUERIES as f64 / seconds).collect());
    let ratio = |one: &Vec<f64>| median(one.iter().zip(&seconds[ours]).map(|(it, ours)| it / ours).collect());
    (seconds.iter().map(rate).collect(), seconds.iter().map(ratio).collect())
}

fn header() -> String {
    format!(
        "{}; {NEIGHBOURS} nearest of unit vectors of {DIMENSIONS} dimensions that lie as embeddings do (classes of 100, \
         24 directions that matter, noise in all), {QUERIES} queries, medians of {ROUNDS} interleaved rounds. Graphs have 16 \
         links and choose them among 100 candidates; their searches are as wide as recall@{NEIGHBOURS} of {} needs, and their \
         rates interpolated there. Builds use two threads.\n\n",
        machine(),
        graphs::RECALL,
    )
}

fn table(size: usize, lines: &[Line]) -> String {
    let mut text = format!(
        "| {size} vectors | build, s | MiB | recall@{NEIGHBOURS} | queries/s, one thread | two threads | ours ÷ it, one thread | \
         two threads |\n|---|---:|---:|---:|---:|---:|---:|---:|\n"
    );
    let cell = |value: Option<String>| value.map_or_else(|| " |".to_owned(), |value| format!(" {value} |"));
    for line in lines {
        // Writing to a string cannot fail.
        let _ = write!(text, "| {} |", line.name);
        text += &cell(line.build.map(|[seconds, _]| format!("{seconds:.1}")));
        text += &cell(line.build.map(|[_, mebibytes]| format!("{mebibytes:.0}")));
        let _ = write!(text, " {:.4} |", line.recall);
        for place in 0..THREADS.len() {
            text += &cell(line.rates.get(place).map(|rate| format!("{rate:.0}")));
        }
        for place in 0..THREADS.len() {
            text += &cell(line.ratios.get(place).map(|ratio| format!("{ratio:.2}")));
        }
        text.push('\n');
    }
    text.push('\n');
    text
}

/// The first line of each kind is ours.
fn rows_of(size: usize, lines: &[Line]) -> Vec<Row> {
    let mut rows = Vec::new();
    for line in lines {
        let Some(ours) = lines.iter().find(|other| other.kind == line.kind) else { continue };
        if std::ptr::eq(ours, line) {
            continue;
        }
        for (place, threads) in THREADS.iter().enumerate().take(line.ratios.len()) {
            rows.push(Row {
                bench: "index",
                case: format!("{}, {size} vectors, {threads} threads", line.kind),
                unit: "queries/s",
                ours: ours.rates[place],
                peer: line.name.clone(),
                peer_value: line.rates[place],
                ratio: line.ratios[place],
                agreement: line.recall,
            });
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recall_is_the_share_of_the_truth_found() {
        let truth = [vec![1, 2], vec![3, 4]];
        assert!((recall(&[vec![2, 1], vec![9, 3]], &truth) - 0.75).abs() < 1e-12);
        assert!(recall(&[vec![], vec![]], &truth).abs() < 1e-12);
    }

    #[test]
    fn rates_are_compared_round_by_round() {
        let (rates, ratios) = compare(&[vec![1.0, 2.0, 4.0], vec![2.0, 4.0, 8.0]], 0);
        assert!((rates[0] - 500.0).abs() < 1e-9 && (rates[1] - 250.0).abs() < 1e-9);
        assert!((ratios[0] - 1.0).abs() < 1e-12 && (ratios[1] - 2.0).abs() < 1e-12);
    }
}
