//! What heads say of examples they have not seen: the ground of every choice and every promise this crate makes.

use std::cmp::Ordering;

use super::Head;
use crate::matrix::softmax;
use crate::{ClassKey, Error, Examples};

/// Logits of examples, each by a head that was fitted without it.
///
/// An example that is its class's only one is left out: no head fitted without it knows its class.
#[derive(Clone, Debug)]
pub struct HeldOut {
    classes: Vec<ClassKey>,
    /// Positions in the [`Examples`] it was made from.
    examples: Vec<usize>,
    /// Position of each one's class in `classes`.
    labels: Vec<usize>,
    /// `[example][class]`; −∞ for a class that the head did not know.
    logits: Vec<f64>,
}

impl HeldOut {
    /// Without rows, for as many classes as the examples have.
    pub fn new(examples: &Examples) -> Self {
        let classes = examples.classes().to_vec();
        Self { classes, examples: Vec::new(), labels: Vec::new(), logits: Vec::new() }
    }

    /// Adds the logits of the example at a position, one per class of the examples.
    pub fn push(&mut self, position: usize, label: usize, logits: &[f64]) {
        debug_assert_eq!(logits.len(), self.classes.len(), "one logit per class");
        self.examples.push(position);
        self.labels.push(label);
        self.logits.extend_from_slice(logits);
    }

    /// By heads fitted on the other folds, of `folds` that every class is dealt over in the order of its examples.
    ///
    /// With as many folds as the largest class has examples this leaves one of each class out at a time.
    pub fn by_folds<H: Head>(
        examples: &Examples,
        folds: usize,
        mut fit: impl FnMut(&Examples) -> Result<H, Error>,
    ) -> Result<Self, Error> {
        let mut held_out = Self::new(examples);
        for Fold { kept, judged } in deal(examples, folds) {
            let head = fit(&examples.subset(&kept))?;
            for example in judged {
                let mut logits = vec![f64::NEG_INFINITY; examples.classes().len()];
                for logit in head.logits(examples.vector(example))? {
                    if let Ok(row) = examples.classes().binary_search(&logit.class) {
                        logits[row] = logit.logit;
                    }
                }
                held_out.push(example, examples.labels()[example], &logits);
            }
        }
        Ok(held_out)
    }

    /// Classes, ascending.
    pub fn classes(&self) -> &[ClassKey] {
        &self.classes
    }

    /// Number of examples judged.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// No example could be judged: every class has one.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// Positions of the judged examples.
    pub fn examples(&self) -> &[usize] {
        &self.examples
    }

    /// Position of each judged example's class.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Rows of logits, one per judged example.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[f64]> + Clone {
        self.logits.chunks_exact(self.classes.len().max(1))
    }

    /// The class each judged example was taken for, the lower of equals.
    pub fn predictions(&self) -> Vec<usize> {
        let best = |row: &[f64]| {
            (1..row.len()).fold(0, |best, class| match row[class].total_cmp(&row[best]) {
                Ordering::Greater => class,
                Ordering::Less | Ordering::Equal => best,
            })
        };
        self.rows().map(best).collect()
    }

    /// Share of the judged examples taken for what they are; 0 without any.
    pub fn accuracy(&self) -> f64 {
        let right = self.predictions().iter().zip(&self.labels).filter(|(a, b)| a == b).count();
        right as f64 / self.len().max(1) as f64
    }

    /// Mean −log probability of the label, with logits divided by `temperature`; 0 without any.
    pub fn log_loss(&self, temperature: f64) -> f64 {
        let mut total = 0.0;
        let mut scaled = vec![0.0; self.classes.len()];
        for (row, &label) in self.rows().zip(&self.labels) {
            for (scaled, logit) in scaled.iter_mut().zip(row) {
                *scaled = logit / temperature;
            }
            let own = scaled[label];
            total += softmax(&mut scaled) - own;
        }
        total / self.len().max(1) as f64
    }
}

/// Examples to fit on, and others to judge by what that gives.
pub(super) struct Fold {
    pub(super) kept: Vec<usize>,
    /// Without examples that are the only one of their class.
    pub(super) judged: Vec<usize>,
}

/// Deals every class's examples over folds in turn, going on where the class before ended; folds with nothing to judge are
/// left out.
pub(super) fn deal(examples: &Examples, folds: usize) -> Vec<Fold> {
    let mut order: Vec<usize> = (0..examples.len()).collect();
    order.sort_by_key(|&example| examples.labels()[example]);
    let mut fold_of = vec![0; examples.len()];
    for (place, example) in order.into_iter().enumerate() {
        fold_of[example] = place % folds;
    }
    let counts = examples.counts();
    let fold = |fold: usize| {
        let (mut judged, kept): (Vec<usize>, Vec<usize>) =
            (0..examples.len()).partition(|&example| fold_of[example] == fold);
        judged.retain(|&example| counts[examples.labels()[example]] > 1);
        Fold { kept, judged }
    };
    (0..folds).map(fold).filter(|fold| !fold.judged.is_empty()).collect()
}
