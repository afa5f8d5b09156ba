//! What prototypes without an example say of it, without making them anew.
//!
//! Without x, one of the n examples of class c, that class's sum is S_c − x, and its mean, S_c/n before, moves by
//! a·S_c − b·x with a = 1/(n−1) − 1/n and b = 1/(n−1). The mean of all class means moves by the C-th part of that. All
//! products of these vectors follow from those of x with the sums and of the sums with each other.

use super::cosine;
use crate::heads::HeldOut;
use crate::matrix::{View, for_each_row, multiply};
use crate::{Error, Examples};

/// What does not depend on the shrinkage.
pub(super) struct LeaveOneOut<'a> {
    examples: &'a Examples,
    counts: Vec<usize>,
    /// `[example][dimension]`.
    rows: Vec<f64>,
    /// `[class][dimension]`.
    sums: Vec<f64>,
    /// Products of the sums, `[class][class]`.
    gram: Vec<f64>,
    /// Product of each sum with the mean of all class means.
    with_centre: Vec<f64>,
    /// Squared length of the mean of all class means.
    centre_square: f64,
}

impl<'a> LeaveOneOut<'a> {
    pub(super) fn new(examples: &'a Examples) -> Self {
        let (counts, rows) = (examples.counts(), examples.unit_rows());
        let sums = examples.class_sums(&rows);
        let mut gram = vec![0.0; counts.len() * counts.len()];
        let view = View::new(&sums, counts.len(), examples.dimensions());
        multiply(&mut gram, view, view.transposed());
        let with_centre: Vec<f64> =
            gram.chunks_exact(counts.len().max(1)).map(|products| mean_of_means(products, &counts)).collect();
        let centre_square = mean_of_means(&with_centre, &counts);
        Self { examples, counts, rows, sums, gram, with_centre, centre_square }
    }

    /// Cosines to the prototypes of the other examples.
    pub(super) fn logits(&self, shrinkage: f64) -> Result<HeldOut, Error> {
        let mut held_out = HeldOut::new(self.examples);
        for_each_row(&self.rows, &self.sums, self.examples.dimensions(), |example, products| {
            let label = self.examples.labels()[example];
            if self.counts[label] > 1 {
                self.replace_by_cosines(products, label, shrinkage);
                held_out.push(example, label, products);
            }
            Ok(())
        })?;
        Ok(held_out)
    }

    /// Turns the products of an example with all sums into its cosines, its own class's sum taken without it.
    fn replace_by_cosines(&self, products: &mut [f64], label: usize, shrinkage: f64) {
        let classes = products.len();
        let gram = &self.gram[label * classes..][..classes];
        let (own, centre) = (products[label], mean_of_means(products, &self.counts));
        // The mean of all class means moves by `with_sum` times the own sum less `with_example` times the example.
        let others = (self.counts[label] - 1) as f64;
        let with_example = 1.0 / (others * classes as f64);
        let with_sum = with_example - 1.0 / (self.counts[label] as f64 * classes as f64);
        let moved_product = centre + with_sum * own - with_example;
        let moved_square = self.centre_square
            + 2.0 * (with_sum * self.with_centre[label] - with_example * centre)
            + with_sum * with_sum * gram[label]
            - 2.0 * with_sum * with_example * own
            + with_example * with_example;
        for (class, product) in products.iter_mut().enumerate() {
            let mut crossed = self.with_centre[class] + with_sum * gram[class] - with_example * *product;
            let mut square = self.gram[class * classes + class];
            let mut examples = self.counts[class] as f64;
            if class == label {
                crossed -= moved_product;
                square += 1.0 - 2.0 * own;
                examples = others;
                *product -= 1.0;
            }
            *product = cosine(
                *product + shrinkage * moved_product,
                square + shrinkage * (2.0 * crossed + shrinkage * moved_square),
                examples + shrinkage,
            );
        }
    }
}

/// The product of a vector with the mean of all class means, of its products with their sums.
fn mean_of_means(products: &[f64], counts: &[usize]) -> f64 {
    let total: f64 = products.iter().zip(counts).map(|(product, &count)| product / count as f64).sum();
    total / counts.len() as f64
}
