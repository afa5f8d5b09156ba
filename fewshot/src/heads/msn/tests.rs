use super::*;
use crate::heads::{PrototypeHead, rank};
use std::ops::ControlFlow;

fn go_on(_: f64) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

const DIMENSIONS: usize = 16;
const CLASSES: u64 = 4;

/// Numbers between −½ and ½, the same on every run.
struct Noise(u64);

impl Noise {
    fn next(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    /// Around the corner of a class, with much in common with every other picture and more spread along two directions.
    fn picture(&mut self, class: u64) -> Vec<f32> {
        let mut vector: Vec<f32> = (0..DIMENSIONS).map(|_| 0.5 * self.next()).collect();
        vector[class as usize] += 0.45;
        vector[DIMENSIONS - 1] += 1.0 + self.next();
        vector[DIMENSIONS - 2] += 3.0 * self.next();
        vector
    }
}

/// So many pictures of each class in turn.
fn pictures(seed: u64, counts: &[usize]) -> Vec<(ClassKey, Vec<f32>)> {
    let mut noise = Noise(seed);
    let classes = (0u64..).zip(counts);
    classes
        .flat_map(|(class, &count)| vec![class; count])
        .map(|class| (10 * class, noise.picture(class)))
        .collect()
}

fn examples(labelled: &[(ClassKey, Vec<f32>)]) -> Examples {
    Examples::new(labelled[0].1.len(), labelled.iter().map(|(class, vector)| (*class, vector.as_slice())))
        .unwrap()
}

fn pool(pictures: &[(ClassKey, Vec<f32>)]) -> Pool {
    Pool::new(DIMENSIONS, pictures.iter().map(|(_, vector)| vector.as_slice())).unwrap()
}

fn fit(labelled: &[(ClassKey, Vec<f32>)], pool: &Pool) -> (MsnHead, MsnReport) {
    MsnHead::fit(&examples(labelled), pool, &MsnOptions::default(), &mut go_on).unwrap()
}

/// Share of these pictures that a head takes for what they are.
fn accuracy(head: &dyn Head, pictures: &[(ClassKey, Vec<f32>)]) -> f64 {
    let right =
        |(class, vector): &&(ClassKey, Vec<f32>)| rank(head.logits(vector).unwrap())[0].class == *class;
    pictures.iter().filter(right).count() as f64 / pictures.len() as f64
}

#[test]
fn a_pool_helps() {
    let queries = pictures(1, &[100; CLASSES as usize]);
    let pool = pool(&pictures(2, &[100; CLASSES as usize]));
    let (mut with, mut without, mut prototypes) = (0.0, 0.0, 0.0);
    for seed in 3..13 {
        for count in [1, 3] {
            let labelled = pictures(seed, &[count; CLASSES as usize]);
            with += accuracy(&fit(&labelled, &pool).0, &queries) / 20.0;
            without += accuracy(&fit(&labelled, &Pool::default()).0, &queries) / 20.0;
            prototypes += accuracy(&PrototypeHead::of(&examples(&labelled)).unwrap(), &queries) / 20.0;
        }
    }
    assert!(with > without + 0.05, "{with} {without}");
    assert!(without >= prototypes, "an empty pool is no worse than prototypes: {without} {prototypes}");
}

#[test]
fn a_pool_of_few_classes_does_no_harm() {
    let queries = pictures(1, &[100; CLASSES as usize]);
    let labelled = pictures(3, &[8; CLASSES as usize]);
    let skewed = fit(&labelled, &pool(&pictures(2, &[200, 0, 0, 0])));
    let without = accuracy(&fit(&labelled, &Pool::default()).0, &queries);
    let with = accuracy(&skewed.0, &queries);
    assert!(with > without - 0.05, "{with} {without} {:?}", skewed.1);
}

/// After all steps; which examples are held out together does depend on their order, and with it the number of steps.
fn after_all_steps(labelled: &[(ClassKey, Vec<f32>)], pool: &Pool, options: &MsnOptions) -> MsnHead {
    let examples = examples(labelled);
    let mut learner = Learner::new(&examples, pool, options, &mut go_on).unwrap();
    learner.advance(options.steps, &mut go_on).unwrap();
    MsnHead::of(&examples, learner.learned(), 1.0)
}

#[test]
fn the_order_of_examples_and_the_names_of_classes_do_not_matter() {
    let (labelled, unlabelled) = (pictures(3, &[5, 4, 5, 1]), pictures(4, &[20; CLASSES as usize]));
    for prototypes in [1, 2] {
        let options = MsnOptions { prototypes, ..MsnOptions::default() };
        let head = after_all_steps(&labelled, &pool(&unlabelled), &options);
        let mut renamed: Vec<_> =
            labelled.iter().map(|(class, vector)| (100 - class, vector.clone())).collect();
        renamed.reverse();
        renamed.rotate_left(4);
        let mut backwards = unlabelled.clone();
        backwards.reverse();
        let other = after_all_steps(&renamed, &pool(&backwards), &options);
        for (_, vector) in &unlabelled {
            let mut logits = other.logits(vector).unwrap();
            logits.reverse();
            for (ours, theirs) in head.logits(vector).unwrap().iter().zip(logits) {
                assert_eq!(ours.class, 100 - theirs.class);
                assert!((ours.logit - theirs.logit).abs() < 1e-6, "{ours:?} {theirs:?}");
            }
        }
    }
}

#[test]
fn fitting_twice_gives_the_same_bits() {
    let (labelled, pool) = (pictures(3, &[5, 4, 5, 1]), pool(&pictures(4, &[20; CLASSES as usize])));
    let (head, report) = fit(&labelled, &pool);
    let (again, report_again) = fit(&labelled, &pool);
    assert_eq!(head, again);
    assert_eq!((report.steps, report.prior), (report_again.steps, report_again.prior));
}

#[test]
fn held_out_examples_are_judged_by_heads_that_did_not_see_them() {
    let (labelled, pool) = (pictures(3, &[5, 4, 5, 1]), pool(&pictures(4, &[20; CLASSES as usize])));
    let (examples, options) = (examples(&labelled), MsnOptions::default());
    let held_out = MsnHead::held_out(&examples, &pool, &options, &mut go_on).unwrap();
    assert_eq!(held_out.len(), 14, "the class of one is not judged");
    let (fitted, report) = fit(&labelled, &pool);
    assert!(report.held_out.rows().eq(held_out.rows()));
    let folds = deal(&examples, MsnHead::FOLDS);
    let (row, &example) = held_out.rows().zip(held_out.examples()).nth(3).unwrap();
    let fold = folds.iter().find(|fold| fold.judged.contains(&example)).unwrap();
    let kept = examples.subset(&fold.kept);
    let used = if report.pool > 0 { pool } else { Pool::default() };
    let l2 = options.l2 * kept.len() as f64 / examples.len() as f64;
    let options = MsnOptions { l2, ..options };
    let mut learner = Learner::new(&kept, &used, &options, &mut go_on).unwrap();
    learner.advance(report.steps, &mut go_on).unwrap();
    let head = MsnHead::of(&kept, learner.learned(), fitted.temperature);
    for (judged, logit) in row.iter().zip(head.row(&examples, example).unwrap()) {
        assert!((judged - logit).abs() < 1e-9, "in the units of the head: {judged} {logit}");
    }
}

#[test]
fn views_are_used() {
    let (labelled, unlabelled) = (pictures(3, &[3; CLASSES as usize]), pictures(4, &[20; CLASSES as usize]));
    let plain = pool(&unlabelled);
    let pairs = unlabelled.iter().zip(unlabelled.iter().rev());
    let views: Vec<&[f32]> = pairs.flat_map(|(a, b)| [a.1.as_slice(), b.1.as_slice()]).collect();
    let same: Vec<&[f32]> = unlabelled.iter().flat_map(|(_, vector)| [vector.as_slice(); 2]).collect();
    let options = MsnOptions::default();
    let head = after_all_steps(&labelled, &plain, &options);
    let with =
        |views| after_all_steps(&labelled, &plain.clone().with_views(DIMENSIONS, views).unwrap(), &options);
    assert_eq!(head, with(same), "views that are the picture itself change nothing");
    assert_ne!(head, with(views), "views of other pictures do");
}

#[test]
fn several_prototypes_learn_what_one_cannot() {
    // Each class has two groups on opposite sides, so that its mean says nothing.
    let mut noise = Noise(5);
    let mut picture = |class: usize, side: f32| {
        let mut vector: Vec<f32> = (0..4).map(|_| 0.4 * noise.next()).collect();
        vector[class] += side;
        (class as u64, vector)
    };
    let mut set = |count: usize| -> Vec<(ClassKey, Vec<f32>)> {
        let both = (0..count).flat_map(|_| [(0, 1.0), (0, -1.0), (1, 1.0), (1, -1.0)]);
        both.map(|(class, side)| picture(class, side)).collect()
    };
    let (labelled, queries) = (set(4), set(50));
    let pool = Pool::new(4, queries.iter().map(|(_, vector)| vector.as_slice())).unwrap();
    let of = |prototypes: usize| {
        let options = MsnOptions { prototypes, ..MsnOptions::default() };
        accuracy(&MsnHead::fit(&examples(&labelled), &pool, &options, &mut go_on).unwrap().0, &queries)
    };
    assert!(of(2) > 0.95 && of(1) < 0.8, "{} {}", of(2), of(1));
}

#[test]
fn a_prior_that_is_known_or_estimated_is_used() {
    let mut noise = Noise(6);
    let mut corners = |counts: [usize; 3]| -> Vec<(ClassKey, Vec<f32>)> {
        let classes = (0..3).zip(counts).flat_map(|(class, count)| vec![class; count]);
        let mut picture = |class: usize| -> Vec<f32> {
            (0..3).map(|place| 0.4 * noise.next() + if place == class { 1.0 } else { 0.0 }).collect()
        };
        classes.map(|class| (10 * class as u64, picture(class))).collect()
    };
    let labelled = examples(&corners([4, 4, 4]));
    let unlabelled = corners([140, 20, 40]);
    let unlabelled = Pool::new(3, unlabelled.iter().map(|(_, vector)| vector.as_slice())).unwrap();
    let prior = |prior: ClassPrior| {
        let options = MsnOptions { prior, ..MsnOptions::default() };
        let mut learner = Learner::new(&labelled, &unlabelled, &options, &mut go_on).unwrap();
        learner.advance(options.steps, &mut go_on).unwrap();
        learner.learned().prior
    };
    assert_eq!(prior(ClassPrior::Uniform), [1.0 / 3.0; 3]);
    assert_eq!(
        prior(ClassPrior::Given(vec![(20, 1.0), (0, 6.0), (10, 1.0), (7, 5.0)])),
        [0.75, 0.125, 0.125]
    );
    // Half way to 0.7, 0.1 and 0.2.
    for (ours, expected) in prior(ClassPrior::Estimated).iter().zip([0.517, 0.217, 0.267]) {
        assert!((ours - expected).abs() < 0.05, "{ours} {expected}");
    }
}

#[test]
fn one_example_per_class_takes_all_steps() {
    let (_, report) = fit(&pictures(3, &[1; CLASSES as usize]), &pool(&pictures(4, &[9; CLASSES as usize])));
    assert_eq!((report.steps, report.held_out.len()), (MsnOptions::default().steps, 0));
}

#[test]
fn identical_examples_in_two_classes_are_undecided() {
    let vector = pictures(3, &[1])[0].1.clone();
    for pool in [Pool::default(), pool(&pictures(4, &[9; CLASSES as usize]))] {
        let twice = [(1, vector.clone()), (2, vector.clone())];
        let scores = rank(fit(&twice, &pool).0.logits(&vector).unwrap());
        assert!((scores[0].probability - 0.5).abs() < 0.02, "{scores:?}");
    }
}

#[test]
fn a_class_of_one_holds_its_own_against_many() {
    let labelled = pictures(3, &[1, 2000]);
    let (head, _) = fit(&labelled, &pool(&pictures(4, &[50, 50])));
    let queries = pictures(1, &[100, 100]);
    let lone = accuracy(&head, &queries[..100]);
    assert!(lone > 0.5 && accuracy(&head, &queries[100..]) > 0.5, "{lone}");
}

#[test]
fn a_large_pool_is_represented_by_a_part() {
    let unlabelled: Vec<(ClassKey, Vec<f32>)> = pictures(4, &[MsnHead::MAX_POOL + 100])
        .into_iter()
        .map(|(class, v)| (class, v[..2].to_vec()))
        .collect();
    let labelled = [(1, vec![1.0, 0.0]), (2, vec![0.0, 1.0])];
    let pool = Pool::new(2, unlabelled.iter().map(|(_, vector)| vector.as_slice())).unwrap();
    let options = MsnOptions { steps: 1, ..MsnOptions::default() };
    let (_, report) = MsnHead::fit(&examples(&labelled), &pool, &options, &mut go_on).unwrap();
    assert_eq!(report.pool, MsnHead::MAX_POOL);
}

#[test]
fn what_cannot_be_learned_from_is_refused() {
    let (labelled, pool) = (pictures(3, &[2; CLASSES as usize]), pool(&pictures(4, &[2])));
    let fit = |labelled: &[(ClassKey, Vec<f32>)], pool: &Pool, options: &MsnOptions| {
        let refused = MsnHead::fit(&examples(labelled), pool, options, &mut go_on).err();
        assert_eq!(refused, MsnHead::held_out(&examples(labelled), pool, options, &mut go_on).err());
        refused
    };
    let options = MsnOptions::default();
    let few = Some(Error::TooFewClasses { needed: 2, actual: 1 });
    assert_eq!(fit(&labelled[..2], &pool, &options), few);
    let other = Pool::new(3, [&[1.0f32, 0.0, 0.0][..]]).unwrap();
    assert_eq!(fit(&labelled, &other, &options), Some(Error::Dimensions { expected: DIMENSIONS, actual: 3 }));
    let refused = |options: MsnOptions| match fit(&labelled, &pool, &options) {
        Some(Error::InvalidOption { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let ok = MsnOptions::default;
    assert_eq!(refused(MsnOptions { l2: 0.0, ..ok() }), "l2");
    assert_eq!(refused(MsnOptions { l2: f64::NAN, ..ok() }), "l2");
    assert_eq!(refused(MsnOptions { sharpening: 1.1, ..ok() }), "sharpening");
    assert_eq!(refused(MsnOptions { pool_weight: -1.0, ..ok() }), "pool_weight");
    assert_eq!(refused(MsnOptions { evenness: f64::INFINITY, ..ok() }), "evenness");
    assert_eq!(refused(MsnOptions { steps: 0, ..ok() }), "steps");
    assert_eq!(refused(MsnOptions { neighbours: 0, ..ok() }), "neighbours");
    assert_eq!(refused(MsnOptions { prototypes: 0, ..ok() }), "prototypes");
    for numbers in
        [[1.0, 1.0, 0.0, 1.0], [1.0, 1.0, f64::NAN, 1.0], [1.0, 1.0, -1.0, 1.0], [1.0, 1.0, 1e300, 1.0]]
    {
        let given: Vec<(ClassKey, f64)> = (0..).map(|class| 10 * class).zip(numbers).collect();
        assert_eq!(refused(MsnOptions { prior: ClassPrior::Given(given), ..ok() }), "prior");
    }
    let silent = vec![(0, 1.0), (10, 1.0), (30, 1.0)];
    assert_eq!(refused(MsnOptions { prior: ClassPrior::Given(silent), ..ok() }), "prior");
    let twice = vec![(0, 1.0), (10, 1.0), (20, 1.0), (20, 1.0), (30, 1.0)];
    assert_eq!(refused(MsnOptions { prior: ClassPrior::Given(twice), ..ok() }), "prior");
}

#[test]
fn progress_rises_to_the_end_and_can_be_broken_off() {
    let (labelled, pool) = (pictures(3, &[3; CLASSES as usize]), pool(&pictures(4, &[9; CLASSES as usize])));
    let mut shares = Vec::new();
    let mut note = |share: f64| {
        shares.push(share);
        ControlFlow::Continue(())
    };
    MsnHead::fit(&examples(&labelled), &pool, &MsnOptions::default(), &mut note).unwrap();
    assert!(shares.is_sorted() && shares.len() > 100, "{shares:?}");
    assert!(shares.iter().all(|share| (0.0..=1.0).contains(share)));
    for call in [0, 1, 50, shares.len() - 1] {
        let mut calls = 0;
        let mut stop = |_| {
            calls += 1;
            if calls > call { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        };
        let fit = MsnHead::fit(&examples(&labelled), &pool, &MsnOptions::default(), &mut stop);
        assert_eq!(fit.err(), Some(Error::Cancelled));
    }
}

#[test]
fn a_head_survives_storing_and_others_are_refused() {
    let options = MsnOptions { prototypes: 2, ..MsnOptions::default() };
    let labelled = examples(&pictures(3, &[3, 1, 3]));
    let (head, _) = MsnHead::fit(&labelled, &Pool::default(), &options, &mut go_on).unwrap();
    assert_eq!(head.class_of, [0, 0, 1, 2, 2]);
    let stored = serde_json::to_value(&head).unwrap();
    assert_eq!(serde_json::from_value::<MsnHead>(stored.clone()).unwrap(), head);
    for (field, value) in [
        ("format", serde_json::json!(2)),
        ("temperature", serde_json::json!(0.0)),
        ("classes", serde_json::json!([0, 20, 10])),
        ("classes", serde_json::json!([])),
        ("functions", serde_json::json!([2, 1])),
        ("functions", serde_json::json!([2, 3, 0])),
        ("functions", serde_json::json!([u64::MAX, u64::MAX, 1])),
        ("weights", serde_json::json!([1.0])),
        ("offsets", serde_json::json!([1.0])),
        ("dimensions", serde_json::json!(0)),
    ] {
        let mut changed = stored.clone();
        changed[field] = value;
        let refused = serde_json::from_value::<MsnHead>(changed).unwrap_err().to_string();
        assert!(refused.contains("stored head"), "{field}: {refused}");
    }
}

#[test]
fn options_that_are_not_given_are_the_default() {
    let options: MsnOptions = serde_json::from_str(r#"{"prior": {"given": [[1, 0.5], [2, 0.5]]}}"#).unwrap();
    let prior = ClassPrior::Given(vec![(1, 0.5), (2, 0.5)]);
    assert_eq!(options, MsnOptions { prior, ..MsnOptions::default() });
}
