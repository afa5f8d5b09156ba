use super::*;
use crate::ClassKey;
use crate::heads::{Head, rank};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::ops::ControlFlow;

fn go_on(_: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Points around one corner per class, as many of each as asked for; the same on every call.
fn clusters(counts: &[usize], spread: f32) -> Examples {
    let mut vectors = Vec::new();
    for (class, &count) in counts.iter().enumerate() {
        for place in 0..count {
            let noise = |axis: usize| ((place * 37 + axis * 53 + class * 11) % 23) as f32 / 23.0 - 0.5;
            let vector: Vec<f32> =
                (0..6).map(|axis| f32::from(u8::from(axis == class)) + spread * noise(axis)).collect();
            vectors.push((class as ClassKey + 10, vector));
        }
    }
    Examples::new(6, vectors.iter().map(|(class, vector)| (*class, &vector[..]))).unwrap()
}

fn every_fifth(examples: &Examples) -> Vec<bool> {
    (0..examples.len()).map(|position| position % 5 == 2).collect()
}

#[test]
fn every_method_trains_answers_and_promises() {
    let examples = clusters(&[12, 12, 10], 0.8);
    let held_back = every_fifth(&examples);
    let (known, slice) = split(&examples, &held_back).unwrap();
    for method in Method::ALL {
        let options = TrainingOptions { method: Some(method), ..TrainingOptions::default() };
        let Trained { head, twin, reliability, report } =
            train(&examples, &held_back, &Pool::default(), &options, &mut go_on).unwrap();
        assert_eq!((head.method(), twin.method(), report.method), (method, method, method));
        assert_eq!((report.examples, report.held_back, report.classes), (34, 7, 3));
        assert_eq!(report.held_back_right, 7, "{method:?} tells corners apart");
        let quality = report.held_out.unwrap();
        assert!(quality.accuracy > 0.95 && quality.calibration_error < 0.1, "{method:?} {quality:?}");
        let standalone = Standalone::new(twin, known.clone()).unwrap();
        let scores = reliability.scores(standalone.logits(slice.vector(0)).unwrap());
        assert_eq!(scores[0].class, slice.classes()[slice.labels()[0]]);
        assert_eq!(reliability.set(&scores, 0.8).unwrap().classes[0], scores[0].class);
        assert!(reliability.typicality(slice.vector(0)).unwrap().p_value > 0.05);
        let text = serde_json::to_string(&(&head, &reliability, &report)).unwrap();
        let (read, ..): (FittedHead, Reliability, TrainingReport) = serde_json::from_str(&text).unwrap();
        assert_eq!(read.method(), method);
    }
}

/// Two examples per class of nothing but noise: heads without one of them are wrong more often than guesses.
#[test]
fn calibration_keeps_the_order_of_answers_that_prove_worthless() {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut noise =
        || -> Vec<f32> { (0..16).map(|_| (0..4).map(|_| random.random::<f32>() - 0.5).sum()).collect() };
    let vectors: Vec<Vec<f32>> = (0..20).map(|_| noise()).collect();
    let labelled = vectors.iter().enumerate().map(|(place, vector)| (place as ClassKey % 10, &vector[..]));
    let examples = Examples::new(16, labelled).unwrap();
    let queries: Vec<Vec<f32>> = (0..30).map(|_| noise()).collect();
    for method in Method::ALL {
        let options = TrainingOptions { method: Some(method), ..TrainingOptions::default() };
        let trained = train(&examples, &[false; 20], &Pool::default(), &options, &mut go_on).unwrap();
        let standalone = Standalone::new(trained.head, examples.clone()).unwrap();
        for query in &queries {
            let logits = standalone.logits(query).unwrap();
            let best = rank(logits.clone())[0].class;
            assert_eq!(trained.reliability.scores(logits)[0].class, best, "{method:?} {:?}", trained.report);
        }
    }
}

#[test]
fn the_choice_is_the_least_loss_and_says_so() {
    let examples = clusters(&[9, 9, 9, 9], 1.6);
    let held_back = every_fifth(&examples);
    let trained =
        train(&examples, &held_back, &Pool::default(), &TrainingOptions::default(), &mut go_on).unwrap();
    let report = trained.report;
    assert_eq!(report.trials.len(), Method::ALL.len());
    assert!(report.trials.is_sorted_by(|a, b| a.log_loss <= b.log_loss));
    assert!(report.reason.contains(report.method.word()) || report.method == Method::Prototype, "{report:?}");
}

#[test]
fn single_examples_leave_nothing_to_judge_by() {
    let examples = clusters(&[1, 1, 1], 0.5);
    let trained =
        train(&examples, &[false; 3], &Pool::default(), &TrainingOptions::default(), &mut go_on).unwrap();
    assert_eq!(trained.report.method, Method::Prototype);
    assert!(trained.report.held_out.is_none() && trained.report.trials.is_empty());
    assert!(trained.report.reason.contains("second example"));
}

/// What callers may get wrong, and data that no method likes, have a defined answer.
#[test]
fn awkward_data_is_answered_or_refused() {
    let one_class = clusters(&[4], 0.5);
    let refused = train(&one_class, &[false; 4], &Pool::default(), &TrainingOptions::default(), &mut go_on);
    assert_eq!(refused.err(), Some(Error::TooFewClasses { needed: 2, actual: 1 }));
    let two = clusters(&[3, 3], 0.5);
    assert!(train(&two, &[false; 5], &Pool::default(), &TrainingOptions::default(), &mut go_on).is_err());
    let mut stop = |_| ControlFlow::Break(());
    let cancelled = train(&two, &[false; 6], &Pool::default(), &TrainingOptions::default(), &mut stop);
    assert_eq!(cancelled.err(), Some(Error::Cancelled));
    // The same picture under two labels, and one example beside many.
    let same: Vec<(ClassKey, &[f32])> = (0..12).map(|i| (i % 2, &[0.6, 0.8][..])).collect();
    let same = Examples::new(2, same).unwrap();
    let lonely = clusters(&[1, 300], 0.5);
    let lost = clusters(&[1, 10_000], 0.5);
    let held_back = vec![false; lost.len()];
    for method in [Method::Prototype, Method::Discriminant, Method::Logistic] {
        let options = TrainingOptions { method: Some(method), ..TrainingOptions::default() };
        let trained = train(&lost, &held_back, &Pool::default(), &options, &mut go_on).unwrap();
        let head = Standalone::new(trained.head, lost.clone()).unwrap();
        assert_eq!(
            head.answers(&lost.subset(&[0, 1])).unwrap(),
            [10, 11],
            "{method:?}: one beside very many"
        );
    }
    for examples in [same, lonely] {
        for method in Method::ALL.map(Some).into_iter().chain([None]) {
            let options = TrainingOptions { method, ..TrainingOptions::default() };
            let held_back = vec![false; examples.len()];
            let trained = train(&examples, &held_back, &Pool::default(), &options, &mut go_on).unwrap();
            let head = Standalone::new(trained.head, examples.clone()).unwrap();
            let logits = crate::heads::Head::logits(&head, examples.vector(0)).unwrap();
            let scores = trained.reliability.scores(logits);
            assert!(scores.iter().all(|score| score.probability.is_finite()), "{method:?} {scores:?}");
        }
    }
}

#[test]
fn what_would_take_too_long_is_not_tried() {
    let axes: Vec<Vec<f32>> =
        (0..512).map(|axis| (0..512).map(|place| f32::from(u8::from(place == axis))).collect()).collect();
    let of = |classes: usize| {
        let examples = (0..2 * classes).map(|place| ((place % classes) as ClassKey, &axes[place % 512][..]));
        Examples::new(512, examples).unwrap()
    };
    assert_eq!(choice::tried(&of(500), &Pool::default()), Method::ALL);
    let pool = Pool::new(512, axes.iter().cycle().take(5_000).map(Vec::as_slice)).unwrap();
    assert_eq!(choice::tried(&of(500), &pool), Method::ALL[..4]);
    assert_eq!(choice::tried(&of(1_001), &Pool::default()), Method::ALL[..4]);
}
