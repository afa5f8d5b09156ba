//! A configuration and pictures small enough for a test.

use dozen_trainer::config::Config;
use dozen_trainer::data::ImageSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Colours of the three classes.
const CLASSES: [(&str, [u8; 3]); 3] =
    [("grass", [40, 160, 40]), ("sky", [60, 110, 220]), ("brick", [180, 60, 40])];

pub(crate) fn config_path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/micro.toml")
}

pub(crate) fn config(overrides: &[&str]) -> Config {
    let overrides: Vec<String> = overrides.iter().map(|one| (*one).to_owned()).collect();
    Config::read(&config_path(), &overrides).unwrap()
}

/// Writes `per_class` pictures of each class, told apart by colour, as class folders below `root`.
pub(crate) fn write_pictures(root: &Path, per_class: u32) {
    for (class, colour) in CLASSES {
        let folder = root.join(class);
        std::fs::create_dir_all(&folder).unwrap();
        for number in 0..per_class {
            let picture = image::RgbImage::from_fn(24, 20, |x, y| {
                // Stripes and shade differ from picture to picture, the colour from class to class.
                let stripe = (x * (number + 1) + y * 3) % 40;
                image::Rgb(colour.map(|level| level.saturating_add((stripe + number % 7) as u8)))
            });
            picture.save(folder.join(format!("{number:02}.png"))).unwrap();
        }
    }
}

/// 24 pictures: three steps per epoch of the micro configuration.
pub(crate) fn pictures(root: &Path, config: &Config) -> Arc<ImageSet> {
    write_pictures(root, 8);
    Arc::new(ImageSet::open(&[root.to_owned()], &config.data).unwrap())
}
