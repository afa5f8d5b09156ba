use std::ops::ControlFlow;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Unit vectors around one corner per group.
fn groups(groups: usize, each: usize, dimensions: usize, spread: f32, seed: u64) -> Vec<Vec<f32>> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..groups * each)
        .map(|i| {
            let mut vector: Vec<f32> =
                (0..dimensions).map(|_| random.random_range(-spread..spread)).collect();
            vector[i / each] += 1.0;
            vector
        })
        .collect()
}

fn pool(vectors: &[Vec<f32>]) -> Pool {
    Pool::new(vectors[0].len(), vectors.iter().map(Vec::as_slice)).unwrap()
}

fn examples(dimensions: usize, labelled: &[(u64, &[f32])]) -> Examples {
    Examples::new(dimensions, labelled.iter().copied()).unwrap()
}

fn choose(examples: &Examples, pool: &Pool, count: usize) -> Vec<Suggestion> {
    suggest(examples, pool, count, &SuggestOptions::default(), &mut |_| ControlFlow::Continue(())).unwrap()
}

fn positions(suggestions: &[Suggestion]) -> Vec<usize> {
    suggestions.iter().map(|suggestion| suggestion.position).collect()
}

#[test]
fn without_labels_every_group_is_met_once() {
    let pool = pool(&groups(6, 20, 8, 0.2, 1));
    let chosen = choose(&examples(8, &[]), &pool, 6);
    let mut met: Vec<usize> = chosen.iter().map(|suggestion| suggestion.position / 20).collect();
    met.sort_unstable();
    assert_eq!(met, [0, 1, 2, 3, 4, 5]);
    assert!(chosen.is_sorted_by(|a, b| a.gain >= b.gain));
    assert!(chosen.iter().all(|suggestion| suggestion.uncertainty > 0.999));
}

#[test]
fn labelled_groups_come_last() {
    let vectors = groups(3, 20, 8, 0.2, 2);
    let labelled = examples(8, &[(7, &vectors[20])]);
    let first: Vec<usize> =
        positions(&choose(&labelled, &pool(&vectors), 2)).iter().map(|i| i / 20).collect();
    assert!(first.contains(&0) && first.contains(&2), "{first:?}");
}

/// The lazy heap against trying every candidate in every round.
#[test]
fn the_choice_is_the_greedy_one() {
    let vectors = groups(4, 30, 6, 0.6, 3);
    let pool = pool(&vectors);
    let candidates: Vec<f64> = pool.vectors().iter().map(|&x| f64::from(x)).collect();
    let dot = |i: usize, j: usize| crate::matrix::dot(&candidates[i * 6..][..6], &candidates[j * 6..][..6]);
    let mut distances: Vec<f64> =
        (0..120).flat_map(|i| (0..i).map(move |j| (i, j))).map(|(i, j)| 2.0 - 2.0 * dot(i, j)).collect();
    distances.sort_by(f64::total_cmp);
    let width = 0.1 * distances[distances.len() / 2];
    let kernel = |i: usize, j: usize| ((dot(i, j) - 1.0) / width).min(0.0).exp();
    let mut covered = vec![0.0f64; 120];
    let chosen = positions(&choose(&examples(6, &[]), &pool, 25));
    for (round, &choice) in chosen.iter().enumerate() {
        let gain = |i: usize| -> f64 { (0..120).map(|j| (kernel(i, j) - covered[j]).max(0.0)).sum() };
        let allowed = (0..120).filter(|&i| chosen[..round].iter().all(|&other| dot(i, other) < 0.98));
        let best = allowed.map(gain).fold(0.0, f64::max);
        // Two strangers that cover each other gain the same but for rounding.
        assert!(gain(choice) > best - 1e-9, "{choice} gains {}, another {best}", gain(choice));
        for (j, covered) in covered.iter_mut().enumerate() {
            *covered = covered.max(kernel(choice, j));
        }
    }
    assert_eq!(chosen.len(), 25);
}

/// Two classes that are told apart on one axis: the images between them are in doubt, those around them are not.
#[test]
fn once_leave_one_out_succeeds_doubtful_images_come_first() {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut around = |x: f32, y: f32| -> Vec<f32> {
        let mut vector: Vec<f32> = (0..12).map(|_| random.random_range(-0.15..0.15)).collect();
        (vector[0], vector[1]) = (vector[0] + x, vector[1] + y);
        vector
    };
    let (left, right): (Vec<_>, Vec<_>) = (0..20).map(|_| (around(1.0, 0.0), around(0.0, 1.0))).unzip();
    let vectors: Vec<Vec<f32>> =
        (0..90).map(|i| [(1.0, 0.0), (0.7, 0.7), (0.0, 1.0)][i % 3]).map(|(x, y)| around(x, y)).collect();
    let labelled: Vec<(u64, &[f32])> =
        left.iter().map(|v| (1, v.as_slice())).chain(right.iter().map(|v| (2, v.as_slice()))).collect();
    let chosen = choose(&examples(12, &labelled), &pool(&vectors), 5);
    assert!(chosen.iter().all(|suggestion| suggestion.position % 3 == 1), "{chosen:?}");
    assert!(chosen[0].uncertainty > 0.1);
}

#[test]
fn near_duplicates_never_come_together() {
    let mut vectors = groups(3, 4, 5, 0.3, 5);
    let copies = vectors.clone();
    vectors.extend(copies);
    let labelled = examples(5, &[(1, &vectors[0])]);
    let chosen = positions(&choose(&labelled, &pool(&vectors), 100));
    assert!(chosen.len() <= 11, "{chosen:?}");
    assert!(!chosen.contains(&0) && !chosen.contains(&12));
    assert!(chosen.iter().all(|position| position < &12), "ties go to the lower position");
}

#[test]
fn a_large_pool_is_represented_evenly() {
    let pool = pool(&groups(4, 50, 8, 0.3, 6));
    let options = SuggestOptions { candidates: 20, ..SuggestOptions::default() };
    let chosen = suggest(&examples(8, &[]), &pool, 4, &options, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(chosen.iter().all(|suggestion| suggestion.position % 10 == 0));
}

#[test]
fn bad_input_has_an_answer() {
    let pool = pool(&groups(2, 3, 4, 0.3, 7));
    let none = examples(4, &[]);
    assert!(choose(&none, &Pool::default(), 3).is_empty());
    assert!(choose(&none, &pool, 0).is_empty());
    let mut go = |_| ControlFlow::Continue(());
    let other = examples(2, &[(1, &[1.0, 0.0])]);
    let options = SuggestOptions::default();
    assert_eq!(
        suggest(&other, &pool, 1, &options, &mut go),
        Err(Error::Dimensions { expected: 2, actual: 4 })
    );
    for bad in
        [SuggestOptions { candidates: 0, ..options }, SuggestOptions { near_duplicate: f64::NAN, ..options }]
    {
        assert!(suggest(&none, &pool, 1, &bad, &mut go).is_err());
    }
    let cancelled = suggest(&none, &pool, 1, &options, &mut |_| ControlFlow::Break(()));
    assert_eq!(cancelled, Err(Error::Cancelled));
}
