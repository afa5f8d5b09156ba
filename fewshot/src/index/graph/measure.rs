//! How wide a search must be, measured: every graph is asked for the neighbours of some of its own vectors.

use std::sync::atomic::{AtomicBool, Ordering};

use super::{Graph, Near, Scratch};

/// Vectors asked about.
const SAMPLE: usize = 200;
/// Neighbours of each.
const NEIGHBOURS: usize = 10;
/// The share of them that searches must find.
const GOAL: f64 = 0.98;
/// Widths tried, in order.
const WIDTHS: [usize; 10] = [24, 32, 48, 64, 96, 128, 192, 256, 512, 1024];

impl Graph {
    /// The least width at which searches find nearly all true neighbours; otherwise the share the widest finds. Means nothing
    /// once it is cancelled.
    ///
    /// Vectors are asked about as if they were not stored: a search that may step on the one it asks about finds all others
    /// from there. Links that pass by way of it are missing then, so this errs to the safe side, by a hundredth among a million
    /// vectors (`cargo xtask bench index`).
    pub(in super::super) fn measure(&self, threads: usize, cancelled: &AtomicBool) -> Result<usize, f64> {
        // Higher ones are where searches of the lowest layer begin.
        let low = |slot: &u32| self.level(*slot) == 0 && self.entry != Some(*slot);
        let stride = self.slots().div_ceil(SAMPLE).max(1);
        let sample: Vec<u32> = (0..self.slots() as u32).filter(low).step_by(stride).collect();
        let truths = self.share_out(&sample, threads, |&slot, _| {
            if cancelled.load(Ordering::Relaxed) { Vec::new() } else { self.neighbours(slot) }
        });
        let asked: Vec<(u32, Vec<f32>)> = sample.into_iter().zip(truths).collect();
        let all: usize = asked.iter().map(|(_, truth)| truth.len()).sum();
        let mut share = 1.0;
        for width in WIDTHS {
            let found: usize = self
                .share_out(&asked, threads, |(slot, truth), scratch| self.found(*slot, truth, width, scratch))
                .iter()
                .sum();
            if found as f64 >= GOAL * all as f64 {
                return Ok(width);
            }
            share = found as f64 / all as f64;
        }
        Err(share)
    }

    /// Cosines of the true nearest to a slot, largest first.
    fn neighbours(&self, slot: u32) -> Vec<f32> {
        let (mut best, mut cosines) = (Vec::new(), Vec::new());
        let others: Vec<u32> = (0..self.slots() as u32).filter(|&other| other != slot).collect();
        for block in others.chunks(256) {
            self.codes.cosines(self.codes.row(slot as usize), block, &mut cosines);
            best.extend(cosines.iter().copied());
            best.sort_unstable_by(|a: &f32, b| b.total_cmp(a));
            best.truncate(NEIGHBOURS);
        }
        best
    }

    /// How many of the true nearest a search finds; others as near are as good.
    fn found(&self, slot: u32, truth: &[f32], width: usize, scratch: &mut Scratch) -> usize {
        let query = self.codes.row(slot as usize);
        self.descend(query, 0, scratch);
        self.pass_over(slot, scratch);
        self.explore(query, width, 0, scratch);
        let last = truth.last().copied().unwrap_or_default();
        scratch.pool.iter().take(truth.len()).filter(|near: &&Near| near.cosine >= last).count()
    }
}
