//! A head version as it is stored and as it answers.

use super::labelled::LabelledSet;
use crate::store::StoreError;
use dozen_fewshot::training::{FittedHead, Settings, Trained};
use dozen_fewshot::{ClassKey, Reliability};
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

/// The stored form of a version. `format` changes whenever its meaning does.
#[derive(Debug, Deserialize, Serialize)]
pub(crate) struct StoredHead {
    format: u32,
    head: FittedHead,
    /// The same without the slice that was held back, which it answers for the head on.
    twin: FittedHead,
    reliability: Reliability,
    settings: Settings,
    /// Classes that had examples.
    classes: Vec<ClassKey>,
    /// The newest example at the time.
    newest: i64,
    /// Examples that were held back, ascending.
    held_back: Vec<i64>,
}

impl StoredHead {
    const FORMAT: u32 = 1;

    /// Of a training on the examples with these keys.
    pub(crate) fn new(trained: Trained, examples: &LabelledSet) -> Self {
        let Trained { head, twin, reliability, report } = trained;
        let held_back = examples.keys.iter().zip(&examples.held_back).filter(|(_, held)| **held);
        Self {
            format: Self::FORMAT,
            head,
            twin,
            reliability,
            settings: report.settings,
            classes: examples.vectors.classes().to_vec(),
            newest: examples.keys.iter().copied().max().unwrap_or(0),
            held_back: held_back.map(|(key, _)| *key).collect(),
        }
    }

    /// Fails where the stored form is not this version's.
    pub(crate) fn checked(self, version: i64) -> Result<Self, StoreError> {
        if self.format == Self::FORMAT {
            return Ok(self);
        }
        let (found, read) = (self.format, Self::FORMAT);
        Err(StoreError::Damaged(format!(
            "the weights of head version {version} have format {found}, this server reads {read}"
        )))
    }
}

/// A version that answers while it knows every candidate.
#[derive(Debug)]
pub(crate) struct TrainedHead {
    pub(crate) version: i64,
    pub(crate) classes: HashSet<ClassKey>,
    stored: StoredHead,
}

impl TrainedHead {
    pub(crate) fn new(version: i64, stored: StoredHead) -> Self {
        Self { version, classes: stored.classes.iter().copied().collect(), stored }
    }

    pub(crate) fn head(&self) -> &FittedHead {
        &self.stored.head
    }

    pub(crate) fn reliability(&self) -> &Reliability {
        &self.stored.reliability
    }

    /// Method and numbers of a head; `None` is the prototype head.
    pub(crate) fn settings_of(head: Option<&Self>) -> Settings {
        head.map_or(Settings::Prototype { shrinkage: 0.0 }, |head| head.stored.settings.clone())
    }

    /// What it answers with on the slice.
    pub(super) fn twin(&self) -> &FittedHead {
        &self.stored.twin
    }

    /// Neither it nor its numbers have seen the example, if that is in the slice now.
    pub(super) fn may_be_judged_by(&self, example: i64) -> bool {
        self.stored.head.follows_labels()
            || example > self.stored.newest
            || self.stored.held_back.binary_search(&example).is_ok()
    }
}
