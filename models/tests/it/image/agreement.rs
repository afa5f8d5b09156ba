//! Agreement with Pillow and torchvision on committed images.

use dozen_models::image::{Format, Limits, Preprocessor, RgbImage, decode, inspect};

use super::{extension, read, sources};

#[derive(serde::Deserialize)]
struct Case {
    source: String,
    width: u32,
    height: u32,
    decoded: Option<String>,
    crops: Vec<Crop>,
}

#[derive(serde::Deserialize)]
struct Crop {
    expected: String,
    manifest: serde_json::Value,
}

fn cases() -> Vec<Case> {
    serde_json::from_slice(&read("cases.json")).unwrap()
}

fn decoded(part: &str) -> RgbImage {
    decode(&read(part), &Limits::default()).unwrap_or_else(|error| panic!("{part}: {error}"))
}

/// Largest difference allowed, in levels of 255, when decoding. JPEG leaves its transform and chroma filter open, and
/// where this crate rounds 16-bit samples Pillow cuts them off; all else is exact.
fn decoding_tolerance(source: &str) -> u8 {
    match extension(source) {
        "jpg" => 6,
        "png" if source.contains("-16.") => 2,
        _ => 0,
    }
}

/// The same after resampling.
fn crop_tolerance(source: &str) -> u8 {
    if extension(source) == "jpg" { 6 } else { 2 }
}

/// Describes the difference if it is beyond the tolerance.
fn compare(name: &str, ours: &RgbImage, expected: &RgbImage, tolerance: u8) -> Result<(), String> {
    if (ours.width, ours.height) != (expected.width, expected.height) {
        return Err(format!("{name}: {ours:?} instead of {expected:?}"));
    }
    let differences = || ours.pixels.iter().zip(&expected.pixels).map(|(&a, &b)| a.abs_diff(b));
    let max = differences().max().unwrap_or(0);
    let mean = differences().map(f64::from).sum::<f64>() / ours.pixels.len() as f64;
    if max <= tolerance {
        Ok(())
    } else {
        Err(format!("{name}: max difference {max} (allowed {tolerance}), mean {mean:.3}"))
    }
}

fn report(failures: &[String]) {
    assert!(failures.is_empty(), "differs from Pillow:\n{}", failures.join("\n"));
}

#[test]
fn decoding_agrees_with_pillow() {
    let failures: Vec<String> = cases()
        .into_iter()
        .filter_map(|case| {
            let expected = decoded(&format!("decoded/{}", case.decoded?));
            let ours = decoded(&format!("source/{}", case.source));
            compare(&case.source, &ours, &expected, decoding_tolerance(&case.source)).err()
        })
        .collect();
    report(&failures);
}

#[test]
fn crops_agree_with_torchvision() {
    let mut failures = Vec::new();
    let mut compared = 0;
    for case in cases() {
        let image = decoded(&format!("source/{}", case.source));
        assert_eq!((image.width, image.height), (case.width, case.height), "{}", case.source);
        for crop in case.crops {
            let preprocessor = Preprocessor::from_json(&crop.manifest.to_string()).unwrap();
            let ours = preprocessor.crop(&image);
            let expected = decoded(&format!("crops/{}", crop.expected));
            failures.extend(compare(&crop.expected, &ours, &expected, crop_tolerance(&case.source)).err());
            compared += 1;
        }
    }
    assert!(compared >= 18, "only {compared} crops in cases.json");
    report(&failures);
}

#[test]
fn every_source_has_a_case_and_is_recognised_by_content() {
    let cases = cases();
    for (name, bytes) in sources() {
        assert!(cases.iter().any(|case| case.source == name), "{name} is missing from cases.json");
        let format = match extension(&name) {
            "jpg" => Format::Jpeg,
            "png" => Format::Png,
            "webp" => Format::WebP,
            "gif" => Format::Gif,
            "bmp" => Format::Bmp,
            other => panic!("{name}: {other}"),
        };
        assert_eq!(Format::sniff(&bytes), Some(format), "{name}");
        assert_eq!(inspect(&bytes, &Limits::default()).map(|(format, ..)| format), Ok(format), "{name}");
    }
}

#[test]
fn inspect_reports_the_size_as_stored() {
    let bytes = read("source/orientation-6.jpg");
    assert_eq!(inspect(&bytes, &Limits::default()), Ok((Format::Jpeg, 32, 16)));
    let upright = decode(&bytes, &Limits::default()).unwrap();
    assert_eq!((upright.width, upright.height), (16, 32));
}
