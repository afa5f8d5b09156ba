//! Class means in closed form: what advice on labels judges by, because leaving an example out costs one subtraction.

use crate::Examples;
use crate::heads::HeldOut;
use crate::matrix::{View, dot, multiply};

/// Examples whose cosines are one matrix product.
const BLOCK: usize = 256;

/// A sum shorter than this is rounding, not a direction; its cosines are 0.
const CANCELLED: f64 = 1e-9;

/// Sums of unit vectors per class.
pub(crate) struct Means {
    dimensions: usize,
    /// `[class][dimension]`.
    sums: Vec<f64>,
    /// Length of each sum.
    norms: Vec<f64>,
}

impl Means {
    /// Of the examples at some positions.
    pub(crate) fn of(examples: &Examples, positions: impl IntoIterator<Item = usize>) -> Self {
        let dimensions = examples.dimensions();
        let mut sums = vec![0.0; examples.classes().len() * dimensions];
        for position in positions {
            let sum = &mut sums[examples.labels()[position] * dimensions..][..dimensions];
            for (sum, &component) in sum.iter_mut().zip(examples.vector(position)) {
                *sum += f64::from(component);
            }
        }
        let norms = sums.chunks_exact(dimensions.max(1)).map(norm).collect();
        Self { dimensions, sums, norms }
    }

    /// Of a block of vectors, `[vector][dimension]`, with each class's mean: `[vector][class]`.
    pub(crate) fn cosines(&self, vectors: &[f64]) -> Vec<f64> {
        let (rows, classes) = (vectors.len() / self.dimensions, self.norms.len());
        let mut cosines = vec![0.0; rows * classes];
        let sums = View::new(&self.sums, classes, self.dimensions).transposed();
        multiply(&mut cosines, View::new(vectors, rows, self.dimensions), sums);
        for row in cosines.chunks_exact_mut(classes) {
            for (cosine, &norm) in row.iter_mut().zip(&self.norms) {
                *cosine = if norm > CANCELLED { *cosine / norm } else { 0.0 };
            }
        }
        cosines
    }

    /// Cosine of one of a class's own examples with the mean of the others.
    fn cosine_without(&self, class: usize, vector: &[f64]) -> f64 {
        let sum = &self.sums[class * self.dimensions..][..self.dimensions];
        let rest: Vec<f64> = sum.iter().zip(vector).map(|(sum, component)| sum - component).collect();
        let norm = norm(&rest);
        if norm > CANCELLED { dot(&rest, vector) / norm } else { 0.0 }
    }
}

/// Cosines of each example with the class means of all other examples.
pub(crate) fn held_out(examples: &Examples) -> HeldOut {
    let means = Means::of(examples, 0..examples.len());
    let counts = examples.counts();
    let mut held_out = HeldOut::new(examples);
    let judged: Vec<usize> = (0..examples.len()).filter(|&i| counts[examples.labels()[i]] > 1).collect();
    for block in judged.chunks(BLOCK) {
        let vectors: Vec<f64> = block.iter().flat_map(|&example| widen(examples.vector(example))).collect();
        let mut cosines = means.cosines(&vectors);
        let rows = cosines.chunks_exact_mut(counts.len()).zip(vectors.chunks_exact(examples.dimensions()));
        for (&example, (row, vector)) in block.iter().zip(rows) {
            let label = examples.labels()[example];
            row[label] = means.cosine_without(label, vector);
            held_out.push(example, label, row);
        }
    }
    held_out
}

pub(crate) fn widen(vector: &[f32]) -> Vec<f64> {
    vector.iter().map(|&component| f64::from(component)).collect()
}

fn norm(vector: &[f64]) -> f64 {
    dot(vector, vector).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heads::{Head, PrototypeHead};

    #[test]
    fn leaving_out_in_closed_form_is_fitting_without() {
        let vectors: Vec<[f32; 3]> =
            (0..9u8).map(|i| [f32::from(i % 3) + 0.5, f32::from(i * 7 % 5), f32::from(i) - 4.0]).collect();
        let examples =
            Examples::new(3, vectors.iter().enumerate().map(|(i, v)| (i as u64 % 2, &v[..]))).unwrap();
        let fit = |kept: &Examples| {
            let mut head = PrototypeHead::new(3);
            for (position, &label) in kept.labels().iter().enumerate() {
                head.add(kept.classes()[label], kept.vector(position)).unwrap();
            }
            head
        };
        for (row, &position) in held_out(&examples).rows().zip(held_out(&examples).examples()) {
            let others: Vec<usize> = (0..9).filter(|&other| other != position).collect();
            let refitted = fit(&examples.subset(&others)).logits(examples.vector(position)).unwrap();
            for (cosine, logit) in row.iter().zip(refitted) {
                // `PrototypeHead` takes out the f32 rounding of lengths once more.
                assert!((cosine - logit.similarity).abs() < 1e-6);
            }
        }
        assert_eq!(held_out(&examples).len(), 9);
    }
}
