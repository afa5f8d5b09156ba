//! The shipped photos, and images that are wrong in a particular way.

use std::io::Cursor;
use std::path::PathBuf;

/// Classes of the shipped photos.
pub const CLASSES: [&str; 6] = ["dress", "hat", "outwear", "pants", "shoes", "t-shirt"];

/// Path of a shipped photo; numbers run from 1 to 25.
pub fn path(class: &str, number: usize) -> PathBuf {
    crate::root().join(format!("server/demo/photos/{class}/{number:02}.jpg"))
}

/// Bytes of a shipped photo.
///
/// # Panics
/// When there is no such photo.
pub fn photo(class: &str, number: usize) -> Vec<u8> {
    let path = path(class, number);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Bytes of several shipped photos.
pub fn photos(class: &str, numbers: std::ops::RangeInclusive<usize>) -> Vec<Vec<u8>> {
    numbers.map(|number| photo(class, number)).collect()
}

/// A valid PNG of one colour.
///
/// # Panics
/// When encoding fails, which it does not.
pub fn plain_png(width: u32, height: u32, colour: [u8; 3]) -> Vec<u8> {
    let image = image::RgbImage::from_pixel(width, height, image::Rgb(colour));
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, image::ImageFormat::Png).expect("PNG encoding to memory");
    bytes.into_inner()
}

/// A small PNG file whose header announces other dimensions; the header's checksum is right.
pub fn png_announcing(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = plain_png(1, 1, [0, 0, 0]);
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let checksum = crc32(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xEDB8_8320 } else { crc >> 1 },
        )
    })
}
