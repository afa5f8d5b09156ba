//! What hiding patches costs (arXiv 2204.07141, tables 15 and 16): accuracy where the labelled images lose patches and the
//! queries do not, and the cosine between the features of a masked and a whole image.

use super::low_shot::class_balanced_accuracy;
use super::report::{Report, ReportRow};
use super::summary::HeadKind;
use super::{Features, Row, Shots, drawn_splits};
use crate::Error;
use rayon::prelude::*;

/// Which images are labelled, and how often.
#[derive(Clone, Copy, Debug)]
pub struct RobustnessOptions {
    /// Labelled images per class.
    pub shots: Shots,
    /// Random draws of them.
    pub draws: usize,
    /// Seed of draws and masks.
    pub seed: u64,
    /// λ of the logistic regression.
    pub l2: f64,
}

/// A row for each `(share of patches hidden, features)`; `whole` are the features of whole images, of the same set.
pub fn robustness(
    model: String,
    whole: &Features,
    masked: &[(f64, Features)],
    options: &RobustnessOptions,
) -> Result<Report, Error> {
    let splits = drawn_splits(whole, options.shots, options.draws, options.seed)?;
    let head = HeadKind::Logistic { l2: options.l2 };
    let mut rows = Vec::with_capacity(masked.len());
    for (share, features) in masked {
        let accuracies: Vec<f64> = splits
            .par_iter()
            .map(|split| class_balanced_accuracy(features, whole, split, head))
            .collect::<Result<_, _>>()?;
        let row = Row::new(head, Some(options.shots), &accuracies);
        rows.push(ReportRow {
            case: format!("{:.0} % dropped", 100.0 * share),
            accuracy: row.accuracy,
            interval: row.interval.unwrap_or_default(),
            cosine: Some(mean_cosine(whole, features)),
        });
    }
    Ok(Report {
        evaluation: "robustness to dropped patches",
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
    fn labelled_images_are_masked_and_queries_are_not() {
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
        // Masking that turns features around makes every answer wrong; had the queries turned too, all would be right.
        let options = RobustnessOptions { shots: Shots::PerClass(2), draws: 3, seed: 0, l2: 0.0025 };
        let masked = [(0.0, features(vectors(1.0))), (0.9, features(vectors(-1.0)))];
        let report = robustness("m".into(), &whole, &masked, &options).unwrap();
        assert!((report.rows[0].accuracy - 1.0).abs() < 1e-12, "{report:?}");
        assert!((report.rows[0].cosine.unwrap() - 1.0).abs() < 1e-12);
        assert!(report.rows[1].accuracy < 0.01, "{report:?}");
        assert!((report.rows[1].cosine.unwrap() + 1.0).abs() < 1e-12);
    }
}
