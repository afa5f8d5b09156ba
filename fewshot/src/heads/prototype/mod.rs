//! Running class means.

mod leave_one_out;
mod stored;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::choice::choose;
use super::{Head, Logit};
use crate::matrix::dot;
use crate::vector::{checked_norm, unit_f64};
use crate::{ClassKey, Error, Examples, Progress};
use leave_one_out::LeaveOneOut;
use stored::StoredPrototypeHead;

/// The mean of each class's unit vectors, kept exact under insert and delete (f64 sums); answers by cosine.
///
/// A class is its sum of unit vectors: the mean's direction is all the cosine needs, and a sum, unlike a mean, can be
/// taken back. Removing a vector subtracts the very numbers that adding it added; what remains is f64 rounding, about
/// 1e-16 per operation against f32 inputs of 6e-8.
///
/// With a shrinkage of s a class of n examples answers as if it had s further ones at the mean of all class means: its
/// mean moves there by s/(s + n), the weight of James and Stein, so that a class of one or two examples, whose mean is
/// mostly chance, leans on what all classes have in common, and a class of many does not.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "StoredPrototypeHead", into = "StoredPrototypeHead")]
pub struct PrototypeHead {
    dimensions: usize,
    temperature: f64,
    shrinkage: f64,
    /// Ordered, so that answers do not depend on the order of insertion.
    classes: BTreeMap<ClassKey, ClassSum>,
    /// The sum of the class means. Kept up by every change, because summing it anew would cost as much as a query.
    means: Vec<f64>,
}

#[derive(Clone, Debug)]
struct ClassSum {
    sum: Vec<f64>,
    examples: usize,
    /// Squared length of `sum`, kept because every query divides by its root.
    square: f64,
}

impl PrototypeHead {
    /// Version of the stored form written and read by this code.
    pub const FORMAT: u32 = 1;

    /// Probabilities are softmax(cosine / temperature); this is the temperature where none has been fitted.
    ///
    /// It moves confidence, never the ranking. Cosines of image embeddings to class means differ by a few hundredths
    /// to a few tenths, so a temperature of 1 would call everything a tie; 0.05 makes a lead of 0.1 over one rival read
    /// as 0.88.
    pub const TEMPERATURE: f64 = 0.05;

    /// Shrinkages that a fit compares, in examples.
    const SHRINKAGES: [f64; 4] = [0.0, 0.5, 1.0, 2.0];

    /// Without classes.
    pub fn new(dimensions: usize) -> Self {
        Self {
            dimensions,
            temperature: Self::TEMPERATURE,
            shrinkage: 0.0,
            classes: BTreeMap::new(),
            means: vec![0.0; dimensions],
        }
    }

    /// Of these examples, with the shrinkage and then the temperature that lose least when each is left out in turn.
    ///
    /// Where every class has one example there is nothing to judge by: no shrinkage, and [`PrototypeHead::TEMPERATURE`].
    pub fn fit(examples: &Examples, progress: Progress<'_>) -> Result<Self, Error> {
        let left_out = LeaveOneOut::new(examples);
        let choice = choose(&Self::SHRINKAGES, progress, |shrinkage| left_out.logits(shrinkage))?;
        let mut head = Self::of(examples)?;
        if let Some(choice) = choice {
            head.shrinkage = choice.candidate;
            head.temperature = choice.temperature;
        }
        Ok(head)
    }

    /// Of these examples, as if they had been added one by one.
    pub fn of(examples: &Examples) -> Result<Self, Error> {
        let mut head = Self::new(examples.dimensions());
        for (example, &label) in examples.labels().iter().enumerate() {
            head.add(examples.classes()[label], examples.vector(example))?;
        }
        Ok(head)
    }

    /// What the head without each example says of it, exactly, in the time of one product of all examples with all means.
    ///
    /// The logits are the cosines themselves, not yet divided by a temperature, so that one can be fitted to them.
    pub fn leave_one_out(examples: &Examples, shrinkage: f64) -> Result<super::HeldOut, Error> {
        check_shrinkage(shrinkage)?;
        LeaveOneOut::new(examples).logits(shrinkage)
    }

    /// Divides cosines by this.
    pub fn with_temperature(mut self, temperature: f64) -> Result<Self, Error> {
        check_temperature(temperature)?;
        self.temperature = temperature;
        Ok(self)
    }

    /// Gives every class so many further examples at the mean of all class means; 0 for none.
    pub fn with_shrinkage(mut self, shrinkage: f64) -> Result<Self, Error> {
        check_shrinkage(shrinkage)?;
        self.shrinkage = shrinkage;
        Ok(self)
    }

    /// What cosines are divided by.
    pub fn temperature(&self) -> f64 {
        self.temperature
    }

    /// Examples that every class has at the mean of all class means besides its own.
    pub fn shrinkage(&self) -> f64 {
        self.shrinkage
    }

    /// Adds one example's vector.
    pub fn add(&mut self, class: ClassKey, vector: &[f32]) -> Result<(), Error> {
        let norm = checked_norm(vector, self.dimensions)?;
        let entry = self.classes.entry(class).or_insert_with(|| ClassSum {
            sum: vec![0.0; self.dimensions],
            examples: 0,
            square: 0.0,
        });
        entry.change(vector, 1.0 / norm, entry.examples + 1, &mut self.means);
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
            self.remove_class(class);
        } else {
            entry.change(vector, -1.0 / norm, entry.examples - 1, &mut self.means);
        }
        Ok(())
    }

    /// [`Head::logits`] as if the shrinkage were this one, 0 or above.
    pub fn logits_shrunk_by(&self, vector: &[f32], shrinkage: f64) -> Result<Vec<Logit>, Error> {
        check_shrinkage(shrinkage)?;
        let query = unit_f64(vector, self.dimensions)?;
        // What shrinkage adds to every sum is this times the sum of means.
        let pull = shrinkage / self.classes.len().max(1) as f64;
        let pull_product = pull * dot(&self.means, &query);
        let pull_square = pull * pull * dot(&self.means, &self.means);
        let logit = |(&class, entry): (&ClassKey, &ClassSum)| {
            let crossed = if pull > 0.0 { pull * dot(&entry.sum, &self.means) } else { 0.0 };
            let similarity = cosine(
                dot(&entry.sum, &query) + pull_product,
                entry.square + 2.0 * crossed + pull_square,
                entry.examples as f64 + shrinkage,
            );
            Logit { class, logit: similarity / self.temperature, similarity }
        };
        Ok(self.classes.iter().map(logit).collect())
    }

    /// Forgets a class.
    pub fn remove_class(&mut self, class: ClassKey) {
        if let Some(gone) = self.classes.remove(&class) {
            let share = 1.0 / gone.examples as f64;
            for (means, sum) in self.means.iter_mut().zip(&gone.sum) {
                *means -= share * sum;
            }
        }
    }
}

impl ClassSum {
    /// Adds `scale` times a vector, after which there are so many examples; `means` follows the class's mean.
    fn change(&mut self, vector: &[f32], scale: f64, examples: usize, means: &mut [f64]) {
        // The sum of a class without examples is 0, whatever it is divided by.
        let (before, after) = (1.0 / self.examples.max(1) as f64, 1.0 / examples as f64);
        self.square = 0.0;
        for ((sum, means), &component) in self.sum.iter_mut().zip(means).zip(vector) {
            let changed = *sum + scale * f64::from(component);
            *means += after * changed - before * *sum;
            *sum = changed;
            self.square += changed * changed;
        }
        self.examples = examples;
    }
}

/// The cosine of a unit vector with a sum of unit vectors, of their product and the sum's squared length.
///
/// A sum shorter than a ten-millionth of its weight is the rounding of f32, not a direction: its cosine is 0.
fn cosine(product: f64, square: f64, weight: f64) -> f64 {
    if square <= (1e-7 * weight).powi(2) { 0.0 } else { product / square.sqrt() }
}

fn check_temperature(temperature: f64) -> Result<(), Error> {
    if temperature.is_finite() && temperature > 0.0 {
        return Ok(());
    }
    let value = temperature.to_string();
    Err(Error::InvalidOption { name: "temperature", value, range: "a finite number above 0" })
}

fn check_shrinkage(shrinkage: f64) -> Result<(), Error> {
    if shrinkage.is_finite() && shrinkage >= 0.0 {
        return Ok(());
    }
    let value = shrinkage.to_string();
    Err(Error::InvalidOption { name: "shrinkage", value, range: "a finite number, 0 or above" })
}

impl Head for PrototypeHead {
    fn classes(&self) -> Vec<ClassKey> {
        self.classes.keys().copied().collect()
    }

    fn logits(&self, vector: &[f32]) -> Result<Vec<Logit>, Error> {
        self.logits_shrunk_by(vector, self.shrinkage)
    }
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "the cosine of a sum that cancels is exactly 0")]
mod tests;
