//! Augmented views against Pillow (tests/fixtures/views, made by xtask/python/fixtures/views.py).

use super::Emulator;
use crate::image::{ColourOperation, Cut, ViewPlan};
use crate::vit::kernels::cuda::plan::{ImagePlace, view_colours, view_table, views, views_at_a_time};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../../../tests/fixtures/views/pillow.json")).unwrap()
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::from_value(value.clone()).unwrap()
}

fn plan(window: [u32; 4], colours: Vec<ColourOperation>) -> ViewPlan {
    let [left, top, width, height] = window;
    ViewPlan { window: Cut { left, top, width, height }, flip: false, colours, blur: None }
}

fn to_floats(bytes: &[u8]) -> Vec<f32> {
    bytes.iter().map(|&byte| f32::from(byte)).collect()
}

/// Views of one image at a side, interleaved, on the 0–255 scale.
fn render(pixels: &[u8], width: u32, plans: &[ViewPlan], side: usize) -> Option<Vec<Vec<f32>>> {
    render_parts(pixels, width, plans, side, views_at_a_time(plans.len(), side))
}

/// The same, so many views at a time.
fn render_parts(
    pixels: &[u8],
    width: u32,
    plans: &[ViewPlan],
    side: usize,
    most: usize,
) -> Option<Vec<Vec<f32>>> {
    // Not the beginning of the bytes, so that the place counts.
    let (start, mean, deviation) = (3, [0.0; 3], [1.0 / 255.0; 3]);
    let uploaded = [&[0; 3], pixels].concat();
    let placed: Vec<_> = plans.iter().map(|plan| (ImagePlace { start, width }, plan)).collect();
    let made = Emulator::run(|emulator| {
        let scratch = most * 3 * side * side;
        let out = emulator.floats(plans.len() * 3 * side * side);
        let arrays = [
            emulator.upload_words(&view_table(&placed)),
            emulator.upload(&uploaded),
            emulator.allocate(scratch),
            emulator.floats(scratch),
            out,
        ];
        emulator.launch(&views(plans.len(), most, side, arrays, mean, deviation));
        vec![emulator.download_floats(out, plans.len() * 3 * side * side)]
    })?;
    let interleaved =
        |planar: &[f32]| (0..planar.len()).map(|at| planar[at % 3 * side * side + at / 3].round()).collect();
    Some(made[0].chunks_exact(3 * side * side).map(interleaved).collect())
}

fn photo(side: u32) -> Vec<u8> {
    (0..side * side * 3).map(|at| (at * at / 7 + at * 31) as u8).collect()
}

fn largest_difference(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(one, other)| (one - other).abs()).fold(0.0, f32::max)
}

#[test]
fn crops_are_pillows() {
    let fixture = fixture();
    let cases = fixture["cases"].as_array().unwrap().iter().filter(|case| case["operation"] == "crop");
    let (windows, expected): (Vec<_>, Vec<_>) = cases
        .map(|case| {
            (serde_json::from_value::<[u32; 4]>(case["argument"].clone()).unwrap(), bytes(&case["pixels"]))
        })
        .unzip();
    let plans: Vec<_> = windows.into_iter().map(|window| plan(window, Vec::new())).collect();
    let width = fixture["width"].as_u64().unwrap() as u32;
    let Some(made) = render(&bytes(&fixture["pixels"]), width, &plans, 8) else { return };
    assert_eq!(made.len(), 3);
    for (made, expected) in made.iter().zip(&expected) {
        assert!(largest_difference(made, &to_floats(expected)) <= 1.0, "{made:?}");
    }
}

#[test]
fn colours_are_pillows() {
    let fixture = fixture();
    let pixels = bytes(&fixture["pixels"]);
    let mut cases = Vec::new();
    for case in fixture["cases"].as_array().unwrap() {
        let amount = case["argument"].as_f64().unwrap_or_default() as f32;
        let operation = match case["operation"].as_str().unwrap() {
            "brightness" => ColourOperation::Brightness(amount),
            "contrast" => ColourOperation::Contrast(amount),
            "saturation" => ColourOperation::Saturation(amount),
            "hue" => ColourOperation::Hue(amount),
            "grey" => ColourOperation::Grey,
            _ => continue,
        };
        cases.push((plan([0; 4], vec![operation]), bytes(&case["pixels"])));
    }
    assert!(cases.len() >= 14);
    let placed: Vec<_> = cases.iter().map(|(plan, _)| (ImagePlace { start: 0, width: 0 }, plan)).collect();
    let made = Emulator::run(|emulator| {
        let table = emulator.upload_words(&view_table(&placed));
        let all = emulator.upload(&pixels.repeat(cases.len()));
        emulator.launch(&[view_colours(cases.len(), pixels.len() / 3, table, all)]);
        vec![to_floats(&emulator.download(all, pixels.len() * cases.len()))]
    });
    let Some(made) = made else { return };
    for ((plan, expected), made) in cases.iter().zip(made[0].chunks_exact(pixels.len())) {
        assert!(largest_difference(made, &to_floats(expected)) < 0.5, "{:?}", plan.colours);
    }
}

/// Operations follow one another as they would in separate views, and flips change nothing but the order.
#[test]
fn operations_are_done_in_order() {
    let (side, window) = (20, [0, 0, 20, 20]);
    let colours = [
        ColourOperation::Hue(0.2),
        ColourOperation::Contrast(1.7),
        ColourOperation::Saturation(0.3),
        ColourOperation::Brightness(0.8),
        ColourOperation::Grey,
    ];
    let photo = photo(side);
    let together = plan(window, colours.to_vec());
    let flipped = ViewPlan { flip: true, ..together.clone() };
    let Some(made) = render(&photo, side, &[together, flipped], side as usize) else { return };
    let mut pixels = photo;
    for operation in colours {
        let made = render(&pixels, side, &[plan(window, vec![operation])], side as usize).unwrap();
        pixels = made[0].iter().map(|&value| value as u8).collect();
    }
    assert!(largest_difference(&made[0], &to_floats(&pixels)) < 0.5);
    let mirrored =
        made[1].chunks_exact(3 * side as usize).flat_map(|row| row.chunks_exact(3).rev().flatten());
    assert!(largest_difference(&mirrored.copied().collect::<Vec<_>>(), &made[0]) < 0.5);
}

/// The same by its definition, in f64.
#[test]
fn blurs_are_gaussian() {
    let side = 18;
    let photo = photo(side);
    let blurred = |sigma: f64| {
        let radius = (3.0 * sigma).ceil() as i64;
        let mean = |x: i64, y: i64, channel: usize| {
            let (mut sum, mut weights) = (0.0, 0.0);
            for (dx, dy) in (-radius..=radius).flat_map(|dx| (-radius..=radius).map(move |dy| (dx, dy))) {
                let edge = i64::from(side) - 1;
                let at = ((y + dy).clamp(0, edge) * i64::from(side) + (x + dx).clamp(0, edge)) as usize;
                let weight = (-((dx * dx + dy * dy) as f64) / (2.0 * sigma * sigma)).exp();
                sum += weight * f64::from(photo[3 * at + channel]);
                weights += weight;
            }
            (sum / weights).round() as f32
        };
        let pixels = (0..i64::from(side * side)).map(|at| (at % i64::from(side), at / i64::from(side)));
        pixels.flat_map(|(x, y)| [0, 1, 2].map(|channel| mean(x, y, channel))).collect::<Vec<_>>()
    };
    let sigmas = [0.1, 0.8, 2.0];
    let plans = sigmas.map(|sigma| ViewPlan { blur: Some(sigma), ..plan([0, 0, side, side], Vec::new()) });
    let Some(made) = render(&photo, side, &plans, side as usize) else { return };
    for (made, sigma) in made.iter().zip(sigmas) {
        let difference = largest_difference(made, &blurred(f64::from(sigma)));
        assert!(difference <= 1.0, "sigma {sigma}: off by {difference}");
    }
    assert!(largest_difference(&made[2], &to_floats(&photo)) > 20.0);
}

/// More views than the scratch arrays hold are made in parts.
#[test]
fn parts_fit_together() {
    assert_eq!([views_at_a_time(300, 224), views_at_a_time(3, 224), views_at_a_time(3, 5000)], [111, 3, 1]);
    let photo = photo(9);
    let windows = [[0, 0, 9, 9], [1, 1, 2, 2], [3, 0, 6, 6], [2, 5, 4, 3], [0, 1, 8, 8]];
    let blurred = |(number, window)| ViewPlan { blur: Some(number as f32 / 4.0), ..plan(window, Vec::new()) };
    let plans: Vec<_> = windows.into_iter().enumerate().map(blurred).collect();
    let Some(together) = render(&photo, 9, &plans, 17) else { return };
    assert_eq!(render_parts(&photo, 9, &plans, 17, 2).unwrap(), together);
    assert!(together.windows(2).all(|pair| pair[0] != pair[1]));
}
