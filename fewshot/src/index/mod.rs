//! Nearest stored vectors, exact or approximate, behind one trait.
//!
//! Vectors are unit vectors; similarity is the cosine. Ids are the caller's.

mod adaptive;
mod codes;
mod exact;
mod graph;
mod kernel;
#[cfg(test)]
mod testing;

pub use adaptive::{AdaptiveIndex, Status};
pub use exact::ExactIndex;

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
    ///
    /// Fewer than `k` only where fewer are accepted.
    fn search(&self, query: &[f32], k: usize, accept: &dyn Fn(u64) -> bool) -> Result<Vec<Hit>, Error>;
    /// Live vectors.
    fn len(&self) -> usize;
    /// No live vectors.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The order of answers: nearest first, ties by id.
fn nearest_first(a: &Hit, b: &Hit) -> std::cmp::Ordering {
    b.similarity.total_cmp(&a.similarity).then(a.id.cmp(&b.id))
}
