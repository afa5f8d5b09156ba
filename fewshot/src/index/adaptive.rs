//! Exact while small, approximate when large.
//!
//! The vectors themselves always stay in an [`ExactIndex`]: it answers while there is no usable graph, re-scores what the
//! graph proposes (so both ways give the same numbers and the same order), and feeds rebuilds. The price is a second
//! copy of every vector above the threshold, inside the graph.
//!
//! Linking a vector costs as much as several searches, so a graph is never built in one go: each write links a few
//! vectors more, and exact search answers until the graph holds them all.

use super::hnsw::HnswGraph;
use super::{ExactIndex, Hit, VectorIndex, nearest_first};
use crate::Error;
use crate::vector::unit;

/// Candidates a graph search keeps (ef of the paper).
const SEARCH_WIDTH: usize = 64;
/// A search that found too few accepted vectors is tried once more, this many times wider.
const WIDENING: usize = 8;
/// Vectors linked per write while a graph is being built: a write then costs about 8 times one into a finished graph.
const BUILD_STEP: usize = 8;
/// Dead slots above this share of all cost more in searches than a rebuild does: 1/5.
const DEAD_SHARE: usize = 5;
/// Stored vectors asked to find themselves before a graph may answer.
const PROBES: usize = 128;
/// Probes that may miss: HNSW promises no more, and one in some thousands does miss in a sound graph.
const PROBE_MISSES: usize = PROBES / 20;
/// A probe has found its vector, or an equal one, at this cosine.
const SAME: f32 = 1.0 - 1e-5;

/// Exact below [`AdaptiveIndex::DEFAULT_THRESHOLD`] vectors, HNSW above; falls back to exact when HNSW fails its self-probe.
pub struct AdaptiveIndex {
    vectors: ExactIndex,
    threshold: usize,
    state: State,
}

/// How searches are answered at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// By comparing every vector: there are few.
    Exact,
    /// By comparing every vector, while a graph over them grows with every write.
    Building {
        /// Vectors in the graph.
        linked: usize,
        /// Vectors in all.
        total: usize,
    },
    /// By the graph.
    Approximate,
    /// By comparing every vector, because the graph proved unusable. It is tried again at twice the size.
    FallenBack {
        /// What was wrong with it.
        reason: String,
    },
}

enum State {
    Off,
    /// `pending` ids are not linked yet; some may be gone or linked meanwhile.
    Building {
        graph: HnswGraph,
        pending: Vec<u64>,
    },
    /// Probed again when the graph has grown to `probe_at` vectors.
    Ready {
        graph: HnswGraph,
        probe_at: usize,
    },
    Refused {
        reason: String,
        retry_at: usize,
    },
}

impl AdaptiveIndex {
    /// Vectors at which HNSW takes over, chosen by `cargo xtask bench index`.
    ///
    /// Queries per second of the graph over those of the scan, at 192 and 384 dimensions: 0.50 and 0.90 at 10,000
    /// vectors, 1.10 and 1.76 at 20,000, 4.1 and 5.8 at 50,000. Below that the scan is faster, exact, needs half the
    /// memory, and a write costs next to nothing, where linking costs as much as a query or two.
    pub const DEFAULT_THRESHOLD: usize = 20_000;

    /// An empty index of vectors of `dimensions`.
    pub fn new(dimensions: usize) -> Self {
        Self::with_threshold(dimensions, Self::DEFAULT_THRESHOLD)
    }

    /// An empty index that starts a graph at `threshold` vectors, and gives it up below half as many.
    pub fn with_threshold(dimensions: usize, threshold: usize) -> Self {
        Self { vectors: ExactIndex::new(dimensions), threshold, state: State::Off }
    }

    /// Length of the vectors.
    pub fn dimensions(&self) -> usize {
        self.vectors.dimensions()
    }

    /// A stored vector.
    pub fn vector(&self, id: u64) -> Option<&[f32]> {
        self.vectors.vector(id)
    }

    /// How searches are answered at present.
    pub fn status(&self) -> Status {
        match &self.state {
            State::Off => Status::Exact,
            State::Building { graph, .. } | State::Ready { graph, .. } if graph.fault().is_some() => {
                Status::FallenBack { reason: graph.fault().unwrap_or_default().to_owned() }
            }
            State::Building { graph, .. } => {
                Status::Building { linked: graph.len(), total: self.vectors.len() }
            }
            State::Ready { .. } => Status::Approximate,
            State::Refused { reason, .. } => Status::FallenBack { reason: reason.clone() },
        }
    }

    /// The graph's part of a write: moves the state on by at most [`BUILD_STEP`] links or one round of probes.
    fn maintain(&mut self) {
        let live = self.vectors.len();
        let state = std::mem::replace(&mut self.state, State::Off);
        self.state = match state {
            State::Off if live >= self.threshold.max(1) => self.start_building(),
            State::Refused { retry_at, .. } if live >= retry_at => self.start_building(),
            State::Building { .. } | State::Ready { .. } | State::Refused { .. }
                if live < self.threshold / 2 =>
            {
                State::Off
            }
            State::Building { graph, .. } | State::Ready { graph, .. } if graph.fault().is_some() => {
                self.refuse(graph.fault().unwrap_or_default().to_owned())
            }
            State::Building { graph, pending } => self.keep_building(graph, pending),
            State::Ready { graph, .. } if (graph.slots() - graph.len()) * DEAD_SHARE > graph.slots() => {
                self.start_building()
            }
            State::Ready { graph, probe_at } if graph.len() >= probe_at => self.probe(graph),
            unchanged @ (State::Off | State::Ready { .. } | State::Refused { .. }) => unchanged,
        };
    }

    fn start_building(&self) -> State {
        let pending = self.vectors.ids().iter().rev().copied().collect();
        self.keep_building(HnswGraph::new(2 * self.vectors.len()), pending)
    }

    fn keep_building(&self, mut graph: HnswGraph, mut pending: Vec<u64>) -> State {
        let mut linked = 0;
        while linked < BUILD_STEP {
            let Some(id) = pending.pop() else {
                return self.probe(graph);
            };
            if let Some(vector) = self.vectors.vector(id).filter(|_| !graph.contains(id)) {
                graph.insert(id, vector);
                linked += 1;
            }
        }
        State::Building { graph, pending }
    }

    /// Lets a graph answer only if stored vectors find themselves in it.
    fn probe(&self, graph: HnswGraph) -> State {
        let ids = self.vectors.ids();
        let stride = ids.len().div_ceil(PROBES).max(1);
        let asked = ids.len().div_ceil(stride);
        let found = ids
            .iter()
            .step_by(stride)
            .filter_map(|&id| self.vectors.vector(id))
            .filter(|vector| {
                let near = graph.candidates(vector, SEARCH_WIDTH).unwrap_or_default();
                near.iter().any(|&other| self.vectors.similarity(other, vector).is_some_and(|s| s >= SAME))
            })
            .count();
        if found + PROBE_MISSES >= asked && graph.fault().is_none() {
            let probe_at = 2 * graph.len();
            return State::Ready { graph, probe_at };
        }
        let reason = graph.fault().map_or_else(
            || format!("only {found} of {asked} stored vectors found themselves in the graph"),
            str::to_owned,
        );
        self.refuse(reason)
    }

    fn refuse(&self, reason: String) -> State {
        State::Refused { reason, retry_at: 2 * self.vectors.len() }
    }

    /// The graph's answer, if it has one that is complete.
    fn search_graph(
        &self,
        graph: &HnswGraph,
        query: &[f32],
        k: usize,
        accept: &dyn Fn(u64) -> bool,
    ) -> Option<Vec<Hit>> {
        let width = SEARCH_WIDTH.max(k.saturating_mul(2));
        for width in [width, width.saturating_mul(WIDENING)] {
            // So wide a search would visit most of the graph, at many times the cost per vector of a scan.
            if width > self.vectors.len().max(SEARCH_WIDTH) {
                return None;
            }
            let mut hits: Vec<Hit> = graph
                .candidates(query, width)?
                .into_iter()
                .filter(|&id| accept(id))
                .filter_map(|id| Some(Hit { id, similarity: self.vectors.similarity(id, query)? }))
                .collect();
            if hits.len() >= k {
                hits.sort_unstable_by(nearest_first);
                hits.truncate(k);
                return Some(hits);
            }
        }
        None
    }
}

impl VectorIndex for AdaptiveIndex {
    fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        let vector = unit(vector, self.vectors.dimensions())?;
        self.vectors.insert_unit(id, &vector);
        if let State::Building { graph, .. } | State::Ready { graph, .. } = &mut self.state {
            graph.insert(id, &vector);
        }
        self.maintain();
        Ok(())
    }

    fn remove(&mut self, id: u64) -> bool {
        let removed = self.vectors.remove(id);
        if let State::Building { graph, .. } | State::Ready { graph, .. } = &mut self.state {
            graph.remove(id);
        }
        self.maintain();
        removed
    }

    fn search(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Result<Vec<Hit>, Error> {
        let query = unit(query, self.vectors.dimensions())?;
        if let State::Ready { graph, .. } = &self.state
            && let Some(hits) = self.search_graph(graph, &query, k, accept)
        {
            return Ok(hits);
        }
        Ok(self.vectors.search_unit(&query, k, accept))
    }

    fn len(&self) -> usize {
        self.vectors.len()
    }
}

#[cfg(test)]
mod tests;
