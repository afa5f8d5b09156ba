//! How prototypes are learned, and what is assumed of the pool.

use serde::{Deserialize, Serialize};

use crate::{ClassKey, Error};

/// How the pool's pictures are taken to be spread over the classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassPrior {
    /// As many of each class.
    #[default]
    Uniform,
    /// In proportion to these numbers, one above 0 for every class that has examples; others are ignored.
    Given(Vec<(ClassKey, f64)>),
    /// Half way between uniform and what the prototypes say of the pool, found anew in every step.
    Estimated,
}

impl ClassPrior {
    /// Shares of these classes, adding up to 1.
    pub(super) fn of(&self, classes: &[ClassKey]) -> Vec<f64> {
        let uniform = vec![1.0 / classes.len().max(1) as f64; classes.len()];
        let Self::Given(given) = self else { return uniform };
        let number =
            |class: &ClassKey| given.iter().find(|(key, _)| key == class).map_or(0.0, |found| found.1);
        let mut shares: Vec<f64> = classes.iter().map(number).collect();
        let total: f64 = shares.iter().sum();
        for share in &mut shares {
            *share /= total;
        }
        shares
    }

    pub(super) fn is_estimated(&self) -> bool {
        matches!(self, Self::Estimated)
    }

    fn check(&self, classes: &[ClassKey]) -> Result<(), Error> {
        let Self::Given(given) = self else { return Ok(()) };
        let refuse = |value: String| {
            let range = "one finite number above 0 for every class that has examples";
            Err(Error::InvalidOption { name: "prior", value, range })
        };
        for class in classes {
            let mut numbers = given.iter().filter(|(key, _)| key == class).map(|(_, number)| *number);
            match (numbers.next(), numbers.next()) {
                (None, _) => return refuse(format!("silent about class {class}")),
                (Some(_), Some(_)) => return refuse(format!("given twice for class {class}")),
                // Numbers are normalised, and must not overflow or vanish on the way.
                (Some(number), None) if !(1e-9..=1e9).contains(&number) => {
                    return refuse(format!("{number} for class {class}"));
                }
                (Some(_), None) => {}
            }
        }
        Ok(())
    }
}

/// How [`super::MsnHead`] learns.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MsnOptions {
    /// Steps at most; how many are taken is decided by examples held out.
    pub steps: usize,
    /// Weight of the prototypes' squared length, as [`super::super::LogisticOptions::l2`]: how sharp assignments become.
    pub l2: f64,
    /// Temperature that sharpens targets, above 0 and up to 1: MSN's T.
    pub sharpening: f64,
    /// Weight of the pool against the labelled examples: λ.
    pub pool_weight: f64,
    /// Weight of the mean-entropy term against agreement: ν.
    pub evenness: f64,
    /// How many nearest pictures are taken for further views of each.
    pub neighbours: usize,
    /// Prototypes of each class, or one per example where there are fewer.
    pub prototypes: usize,
    /// How the pool's pictures are spread over the classes.
    pub prior: ClassPrior,
}

impl Default for MsnOptions {
    /// MSN's own sharpening, and the penalty of logistic regression. The pool counts little because the shipped weights are
    /// weak: with 5 examples per class of mini-ImageNet's validation part a weight of 0.3 answered better than 2 under five
    /// of six whitenings tried. Those were 2 draws of an earlier form, with prototypes of length 1: a rough choice.
    fn default() -> Self {
        Self {
            steps: 60,
            l2: 0.3,
            sharpening: 0.25,
            pool_weight: 0.3,
            evenness: 1.0,
            neighbours: 10,
            prototypes: 1,
            prior: ClassPrior::Uniform,
        }
    }
}

impl MsnOptions {
    /// Fails on what is out of range for these classes.
    pub(super) fn check(&self, classes: &[ClassKey]) -> Result<(), Error> {
        let refuse =
            |name, value: f64, range| Err(Error::InvalidOption { name, value: value.to_string(), range });
        if !(self.l2 > 0.0 && self.l2 <= 1e6) {
            return refuse("l2", self.l2, "above 0 and at most 1,000,000");
        }
        if !(self.sharpening > 0.0 && self.sharpening <= 1.0) {
            return refuse("sharpening", self.sharpening, "above 0 and at most 1");
        }
        for (name, weight) in [("pool_weight", self.pool_weight), ("evenness", self.evenness)] {
            if !(0.0..=1e6).contains(&weight) {
                return refuse(name, weight, "between 0 and 1,000,000");
            }
        }
        for (name, number) in
            [("steps", self.steps), ("neighbours", self.neighbours), ("prototypes", self.prototypes)]
        {
            if !(1..=10_000).contains(&number) {
                return refuse(name, number as f64, "between 1 and 10,000");
            }
        }
        self.prior.check(classes)
    }
}
