//! The stored form of prototypes.

use serde::{Deserialize, Serialize};

use super::super::stored::{check_classes, check_format, check_rows, refused};
use super::{ClassSum, PrototypeHead, check_shrinkage, check_temperature};
use crate::matrix::dot;
use crate::{ClassKey, Error};

/// `format` changes whenever its meaning does.
#[derive(Serialize, Deserialize)]
pub(super) struct StoredPrototypeHead {
    format: u32,
    dimensions: usize,
    temperature: f64,
    shrinkage: f64,
    classes: Vec<ClassKey>,
    /// Examples of each class.
    examples: Vec<usize>,
    /// `[class][dimension]`: sums, not means, so that examples can still be taken out exactly.
    sums: Vec<f64>,
}

impl From<PrototypeHead> for StoredPrototypeHead {
    fn from(head: PrototypeHead) -> Self {
        Self {
            format: PrototypeHead::FORMAT,
            dimensions: head.dimensions,
            temperature: head.temperature,
            shrinkage: head.shrinkage,
            classes: head.classes.keys().copied().collect(),
            examples: head.classes.values().map(|entry| entry.examples).collect(),
            sums: head.classes.into_values().flat_map(|entry| entry.sum).collect(),
        }
    }
}

impl TryFrom<StoredPrototypeHead> for PrototypeHead {
    type Error = Error;

    fn try_from(stored: StoredPrototypeHead) -> Result<Self, Error> {
        check_format(stored.format, Self::FORMAT)?;
        check_temperature(stored.temperature)?;
        check_shrinkage(stored.shrinkage)?;
        check_classes(&stored.classes)?;
        check_rows("sums", &stored.sums, stored.classes.len(), stored.dimensions)?;
        if stored.examples.len() != stored.classes.len() {
            return Err(refused("it does not count the examples of every class"));
        }
        let mut head = Self::new(stored.dimensions);
        head.temperature = stored.temperature;
        head.shrinkage = stored.shrinkage;
        let counted = stored.classes.into_iter().zip(stored.examples);
        for ((class, examples), sum) in counted.zip(stored.sums.chunks_exact(stored.dimensions)) {
            let square = dot(sum, sum);
            // Unit vectors add up to at most their number.
            if examples == 0 || square.sqrt() > examples as f64 * (1.0 + 1e-6) {
                return Err(refused(format!(
                    "the sum of class {class} is not one of {examples} unit vectors"
                )));
            }
            for (means, component) in head.means.iter_mut().zip(sum) {
                *means += component / examples as f64;
            }
            head.classes.insert(class, ClassSum { sum: sum.to_vec(), examples, square });
        }
        Ok(head)
    }
}
