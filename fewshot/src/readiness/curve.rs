//! Accuracy against the number of examples: measured on subsets, and carried on by a power law (arXiv 1712.00409).

use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::ClassReadiness;
use crate::means::{Means, widen};
use crate::progress::report;
use crate::statistics::Interval;
use crate::{Error, Examples, Progress};

/// Accuracy is taken to grow as a − b·n^(−c) with this c: few noisy points cannot settle it class by class.
///
/// On average over the classes of three image sets, forecasts from 8 examples to 16 were 0.6 points above, 0.5 below and
/// 1.0 below lifts of 1.1, 3.7 and 3.8 points; the best-fitting c of each class promised less, 0.9 to 1.2 points short
/// on two of them.
const EXPONENT: f64 = 0.25;

/// A curve that hardly bends and one that soon flattens: what they disagree on becomes part of the interval.
const EXTREMES: [f64; 2] = [0.1, 1.0];

/// Examples judged together, as one matrix product.
const BLOCK: usize = 256;

/// How often examples of a class were taken for what they are by heads fitted on `examples` of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Examples of the class that each head was fitted on.
    pub examples: usize,
    /// Right answers about the class's other examples, over all repetitions.
    pub right: usize,
    /// Answers.
    pub judged: usize,
}

/// What more examples of a class should bring.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Forecast {
    /// How many more.
    pub more: usize,
    /// Expected accuracy with them.
    pub accuracy: f64,
    /// Wilson's 95 % interval of today's accuracy, lifted at the low end as if the curve soon flattened, at the
    /// high end as if it hardly did.
    pub interval: Interval,
}

/// Per class, in the order of [`Examples::classes`], points at 1, 2, 4, 8 … examples of every class.
///
/// The heads are class means (in closed form, so that a fit costs one pass over the examples), fitted on the first n of
/// each class in a shuffled order, all of those with fewer, and judged by the others; `repeats` orders are drawn from
/// `seed`. A class has points up to where it has no example left to judge by; a class of one has none.
pub fn learning_curves(
    examples: &Examples,
    repeats: usize,
    seed: u64,
    progress: Progress<'_>,
) -> Result<Vec<Vec<Point>>, Error> {
    let counts = examples.counts();
    let largest = counts.iter().copied().max().unwrap_or(0);
    let sizes: Vec<usize> =
        (0..usize::BITS).map(|power| 1 << power).take_while(|&size| size < largest).collect();
    let mut curves: Vec<Vec<Point>> = counts
        .iter()
        .map(|&count| sizes.iter().filter(move |size| **size < count))
        .map(|sizes| sizes.map(|&examples| Point { examples, right: 0, judged: 0 }).collect())
        .collect();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    for repeat in 0..repeats {
        let ranks = shuffled_ranks(examples, &mut random);
        for (step, &size) in sizes.iter().enumerate() {
            let (fitted, judged): (Vec<usize>, Vec<usize>) =
                (0..examples.len()).partition(|&i| ranks[i] < size);
            let means = Means::of(examples, fitted);
            for block in judged.chunks(BLOCK) {
                for (&example, prediction) in block.iter().zip(predictions(examples, &means, block)) {
                    let label = examples.labels()[example];
                    let point = &mut curves[label][step];
                    point.judged += 1;
                    point.right += usize::from(prediction == label);
                }
            }
            report(progress, (repeat * sizes.len() + step + 1) as f64 / (repeats * sizes.len()) as f64)?;
        }
    }
    Ok(curves)
}

/// Each example's place in a random order of its class.
fn shuffled_ranks(examples: &Examples, random: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.shuffle(random);
    let mut seen = vec![0; examples.classes().len()];
    let mut ranks = vec![0; examples.len()];
    for example in order {
        let rank = &mut seen[examples.labels()[example]];
        ranks[example] = *rank;
        *rank += 1;
    }
    ranks
}

/// The class of the nearest mean, the lower of equals.
fn predictions(examples: &Examples, means: &Means, block: &[usize]) -> Vec<usize> {
    let vectors: Vec<f64> = block.iter().flat_map(|&example| widen(examples.vector(example))).collect();
    let cosines = means.cosines(&vectors);
    let nearest = |row: &[f64]| (1..row.len()).fold(0, |best, i| if row[i] > row[best] { i } else { best });
    cosines.chunks_exact(examples.classes().len()).map(nearest).collect()
}

impl ClassReadiness {
    /// What `more` examples should bring, by the class's learning curve; none where it has fewer than two points or
    /// nothing was judged.
    pub fn forecast(&self, curve: &[Point], more: usize) -> Option<Forecast> {
        let share = self.accuracy.share()?;
        let points: Vec<Point> = curve.iter().copied().filter(|point| point.judged > 0).collect();
        if points.len() < 2 {
            return None;
        }
        // Leave-one-out fits on all examples but one.
        let (now, then) = ((self.examples - 1) as f64, (self.examples - 1 + more) as f64);
        let lift = |exponent: f64| slope(&points, exponent) * (now.powf(-exponent) - then.powf(-exponent));
        let expected = lift(EXPONENT);
        let [greatest, least] = EXTREMES.map(lift);
        let Interval { low, high } = self.accuracy.interval;
        Some(Forecast {
            more,
            accuracy: (share + expected).min(1.0),
            interval: Interval {
                low: (low + least.min(expected)).min(1.0),
                high: (high + greatest.max(expected)).min(1.0),
            },
        })
    }
}

/// The b of a − b·n^(−c), at least 0 since more examples do not harm, by least squares weighted by the answers behind
/// each point.
fn slope(points: &[Point], exponent: f64) -> f64 {
    let terms = points.iter().map(|point| {
        let weight = point.judged as f64;
        (weight, (point.examples as f64).powf(-exponent), point.right as f64 / weight)
    });
    let total: f64 = terms.clone().map(|(weight, ..)| weight).sum();
    let mean_x = terms.clone().map(|(weight, x, _)| weight * x).sum::<f64>() / total;
    let mean_y = terms.clone().map(|(weight, _, y)| weight * y).sum::<f64>() / total;
    let spread: f64 = terms.clone().map(|(weight, x, _)| weight * (x - mean_x).powi(2)).sum();
    let together: f64 = terms.map(|(weight, x, y)| weight * (x - mean_x) * (y - mean_y)).sum();
    (-together / spread).max(0.0)
}
