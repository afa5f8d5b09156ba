//! Every example against every other, as blocks of one matrix product: what each resembles, and groups of copies.

use std::collections::BTreeMap;

use crate::matrix::{View, multiply};
use crate::means::widen;
use crate::progress::report;
use crate::{Error, Examples, Progress};

/// Rows of the similarity matrix that exist at a time: 128 against 20,000 examples are 20 MB.
const BLOCK: usize = 128;

/// Neighbours kept of each example.
const NEAREST: usize = 5;

/// f32 rounding of a unit vector moves its cosine with a copy of itself below 1 by no more than this.
const ROUNDING: f64 = 1e-6;

/// What each example resembles.
pub(super) struct Neighbours {
    /// The most similar examples, nearest first, with cosines.
    nearest: Vec<Vec<(usize, f64)>>,
    /// Mean cosine to the most similar examples of its own class; none for its class's only one.
    typicality: Vec<Option<f64>>,
    /// Union-find forest of copies: each example's parent, the root being the first of its group.
    parent: Vec<usize>,
    /// Least cosine that joined two parts of a root's group.
    similarity: Vec<f64>,
}

/// Examples joined by a chain of near-duplicates.
pub(super) struct Group {
    /// Two positions or more, ascending.
    pub(super) members: Vec<usize>,
    /// Least cosine of the pairs that joined them.
    pub(super) similarity: f64,
}

impl Neighbours {
    pub(super) fn find(
        examples: &Examples,
        near_duplicate: f64,
        progress: Progress<'_>,
    ) -> Result<Self, Error> {
        let (len, dimensions) = (examples.len(), examples.dimensions());
        let vectors = widen(examples.vectors());
        let mut found = Self {
            nearest: Vec::with_capacity(len),
            typicality: Vec::with_capacity(len),
            parent: (0..len).collect(),
            similarity: vec![1.0; len],
        };
        let mut cosines = vec![0.0; BLOCK.min(len) * len];
        for start in (0..len).step_by(BLOCK) {
            let rows = BLOCK.min(len - start);
            let block = View::new(&vectors[start * dimensions..][..rows * dimensions], rows, dimensions);
            let all = View::new(&vectors, len, dimensions).transposed();
            multiply(&mut cosines[..rows * len], block, all);
            for (row, cosines) in cosines[..rows * len].chunks_exact(len).enumerate() {
                found.read(examples, start + row, cosines, near_duplicate);
            }
            report(progress, (start + rows) as f64 / len as f64)?;
        }
        Ok(found)
    }

    /// Takes in one example's cosines with all.
    fn read(&mut self, examples: &Examples, example: usize, cosines: &[f64], near_duplicate: f64) {
        let labels = examples.labels();
        let (mut nearest, mut own) = (Vec::with_capacity(NEAREST + 1), Vec::with_capacity(NEAREST + 1));
        for (other, &cosine) in cosines.iter().enumerate() {
            if other == example {
                continue;
            }
            keep_best(&mut nearest, (other, cosine));
            if labels[other] == labels[example] {
                keep_best(&mut own, (other, cosine));
            }
            if other < example && cosine >= near_duplicate - ROUNDING {
                self.join(example, other, cosine.min(1.0));
            }
        }
        let total: f64 = own.iter().map(|&(_, cosine)| cosine).sum();
        self.typicality.push((!own.is_empty()).then(|| total / own.len() as f64));
        self.nearest.push(nearest);
    }

    fn join(&mut self, a: usize, b: usize, cosine: f64) {
        let (a, b) = (self.root(a), self.root(b));
        if a != b {
            let (first, second) = (a.min(b), a.max(b));
            self.parent[second] = first;
            self.similarity[first] = self.similarity[first].min(self.similarity[second]).min(cosine);
        }
    }

    /// Halves the path on the way, so that long chains stay cheap.
    fn root(&mut self, mut example: usize) -> usize {
        while self.parent[example] != example {
            self.parent[example] = self.parent[self.parent[example]];
            example = self.parent[example];
        }
        example
    }

    /// Groups of two or more, by first member.
    pub(super) fn groups(&self) -> Vec<Group> {
        let mut groups: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        // Parents come before their children, so each one's root is known when it is reached.
        let mut roots = self.parent.clone();
        for example in 0..roots.len() {
            roots[example] = roots[roots[example]];
            groups.entry(roots[example]).or_default().push(example);
        }
        let several = groups.into_iter().filter(|(_, members)| members.len() > 1);
        several.map(|(root, members)| Group { members, similarity: self.similarity[root] }).collect()
    }

    /// The most similar examples, nearest first, with cosines.
    pub(super) fn nearest(&self, example: usize) -> &[(usize, f64)] {
        &self.nearest[example]
    }

    /// Mean cosine to the most similar examples of its own class; none for its class's only one.
    pub(super) fn typicality(&self, example: usize) -> Option<f64> {
        self.typicality[example]
    }
}

/// Inserts into a short list in descending order, ties in the order met.
fn keep_best(best: &mut Vec<(usize, f64)>, candidate: (usize, f64)) {
    if best.len() == NEAREST && best[NEAREST - 1].1 >= candidate.1 {
        return;
    }
    let place = best.partition_point(|kept| kept.1 >= candidate.1);
    best.insert(place, candidate);
    best.truncate(NEAREST);
}
