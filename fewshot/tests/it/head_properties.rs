//! What must hold of the closed-form heads whatever the examples.

use dozen_fewshot::heads::{
    DiscriminantHead, Head, HeldOut, Logit, NearestHead, NearestOptions, PrototypeHead,
};
use dozen_fewshot::index::{ExactIndex, VectorIndex};
use dozen_fewshot::{ClassKey, Error, Examples};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use std::ops::ControlFlow;

const DIMENSIONS: usize = 6;
const NEAREST: NearestOptions = NearestOptions { k: 5, temperature: 0.1 };

type Labelled = Vec<(ClassKey, Vec<f32>)>;

fn settings() -> ProptestConfig {
    ProptestConfig {
        cases: 64,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

fn vector() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec(-1.0f32..1.0, DIMENSIONS)
        .prop_filter("has a direction", |vector| vector.iter().any(|component| component.abs() > 1e-2))
}

/// One to forty examples of up to five classes, most with few.
fn labelled() -> impl Strategy<Value = Labelled> {
    prop::collection::vec((1u64..6, vector()), 1..40)
}

fn examples(labelled: &[(ClassKey, Vec<f32>)]) -> Examples {
    Examples::new(DIMENSIONS, labelled.iter().map(|(class, vector)| (*class, vector.as_slice()))).unwrap()
}

fn go_on(_: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// What every head of these examples answers; refusals of too few classes are no answers.
fn answers(labelled: &[(ClassKey, Vec<f32>)], query: &[f32]) -> Vec<Logit> {
    let examples = examples(labelled);
    let mut answers = Vec::new();
    for shrinkage in [0.0, 1.5] {
        let head = PrototypeHead::of(&examples).unwrap().with_shrinkage(shrinkage).unwrap();
        answers.extend(head.logits(query).unwrap());
    }
    match DiscriminantHead::with_strength(&examples, 0.3) {
        Ok(head) => answers.extend(head.logits(query).unwrap()),
        Err(error) => assert!(matches!(error, Error::TooFewClasses { .. }), "{error}"),
    }
    let mut index = ExactIndex::new(DIMENSIONS);
    for (id, (_, vector)) in labelled.iter().enumerate() {
        index.insert(id as u64, vector).unwrap();
    }
    let class_of = |id: u64| labelled.get(id as usize).map(|(class, _)| *class);
    let head = NearestHead::new(NEAREST, &index, &class_of, examples.classes().iter().copied()).unwrap();
    answers.extend(head.logits(query).unwrap());
    answers
}

/// What every head says of each example without it.
fn left_out(examples: &Examples) -> [HeldOut; 4] {
    [
        PrototypeHead::leave_one_out(examples, 0.0).unwrap(),
        PrototypeHead::leave_one_out(examples, 1.5).unwrap(),
        DiscriminantHead::leave_one_out(examples, 0.3).unwrap(),
        NEAREST.leave_one_out(examples, &mut go_on).unwrap(),
    ]
}

fn assert_close(ours: &[Logit], expected: &[Logit], tolerance: f64) {
    assert_eq!(ours.len(), expected.len());
    for (a, b) in ours.iter().zip(expected) {
        assert_eq!(a.class, b.class);
        assert!((a.logit - b.logit).abs() <= tolerance * b.logit.abs().max(1.0), "{a:?} {b:?}");
        assert!((a.similarity - b.similarity).abs() <= tolerance, "{a:?} {b:?}");
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn prototypes_forget_what_is_deleted(
        stay in labelled(),
        go in labelled(),
        query in vector(),
        shrinkage in prop_oneof![Just(0.0), 0.1f64..3.0],
    ) {
        let mut head = PrototypeHead::of(&examples(&stay)).unwrap().with_shrinkage(shrinkage).unwrap();
        let before = head.logits(&query).unwrap();
        for (class, vector) in &go {
            head.add(*class, vector).unwrap();
        }
        for (class, vector) in go.iter().rev() {
            head.remove(*class, vector).unwrap();
        }
        assert_close(&head.logits(&query).unwrap(), &before, 1e-9);
    }

    /// Adding, deleting and forgetting in any order ends where starting from what is left does.
    #[test]
    fn streamed_prototypes_are_those_of_a_batch(
        all in labelled(),
        drop in prop::collection::vec(any::<bool>(), 40),
        forget in prop::option::of(1u64..6),
        query in vector(),
    ) {
        let all = examples(&all);
        let mut head = PrototypeHead::new(DIMENSIONS).with_shrinkage(0.7).unwrap();
        let labelled = || all.labels().iter().map(|&label| all.classes()[label]).enumerate();
        for (example, class) in labelled() {
            head.add(class, all.vector(example)).unwrap();
        }
        let mut kept = Vec::new();
        for (example, class) in labelled() {
            if drop[example] {
                head.remove(class, all.vector(example)).unwrap();
            } else if Some(class) != forget {
                kept.push(example);
            }
        }
        if let Some(class) = forget {
            head.remove_class(class);
        }
        let batch = PrototypeHead::of(&all.subset(&kept)).unwrap().with_shrinkage(0.7).unwrap();
        assert_close(&head.logits(&query).unwrap(), &batch.logits(&query).unwrap(), 1e-9);
    }

    #[test]
    fn the_order_of_examples_does_not_matter(
        (all, shuffled) in labelled().prop_flat_map(|all| (Just(all.clone()), Just(all).prop_shuffle())),
        query in vector(),
    ) {
        assert_close(&answers(&shuffled, &query), &answers(&all, &query), 1e-6);
        let (ours, theirs) = (left_out(&examples(&all)), left_out(&examples(&shuffled)));
        for (ours, theirs) in ours.iter().zip(&theirs) {
            prop_assert_eq!(ours.len(), theirs.len());
            prop_assert!((ours.log_loss(1.0) - theirs.log_loss(1.0)).abs() < 1e-6);
        }
    }

    /// The same vectors in two classes, and classes of one.
    #[test]
    fn answers_are_numbers(mut all in labelled(), query in vector()) {
        let copies: Labelled = all.iter().map(|(class, vector)| (class + 1, vector.clone())).collect();
        all.extend(copies);
        for logit in answers(&all, &query) {
            prop_assert!(logit.logit.is_finite() && logit.similarity.abs() <= 1.0 + 1e-6, "{:?}", logit);
        }
        let examples = examples(&all);
        let counts = examples.counts();
        for held_out in left_out(&examples) {
            prop_assert!(held_out.rows().flatten().all(|logit| logit.is_finite()));
            prop_assert!(held_out.labels().iter().all(|&label| counts[label] > 1));
        }
        let head = PrototypeHead::fit(&examples, &mut go_on).unwrap();
        prop_assert!(head.logits(&query).unwrap().iter().all(|logit| logit.logit.is_finite()));
        NearestOptions::fit(&examples, &mut go_on).unwrap();
    }
}

#[test]
fn one_vector_in_two_classes_favours_neither() {
    let shared = vec![0.4, -0.2, 0.1, 0.7, 0.3, 0.0];
    let all: Labelled = vec![(1, shared.clone()), (2, shared.clone())];
    for pair in answers(&all, &shared).chunks(2) {
        assert!((pair[0].logit - pair[1].logit).abs() < 1e-9, "{pair:?}");
    }
    for held_out in left_out(&examples(&all)) {
        assert!(held_out.is_empty());
    }
}

#[test]
fn a_class_of_one_stands_beside_a_class_of_thousands() {
    let mut all: Labelled = (0..2000)
        .map(|i| {
            let angle = i as f32 * 0.1;
            (7, vec![4.0, angle.sin(), angle.cos(), (3.0 * angle).sin(), 0.0, 0.0])
        })
        .collect();
    let alone = vec![0.0, 0.0, 0.0, 0.0, 1.0, 1.0];
    all.push((3, alone.clone()));
    for pair in answers(&all, &alone).chunks(2) {
        assert!(pair.iter().all(|logit| logit.logit.is_finite()), "{pair:?}");
    }
    let examples = examples(&all);
    for (held_out, head) in left_out(&examples).iter().zip(["prototype", "shrunk", "discriminant", "nearest"])
    {
        assert_eq!(held_out.len(), 2000, "{head}");
        assert!(held_out.accuracy() > 0.99, "{head}");
    }
    let head = DiscriminantHead::fit(&examples, &mut go_on).unwrap();
    assert_eq!(head.predict(&alone, &|_| true).unwrap()[0].class, 3);
    let head = PrototypeHead::fit(&examples, &mut go_on).unwrap();
    assert_eq!(head.predict(&alone, &|_| true).unwrap()[0].class, 3);
}

#[test]
fn one_example_per_class_is_enough() {
    let all: Labelled = (0..DIMENSIONS)
        .map(|class| {
            let mut vector = vec![0.1; DIMENSIONS];
            vector[class] = 1.0;
            (class as ClassKey, vector)
        })
        .collect();
    let examples = examples(&all);
    let discriminant = DiscriminantHead::fit(&examples, &mut go_on).unwrap();
    let prototype = PrototypeHead::fit(&examples, &mut go_on).unwrap();
    assert!((prototype.temperature() - PrototypeHead::TEMPERATURE).abs() < 1e-12);
    for (class, vector) in &all {
        for head in [&discriminant as &dyn Head, &prototype] {
            assert_eq!(head.predict(vector, &|_| true).unwrap()[0].class, *class);
        }
    }
}
