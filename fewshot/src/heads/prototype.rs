//! Running class means.

use std::collections::BTreeMap;

use super::{Candidate, Head, Score, rank};
use crate::vector::checked_norm;
use crate::{ClassKey, Error};

/// The mean of each class's unit vectors, kept exact under insert and delete (f64 sums); answers by cosine.
///
/// A class is its sum of unit vectors: the mean's direction is all the cosine needs, and a sum, unlike a mean, can be
/// taken back. Removing a vector subtracts the very numbers that adding it added; what remains is f64 rounding, about
/// 1e-16 per operation against f32 inputs of 6e-8.
#[derive(Clone, Debug)]
pub struct PrototypeHead {
    dimensions: usize,
    /// Ordered, so that answers do not depend on the order of insertion.
    classes: BTreeMap<ClassKey, ClassSum>,
}

#[derive(Clone, Debug)]
struct ClassSum {
    sum: Vec<f64>,
    examples: usize,
    /// Length of `sum`, kept because every query divides by it.
    norm: f64,
}

impl PrototypeHead {
    /// Probabilities are softmax(cosine / temperature).
    ///
    /// It moves confidence, never the ranking. Cosines of image embeddings to class means differ by a few hundredths
    /// to a few tenths, so a temperature of 1 would call everything a tie; 0.05 makes a lead of 0.1 over one rival read
    /// as 0.88.
    pub const TEMPERATURE: f64 = 0.05;

    /// A sum shorter than this share of its examples is rounding, not a direction: its class answers with cosine 0.
    const CANCELLED: f64 = 1e-9;

    /// Without classes.
    pub fn new(dimensions: usize) -> Self {
        Self { dimensions, classes: BTreeMap::new() }
    }

    /// Adds one example's vector.
    pub fn add(&mut self, class: ClassKey, vector: &[f32]) -> Result<(), Error> {
        let norm = checked_norm(vector, self.dimensions)?;
        let entry = self.classes.entry(class).or_insert_with(|| ClassSum {
            sum: vec![0.0; self.dimensions],
            examples: 0,
            norm: 0.0,
        });
        entry.accumulate(vector, 1.0 / norm);
        entry.examples += 1;
        Ok(())
    }

    /// Takes one example's vector out again; the class goes with its last.
    ///
    /// The vector must be one that was added: sums cannot tell.
    pub fn remove(&mut self, class: ClassKey, vector: &[f32]) -> Result<(), Error> {
        let norm = checked_norm(vector, self.dimensions)?;
        let Some(entry) = self.classes.get_mut(&class) else {
            return Err(Error::EmptyClass { class });
        };
        if entry.examples == 1 {
            self.classes.remove(&class);
            return Ok(());
        }
        entry.accumulate(vector, -1.0 / norm);
        entry.examples -= 1;
        Ok(())
    }

    /// Forgets a class.
    pub fn remove_class(&mut self, class: ClassKey) {
        self.classes.remove(&class);
    }
}

impl ClassSum {
    fn accumulate(&mut self, vector: &[f32], scale: f64) {
        let mut square = 0.0;
        for (sum, &component) in self.sum.iter_mut().zip(vector) {
            *sum += scale * f64::from(component);
            square += *sum * *sum;
        }
        self.norm = square.sqrt();
    }

    fn cosine(&self, vector: &[f32], vector_norm: f64) -> f64 {
        if self.norm <= PrototypeHead::CANCELLED * self.examples as f64 {
            return 0.0;
        }
        let dot: f64 = self.sum.iter().zip(vector).map(|(sum, &component)| sum * f64::from(component)).sum();
        dot / (self.norm * vector_norm)
    }
}

impl Head for PrototypeHead {
    fn classes(&self) -> Vec<ClassKey> {
        self.classes.keys().copied().collect()
    }

    fn predict(&self, vector: &[f32], accept: &dyn Fn(ClassKey) -> bool) -> Result<Vec<Score>, Error> {
        let norm = checked_norm(vector, self.dimensions)?;
        let candidates = self
            .classes
            .iter()
            .filter(|(class, _)| accept(**class))
            .map(|(&class, entry)| {
                let similarity = entry.cosine(vector, norm);
                Candidate { class, logit: similarity / Self::TEMPERATURE, similarity }
            })
            .collect();
        Ok(rank(candidates))
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the cosine of a sum that cancels is exactly 0")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANY: &dyn Fn(ClassKey) -> bool = &|_| true;

    #[test]
    fn the_nearest_mean_wins_and_probabilities_sum_to_one() {
        let mut head = PrototypeHead::new(2);
        head.add(7, &[1.0, 0.0]).unwrap();
        head.add(7, &[0.0, 1.0]).unwrap();
        head.add(9, &[-1.0, 0.0]).unwrap();
        let scores = head.predict(&[1.0, 1.0], ANY).unwrap();
        assert_eq!(scores.iter().map(|score| score.class).collect::<Vec<_>>(), [7, 9]);
        assert!((scores[0].similarity - 1.0).abs() < 1e-6);
        assert!((scores[1].similarity + 0.5f32.sqrt()).abs() < 1e-6);
        assert!((scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_lead_of_a_tenth_reads_as_documented() {
        let mut head = PrototypeHead::new(2);
        head.add(1, &[0.6, 0.8]).unwrap();
        head.add(2, &[0.5, 0.75f32.sqrt()]).unwrap();
        let scores = head.predict(&[1.0, 0.0], ANY).unwrap();
        assert!((scores[0].probability - 0.880_797).abs() < 1e-4, "{scores:?}");
    }

    #[test]
    fn only_accepted_classes_share_the_probability() {
        let mut head = PrototypeHead::new(2);
        for class in 1..=3 {
            head.add(class, &[1.0, class as f32]).unwrap();
        }
        let scores = head.predict(&[1.0, 1.0], &|class| class != 1).unwrap();
        assert_eq!(scores.iter().map(|score| score.class).collect::<Vec<_>>(), [2, 3]);
        assert!((scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-6);
        assert_eq!(head.predict(&[1.0, 1.0], &|_| false).unwrap(), []);
    }

    #[test]
    fn equal_classes_are_ordered_by_key() {
        let mut head = PrototypeHead::new(2);
        for class in [5, 3, 4] {
            head.add(class, &[0.3, 0.7]).unwrap();
        }
        let scores = head.predict(&[1.0, 0.0], ANY).unwrap();
        assert_eq!(scores.iter().map(|score| score.class).collect::<Vec<_>>(), [3, 4, 5]);
    }

    #[test]
    fn a_class_goes_with_its_last_example() {
        let mut head = PrototypeHead::new(2);
        head.add(1, &[1.0, 0.0]).unwrap();
        head.add(2, &[1.0, 0.0]).unwrap();
        head.remove(1, &[1.0, 0.0]).unwrap();
        assert_eq!(head.classes(), [2]);
        assert_eq!(head.remove(1, &[1.0, 0.0]), Err(Error::EmptyClass { class: 1 }));
        head.remove_class(2);
        assert!(head.classes().is_empty());
    }

    #[test]
    fn examples_that_cancel_have_no_direction() {
        let mut head = PrototypeHead::new(2);
        head.add(1, &[0.6, 0.8]).unwrap();
        head.add(1, &[-0.6, -0.8]).unwrap();
        assert_eq!(head.predict(&[0.6, 0.8], ANY).unwrap()[0].similarity, 0.0);
    }

    #[test]
    fn refused_vectors_change_nothing() {
        let mut head = PrototypeHead::new(2);
        assert_eq!(head.add(1, &[f32::NAN, 0.0]), Err(Error::NotFinite { position: 0 }));
        assert_eq!(head.add(1, &[1.0]), Err(Error::Dimensions { expected: 2, actual: 1 }));
        assert_eq!(head.add(1, &[0.0, 0.0]), Err(Error::ZeroVector));
        assert!(head.classes().is_empty());
        head.add(1, &[1.0, 0.0]).unwrap();
        assert_eq!(head.remove(1, &[f32::INFINITY, 0.0]), Err(Error::NotFinite { position: 0 }));
        assert_eq!(head.classes(), [1]);
        assert_eq!(head.predict(&[0.0, 0.0], ANY), Err(Error::ZeroVector));
    }

    fn vectors(count: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
        let component = prop_oneof![-1.0f32..1.0, -1e-6f32..1e-6];
        prop::collection::vec(prop::collection::vec(component, 5), 1..count)
            .prop_map(|all| all.into_iter().filter(|v| v.iter().any(|c| *c != 0.0)).collect())
    }

    proptest! {
        #[test]
        fn adding_and_removing_leaves_the_sum_of_what_stays(stay in vectors(20), go in vectors(20)) {
            let mut plain = PrototypeHead::new(5);
            for vector in &stay {
                plain.add(1, vector).unwrap();
            }
            let mut head = PrototypeHead::new(5);
            for vector in go.iter().chain(&stay) {
                head.add(1, vector).unwrap();
            }
            for vector in &go {
                head.remove(1, vector).unwrap();
            }
            prop_assert_eq!(head.classes(), plain.classes());
            if let (Some(after), Some(expected)) = (head.classes.get(&1), plain.classes.get(&1)) {
                prop_assert_eq!(after.examples, expected.examples);
                for (a, b) in after.sum.iter().zip(&expected.sum) {
                    prop_assert!((a - b).abs() < 1e-12, "{} {}", a, b);
                }
            }
        }
    }
}
