//! The patch budget of a call: which patches of an image are embedded, and how often.

use crate::http::problem::Problem;
use dozen_models::{Budget, Keep, Selection};
use serde::de::{self, Deserializer, Visitor};
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// Least cosine that `keep=auto` preserves unless told otherwise.
const DEFAULT_LEAST_COSINE: f32 = 0.95;
/// Masks of one image at most.
const MOST_MASKS: usize = 64;

/// A share of the patches, or `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub enum KeepOption {
    /// Above 0 and up to 1.
    Share(f32),
    /// The smallest share that keeps the embedding what it is; see `min_cosine`.
    Word(Auto),
}

/// `auto`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Auto {
    /// The smallest share that keeps the embedding what it is; see `min_cosine`.
    Auto,
}

/// Which patches a budget keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Select {
    /// The same of every image, spread evenly over it.
    Spread,
    /// Spread evenly, and where there is a choice those with most contrast: the default.
    Content,
    /// Those nearest to the middle.
    Centre,
    /// Any, decided by `seed`; the default with `masks`.
    Random,
}

/// The options of a call that make its budget, as they came.
#[derive(Clone, Copy, Debug, Default)]
pub struct BudgetOptions {
    /// `keep`.
    pub keep: Option<KeepOption>,
    /// `min_cosine`.
    pub min_cosine: Option<f32>,
    /// `select`.
    pub select: Option<Select>,
    /// `seed`.
    pub seed: Option<u64>,
    /// `masks`.
    pub masks: Option<usize>,
}

impl BudgetOptions {
    /// The budget, checked: all patches unless given.
    pub fn budget(&self) -> Result<Budget, Problem> {
        let keep = self.keep()?;
        let masks = self.masks.unwrap_or(1);
        if !(1..=MOST_MASKS).contains(&masks) {
            return Err(Problem::invalid("/masks", format!("is {masks}, it has to be 1 to {MOST_MASKS}")));
        }
        if masks > 1 && keep == Keep::Share(1.0) {
            return Err(Problem::invalid("/masks", "hide nothing with all patches kept; set `keep` below 1"));
        }
        let select = self.select.unwrap_or(if masks > 1 { Select::Random } else { Select::Content });
        if masks > 1 && select != Select::Random {
            return Err(Problem::invalid("/select", "has to be `random` where there are several masks"));
        }
        if self.seed.is_some() && select != Select::Random {
            return Err(Problem::invalid(
                "/seed",
                "is of use only with `select` set to `random`, or with `masks`",
            ));
        }
        let selection = match select {
            Select::Spread => Selection::Spread,
            Select::Content => Selection::Content,
            Select::Centre => Selection::Centre,
            Select::Random => Selection::Random { seed: self.seed.unwrap_or(0) },
        };
        Ok(Budget { keep, selection, masks })
    }

    fn keep(&self) -> Result<Keep, Problem> {
        let is_share = |value: f32| value > 0.0 && value <= 1.0;
        match (self.keep, self.min_cosine) {
            (Some(KeepOption::Word(Auto::Auto)), bound) => {
                let least_cosine = bound.unwrap_or(DEFAULT_LEAST_COSINE);
                if is_share(least_cosine) {
                    return Ok(Keep::Auto { least_cosine });
                }
                Err(Problem::invalid(
                    "/min_cosine",
                    format!("is {least_cosine}, it has to be above 0 and at most 1"),
                ))
            }
            (_, Some(_)) => Err(Problem::invalid("/min_cosine", "is of use only with `keep` set to `auto`")),
            (None, None) => Ok(Keep::Share(1.0)),
            (Some(KeepOption::Share(share)), None) if is_share(share) => Ok(Keep::Share(share)),
            (Some(KeepOption::Share(share)), None) => Err(Problem::invalid(
                "/keep",
                format!("is {share}, it has to be above 0 and at most 1, or `auto`"),
            )),
        }
    }
}

impl<'de> Deserialize<'de> for KeepOption {
    /// Also from text, as a query has it.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeepVisitor;
        impl Visitor<'_> for KeepVisitor {
            type Value = KeepOption;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a number above 0 and up to 1, or `auto`")
            }
            fn visit_f64<E: de::Error>(self, value: f64) -> Result<KeepOption, E> {
                Ok(KeepOption::Share(value as f32))
            }
            fn visit_u64<E: de::Error>(self, value: u64) -> Result<KeepOption, E> {
                Ok(KeepOption::Share(value as f32))
            }
            fn visit_i64<E: de::Error>(self, value: i64) -> Result<KeepOption, E> {
                Ok(KeepOption::Share(value as f32))
            }
            fn visit_str<E: de::Error>(self, value: &str) -> Result<KeepOption, E> {
                if value == "auto" {
                    return Ok(KeepOption::Word(Auto::Auto));
                }
                let number = value.parse().map(KeepOption::Share);
                number.map_err(|_| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(KeepVisitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn share(value: f32) -> BudgetOptions {
        BudgetOptions { keep: Some(KeepOption::Share(value)), ..BudgetOptions::default() }
    }

    #[test]
    fn a_budget_is_what_was_asked_for() {
        assert_eq!(BudgetOptions::default().budget().map(|budget| budget.keep), Ok(Budget::default().keep));
        let selected =
            |select, seed| BudgetOptions { select: Some(select), seed, ..share(0.5) }.budget().unwrap();
        assert_eq!(share(0.5).budget().unwrap().selection, Selection::Content);
        assert_eq!(selected(Select::Spread, None).selection, Selection::Spread);
        assert_eq!(selected(Select::Random, Some(9)).selection, Selection::Random { seed: 9 });
        let masked = BudgetOptions { masks: Some(4), ..share(0.3) }.budget().unwrap();
        assert_eq!((masked.selection, masked.masks), (Selection::Random { seed: 0 }, 4));
        let auto = Some(KeepOption::Word(Auto::Auto));
        let bound =
            |min_cosine| BudgetOptions { keep: auto, min_cosine, ..BudgetOptions::default() }.budget();
        assert_eq!(bound(None).unwrap().keep, Keep::Auto { least_cosine: DEFAULT_LEAST_COSINE });
        assert_eq!(bound(Some(0.9)).unwrap().keep, Keep::Auto { least_cosine: 0.9 });
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let auto = BudgetOptions { keep: Some(KeepOption::Word(Auto::Auto)), ..BudgetOptions::default() };
        for (options, pointer) in [
            (share(0.0), "/keep"),
            (share(-1.0), "/keep"),
            (share(1.5), "/keep"),
            (share(f32::NAN), "/keep"),
            (BudgetOptions { min_cosine: Some(0.9), ..share(0.5) }, "/min_cosine"),
            (BudgetOptions { min_cosine: Some(0.9), ..BudgetOptions::default() }, "/min_cosine"),
            (BudgetOptions { min_cosine: Some(0.0), ..auto }, "/min_cosine"),
            (BudgetOptions { min_cosine: Some(f32::NAN), ..auto }, "/min_cosine"),
            (BudgetOptions { masks: Some(0), ..share(0.5) }, "/masks"),
            (BudgetOptions { masks: Some(65), ..share(0.5) }, "/masks"),
            (BudgetOptions { masks: Some(2), ..BudgetOptions::default() }, "/masks"),
            (BudgetOptions { masks: Some(2), select: Some(Select::Content), ..share(0.5) }, "/select"),
            (BudgetOptions { seed: Some(2), ..share(0.5) }, "/seed"),
        ] {
            let problem = options.budget().unwrap_err();
            assert_eq!(problem.errors[0].pointer, pointer, "{options:?}");
        }
    }
}
