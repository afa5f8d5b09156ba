//! The image contract seen from outside: agreement with Pillow and torchvision, and what hostile bytes cannot do.

mod agreement;
mod hostile;
mod straight;

use std::path::{Path, PathBuf};

/// A file of the fixtures made by `xtask/python/fixtures/image.py`.
fn fixture(part: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/image").join(part)
}

fn read(part: &str) -> Vec<u8> {
    let path = fixture(part);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Name and bytes of every source image, by name.
fn sources() -> Vec<(String, Vec<u8>)> {
    let mut names: Vec<String> = std::fs::read_dir(fixture("source"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names.into_iter().map(|name| (name.clone(), read(&format!("source/{name}")))).collect()
}

/// `jpg` of `baseline.jpg`.
fn extension(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(_, extension)| extension)
}
