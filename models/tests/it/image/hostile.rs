//! Bytes from anywhere: no panic, no surprise in size, no half picture.

use dozen_models::image::{Filter, ImageError, Limits, Preprocessor, Resize, RgbImage, decode, inspect};
use proptest::prelude::*;

use super::{extension, sources};

/// Far less than the largest fixture, so that mutated headers run into it.
const SMALL: Limits = Limits { max_bytes: 1 << 20, max_side: 400, max_pixels: 100_000 };

fn within(limits: &Limits, image: &RgbImage) -> bool {
    image.width.max(image.height) <= limits.max_side
        && u64::from(image.width) * u64::from(image.height) <= limits.max_pixels
        && image.pixels.len() as u64 == u64::from(image.width) * u64::from(image.height) * 3
        && !image.pixels.is_empty()
}

/// Headers of `width` × `height` images with hardly any data behind them.
fn headers(width: u16, height: u16) -> Vec<(&'static str, Vec<u8>)> {
    let (wide_width, wide_height) = (u32::from(width), u32::from(height));
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\x0d".to_vec();
    let mut header = b"IHDR".to_vec();
    header.extend([wide_width.to_be_bytes(), wide_height.to_be_bytes()].concat());
    header.extend([8, 2, 0, 0, 0]);
    png.extend(&header);
    png.extend(crc32(&header).to_be_bytes());
    png.extend(b"\0\0\0\x02IDAT\x78\x9c");
    png.extend(crc32(b"IDAT\x78\x9c").to_be_bytes());

    let mut bmp = b"BM\0\0\0\0\0\0\0\0\x36\0\0\0\x28\0\0\0".to_vec();
    bmp.extend([wide_width.to_le_bytes(), wide_height.to_le_bytes()].concat());
    bmp.extend([1, 0, 24, 0]);
    bmp.extend([0; 40]);

    let mut jpeg = b"\xff\xd8\xff\xdb\0\x43\0".to_vec();
    jpeg.extend([1; 64]);
    jpeg.extend(b"\xff\xc0\0\x0b\x08");
    jpeg.extend([height.to_be_bytes(), width.to_be_bytes()].concat());
    jpeg.extend(b"\x01\x01\x11\0\xff\xda\0\x08\x01\x01\0\0\x3f\0\0\0\xff\xd9");

    let mut gif = b"GIF89a".to_vec();
    gif.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    gif.extend(b"\0\0\0\x2c\0\0\0\0");
    gif.extend([width.to_le_bytes(), height.to_le_bytes()].concat());
    gif.extend(b"\0\x02\x01\x00\0;");

    // Plain WebP has 14 bits a side; the extended header has 24.
    let mut webp = b"WEBPVP8X\x0a\0\0\0\0\0\0\0".to_vec();
    webp.extend(&(wide_width - 1).to_le_bytes()[..3]);
    webp.extend(&(wide_height - 1).to_le_bytes()[..3]);
    webp.extend(b"VP8L\x06\0\0\0\x2f\0\0\0\0\0");
    let webp = [b"RIFF".to_vec(), (webp.len() as u32).to_le_bytes().to_vec(), webp].concat();

    vec![("png", png), ("bmp", bmp), ("jpeg", jpeg), ("gif", gif), ("webp", webp)]
}

/// The checksum of PNG chunks (ISO 3309).
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    })
}

#[test]
fn sizes_are_refused_by_the_header_alone() {
    for (name, bytes) in headers(30_000, 30_000) {
        let expected = ImageError::SideTooLong { width: 30_000, height: 30_000, limit: 16_384 };
        assert_eq!(inspect(&bytes, &Limits::default()), Err(expected.clone()), "{name}");
        assert_eq!(decode(&bytes, &Limits::default()), Err(expected), "{name}");
    }
    for (name, bytes) in headers(16_000, 16_000) {
        let expected = ImageError::TooManyPixels { width: 16_000, height: 16_000, limit: 50_000_000 };
        assert_eq!(decode(&bytes, &Limits::default()), Err(expected), "{name}");
    }
}

#[test]
fn the_same_headers_pass_when_small() {
    for (name, bytes) in headers(300, 200) {
        let (_, width, height) =
            inspect(&bytes, &Limits::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!((width, height), (300, 200), "{name}");
    }
}

#[test]
fn a_header_with_nothing_behind_it_is_an_error() {
    // 49 million pixels are within the limits, but there is not a byte of them.
    for (name, bytes) in headers(7_000, 7_000) {
        let decoded = decode(&bytes, &Limits::default());
        assert!(matches!(decoded, Err(ImageError::Undecodable { .. })), "{name}: {decoded:?}");
        // Under a tighter limit it never gets that far.
        assert!(matches!(decode(&bytes, &SMALL), Err(ImageError::SideTooLong { .. })), "{name}");
    }
}

#[test]
fn nothing_and_nonsense_are_told_apart() {
    let limits = Limits::default();
    assert_eq!(decode(b"", &limits), Err(ImageError::Empty));
    assert_eq!(decode(b"just some text", &limits), Err(ImageError::UnsupportedFormat));
    assert_eq!(
        decode(b"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", &limits),
        Err(ImageError::UnsupportedFormat)
    );
    assert_eq!(
        decode(&[0; 11], &Limits { max_bytes: 10, ..limits }),
        Err(ImageError::TooManyBytes { bytes: 11, limit: 10 })
    );
}

#[test]
fn truncated_files_are_errors_or_whole() {
    // Bytes after the last pixel may be missing in most formats: then the picture must be the whole one.
    for (name, bytes) in sources() {
        let whole = decode(&bytes, &Limits::default()).unwrap();
        let step = (bytes.len() / 97).max(1);
        for length in (1..bytes.len()).rev().step_by(step) {
            match decode(&bytes[..length], &Limits::default()) {
                Ok(image) => {
                    assert!(
                        image == whole,
                        "{name} cut to {length} of {} bytes is another picture",
                        bytes.len()
                    );
                    assert!(!matches!(extension(&name), "jpg" | "webp"), "{name} cut to {length} bytes");
                }
                Err(ImageError::Undecodable { .. }) => {}
                Err(ImageError::UnsupportedFormat) if length < 32 => {}
                Err(error) => panic!("{name} cut to {length} bytes: {error}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(decode(&bytes, &SMALL).is_err());
        prop_assert!(inspect(&bytes, &SMALL).is_err());
    }

    #[test]
    fn arbitrary_bytes_behind_a_signature_are_handled(
        which in 0..5_usize, tail in prop::collection::vec(any::<u8>(), 0..400)
    ) {
        let (_, mut bytes) = headers(30, 20).swap_remove(which);
        bytes.extend(tail);
        if let Ok(image) = decode(&bytes, &SMALL) {
            prop_assert!(within(&SMALL, &image));
        }
    }

    #[test]
    fn mutated_images_stay_within_limits(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        in_header in any::<bool>(),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let sources = sources();
        let (name, mut bytes) = which.get(&sources).clone();
        let reach = if in_header { bytes.len().min(128) } else { bytes.len() };
        for (position, value) in changes {
            bytes[position.index(reach)] = value;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let inspected = inspect(&bytes, &SMALL);
        match decode(&bytes, &SMALL) {
            Ok(image) => {
                prop_assert!(within(&SMALL, &image), "{} became {:?}", name, image);
                prop_assert!(inspected.is_ok());
            }
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    #[test]
    fn mutated_photos_are_cropped_where_they_are_decoded(
        which in any::<prop::sample::Index>(),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        side in 4..80_u32,
    ) {
        let photos: Vec<_> = sources().into_iter().filter(|(name, _)| extension(name) == "jpg").collect();
        let (name, mut bytes) = which.get(&photos).clone();
        for (position, value) in changes {
            let position = position.index(bytes.len());
            bytes[position] = value;
        }
        let resize = Resize::Squash { size: side };
        let preprocessor = Preprocessor { resize, filter: Filter::Bilinear, mean: [0.0; 3], std: [1.0; 3] };
        match preprocessor.decode_crop(&bytes, &SMALL) {
            Ok((crop, _)) => prop_assert!((crop.width, crop.height) == (side, side), "{} became {:?}", name, crop),
            // Damage where the crop does not look may go unnoticed, but never the other way round.
            Err(error) => prop_assert_eq!(decode(&bytes, &SMALL).err(), Some(error), "{}", name),
        }
    }
}
