//! Against scikit-learn's fits (xtask/python/fixtures/logistic.py).

use dozen_fewshot::Examples;
use dozen_fewshot::heads::{FitReport, Head, LogisticHead, LogisticOptions};
use serde::Deserialize;
use std::ops::ControlFlow;

#[derive(Deserialize)]
struct Case {
    name: String,
    l2: f64,
    features: Vec<Vec<f32>>,
    labels: Vec<u64>,
    queries: Vec<Vec<f32>>,
    objective: f64,
    weights: Vec<Vec<f64>>,
    predictions: Vec<u64>,
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/logistic/cases.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn fit(case: &Case, tolerance: f64) -> (LogisticHead, FitReport) {
    let labelled = case.labels.iter().copied().zip(case.features.iter().map(Vec::as_slice));
    let examples = Examples::new(case.features[0].len(), labelled).unwrap();
    let options = LogisticOptions { l2: case.l2, tolerance, ..LogisticOptions::default() };
    LogisticHead::fit(&examples, &options, &mut |_| ControlFlow::Continue(())).unwrap()
}

#[test]
fn objectives_agree_with_scikit_learn() {
    for case in cases() {
        let (_, report) = fit(&case, LogisticOptions::default().tolerance);
        assert!(
            (report.objective / case.objective - 1.0).abs() < 1e-6,
            "{}: {report:?}, scikit-learn {}",
            case.name,
            case.objective
        );
    }
}

#[test]
fn weights_agree_with_scikit_learn() {
    for case in cases() {
        let (head, report) = fit(&case, 1e-10);
        // Strong convexity: the squared distance to the minimum is at most 2·gap·objective·n/λ.
        let tolerance = 1e-5 + (2e-10 * report.objective * case.labels.len() as f64 / case.l2).sqrt();
        for (class, expected) in case.weights.iter().enumerate() {
            for (ours, theirs) in head.weights(class as u64).unwrap().iter().zip(expected) {
                assert!((f64::from(*ours) - theirs).abs() < tolerance, "{}: {ours} {theirs}", case.name);
            }
        }
    }
}

#[test]
fn predictions_agree_with_scikit_learn() {
    for case in cases() {
        let (head, _) = fit(&case, LogisticOptions::default().tolerance);
        for (query, expected) in case.queries.iter().zip(&case.predictions) {
            assert_eq!(head.predict(query, &|_| true).unwrap()[0].class, *expected, "{}", case.name);
        }
    }
}
