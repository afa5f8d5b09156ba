//! Which patches a budget keeps.

use crate::image::RgbImage;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

/// How patches are chosen, where not all are embedded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Selection {
    /// The same of every image, spread evenly over it.
    #[default]
    Spread,
    /// The same of every image, at random.
    Random {
        /// Of the choice.
        seed: u64,
    },
    /// The same of every image, those nearest to its middle.
    Centre,
    /// One of every square of four patches, then its diagonal neighbour, then the other two; where not all squares can
    /// have one more, those patches of each image that have most contrast. Following contrast further makes vectors less
    /// like those of all patches, not more: a network sees by what lies between, too.
    Content,
}

/// The choices of one grid of patches.
pub(super) struct Patches {
    grid: usize,
    /// Side of a patch in pixels.
    side: usize,
    spread: Vec<u32>,
    centre: Vec<u32>,
}

impl Patches {
    pub(super) fn new(grid: usize, side: usize) -> Self {
        let spread = spread_order(grid);
        let from_middle = |&patch: &u32| {
            let offset = |place: usize| (2 * place + 1).abs_diff(grid).pow(2);
            offset(patch as usize / grid) + offset(patch as usize % grid)
        };
        let mut centre = spread.clone();
        centre.sort_by_key(from_middle);
        Self { grid, side, spread, centre }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.spread.len()
    }

    /// How many a share of them is: at least one.
    pub(super) fn share(&self, keep: f32) -> usize {
        ((self.count() as f64 * f64::from(keep)).floor() as usize).clamp(1, self.count())
    }

    /// The first `count` patches by a rule that is the same for every image; `None` where it is not.
    pub(super) fn shared(&self, selection: Selection, count: usize) -> Option<Vec<u32>> {
        if count == self.count() {
            return Some((0..count as u32).collect());
        }
        match selection {
            Selection::Spread => Some(self.spread[..count].to_vec()),
            Selection::Centre => Some(self.centre[..count].to_vec()),
            Selection::Random { seed } => {
                let mut order = self.spread.clone();
                order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                order.truncate(count);
                Some(order)
            }
            Selection::Content => None,
        }
    }

    /// The `count` patches of a crop that [`Selection::Content`] keeps.
    pub(super) fn by_content(&self, crop: &RgbImage, count: usize) -> Vec<u32> {
        let mut ranked = self.spread.clone();
        let contrasts: Vec<f64> = (0..self.count()).map(|patch| self.contrast(crop, patch)).collect();
        // Of equals, the one that comes first in the spread order.
        ranked.sort_by(|&one, &other| {
            let rank = |patch| bayer_digit(self.grid, patch, 0);
            let contrast = |patch: u32| contrasts[patch as usize];
            rank(one).cmp(&rank(other)).then(contrast(other).total_cmp(&contrast(one)))
        });
        ranked.truncate(count);
        ranked
    }

    /// Standard deviation of the luma of a patch.
    fn contrast(&self, crop: &RgbImage, patch: usize) -> f64 {
        let (top, left) = (patch / self.grid * self.side, patch % self.grid * self.side);
        let (mut sum, mut squares) = (0_u64, 0_u64);
        for row in top..top + self.side {
            let from = (row * crop.width as usize + left) * 3;
            for pixel in crop.pixels[from..from + 3 * self.side].chunks_exact(3) {
                // Weights of 2, 5 and 1 eighths are near those of ITU-R 601, and quick.
                let luma = 2 * u64::from(pixel[0]) + 5 * u64::from(pixel[1]) + u64::from(pixel[2]);
                sum += luma;
                squares += luma * luma;
            }
        }
        let area = (self.side * self.side) as f64;
        let mean = sum as f64 / area;
        (squares as f64 / area - mean * mean).max(0.0).sqrt()
    }
}

/// Every patch of a grid once, row-major indices, such that each beginning of the list is spread evenly over the grid: the
/// order of Bayer's dither matrix. A quarter of them is one of every square of four, half of them a chequerboard.
fn spread_order(grid: usize) -> Vec<u32> {
    let levels = grid.next_power_of_two().trailing_zeros();
    let mut order: Vec<u32> = (0..(grid * grid) as u32).collect();
    order.sort_by_key(|&patch| {
        (0..levels).fold(0_usize, |place, level| 4 * place + bayer_digit(grid, patch, level))
    });
    order
}

/// Which of its square of four a patch is, 0 and 1 being diagonal neighbours; at level 1, which square of four squares its
/// square is, and so on.
fn bayer_digit(grid: usize, patch: u32, level: u32) -> usize {
    let bit = |place: usize| place >> level & 1;
    let (row, column) = (bit(patch as usize / grid), bit(patch as usize % grid));
    2 * (row ^ column) + row
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_patch_comes_once() {
        for grid in [1, 2, 3, 8, 14, 32] {
            let mut order = spread_order(grid);
            order.sort_unstable();
            assert!(order.into_iter().eq(0..(grid * grid) as u32), "{grid}");
        }
    }

    #[test]
    fn every_beginning_is_spread_over_the_quadrants() {
        let grid = 8;
        let order = spread_order(grid);
        for kept in [8, 16, 32, 48] {
            let mut quadrants = [0_usize; 4];
            for &index in &order[..kept] {
                let (row, column) = (index as usize / grid, index as usize % grid);
                quadrants[row / 4 * 2 + column / 4] += 1;
            }
            let fair = kept / 4;
            assert!(quadrants.iter().all(|&count| count.abs_diff(fair) <= 2), "{kept} kept: {quadrants:?}");
        }
    }

    #[test]
    fn every_rule_keeps_so_many_different_patches() {
        let patches = Patches::new(7, 2);
        let crop =
            RgbImage { width: 15, height: 15, pixels: (0..15 * 15 * 3).map(|at| (at * at) as u8).collect() };
        let rules = [Selection::Spread, Selection::Centre, Selection::Random { seed: 3 }, Selection::Content];
        for (rule, count) in rules.into_iter().flat_map(|rule| [1, 20, 49].map(|count| (rule, count))) {
            let kept = patches.shared(rule, count).unwrap_or_else(|| patches.by_content(&crop, count));
            let different: std::collections::BTreeSet<u32> = kept.iter().copied().collect();
            assert_eq!((kept.len(), different.len()), (count, count), "{rule:?}");
            assert!(different.iter().all(|&patch| patch < 49));
        }
        let random = |seed| patches.shared(Selection::Random { seed }, 20);
        assert_eq!(random(3), random(3));
        assert_ne!(random(3), random(4));
        assert_eq!(patches.shared(Selection::Centre, 1), Some(vec![24]));
    }

    /// Noise in one corner draws patches there once every square of four has one.
    #[test]
    fn content_goes_where_the_contrast_is() {
        let (grid, side) = (8, 4);
        let patches = Patches::new(grid, side);
        let width = (grid * side) as u32;
        let is_corner = |at: u32| at / 3 % width < width / 2 && at / 3 / width < width / 2;
        let level = |at: u32| if is_corner(at) { (at * at / 3) as u8 } else { 128 };
        let crop = RgbImage { width, height: width, pixels: (0..width * width * 3).map(level).collect() };
        let count_in_corner =
            |kept: &[u32]| kept.iter().filter(|&&patch| patch % 8 < 4 && patch / 8 < 4).count();
        let kept = patches.by_content(&crop, 20);
        assert_eq!(count_in_corner(&kept), 8, "one of each of its four squares, and all four that follow");
        let squares: std::collections::BTreeSet<u32> =
            kept.iter().map(|patch| patch / 16 * 4 + patch % 8 / 2).collect();
        assert_eq!(squares.len(), 16, "every square of four has a patch");
        assert_eq!(count_in_corner(&patches.by_content(&crop, 4)), 4);
    }
}
