use super::*;
use crate::heads::Score;
use std::ops::ControlFlow;

const ANY: &dyn Fn(ClassKey) -> bool = &|_| true;

/// Deterministic vectors around one corner per class.
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
            all.push((class * 10, vector));
        }
    }
    all
}

fn examples(labelled: &[(ClassKey, Vec<f32>)]) -> Examples {
    let dimensions = labelled.first().map_or(0, |(_, vector)| vector.len());
    Examples::new(dimensions, labelled.iter().map(|(class, vector)| (*class, vector.as_slice()))).unwrap()
}

fn fit(examples: &Examples, options: &LogisticOptions) -> Result<(LogisticHead, FitReport), Error> {
    LogisticHead::fit(examples, options, &mut |_| ControlFlow::Continue(()))
}

fn fit_weighted(
    examples: &Examples,
    weights: &[f64],
    options: &LogisticOptions,
) -> Result<LogisticHead, Error> {
    Ok(LogisticHead::fit_weighted(examples, weights, options, &mut |_| ControlFlow::Continue(()))?.0)
}

/// The objective in f64, as its definition reads.
fn plain_objective(head: &LogisticHead, examples: &Examples, weights: &[f64], l2: f64) -> f64 {
    let rows = || head.weights.chunks_exact(head.dimensions);
    let mut sum = 0.5 * l2 * head.weights.iter().map(|&weight| f64::from(weight).powi(2)).sum::<f64>();
    for (example, (&label, weight)) in examples.labels().iter().zip(weights).enumerate() {
        let vector = examples.vector(example);
        let product = |row: &[f32]| -> f64 {
            row.iter().zip(vector).map(|(&weight, &x)| f64::from(weight) * f64::from(x)).sum()
        };
        let mut logits: Vec<f64> = rows().map(product).collect();
        let own = logits[label];
        sum += weight * (crate::matrix::softmax(&mut logits) - own);
    }
    sum / weights.iter().sum::<f64>()
}

/// Far below the default, so that fits can be compared weight by weight.
const EXACT: f64 = 1e-10;

fn assert_same_weights(a: &LogisticHead, b: &LogisticHead) {
    assert_eq!(a.classes, b.classes);
    for (a, b) in a.weights.iter().zip(&b.weights) {
        assert!((a - b).abs() < 1e-4, "{a} {b}");
    }
}

#[test]
fn separable_classes_are_learned_to_the_tolerance() {
    let labelled = clustered(5, 6, 16);
    let examples = examples(&labelled);
    let options = LogisticOptions::default();
    let (head, report) = fit(&examples, &options).unwrap();
    assert_eq!(head.classes(), [0, 10, 20, 30, 40]);
    assert!(report.gap <= options.tolerance && report.iterations > 1, "{report:?}");
    assert_eq!(report.training_accuracy, 1.0);
    for example in 0..examples.len() {
        let (class, vector) = (examples.classes()[examples.labels()[example]], examples.vector(example));
        let scores = head.predict(vector, ANY).unwrap();
        assert_eq!(scores[0].class, class);
        assert!((scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-5);
        let row = head.weights(class).unwrap();
        let norm: f32 = row.iter().map(|w| w * w).sum::<f32>().sqrt();
        let cosine: f32 = row.iter().zip(vector).map(|(w, x)| w * x).sum::<f32>() / norm;
        assert!((scores[0].similarity - cosine).abs() < 1e-5);
    }
    assert_eq!(head.weights(11), None);
}

#[test]
fn the_reported_objective_and_gap_are_true() {
    let examples = examples(&clustered(12, 5, 24));
    for l2 in [1e-3, 0.3, 30.0] {
        let options = LogisticOptions { l2, ..LogisticOptions::default() };
        let (head, report) = fit(&examples, &options).unwrap();
        let (best, _) = fit(&examples, &LogisticOptions { tolerance: EXACT, ..options }).unwrap();
        let objective = |head| plain_objective(head, &examples, &vec![1.0; examples.len()], l2);
        assert!((report.objective / objective(&head) - 1.0).abs() < 1e-6, "{report:?}");
        let least = objective(&best);
        assert!(objective(&head) <= least * (1.0 + report.gap + 1e-9), "{report:?} {least}");
        assert!(objective(&head) >= least * (1.0 - 1e-9), "{report:?} {least}");
    }
}

/// Enough examples, classes and dimensions for several parts, blocks and the full preconditioner.
#[test]
fn the_number_of_threads_changes_nothing() {
    let examples = examples(&clustered(9, 100, 70));
    let with_threads = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| fit(&examples, &LogisticOptions::default())).unwrap()
    };
    let (head, report) = with_threads(1);
    assert_eq!(with_threads(3), (head, report));
    assert!(report.gap <= 1e-6 && report.training_accuracy > 0.9, "{report:?}");
}

#[test]
fn an_example_that_weighs_two_counts_twice() {
    let labelled = clustered(4, 3, 12);
    let options = LogisticOptions { tolerance: EXACT, ..LogisticOptions::default() };
    let mut twice = labelled.clone();
    twice.extend(labelled[2..5].to_vec());
    let mut weights = vec![1.0; labelled.len()];
    weights[2..5].fill(2.0);
    let (doubled, _) = fit(&examples(&twice), &options).unwrap();
    assert_same_weights(&fit_weighted(&examples(&labelled), &weights, &options).unwrap(), &doubled);
}

#[test]
fn balanced_classes_weigh_the_same() {
    let labelled: Vec<_> = clustered(3, 6, 12)
        .into_iter()
        .enumerate()
        .filter(|(i, _)| i % 6 < 2 + 2 * (i / 6))
        .map(|(_, e)| e)
        .collect();
    let examples = examples(&labelled);
    assert_eq!(examples.counts(), [2, 4, 6]);
    let options = LogisticOptions { tolerance: EXACT, ..LogisticOptions::default() };
    let balanced = LogisticOptions { class_weights: ClassWeights::Balanced, ..options };
    let by_hand: Vec<f64> = examples.labels().iter().map(|&label| [2.0, 1.0, 2.0 / 3.0][label]).collect();
    let (head, report) = fit(&examples, &balanced).unwrap();
    assert_same_weights(&head, &fit_weighted(&examples, &by_hand, &options).unwrap());
    let objective = plain_objective(&head, &examples, &by_hand, options.l2);
    assert!((report.objective / objective - 1.0).abs() < 1e-6);
}

#[test]
fn the_order_of_examples_and_the_names_of_classes_do_not_matter() {
    let labelled = clustered(4, 5, 12);
    let options = LogisticOptions { tolerance: EXACT, ..LogisticOptions::default() };
    let (head, report) = fit(&examples(&labelled), &options).unwrap();
    let mut renamed: Vec<_> = labelled.into_iter().map(|(class, v)| (100 - class, v)).collect();
    renamed.reverse();
    renamed.rotate_left(7);
    let (other, other_report) = fit(&examples(&renamed), &options).unwrap();
    assert!((report.objective - other_report.objective).abs() < 1e-6);
    for class in head.classes() {
        for (a, b) in head.weights(class).unwrap().iter().zip(other.weights(100 - class).unwrap()) {
            assert!((a - b).abs() < 1e-4, "{a} {b}");
        }
    }
}

#[test]
fn candidates_share_the_probability() {
    let examples = examples(&clustered(4, 5, 12));
    let (head, _) = fit(&examples, &LogisticOptions::default()).unwrap();
    let all = head.predict(examples.vector(0), ANY).unwrap();
    let some = head.predict(examples.vector(0), &|class| class >= 20).unwrap();
    assert_eq!(some.len(), 2);
    let ratio = |scores: &[Score]| {
        let of = |class| scores.iter().find(|score| score.class == class).unwrap().probability;
        of(20) / of(30)
    };
    assert!((ratio(&all) - ratio(&some)).abs() < 1e-4);
    assert!((some[0].probability + some[1].probability - 1.0).abs() < 1e-6);
}

#[test]
fn bad_options_and_weights_are_refused() {
    let options = LogisticOptions::default();
    let one = examples(&[(3, vec![1.0, 0.0]), (3, vec![0.0, 1.0])]);
    assert_eq!(fit(&one, &options), Err(Error::TooFewClasses { needed: 2, actual: 1 }));
    assert_eq!(fit(&examples(&[]), &options), Err(Error::TooFewClasses { needed: 2, actual: 0 }));
    let two = examples(&[(1, vec![1.0]), (2, vec![-1.0])]);
    for l2 in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        let refused = fit(&two, &LogisticOptions { l2, ..options });
        assert!(matches!(refused, Err(Error::InvalidOption { name: "l2", .. })), "{refused:?}");
    }
    for tolerance in [0.0, 1e-11, f64::NAN] {
        let refused = fit(&two, &LogisticOptions { tolerance, ..options });
        assert!(matches!(refused, Err(Error::InvalidOption { name: "tolerance", .. })), "{refused:?}");
    }
    for weights in [&[1.0][..], &[1.0, 0.0], &[1.0, -1.0], &[1.0, f64::NAN], &[1.0, 1e7]] {
        let refused = fit_weighted(&two, weights, &options);
        assert!(matches!(refused, Err(Error::InvalidOption { name: "example_weights", .. })), "{refused:?}");
    }
}

#[test]
fn giving_up_is_an_error_that_says_where() {
    let examples = examples(&clustered(4, 5, 12));
    let refused = fit(&examples, &LogisticOptions { max_iterations: 2, ..LogisticOptions::default() });
    assert!(matches!(refused, Err(Error::NotConverged { iterations: 2, .. })), "{refused:?}");
}

#[test]
fn progress_rises_and_a_fit_can_be_ended() {
    let examples = examples(&clustered(6, 5, 12));
    let options = LogisticOptions::default();
    let mut shares = Vec::new();
    LogisticHead::fit(&examples, &options, &mut |share| {
        shares.push(share);
        ControlFlow::Continue(())
    })
    .unwrap();
    assert!(shares.len() > 2 && shares.is_sorted() && shares.last() == Some(&1.0), "{shares:?}");
    let mut stop = |share| if share > 0.0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
    assert_eq!(LogisticHead::fit(&examples, &options, &mut stop).err(), Some(Error::Cancelled));
    assert_eq!(LogisticHead::held_out(&examples, &options, &mut stop).err(), Some(Error::Cancelled));
    assert_eq!(LogisticHead::choose_l2(&examples, &options, &mut stop).err(), Some(Error::Cancelled));
}

#[test]
fn duplicated_and_contradictory_labels_converge() {
    let mut labelled = clustered(3, 4, 8);
    let copies: Vec<_> = labelled.iter().map(|(class, v)| ((class + 10) % 30, v.clone())).collect();
    labelled.extend(copies);
    labelled.extend(labelled.clone());
    let (_, report) = fit(&examples(&labelled), &LogisticOptions::default()).unwrap();
    assert!(report.training_accuracy <= 0.5);
    assert!(report.objective >= 2f64.ln(), "two labels for each image cost at least log 2");
}

/// From penalties that examples outweigh by far to ones that leave hardly any weights, with one example per class and many.
#[test]
fn all_strengths_converge() {
    for (classes, per_class) in [(2, 1), (6, 4), (40, 1), (3, 60)] {
        let examples = examples(&clustered(classes, per_class, 8));
        for l2 in [1e-6, 1e-3, 1.0, 1e3] {
            let options = LogisticOptions { l2, ..LogisticOptions::default() };
            let (_, report) = fit(&examples, &options).unwrap();
            assert!(report.gap <= options.tolerance, "{classes} {per_class} {l2} {report:?}");
        }
    }
}

#[test]
fn a_head_survives_storing() {
    let (head, _) = fit(&examples(&clustered(3, 4, 8)), &LogisticOptions::default()).unwrap();
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
