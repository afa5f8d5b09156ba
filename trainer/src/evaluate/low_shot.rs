//! Fitting heads on the labelled images and scoring the queries.

use super::summary::{HeadKind, LowShotReport, Row};
use super::{Features, Shots, Split, drawn_splits};
use crate::Error;
use dozen_fewshot::heads::{Head, LogisticHead, LogisticOptions, PrototypeHead};
use dozen_fewshot::{ClassKey, Examples};
use rayon::prelude::*;
use std::ops::ControlFlow;

/// What to evaluate.
#[derive(Clone, Debug)]
pub struct LowShotOptions {
    /// Where labelled images come from.
    pub protocol: Protocol,
    /// λ of the logistic regression; a row each.
    pub l2: Vec<f64>,
}

/// Where labelled images come from.
#[derive(Clone, Debug)]
pub enum Protocol {
    /// Drawn at random, several times over.
    Drawn {
        /// Labelled images per class, one row of the table each.
        shots: Vec<Shots>,
        /// Draws per row.
        draws: usize,
        /// Seed of the draws.
        seed: u64,
    },
    /// Given; one accuracy per split.
    Listed(Vec<Split>),
}

/// Class-balanced accuracy of class means and of a logistic regression with each λ.
pub fn low_shot(name: &str, features: &Features, options: &LowShotOptions) -> Result<LowShotReport, Error> {
    let groups = match &options.protocol {
        Protocol::Drawn { shots, draws, seed } => shots
            .iter()
            .map(|&shots| Ok((Some(shots), drawn_splits(features, shots, *draws, *seed)?)))
            .collect::<Result<Vec<_>, Error>>()?,
        Protocol::Listed(splits) => vec![(None, splits.clone())],
    };
    let logistic = options.l2.iter().map(|&l2| HeadKind::Logistic { l2 });
    let heads: Vec<HeadKind> = std::iter::once(HeadKind::Prototype).chain(logistic).collect();
    let mut rows = Vec::new();
    for (shots, splits) in groups {
        for &head in &heads {
            let accuracies: Vec<f64> = splits
                .par_iter()
                .map(|split| class_balanced_accuracy(features, features, split, head))
                .collect::<Result<_, _>>()?;
            rows.push(Row::new(head, shots, &accuracies));
        }
    }
    Ok(LowShotReport {
        model: name.to_owned(),
        images: features.vectors.len(),
        classes: features.classes.len(),
        rows,
    })
}

/// Mean over the classes of the share of their queries that is answered rightly. Examples are taken from `labelled`, queries
/// from `features`: the same images, possibly seen differently.
pub(super) fn class_balanced_accuracy(
    labelled: &Features,
    features: &Features,
    split: &Split,
    kind: HeadKind,
) -> Result<f64, Error> {
    let class_of = |position: usize| features.labels[position] as ClassKey;
    let head: Box<dyn Head> = match kind {
        HeadKind::Prototype => {
            let mut head = PrototypeHead::new(labelled.vectors[0].len());
            for &position in &split.labelled {
                head.add(class_of(position), &labelled.vectors[position])?;
            }
            Box::new(head)
        }
        HeadKind::Logistic { l2 } => {
            let of_position = |&position: &usize| (class_of(position), labelled.vectors[position].as_slice());
            let dimensions = labelled.vectors.first().map_or(0, Vec::len);
            let examples = Examples::new(dimensions, split.labelled.iter().map(of_position))?;
            let options = LogisticOptions { l2, ..LogisticOptions::default() };
            Box::new(LogisticHead::fit(&examples, &options, &mut |_| ControlFlow::Continue(()))?.0)
        }
    };
    let mut asked = vec![0_u32; features.classes.len()];
    let mut right = vec![0_u32; features.classes.len()];
    for &position in &split.queries {
        let scores = head.predict(&features.vectors[position], &|_| true)?;
        let label = features.labels[position];
        asked[label] += 1;
        right[label] += u32::from(scores.first().is_some_and(|best| best.class == class_of(position)));
    }
    let recalls = asked.iter().zip(&right).filter(|(asked, _)| **asked > 0);
    let (sum, classes) = recalls.fold((0.0, 0.0), |(sum, classes), (&asked, &right)| {
        (sum + f64::from(right) / f64::from(asked), classes + 1.0)
    });
    Ok(sum / classes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Class 0 has three queries of which one is right, class 1 has one, which is right.
    #[test]
    fn accuracy_is_balanced_over_the_classes() {
        let (east, north) = (vec![1.0, 0.0], vec![0.0, 1.0]);
        let features = Features {
            names: (0..6).map(|name| name.to_string()).collect(),
            labels: vec![0, 1, 0, 0, 0, 1],
            classes: vec!["east".into(), "north".into()],
            vectors: vec![east.clone(), north.clone(), east, north.clone(), north.clone(), north],
        };
        let split = Split { labelled: vec![0, 1], queries: vec![2, 3, 4, 5] };
        for head in [HeadKind::Prototype, HeadKind::Logistic { l2: 0.01 }] {
            let balanced = class_balanced_accuracy(&features, &features, &split, head).unwrap();
            assert!((balanced - f64::midpoint(1.0 / 3.0, 1.0)).abs() < 1e-12, "{head:?}: {balanced}");
        }
    }
}
