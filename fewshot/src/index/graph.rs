//! Hierarchical navigable small world (Malkov and Yashunin, arXiv 1603.09320) over codes, in flat arrays.
//!
//! A search spends its time waiting for vectors that are anywhere in memory. So vectors are bytes, links are numbers in one
//! array, candidates are one sorted list (as in arXiv 1707.00143), and the vectors of a point's neighbours are asked for
//! together before the first is compared. Whoever wants exact cosines computes them for what is found.
//!
//! Slots are never reused. A graph knows nothing of removals: its owner passes over ids that are gone.

mod build;
mod measure;

use std::sync::{Mutex, PoisonError};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::codes::{Code, Codes};

/// Links of a point on a layer (M of the paper); twice as many on the lowest.
const LINKS: usize = 16;
const LOWEST_LINKS: usize = 2 * LINKS;
/// The place of a link that is not there. Those that are come first.
const NONE: u32 = u32::MAX;

/// A graph over unit vectors.
#[derive(Clone)]
pub(super) struct Graph {
    codes: Codes,
    /// The caller's id of each slot.
    ids: Vec<u64>,
    /// `[slot][LOWEST_LINKS]`.
    lowest: Vec<u32>,
    /// Of each slot, `[layer above the lowest][LINKS]`; most slots have none.
    towers: Vec<Box<[u32]>>,
    /// A slot on the highest layer.
    entry: Option<u32>,
    /// Draws how high a slot stands.
    rng: ChaCha8Rng,
    scratch: ScratchPool,
}

/// A slot near a query.
#[derive(Clone, Copy, Debug)]
struct Near {
    /// Larger means nearer: the cosine in an order of whole numbers, then the slot. Of equally near ones the latest comes
    /// first, so that many equal vectors link to each other in a row, not all to one.
    key: u64,
    /// Cosine of codes.
    cosine: f32,
    /// Its links have been followed.
    followed: bool,
}

impl Near {
    fn new(slot: u32, cosine: f32) -> Self {
        let bits = cosine.to_bits();
        let order = if cosine.is_sign_negative() { !bits } else { bits | 1 << 31 };
        Self { key: u64::from(order) << 32 | u64::from(slot), cosine, followed: false }
    }

    fn slot(&self) -> u32 {
        self.key as u32
    }

    /// Nearest first.
    fn order(&self, other: &Self) -> std::cmp::Ordering {
        other.key.cmp(&self.key)
    }
}

/// What a search needs beside the graph.
#[derive(Default)]
struct Scratch {
    /// A bit per slot; those in `marked` are set.
    seen: Vec<u64>,
    marked: Vec<u32>,
    /// The nearest so far, nearest first.
    pool: Vec<Near>,
    fresh: Vec<u32>,
    cosines: Vec<f32>,
}

/// Used again by later searches, several at once. A copy of a graph begins without.
#[derive(Default)]
struct ScratchPool(Mutex<Vec<Scratch>>);

impl Clone for ScratchPool {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl ScratchPool {
    fn with<T>(&self, work: impl FnOnce(&mut Scratch) -> T) -> T {
        // Every search begins with an empty scratch: one that a panic left behind does no harm.
        let free = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = free.unwrap_or_default();
        let result = work(&mut scratch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }
}

impl Graph {
    /// No vectors, of `dimensions`.
    pub(super) fn new(dimensions: usize) -> Self {
        Self {
            codes: Codes::new(dimensions),
            ids: Vec::new(),
            lowest: Vec::new(),
            towers: Vec::new(),
            entry: None,
            rng: ChaCha8Rng::seed_from_u64(0),
            scratch: ScratchPool::default(),
        }
    }

    /// Slots ever filled.
    pub(super) fn slots(&self) -> usize {
        self.ids.len()
    }

    /// The ids of the `width` nearest slots found, about nearest first.
    pub(super) fn search(&self, query: &[f32], width: usize) -> Vec<u64> {
        let query = Codes::of(query);
        self.scratch.with(|scratch| {
            self.nearest(query.row(0), width, scratch);
            scratch.pool.iter().map(|near| self.ids[near.slot() as usize]).collect()
        })
    }

    /// Leaves the `width` nearest slots found in the pool.
    fn nearest(&self, query: Code<'_>, width: usize, scratch: &mut Scratch) {
        self.descend(query, 0, scratch);
        self.explore(query, width, 0, scratch);
    }

    /// Puts into the pool where to begin on `layer`.
    fn descend(&self, query: Code<'_>, layer: usize, scratch: &mut Scratch) {
        scratch.pool.clear();
        let Some(entry) = self.entry else { return };
        self.codes.cosines(query, &[entry], &mut scratch.cosines);
        scratch.pool.push(Near::new(entry, scratch.cosines[0]));
        for above in (layer + 1..=self.level(entry)).rev() {
            self.explore(query, 1, above, scratch);
        }
    }

    /// Has the next exploration do without a slot that is not in the pool.
    fn pass_over(&self, slot: u32, scratch: &mut Scratch) {
        scratch.seen.resize(self.slots().div_ceil(64), 0);
        scratch.seen[slot as usize / 64] |= 1 << (slot % 64);
        scratch.marked.push(slot);
    }

    /// Best-first search of one layer from the pool's slots; leaves the `width` nearest found in the pool.
    fn explore(&self, query: Code<'_>, width: usize, layer: usize, scratch: &mut Scratch) {
        let Scratch { seen, marked, pool, fresh, cosines } = scratch;
        seen.resize(self.slots().div_ceil(64), 0);
        for near in pool.iter_mut() {
            near.followed = false;
            seen[near.slot() as usize / 64] |= 1 << (near.slot() % 64);
            marked.push(near.slot());
        }
        let mut next = 0;
        while let Some(near) = pool.get_mut(next) {
            if near.followed {
                next += 1;
                continue;
            }
            near.followed = true;
            fresh.clear();
            for slot in self.links(near.slot(), layer) {
                let (word, bit) = (slot as usize / 64, 1 << (slot % 64));
                if seen[word] & bit == 0 {
                    seen[word] |= bit;
                    marked.push(slot);
                    fresh.push(slot);
                }
            }
            self.codes.cosines(query, fresh, cosines);
            for (&slot, &cosine) in fresh.iter().zip(cosines.iter()) {
                let near = Near::new(slot, cosine);
                if pool.len() >= width {
                    if pool.last().is_none_or(|last| near.key < last.key) {
                        continue;
                    }
                    pool.pop();
                }
                let place = pool.partition_point(|other| other.key > near.key);
                pool.insert(place, near);
                next = next.min(place);
            }
        }
        for slot in marked.drain(..) {
            seen[slot as usize / 64] = 0;
        }
    }

    /// The highest layer of a slot.
    fn level(&self, slot: u32) -> usize {
        self.towers[slot as usize].len() / LINKS
    }

    fn links(&self, slot: u32, layer: usize) -> impl Iterator<Item = u32> {
        let places = match layer.checked_sub(1) {
            None => &self.lowest[slot as usize * LOWEST_LINKS..][..LOWEST_LINKS],
            Some(floor) => &self.towers[slot as usize][floor * LINKS..][..LINKS],
        };
        places.iter().copied().take_while(|&link| link != NONE)
    }

    fn set_links(&mut self, slot: u32, layer: usize, links: &[u32]) {
        let places = match layer.checked_sub(1) {
            None => &mut self.lowest[slot as usize * LOWEST_LINKS..][..LOWEST_LINKS],
            Some(floor) => &mut self.towers[slot as usize][floor * LINKS..][..LINKS],
        };
        places.fill(NONE);
        places[..links.len()].copy_from_slice(links);
    }
}

#[cfg(test)]
mod tests;
