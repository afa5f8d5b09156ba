//! The stored form of discriminant functions.

use serde::{Deserialize, Serialize};

use super::super::stored::{check_classes, check_format, check_rows, refused};
use super::{DiscriminantHead, check_strength};
use crate::{ClassKey, Error};

/// `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredDiscriminantHead {
    format: u32,
    dimensions: usize,
    strength: f64,
    classes: Vec<ClassKey>,
    /// `[class][dimension]`.
    means: Vec<f64>,
    /// `[class][dimension]`.
    weights: Vec<f64>,
    offsets: Vec<f64>,
}

impl From<DiscriminantHead> for StoredDiscriminantHead {
    fn from(head: DiscriminantHead) -> Self {
        let DiscriminantHead { dimensions, strength, classes, means, weights, offsets } = head;
        Self { format: DiscriminantHead::FORMAT, dimensions, strength, classes, means, weights, offsets }
    }
}

impl TryFrom<StoredDiscriminantHead> for DiscriminantHead {
    type Error = Error;

    fn try_from(stored: StoredDiscriminantHead) -> Result<Self, Error> {
        let StoredDiscriminantHead { format, dimensions, strength, classes, means, weights, offsets } =
            stored;
        check_format(format, Self::FORMAT)?;
        check_strength(strength)?;
        check_classes(&classes)?;
        if classes.is_empty() {
            return Err(refused("it knows no class"));
        }
        check_rows("means", &means, classes.len(), dimensions)?;
        check_rows("weights", &weights, classes.len(), dimensions)?;
        check_rows("offsets", &offsets, classes.len(), 1)?;
        Ok(Self { dimensions, strength, classes, means, weights, offsets })
    }
}
