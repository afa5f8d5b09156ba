use super::*;
use proptest::prelude::*;
use std::ops::ControlFlow;

const ANY: &dyn Fn(ClassKey) -> bool = &|_| true;

#[test]
fn the_nearest_mean_wins_and_probabilities_sum_to_one() {
    let mut head = PrototypeHead::new(2);
    head.add(7, &[1.0, 0.0]).unwrap();
    head.add(7, &[0.0, 1.0]).unwrap();
    head.add(9, &[-1.0, 0.0]).unwrap();
    let scores = head.predict(&[1.0, 1.0], ANY).unwrap();
    assert_eq!(scores.iter().map(|score| score.class).collect::<Vec<_>>(), [7, 9]);
    assert!((scores[0].similarity - 1.0).abs() < 1e-6);
    assert!((scores[1].similarity + 0.5f32.sqrt()).abs() < 1e-6);
    assert!((scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-6);
}

#[test]
fn a_lead_of_a_tenth_reads_as_documented() {
    let mut head = PrototypeHead::new(2);
    head.add(1, &[0.6, 0.8]).unwrap();
    head.add(2, &[0.5, 0.75f32.sqrt()]).unwrap();
    let scores = head.predict(&[1.0, 0.0], ANY).unwrap();
    assert!((scores[0].probability - 0.880_797).abs() < 1e-4, "{scores:?}");
}

#[test]
fn only_accepted_classes_share_the_probability() {
    let mut head = PrototypeHead::new(2);
    for class in 1..=3 {
        head.add(class, &[1.0, class as f32]).unwrap();
    }
    let scores = head.predict(&[1.0, 1.0], &|class| class != 1).unwrap();
    assert_eq!(scores.iter().map(|score| score.class).collect::<Vec<_>>(), [2, 3]);
    assert!((scores.iter().map(|score| score.probability).sum::<f32>() - 1.0).abs() < 1e-6);
    assert_eq!(head.predict(&[1.0, 1.0], &|_| false).unwrap(), []);
}

#[test]
fn equal_classes_are_ordered_by_key() {
    let mut head = PrototypeHead::new(2);
    for class in [5, 3, 4] {
        head.add(class, &[0.3, 0.7]).unwrap();
    }
    let scores = head.predict(&[1.0, 0.0], ANY).unwrap();
    assert_eq!(scores.iter().map(|score| score.class).collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn a_class_goes_with_its_last_example() {
    let mut head = PrototypeHead::new(2);
    head.add(1, &[1.0, 0.0]).unwrap();
    head.add(2, &[1.0, 0.0]).unwrap();
    head.remove(1, &[1.0, 0.0]).unwrap();
    assert_eq!(head.classes(), [2]);
    assert_eq!(head.remove(1, &[1.0, 0.0]), Err(Error::EmptyClass { class: 1 }));
    head.remove_class(2);
    assert!(head.classes().is_empty());
}

#[test]
fn examples_that_cancel_have_no_direction() {
    let mut head = PrototypeHead::new(2);
    head.add(1, &[0.6, 0.8]).unwrap();
    head.add(1, &[-0.6, -0.8]).unwrap();
    assert_eq!(head.predict(&[0.6, 0.8], ANY).unwrap()[0].similarity, 0.0);
}

#[test]
fn refused_vectors_change_nothing() {
    let mut head = PrototypeHead::new(2);
    assert_eq!(head.add(1, &[f32::NAN, 0.0]), Err(Error::NotFinite { position: 0 }));
    assert_eq!(head.add(1, &[1.0]), Err(Error::Dimensions { expected: 2, actual: 1 }));
    assert_eq!(head.add(1, &[0.0, 0.0]), Err(Error::ZeroVector));
    assert!(head.classes().is_empty());
    head.add(1, &[1.0, 0.0]).unwrap();
    assert_eq!(head.remove(1, &[f32::INFINITY, 0.0]), Err(Error::NotFinite { position: 0 }));
    assert_eq!(head.classes(), [1]);
    assert_eq!(head.predict(&[0.0, 0.0], ANY), Err(Error::ZeroVector));
}

fn go_on(_: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Three classes of one, two and six vectors.
fn examples() -> Examples {
    let vectors: Vec<Vec<f32>> =
        (0..9).map(|i| (0..4).map(|j| ((i * 29 + j * 17) % 31) as f32 - 12.0).collect()).collect();
    let class = |i: usize| [1, 2, 2, 3, 3, 3, 3, 3, 3][i];
    Examples::new(4, vectors.iter().enumerate().map(|(i, vector)| (class(i), vector.as_slice()))).unwrap()
}

#[test]
fn a_small_class_leans_on_the_mean_of_all() {
    let mut head = PrototypeHead::new(2).with_shrinkage(2.0).unwrap();
    head.add(1, &[1.0, 0.0]).unwrap();
    for _ in 0..3 {
        head.add(2, &[0.0, 1.0]).unwrap();
    }
    // The mean of all means is (½, ½): class 1 answers by (1, 0) + (1, 1), class 2 by (0, 3) + (1, 1).
    let logits = head.logits(&[1.0, 0.0]).unwrap();
    assert!((logits[0].similarity - 2.0 / 5f64.sqrt()).abs() < 1e-12);
    assert!((logits[1].similarity - 1.0 / 17f64.sqrt()).abs() < 1e-12);
}

#[test]
fn leaving_one_out_is_taking_it_away() {
    let examples = examples();
    let whole = PrototypeHead::of(&examples).unwrap().with_temperature(1.0).unwrap();
    for shrinkage in [0.0, 0.5, 3.0] {
        let held_out = PrototypeHead::leave_one_out(&examples, shrinkage).unwrap();
        assert_eq!(held_out.examples(), [1, 2, 3, 4, 5, 6, 7, 8], "the only one of its class is not judged");
        for (row, &example) in held_out.rows().zip(held_out.examples()) {
            let mut head = whole.clone().with_shrinkage(shrinkage).unwrap();
            head.remove(examples.classes()[examples.labels()[example]], examples.vector(example)).unwrap();
            for (ours, again) in row.iter().zip(head.logits(examples.vector(example)).unwrap()) {
                assert!((ours - again.logit).abs() < 1e-9, "{shrinkage}: {ours} {again:?}");
            }
        }
    }
}

#[test]
fn the_fit_takes_what_loses_least() {
    let examples = examples();
    let head = PrototypeHead::fit(&examples, &mut go_on).unwrap();
    let loss = |shrinkage, temperature| {
        PrototypeHead::leave_one_out(&examples, shrinkage).unwrap().log_loss(temperature)
    };
    let best = loss(head.shrinkage(), head.temperature());
    for shrinkage in PrototypeHead::SHRINKAGES {
        for factor in [0.5, 1.0, 2.0] {
            assert!(best <= loss(shrinkage, factor * head.temperature()) + 1e-6);
        }
    }
    let mut stop = |_| ControlFlow::Break(());
    assert_eq!(PrototypeHead::fit(&examples, &mut stop).err(), Some(Error::Cancelled));
}

#[test]
fn temperatures_and_shrinkages_out_of_range_are_refused() {
    for temperature in [0.0, -1.0, f64::NAN, f64::INFINITY] {
        assert!(PrototypeHead::new(2).with_temperature(temperature).is_err());
    }
    for shrinkage in [-1.0, f64::NAN, f64::INFINITY] {
        assert!(PrototypeHead::new(2).with_shrinkage(shrinkage).is_err());
        assert!(PrototypeHead::leave_one_out(&examples(), shrinkage).is_err());
    }
}

#[test]
fn a_head_survives_storing_and_goes_on() {
    let examples = examples();
    let head = PrototypeHead::of(&examples).unwrap().with_shrinkage(0.5).unwrap();
    let mut read: PrototypeHead = serde_json::from_str(&serde_json::to_string(&head).unwrap()).unwrap();
    let mut head = head.with_temperature(0.2).unwrap();
    read = read.with_temperature(0.2).unwrap();
    for vector in [examples.vector(4), examples.vector(1)] {
        for (a, b) in head.logits(vector).unwrap().iter().zip(read.logits(vector).unwrap()) {
            assert!((a.logit - b.logit).abs() < 1e-12);
        }
        head.remove(2, vector).unwrap();
        read.remove(2, vector).unwrap();
    }
}

#[test]
fn stored_heads_that_cannot_be_right_are_refused() {
    let stored = serde_json::to_value(PrototypeHead::of(&examples()).unwrap()).unwrap();
    assert!(serde_json::from_value::<PrototypeHead>(stored.clone()).is_ok());
    for (field, value) in [
        ("format", serde_json::json!(2)),
        ("dimensions", serde_json::json!(0)),
        ("temperature", serde_json::json!(0.0)),
        ("shrinkage", serde_json::json!(-1.0)),
        ("classes", serde_json::json!([1, 3, 2])),
        ("examples", serde_json::json!([1, 2])),
        ("examples", serde_json::json!([0, 2, 6])),
        ("sums", serde_json::json!([1.0])),
        ("sums", serde_json::json!([1.1, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0])),
    ] {
        let mut changed = stored.clone();
        changed[field] = value;
        assert!(serde_json::from_value::<PrototypeHead>(changed).is_err(), "{field}");
    }
}

fn vectors(count: usize) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let component = prop_oneof![-1.0f32..1.0, -1e-6f32..1e-6];
    prop::collection::vec(prop::collection::vec(component, 5), 1..count)
        .prop_map(|all| all.into_iter().filter(|v| v.iter().any(|c| *c != 0.0)).collect())
}

proptest! {
    #[test]
    fn adding_and_removing_leaves_the_sum_of_what_stays(stay in vectors(20), go in vectors(20)) {
        let mut plain = PrototypeHead::new(5);
        for vector in &stay {
            plain.add(1, vector).unwrap();
        }
        let mut head = PrototypeHead::new(5);
        for vector in go.iter().chain(&stay) {
            head.add(1, vector).unwrap();
        }
        for vector in &go {
            head.remove(1, vector).unwrap();
        }
        prop_assert_eq!(head.classes(), plain.classes());
        if let (Some(after), Some(expected)) = (head.classes.get(&1), plain.classes.get(&1)) {
            prop_assert_eq!(after.examples, expected.examples);
            for (a, b) in after.sum.iter().zip(&expected.sum) {
                prop_assert!((a - b).abs() < 1e-12, "{} {}", a, b);
            }
        }
    }
}
