//! Nearest stored vectors, exact or approximate, behind one trait.
//!
//! Vectors are unit vectors; similarity is the cosine. Ids are the caller's.

use crate::Error;

/// A stored vector near the query.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// The caller's id.
    pub id: u64,
    /// Cosine, −1 to 1.
    pub similarity: f32,
}

/// What every index can do. Inserting an id again replaces its vector.
pub trait VectorIndex: Send + Sync {
    /// Stores a unit vector; refuses non-finite or wrong-sized ones.
    fn insert(&mut self, id: u64, vector: &[f32]) -> Result<(), Error>;
    /// Removes; false if the id was not there.
    fn remove(&mut self, id: u64) -> bool;
    /// The `k` nearest for which `accept(id)` holds, nearest first, ties by id.
    fn search(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Result<Vec<Hit>, Error>;
    /// Live vectors.
    fn len(&self) -> usize;
    /// No live vectors.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Exact below [`AdaptiveIndex::DEFAULT_THRESHOLD`] vectors, HNSW above; falls back to exact when HNSW fails its self-probe.
pub struct AdaptiveIndex {}

impl AdaptiveIndex {
    /// Vectors at which HNSW takes over, chosen by `cargo xtask bench index`.
    pub const DEFAULT_THRESHOLD: usize = 10_000;

    /// An empty index of vectors of `dimensions`.
    pub fn new(_dimensions: usize) -> Self {
        todo!()
    }
}

impl VectorIndex for AdaptiveIndex {
    fn insert(&mut self, _id: u64, _vector: &[f32]) -> Result<(), Error> {
        todo!()
    }
    fn remove(&mut self, _id: u64) -> bool {
        todo!()
    }
    fn search(&self, _query: &[f32], _k: usize, _accept: &dyn Fn(u64) -> bool) -> Result<Vec<Hit>, Error> {
        todo!()
    }
    fn len(&self) -> usize {
        todo!()
    }
}
