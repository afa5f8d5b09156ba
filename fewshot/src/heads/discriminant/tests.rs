use super::*;
use crate::heads::PrototypeHead;
use crate::matrix::Cholesky;
use std::ops::ControlFlow;

fn go_on(_: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Deterministic vectors around one corner per class; the class of key 10·c has c + 1 examples.
fn examples(classes: u64, dimensions: usize) -> Examples {
    let mut state = 5u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut labelled = Vec::new();
    for class in 0..classes {
        for _ in 0..=class {
            let mut vector: Vec<f32> = (0..dimensions).map(|_| noise()).collect();
            vector[class as usize % dimensions] += 1.0;
            labelled.push((10 * class, vector));
        }
    }
    Examples::new(dimensions, labelled.iter().map(|(class, vector)| (*class, vector.as_slice()))).unwrap()
}

/// Σ of the definition.
fn covariance_of(scatter: &Scatter, examples: &Examples, strength: f64) -> Vec<f64> {
    let d = examples.dimensions();
    let freedom = (examples.len() - examples.classes().len()) as f64;
    let mut covariance = vec![0.0; d * d];
    for (row, &label) in scatter.rows().chunks(d).zip(examples.labels()) {
        let deviation: Vec<f64> =
            row.iter().zip(&scatter.means()[label * d..]).map(|(component, mean)| component - mean).collect();
        for i in 0..d {
            for j in 0..d {
                covariance[i * d + j] += deviation[i] * deviation[j] / freedom;
            }
        }
    }
    let variance = (0..d).map(|i| covariance[i * d + i]).sum::<f64>() / d as f64;
    for i in 0..d {
        for j in 0..d {
            covariance[i * d + j] *= 1.0 - strength;
        }
        covariance[i * d + i] += strength * variance;
    }
    covariance
}

/// tr(left⁻¹·right).
fn trace_of_solution(left: &[f64], right: &[f64]) -> f64 {
    let order = left.len().isqrt();
    let factor = Cholesky::new(left, order).unwrap();
    let columns = right.chunks(order).enumerate();
    columns
        .map(|(position, column)| {
            let mut column = column.to_vec();
            factor.solve(&mut column);
            column[position]
        })
        .sum()
}

#[test]
fn weights_solve_the_definition() {
    for (classes, dimensions) in [(4, 3), (5, 24)] {
        let examples = examples(classes, dimensions);
        let scatter = Scatter::new(&examples);
        let head = DiscriminantHead::with_strength(&examples, 0.3).unwrap();
        let covariance = covariance_of(&scatter, &examples, 0.3);
        for (mean, weights) in head.means.chunks(dimensions).zip(head.weights.chunks(dimensions)) {
            for (row, mean) in covariance.chunks(dimensions).zip(mean) {
                assert!((dot(row, weights) - mean).abs() < 1e-9);
            }
        }
        let query = unit_f64(examples.vector(1), dimensions).unwrap();
        let scattered = trace_of_solution(&covariance, &covariance_of(&scatter, &examples, 0.0));
        for ((logit, class), count) in
            head.logits(examples.vector(1)).unwrap().iter().zip(0..).zip(examples.counts())
        {
            let (mean, weights) = (&head.means[class * dimensions..], &head.weights[class * dimensions..]);
            let (mean, weights) = (&mean[..dimensions], &weights[..dimensions]);
            let square = dot(mean, weights) - scattered / count as f64;
            assert!((logit.logit - (dot(&query, weights) - 0.5 * square)).abs() < 1e-8);
            assert!((logit.similarity - dot(mean, &query) / dot(mean, mean).sqrt()).abs() < 1e-9);
        }
    }
}

/// Fewer examples than dimensions and more, classes of one, two and many.
#[test]
fn leaving_one_out_is_fitting_again() {
    for (classes, dimensions, strength) in [(5, 3, 0.1), (5, 24, 0.1), (5, 24, 0.9), (2, 4, 0.5)] {
        let examples = examples(classes, dimensions);
        let prior = Scatter::new(&examples).prior(strength);
        let held_out = DiscriminantHead::leave_one_out(&examples, strength).unwrap();
        assert_eq!(held_out.len(), examples.len() - 1, "the class of one is not judged");
        for (row, &example) in held_out.rows().zip(held_out.examples()) {
            let kept: Vec<usize> = (0..examples.len()).filter(|&other| other != example).collect();
            let others = examples.subset(&kept);
            let head =
                DiscriminantHead::of_scatter(&others, &Scatter::new(&others), strength, prior).unwrap();
            for (ours, again) in row.iter().zip(head.logits(examples.vector(example)).unwrap()) {
                let scale = again.logit.abs().max(1.0);
                assert!((ours - again.logit).abs() < 1e-9 * scale, "{ours} {}", again.logit);
            }
        }
    }
}

#[test]
fn the_fit_takes_the_strength_of_least_loss() {
    let examples = examples(6, 8);
    let head = DiscriminantHead::fit(&examples, &mut go_on).unwrap();
    assert!(DiscriminantHead::STRENGTHS.contains(&head.strength()));
    assert_eq!(head, DiscriminantHead::with_strength(&examples, head.strength()).unwrap());
    let mut stop = |_| ControlFlow::Break(());
    assert_eq!(DiscriminantHead::fit(&examples, &mut stop), Err(Error::Cancelled));
}

#[test]
fn without_scatter_the_means_decide() {
    let vectors: [(ClassKey, &[f32]); 4] =
        [(1, &[1.0, 0.0]), (2, &[0.0, 1.0]), (1, &[1.0, 0.0]), (2, &[0.0, 1.0])];
    for examples in [&vectors[..2], &vectors[..]] {
        let examples = Examples::new(2, examples.iter().copied()).unwrap();
        let head = DiscriminantHead::fit(&examples, &mut go_on).unwrap();
        let logits = head.logits(&[0.8, 0.6]).unwrap();
        let expected = 0.2 / PrototypeHead::TEMPERATURE;
        let scale = if examples.len() == 2 { 1.0 } else { 1.0 / head.strength() };
        assert!((logits[0].logit - logits[1].logit - scale * expected).abs() < 1e-5, "{logits:?}");
    }
}

#[test]
fn one_class_and_strengths_out_of_range_are_refused() {
    let one = examples(1, 2);
    let few = Err(Error::TooFewClasses { needed: 2, actual: 1 });
    assert_eq!(DiscriminantHead::fit(&one, &mut go_on), few);
    assert_eq!(DiscriminantHead::with_strength(&one, 0.5), few);
    for strength in [0.0, 1.0, -1.0, f64::NAN] {
        assert!(DiscriminantHead::with_strength(&examples(3, 2), strength).is_err());
        assert!(DiscriminantHead::leave_one_out(&examples(3, 2), strength).is_err());
    }
    let head = DiscriminantHead::with_strength(&examples(3, 2), 0.5).unwrap();
    assert_eq!(head.logits(&[1.0]).err(), Some(Error::Dimensions { expected: 2, actual: 1 }));
}

#[test]
fn a_head_survives_storing_and_others_are_refused() {
    let head = DiscriminantHead::fit(&examples(4, 6), &mut go_on).unwrap();
    let stored = serde_json::to_value(&head).unwrap();
    let read: DiscriminantHead = serde_json::from_value(stored.clone()).unwrap();
    assert_eq!(read, head);
    for (field, value) in [
        ("format", serde_json::json!(2)),
        ("strength", serde_json::json!(1.5)),
        ("classes", serde_json::json!([0, 20, 10, 30])),
        ("classes", serde_json::json!([])),
        ("means", serde_json::json!([1.0])),
        ("weights", serde_json::json!([1.0])),
        ("offsets", serde_json::json!([1.0])),
        ("dimensions", serde_json::json!(0)),
    ] {
        let mut changed = stored.clone();
        changed[field] = value;
        let refused = serde_json::from_value::<DiscriminantHead>(changed).unwrap_err().to_string();
        assert!(refused.contains("stored head") || refused.contains("strength"), "{field}: {refused}");
    }
}
