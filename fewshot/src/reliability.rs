//! What makes answers honest: probabilities that mean what they say, sets that hold the truth, and a test for strangers.

use serde::{Deserialize, Serialize};

use crate::calibrate::Calibration;
use crate::conformal::{Conformal, PredictionSet};
use crate::heads::{HeldOut, Logit, Score, rank};
use crate::unknown::{Typicality, UnknownTest};
use crate::{Error, Examples};

/// Learned from a head's held-out logits and the labelled vectors; serialisable with the head.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reliability {
    calibration: Calibration,
    conformal: Conformal,
    unknown: UnknownTest,
}

impl Reliability {
    /// From what heads of one kind say of examples that they had not seen, and from these examples.
    pub fn fit(examples: &Examples, held_out: &HeldOut) -> Result<Self, Error> {
        let calibration = Calibration::fit(held_out);
        let conformal = Conformal::fit(held_out, &calibration);
        Ok(Self { calibration, conformal, unknown: UnknownTest::fit(examples)? })
    }

    /// How logits are rescaled.
    pub fn calibration(&self) -> &Calibration {
        &self.calibration
    }

    /// Number of examples that the promises of sets and probabilities rest on.
    pub fn examples(&self) -> usize {
        self.conformal.examples()
    }

    /// Calibrated probabilities over the candidates, best first.
    pub fn scores(&self, mut candidates: Vec<Logit>) -> Vec<Score> {
        self.calibration.apply(&mut candidates);
        rank(candidates)
    }

    /// The classes among [`Reliability::scores`] that together hold the truth with this coverage (0 to 1).
    pub fn set(&self, scores: &[Score], coverage: f64) -> Result<PredictionSet, Error> {
        self.conformal.set(scores, coverage)
    }

    /// How typical a query is of what is known.
    pub fn typicality(&self, vector: &[f32]) -> Result<Typicality, Error> {
        self.unknown.typicality(vector)
    }
}
