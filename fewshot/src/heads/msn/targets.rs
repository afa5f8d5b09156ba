//! What the pool's pictures are to be assigned to: made of what the prototypes say of them, and no function of it to the
//! gradient.

use super::neighbours::Neighbours;
use super::objective::mean_rows;

/// Rounds of Sinkhorn's algorithm: after five the classes' shares are within a hundredth of the prior's.
const BALANCING: usize = 5;
/// Rounds of passing assignments between neighbours, and the share that is taken from them in each.
const PASSES: usize = 3;
const PASSED: f64 = 0.8;
/// A class that nothing is assigned to counts as having this share.
const VANISHED: f64 = 1e-12;

/// Scales classes until their shares are those of the prior, as MSN does before sharpening; rows keep the sum 1.
pub(super) fn balance(assignments: &mut [f64], prior: &[f64]) {
    for _ in 0..BALANCING {
        let shares = mean_rows(assignments, prior.len());
        for row in assignments.chunks_exact_mut(prior.len()) {
            for ((value, share), prior) in row.iter_mut().zip(&shares).zip(prior) {
                *value *= prior / share.max(VANISHED);
            }
            normalise(row);
        }
    }
}

/// Mixes each assignment with those of its neighbours. `labelled` come first among the neighbours, and keep their labels.
pub(super) fn pass(
    assignments: &[f64],
    labelled: &[f64],
    classes: usize,
    neighbours: &Neighbours,
) -> Vec<f64> {
    let fixed = labelled.len() / classes;
    let mut passed = assignments.to_vec();
    let mut next = vec![0.0; assignments.len()];
    for _ in 0..PASSES {
        for (row, out) in next.chunks_exact_mut(classes).enumerate() {
            out.copy_from_slice(&assignments[row * classes..][..classes]);
            let around = neighbours.of(fixed + row);
            if around.is_empty() {
                continue;
            }
            for value in out.iter_mut() {
                *value *= 1.0 - PASSED;
            }
            for &(other, weight) in around {
                let (from, other) =
                    if other < fixed { (labelled, other) } else { (&passed[..], other - fixed) };
                for (out, value) in out.iter_mut().zip(&from[other * classes..]) {
                    *out += PASSED * weight * value;
                }
            }
        }
        std::mem::swap(&mut passed, &mut next);
    }
    passed
}

/// Raises to the power of one over the temperature (arXiv 2204.07141, §3).
pub(super) fn sharpen(assignments: &mut [f64], classes: usize, temperature: f64) {
    for row in assignments.chunks_exact_mut(classes) {
        let largest = row.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
        for value in row.iter_mut() {
            *value = (*value / largest).powf(1.0 / temperature);
        }
        normalise(row);
    }
}

fn normalise(row: &mut [f64]) {
    let total: f64 = row.iter().sum();
    for value in row {
        *value /= total;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ops::ControlFlow;

    fn close(ours: &[f64], expected: &[f64], within: f64) {
        assert_eq!(ours.len(), expected.len());
        for (ours, expected) in ours.iter().zip(expected) {
            assert!((ours - expected).abs() < within, "{ours} {expected}");
        }
    }

    #[test]
    fn balanced_assignments_have_the_shares_of_the_prior() {
        let mut assignments = [0.9, 0.1, 0.8, 0.2, 0.7, 0.3, 0.4, 0.6];
        balance(&mut assignments, &[0.25, 0.75]);
        close(&mean_rows(&assignments, 2), &[0.25, 0.75], 0.01);
        close(&[assignments[0] + assignments[1], assignments[6] + assignments[7]], &[1.0, 1.0], 1e-12);
        assert!(assignments[0] > assignments[2] && assignments[4] > assignments[6], "the order is kept");
        let mut vanished = [1.0, 0.0, 1.0, 0.0];
        balance(&mut vanished, &[0.5, 0.5]);
        close(&vanished, &[1.0, 0.0, 1.0, 0.0], 1e-12);
    }

    #[test]
    fn sharpening_is_raising_to_a_power() {
        let mut assignments = [0.75, 0.25, 0.5, 0.5];
        sharpen(&mut assignments, 2, 0.5);
        close(&assignments, &[0.9, 0.1, 0.5, 0.5], 1e-12);
        let mut many = vec![1e-3; 1000];
        sharpen(&mut many, 1000, 1e-3);
        close(&many, &vec![1e-3; 1000], 1e-12);
    }

    #[test]
    fn labels_reach_their_neighbours() {
        // One labelled row, one pool row beside it, and one pool row that has only the other.
        let rows = [1.0, 0.0, 1.0, 0.1, 0.0, 1.0];
        let neighbours = Neighbours::find(&rows, 2, 1, &mut |_| ControlFlow::Continue(())).unwrap();
        let passed = pass(&[0.5; 4], &[1.0, 0.0], 2, &neighbours);
        assert!(passed[0] > 0.8 && passed[2] > 0.6 && passed[0] > passed[2], "{passed:?}");
        close(&[passed[0] + passed[1], passed[2] + passed[3]], &[1.0, 1.0], 1e-12);
    }
}
