//! Graphs at equal recall.

use super::{
    DIMENSIONS, Line, NEIGHBOURS, QUERIES, Run, THREADS, anonymous_memory, ask_peer, compare, ids, peer,
    recall,
};
use crate::child::Program;
use anyhow::{Result, ensure};
use dozen_fewshot::index::{AdaptiveIndex, Status, VectorIndex};
use hnsw_rs::anndists::dist::distances::DistDot;
use hnsw_rs::hnsw::Hnsw;
use std::thread::ScopedJoinHandle;
use std::time::Instant;

/// Where rates are compared.
pub(super) const RECALL: f64 = 0.98;
/// Candidates that searches keep, tried in order until enough is recalled.
const WIDTHS: [usize; 13] = [10, 12, 16, 20, 24, 32, 48, 64, 96, 128, 256, 512, 1024];
/// Names in bench/python/index_peer.py.
const PEERS: [&str; 3] = ["hnswlib", "faiss-hnsw", "usearch"];
const KIND: &str = "graph";
/// Of all graphs here.
const LINKS: usize = 16;
const CANDIDATES: usize = 100;
const LAYERS: usize = 16;

struct Side {
    line: Line,
    engine: Engine,
    /// The widest search that recalls too little and the narrowest that recalls enough, or the same twice.
    widths: [Width; 2],
}

/// Who searches.
enum Engine {
    Ours(AdaptiveIndex),
    /// In Rust too, so in this process.
    HnswRs(Box<Hnsw<'static, f32, DistDot>>),
    Process(Program),
}

#[derive(Clone, Copy)]
struct Width {
    width: usize,
    recall: f64,
}

pub(super) fn measure(run: &Run<'_>, truth: &[Vec<u64>]) -> Result<Vec<Line>> {
    let (memory, start) = (anonymous_memory()?, Instant::now());
    // The graph is begun when all vectors are there.
    let mut index = AdaptiveIndex::with_threshold(DIMENSIONS, run.data.size);
    run.data.each(|id, vector| Ok(index.insert(id, vector)?))?;
    index.settle();
    let build = start.elapsed().as_secs_f64();
    ensure!(index.status() == Status::Approximate, "the graph does not answer: {:?}", index.status());
    let side = |name, seconds, mebibytes, engine| Side {
        line: Line {
            name,
            kind: KIND,
            build: Some([seconds, mebibytes]),
            recall: 0.0,
            rates: Vec::new(),
            ratios: Vec::new(),
        },
        engine,
        widths: [Width { width: 0, recall: 0.0 }; 2],
    };
    let memory = anonymous_memory()? - memory;
    let mut sides = vec![side("ours, graph".to_owned(), build, memory, Engine::Ours(index))];
    for name in PEERS {
        let (process, name, built) = peer(run, name)?;
        sides.push(side(name, built.seconds, built.mebibytes, Engine::Process(process)));
    }
    if !run.is_largest {
        let (memory, start) = (anonymous_memory()?, Instant::now());
        let graph = hnsw_rs(run)?;
        let (seconds, memory) = (start.elapsed().as_secs_f64(), anonymous_memory()? - memory);
        sides.push(side("hnsw_rs 0.3.5".to_owned(), seconds, memory, Engine::HnswRs(Box::new(graph))));
    }
    for side in &mut sides {
        side.find_widths(run, truth)?;
    }
    for threads in THREADS {
        let mut seconds = vec![Vec::new(); sides.len()];
        for round in 0..run.rounds {
            for turn in 0..sides.len() {
                // Whoever comes later finds the machine in another state: begin elsewhere every time.
                let number = (turn + round) % sides.len();
                seconds[number].push(sides[number].seconds(run, threads)?);
            }
        }
        let (rates, ratios) = compare(&seconds, 0);
        for (side, (rate, ratio)) in sides.iter_mut().zip(rates.into_iter().zip(ratios)) {
            side.line.rates.push(rate);
            side.line.ratios.push(ratio);
        }
    }
    // At another recall, so beside no other.
    let configured = match &sides[0].engine {
        Engine::Ours(index) => Some(as_configured(run, index, truth)?),
        Engine::HnswRs(_) | Engine::Process(_) => None,
    };
    Ok(sides.into_iter().map(|side| side.line).chain(configured).collect())
}

impl Side {
    fn find_widths(&mut self, run: &Run<'_>, truth: &[Vec<u64>]) -> Result<()> {
        let mut before = None;
        for width in WIDTHS {
            let (_, answers) = self.ask(run, width, 1)?;
            let now = Width { width, recall: recall(&answers, truth) };
            self.widths = [before.unwrap_or(now), now];
            if now.recall >= RECALL {
                break;
            }
            before = Some(now);
        }
        // More where even the narrowest search recalls more, less where the widest recalls less.
        self.line.recall = RECALL.clamp(self.widths[0].recall, self.widths[1].recall);
        Ok(())
    }

    /// Of all queries, interpolated between the two widths.
    fn seconds(&mut self, run: &Run<'_>, threads: usize) -> Result<f64> {
        let [narrow, wide] = self.widths;
        let (fewer, _) = self.ask(run, narrow.width, threads)?;
        let (more, _) = self.ask(run, wide.width, threads)?;
        let step = wide.recall - narrow.recall;
        let share = if step > 0.0 { (self.line.recall - narrow.recall) / step } else { 1.0 };
        Ok((fewer.ln() + share * (more.ln() - fewer.ln())).exp())
    }

    fn ask(&mut self, run: &Run<'_>, width: usize, threads: usize) -> Result<(f64, Vec<Vec<u64>>)> {
        match &mut self.engine {
            Engine::Process(process) => ask_peer(run, process, width, threads),
            Engine::Ours(index) => {
                ask_here(run, threads, |query| Ok(ids(&index.search_with_width(query, NEIGHBOURS, width)?)))
            }
            Engine::HnswRs(graph) => ask_here(run, threads, |query| {
                Ok(graph.search(query, NEIGHBOURS, width).iter().map(|near| near.d_id as u64).collect())
            }),
        }
    }
}

/// With the links and the candidates of the others, built by all threads.
fn hnsw_rs(run: &Run<'_>) -> Result<Hnsw<'static, f32, DistDot>> {
    let graph = Hnsw::new(LINKS, run.data.size, LAYERS, CANDIDATES, DistDot {});
    let mut vectors = Vec::with_capacity(run.data.size);
    run.data.each(|id, vector| {
        vectors.push((vector.to_vec(), id as usize));
        Ok(())
    })?;
    let vectors: Vec<(&[f32], usize)> = vectors.iter().map(|(vector, id)| (vector.as_slice(), *id)).collect();
    graph.parallel_insert_slice(&vectors);
    Ok(graph)
}

/// Seconds of all queries, and the ids found.
fn ask_here(
    run: &Run<'_>,
    threads: usize,
    search: impl Fn(&[f32]) -> Result<Vec<u64>> + Sync,
) -> Result<(f64, Vec<Vec<u64>>)> {
    let start = Instant::now();
    let parts = std::thread::scope(|scope| {
        let parts = run.data.queries.chunks(QUERIES.div_ceil(threads));
        let parts = parts.map(|part| scope.spawn(|| part.iter().map(|query| search(query)).collect()));
        parts.collect::<Vec<_>>().into_iter().map(ScopedJoinHandle::join).collect::<Vec<_>>()
    });
    let seconds = start.elapsed().as_secs_f64();
    let mut answers = Vec::new();
    for part in parts {
        let part: Result<Vec<Vec<u64>>> = part.map_err(|_| anyhow::anyhow!("a search panicked"))?;
        answers.extend(part?);
    }
    Ok((seconds, answers))
}

/// Ours with the width that it has found for itself.
fn as_configured(run: &Run<'_>, index: &AdaptiveIndex, truth: &[Vec<u64>]) -> Result<Line> {
    let mut rates = Vec::new();
    let mut found = 0.0;
    for threads in THREADS {
        let mut seconds = Vec::new();
        for _ in 0..run.rounds {
            let search = |query: &[f32]| Ok(ids(&index.search(query, NEIGHBOURS, &|_| true)?));
            let (taken, answers) = ask_here(run, threads, search)?;
            seconds.push(taken);
            found = recall(&answers, truth);
        }
        rates.extend(compare(&[seconds], 0).0);
    }
    let name = format!("ours, at the width it chooses ({})", index.search_width().unwrap_or_default());
    Ok(Line { name, kind: KIND, build: None, recall: found, rates, ratios: Vec::new() })
}
