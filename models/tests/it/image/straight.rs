//! `decode_crop` beside `decode` and `crop`: the same crops, the same errors.

use dozen_models::image::{
    Filter, Format, ImageError, Limits, Preprocessor, Resampler, Resize, RgbImage, Window, decode,
    encode_jpeg,
};
use dozen_models::{DeviceChoice, DtypeChoice, Encoder, ModelFiles};

use super::{extension, read, sources};

fn preprocessor(resize: Resize, filter: Filter) -> Preprocessor {
    Preprocessor { resize, filter, mean: [0.5; 3], std: [0.5; 3] }
}

fn both(preprocessor: &Preprocessor, bytes: &[u8]) -> (RgbImage, RgbImage) {
    let limits = Limits::default();
    let (straight, _) = preprocessor.decode_crop(bytes, &limits).unwrap();
    (straight, preprocessor.crop(&decode(bytes, &limits).unwrap()))
}

/// Mean and largest difference in levels.
fn difference(one: &RgbImage, other: &RgbImage) -> (f64, u8) {
    assert_eq!((one.width, one.height), (other.width, other.height));
    let all = || one.pixels.iter().zip(&other.pixels).map(|(one, other)| one.abs_diff(*other));
    (all().map(f64::from).sum::<f64>() / one.pixels.len() as f64, all().max().unwrap())
}

#[test]
fn without_reduction_crops_are_those_of_decode() {
    for (name, bytes) in sources() {
        let is_turned = name.starts_with("orientation");
        for filter in [Filter::Bilinear, Filter::Bicubic] {
            for resize in [
                Resize::ShortSideThenCrop { short_side: 256, crop: 224 },
                Resize::ShortSideThenCrop { short_side: 101, crop: 100 },
                Resize::Squash { size: 150 },
            ] {
                let (straight, expected) = both(&preprocessor(resize, filter), &bytes);
                let (mean, largest) = difference(&straight, &expected);
                assert!(largest <= u8::from(is_turned), "{name} {resize:?} {filter:?}: {mean}, {largest}");
            }
        }
    }
}

#[test]
fn every_orientation_is_upright_when_reduced_too() {
    for orientation in 1..=8 {
        let bytes = read(&format!("source/orientation-{orientation}.jpg"));
        for (short_side, crop) in [(7, 6), (4, 4), (2, 2)] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                let resize = Resize::ShortSideThenCrop { short_side, crop };
                let (straight, expected) = both(&preprocessor(resize, filter), &bytes);
                let (mean, largest) = difference(&straight, &expected);
                assert!(mean < 4.0, "{orientation} {resize:?} {filter:?}: {mean}, {largest}");
            }
        }
    }
}

#[test]
fn reduced_photos_differ_by_a_level_or_so() {
    for name in ["photo-dress", "photo-sandals", "photo-shirt"] {
        let bytes = read(&format!("source/{name}.jpg"));
        // Reduced to 1/2, 1/4 and 1/8.
        for side in [64, 36, 18] {
            for filter in [Filter::Bilinear, Filter::Bicubic] {
                for resize in [
                    Resize::ShortSideThenCrop { short_side: side, crop: side * 7 / 8 },
                    Resize::Squash { size: side },
                ] {
                    let (straight, expected) = both(&preprocessor(resize, filter), &bytes);
                    let (mean, largest) = difference(&straight, &expected);
                    assert!(mean < 1.5 && largest <= 24, "{name} {resize:?} {filter:?}: {mean}, {largest}");
                }
            }
        }
    }
}

#[test]
fn reduced_photos_have_the_same_vectors() {
    let encoder = Encoder::load_as(&ModelFiles::shipped(), DeviceChoice::Cpu, DtypeChoice::F32).unwrap();
    let mut crops = Vec::new();
    for name in ["photo-dress", "photo-sandals", "photo-shirt"] {
        let photo = decode(&read(&format!("source/{name}.jpg")), &Limits::default()).unwrap();
        for scale in [2, 4, 8] {
            let (width, height) = (f64::from(photo.width), f64::from(photo.height));
            let whole = Window { left: 0.0, top: 0.0, width, height };
            let size = (scale * photo.width, scale * photo.height);
            let large = Resampler::default().window(&photo, whole, size, Filter::Bicubic).unwrap();
            let (straight, expected) = both(encoder.preprocessor(), &encode_jpeg(&large, 90).unwrap());
            assert!(straight != expected, "{name} × {scale} is not reduced");
            crops.extend([straight, expected]);
        }
    }
    let vectors = encoder.embed(&crops, 1.0).unwrap();
    let cosines = vectors.as_chunks::<2>().0.iter().map(|[straight, expected]| {
        straight.iter().zip(expected).map(|(one, other)| f64::from(one * other)).sum::<f64>()
    });
    let cosines: Vec<f64> = cosines.collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    let least = cosines.iter().copied().fold(1.0, f64::min);
    assert!(mean > 0.9995 && least > 0.999, "mean {mean}, least {least}");
}

#[test]
fn errors_are_those_of_decode() {
    let preprocessor = preprocessor(Resize::Squash { size: 16 }, Filter::Bilinear);
    for (name, bytes) in sources() {
        let limits = Limits::default();
        let (_, format) = preprocessor.decode_crop(&bytes, &limits).unwrap();
        assert_eq!(Format::sniff(&bytes), Some(format), "{name}");
        for length in (0..bytes.len()).step_by((bytes.len() / 23).max(1)) {
            let expected = decode(&bytes[..length], &limits).map(|_| ());
            let straight = preprocessor.decode_crop(&bytes[..length], &limits).map(|_| ());
            assert_eq!(straight, expected, "{name} cut to {length} bytes");
            assert!(extension(&name) != "jpg" || straight.is_err(), "{name} cut to {length} bytes");
        }
        for limits in [
            Limits { max_bytes: bytes.len() - 1, ..limits },
            Limits { max_side: 0, ..limits },
            Limits { max_pixels: 0, ..limits },
        ] {
            let expected = decode(&bytes, &limits).map(|_| ());
            assert!(
                !matches!(expected, Ok(()) | Err(ImageError::Undecodable { .. })),
                "{name}: {expected:?}"
            );
            assert_eq!(preprocessor.decode_crop(&bytes, &limits).map(|_| ()), expected, "{name}");
        }
    }
}
