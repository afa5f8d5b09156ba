//! Against scikit-learn's fits (xtask/python/fixtures/logistic.py).

use dozen_fewshot::heads::{Head, LogisticHead, LogisticOptions};
use serde::Deserialize;

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

fn fit(case: &Case) -> (LogisticHead, f64) {
    let examples: Vec<_> = case.labels.iter().copied().zip(case.features.iter().map(Vec::as_slice)).collect();
    let options = LogisticOptions { l2: case.l2, ..LogisticOptions::default() };
    let (head, report) = LogisticHead::fit(&examples, &options).unwrap();
    assert!(report.gradient_norm <= options.gradient_tolerance, "{}: {report:?}", case.name);
    (head, report.objective)
}

#[test]
fn objectives_agree_with_scikit_learn() {
    for case in cases() {
        let (_, objective) = fit(&case);
        assert!(
            (objective - case.objective).abs() < 1e-6,
            "{}: {objective}, scikit-learn {}",
            case.name,
            case.objective
        );
        // Convexity: nobody can be below the minimum by more than the tolerances allow.
        assert!(objective < case.objective + 1e-9, "{}: {objective}", case.name);
    }
}

#[test]
fn weights_agree_with_scikit_learn() {
    for case in cases() {
        let (head, _) = fit(&case);
        // A gradient within g puts the weights within about g·n/λ of the minimum.
        let tolerance = 1e-4 + 2e-7 * case.labels.len() as f64 / case.l2;
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
        let (head, _) = fit(&case);
        for (query, expected) in case.queries.iter().zip(&case.predictions) {
            assert_eq!(head.predict(query, &|_| true).unwrap()[0].class, *expected, "{}", case.name);
        }
    }
}
