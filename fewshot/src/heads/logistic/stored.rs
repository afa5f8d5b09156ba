//! The stored form of logistic weights.

use serde::{Deserialize, Serialize};

use super::super::stored::{check_classes, check_format, check_rows, refused};
use super::LogisticHead;
use crate::{ClassKey, Error};

/// `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredLogisticHead {
    format: u32,
    dimensions: usize,
    classes: Vec<ClassKey>,
    /// `[class][dimension]`.
    weights: Vec<f32>,
}

impl From<LogisticHead> for StoredLogisticHead {
    fn from(head: LogisticHead) -> Self {
        let LogisticHead { dimensions, classes, weights, .. } = head;
        Self { format: LogisticHead::FORMAT, dimensions, classes, weights }
    }
}

impl TryFrom<StoredLogisticHead> for LogisticHead {
    type Error = Error;

    fn try_from(stored: StoredLogisticHead) -> Result<Self, Error> {
        let StoredLogisticHead { format, dimensions, classes, weights } = stored;
        check_format(format, Self::FORMAT)?;
        check_classes(&classes)?;
        check_rows("weights", &weights, classes.len(), dimensions)?;
        if classes.is_empty() {
            return Err(refused("it knows no class"));
        }
        Ok(Self::with_rows(dimensions, classes, weights))
    }
}
