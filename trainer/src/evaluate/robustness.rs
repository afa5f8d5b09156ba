//! What leaving out patches costs (arXiv 2204.07141, tables 15 and 16): accuracy where the labelled images lose patches and
//! the queries do not, or the other way round, and the cosine between the features of a masked and a whole image.

use super::low_shot::class_balanced_accuracy;
use super::report::{Report, ReportRow};
use super::summary::HeadKind;
use super::{Features, Row, Shots, drawn_splits};
use crate::Error;
use rayon::prelude::*;

/// Which images lose patches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Masked {
    /// The labelled ones, as in the paper.
    Labelled,
    /// The queries, as where a server embeds them within a budget.
    Queries,
}

/// Which images are labelled, and how often.
#[derive(Clone, Copy, Debug)]
pub struct RobustnessOptions {
    /// Which lose patches.
    pub masked: Masked,
    /// Labelled images per class.
    pub shots: Shots,
    /// Random draws of them.
    pub draws: usize,
    /// Seed of draws and masks.
    pub seed: u64,
    /// λ of the logistic regression.
    pub l2: f64,
}

/// A row for each `(case, features of masked images)`; `whole` are the features of whole images, of the same set.
pub fn robustness(
    model: String,
    whole: &Features,
    masked: &[(String, Features)],
    options: &RobustnessOptions,
) -> Result<Report, Error> {
    let splits = drawn_splits(whole, options.shots, options.draws, options.seed)?;
    let head = HeadKind::Logistic { l2: options.l2 };
    let mut rows = Vec::with_capacity(masked.len());
    for (case, features) in masked {
        let (labelled, queries) = match options.masked {
            Masked::Labelled => (features, whole),
            Masked::Queries => (whole, features),
        };
        let accuracies: Vec<f64> = splits
            .par_iter()
            .map(|split| class_balanced_accuracy(labelled, queries, split, head))
            .collect::<Result<_, _>>()?;
        let row = Row::new(head, Some(options.shots), &accuracies);
        rows.push(ReportRow {
            case: case.clone(),
            accuracy: row.accuracy,
            interval: row.interval.unwrap_or_default(),
            cosine: Some(mean_cosine(whole, features)),
        });
    }
    Ok(Report {
        evaluation: match options.masked {
            Masked::Labelled => "robustness to dropped patches",
            Masked::Queries => "queries within a patch budget",
        },
        model,
        queries: splits.first().map_or(0, |split| split.queries.len()),
        classes: whole.classes.len(),
        settings: vec![
            ("labelled images per class", options.shots.to_string()),
            ("draws", options.draws.to_string()),
            ("logistic λ", options.l2.to_string()),
            ("seed", options.seed.to_string()),
        ],
        rows,
    })
}

fn mean_cosine(whole: &Features, masked: &Features) -> f64 {
    let cosine = |(one, other): (&Vec<f32>, &Vec<f32>)| {
        one.iter().zip(other).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>()
    };
    let sum: f64 = whole.vectors.iter().zip(&masked.vectors).map(cosine).sum();
    sum / whole.vectors.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn either_labelled_images_or_queries_are_masked() {
        let vectors = |sign: f32| {
            (0..12)
                .map(|image| if image % 2 == 0 { vec![sign, 0.0] } else { vec![0.0, sign] })
                .collect::<Vec<_>>()
        };
        let features = |vectors: Vec<Vec<f32>>| Features {
            names: (0..12).map(|image| image.to_string()).collect(),
            labels: (0..12).map(|image| image % 2).collect(),
            classes: vec!["a".into(), "b".into()],
            vectors,
        };
        let whole = features(vectors(1.0));
        // Masking that turns features around makes every answer wrong; had both turned, all would be right.
        for masked in [Masked::Labelled, Masked::Queries] {
            let options =
                RobustnessOptions { masked, shots: Shots::PerClass(2), draws: 3, seed: 0, l2: 0.0025 };
            let cases =
                [("as is".into(), features(vectors(1.0))), ("turned".into(), features(vectors(-1.0)))];
            let report = robustness("m".into(), &whole, &cases, &options).unwrap();
            assert!((report.rows[0].accuracy - 1.0).abs() < 1e-12, "{report:?}");
            assert!((report.rows[0].cosine.unwrap() - 1.0).abs() < 1e-12);
            assert!(report.rows[1].accuracy < 0.01, "{report:?}");
            assert!((report.rows[1].cosine.unwrap() + 1.0).abs() < 1e-12);
        }
    }
}
