//! What calibration, prediction sets and the test for unknowns promise, on simulated data that meets their assumptions.

use dozen_fewshot::calibrate::Calibration;
use dozen_fewshot::conformal::Conformal;
use dozen_fewshot::heads::{HeldOut, Logit, rank};
use dozen_fewshot::unknown::UnknownTest;
use dozen_fewshot::{ClassKey, Examples};
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Deserialize;

fn settings(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

/// About normal: twelve uniforms.
fn noise(random: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0
}

/// A label and logits that favour it.
fn judgement(random: &mut ChaCha8Rng, classes: usize, signal: f64) -> (usize, Vec<f64>) {
    let label = random.random_range(0..classes);
    let mut logits: Vec<f64> = (0..classes).map(|_| noise(random)).collect();
    logits[label] += signal;
    (label, logits)
}

fn held_out(classes: usize, judgements: &[(usize, Vec<f64>)]) -> HeldOut {
    let examples = Examples::new(1, (0..classes).map(|class| (class as ClassKey, &[1.0][..]))).unwrap();
    let mut held_out = HeldOut::new(&examples);
    for (position, (label, logits)) in judgements.iter().enumerate() {
        held_out.push(position, *label, logits);
    }
    held_out
}

fn logits(values: &[f64]) -> Vec<Logit> {
    let logit = |(class, &logit): (usize, &f64)| Logit { class: class as ClassKey, logit, similarity: 0.0 };
    values.iter().enumerate().map(logit).collect()
}

proptest! {
    #![proptest_config(settings(12))]

    #[test]
    fn sets_of_exchangeable_scores_cover_as_promised(
        seed in any::<u64>(),
        classes in 2usize..8,
        examples in 5usize..120,
        signal in 0.0f64..4.0,
        coverage in prop::sample::select(vec![0.5, 0.8, 0.9, 0.95]),
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (draws, queries) = (200, 10);
        let mut covered = 0;
        for _ in 0..draws {
            let seen: Vec<_> = (0..examples).map(|_| judgement(&mut random, classes, signal)).collect();
            let conformal = Conformal::fit(&held_out(classes, &seen), &Calibration::identity());
            for _ in 0..queries {
                let (label, values) = judgement(&mut random, classes, signal);
                let set = conformal.set(&rank(logits(&values)), coverage).unwrap();
                covered += usize::from(set.classes.contains(&(label as ClassKey)));
            }
        }
        // Queries of one draw share its threshold, whose own coverage varies like a beta variable.
        let variance = coverage * (1.0 - coverage);
        let deviation = (variance / (draws * queries) as f64
            + variance / ((examples + 2) * draws) as f64).sqrt();
        let share = covered as f64 / (draws * queries) as f64;
        prop_assert!(share > coverage - 4.0 * deviation, "{} of {}", share, coverage);
    }

    #[test]
    fn distances_of_known_classes_have_uniform_p_values(
        seed in any::<u64>(),
        per_class in 3usize..9,
        spread in 0.2f64..1.0,
    ) {
        let (classes, dimensions, queries) = (12, 8, 40);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let centres: Vec<Vec<f64>> =
            (0..classes).map(|_| (0..dimensions).map(|_| 3.0 * noise(&mut random)).collect()).collect();
        let mut draw = |class: usize| -> Vec<f32> {
            centres[class].iter().map(|c| (c + spread * noise(&mut random)) as f32).collect()
        };
        let vectors: Vec<(ClassKey, Vec<f32>)> =
            (0..classes * per_class).map(|i| ((i % classes) as ClassKey, draw(i % classes))).collect();
        let examples = Examples::new(dimensions, vectors.iter().map(|(class, v)| (*class, v.as_slice()))).unwrap();
        let test = UnknownTest::fit(&examples).unwrap();
        let p_values: Vec<f64> = (0..classes * queries)
            .map(|i| f64::from(test.typicality(&draw(i % classes)).unwrap().p_value))
            .collect();
        let share = |rate: f64| p_values.iter().filter(|p| **p <= rate).count() as f64 / p_values.len() as f64;
        for rate in [0.1, 0.3, 0.5, 0.8] {
            // Few examples give a coarse reference.
            let deviation = (rate * (1.0 - rate) / (classes * per_class) as f64).sqrt();
            prop_assert!((share(rate) - rate).abs() < 4.0 * deviation + 0.02, "{} of {}", share(rate), rate);
        }
    }
}

proptest! {
    #![proptest_config(settings(64))]

    #[test]
    fn higher_coverage_never_drops_a_class(
        seed in any::<u64>(),
        examples in 0usize..60,
        coverages in (0.0f64..=1.0, 0.0f64..=1.0),
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let seen: Vec<_> = (0..examples).map(|_| judgement(&mut random, 4, 1.0)).collect();
        let conformal = Conformal::fit(&held_out(4, &seen), &Calibration::identity());
        let scores = rank(logits(&judgement(&mut random, 4, 1.0).1));
        let (low, high) = (coverages.0.min(coverages.1), coverages.0.max(coverages.1));
        let (small, large) = (conformal.set(&scores, low).unwrap(), conformal.set(&scores, high).unwrap());
        prop_assert_eq!(small.classes.first(), Some(&scores[0].class));
        if small.per_class == large.per_class {
            prop_assert!(small.classes.iter().all(|class| large.classes.contains(class)));
        }
    }

    #[test]
    fn a_temperature_keeps_the_ranking(
        seed in any::<u64>(),
        examples in 0usize..9,
        query in prop::collection::vec(-30.0f64..30.0, 3),
    ) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let seen: Vec<_> = (0..examples).map(|_| judgement(&mut random, 3, 1.0)).collect();
        let calibration = Calibration::fit(&held_out(3, &seen));
        prop_assert!(!calibration.is_per_class());
        let mut moved = logits(&query);
        calibration.apply(&mut moved);
        let order = |logits: Vec<Logit>| rank(logits).iter().map(|score| score.class).collect::<Vec<_>>();
        prop_assert_eq!(order(moved), order(logits(&query)));
    }

    #[test]
    fn the_order_of_examples_does_not_matter(seed in any::<u64>(), examples in 2usize..30) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let seen: Vec<_> = (0..examples).map(|_| judgement(&mut random, 3, 1.0)).collect();
        let turned: Vec<_> = seen.iter().rev().cloned().collect();
        let (ours, theirs) = (held_out(3, &seen), held_out(3, &turned));
        let (a, b) = (Calibration::fit(&ours).temperature(), Calibration::fit(&theirs).temperature());
        prop_assert!((a - b).abs() < 1e-6 * a, "{} {}", a, b);
        let same = Calibration::identity();
        prop_assert_eq!(Conformal::fit(&ours, &same), Conformal::fit(&theirs, &same));

        let vectors: Vec<(ClassKey, Vec<f32>)> = (0..examples)
            .map(|i| (i as ClassKey % 3, (0..4).map(|_| noise(&mut random) as f32).collect()))
            .collect();
        let fit = |order: &mut dyn Iterator<Item = &(ClassKey, Vec<f32>)>| {
            let borrowed: Vec<_> = order.map(|(class, vector)| (*class, vector.as_slice())).collect();
            UnknownTest::fit(&Examples::new(4, borrowed).unwrap()).unwrap()
        };
        let (ours, theirs) = (fit(&mut vectors.iter()), fit(&mut vectors.iter().rev()));
        let query: Vec<f32> = (0..4).map(|_| noise(&mut random) as f32).collect();
        let (a, b) = (ours.typicality(&query).unwrap(), theirs.typicality(&query).unwrap());
        prop_assert!((a.p_value - b.p_value).abs() < 1e-6, "{:?} {:?}", a, b);
    }
}

#[derive(Deserialize)]
struct TemperatureCase {
    name: String,
    logits: Vec<Vec<Option<f64>>>,
    labels: Vec<usize>,
    temperature: f64,
}

/// Fixture: xtask/python/fixtures/calibration.py.
#[test]
fn temperatures_agree_with_scipy() {
    let cases: Vec<TemperatureCase> =
        serde_json::from_str(include_str!("../fixtures/temperature.json")).unwrap();
    for case in cases {
        let row =
            |row: &Vec<Option<f64>>| row.iter().map(|logit| logit.unwrap_or(f64::NEG_INFINITY)).collect();
        let judgements: Vec<(usize, Vec<f64>)> =
            case.labels.iter().copied().zip(case.logits.iter().map(row)).collect();
        let ours = Calibration::fit(&held_out(case.logits[0].len(), &judgements)).temperature();
        assert!((ours / case.temperature - 1.0).abs() < 1e-5, "{}: {ours} {}", case.name, case.temperature);
    }
}
