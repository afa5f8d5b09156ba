//! Large working memory that outlives the pass it served.
//!
//! What a block keeps for its backward pass is tens of megabytes. Fresh from the allocator, every step would pay again for
//! mapping and clearing it: a twentieth of a small network's step, a tenth of a large one's. Training asks for the same
//! lengths step after step, so a buffer waits for the next request of exactly its length. Buffers that have waited for
//! many requests of other lengths are of shapes that no longer occur, and are freed.

use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

/// Requests after which a waiting buffer counts as forgotten: those of a dozen steps.
const FORGOTTEN: u64 = 20_000;

static POOL: Mutex<Pool> = Mutex::new(Pool { requests: 0, waiting: Vec::new() });

struct Pool {
    requests: u64,
    /// Buffers, and the number of requests at their return; the oldest first.
    waiting: Vec<(u64, Vec<f32>)>,
}

/// A slice on loan, with whatever values its last use left.
pub(super) struct Buffer(Vec<f32>);

impl Buffer {
    pub(super) fn new(length: usize) -> Self {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        pool.requests += 1;
        // The latest is the most likely to be in a cache.
        if let Some(place) = pool.waiting.iter().rposition(|(_, buffer)| buffer.len() == length) {
            return Self(pool.waiting.remove(place).1);
        }
        let now = pool.requests;
        pool.waiting.retain(|(returned, _)| now - returned < FORGOTTEN);
        drop(pool);
        Self(vec![0.0; length])
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let mut pool = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        let now = pool.requests;
        pool.waiting.push((now, std::mem::take(&mut self.0)));
    }
}

impl Deref for Buffer {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.0
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [f32] {
        &mut self.0
    }
}
