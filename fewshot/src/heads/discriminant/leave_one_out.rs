//! What the head without an example says of it, without fitting it again.
//!
//! Let A = W + κ·σ²·I, and x one of the n examples of class c. Without x the scatter is W − w·v·vᵀ with v = x − μ_c and
//! w = n/(n − 1), so that by Sherman and Morrison
//!
//! > (A − w·v·vᵀ)⁻¹ = A⁻¹ + t·A⁻¹v·vᵀA⁻¹,  t = w/(1 − w·vᵀA⁻¹v),
//!
//! the own mean is μ_c − v/(n − 1), and there is one degree of freedom less. All that is needed are products under A⁻¹ of x
//! with itself and the means and of the means with each other, and the length of A⁻¹v for the trace.

use super::scatter::{Prior, Scale, Scatter, Solved};
use crate::heads::HeldOut;
use crate::matrix::{View, dot, for_each_row, multiply};
use crate::{Error, Examples};

/// Discriminant functions of the other examples.
pub(super) fn logits(examples: &Examples, scatter: &Scatter, prior: Prior) -> Result<HeldOut, Error> {
    let dimensions = examples.dimensions();
    let solved = scatter.solve(prior)?;
    let left_out = left_out(examples, scatter, &solved)?;
    let counts: Vec<f64> = examples.counts().iter().map(|&count| count as f64).collect();
    let mut gram = vec![0.0; counts.len() * counts.len()];
    let view = |means| View::new(means, counts.len(), dimensions);
    multiply(&mut gram, view(scatter.means()), view(&solved.means).transposed());

    let mut held_out = HeldOut::new(examples);
    for_each_row(scatter.rows(), &solved.means, dimensions, |example, products| {
        let label = examples.labels()[example];
        if counts[label] > 1.0 {
            left_out[example].replace_by_logits(products, label, &gram, &counts, solved.scale);
            held_out.push(example, label, products);
        }
        Ok(())
    })?;
    Ok(held_out)
}

/// What an example is under A⁻¹.
struct LeftOut {
    /// xᵀA⁻¹x.
    square: f64,
    /// |A⁻¹v|².
    spread: f64,
}

fn left_out(examples: &Examples, scatter: &Scatter, solved: &Solved) -> Result<Vec<LeftOut>, Error> {
    let (dimensions, rows) = (examples.dimensions(), scatter.rows());
    let mut left_out = Vec::with_capacity(examples.len());
    for_each_row(rows, &solved.inverse, dimensions, |example, product| {
        let square = dot(&rows[example * dimensions..][..dimensions], product);
        for (component, mean) in
            product.iter_mut().zip(&solved.means[examples.labels()[example] * dimensions..])
        {
            *component -= mean;
        }
        left_out.push(LeftOut { square, spread: dot(product, product) });
        Ok(())
    })?;
    Ok(left_out)
}

impl LeftOut {
    /// Turns xᵀA⁻¹μ into logits; `gram` holds μᵀA⁻¹μ.
    fn replace_by_logits(
        &self,
        products: &mut [f64],
        label: usize,
        gram: &[f64],
        counts: &[f64],
        scale: Scale,
    ) {
        let classes = products.len();
        let (own, with_own) = (products[label], &gram[label * classes..][..classes]);
        let others = counts[label] - 1.0;
        // vᵀA⁻¹x, vᵀA⁻¹v and t.
        let deviation_product = self.square - own;
        let deviation_square = self.square - 2.0 * own + with_own[label];
        let share = counts[label] / others;
        let gain = share / (1.0 - share * deviation_square);
        let scale = scale.without_one(gain * self.spread);
        for (class, product) in products.iter_mut().enumerate() {
            // xᵀA⁻¹μ, vᵀA⁻¹μ and μᵀA⁻¹μ with the mean of the other examples.
            let mut deviation_mean = *product - with_own[class];
            let mut mean_square = gram[class * classes + class];
            let mut count = counts[class];
            if class == label {
                mean_square += (deviation_square / others - 2.0 * deviation_mean) / others;
                deviation_mean -= deviation_square / others;
                *product -= deviation_product / others;
                count = others;
            }
            let grown_product = *product + gain * deviation_mean * deviation_product;
            let grown_square = mean_square + gain * deviation_mean.powi(2);
            *product = scale.weight * grown_product + scale.offset(grown_square, count);
        }
    }
}
