//! Reports on small data sets.

use super::*;
use std::path::Path;

const OPTIONS: DataOptions = DataOptions { memory_mib: 1, shrink_short_side: 0, threads: 0 };

/// Blocks of colour that differ from seed to seed, with a slight shade.
fn photo(seed: u64, width: u32, height: u32) -> image::RgbImage {
    use crate::data::order::{Purpose, keyed_rng};
    use rand::Rng as _;
    let mut rng = keyed_rng(seed, Purpose::Shuffle, 0, 0, 0);
    let levels: Vec<u8> = (0..6 * 6 * 3).map(|_| rng.random()).collect();
    image::RgbImage::from_fn(width, height, |x, y| {
        let cell = ((y * 6 / height) * 6 + x * 6 / width) as usize * 3;
        image::Rgb([levels[cell], levels[cell + 1], levels[cell + 2]])
    })
}

fn save(root: &Path, name: &str, image: &image::RgbImage) {
    let path = root.join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    image.save(path).unwrap();
}

fn report(root: &Path, config: Option<&Config>) -> Report {
    check(&[root.to_owned()], &OPTIONS, config, || ()).unwrap()
}

#[test]
fn duplicates_are_found_across_formats_sizes_and_classes() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for seed in 0..12 {
        save(root, &format!("cat/{seed:02}.png"), &photo(seed, 60, 48));
    }
    // The same pixels in another file, the same picture smaller and compressed, and one that only looks flat.
    save(root, "dog/copy.bmp", &photo(3, 60, 48));
    save(root, "cat/small.jpg", &photo(5, 48, 40));
    save(root, "cat/grey.png", &image::RgbImage::from_pixel(60, 48, image::Rgb([90; 3])));
    save(root, "cat/black.png", &image::RgbImage::from_pixel(60, 48, image::Rgb([0; 3])));
    let report = report(root, None);
    assert_eq!(report.exact_duplicates, [["cat/03.png", "dog/copy.bmp"]]);
    assert_eq!(report.near_duplicates, [["cat/05.png", "cat/small.jpg"]]);
    assert_eq!(report.label_conflicts.len(), 1);
    let conflict = &report.label_conflicts[0];
    assert!(conflict.exact);
    assert_eq!(conflict.images.iter().map(|image| image.label.as_str()).collect::<Vec<_>>(), ["cat", "dog"]);
    assert_eq!(report.formats, BTreeMap::from([("BMP", 1), ("JPEG", 1), ("PNG", 14)]));
    assert_eq!((report.classes.images["cat"], report.classes.imbalance), (15, 15.0));
    assert_eq!(report.sizes.width, Spread { min: 48.0, median: 60.0, max: 60.0 });
    assert_eq!(report.memory.decoded_bytes, (15 * 60 * 48 + 48 * 40) * 3);
    assert!(report.memory.fits && report.errors.is_empty());
    let warned = report.warnings.join("\n");
    assert!(warned.contains("1 images have the same pixels") && warned.contains("15 times"), "{warned}");
}

#[test]
fn a_configuration_says_what_is_too_small() {
    let root = tempfile::tempdir().unwrap();
    save(root.path(), "a.png", &photo(1, 100, 40));
    save(root.path(), "b.png", &photo(2, 70, 70));
    std::fs::write(root.path().join("c.png"), b"broken").unwrap();
    let overrides = ["views.random_size=64", "views.focal_size=32", "optimisation.batch_size=3"];
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs/shipped-cpu.toml");
    let config = Config::read(&path, &overrides.map(str::to_owned)).unwrap();
    let report = report(root.path(), Some(&config));
    assert_eq!(report.sizes.smaller_than_views[0], SmallerThanView { side: 64, images: 1 });
    assert_eq!((report.images, report.readable, report.unreadable[0].name.as_str()), (3, 2, "c.png"));
    assert!(report.errors[0].contains("2 images do not fill a batch of 3"), "{:?}", report.errors);
    assert!(report.warnings.iter().any(|warning| warning.contains("enlarged")));
}

#[test]
fn nothing_readable_is_an_error_in_the_report() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("c.png"), b"broken").unwrap();
    let report = report(root.path(), None);
    assert!(report.errors[0].contains("none of the 1 images"), "{:?}", report.errors);
}
