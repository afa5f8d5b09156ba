//! Every fused operation against its composition from candle's own: values, all gradients, and repeatability.

use crate::vit::kernels::{Affine, BlockOptions, BlockParameters, Outputs, reference};
use crate::vit::reference::ForwardOptions;
use crate::vit::reference::Vit;
use crate::vit::{Family, Kernels, Positions, VitConfig};
use candle_core::{Device, Result, Tensor, Var};
use std::collections::HashMap;
use std::f64::consts::SQRT_2;

/// Values of about unit size from a counter, stirred by the finaliser of SplitMix64.
fn random(seed: u64, shape: &[usize]) -> Var {
    let uniform = |counter: u64| {
        let mut bits = (seed << 40 | counter).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((bits ^ (bits >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    let count = shape.iter().product::<usize>() as u64;
    let values: Vec<f32> =
        (0..count).map(|i| uniform(3 * i) + uniform(3 * i + 1) + uniform(3 * i + 2)).collect();
    Var::from_tensor(&Tensor::from_vec(values, shape, &Device::Cpu).unwrap()).unwrap()
}

/// The value of `function` and the gradients of a weighted sum of it.
fn evaluate(variables: &[Var], function: &dyn Fn(&[Var]) -> Result<Tensor>) -> Vec<Vec<f32>> {
    let value = function(variables).unwrap();
    let weights = random(99, value.dims());
    let loss = (&value * weights.as_detached_tensor()).unwrap().sum_all().unwrap();
    let gradients = loss.backward().unwrap();
    let gradients = variables.iter().map(|variable| gradients.get(variable).unwrap().clone());
    std::iter::once(value).chain(gradients).map(|t| t.flatten_all().unwrap().to_vec1().unwrap()).collect()
}

/// Values and gradients agree within 1e-4 of the largest element of each.
fn assert_agree(
    name: &str,
    variables: &[Var],
    fused: &dyn Fn(&[Var]) -> Result<Tensor>,
    reference: &dyn Fn(&[Var]) -> Result<Tensor>,
) {
    let (fused, reference) = (evaluate(variables, fused), evaluate(variables, reference));
    assert_eq!(fused.len(), reference.len());
    for (index, (fused, reference)) in fused.iter().zip(&reference).enumerate() {
        assert_eq!(fused.len(), reference.len(), "{name}: output {index}");
        let largest = reference.iter().fold(1e-3f32, |largest, value| largest.max(value.abs()));
        for (&fused, &reference) in fused.iter().zip(reference) {
            let error = (fused - reference).abs() / largest;
            assert!(error < 1e-4, "{name}: output {index}: {fused} instead of {reference}");
        }
    }
}

const TOKENS: [usize; 4] = [1, 7, 17, 65];

#[test]
fn layer_norm_agrees() {
    for (rows, width) in [(1, 32), (7, 33), (65, 128), (450, 5)] {
        let variables = [random(1, &[rows, width]), random(2, &[width]), random(3, &[width])];
        assert_agree(
            &format!("layer_norm {rows}x{width}"),
            &variables,
            &|v| Ok(super::layer_norm(&v[0], &v[1], &v[2], 1e-6)?.unwrap()),
            &|v| reference::layer_norm(&v[0], &v[1], &v[2], 1e-6),
        );
    }
}

#[test]
fn linear_agrees() {
    for (shape, out) in
        [(vec![1, 32], 7), (vec![3, 17, 33], 64), (vec![1100, 24], 9), (vec![2, 65, 128], 384)]
    {
        let width = shape[shape.len() - 1];
        let variables = [random(1, &shape), random(2, &[out, width]), random(3, &[out])];
        assert_agree(
            &format!("linear {shape:?} to {out}"),
            &variables,
            &|v| Ok(super::linear(&v[0], &v[1], &v[2])?.unwrap()),
            &|v| reference::linear(&v[0], &v[1], &v[2]),
        );
    }
}

#[test]
fn linear_skips_the_gradient_of_constants() {
    let (x, weight, bias) = (random(1, &[5, 8]), random(2, &[3, 8]), random(3, &[3]));
    let y = super::linear(&x.as_detached_tensor(), &weight, &bias).unwrap().unwrap();
    let gradients = y.sum_all().unwrap().backward().unwrap();
    assert!(gradients.get(&x).is_none());
    assert!(gradients.get(&weight).is_some() && gradients.get(&bias).is_some());
}

#[test]
fn gelu_agrees() {
    assert_agree("gelu", &[random(1, &[3, 7001])], &|v| Ok(super::gelu(&v[0])?.unwrap()), &|v| {
        reference::gelu(&v[0])
    });
}

#[test]
fn gelu_is_exact_to_single_precision() {
    let xs: Vec<f32> = (-12_000..=12_000).map(|step| step as f32 / 1000.0).collect();
    let fused = super::gelu(&Tensor::new(xs.as_slice(), &Device::Cpu).unwrap()).unwrap().unwrap();
    let exact = Tensor::new(xs.iter().map(|&x| f64::from(x)).collect::<Vec<_>>(), &Device::Cpu).unwrap();
    let exact =
        ((&exact / SQRT_2).unwrap().erf().unwrap() + 1.0).unwrap().mul(&(exact / 2.0).unwrap()).unwrap();
    for (&fused, exact) in fused.to_vec1::<f32>().unwrap().iter().zip(exact.to_vec1::<f64>().unwrap()) {
        let error = (f64::from(fused) - exact).abs();
        assert!(error <= 1e-7 + 1.2e-7 * exact.abs(), "{fused} instead of {exact}");
    }
    let special = Tensor::new(&[f32::NAN, -1e30, 1e30], &Device::Cpu).unwrap();
    let special = super::gelu(&special).unwrap().unwrap().to_vec1::<f32>().unwrap();
    assert!(special[0].is_nan() && special[1].abs() < 1e12 && special[2] > 0.9e30);
}

#[test]
fn exponential_is_exact_to_single_precision() {
    for step in -87_000..=88_000 {
        let x = step as f32 / 1000.0;
        let exact = f64::from(x).exp();
        assert!((f64::from(super::vector::exp(x)) / exact - 1.0).abs() < 2e-7, "exp({x})");
    }
    assert!(super::vector::exp(f32::NAN).is_nan());
    assert!(super::vector::exp(f32::NEG_INFINITY) < 1e-37);
    for step in -126_000..=126_000 {
        let x = step as f32 / 1000.0;
        let exact = f64::from(x).exp2();
        assert!((f64::from(super::vector::exp2(x)) / exact - 1.0).abs() < 2e-7, "exp2({x})");
    }
    assert!(super::vector::exp2(f32::NAN).is_nan());
    assert!(super::vector::exp2(f32::NEG_INFINITY) < 1e-37);
}

#[test]
fn log_assignment_agrees() {
    for (rows, prototypes, width) in [(1, 1, 1), (7, 33, 20), (450, 16, 64)] {
        for temperature in [1.0, 0.1] {
            assert_agree(
                &format!("{rows} rows of {width} to {prototypes} prototypes, temperature {temperature}"),
                &[random(1, &[rows, width]), random(2, &[prototypes, width])],
                &|v| Ok(super::log_assignment(&v[0], &v[1], temperature)?.unwrap()),
                &|v| reference::log_assignment(&v[0], &v[1], temperature),
            );
        }
    }
}

/// A row of zeros and one shorter than the bound on lengths: finite gradients, those of a division by 1e-12.
#[test]
fn log_assignment_of_rows_without_length_agrees() {
    for rows in [[[0.0_f32; 3]; 2], [[3e-14, -2e-14, 1e-14], [1e-14, 0.0, 2e-14]]] {
        let x = Var::from_tensor(&Tensor::new(&rows, &Device::Cpu).unwrap()).unwrap();
        assert_agree(
            "without length",
            &[x, random(2, &[5, 3])],
            &|v| Ok(super::log_assignment(&v[0], &v[1], 0.1)?.unwrap()),
            &|v| reference::log_assignment(&v[0], &v[1], 0.1),
        );
    }
}

#[test]
fn attention_agrees() {
    for tokens in TOKENS {
        for (width, heads) in [(32, 1), (32, 4), (128, 4), (36, 3)] {
            assert_agree(
                &format!("attention of {tokens} tokens, width {width}, {heads} heads"),
                &[random(1, &[5, tokens, 3 * width])],
                &|v| Ok(super::attention(&v[0], heads)?.unwrap()),
                &|v| reference::attention(&v[0], heads),
            );
        }
    }
}

fn block_variables(images: usize, tokens: usize, width: usize, hidden: usize) -> Vec<Var> {
    let shapes: [&[usize]; 13] = [
        &[images, tokens, width],
        &[width],
        &[width],
        &[3 * width, width],
        &[3 * width],
        &[width, width],
        &[width],
        &[width],
        &[width],
        &[hidden, width],
        &[hidden],
        &[width, hidden],
        &[width],
    ];
    shapes
        .iter()
        .enumerate()
        .map(|(seed, shape)| {
            let scale = if shape.len() == 2 { 1.0 / (shape[1] as f64).sqrt() } else { 1.0 };
            Var::from_tensor(&(random(seed as u64, shape).as_tensor() * scale).unwrap()).unwrap()
        })
        .collect()
}

fn parameters(tensors: &[Tensor]) -> BlockParameters {
    let affine =
        |index: usize| Affine { weight: tensors[2 * index].clone(), bias: tensors[2 * index + 1].clone() };
    BlockParameters {
        norm1: affine(0),
        qkv: affine(1),
        projection: affine(2),
        norm2: affine(3),
        fc1: affine(4),
        fc2: affine(5),
    }
}

fn options(heads: usize) -> BlockOptions {
    BlockOptions { heads, eps: 1e-6, outputs: Outputs::All, recompute: false }
}

fn fused_block(v: &[Var], options: &BlockOptions) -> Result<Tensor> {
    let tensors: Vec<Tensor> = v.iter().map(|variable| variable.as_tensor().clone()).collect();
    Ok(super::block(&tensors[0], &parameters(&tensors[1..]), options)?.unwrap())
}

fn reference_block(v: &[Var], options: &BlockOptions) -> Result<Tensor> {
    let tensors: Vec<Tensor> = v.iter().map(|variable| variable.as_tensor().clone()).collect();
    Kernels::Reference.block(&tensors[0], &parameters(&tensors[1..]), options)
}

#[test]
fn block_agrees() {
    for (images, tokens, width, hidden, heads) in [
        (1, 1, 32, 64, 1),
        (40, 7, 32, 128, 4),
        (30, 17, 48, 100, 3),
        (7, 65, 128, 512, 4),
        (2, 200, 32, 64, 1),
    ] {
        for outputs in [Outputs::All, Outputs::First] {
            let options = BlockOptions { outputs, ..options(heads) };
            assert_agree(
                &format!("block of {images} images, {tokens} tokens, width {width}, {options:?}"),
                &block_variables(images, tokens, width, hidden),
                &|v| fused_block(v, &options),
                &|v| reference_block(v, &options),
            );
        }
    }
}

#[test]
fn the_first_output_alone_is_the_first_of_all() {
    let variables = block_variables(3, 17, 32, 128);
    let values = |outputs| fused_block(&variables, &BlockOptions { outputs, ..options(4) }).unwrap();
    let (first, all) = (values(Outputs::First), values(Outputs::All).narrow(1, 0, 1).unwrap());
    assert_eq!(first.dims(), [3, 1, 32]);
    let difference = (first - all).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference < 1e-5, "{difference}");
}

/// More rows than a segment of the backward pass holds.
#[test]
fn segments_of_the_backward_pass_add_up() {
    let variables = block_variables(530, 17, 8, 16);
    assert_agree("block", &variables, &|v| fused_block(v, &options(2)), &|v| reference_block(v, &options(2)));
}

#[test]
fn recomputing_changes_no_bit() {
    for outputs in [Outputs::All, Outputs::First] {
        let variables = block_variables(30, 17, 32, 128);
        let run = |recompute| {
            let options = BlockOptions { outputs, recompute, ..options(4) };
            let bits = |values: Vec<f32>| values.into_iter().map(f32::to_bits).collect::<Vec<_>>();
            evaluate(&variables, &|v| fused_block(v, &options)).into_iter().map(bits).collect::<Vec<_>>()
        };
        assert!(run(false) == run(true), "{outputs:?}");
    }
}

#[test]
fn block_without_variables_gives_the_same_values() {
    let variables = block_variables(9, 17, 32, 128);
    let tracked = fused_block(&variables, &options(4)).unwrap();
    let frozen: Vec<Tensor> = variables.iter().map(Var::as_detached_tensor).collect();
    let frozen = super::block(&frozen[0], &parameters(&frozen[1..]), &options(4)).unwrap().unwrap();
    assert!(!frozen.track_op());
    assert_eq!(
        tracked.flatten_all().unwrap().to_vec1::<f32>().unwrap(),
        frozen.flatten_all().unwrap().to_vec1::<f32>().unwrap()
    );
}

#[test]
fn bits_do_not_depend_on_the_threads() {
    let block = block_variables(60, 17, 32, 128);
    let rows = [random(1, &[3000, 32]), random(2, &[48, 32]), random(3, &[48])];
    let norm = [random(1, &[3000, 32]), random(2, &[32]), random(3, &[32])];
    let qkv = [random(1, &[40, 17, 96])];
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            [
                evaluate(&block, &|v| fused_block(v, &options(4))),
                evaluate(&rows, &|v| Ok(super::linear(&v[0], &v[1], &v[2])?.unwrap())),
                evaluate(&norm, &|v| Ok(super::layer_norm(&v[0], &v[1], &v[2], 1e-6)?.unwrap())),
                evaluate(&qkv, &|v| Ok(super::attention(&v[0], 4)?.unwrap())),
            ]
        })
    };
    let bits = |results: [Vec<Vec<f32>>; 4]| -> Vec<u32> {
        results.into_iter().flatten().flatten().map(f32::to_bits).collect()
    };
    let first = bits(run(1));
    for threads in [1, 2, 3, 5] {
        assert!(first == bits(run(threads)), "{threads} threads");
    }
}

#[test]
fn views_and_other_element_types_are_handled() {
    let x = random(1, &[8, 6]);
    let (weight, bias) = (random(2, &[8]), random(3, &[8]));
    let view = x.t().unwrap();
    let fused = super::layer_norm(&view, &weight, &bias, 1e-6).unwrap().unwrap();
    let composed = reference::layer_norm(&view, &weight, &bias, 1e-6).unwrap();
    let difference =
        (fused - composed).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f32>().unwrap();
    assert!(difference < 1e-5, "{difference}");
    let double = x.to_dtype(candle_core::DType::F64).unwrap();
    assert!(super::gelu(&double).unwrap().is_none());
}

#[test]
fn vit_agrees() {
    let config = VitConfig {
        hidden_size: 32,
        num_hidden_layers: 3,
        num_attention_heads: 4,
        intermediate_size: 64,
        patch_size: 4,
        image_size: 16,
        num_channels: 3,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    };
    let shapes = Vit::parameter_shapes(&config);
    let variables: Vec<Var> = shapes
        .iter()
        .enumerate()
        .map(|(seed, (_, shape))| {
            Var::from_tensor(&(random(seed as u64, shape).as_tensor() * 0.3).unwrap()).unwrap()
        })
        .collect();
    let pixels = random(77, &[5, 3, 16, 16]).as_detached_tensor();
    let run = |kernels: Kernels, keep: Option<&[u32]>, v: &[Var]| {
        let parameters: HashMap<String, Tensor> = shapes
            .iter()
            .zip(v)
            .map(|((name, _), variable)| (name.clone(), variable.as_tensor().clone()))
            .collect();
        let vit = Vit::with_kernels(&config, &parameters, kernels).unwrap();
        Ok(vit.final_norm(&vit.forward(&pixels, keep).unwrap()).unwrap())
    };
    let cls = |v: &[Var]| {
        let parameters: HashMap<String, Tensor> = shapes
            .iter()
            .zip(v)
            .map(|((name, _), variable)| (name.clone(), variable.as_tensor().clone()))
            .collect();
        let vit = Vit::with_kernels(&config, &parameters, Kernels::Fused).unwrap().with_recompute(true);
        Ok(vit.final_norm(&vit.forward_cls(&pixels, &ForwardOptions::default()).unwrap()).unwrap())
    };
    for keep in [None, Some(&[0, 3, 4, 9, 15][..])] {
        assert_agree("vit", &variables, &|v| run(Kernels::Fused, keep, v), &|v| {
            run(Kernels::Reference, keep, v)
        });
    }
    let first = |hidden: Tensor| hidden.narrow(1, 0, 1)?.squeeze(1);
    assert_agree("vit's CLS", &variables, &cls, &|v| first(run(Kernels::Reference, None, v)?));
}

#[test]
fn shapes_that_do_not_fit_are_errors() {
    let (x, weight, bias) = (random(1, &[4, 8]), random(2, &[3, 7]), random(3, &[3]));
    assert!(Kernels::Fused.linear(&x, &weight, &bias).is_err());
    assert!(Kernels::Fused.layer_norm(&x, &bias, &bias, 1e-6).is_err());
    let qkv = random(4, &[2, 5, 24]);
    assert!(Kernels::Fused.attention(&qkv, 3).is_err());
    let variables = block_variables(2, 3, 16, 20);
    let tensors: Vec<Tensor> = variables.iter().map(|variable| variable.as_tensor().clone()).collect();
    assert!(Kernels::Fused.block(&tensors[0], &parameters(&tensors[1..]), &options(3)).is_err());
}
