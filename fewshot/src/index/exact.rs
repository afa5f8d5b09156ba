//! Every stored vector compared: exact, and fast enough for the sizes that labelling by hand reaches.

use std::collections::{BinaryHeap, HashMap};

use super::{Hit, VectorIndex, kernel, nearest_first};
use crate::Error;
use crate::vector::unit;

/// Rows scored before any is ranked: the scores stay in the first-level cache, the scan stays free of branches.
const BLOCK: usize = 256;

/// Unit vectors in one contiguous row-major matrix.
#[derive(Clone, Debug)]
pub struct ExactIndex {
    dimensions: usize,
    /// `[row][dimension]`; the last row moves into the place of a removed one.
    rows: Vec<f32>,
    /// The id of each row.
    ids: Vec<u64>,
    row_of: HashMap<u64, usize>,
}

impl ExactIndex {
    /// An empty index of vectors of `dimensions`.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, rows: Vec::new(), ids: Vec::new(), row_of: HashMap::new() }
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Ids in row order.
    pub(super) fn ids(&self) -> &[u64] {
        &self.ids
    }

    pub(super) fn vector(&self, id: u64) -> Option<&[f32]> {
        let row = *self.row_of.get(&id)?;
        self.rows.get(row * self.dimensions..(row + 1) * self.dimensions)
    }

    /// Stores a vector that [`unit()`] has checked.
    pub(super) fn insert_unit(&mut self, id: u64, vector: &[f32]) {
        debug_assert_eq!(vector.len(), self.dimensions);
        if let Some(&row) = self.row_of.get(&id) {
            self.rows[row * self.dimensions..(row + 1) * self.dimensions].copy_from_slice(vector);
        } else {
            self.row_of.insert(id, self.ids.len());
            self.ids.push(id);
            self.rows.extend_from_slice(vector);
        }
    }

    /// Cosine between a stored vector and a unit query.
    pub(super) fn similarity(&self, id: u64, query: &[f32]) -> Option<f32> {
        self.vector(id).map(|vector| kernel::dot(query, vector).clamp(-1.0, 1.0))
    }

    /// [`VectorIndex::search`] for a query that [`unit()`] has checked.
    pub(super) fn search_unit(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Vec<Hit> {
        if k == 0 {
            return Vec::new();
        }
        let mut best: BinaryHeap<WorstFirst> = BinaryHeap::with_capacity(k.min(self.ids.len()) + 1);
        let mut scores = [0.0; BLOCK];
        for (rows, ids) in self.rows.chunks(BLOCK * self.dimensions).zip(self.ids.chunks(BLOCK)) {
            let scores = &mut scores[..ids.len()];
            kernel::dots(query, rows, scores);
            for (&id, &score) in ids.iter().zip(scores.iter()) {
                let hit = WorstFirst(Hit { id, similarity: score.clamp(-1.0, 1.0) });
                // `accept` may be costly: it is asked only about vectors that would enter.
                let enters = best.len() < k || best.peek().is_some_and(|worst| hit < *worst);
                if enters && accept(id) {
                    best.push(hit);
                    if best.len() > k {
                        best.pop();
                    }
                }
            }
        }
        best.into_sorted_vec().into_iter().map(|WorstFirst(hit)| hit).collect()
    }
}

impl VectorIndex for ExactIndex {
    fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error> {
        let vector = unit(vector, self.dimensions)?;
        self.insert_unit(id, &vector);
        Ok(())
    }

    fn remove(&mut self, id: u64) -> bool {
        let Some(row) = self.row_of.remove(&id) else {
            return false;
        };
        let last = self.ids.len() - 1;
        self.ids.swap_remove(row);
        if let Some(&moved) = self.ids.get(row) {
            self.row_of.insert(moved, row);
            self.rows.copy_within(last * self.dimensions.., row * self.dimensions);
        }
        self.rows.truncate(last * self.dimensions);
        true
    }

    fn search(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Result<Vec<Hit>, Error> {
        let query = unit(query, self.dimensions)?;
        Ok(self.search_unit(&query, k, accept))
    }

    fn len(&self) -> usize {
        self.ids.len()
    }
}

/// Orders hits so that the top of a heap is the one to give up.
struct WorstFirst(Hit);

impl Ord for WorstFirst {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        nearest_first(&self.0, &other.0)
    }
}

impl PartialOrd for WorstFirst {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for WorstFirst {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for WorstFirst {}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: &dyn Fn(u64) -> bool = &|_| true;

    #[test]
    fn ties_are_ordered_by_id_whatever_the_order_of_insertion() {
        let mut index = ExactIndex::new(2);
        for id in [9, 2, 7, 4] {
            index.insert(id, &[1.0, 0.0]).unwrap();
        }
        let ids =
            |k| -> Vec<u64> { index.search(&[1.0, 0.0], k, ANY).unwrap().iter().map(|hit| hit.id).collect() };
        assert_eq!(ids(3), [2, 4, 7]);
        assert_eq!(ids(100), [2, 4, 7, 9]);
        assert!(ids(0).is_empty());
    }

    #[test]
    fn similarities_are_cosines() {
        let mut index = ExactIndex::new(2);
        index.insert(1, &[3.0, 4.0]).unwrap();
        index.insert(2, &[-2.0, 0.0]).unwrap();
        let hits = index.search(&[5.0, 0.0], 2, ANY).unwrap();
        assert_eq!(hits, [Hit { id: 1, similarity: 0.6 }, Hit { id: 2, similarity: -1.0 }]);
    }

    #[test]
    fn bad_vectors_are_refused_and_change_nothing() {
        let mut index = ExactIndex::new(2);
        index.insert(1, &[1.0, 0.0]).unwrap();
        assert_eq!(index.insert(1, &[f32::NAN, 0.0]), Err(Error::NotFinite { position: 0 }));
        assert_eq!(index.insert(2, &[1.0]), Err(Error::Dimensions { expected: 2, actual: 1 }));
        assert_eq!(index.insert(2, &[0.0, 0.0]), Err(Error::ZeroVector));
        assert_eq!(index.search(&[1.0, f32::INFINITY], 1, ANY), Err(Error::NotFinite { position: 1 }));
        assert_eq!(index.search(&[1.0, 0.0], 5, ANY).unwrap(), [Hit { id: 1, similarity: 1.0 }]);
    }
}
