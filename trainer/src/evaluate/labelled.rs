//! Queries with the labels of a training set.

use super::Features;
use crate::Error;

/// Queries, of a set of their own or the training set itself, their labels in the training set's numbering.
pub(super) struct Labelled<'a> {
    features: &'a Features,
    /// Class of the training set for each class of the queries.
    class: Vec<usize>,
}

impl<'a> Labelled<'a> {
    /// Fails where there are fewer than two classes, or queries of a class nobody learns.
    pub(super) fn new(train: &'a Features, queries: Option<&'a Features>) -> Result<Self, Error> {
        if train.classes.len() < 2 {
            return Err(Error::Evaluation(
                "two classes or more are needed: one folder of images each".into(),
            ));
        }
        let features = queries.unwrap_or(train);
        let class = features.classes.iter().map(|class| {
            train.classes.binary_search(class).map_err(|_| {
                Error::Evaluation(format!(
                    "class {class} is among the queries, but there are no training images of it; add some, or leave its \
                     folder out"
                ))
            })
        });
        Ok(Self { features, class: class.collect::<Result<_, _>>()? })
    }

    pub(super) fn len(&self) -> usize {
        self.features.vectors.len()
    }

    pub(super) fn vector(&self, query: usize) -> &[f32] {
        &self.features.vectors[query]
    }

    pub(super) fn label(&self, query: usize) -> usize {
        self.class[self.features.labels[query]]
    }
}
