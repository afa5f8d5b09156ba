//! Examples unlike the rest of their class.

use super::neighbours::Neighbours;
use super::{Finding, Fix, Kind};
use crate::Examples;

/// A class needs so many examples before one can stand out.
const FEWEST: usize = 8;

/// Deviations below the median at which an example stands out; one in some 30,000 does by chance, were they normal.
const DEVIATIONS: f64 = 4.0;

/// The median absolute deviation times this estimates a normal distribution's standard deviation.
const NORMAL: f64 = 1.4826;

/// Cosines that differ by less than this differ by rounding or compression of the image, however alike a class is.
const SMALLEST_DEVIATION: f64 = 0.01;

/// By typicality, the mean cosine to the nearest of the class, against the class's median and median absolute deviation,
/// which the outliers themselves hardly move.
pub(super) fn find(examples: &Examples, neighbours: &Neighbours) -> Vec<Finding> {
    let mut classes: Vec<Vec<(usize, f64)>> = vec![Vec::new(); examples.classes().len()];
    for (position, &label) in examples.labels().iter().enumerate() {
        if let Some(typicality) = neighbours.typicality(position) {
            classes[label].push((position, typicality));
        }
    }
    let mut findings = Vec::new();
    for members in classes.into_iter().filter(|members| members.len() >= FEWEST) {
        let middle = median(members.iter().map(|member| member.1).collect());
        let spread = NORMAL * median(members.iter().map(|member| (member.1 - middle).abs()).collect());
        let spread = spread.max(SMALLEST_DEVIATION);
        findings.extend(members.into_iter().filter_map(|(position, typicality)| {
            let score = (middle - typicality) / spread;
            (score >= DEVIATIONS).then(|| Finding {
                kind: Kind::Outlier,
                examples: vec![position],
                evidence: Vec::new(),
                score,
                fix: Fix::Accept,
            })
        }));
    }
    findings
}

/// The upper one of an even number.
fn median(mut values: Vec<f64>) -> f64 {
    let middle = values.len() / 2;
    *values.select_nth_unstable_by(middle, f64::total_cmp).1
}
