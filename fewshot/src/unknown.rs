//! Is a query of none of the classes? Decided without having seen anything unknown.
//!
//! A query is as atypical as its Mahalanobis distance to the nearest class is large (Lee et al., arXiv 1807.03888),
//! with a covariance that all classes share, shrunk as Ledoit and Wolf do, and a spread for each class. How large
//! that distance is for what *is* known, each example tells by being left out: of its class's mean, of its class's
//! spread and of the covariance, all in closed form. A query's p-value is its rank among those distances, so whoever
//! calls everything unknown whose p-value is at most 0.05 rejects about 5 % of queries of known classes.
//!
//! The nearest class is the test's own. A head may name another; with distances to that one, queries which the head
//! gets wrong would be rejected at another rate than the examples, of which it is known what they are.

use serde::{Deserialize, Serialize};

use crate::matrix::{Centred, ShrunkCovariance, View, dot, multiply};
use crate::vector::unit;
use crate::{ClassKey, Error, Examples};

/// How typical a query is of what is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Typicality {
    /// Share of examples, left out, that are at least as far from the nearest class; the query counts as one of them.
    pub p_value: f32,
    /// Distance to the nearest class; 1 is the root mean square of that class's examples.
    pub distance: f32,
    /// The nearest class.
    pub nearest: ClassKey,
}

impl Typicality {
    /// Unknown, if so large a share of queries of known classes may be called that by mistake.
    pub fn is_unknown(&self, false_rejection_rate: f32) -> bool {
        self.p_value <= false_rejection_rate
    }
}

/// What typicality is measured with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct UnknownTest {
    stored: Stored,
}

/// The stored form. `format` changes whenever its meaning does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Stored {
    format: u32,
    dimensions: usize,
    /// Ascending.
    classes: Vec<ClassKey>,
    /// Lower triangle of the matrix that makes the covariance the identity, row by row.
    whitening: Vec<f32>,
    /// Whitened class means, `[class][dimension]`.
    means: Vec<f32>,
    /// What a squared distance to each mean is divided by: the mean over its examples.
    spreads: Vec<f32>,
    /// Squared distances of the examples, each left out, ascending.
    reference: Vec<f32>,
}

impl UnknownTest {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// Fits on labelled vectors, at a cost of examples × dimensions × (dimensions + classes).
    ///
    /// Classes of one example borrow their spread from the others. Where none has two that differ there is no spread to
    /// borrow: every query is then typical. Fails without examples.
    pub fn fit(examples: &Examples) -> Result<Self, Error> {
        examples.need_classes(1)?;
        let dimensions = examples.dimensions();
        let Centred { means, residuals } = Centred::new(examples);
        let degrees = examples.len() - examples.classes().len();
        let covariance = ShrunkCovariance::new(&residuals, dimensions, degrees);
        let whitening = covariance.as_ref().map_or_else(|| identity(dimensions), ShrunkCovariance::whitening);
        let means = whiten(&means, &whitening, dimensions);
        let (spreads, reference) = covariance.map_or_else(
            || (vec![1.0; examples.classes().len()], Vec::new()),
            |covariance| LeftOut::new(examples, &whitening, &means, covariance.share_of_one()).summary(),
        );
        let single = |values: &[f64]| values.iter().map(|&value| value as f32).collect();
        Ok(Self {
            stored: Stored {
                format: Self::FORMAT,
                dimensions,
                classes: examples.classes().to_vec(),
                whitening: (0..dimensions)
                    .flat_map(|row| whitening[row * dimensions..][..=row].iter().map(|&entry| entry as f32))
                    .collect(),
                means: single(&means),
                spreads: single(&spreads),
                reference: single(&reference),
            },
        })
    }

    /// Number of examples that p-values are ranks among; 0 where there was no spread to learn from.
    pub fn reference_len(&self) -> usize {
        self.stored.reference.len()
    }

    /// How typical a query is. Refuses vectors of another length or without direction.
    pub fn typicality(&self, vector: &[f32]) -> Result<Typicality, Error> {
        let Stored { dimensions, classes, means, spreads, reference, .. } = &self.stored;
        let white = self.whitened(&unit(vector, *dimensions)?);
        let mut nearest = (f32::INFINITY, classes[0]);
        for ((mean, &spread), &class) in means.chunks_exact(*dimensions).zip(spreads).zip(classes) {
            let square = squared_distance(&white, mean) / spread;
            if square < nearest.0 {
                nearest = (square, class);
            }
        }
        let (square, nearest) = nearest;
        let as_far = reference.len() - reference.partition_point(|&other| other < square);
        let p_value = (as_far + 1) as f32 / (reference.len() + 1) as f32;
        Ok(Typicality { p_value, distance: square.sqrt(), nearest })
    }

    fn whitened(&self, vector: &[f32]) -> Vec<f32> {
        let mut rest = self.stored.whitening.as_slice();
        let mut white = Vec::with_capacity(vector.len());
        for row in 1..=vector.len() {
            let (entries, after) = rest.split_at(row);
            white.push(lanes(entries, vector, |entry, component| entry * component));
            rest = after;
        }
        white
    }
}

/// Whitened examples and how far each is from every class when it is left out.
struct LeftOut<'a> {
    examples: &'a Examples,
    counts: Vec<usize>,
    means: &'a [f64],
    /// Products of the whitened means, `[class][class]`.
    mean_products: Vec<f64>,
    /// Whitened, `[example][dimension]`.
    vectors: Vec<f64>,
    /// Part of the covariance that a residual r adds: this times r·rᵀ.
    share_of_one: f64,
}

impl<'a> LeftOut<'a> {
    /// Examples that a class's spread is believed to be like the other classes' for.
    const PRIOR_EXAMPLES: f64 = 10.0;
    /// Examples whose products with the means are held at a time.
    const ROWS: usize = 512;

    fn new(examples: &'a Examples, whitening: &[f64], means: &'a [f64], share_of_one: f64) -> Self {
        let dimensions = examples.dimensions();
        let vectors: Vec<f64> = examples.vectors().iter().map(|&component| f64::from(component)).collect();
        let vectors = whiten(&vectors, whitening, dimensions);
        let classes = examples.classes().len();
        let mut mean_products = vec![0.0; classes * classes];
        let view = View::new(means, classes, dimensions);
        multiply(&mut mean_products, view, view.transposed());
        Self { examples, counts: examples.counts(), means, mean_products, vectors, share_of_one }
    }

    /// The divisor of each class's squared distances, and the examples' divided squared distances, ascending.
    ///
    /// A mean of n examples is itself off by 1/n of the spread: a fresh vector is 1 + 1/n times as far from it as from
    /// the true mean, and one that was left out of n is 1 + 1/(n − 1) times as far.
    fn summary(&self) -> (Vec<f64>, Vec<f64>) {
        let own = self.own_squares();
        let classes = self.counts.len();
        let mut sums = vec![0.0; classes];
        for (&label, square) in self.examples.labels().iter().zip(&own) {
            sums[label] += square.unwrap_or(0.0);
        }
        let judged: usize = self.counts.iter().filter(|&&count| count > 1).sum();
        let pooled = sums.iter().sum::<f64>() / judged as f64;
        let spread =
            |sum: f64, count: f64| (sum + Self::PRIOR_EXAMPLES * pooled) / (count + Self::PRIOR_EXAMPLES);
        let divisors: Vec<f64> = sums
            .iter()
            .zip(&self.counts)
            .map(|(&sum, &count)| {
                let judged = if count > 1 { count as f64 } else { 0.0 };
                spread(sum, judged) * (1.0 + 1.0 / count as f64)
            })
            .collect();
        let mut reference = Vec::with_capacity(judged);
        self.for_each(|example, products| {
            let label = self.examples.labels()[example];
            if let Some(own) = own[example] {
                let alone = own / spread(sums[label] - own, (self.counts[label] - 1) as f64);
                let squares = self.squares(example, products);
                let others = squares.zip(&divisors).enumerate().filter(|(class, _)| *class != label);
                reference
                    .push(others.fold(alone, |least, (_, (square, divisor))| least.min(square / divisor)));
            }
        });
        reference.sort_by(f64::total_cmp);
        (divisors, reference)
    }

    /// Squared distance of each example to its class without it, as if that mean were exact; `None` for a class's only
    /// one.
    ///
    /// Leaving x out moves the mean of n by (x − mean) / (n − 1) and takes n/(n − 1)·r·rᵀ out of the scatter, where r
    /// is x − mean; the inverse follows by Sherman and Morrison. Neither the strength nor the degrees of freedom are
    /// estimated again.
    fn own_squares(&self) -> Vec<Option<f64>> {
        let dimensions = self.examples.dimensions();
        let rows = self.vectors.chunks_exact(dimensions).zip(self.examples.labels());
        rows.map(|(vector, &label)| {
            let count = self.counts[label];
            let growth = (count > 1).then(|| count as f64 / (count - 1) as f64)?;
            let mean = &self.means[label * dimensions..][..dimensions];
            let square: f64 = vector.iter().zip(mean).map(|(x, m)| (x - m).powi(2)).sum();
            Some(growth * square / (1.0 - growth * self.share_of_one * square))
        })
        .collect()
    }

    /// Squared distances of an example to the means of all classes, with the covariance that it is left out of.
    ///
    /// `products` are its products with the means. All is written with products, so that one matrix product serves all.
    fn squares(&self, example: usize, products: &'a [f64]) -> impl Iterator<Item = f64> {
        let (classes, dimensions) = (self.counts.len(), self.examples.dimensions());
        let label = self.examples.labels()[example];
        let vector = &self.vectors[example * dimensions..][..dimensions];
        let length = dot(vector, vector);
        let own = &self.mean_products[label * classes..][..classes];
        let residual = length - 2.0 * products[label] + own[label];
        let count = self.counts[label] as f64;
        let part = self.share_of_one * count / (count - 1.0);
        let correction = part / (1.0 - part * residual);
        (0..classes).map(move |class| {
            let square = length - 2.0 * products[class] + self.mean_products[class * (classes + 1)];
            let along = length - products[label] - products[class] + own[class];
            // Rounding can take the smallest below zero.
            (square + correction * along * along).max(0.0)
        })
    }

    /// Calls with each example and its products with the means.
    fn for_each(&self, mut visit: impl FnMut(usize, &[f64])) {
        let (classes, dimensions) = (self.counts.len(), self.examples.dimensions());
        let means = View::new(self.means, classes, dimensions).transposed();
        let mut products = vec![0.0; Self::ROWS * classes];
        for (block, vectors) in self.vectors.chunks(Self::ROWS * dimensions).enumerate() {
            let rows = vectors.len() / dimensions;
            multiply(&mut products[..rows * classes], View::new(vectors, rows, dimensions), means);
            for (row, products) in products[..rows * classes].chunks_exact(classes).enumerate() {
                visit(block * Self::ROWS + row, products);
            }
        }
    }
}

fn identity(order: usize) -> Vec<f64> {
    (0..order * order).map(|place| f64::from(u8::from(place % (order + 1) == 0))).collect()
}

/// Rows times the transposed whitening.
fn whiten(rows: &[f64], whitening: &[f64], dimensions: usize) -> Vec<f64> {
    let mut white = vec![0.0; rows.len()];
    let view = View::new(rows, rows.len() / dimensions, dimensions);
    multiply(&mut white, view, View::new(whitening, dimensions, dimensions).transposed());
    white
}

fn squared_distance(a: &[f32], b: &[f32]) -> f32 {
    lanes(a, b, |x, y| (x - y) * (x - y))
}

/// Σ term(a, b) over the shorter slice, in eight partial sums so that the compiler may use vector registers.
fn lanes(a: &[f32], b: &[f32], term: impl Fn(f32, f32) -> f32) -> f32 {
    let length = a.len().min(b.len());
    let (a_blocks, a_rest) = a[..length].as_chunks::<8>();
    let (b_blocks, b_rest) = b[..length].as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for lane in 0..8 {
            sums[lane] += term(x[lane], y[lane]);
        }
    }
    sums.iter().sum::<f32>() + a_rest.iter().zip(b_rest).map(|(x, y)| term(*x, *y)).sum::<f32>()
}

impl From<UnknownTest> for Stored {
    fn from(test: UnknownTest) -> Self {
        test.stored
    }
}

impl TryFrom<Stored> for UnknownTest {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self, Error> {
        let refuse = |reason: String| Err(Error::StoredHead { reason });
        let Stored { format, dimensions, classes, whitening, means, spreads, reference } = &stored;
        if *format != Self::FORMAT {
            return refuse(format!(
                "its unknown test's format is {format}, this version reads {}",
                Self::FORMAT
            ));
        }
        let triangle = dimensions.checked_mul(dimensions + 1).map(|twice| twice / 2);
        if *dimensions == 0
            || classes.is_empty()
            || triangle != Some(whitening.len())
            || classes.len().checked_mul(*dimensions) != Some(means.len())
            || classes.len() != spreads.len()
        {
            return refuse(format!(
                "its unknown test does not fill {} classes of {dimensions} dimensions",
                classes.len()
            ));
        }
        if !classes.is_sorted_by(|a, b| a < b) {
            return refuse("the classes of its unknown test are not in ascending order".to_owned());
        }
        if whitening.iter().chain(means).any(|value| !value.is_finite()) {
            return refuse("a number of its unknown test is not finite".to_owned());
        }
        if spreads.iter().any(|&spread| !(spread.is_finite() && spread > 0.0)) || !reference.is_sorted() {
            return refuse("its unknown test's distances are not positive and in ascending order".to_owned());
        }
        Ok(Self { stored })
    }
}

#[cfg(test)]
mod tests;
