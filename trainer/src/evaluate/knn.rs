//! Weighted nearest neighbours on frozen features, as DINO evaluates (arXiv 2104.14294, appendix F.1).

use super::report::{Report, ReportRow};
use super::{Features, Labelled};
use crate::Error;
use rayon::prelude::*;

/// Temperature of the neighbours' votes: exp(cosine / 0.07).
const TEMPERATURE: f32 = 0.07;

/// Accuracy for each number of neighbours; without queries of their own, every image asks all others.
pub fn knn(
    model: String,
    train: &Features,
    queries: Option<&Features>,
    neighbours: &[usize],
) -> Result<Report, Error> {
    let asked = Labelled::new(train, queries)?;
    let most = neighbours.iter().copied().max().unwrap_or(0);
    let available = train.vectors.len() - usize::from(queries.is_none());
    if most == 0 || most > available {
        return Err(Error::Evaluation(format!(
            "{most} neighbours of {available} labelled images were asked for; ask for between 1 and {available}"
        )));
    }
    let answers: Vec<Vec<usize>> = (0..asked.len())
        .into_par_iter()
        .map(|query| {
            let own = queries.is_none().then_some(query);
            let nearest = nearest(&train.vectors, asked.vector(query), own, most);
            neighbours.iter().map(|&k| vote(&nearest[..k], &train.labels, train.classes.len())).collect()
        })
        .collect();
    let row = |(index, k): (usize, &usize)| {
        let right = answers.iter().enumerate().filter(|(query, answer)| answer[index] == asked.label(*query));
        ReportRow::of_proportion(format!("k = {k}"), right.count(), asked.len())
    };
    Ok(Report {
        evaluation: "k-NN",
        model,
        queries: asked.len(),
        classes: train.classes.len(),
        settings: vec![
            ("labelled images", train.vectors.len().to_string()),
            ("temperature", TEMPERATURE.to_string()),
            ("queries", if queries.is_some() { "a set of their own" } else { "leave one out" }.into()),
        ],
        rows: neighbours.iter().enumerate().map(row).collect(),
    })
}

/// The `count` most similar vectors, most similar first; among equals the earlier.
fn nearest(vectors: &[Vec<f32>], query: &[f32], except: Option<usize>, count: usize) -> Vec<(f32, usize)> {
    let cosine = |vector: &[f32]| vector.iter().zip(query).map(|(a, b)| a * b).sum::<f32>();
    let mut all: Vec<(f32, usize)> = vectors
        .iter()
        .enumerate()
        .filter(|(position, _)| Some(*position) != except)
        .map(|(position, vector)| (cosine(vector), position))
        .collect();
    let order = |a: &(f32, usize), b: &(f32, usize)| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1));
    if count < all.len() {
        all.select_nth_unstable_by(count, order);
        all.truncate(count);
    }
    all.sort_unstable_by(order);
    all
}

fn vote(neighbours: &[(f32, usize)], labels: &[usize], classes: usize) -> usize {
    let mut votes = vec![0.0; classes];
    for &(cosine, position) in neighbours {
        votes[labels[position]] += (cosine / TEMPERATURE).exp();
    }
    let best = votes.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1).then(b.0.cmp(&a.0)));
    best.map_or(0, |(class, _)| class)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Unit vectors at these angles (in degrees) of these classes.
    fn at(angles: &[(f32, usize)]) -> Features {
        Features {
            names: angles.iter().map(|(angle, _)| angle.to_string()).collect(),
            labels: angles.iter().map(|(_, label)| *label).collect(),
            classes: vec!["a".into(), "b".into()],
            vectors: angles
                .iter()
                .map(|(angle, _)| vec![angle.to_radians().cos(), angle.to_radians().sin()])
                .collect(),
        }
    }

    #[test]
    fn close_neighbours_outvote_many_far_ones() {
        let train = at(&[(0.0, 0), (60.0, 1), (61.0, 1), (62.0, 1)]);
        let report = knn("m".into(), &train, Some(&at(&[(10.0, 0), (58.0, 1), (20.0, 0)])), &[1, 4]).unwrap();
        // At 20°: e^(0.94/0.07) for the one beats three times e^(0.77/0.07).
        assert!(report.rows.iter().all(|row| (row.accuracy - 1.0).abs() < 1e-12), "{report:?}");
        let report = knn("m".into(), &train, Some(&at(&[(28.0, 0)])), &[1, 4]).unwrap();
        let accuracies: Vec<f64> = report.rows.iter().map(|row| row.accuracy).collect();
        assert_eq!(accuracies, [1.0, 0.0]);
    }

    #[test]
    fn leaving_one_out_an_image_does_not_find_itself() {
        let report = knn("m".into(), &at(&[(0.0, 0), (10.0, 1), (50.0, 1), (60.0, 1)]), None, &[1]).unwrap();
        // The first finds the second, which finds the first; the last two find each other.
        assert!((report.rows[0].accuracy - 0.5).abs() < 1e-12, "{report:?}");
    }

    #[test]
    fn what_cannot_be_asked_is_refused() {
        let set = at(&[(0.0, 0), (10.0, 1)]);
        let error = knn("m".into(), &set, None, &[2]).unwrap_err().to_string();
        assert!(error.contains("between 1 and 1"), "{error}");
        let mut other = set.clone();
        other.classes[1] = "zebra".into();
        let error = knn("m".into(), &set, Some(&other), &[1]).unwrap_err().to_string();
        assert!(error.contains("zebra"), "{error}");
    }
}
