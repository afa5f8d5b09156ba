use super::*;
use crate::heads::Score;

const ANY: &dyn Fn(ClassKey) -> bool = &|_| true;

/// Deterministic unit vectors around one corner per class.
fn clustered(classes: u64, per_class: usize, dimensions: usize) -> Vec<(ClassKey, Vec<f32>)> {
    let mut state = 1u64;
    let mut noise = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    let mut all = Vec::new();
    for class in 0..classes {
        for _ in 0..per_class {
            let mut vector: Vec<f32> = (0..dimensions).map(|_| noise()).collect();
            vector[class as usize % dimensions] += 1.5;
            all.push((class * 10, crate::vector::unit(&vector, dimensions).unwrap()));
        }
    }
    all
}

fn borrowed(examples: &[(ClassKey, Vec<f32>)]) -> Vec<(ClassKey, &[f32])> {
    examples.iter().map(|(class, vector)| (*class, vector.as_slice())).collect()
}

#[test]
fn separable_classes_are_learned_to_the_tolerance() {
    let examples = clustered(5, 6, 16);
    let options = LogisticOptions::default();
    let (head, report) = LogisticHead::fit(&borrowed(&examples), &options).unwrap();
    assert_eq!(head.classes(), [0, 10, 20, 30, 40]);
    assert!(report.gradient_norm <= options.gradient_tolerance);
    assert!(report.iterations > 1);
    assert_eq!(report.training_accuracy, 1.0);
    for (class, vector) in &examples {
        let scores = head.predict(vector, ANY).unwrap();
        assert_eq!(scores[0].class, *class);
        assert!((scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-5);
        let row = head.weights(*class).unwrap();
        let norm: f32 = row.iter().map(|w| w * w).sum::<f32>().sqrt();
        let cosine: f32 = row.iter().zip(vector).map(|(w, x)| w * x).sum::<f32>() / norm;
        assert!((scores[0].similarity - cosine).abs() < 1e-5);
    }
    assert_eq!(head.weights(11), None);
}

#[test]
fn fitting_twice_gives_the_same_bits() {
    let examples = clustered(4, 5, 12);
    let options = LogisticOptions::default();
    assert_eq!(
        LogisticHead::fit(&borrowed(&examples), &options),
        LogisticHead::fit(&borrowed(&examples), &options)
    );
}

#[test]
fn the_order_of_examples_and_the_names_of_classes_do_not_matter() {
    let examples = clustered(4, 5, 12);
    let options = LogisticOptions { gradient_tolerance: 1e-10, ..LogisticOptions::default() };
    let (head, report) = LogisticHead::fit(&borrowed(&examples), &options).unwrap();
    let mut renamed: Vec<_> = borrowed(&examples).into_iter().map(|(class, v)| (100 - class, v)).collect();
    renamed.reverse();
    renamed.rotate_left(7);
    let (other, other_report) = LogisticHead::fit(&renamed, &options).unwrap();
    assert!((report.objective - other_report.objective).abs() < 1e-12);
    for class in head.classes() {
        for (a, b) in head.weights(class).unwrap().iter().zip(other.weights(100 - class).unwrap()) {
            assert!((a - b).abs() < 1e-5, "{a} {b}");
        }
    }
}

#[test]
fn candidates_share_the_probability() {
    let examples = clustered(4, 5, 12);
    let (head, _) = LogisticHead::fit(&borrowed(&examples), &LogisticOptions::default()).unwrap();
    let all = head.predict(&examples[0].1, ANY).unwrap();
    let some = head.predict(&examples[0].1, &|class| class >= 20).unwrap();
    assert_eq!(some.len(), 2);
    let ratio = |scores: &[Score]| {
        let of = |class| scores.iter().find(|score| score.class == class).unwrap().probability;
        of(20) / of(30)
    };
    assert!((ratio(&all) - ratio(&some)).abs() < 1e-4);
    assert!((some[0].probability + some[1].probability - 1.0).abs() < 1e-6);
}

#[test]
fn one_class_is_too_few() {
    let options = LogisticOptions::default();
    let one = [(3, &[1.0f32, 0.0][..]), (3, &[0.0, 1.0][..])];
    assert_eq!(LogisticHead::fit(&one, &options), Err(Error::TooFewClasses { needed: 2, actual: 1 }));
    assert_eq!(LogisticHead::fit(&[], &options), Err(Error::TooFewClasses { needed: 2, actual: 0 }));
}

#[test]
fn bad_vectors_and_options_are_refused() {
    let options = LogisticOptions::default();
    let with = |vector: &'static [f32]| LogisticHead::fit(&[(1, &[1.0, 0.0][..]), (2, vector)], &options);
    assert_eq!(with(&[0.0, f32::NAN]), Err(Error::NotFinite { position: 1 }));
    assert_eq!(with(&[1.0]), Err(Error::Dimensions { expected: 2, actual: 1 }));
    assert_eq!(with(&[0.0, 0.0]), Err(Error::ZeroVector));
    for l2 in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let fit = LogisticHead::fit(&[(1, &[1.0]), (2, &[-1.0])], &LogisticOptions { l2, ..options });
        assert!(matches!(fit, Err(Error::InvalidOption { name: "l2", .. })), "{fit:?}");
    }
}

#[test]
fn giving_up_is_an_error_that_says_where() {
    let examples = clustered(4, 5, 12);
    let options = LogisticOptions { max_iterations: 2, ..LogisticOptions::default() };
    let fit = LogisticHead::fit(&borrowed(&examples), &options);
    assert!(matches!(fit, Err(Error::NotConverged { iterations: 2, .. })), "{fit:?}");
    let options = LogisticOptions { gradient_tolerance: 1e-300, ..LogisticOptions::default() };
    assert!(matches!(LogisticHead::fit(&borrowed(&examples), &options), Err(Error::NotConverged { .. })));
}

#[test]
fn duplicated_and_contradictory_labels_converge() {
    let mut examples = clustered(3, 4, 8);
    let copies: Vec<_> = examples.iter().map(|(class, v)| ((class + 10) % 30, v.clone())).collect();
    examples.extend(copies);
    examples.extend(examples.clone());
    let (_, report) = LogisticHead::fit(&borrowed(&examples), &LogisticOptions::default()).unwrap();
    assert!(report.training_accuracy <= 0.5);
    assert!(report.objective >= 2f64.ln(), "two labels for each image cost at least log 2");
}

#[test]
fn weak_penalties_still_converge() {
    let examples = clustered(6, 4, 8);
    for l2 in [1e-6, 1e-3, 1.0, 1e3] {
        let options = LogisticOptions { l2, ..LogisticOptions::default() };
        let (_, report) = LogisticHead::fit(&borrowed(&examples), &options).unwrap();
        assert!(report.gradient_norm <= options.gradient_tolerance, "{l2} {report:?}");
    }
}

#[test]
fn a_head_survives_storing() {
    let examples = clustered(3, 4, 8);
    let (head, _) = LogisticHead::fit(&borrowed(&examples), &LogisticOptions::default()).unwrap();
    let text = serde_json::to_string(&head).unwrap();
    assert_eq!(serde_json::from_str::<LogisticHead>(&text).unwrap(), head);
}

#[test]
fn stored_heads_that_cannot_be_right_are_refused() {
    let stored = |format: u32, dimensions: usize, classes: &[u64], weights: &[f64]| {
        let json = serde_json::json!(
            {"format": format, "dimensions": dimensions, "classes": classes, "weights": weights}
        );
        serde_json::from_value::<LogisticHead>(json).map_err(|error| error.to_string())
    };
    assert!(stored(1, 2, &[1, 2], &[1.0, 2.0, 3.0, 4.0]).is_ok());
    assert!(stored(2, 2, &[1, 2], &[1.0, 2.0, 3.0, 4.0]).unwrap_err().contains("format is 2"));
    assert!(stored(1, 2, &[1, 2], &[1.0]).unwrap_err().contains("do not fill"));
    assert!(stored(1, 0, &[], &[]).unwrap_err().contains("do not fill"));
    assert!(stored(1, 2, &[2, 1], &[1.0, 2.0, 3.0, 4.0]).unwrap_err().contains("ascending"));
    assert!(stored(1, 1, &[1, 2], &[1.0, 1e300]).unwrap_err().contains("finite"));
}
