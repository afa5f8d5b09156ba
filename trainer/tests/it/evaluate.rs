//! Few-shot accuracy on pictures that are told apart by colour.

use crate::micro;
use dozen_trainer::data::{DataOptions, ImageSet};
use dozen_trainer::evaluate::{FeatureSource, LowShotOptions, Protocol, Shots, listed_split, low_shot};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;
use std::sync::atomic::{AtomicUsize, Ordering};

#[test]
fn raw_pixels_tell_colours_apart() {
    let root = tempfile::tempdir().unwrap();
    micro::write_pictures(root.path(), 12);
    std::fs::write(root.path().join("sky/broken.png"), b"broken").unwrap();
    let options = DataOptions { memory_mib: 16, shrink_short_side: 0, threads: 0 };
    let set = ImageSet::open(&[root.path().to_owned()], &options).unwrap();
    let done = AtomicUsize::new(0);
    let source = FeatureSource::RawPixels;
    let (features, skipped) =
        source.embed(&set, |images| _ = done.fetch_add(images, Ordering::Relaxed)).unwrap();
    assert_eq!((features.vectors.len(), skipped.len(), done.into_inner()), (36, 1, 36));
    assert_eq!(features.classes, ["brick", "grass", "sky"]);
    for vector in &features.vectors {
        let norm: f32 = vector.iter().map(|value| value * value).sum();
        assert!((norm - 1.0).abs() < 1e-4);
    }

    let drawn = Protocol::Drawn { shots: vec![Shots::PerClass(1), Shots::PerClass(5)], draws: 4, seed: 0 };
    let report = low_shot("raw", &features, &LowShotOptions { protocol: drawn, l2: vec![0.0025] }).unwrap();
    assert_eq!(report.rows.len(), 4);
    assert!(report.rows.iter().all(|row| row.accuracy > 0.95 && row.splits == 4), "{report:?}");

    let split = listed_split(&features, "sky/00.png\ngrass/00.png\nbrick/00.png", None).unwrap();
    let listed = LowShotOptions { protocol: Protocol::Listed(vec![split]), l2: vec![0.0025] };
    let report = low_shot("raw", &features, &listed).unwrap();
    assert!(
        report.rows.iter().all(|row| row.accuracy > 0.95 && row.shots.is_none() && row.interval.is_none())
    );

    // Labels that say nothing: chance.
    let mut shuffled = features;
    shuffled.labels.shuffle(&mut ChaCha8Rng::seed_from_u64(0));
    let drawn = Protocol::Drawn { shots: vec![Shots::PerClass(5)], draws: 10, seed: 0 };
    let report = low_shot("raw", &shuffled, &LowShotOptions { protocol: drawn, l2: vec![0.0025] }).unwrap();
    assert!(report.rows.iter().all(|row| (0.1..0.6).contains(&row.accuracy)), "{report:?}");
}
