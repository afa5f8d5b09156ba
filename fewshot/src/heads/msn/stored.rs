//! The stored form of learned prototypes.

use serde::{Deserialize, Serialize};

use super::super::stored::{check_classes, check_format, check_rows, refused};
use super::MsnHead;
use crate::{ClassKey, Error};

/// `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredMsnHead {
    format: u32,
    dimensions: usize,
    temperature: f64,
    classes: Vec<ClassKey>,
    /// Number of functions of each class.
    functions: Vec<usize>,
    /// `[function][dimension]`.
    weights: Vec<f64>,
    offsets: Vec<f64>,
}

impl From<MsnHead> for StoredMsnHead {
    fn from(head: MsnHead) -> Self {
        let MsnHead { dimensions, temperature, classes, class_of, weights, offsets } = head;
        let mut functions = vec![0; classes.len()];
        for class in class_of {
            functions[class] += 1;
        }
        Self { format: MsnHead::FORMAT, dimensions, temperature, classes, functions, weights, offsets }
    }
}

impl TryFrom<StoredMsnHead> for MsnHead {
    type Error = Error;

    fn try_from(stored: StoredMsnHead) -> Result<Self, Error> {
        let StoredMsnHead { format, dimensions, temperature, classes, functions, weights, offsets } = stored;
        check_format(format, Self::FORMAT)?;
        check_classes(&classes)?;
        if !(temperature.is_finite() && temperature > 0.0) {
            return Err(refused(format!("its temperature is {temperature}")));
        }
        if classes.is_empty() || functions.len() != classes.len() || functions.contains(&0) {
            return Err(refused("it does not have a function for every class"));
        }
        // Checked before anything of that size is made.
        let total = functions.iter().try_fold(0usize, |sum, &own| sum.checked_add(own));
        let total = total.ok_or_else(|| refused("it counts more functions than there can be"))?;
        check_rows("weights", &weights, total, dimensions)?;
        check_rows("offsets", &offsets, total, 1)?;
        let functions = functions.into_iter().enumerate();
        let class_of = functions.flat_map(|(class, own)| std::iter::repeat_n(class, own)).collect();
        Ok(Self { dimensions, temperature, classes, class_of, weights, offsets })
    }
}
