//! What heads are fitted on: labelled vectors, checked once.

use std::collections::BTreeMap;

use crate::matrix::dot;
use crate::vector::unit;
use crate::{ClassKey, Error};

/// Labelled unit vectors.
#[derive(Clone, Debug)]
pub struct Examples {
    dimensions: usize,
    /// Ascending, each with at least one example.
    classes: Vec<ClassKey>,
    /// Position of each example's class in `classes`.
    labels: Vec<usize>,
    /// `[example][dimension]`.
    vectors: Vec<f32>,
}

impl Examples {
    /// Takes over vectors in the caller's order, scaled to length 1. Refuses what has no direction or another length.
    pub fn new<'a>(
        dimensions: usize,
        labelled: impl IntoIterator<Item = (ClassKey, &'a [f32])>,
    ) -> Result<Self, Error> {
        let (mut keys, mut vectors) = (Vec::new(), Vec::new());
        for (class, vector) in labelled {
            keys.push(class);
            vectors.extend(unit(vector, dimensions)?);
        }
        Ok(Self::of_units(dimensions, &keys, vectors))
    }

    /// Of vectors that have been checked.
    fn of_units(dimensions: usize, keys: &[ClassKey], vectors: Vec<f32>) -> Self {
        let mut rows: BTreeMap<ClassKey, usize> = keys.iter().map(|class| (*class, 0)).collect();
        for (position, row) in rows.values_mut().enumerate() {
            *row = position;
        }
        let labels = keys.iter().map(|class| rows[class]).collect();
        Self { dimensions, classes: rows.into_keys().collect(), labels, vectors }
    }

    /// Fails unless there are so many classes.
    pub fn need_classes(&self, needed: usize) -> Result<(), Error> {
        let actual = self.classes.len();
        if actual < needed { Err(Error::TooFewClasses { needed, actual }) } else { Ok(()) }
    }

    /// Length of each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Number of examples.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Without any.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Classes with examples, ascending.
    pub fn classes(&self) -> &[ClassKey] {
        &self.classes
    }

    /// Position of each example's class in [`Examples::classes`].
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// All vectors, `[example][dimension]`, each of length 1.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// One example's vector.
    pub fn vector(&self, example: usize) -> &[f32] {
        &self.vectors[example * self.dimensions..][..self.dimensions]
    }

    /// Number of examples of each class, in the order of [`Examples::classes`].
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        for &label in &self.labels {
            counts[label] += 1;
        }
        counts
    }

    /// All vectors in f64, `[example][dimension]`, of length 1 to its rounding instead of that of f32.
    pub(crate) fn unit_rows(&self) -> Vec<f64> {
        let mut rows: Vec<f64> = self.vectors.iter().map(|&component| f64::from(component)).collect();
        for row in rows.chunks_exact_mut(self.dimensions.max(1)) {
            let norm = dot(row, row).sqrt();
            for component in row {
                *component /= norm;
            }
        }
        rows
    }

    /// The sum of each class's rows, `[class][dimension]`, given rows of the examples.
    pub(crate) fn class_sums(&self, rows: &[f64]) -> Vec<f64> {
        let mut sums = vec![0.0; self.classes.len() * self.dimensions];
        for (row, &label) in rows.chunks_exact(self.dimensions.max(1)).zip(&self.labels) {
            for (sum, component) in sums[label * self.dimensions..].iter_mut().zip(row) {
                *sum += component;
            }
        }
        sums
    }

    /// The examples at these positions; classes left without any are gone.
    #[must_use]
    pub fn subset(&self, positions: &[usize]) -> Self {
        let keys: Vec<ClassKey> =
            positions.iter().map(|&position| self.classes[self.labels[position]]).collect();
        let vectors = positions.iter().flat_map(|&position| self.vector(position).iter().copied()).collect();
        Self::of_units(self.dimensions, &keys, vectors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_are_numbered_by_class() {
        let examples = Examples::new(2, [(9, &[3.0, 4.0][..]), (4, &[1.0, 0.0]), (9, &[0.0, 2.0])]).unwrap();
        assert_eq!(examples.classes(), [4, 9]);
        assert_eq!(examples.labels(), [1, 0, 1]);
        assert_eq!(examples.counts(), [1, 2]);
        assert_eq!(examples.vector(0), [0.6, 0.8]);
        let few = examples.subset(&[2, 0]);
        assert_eq!((few.classes(), few.labels()), (&[9][..], &[0, 0][..]));
        assert_eq!(few.vectors(), [0.0, 1.0, 0.6, 0.8]);
        assert_eq!(few.need_classes(2), Err(Error::TooFewClasses { needed: 2, actual: 1 }));
    }

    #[test]
    fn bad_vectors_are_refused() {
        let refused = |vector: &[f32]| Examples::new(2, [(1, vector)]).err();
        assert_eq!(refused(&[f32::NAN, 0.0]), Some(Error::NotFinite { position: 0 }));
        assert_eq!(refused(&[1.0]), Some(Error::Dimensions { expected: 2, actual: 1 }));
        assert_eq!(refused(&[0.0, 0.0]), Some(Error::ZeroVector));
        assert!(Examples::new(2, []).unwrap().is_empty());
    }
}
