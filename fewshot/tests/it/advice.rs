//! Properties of suggestions and of the held-back slice.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use dozen_fewshot::promotion::{compare, held_back};
use dozen_fewshot::select::{SuggestOptions, Suggestion, suggest};
use dozen_fewshot::{Examples, Pool};
use proptest::prelude::*;

const DIMENSIONS: usize = 5;

fn vectors(count: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Vec<f32>>> {
    let away_from_zero = |vector: &Vec<f32>| vector.iter().any(|x| x.abs() > 0.1);
    let vector = prop::collection::vec(-1.0f32..1.0, DIMENSIONS).prop_filter("a direction", away_from_zero);
    prop::collection::vec(vector, count)
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

fn suggested(labelled: &[Vec<f32>], pool: &[Vec<f32>], count: usize) -> Vec<Suggestion> {
    let classes = (0..labelled.len()).map(|i| i as u64 % 3);
    let examples = Examples::new(DIMENSIONS, classes.zip(labelled.iter().map(Vec::as_slice))).unwrap();
    let pool = Pool::new(DIMENSIONS, pool.iter().map(Vec::as_slice)).unwrap();
    suggest(&examples, &pool, count, &SuggestOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn classed() -> impl Strategy<Value = Vec<(u64, u64)>> {
    prop::collection::vec((0u64..4, any::<u64>()), 0..80)
}

proptest! {
    #[test]
    fn suggestions_are_distinct_new_and_ordered(labelled in vectors(0..12), pool in vectors(1..40), count in 0usize..50) {
        let chosen = suggested(&labelled, &pool, count);
        prop_assert!(chosen.len() <= count.min(pool.len()));
        prop_assert!(chosen.windows(2).all(|pair| pair[0].gain >= pair[1].gain - 1e-12));
        for (i, suggestion) in chosen.iter().enumerate() {
            let vector = &pool[suggestion.position];
            let before = chosen[..i].iter().map(|other| &pool[other.position]);
            prop_assert!(before.chain(&labelled).all(|other| cosine(vector, other) < 0.98 + 1e-6));
            prop_assert!((0.0..=1.0).contains(&suggestion.uncertainty) && suggestion.gain >= 0.0);
        }
        prop_assert!(chosen.iter().map(|suggestion| suggestion.gain).sum::<f64>() <= 1.0 + 1e-9);
    }

    /// Each list begins with the shorter ones.
    #[test]
    fn suggestions_nest(labelled in vectors(0..12), pool in vectors(1..40), count in 0usize..20) {
        let longer = suggested(&labelled, &pool, count + 3);
        let shorter = suggested(&labelled, &pool, count);
        prop_assert_eq!(&shorter[..], &longer[..shorter.len()]);
    }

    /// Up to ties, which rounding breaks either way: until then the same images come.
    #[test]
    fn the_order_of_the_pool_does_not_matter(labelled in vectors(0..12), pool in vectors(1..40), turn in 0usize..40) {
        let mut turned = pool.clone();
        turned.rotate_left(turn % pool.len());
        let (a, b) = (suggested(&labelled, &pool, 5), suggested(&labelled, &turned, 5));
        for (a, b) in a.iter().zip(&b) {
            prop_assert!((a.gain - b.gain).abs() < 1e-9, "{:?} {:?}", a, b);
            if pool[a.position] != turned[b.position] {
                break;
            }
        }
    }

    #[test]
    fn the_slice_is_at_most_a_fifth_and_of_no_small_class(examples in classed()) {
        let held = held_back(&examples);
        for class in 0..4 {
            let members = examples.iter().filter(|example| example.0 == class).count();
            let back = examples.iter().zip(&held).filter(|&(example, &held)| example.0 == class && held).count();
            prop_assert_eq!(back, members / 5);
        }
    }

    #[test]
    fn the_slice_of_a_class_depends_on_that_class_alone(examples in classed(), hash in any::<u64>()) {
        let mut more = examples.clone();
        more.push((3, hash));
        let (before, after) = (held_back(&examples), held_back(&more));
        let changed = (0..examples.len()).filter(|&i| before[i] != after[i]).collect::<Vec<_>>();
        prop_assert!(changed.iter().all(|&i| examples[i].0 == 3));
        prop_assert!(changed.len() <= 1);
        let distinct = examples.iter().map(|example| example.1).collect::<BTreeSet<_>>().len() == examples.len();
        let mut reversed: Vec<bool> = held_back(&examples.iter().rev().copied().collect::<Vec<_>>());
        reversed.reverse();
        prop_assert!(!distinct || reversed == before);
    }

    #[test]
    fn a_head_is_no_worse_than_itself(right in prop::collection::vec(any::<bool>(), 0..60)) {
        let same = compare(&right, &right).unwrap();
        prop_assert!(!same.worse && same.only_before + same.only_after == 0);
    }
}
