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
    Vit::with_kernels(config, &parameters(config), Kernels::Reference).unwrap()
}

fn parameters(config: &VitConfig) -> HashMap<String, Tensor> {
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
    Vit::parameter_shapes(config).into_iter().enumerate().map(tensor).collect()
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

const PRECISIONS: [Precision; 3] = [Precision::F32, Precision::Int8, Precision::Mixed];

/// Alone, in any batch, on any number of threads: the same bits.
#[test]
fn an_image_is_embedded_alike_in_any_company() {
    let (grid, patch) = (7, 8);
    let vit = network(&config(2, 48, 3, patch, grid));
    let crops = crops(9, patch * grid);
    let all: Vec<u32> = (0..(grid * grid) as u32).collect();
    for precision in PRECISIONS {
        let cpu = CpuVit::new(&vit, grid, MEAN, DEVIATION, Outputs::First, precision).unwrap().unwrap();
        let alone: Vec<f32> = crops.chunks(1).flat_map(|crop| cpu.run(crop, Kept::Shared(&all))).collect();
        for threads in [1, 2, 3, 5] {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            let run = |crops| pool.install(|| cpu.run(crops, Kept::Shared(&all)));
            assert!(run(&crops) == alone, "{precision:?}, {threads} threads");
            assert!(run(&crops[..1]) == alone[..48], "{precision:?}, {threads} threads");
        }
    }
}

#[test]
fn black_and_white_images_are_numbers() {
    let (grid, patch) = (3, 8);
    let vit = network(&config(2, 32, 2, patch, grid));
    let all: Vec<u32> = (0..9).collect();
    for (precision, level) in
        PRECISIONS.into_iter().flat_map(|precision| [0, 255].map(|level| (precision, level)))
    {
        let cpu = CpuVit::new(&vit, grid, MEAN, DEVIATION, Outputs::First, precision).unwrap().unwrap();
        let side = (patch * grid) as u32;
        let crop = RgbImage { width: side, height: side, pixels: vec![level; (side * side * 3) as usize] };
        assert!(cpu.run(&[crop], Kept::Shared(&all)).iter().all(|value| value.is_finite()));
    }
}

/// Cosines of the vectors of some crops in another precision to those in floats.
fn cosines(vit: &Vit, grid: usize, precision: Precision) -> Vec<f32> {
    let crops = crops(8, vit.config().patch_size * grid);
    let all: Vec<u32> = (0..(grid * grid) as u32).collect();
    let run = |precision| {
        let cpu = CpuVit::new(vit, grid, MEAN, DEVIATION, Outputs::First, precision).unwrap().unwrap();
        cpu.run(&crops, Kept::Shared(&all))
    };
    let (floats, bytes) = (run(Precision::F32), run(precision));
    assert_ne!(floats, bytes, "nothing is tested");
    let width = vit.config().hidden_size;
    let dot = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    let rows = floats.chunks_exact(width).zip(bytes.chunks_exact(width));
    rows.map(|(one, other)| dot(one, other) / (dot(one, one) * dot(other, other)).sqrt()).collect()
}

/// Bytes turn a vector by little.
#[test]
fn bytes_come_close() {
    let vit = network(&config(4, 64, 4, 8, 6));
    for precision in [Precision::Int8, Precision::Mixed] {
        assert!(cosines(&vit, 6, precision).iter().all(|&cosine| cosine > 0.998), "{precision:?}");
    }
}

/// A channel of the MLP that is large of every token drowns the others in bytes; floats do not mind.
#[test]
fn an_outlier_is_no_matter_where_its_map_stays_in_floats() {
    let config = config(2, 64, 4, 8, 4);
    let mut parameters = parameters(&config);
    for index in 0..2 {
        let bias = format!("blocks.{index}.mlp.fc1.bias");
        let mut values = parameters[&bias].to_vec1::<f32>().unwrap();
        values[5] = 2000.0;
        parameters.insert(bias, Tensor::new(values, &Device::Cpu).unwrap());
        let weight = format!("blocks.{index}.mlp.fc2.weight");
        let mut rows = parameters[&weight].to_vec2::<f32>().unwrap();
        for row in &mut rows {
            row[5] *= 1e-4;
        }
        parameters.insert(weight, Tensor::new(rows, &Device::Cpu).unwrap());
    }
    let vit = Vit::with_kernels(&config, &parameters, Kernels::Reference).unwrap();
    let least = |precision| cosines(&vit, 4, precision).into_iter().fold(1.0, f32::min);
    let (bytes, mixed) = (least(Precision::Int8), least(Precision::Mixed));
    assert!(bytes < 0.99 && mixed > 0.998, "{bytes}, {mixed}");
}

/// Three at a time fit into the cache in all but the last.
#[test]
fn threads_take_as_many_crops_as_each_other() {
    assert_eq!(crops_at_once(8, 2, 3), 2, "not 3 and 2 for one, 3 for the other");
    assert_eq!(crops_at_once(32, 2, 3), 2);
    assert_eq!(crops_at_once(12, 2, 3), 3);
    assert_eq!(crops_at_once(9, 2, 3), 1);
    assert_eq!(crops_at_once(6, 2, 0), 1);
}
