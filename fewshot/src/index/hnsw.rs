//! `hnsw_rs` behind a wall: an approximate graph (Malkov and Yashunin, arXiv 1603.09320) over slots that are never reused.
//!
//! What the crate lacks or does badly, and what stands here instead:
//! - no deletion: a slot is marked dead and filtered out of answers; the owner rebuilds when too many are;
//! - panics on NaN, on negative distances and on inner inconsistencies: only checked unit vectors get in, the distance
//!   is clamped at 0, and every call is caught. After one panic the graph counts as broken and answers nothing more;
//! - ends the process above 256 connections: the number is a constant here;
//! - parallel insertion depends on timing: insertion is sequential, and its level generator is seeded, so equal
//!   sequences of calls build equal graphs;
//! - its in-search filter can empty the result heap and panic: candidates are filtered after the search.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;

use hnsw_rs::anndists::dist::distances::Distance;
use hnsw_rs::hnsw::Hnsw;

use super::kernel;

/// Links per point and layer (M of the paper; twice as many on the lowest layer).
const CONNECTIONS: usize = 16;
/// Candidates examined when a point is linked.
const CONSTRUCTION_WIDTH: usize = 100;
/// More than 16^16 points would be needed to use them up.
const LAYERS: usize = 16;

/// Half the squared Euclidean distance of unit vectors, 1 − cos: the same order as L2, at the cost of a dot product.
struct UnitDistance;

impl Distance<f32> for UnitDistance {
    fn eval(&self, a: &[f32], b: &[f32]) -> f32 {
        // Rounding puts a vector up to 1e-7 beyond itself; the crate asserts that distances are not negative.
        (1.0 - kernel::dot(a, b)).max(0.0)
    }
}

/// A graph over unit vectors.
pub(super) struct HnswGraph {
    /// `None` only while dropping.
    graph: Option<Hnsw<'static, f32, UnitDistance>>,
    /// The live id of each slot, `None` once replaced or removed. The graph knows slots, not ids.
    slots: Vec<Option<u64>>,
    slot_of: HashMap<u64, usize>,
    /// Set by the first panic.
    fault: OnceLock<String>,
}

impl HnswGraph {
    /// An empty graph; `expected` sizes its tables.
    pub(super) fn new(expected: usize) -> Self {
        let graph = Hnsw::new(CONNECTIONS, expected, LAYERS, CONSTRUCTION_WIDTH, UnitDistance);
        Self { graph: Some(graph), slots: Vec::new(), slot_of: HashMap::new(), fault: OnceLock::new() }
    }

    /// Links a checked unit vector; an id that is there already is replaced.
    pub(super) fn insert(&mut self, id: u64, vector: &[f32]) {
        self.remove(id);
        let slot = self.slots.len();
        self.slots.push(Some(id));
        self.slot_of.insert(id, slot);
        self.guarded(|graph| graph.insert_slice((vector, slot)));
    }

    /// Marks an id dead; false if it was not there.
    pub(super) fn remove(&mut self, id: u64) -> bool {
        match self.slot_of.remove(&id) {
            Some(slot) => {
                self.slots[slot] = None;
                true
            }
            None => false,
        }
    }

    pub(super) fn contains(&self, id: u64) -> bool {
        self.slot_of.contains_key(&id)
    }

    /// Live ids near a checked unit query, out of the `width` nearest slots; `None` if the graph is broken.
    pub(super) fn candidates(&self, query: &[f32], width: usize) -> Option<Vec<u64>> {
        let neighbours = self.guarded(|graph| graph.search(query, width, width))?;
        Some(neighbours.iter().filter_map(|neighbour| *self.slots.get(neighbour.d_id)?).collect())
    }

    /// Live vectors.
    pub(super) fn len(&self) -> usize {
        self.slot_of.len()
    }

    /// Slots ever filled, dead ones included.
    pub(super) fn slots(&self) -> usize {
        self.slots.len()
    }

    /// What broke it, if anything did.
    pub(super) fn fault(&self) -> Option<&str> {
        self.fault.get().map(String::as_str)
    }

    /// Runs a call into the crate unless an earlier one panicked.
    fn guarded<T>(&self, call: impl FnOnce(&Hnsw<'static, f32, UnitDistance>) -> T) -> Option<T> {
        let graph = self.graph.as_ref().filter(|_| self.fault.get().is_none())?;
        // A panic may leave links half written. The graph is not used again, so nobody sees them.
        match catch_unwind(AssertUnwindSafe(|| call(graph))) {
            Ok(value) => Some(value),
            Err(payload) => {
                let message = payload
                    .downcast_ref::<String>()
                    .map(String::as_str)
                    .or_else(|| payload.downcast_ref::<&str>().copied())
                    .unwrap_or("panic without a message");
                // Two searches may fail at once; the first message stays.
                self.fault.get_or_init(|| message.to_owned());
                None
            }
        }
    }
}

impl Drop for HnswGraph {
    fn drop(&mut self) {
        // The crate's own drop walks all links, in parallel.
        let graph = self.graph.take();
        drop(catch_unwind(AssertUnwindSafe(|| drop(graph))));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_breaks_the_graph_and_nothing_else() {
        let mut graph = HnswGraph::new(10);
        graph.insert(1, &[1.0, 0.0]);
        assert_eq!(graph.candidates(&[1.0, 0.0], 4), Some(vec![1]));
        // The kernel asserts equal lengths, inside the crate's call.
        assert_eq!(graph.candidates(&[1.0, 0.0, 0.0], 4), None);
        assert!(graph.fault().unwrap().contains("one row per output"), "{:?}", graph.fault());
        assert_eq!(graph.candidates(&[1.0, 0.0], 4), None, "a broken graph answers nothing more");
        graph.insert(2, &[1.0, 0.0]);
        assert_eq!(graph.len(), 2);
    }

    #[test]
    fn replaced_and_removed_vectors_are_not_found() {
        let mut graph = HnswGraph::new(10);
        graph.insert(1, &[1.0, 0.0]);
        graph.insert(2, &[0.8, 0.6]);
        graph.insert(1, &[0.0, 1.0]);
        assert_eq!(graph.candidates(&[0.0, 1.0], 4), Some(vec![1, 2]));
        assert!(graph.remove(2));
        assert!(!graph.remove(2));
        assert_eq!(graph.candidates(&[0.0, 1.0], 4), Some(vec![1]));
        assert_eq!((graph.len(), graph.slots()), (1, 3));
    }
}
