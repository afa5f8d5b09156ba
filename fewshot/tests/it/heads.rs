//! Against scikit-learn's answers (xtask/python/fixtures/heads.py), to the rounding of vectors to f32.

use dozen_fewshot::Examples;
use dozen_fewshot::heads::{DiscriminantHead, Head, NearestHead, NearestOptions, PrototypeHead};
use dozen_fewshot::index::{ExactIndex, VectorIndex};
use serde::Deserialize;

#[derive(Deserialize)]
struct Case {
    name: String,
    features: Vec<Vec<f32>>,
    labels: Vec<u64>,
    queries: Vec<Vec<f32>>,
    strength: f64,
    discriminant: Vec<Vec<f64>>,
    excess: Vec<f64>,
    k: usize,
    temperature: f64,
    shares: Vec<Vec<f64>>,
    cosines: Vec<Vec<f64>>,
}

impl Case {
    fn examples(&self) -> Examples {
        let labelled = self.labels.iter().copied().zip(self.features.iter().map(Vec::as_slice));
        Examples::new(self.features[0].len(), labelled).unwrap()
    }
}

fn cases() -> Vec<Case> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/heads.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// scikit-learn divides the scatter by the number of examples, ours by its degrees of freedom, and ours are unbiased.
#[test]
fn discriminants_agree_with_scikit_learn() {
    for case in cases() {
        let examples = case.examples();
        let head = DiscriminantHead::with_strength(&examples, case.strength).unwrap();
        let free = (examples.len() - examples.classes().len()) as f64 / examples.len() as f64;
        for (query, expected) in case.queries.iter().zip(&case.discriminant) {
            let functions = expected.iter().zip(&case.excess);
            for (ours, (theirs, excess)) in head.logits(query).unwrap().iter().zip(functions) {
                let (scale, theirs) = (theirs.abs().max(1.0), free * theirs + 0.5 * excess);
                assert!((ours.logit - theirs).abs() < 1e-5 * scale, "{}: {ours:?} {theirs}", case.name);
            }
        }
    }
}

/// Ours divide one further vote evenly; without its part the shares are scikit-learn's.
#[test]
fn neighbours_vote_as_in_scikit_learn() {
    for case in cases() {
        let mut index = ExactIndex::new(case.features[0].len());
        for (id, vector) in case.features.iter().enumerate() {
            index.insert(id as u64, vector).unwrap();
        }
        let class_of = |id: u64| case.labels.get(id as usize).copied();
        let options = NearestOptions { k: case.k, temperature: case.temperature };
        let head = NearestHead::new(options, &index, &class_of, case.labels.iter().copied()).unwrap();
        let mut compared = 0;
        for (query, expected) in case.queries.iter().zip(&case.shares) {
            let shares: Vec<f64> =
                head.logits(query).unwrap().iter().map(|logit| logit.logit.exp()).collect();
            if expected.iter().all(|share| *share > 0.0) {
                continue;
            }
            let divided = shares.iter().copied().fold(f64::INFINITY, f64::min);
            let votes = 1.0 - divided * shares.len() as f64;
            for (share, theirs) in shares.iter().zip(expected) {
                let ours = (share - divided) / votes;
                assert!((ours - theirs).abs() < 2e-5, "{}: {ours} {theirs}", case.name);
            }
            compared += 1;
        }
        assert!(compared > 0, "{}: a class without a vote shows what was divided", case.name);
    }
}

#[test]
fn prototypes_are_scikit_learns_centroids() {
    for case in cases() {
        let head = PrototypeHead::of(&case.examples()).unwrap();
        for (query, expected) in case.queries.iter().zip(&case.cosines) {
            for (ours, theirs) in head.logits(query).unwrap().iter().zip(expected) {
                assert!((ours.similarity - theirs).abs() < 1e-6, "{}: {ours:?} {theirs}", case.name);
            }
        }
    }
}
