//! Every stored vector compared: exact, and fast enough for the sizes that labelling by hand reaches.
//!
//! What is read of most vectors is their code, a quarter of the memory: only where a code's cosine and the bound on its
//! error leave a doubt is the vector itself compared. Answers are those of a scan of the vectors, to the bit.

use std::collections::{BinaryHeap, HashMap};

use super::codes::Codes;
use super::{Hit, VectorIndex, kernel, nearest_first};
use crate::Error;
use crate::vector::unit;

/// Rows bounded before any is ranked: the bounds stay in the first-level cache, the scan stays free of branches.
const BLOCK: usize = 256;

/// Unit vectors in one contiguous row-major matrix.
#[derive(Clone, Debug)]
pub struct ExactIndex {
    dimensions: usize,
    /// `[row][dimension]`; the last row moves into the place of a removed one.
    rows: Vec<f32>,
    codes: Codes,
    /// The id of each row.
    ids: Vec<u64>,
    row_of: HashMap<u64, usize>,
}

impl ExactIndex {
    /// An empty index of vectors of `dimensions`.
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            rows: Vec::new(),
            codes: Codes::new(dimensions),
            ids: Vec::new(),
            row_of: HashMap::new(),
        }
    }

    pub(super) fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Ids in row order.
    pub(super) fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The codes of some ids and the ids they are of; ids that are gone are left out.
    pub(super) fn coded(&self, ids: impl Iterator<Item = u64>) -> (Codes, Vec<u64>) {
        let found = ids.filter_map(|id| Some((self.row(id)?, id)));
        let (rows, ids): (Vec<usize>, Vec<u64>) = found.unzip();
        (self.codes.select(rows.into_iter()), ids)
    }

    pub(super) fn row(&self, id: u64) -> Option<usize> {
        self.row_of.get(&id).copied()
    }

    pub(super) fn vector(&self, row: usize) -> &[f32] {
        &self.rows[row * self.dimensions..(row + 1) * self.dimensions]
    }

    /// Stores a vector that [`unit()`] has checked.
    pub(super) fn insert_unit(&mut self, id: u64, vector: &[f32]) {
        debug_assert_eq!(vector.len(), self.dimensions);
        if let Some(&row) = self.row_of.get(&id) {
            self.rows[row * self.dimensions..(row + 1) * self.dimensions].copy_from_slice(vector);
            self.codes.set(row, vector);
        } else {
            self.row_of.insert(id, self.ids.len());
            self.ids.push(id);
            self.rows.extend_from_slice(vector);
            self.codes.push(vector);
        }
    }

    /// What a row is to a unit query.
    pub(super) fn hit(&self, row: usize, query: &[f32]) -> Hit {
        Hit { id: self.ids[row], similarity: kernel::cosine(query, self.vector(row)) }
    }

    /// [`VectorIndex::search`] for a query that [`unit()`] has checked.
    pub(super) fn search_unit(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Vec<Hit> {
        if k == 0 {
            return Vec::new();
        }
        let mut best = Best::new(k);
        for Candidate { row, most } in self.candidates(query, k, accept) {
            // A tie may still enter, by its id.
            if best.least().is_some_and(|least| most < least) {
                break;
            }
            best.offer(self.hit(row, query));
        }
        best.into_hits()
    }

    /// The accepted rows that may be among the `k` nearest, as their codes say; those that may be nearest first.
    fn candidates(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Vec<Candidate> {
        let code = Codes::of(query);
        let (mut cosines, mut errors) = ([0.0; BLOCK], [0.0; BLOCK]);
        let mut candidates = Vec::new();
        // Of the accepted rows so far, those that are surely nearest: no row that is surely farther can be an answer.
        let mut surest = Best::new(k);
        for (block, ids) in self.ids.chunks(BLOCK).enumerate() {
            let start = block * BLOCK;
            self.codes.bounded(code.row(0), start, &mut cosines[..ids.len()], &mut errors);
            for (offset, &id) in ids.iter().enumerate() {
                let (cosine, error) = (cosines[offset], errors[offset]);
                let most = cosine + error;
                // `accept` may be costly: it is asked only about rows that may be answers.
                if surest.least().is_none_or(|least| most >= least) && accept(id) {
                    candidates.push(Candidate { row: start + offset, most });
                    surest.offer(Hit { id, similarity: cosine - error });
                }
            }
        }
        if let Some(least) = surest.least() {
            candidates.retain(|candidate| candidate.most >= least);
        }
        candidates.sort_unstable_by(|a, b| b.most.total_cmp(&a.most));
        candidates
    }
}

/// A row that may be an answer.
struct Candidate {
    row: usize,
    /// Its cosine at most.
    most: f32,
}

/// The `k` nearest of the hits offered.
struct Best {
    k: usize,
    heap: BinaryHeap<WorstFirst>,
}

impl Best {
    fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::new() }
    }

    /// The least similarity among `k` hits; nothing below it enters. `None` while there are fewer.
    fn least(&self) -> Option<f32> {
        self.heap.peek().filter(|_| self.heap.len() >= self.k).map(|WorstFirst(hit)| hit.similarity)
    }

    fn offer(&mut self, hit: Hit) {
        self.heap.push(WorstFirst(hit));
        if self.heap.len() > self.k {
            self.heap.pop();
        }
    }

    fn into_hits(self) -> Vec<Hit> {
        self.heap.into_sorted_vec().into_iter().map(|WorstFirst(hit)| hit).collect()
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
        self.codes.swap_remove(row);
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
    use crate::index::testing::clustered;

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

    /// Vectors so alike that their codes are equal, among others.
    #[test]
    fn answers_are_those_of_comparing_every_vector_to_the_bit() {
        let mut vectors = clustered(600, 48, 1);
        for i in 0..300 {
            let mut near = vectors[i % 3].clone();
            near[i % 48] += 1e-6 * (i as f32 - 150.0);
            vectors.push(near);
        }
        let vectors: Vec<Vec<f32>> = vectors.iter().map(|vector| unit(vector, 48).unwrap()).collect();
        let (mut forwards, mut backwards) = (ExactIndex::new(48), ExactIndex::new(48));
        for (id, vector) in vectors.iter().enumerate() {
            forwards.insert_unit(id as u64, vector);
        }
        for (id, vector) in vectors.iter().enumerate().rev() {
            backwards.insert_unit(id as u64, vector);
        }
        for query in vectors.iter().step_by(7) {
            for (k, share) in [(1, 1), (10, 1), (400, 1), (10, 9)] {
                let accept = |id: u64| id.is_multiple_of(share);
                let all = vectors.iter().zip(0..).filter(|(_, id)| accept(*id));
                let mut plain: Vec<Hit> =
                    all.map(|(vector, id)| Hit { id, similarity: kernel::cosine(query, vector) }).collect();
                plain.sort_unstable_by(nearest_first);
                plain.truncate(k);
                assert_eq!(forwards.search_unit(query, k, &accept), plain);
                assert_eq!(backwards.search_unit(query, k, &accept), plain);
            }
        }
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
