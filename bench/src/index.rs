//! The exact scan beside the HNSW graph: where does the graph begin to pay?

use crate::Options;
use crate::report::{Row, machine, median, write_documentation, write_json};
use anyhow::{Result, ensure};
use dozen_fewshot::index::{AdaptiveIndex, ExactIndex, Hit, Status, VectorIndex};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::fmt::Write;
use std::time::Instant;

const SIZES: [usize; 6] = [1_000, 2_000, 5_000, 10_000, 20_000, 50_000];
const QUICK_SIZES: usize = 4;
/// Widths of the small and the smallest published ViT.
const DIMENSIONS: [usize; 2] = [192, 384];
const QUERIES: usize = 200;
const ROUNDS: usize = 9;
const NEIGHBOURS: usize = 10;
/// Vectors around one centre, as images of one class lie.
const PER_CENTRE: usize = 100;
const PEER: &str = "hnsw_rs 0.3.5";

/// One line of the table.
struct Measurement {
    dimensions: usize,
    vectors: usize,
    scan_rate: f64,
    graph_rate: f64,
    /// Median over rounds of scan over graph.
    ratio: f64,
    recall: f64,
    /// Seconds since the first insert.
    scan_build: f64,
    graph_build: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let sizes = if options.quick { &SIZES[..QUICK_SIZES] } else { &SIZES[..] };
    let mut measurements = Vec::new();
    for dimensions in DIMENSIONS {
        measurements.extend(measure(dimensions, sizes)?);
    }
    let table = table(&measurements);
    println!("{table}");
    if let Some(path) = &options.json {
        let rows: Vec<Row> = measurements.iter().flat_map(rows).collect();
        write_json(path, &rows)?;
    }
    if !options.quick {
        write_documentation("index", &table)?;
    }
    Ok(())
}

/// Grows both indexes together and stops at every size to ask them the same queries.
fn measure(dimensions: usize, sizes: &[usize]) -> Result<Vec<Measurement>> {
    let mut generator = Generator::new(dimensions, sizes.iter().max().copied().unwrap_or_default());
    let queries: Vec<Vec<f32>> = (0..QUERIES).map(|_| generator.vector()).collect();
    let mut scan = ExactIndex::new(dimensions);
    // A graph from the first vector on.
    let mut graph = AdaptiveIndex::with_threshold(dimensions, 1);
    let (mut scan_build, mut graph_build) = (0.0, 0.0);
    let mut measurements = Vec::new();
    for &vectors in sizes {
        let more: Vec<Vec<f32>> = (scan.len()..vectors).map(|_| generator.vector()).collect();
        scan_build += fill(&mut scan, &more)?;
        graph_build += fill(&mut graph, &more)?;
        ensure!(
            graph.status() == Status::Approximate,
            "the graph does not answer at {vectors} vectors: {:?}",
            graph.status()
        );
        let mut rates = (Vec::new(), Vec::new());
        let mut recall = 0.0;
        for round in 0..ROUNDS {
            // Whoever is second finds the caches in another state: take turns.
            let (truth, answers) = if round % 2 == 0 {
                let truth = ask(&scan, &queries, &mut rates.0)?;
                (truth, ask(&graph, &queries, &mut rates.1)?)
            } else {
                let answers = ask(&graph, &queries, &mut rates.1)?;
                (ask(&scan, &queries, &mut rates.0)?, answers)
            };
            recall = recall_of(&answers, &truth);
        }
        let ratios = rates.0.iter().zip(&rates.1).map(|(scan, graph)| scan / graph).collect();
        measurements.push(Measurement {
            dimensions,
            vectors,
            ratio: median(ratios),
            scan_rate: median(rates.0),
            graph_rate: median(rates.1),
            recall,
            scan_build,
            graph_build,
        });
    }
    Ok(measurements)
}

/// Inserts with the next free ids; seconds taken.
fn fill(index: &mut dyn VectorIndex, vectors: &[Vec<f32>]) -> Result<f64> {
    let start = Instant::now();
    for vector in vectors {
        index.insert(index.len() as u64, vector)?;
    }
    Ok(start.elapsed().as_secs_f64())
}

/// All answers; adds the queries per second to `rates`.
fn ask(index: &dyn VectorIndex, queries: &[Vec<f32>], rates: &mut Vec<f64>) -> Result<Vec<Vec<Hit>>> {
    let start = Instant::now();
    let answers: Vec<Vec<Hit>> =
        queries.iter().map(|query| index.search(query, NEIGHBOURS, &|_| true)).collect::<Result<_, _>>()?;
    rates.push(queries.len() as f64 / start.elapsed().as_secs_f64());
    Ok(answers)
}

fn recall_of(answers: &[Vec<Hit>], truth: &[Vec<Hit>]) -> f64 {
    let found: usize = answers
        .iter()
        .zip(truth)
        .map(|(answer, truth)| {
            truth.iter().filter(|hit| answer.iter().any(|other| other.id == hit.id)).count()
        })
        .sum();
    found as f64 / truth.iter().map(Vec::len).sum::<usize>() as f64
}

fn rows(measured: &Measurement) -> [Row; 2] {
    let case = format!("{}-d, {} vectors", measured.dimensions, measured.vectors);
    let vectors = measured.vectors as f64;
    [
        Row {
            bench: "index",
            case: format!("exact scan, search, {case}"),
            unit: "queries/s",
            ours: measured.scan_rate,
            peer: PEER.into(),
            peer_value: measured.graph_rate,
            ratio: measured.ratio,
            agreement: measured.recall,
        },
        Row {
            bench: "index",
            case: format!("exact scan, build, {case}"),
            unit: "inserts/s",
            ours: vectors / measured.scan_build,
            peer: PEER.into(),
            peer_value: vectors / measured.graph_build,
            ratio: measured.graph_build / measured.scan_build,
            agreement: measured.recall,
        },
    ]
}

fn table(measurements: &[Measurement]) -> String {
    let mut table = format!(
        "{}, one thread, {NEIGHBOURS} nearest of clustered unit vectors, median of {ROUNDS} interleaved rounds of \
         {QUERIES} queries.\n\n\
         | dimensions | vectors | exact scan, queries/s | {PEER}, queries/s | graph ÷ scan | recall@{NEIGHBOURS} | \
         graph build, s | per insert, ms |\n\
         |---:|---:|---:|---:|---:|---:|---:|---:|\n",
        machine()
    );
    for m in measurements {
        // Writing to a string cannot fail.
        let _ = writeln!(
            table,
            "| {} | {} | {:.0} | {:.0} | {:.2} | {:.4} | {:.1} | {:.2} |",
            m.dimensions,
            m.vectors,
            m.scan_rate,
            m.graph_rate,
            1.0 / m.ratio,
            m.recall,
            m.graph_build,
            1e3 * m.graph_build / m.vectors as f64
        );
    }
    table
}

/// Unit vectors around random centres.
struct Generator {
    rng: ChaCha8Rng,
    centres: Vec<Vec<f32>>,
    dimensions: usize,
}

impl Generator {
    fn new(dimensions: usize, vectors: usize) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(0);
        let centres = (0..vectors.div_ceil(PER_CENTRE)).map(|_| noise(&mut rng, dimensions)).collect();
        Self { rng, centres, dimensions }
    }

    fn vector(&mut self) -> Vec<f32> {
        let centre = self.rng.random_range(0..self.centres.len());
        let noise = noise(&mut self.rng, self.dimensions);
        let mut vector: Vec<f32> =
            self.centres[centre].iter().zip(noise).map(|(centre, noise)| centre + 0.7 * noise).collect();
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        for x in &mut vector {
            *x /= norm;
        }
        vector
    }
}

/// Nearly Gaussian components: sums of four uniform ones.
fn noise(rng: &mut ChaCha8Rng, dimensions: usize) -> Vec<f32> {
    (0..dimensions).map(|_| (0..4).map(|_| rng.random::<f32>() - 0.5).sum()).collect()
}
