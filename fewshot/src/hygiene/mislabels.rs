//! Probable mislabels by confident learning (arXiv 1911.00068), confirmed by the nearest neighbours.

use super::neighbours::Neighbours;
use super::{Finding, Fix, Kind, Probabilities};
use crate::Examples;

/// Examples that heads fitted without them believe less than is usual in their own class, and believe to be another
/// class's at least as much as is usual there, whose neighbours are no more often of their own class than of that one.
///
/// What is usual is the mean probability that the class's own examples are given: thresholds adapt to classes that are
/// hard, and to heads that are modest.
pub(super) fn find(
    examples: &Examples,
    probabilities: &Probabilities,
    neighbours: &Neighbours,
) -> Vec<Finding> {
    let usual = usual_confidence(examples, probabilities);
    let labels = examples.labels();
    let mut findings = Vec::new();
    for (position, row) in probabilities.rows.iter().enumerate() {
        let Some(row) = row else { continue };
        let own = labels[position];
        let believed = (0..row.len()).filter(|&class| usual[class].is_some_and(|usual| row[class] >= usual));
        let Some(other) = believed.reduce(|best, class| if row[class] > row[best] { class } else { best })
        else {
            continue;
        };
        let votes =
            |class| neighbours.nearest(position).iter().filter(|&&(near, _)| labels[near] == class).count();
        if other != own && usual[own].is_some_and(|usual| row[own] < usual) && votes(other) >= votes(own) {
            let near = neighbours.nearest(position).iter().map(|&(near, _)| near);
            let mut evidence: Vec<usize> = near.filter(|&near| labels[near] == other).collect();
            evidence.sort_unstable();
            findings.push(Finding {
                kind: Kind::Mislabel,
                examples: vec![position],
                evidence,
                score: row[other] - row[own],
                fix: Fix::Move { to: examples.classes()[other] },
            });
        }
    }
    findings
}

/// Mean probability of its own class over each class's judged examples; none without any.
fn usual_confidence(examples: &Examples, probabilities: &Probabilities) -> Vec<Option<f64>> {
    let mut sums = vec![(0.0, 0); examples.classes().len()];
    for (row, &label) in probabilities.rows.iter().zip(examples.labels()) {
        if let Some(row) = row {
            sums[label].0 += row[label];
            sums[label].1 += 1;
        }
    }
    sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect()
}
