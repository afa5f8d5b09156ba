//! Exact while small, approximate when large.
//!
//! The vectors themselves always stay in an [`ExactIndex`]: it answers while there is no usable graph, and re-scores what
//! the graph proposes, so that both ways give the same numbers and the same order.
//!
//! Linking a vector costs as much as several searches, so graphs are built and extended by a thread in the background,
//! from a copy of the codes. Vectors written meanwhile wait: a search compares every waiting one beside what the graph
//! proposes, so a write is seen by the next search however long a build takes. A finished graph takes single new vectors as
//! they come. A vector that is removed leaves its slot dead; too many dead slots mean a new graph, and the old one answers
//! until it is there.

mod builder;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::builder::{Build, Usable};
use super::graph::Graph;
use super::{ExactIndex, Hit, VectorIndex, nearest_first};
use crate::Error;
use crate::vector::unit;

/// A search that found too few accepted vectors is tried once more, this many times wider.
const WIDENING: usize = 8;
/// Vectors below which any width is fine.
const SMALL: usize = 64;
/// Waiting vectors that a write links itself, so that they become fewer with every write.
const LINKS_PER_WRITE: usize = 4;
/// So many waiting vectors are left to a thread.
const MANY_WAITING: usize = 1024;
/// Comparing the waiting ones costs more than this share of all in codes: 1/16.
const WAITING_SHARE: usize = 16;
/// Dead slots above this share of all cost more in searches than a rebuild does: 1/5.
const DEAD_SHARE: usize = 5;

/// Exact below [`AdaptiveIndex::DEFAULT_THRESHOLD`] vectors, by a graph above; falls back to exact when the graph recalls
/// too little.
pub struct AdaptiveIndex {
    vectors: ExactIndex,
    threshold: usize,
    graph: Option<Usable>,
    /// Stored ids that the graph lacks, or has under another vector.
    waiting: BTreeSet<u64>,
    build: Option<Build>,
    refusal: Option<Refusal>,
}

/// How searches are answered at present.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Status {
    /// By comparing every vector: there are few.
    Exact,
    /// By comparing every vector, while a graph over them is built.
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

struct Refusal {
    reason: String,
    retry_at: usize,
}

impl AdaptiveIndex {
    /// Vectors at which a graph takes over.
    ///
    /// A graph is faster than a scan from a few thousand vectors on (`cargo xtask bench index`). But a scan is exact, costs a
    /// write next to nothing, and takes half a millisecond of 20,000 vectors of 384 dimensions: less than anything else a
    /// server does with an image.
    pub const DEFAULT_THRESHOLD: usize = 20_000;

    /// An empty index of vectors of `dimensions`.
    pub fn new(dimensions: usize) -> Self {
        Self::with_threshold(dimensions, Self::DEFAULT_THRESHOLD)
    }

    /// An empty index that starts a graph at `threshold` vectors, and gives it up below half as many.
    pub fn with_threshold(dimensions: usize, threshold: usize) -> Self {
        Self {
            vectors: ExactIndex::new(dimensions),
            threshold,
            graph: None,
            waiting: BTreeSet::new(),
            build: None,
            refusal: None,
        }
    }

    /// Length of the vectors.
    pub fn dimensions(&self) -> usize {
        self.vectors.dimensions()
    }

    /// A stored vector.
    pub fn vector(&self, id: u64) -> Option<&[f32]> {
        Some(self.vectors.vector(self.vectors.row(id)?))
    }

    /// How searches are answered at present.
    pub fn status(&self) -> Status {
        if self.usable().is_some() {
            return Status::Approximate;
        }
        match (&self.build, &self.refusal) {
            (Some(build), _) => match build.outcome() {
                Some(Err(reason)) => Status::FallenBack { reason: reason.clone() },
                Some(Ok(_)) | None => Status::Building { linked: build.linked(), total: self.vectors.len() },
            },
            (None, Some(refusal)) => Status::FallenBack { reason: refusal.reason.clone() },
            (None, None) => Status::Exact,
        }
    }

    /// Waits until no graph is being built and no vector waits for its links.
    pub fn settle(&mut self) {
        loop {
            if let Some(build) = &mut self.build {
                build.wait();
            }
            self.maintain();
            if self.build.is_none() && (self.graph.is_none() || self.waiting.is_empty()) {
                return;
            }
        }
    }

    /// How many candidates a search of the graph keeps, if there is one; measured on its own vectors when it was built.
    pub fn search_width(&self) -> Option<usize> {
        self.usable().map(|(usable, _)| usable.width)
    }

    /// [`VectorIndex::search`] that keeps `width` candidates instead: fewer are faster, more find more.
    pub fn search_with_width(&self, query: &[f32], k: usize, width: usize) -> Result<Vec<Hit>, Error> {
        let query = unit(query, self.vectors.dimensions())?;
        let found = self.usable().and_then(|(usable, waiting)| {
            self.search_graph(&usable.graph, waiting, &query, k, width.max(k), &|_| true)
        });
        Ok(found.unwrap_or_else(|| self.vectors.search_unit(&query, k, &|_| true)))
    }

    /// The newest graph, and the stored ids it lacks or has under another vector.
    fn usable(&self) -> Option<(&Usable, &BTreeSet<u64>)> {
        let finished = self.build.as_ref().and_then(|build| match build.outcome() {
            Some(Ok(usable)) => Some((usable, &build.changed)),
            Some(Err(_)) | None => None,
        });
        finished.or_else(|| self.graph.as_ref().map(|graph| (graph, &self.waiting)))
    }

    /// The graph's part of a write.
    fn maintain(&mut self) {
        let live = self.vectors.len();
        if live < self.threshold / 2 {
            (self.graph, self.build, self.refusal) = (None, None, None);
            self.waiting.clear();
        }
        self.take_over();
        if self.build.is_some() {
            return;
        }
        let Some(Usable { graph, measured_at, .. }) = &mut self.graph else {
            let least = self.refusal.as_ref().map_or(self.threshold.max(1), |refusal| refusal.retry_at);
            if live >= least {
                self.rebuild();
            }
            return;
        };
        let slots = graph.slots();
        let dead = slots.saturating_sub(live - self.waiting.len());
        if dead * DEAD_SHARE > slots {
            self.rebuild();
        } else if self.waiting.len() > MANY_WAITING || slots >= 2 * *measured_at {
            let (codes, ids) = self.vectors.coded(self.waiting.iter().copied());
            self.build = Some(Build::start(Arc::clone(graph), codes, ids));
        } else if let Some(graph) = Arc::get_mut(graph) {
            for _ in 0..LINKS_PER_WRITE {
                let Some(id) = self.waiting.pop_first() else { break };
                let (codes, ids) = self.vectors.coded(std::iter::once(id));
                let _ = graph.extend(codes, &ids, 1, &|_| std::ops::ControlFlow::Continue(()));
            }
        }
    }

    /// Puts what a build has made in the place of what there was.
    fn take_over(&mut self) {
        let Some(build) = self.build.take_if(|build| build.outcome().is_some()) else { return };
        let (outcome, changed) = build.finish();
        match outcome {
            Ok(usable) => {
                self.waiting = changed.into_iter().filter(|&id| self.vectors.row(id).is_some()).collect();
                self.graph = Some(usable);
                self.refusal = None;
            }
            Err(reason) => {
                self.graph = None;
                self.waiting.clear();
                self.refusal = Some(Refusal { reason, retry_at: 2 * self.vectors.len() });
            }
        }
    }

    /// Starts a graph over everything there is.
    fn rebuild(&mut self) {
        let (codes, ids) = self.vectors.coded(self.vectors.ids().iter().copied());
        self.build = Some(Build::start(Arc::new(Graph::new(self.vectors.dimensions())), codes, ids));
    }

    /// The graph's answer, if it has one that is complete.
    fn search_graph(
        &self,
        graph: &Graph,
        waiting: &BTreeSet<u64>,
        query: &[f32],
        k: usize,
        width: usize,
        accept: &dyn Fn(u64) -> bool,
    ) -> Option<Vec<Hit>> {
        if waiting.len() * WAITING_SHARE > self.vectors.len() {
            return None;
        }
        for width in [width, width.saturating_mul(WIDENING)] {
            // So wide a search would visit most of the graph, at many times the cost per vector of a scan.
            if width > self.vectors.len().max(SMALL) {
                return None;
            }
            let found = graph.search(query, width).into_iter().filter(|id| !waiting.contains(id));
            let mut hits: Vec<Hit> = found
                .chain(waiting.iter().copied())
                .filter_map(|id| Some((id, self.vectors.row(id)?)))
                .filter(|&(id, _)| accept(id))
                .map(|(_, row)| self.vectors.hit(row, query))
                .collect();
            hits.sort_unstable_by(nearest_first);
            // A vector that was removed and came back has two slots.
            hits.dedup_by_key(|hit| hit.id);
            if hits.len() >= k {
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
        if self.graph.is_some() {
            self.waiting.insert(id);
        }
        if let Some(build) = &mut self.build {
            build.changed.insert(id);
        }
        self.maintain();
        Ok(())
    }

    fn remove(&mut self, id: u64) -> bool {
        let removed = self.vectors.remove(id);
        self.waiting.remove(&id);
        self.maintain();
        removed
    }

    fn search(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Result<Vec<Hit>, Error> {
        let query = unit(query, self.vectors.dimensions())?;
        let found = self.usable().and_then(|(usable, waiting)| {
            let width = usable.width.max(k.saturating_mul(2));
            self.search_graph(&usable.graph, waiting, &query, k, width, accept)
        });
        Ok(found.unwrap_or_else(|| self.vectors.search_unit(&query, k, accept)))
    }

    fn len(&self) -> usize {
        self.vectors.len()
    }
}

#[cfg(test)]
mod tests;
