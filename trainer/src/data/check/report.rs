//! What a look at a data set finds.

use crate::data::{Skipped, Source};
use serde::Serialize;
use std::collections::BTreeMap;

/// Everything found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// What the paths were recognised as.
    pub sources: Vec<Source>,
    /// Pictures found.
    pub images: usize,
    /// Pictures that can be decoded.
    pub readable: usize,
    /// The others.
    pub unreadable: Vec<Skipped>,
    /// Readable pictures by format.
    pub formats: BTreeMap<&'static str, usize>,
    /// Sizes of readable pictures.
    pub sizes: Sizes,
    /// Readable pictures by class.
    pub classes: Classes,
    /// Groups of pictures with the same pixels, whatever their files; only pictures of one group are equal.
    pub exact_duplicates: Vec<Vec<String>>,
    /// Groups of pictures that look the same, one of each exact group among them.
    pub near_duplicates: Vec<Vec<String>>,
    /// Groups of either kind whose pictures have different labels.
    pub label_conflicts: Vec<LabelConflict>,
    /// What holding the pictures decoded takes.
    pub memory: Memory,
    /// Why a run would not start.
    pub errors: Vec<String>,
    /// What is worth a look before one.
    pub warnings: Vec<String>,
}

/// Smallest, middle and largest of something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one; of an even number, the upper of the two.
    pub median: f64,
    /// The largest.
    pub max: f64,
}

/// Sizes of pictures, upright.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Sizes {
    /// Pixels.
    pub width: Spread,
    /// Pixels.
    pub height: Spread,
    /// Millions of pixels.
    pub megapixels: Spread,
    /// Width divided by height.
    pub aspect: Spread,
    /// Pictures with a side shorter than a view's, which are enlarged. Empty without a configuration.
    pub smaller_than_views: Vec<SmallerThanView>,
}

/// Pictures smaller than a kind of view.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct SmallerThanView {
    /// The view's side in pixels.
    pub side: usize,
    /// How many.
    pub images: usize,
}

/// Balance of the classes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Classes {
    /// Pictures of each class.
    pub images: BTreeMap<String, usize>,
    /// Pictures per class.
    pub spread: Spread,
    /// The largest class divided by the smallest.
    pub imbalance: f64,
}

/// Pictures that look the same and are labelled differently.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelConflict {
    /// Whether their pixels are the same.
    pub exact: bool,
    /// Names and labels.
    pub images: Vec<LabelledImage>,
}

/// A picture and its label.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabelledImage {
    /// Its name.
    pub name: String,
    /// Its label.
    pub label: String,
}

/// What holding the pictures decoded takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Bytes of all pictures, decoded and shrunk as a run would.
    pub decoded_bytes: u64,
    /// `data.memory_mib`.
    pub memory_mib: u64,
    /// Whether they are kept decoded, rather than decoded batch by batch.
    pub fits: bool,
}

impl Spread {
    /// Of nothing, zeros.
    pub(super) fn of(values: impl Iterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.collect();
        values.sort_unstable_by(f64::total_cmp);
        let (Some(&min), Some(&max)) = (values.first(), values.last()) else { return Self::default() };
        Self { min, median: values[values.len() / 2], max }
    }
}
