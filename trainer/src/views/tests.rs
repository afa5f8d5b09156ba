//! Against Pillow (`xtask/python/fixtures/views.py`), and the properties training relies on.

use super::colour;
use super::render::{MEAN, STD};
use super::{Distortion, ViewRecipe, ViewRenderer};
use crate::data::order::{Purpose, keyed_rng};
use dozen_models::image::RgbImage;
use rand::Rng as _;
use serde_json::Value;

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::from_value(value.clone()).unwrap()
}

/// The fixture's image and its cases of one operation.
fn pillow(operation: &str) -> (RgbImage, Vec<(Value, Vec<u8>)>) {
    let fixture: Value =
        serde_json::from_str(include_str!("../../../tests/fixtures/views/pillow.json")).unwrap();
    let image = RgbImage {
        width: fixture["width"].as_u64().unwrap() as u32,
        height: fixture["height"].as_u64().unwrap() as u32,
        pixels: bytes(&fixture["pixels"]),
    };
    let cases: Vec<_> =
        fixture["cases"].as_array().unwrap().iter().filter(|case| case["operation"] == operation).collect();
    assert!(!cases.is_empty());
    (image, cases.into_iter().map(|case| (case["argument"].clone(), bytes(&case["pixels"]))).collect())
}

fn largest_difference(ours: &[u8], theirs: &[u8]) -> u8 {
    assert_eq!(ours.len(), theirs.len());
    ours.iter().zip(theirs).map(|(ours, theirs)| ours.abs_diff(*theirs)).max().unwrap()
}

fn compare(operation: &str, apply: fn(&mut [u8], f32)) {
    let (image, cases) = pillow(operation);
    for (argument, expected) in cases {
        let mut pixels = image.pixels.clone();
        apply(&mut pixels, argument.as_f64().unwrap() as f32);
        assert_eq!(largest_difference(&pixels, &expected), 0, "{operation} {argument}");
    }
}

#[test]
fn colour_operations_equal_pillow() {
    compare("brightness", colour::brightness);
    compare("contrast", colour::contrast);
    compare("saturation", colour::saturation);
    compare("hue", colour::hue);
    compare("grey", |pixels, _| colour::grey(pixels));
}

#[test]
fn crops_equal_pillow_and_read_nothing_outside_the_window() {
    let (image, cases) = pillow("crop");
    for (window, expected) in cases {
        let [left, top, width, height]: [u32; 4] = serde_json::from_value(window).unwrap();
        let window = dozen_models::image::Cut { left, top, width, height };
        let pixels = ViewRenderer::default().resize(&image, window, 8).unwrap();
        assert!(largest_difference(&pixels, &expected) <= 1, "{window:?}");
    }
}

fn distortion() -> Distortion {
    Distortion {
        flip_probability: 0.5,
        jitter_probability: 0.8,
        jitter_strength: 0.5,
        grey_probability: 0.2,
        blur_probability: 0.5,
        blur_sigma: (0.1, 2.0),
    }
}

fn photo() -> RgbImage {
    let mut rng = keyed_rng(3, Purpose::Draw, 0, 0, 0);
    RgbImage { width: 40, height: 30, pixels: (0..40 * 30 * 3).map(|_| rng.random()).collect() }
}

fn render(distortion: &Distortion, area: (f64, f64), view: u16) -> Vec<f32> {
    let recipe = ViewRecipe { size: 16, area, distortion };
    let mut out = vec![f32::NAN; 3 * 16 * 16];
    let mut rng = keyed_rng(0, Purpose::View, 5, 2, view);
    let photo = photo();
    let plan = recipe.draw(photo.width, photo.height, &mut rng);
    ViewRenderer::default().render(&photo, &plan, recipe.size, &mut out).unwrap();
    out
}

#[test]
fn a_view_is_a_function_of_its_key() {
    let distortion = distortion();
    let views: Vec<_> = (0..20).map(|view| render(&distortion, (0.3, 1.0), view)).collect();
    for (view, pixels) in views.iter().enumerate() {
        assert_eq!(*pixels, render(&distortion, (0.3, 1.0), view as u16));
        assert!(views[..view].iter().all(|other| other != pixels), "view {view} repeats another");
    }
}

#[test]
fn values_stay_in_the_normalised_range() {
    for view in 0..50 {
        let pixels = render(&distortion(), (0.05, 0.3), view);
        for (channel, values) in pixels.chunks_exact(256).enumerate() {
            let (low, high) = (-MEAN[channel] / STD[channel], (1.0 - MEAN[channel]) / STD[channel]);
            assert!(values.iter().all(|value| (low - 1e-5..=high + 1e-5).contains(value)));
        }
    }
}

#[test]
fn probabilities_of_one_and_zero_are_certain() {
    let off = Distortion {
        flip_probability: 0.0,
        jitter_probability: 0.0,
        grey_probability: 0.0,
        blur_probability: 0.0,
        ..distortion()
    };
    let plain = render(&off, (0.5, 0.5), 0);
    // The same key crops the same window: only the one distortion that is certain differs.
    let flipped = render(&Distortion { flip_probability: 1.0, ..off.clone() }, (0.5, 0.5), 0);
    let mirrored: Vec<f32> = flipped.chunks_exact(16).flat_map(|row| row.iter().rev().copied()).collect();
    assert_eq!(mirrored, plain);

    let grey = render(&Distortion { grey_probability: 1.0, ..off.clone() }, (0.5, 0.5), 0);
    let level =
        |plane: usize, at: usize| ((grey[plane * 256 + at] * STD[plane] + MEAN[plane]) * 255.0).round() as u8;
    assert!((0..256).all(|at| level(0, at) == level(1, at) && level(1, at) == level(2, at)));
    assert_ne!(render(&Distortion { jitter_probability: 1.0, ..off.clone() }, (0.5, 0.5), 0), plain);
    assert_ne!(render(&Distortion { blur_probability: 1.0, ..off }, (0.5, 0.5), 0), plain);
}
