//! The methods, the numbers chosen for each, and what a fit leaves behind.

use serde::{Deserialize, Serialize};

use super::TrainingOptions;
use super::standalone::Standalone;
use crate::heads::{
    DiscriminantHead, HeldOut, LogisticHead, LogisticOptions, MsnHead, MsnOptions, NearestOptions,
    PrototypeHead,
};
use crate::progress::part;
use crate::{Error, Examples, Pool, Progress};

/// Ways to learn from labelled vectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// Class means, compared by cosine.
    Prototype,
    /// The nearest examples vote.
    #[serde(rename = "knn")]
    Nearest,
    /// Multinomial logistic regression.
    Logistic,
    /// Linear discriminant analysis with a shared, shrunk covariance.
    Discriminant,
    /// Prototypes learned by MSN's objective, from unlabelled images too.
    Msn,
}

/// As many folds hold out examples where leaving each out has no closed form.
const FOLDS: usize = 5;

impl Method {
    /// All there are, the simplest first.
    pub const ALL: [Self; 5] =
        [Self::Prototype, Self::Nearest, Self::Discriminant, Self::Logistic, Self::Msn];

    /// The word for it in requests and records.
    pub fn word(self) -> &'static str {
        match self {
            Self::Prototype => "prototype",
            Self::Nearest => "knn",
            Self::Logistic => "logistic",
            Self::Discriminant => "discriminant",
            Self::Msn => "msn",
        }
    }
}

/// A method with the numbers that were chosen for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "method", rename_all = "snake_case")]
pub enum Settings {
    /// [`Method::Prototype`].
    Prototype {
        /// Examples that every class has at the mean of all class means besides its own.
        shrinkage: f64,
    },
    /// [`Method::Nearest`].
    #[serde(rename = "knn")]
    Nearest(NearestOptions),
    /// [`Method::Logistic`].
    Logistic(LogisticOptions),
    /// [`Method::Discriminant`].
    Discriminant {
        /// Share of the covariance that is the same in every direction.
        strength: f64,
    },
    /// [`Method::Msn`].
    Msn(MsnOptions),
}

/// What answers after a fit.
///
/// Prototypes and neighbours follow the labels as they come: of them only the numbers are kept. The others stay as they
/// were fitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FittedHead {
    /// [`Settings::Prototype`].
    Prototype {
        /// Examples that every class has at the mean of all class means besides its own.
        shrinkage: f64,
    },
    /// [`Settings::Nearest`].
    #[serde(rename = "knn")]
    Nearest(NearestOptions),
    /// [`Settings::Logistic`].
    Logistic(LogisticHead),
    /// [`Settings::Discriminant`].
    Discriminant(DiscriminantHead),
    /// [`Settings::Msn`].
    Msn(MsnHead),
}

impl FittedHead {
    /// Answers with the labels there are, whatever it was fitted on.
    pub fn follows_labels(&self) -> bool {
        match self {
            Self::Prototype { .. } | Self::Nearest(_) => true,
            Self::Logistic(_) | Self::Discriminant(_) | Self::Msn(_) => false,
        }
    }

    /// How it was fitted.
    pub fn method(&self) -> Method {
        match self {
            Self::Prototype { .. } => Method::Prototype,
            Self::Nearest(_) => Method::Nearest,
            Self::Logistic(_) => Method::Logistic,
            Self::Discriminant(_) => Method::Discriminant,
            Self::Msn(_) => Method::Msn,
        }
    }
}

impl Settings {
    /// The method they are for.
    pub fn method(&self) -> Method {
        match self {
            Self::Prototype { .. } => Method::Prototype,
            Self::Nearest(_) => Method::Nearest,
            Self::Logistic(_) => Method::Logistic,
            Self::Discriminant { .. } => Method::Discriminant,
            Self::Msn(_) => Method::Msn,
        }
    }

    /// The numbers that lose least on examples that are left out.
    pub(super) fn tune(
        method: Method,
        examples: &Examples,
        options: &TrainingOptions,
        progress: Progress<'_>,
    ) -> Result<Self, Error> {
        Ok(match method {
            Method::Prototype => {
                Self::Prototype { shrinkage: PrototypeHead::fit(examples, progress)?.shrinkage() }
            }
            Method::Nearest => Self::Nearest(NearestOptions::fit(examples, progress)?),
            Method::Logistic => Self::Logistic(options.logistic(examples, progress)?),
            Method::Discriminant => {
                Self::Discriminant { strength: DiscriminantHead::fit(examples, progress)?.strength() }
            }
            Method::Msn => {
                Self::Msn(MsnOptions { prior: options.class_prior.clone(), ..MsnOptions::default() })
            }
        })
    }

    /// A head with these numbers.
    pub(super) fn fit(
        &self,
        examples: &Examples,
        pool: &Pool,
        progress: Progress<'_>,
    ) -> Result<FittedHead, Error> {
        Ok(match self {
            Self::Prototype { shrinkage } => FittedHead::Prototype { shrinkage: *shrinkage },
            Self::Nearest(options) => FittedHead::Nearest(*options),
            Self::Logistic(options) => {
                FittedHead::Logistic(LogisticHead::fit(examples, options, progress)?.0)
            }
            Self::Discriminant { strength } => {
                FittedHead::Discriminant(DiscriminantHead::with_strength(examples, *strength)?)
            }
            Self::Msn(options) => FittedHead::Msn(MsnHead::fit(examples, pool, options, progress)?.0),
        })
    }

    /// Logits of each example by a head with these numbers that was fitted without it, in the units of such a head.
    pub fn held_out(
        &self,
        examples: &Examples,
        pool: &Pool,
        progress: Progress<'_>,
    ) -> Result<HeldOut, Error> {
        match self {
            Self::Prototype { shrinkage } => {
                Ok(PrototypeHead::leave_one_out(examples, *shrinkage)?
                    .scaled(1.0 / PrototypeHead::TEMPERATURE))
            }
            Self::Nearest(options) => options.leave_one_out(examples, progress),
            Self::Logistic(options) => LogisticHead::held_out(examples, options, progress),
            Self::Discriminant { strength } => DiscriminantHead::leave_one_out(examples, *strength),
            Self::Msn(options) => MsnHead::held_out(examples, pool, options, progress),
        }
    }

    /// [`Settings::fit`] and [`Settings::held_out`], for which some heads need no more than for the first alone.
    pub(super) fn fit_and_hold_out(
        &self,
        examples: &Examples,
        pool: &Pool,
        progress: Progress<'_>,
    ) -> Result<(FittedHead, HeldOut), Error> {
        if let Self::Msn(options) = self {
            let (head, report) = MsnHead::fit(examples, pool, options, progress)?;
            return Ok((FittedHead::Msn(head), report.held_out));
        }
        let head = self.fit(examples, pool, &mut part(&mut *progress, 0.0, 0.5))?;
        Ok((head, self.held_out(examples, pool, &mut part(progress, 0.5, 1.0))?))
    }

    /// Logits of each example by a head that was tuned and fitted without it and the rest of its fold: what choosing
    /// the numbers gains by chance is not in them.
    pub(super) fn nested(
        method: Method,
        examples: &Examples,
        pool: &Pool,
        options: &TrainingOptions,
        progress: Progress<'_>,
    ) -> Result<HeldOut, Error> {
        let mut done = 0.0;
        HeldOut::by_folds(examples, FOLDS, |kept| {
            let (from, to) = (done, done + 1.0 / FOLDS as f64);
            done = to;
            let half = f64::midpoint(from, to);
            let settings = Self::tune(method, kept, options, &mut part(&mut *progress, from, half))?;
            let head = settings.fit(kept, pool, &mut part(&mut *progress, half, to))?;
            Standalone::new(head, kept.clone())
        })
    }
}
