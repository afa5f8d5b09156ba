//! Which patches a budget keeps.

/// The plastic number's reciprocal and its square: the steps of the two-dimensional sequence of lowest known
/// discrepancy (Roberts' R₂).
const STEPS: [f64; 2] = [0.754_877_666_246_692_8, 0.569_840_290_998_053_2];

/// Every patch of a grid once, row-major indices, such that each beginning of the list is spread evenly over the grid.
pub(super) fn spread_order(grid: usize) -> Vec<u32> {
    let patches = grid * grid;
    let mut order = Vec::with_capacity(patches);
    let mut taken = vec![false; patches];
    // The sequence meets nearly every cell within a few rounds; the rest follows in reading order.
    for point in 0..4 * patches {
        let coordinate = |step: f64| {
            let position = (0.5 + step * point as f64).fract();
            ((position * grid as f64) as usize).min(grid - 1)
        };
        let index = coordinate(STEPS[0]) * grid + coordinate(STEPS[1]);
        if !std::mem::replace(&mut taken[index], true) {
            order.push(index as u32);
        }
    }
    order.extend((0..patches as u32).filter(|&index| !taken[index as usize]));
    order
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
}
