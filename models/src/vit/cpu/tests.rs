//! Against the reference, at shapes that fill no tile.

use super::*;
use crate::vit::reference::{ForwardOptions, Keep};
use crate::vit::{Family, Kernels, Positions, VitConfig};
use candle_core::{Device, Tensor};
use std::collections::HashMap;

pub(in crate::vit) fn config(
    depth: usize,
    width: usize,
    heads: usize,
    patch: usize,
    grid: usize,
) -> VitConfig {
    VitConfig {
        family: Family::Msn,
        positions: Positions::default(),
        hidden_size: width,
        num_hidden_layers: depth,
        num_attention_heads: heads,
        intermediate_size: 3 * width + 1,
        patch_size: patch,
        image_size: patch * grid,
        num_channels: 3,
        layer_norm_eps: 1e-6,
    }
}

fn waves(count: usize, pace: f64, scale: f64) -> Vec<f32> {
    (0..count).map(|n| (scale * (pace * n as f64 + 0.3).sin()) as f32).collect()
}

pub(in crate::vit) fn network(config: &VitConfig) -> Vit {
    let tensor = |(index, (name, shape)): (usize, (String, Vec<usize>))| {
        let count = shape.iter().product();
        // LayerNorm weights about 1, all else small enough for activations to stay of unit size.
        let mut values = waves(count, 0.61 + 0.07 * index as f64, 1.4 / (config.hidden_size as f64).sqrt());
        if name.contains("norm") && name.ends_with("weight") {
            for value in &mut values {
                *value += 1.0;
            }
        }
        (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
    };
    let parameters: HashMap<_, _> =
        Vit::parameter_shapes(config).into_iter().enumerate().map(tensor).collect();
    Vit::with_kernels(config, &parameters, Kernels::Reference).unwrap()
}

pub(in crate::vit) fn crops(count: usize, side: usize) -> Vec<RgbImage> {
    let crop = |number: usize| RgbImage {
        width: side as u32,
        height: side as u32,
        pixels: (0..side * side * 3).map(|at| (at * (7 + number) + at * at / 5) as u8).collect(),
    };
    (0..count).map(crop).collect()
}

pub(in crate::vit) const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
pub(in crate::vit) const DEVIATION: [f32; 3] = [0.229, 0.224, 0.225];

/// What the reference makes of the same crops.
pub(in crate::vit) fn expected(vit: &Vit, crops: &[RgbImage], keep: Option<Keep<'_>>) -> Vec<f32> {
    let side = crops[0].width as usize;
    let mut planes = Vec::new();
    for crop in crops {
        for channel in 0..3 {
            planes.extend(
                crop.pixels
                    .chunks_exact(3)
                    .map(|pixel| (f32::from(pixel[channel]) / 255.0 - MEAN[channel]) / DEVIATION[channel]),
            );
        }
    }
    let pixels = Tensor::from_vec(planes, (crops.len(), 3, side, side), &Device::Cpu).unwrap();
    let hidden = vit.forward_with(&pixels, &ForwardOptions { keep, branch_scales: None }).unwrap();
    hidden.flatten_all().unwrap().to_vec1().unwrap()
}

fn assert_close(name: &str, found: &[f32], expected: &[f32]) {
    assert_eq!(found.len(), expected.len(), "{name}");
    let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    for (place, (found, expected)) in found.iter().zip(expected).enumerate() {
        // Written so that NaN fails.
        assert!((found - expected).abs() < 2e-5 * largest, "{name}: {place}: {found} instead of {expected}");
    }
}

pub(in crate::vit) fn cls_rows(all: &[f32], images: usize, width: usize) -> Vec<f32> {
    all.chunks_exact(all.len() / images).flat_map(|image| image[..width].to_vec()).collect()
}

#[test]
fn it_is_the_reference() {
    let shapes = [(1, 24, 3, 7, 5), (2, 40, 2, 4, 3), (3, 128, 4, 8, 8)];
    for (instructions, (depth, width, heads, patch, grid)) in
        Instructions::available().flat_map(|one| shapes.map(|shape| (one, shape)))
    {
        let vit = network(&config(depth, width, heads, patch, grid));
        let all: Vec<u32> = (0..(grid * grid) as u32).collect();
        for images in [1, 5, 33] {
            let crops = crops(images, patch * grid);
            let reference = expected(&vit, &crops, None);
            let name = format!("{instructions:?}, width {width}, {images} images");
            let run = |outputs| {
                let cpu = CpuVit::with_instructions(
                    &vit,
                    grid,
                    [MEAN, DEVIATION],
                    outputs,
                    Precision::F32,
                    instructions,
                );
                cpu.unwrap().unwrap().run(&crops, Kept::Shared(&all))
            };
            assert_close(&name, &run(Outputs::All), &reference);
            assert_close(&name, &run(Outputs::First), &cls_rows(&reference, images, width));
        }
    }
}

#[test]
fn dropped_patches_are_never_seen() {
    let (grid, patch, width) = (6, 4, 32);
    let vit = network(&config(2, width, 2, patch, grid));
    let crops = crops(3, patch * grid);
    let cpu = CpuVit::new(&vit, grid, MEAN, DEVIATION, Outputs::First, Precision::F32).unwrap().unwrap();
    let shared = [30, 2, 17, 9, 5];
    let reference = expected(&vit, &crops, Some(Keep::Shared(&shared)));
    assert_close("shared", &cpu.run(&crops, Kept::Shared(&shared)), &cls_rows(&reference, 3, width));
    let lists = [vec![0, 7, 35], vec![3, 2, 1], vec![20, 21, 22]];
    let indices = Tensor::new(lists.concat(), &Device::Cpu).unwrap().reshape((3, 3)).unwrap();
    let reference = expected(&vit, &crops, Some(Keep::PerImage(&indices)));
    let apart = cpu.run(&crops, Kept::PerImage(&lists));
    assert_close("per image", &apart, &cls_rows(&reference, 3, width));
    // Several masks of a crop give what each gives alone.
    let rest = lists.iter().map(|list| list.iter().map(|patch| 35 - patch).collect::<Vec<u32>>());
    let rest: Vec<_> = rest.collect();
    let both: Vec<_> =
        lists.iter().zip(&rest).flat_map(|(one, other)| [one.clone(), other.clone()]).collect();
    let together = cpu.run(&crops, Kept::PerImage(&both));
    let other = cpu.run(&crops, Kept::PerImage(&rest));
    for (image, pair) in together.chunks_exact(2 * width).enumerate() {
        assert_eq!(pair[..width], apart[image * width..][..width]);
        assert_eq!(pair[width..], other[image * width..][..width]);
    }
}

/// Alone, in any batch, on any number of threads: the same bits.
#[test]
fn an_image_is_embedded_alike_in_any_company() {
    let (grid, patch) = (7, 8);
    let vit = network(&config(2, 48, 3, patch, grid));
    let crops = crops(9, patch * grid);
    let cpu = CpuVit::new(&vit, grid, MEAN, DEVIATION, Outputs::First, Precision::F32).unwrap().unwrap();
    let all: Vec<u32> = (0..(grid * grid) as u32).collect();
    let alone: Vec<f32> = crops.chunks(1).flat_map(|crop| cpu.run(crop, Kept::Shared(&all))).collect();
    for threads in [1, 2, 3, 5] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        assert!(pool.install(|| cpu.run(&crops, Kept::Shared(&all))) == alone, "{threads} threads");
        assert!(
            pool.install(|| cpu.run(&crops[..1], Kept::Shared(&all))) == alone[..48],
            "{threads} threads"
        );
    }
}

#[test]
fn black_and_white_images_are_numbers() {
    let (grid, patch) = (3, 8);
    let vit = network(&config(2, 32, 2, patch, grid));
    let cpu = CpuVit::new(&vit, grid, MEAN, DEVIATION, Outputs::First, Precision::F32).unwrap().unwrap();
    let all: Vec<u32> = (0..9).collect();
    for level in [0, 255] {
        let side = (patch * grid) as u32;
        let crop = RgbImage { width: side, height: side, pixels: vec![level; (side * side * 3) as usize] };
        assert!(cpu.run(&[crop], Kept::Shared(&all)).iter().all(|value| value.is_finite()));
    }
}

/// Bytes turn a vector by little; and they do turn it, or nothing was tested.
#[test]
fn bytes_come_close() {
    let (grid, patch, width) = (6, 8, 64);
    let vit = network(&config(4, width, 4, patch, grid));
    let crops = crops(8, patch * grid);
    let all: Vec<u32> = (0..(grid * grid) as u32).collect();
    let run = |precision| {
        let cpu = CpuVit::new(&vit, grid, MEAN, DEVIATION, Outputs::First, precision).unwrap().unwrap();
        cpu.run(&crops, Kept::Shared(&all))
    };
    let (floats, bytes) = (run(Precision::F32), run(Precision::Int8));
    assert_ne!(floats, bytes);
    for (floats, bytes) in floats.chunks_exact(width).zip(bytes.chunks_exact(width)) {
        let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
        let cosine = dot(floats, bytes) / (dot(floats, floats) * dot(bytes, bytes)).sqrt();
        assert!(cosine > 0.998, "{cosine}");
    }
}
