//! What to label next: the pool's images whose labels would help most.
//!
//! One rule from the first label to the last, "uncertainty herding" (arXiv 2412.20644): choose the images that cover, in
//! a Gaussian kernel, as much of the pool's uncertainty as possible. An image of the pool counts as covered as far as it
//! resembles a labelled or chosen one, and it counts in proportion to the chance that its present answer is wrong.
//!
//! Without labels every answer is as uncertain as the next, and the rule is coverage alone: dense, diverse, typical
//! images (arXiv 2407.12212). Later the chance of error comes from class means whose temperature is fitted by
//! leave-one-out: while they guess at chance it stays flat, and it sharpens as they measurably learn. So what is measured
//! decides when uncertainty takes over, smoothly, and nothing needs to be switched.
//!
//! Coverage is submodular: a greedy choice is within 1 − 1/e of the best one, and each list begins with the shorter ones.

mod coverage;
mod uncertainty;

use serde::{Deserialize, Serialize};

use crate::{Error, Examples, Pool, Progress, evenly_spaced};
use coverage::Coverage;

/// How to choose.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct SuggestOptions {
    /// A larger pool is represented by so many of its images, evenly spaced: time grows with the square of this number.
    pub candidates: usize,
    /// Images at least this similar (cosine) to a labelled or already chosen one are never chosen.
    pub near_duplicate: f64,
}

impl Default for SuggestOptions {
    /// A hundred of 8,192 candidates of 384 dimensions that resemble nothing, the worst case, take 8 seconds on one core.
    fn default() -> Self {
        Self { candidates: 8192, near_duplicate: 0.98 }
    }
}

impl SuggestOptions {
    fn check(&self) -> Result<(), Error> {
        if self.candidates == 0 {
            return Err(Error::InvalidOption { name: "candidates", value: "0".into(), range: "at least 1" });
        }
        // Also refuses NaN. A threshold of 0 would leave out half of all images there can be.
        if self.near_duplicate > 0.0 {
            return Ok(());
        }
        let value = self.near_duplicate.to_string();
        Err(Error::InvalidOption {
            name: "near_duplicate",
            value,
            range: "above 0; above 1 allows duplicates",
        })
    }
}

/// An image to label.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Suggestion {
    /// Its position in the pool.
    pub position: usize,
    /// Share of the pool's uncertainty, 0 to 1, that this image covers beyond the labelled and those suggested before it.
    pub gain: f64,
    /// Chance that its present answer is wrong, 0 to 1; 1 while there is nothing to judge by.
    pub uncertainty: f64,
}

/// Up to `count` images of the pool, the most helpful first; ties go to the lower position.
///
/// Fewer come back where the rest of the pool (of the candidates, in a pool larger than `options.candidates`) are
/// near-duplicates. `examples` may be empty. The same input gives the same answer.
pub fn suggest(
    examples: &Examples,
    pool: &Pool,
    count: usize,
    options: &SuggestOptions,
    progress: Progress<'_>,
) -> Result<Vec<Suggestion>, Error> {
    options.check()?;
    if pool.is_empty() || count == 0 {
        return Ok(Vec::new());
    }
    let dimensions = pool.vectors().len() / pool.len();
    if !examples.is_empty() && examples.dimensions() != dimensions {
        return Err(Error::Dimensions { expected: examples.dimensions(), actual: dimensions });
    }
    let positions = evenly_spaced(pool.len(), options.candidates);
    let candidates: Vec<f64> = positions
        .iter()
        .flat_map(|&position| &pool.vectors()[position * dimensions..][..dimensions])
        .map(|&component| f64::from(component))
        .collect();
    let weights = uncertainty::chance_of_error(examples, &candidates, dimensions);
    let total: f64 = weights.iter().sum();
    let mut coverage = Coverage::new(&candidates, dimensions, weights.clone());
    coverage.label(examples.vectors(), options.near_duplicate);
    let chosen = coverage.choose(count, options.near_duplicate, progress)?;
    let suggestion = |(candidate, gain): (usize, f64)| Suggestion {
        position: positions[candidate],
        // Nothing is uncertain: any image is as good as another.
        gain: if total > 0.0 { gain / total } else { 0.0 },
        uncertainty: weights[candidate],
    };
    Ok(chosen.into_iter().map(suggestion).collect())
}

#[cfg(test)]
mod tests;
