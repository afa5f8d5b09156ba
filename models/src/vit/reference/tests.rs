use super::*;
use crate::vit::{Family, Positions};
use candle_core::{DType, Device, Var};
use std::collections::HashMap;

/// 4×4 patches of 8 pixels at the native size.
fn tiny() -> VitConfig {
    VitConfig {
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 32,
        patch_size: 8,
        image_size: 32,
        num_channels: 3,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    }
}

/// A fixed sequence that repeats nowhere within a test, in −1..1.
fn values(count: usize, salt: usize) -> Vec<f64> {
    (0..count).map(|i| ((i * 7919 + salt * 104_729 + 1) as f64).sin()).collect()
}

fn variables(config: &VitConfig) -> Vec<(String, Var)> {
    Vit::parameter_shapes(config)
        .into_iter()
        .enumerate()
        .map(|(salt, (name, shape))| {
            let count = shape.iter().product();
            let mut data = values(count, salt);
            // LayerNorm scales about 1, everything else small but not so small that gradients drown in rounding.
            let is_norm_scale = name.ends_with("norm1.weight")
                || name.ends_with("norm2.weight")
                || name.ends_with("norm.weight");
            for x in &mut data {
                *x = if is_norm_scale { 1.0 + 0.2 * *x } else { 0.3 * *x };
            }
            let tensor = Tensor::from_vec(data, shape, &Device::Cpu).unwrap();
            (name, Var::from_tensor(&tensor).unwrap())
        })
        .collect()
}

fn parameters(variables: &[(String, Var)]) -> HashMap<String, Tensor> {
    variables.iter().map(|(name, variable)| (name.clone(), variable.as_tensor().clone())).collect()
}

fn pixels(batch: usize, height: usize, width: usize) -> Tensor {
    Tensor::from_vec(values(batch * 3 * height * width, 99), (batch, 3, height, width), &Device::Cpu).unwrap()
}

/// A scalar that every output influences differently, through the final norm.
fn objective(vit: &Vit, pixels: &Tensor, keep: Option<&[u32]>) -> Tensor {
    let normed = vit.final_norm(&vit.forward(pixels, keep).unwrap()).unwrap();
    let weights = Tensor::from_vec(values(normed.elem_count(), 5), normed.shape(), &Device::Cpu).unwrap();
    (normed * weights).unwrap().sum_all().unwrap()
}

#[test]
fn shapes_follow_the_image_and_the_kept_patches() {
    let config = tiny();
    let vit = Vit::new(&config, &parameters(&variables(&config))).unwrap();
    for (height, width, keep, tokens) in [
        (32, 32, None, 17),
        (16, 16, None, 5),
        (21, 30, None, 2 * 3 + 1),
        (48, 48, None, 37),
        (32, 32, Some(&[3_u32, 0, 15][..]), 4),
    ] {
        let hidden = vit.forward(&pixels(2, height, width), keep).unwrap();
        assert_eq!(hidden.dims(), &[2, tokens, 16], "{height}×{width}");
        assert_eq!(hidden.dtype(), DType::F64);
    }
}

#[test]
fn every_parameter_receives_a_finite_gradient_other_than_zero() {
    let config = tiny();
    let variables = variables(&config);
    let vit = Vit::new(&config, &parameters(&variables)).unwrap();
    // A foreign size and a kept subset: the way of every focal and masked view.
    let gradients = objective(&vit, &pixels(2, 24, 24), Some(&[8, 1, 4, 0, 6])).backward().unwrap();
    for (name, variable) in &variables {
        let gradient = gradients.get(variable.as_tensor()).unwrap_or_else(|| panic!("{name}: no gradient"));
        let gradient = gradient.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{name}: not finite");
        // A key bias shifts all scores of a query alike, so softmax cancels it: that third is zero by mathematics.
        let norm = gradient.iter().map(|g| g * g).sum::<f64>().sqrt();
        assert!(norm > 1e-9, "{name}: gradient norm {norm}");
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    let config = tiny();
    let variables = variables(&config);
    let vit = Vit::new(&config, &parameters(&variables)).unwrap();
    let pixels = pixels(2, 24, 24);
    let keep = Some(&[8_u32, 1, 4, 0, 6][..]);
    let gradients = objective(&vit, &pixels, keep).backward().unwrap();
    let step = 1e-5;
    for (name, variable) in &variables {
        let gradient = gradients.get(variable.as_tensor()).unwrap().flatten_all().unwrap();
        let gradient = gradient.to_vec1::<f64>().unwrap();
        let original = variable.as_tensor().copy().unwrap();
        let count = original.elem_count();
        for index in [0, count / 3, count / 2, count - 1] {
            let at = |offset: f64| {
                let mut data = original.flatten_all().unwrap().to_vec1::<f64>().unwrap();
                data[index] += offset;
                variable.set(&Tensor::from_vec(data, original.shape(), &Device::Cpu).unwrap()).unwrap();
                objective(&vit, &pixels, keep).to_scalar::<f64>().unwrap()
            };
            let difference = (at(step) - at(-step)) / (2.0 * step);
            let error = (difference - gradient[index]).abs();
            assert!(
                error <= 1e-7 * (1.0 + difference.abs()),
                "{name}[{index}]: backward {}, differences {difference}",
                gradient[index]
            );
        }
        variable.set(&original).unwrap();
    }
}

#[test]
fn the_order_of_kept_patches_does_not_matter_to_the_class_token() {
    let config = tiny();
    let vit = Vit::new(&config, &parameters(&variables(&config))).unwrap();
    let pixels = pixels(1, 32, 32);
    let cls = |keep: &[u32]| {
        vit.forward(&pixels, Some(keep)).unwrap().get(0).unwrap().get(0).unwrap().to_vec1::<f64>().unwrap()
    };
    for (a, b) in cls(&[2, 7, 11, 13]).iter().zip(cls(&[13, 2, 11, 7])) {
        assert!((a - b).abs() < 1e-12);
    }
    assert!(cls(&[2, 7, 11, 13]).iter().zip(cls(&[2, 7, 11, 12])).any(|(a, b)| (a - b).abs() > 1e-6));
}

#[test]
fn keeping_every_patch_equals_keeping_none_out() {
    let config = tiny();
    let vit = Vit::new(&config, &parameters(&variables(&config))).unwrap();
    let pixels = pixels(2, 32, 32);
    let all: Vec<u32> = (0..16).collect();
    let difference =
        (vit.forward(&pixels, None).unwrap() - vit.forward(&pixels, Some(&all)).unwrap()).unwrap();
    assert!(difference.abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap() < 1e-12);
}

#[test]
fn single_precision_agrees_with_double() {
    let config = tiny();
    let double = parameters(&variables(&config));
    let single: HashMap<_, _> =
        double.iter().map(|(name, tensor)| (name.clone(), tensor.to_dtype(DType::F32).unwrap())).collect();
    let pixels = pixels(2, 32, 32);
    let run = |parameters: &HashMap<String, Tensor>| {
        let vit = Vit::new(&config, parameters).unwrap();
        vit.final_norm(&vit.forward(&pixels, None).unwrap()).unwrap().to_dtype(DType::F64).unwrap()
    };
    let difference = (run(&double) - run(&single)).unwrap().abs().unwrap().max_all().unwrap();
    assert!(difference.to_scalar::<f64>().unwrap() < 1e-4);
}

#[test]
fn unusable_input_is_refused() {
    let config = tiny();
    let vit = Vit::new(&config, &parameters(&variables(&config))).unwrap();
    let message = |pixels: &Tensor, keep: Option<&[u32]>| vit.forward(pixels, keep).unwrap_err().to_string();
    assert!(message(&pixels(1, 7, 32), None).contains("at least 8"));
    let grey = Tensor::zeros((1, 1, 32, 32), DType::F64, &Device::Cpu).unwrap();
    assert!(message(&grey, None).contains("must be 3×H×W"));
    assert!(message(&pixels(1, 32, 32), Some(&[])).contains("at least one"));
    assert!(message(&pixels(1, 32, 32), Some(&[16])).contains("only 16"));
    assert!(message(&pixels(1, 32, 32), Some(&[3, 3])).contains("twice"));
}

#[test]
fn missing_and_misshapen_parameters_are_named() {
    let config = tiny();
    let mut given = parameters(&variables(&config));
    given.remove("blocks.1.attn.qkv.bias");
    given.insert("norm.weight".into(), Tensor::zeros(5, DType::F64, &Device::Cpu).unwrap());
    let message = Vit::new(&config, &given).err().unwrap().to_string();
    assert!(message.contains("blocks.1.attn.qkv.bias is missing"), "{message}");
    assert!(message.contains("norm.weight has shape [5], the configuration asks for [16]"), "{message}");
    let message = Vit::new(&config, &HashMap::new()).err().unwrap().to_string();
    assert!(message.contains("and 25 more"), "{message}");
}

/// A scalar of every output of a forward pass with options.
fn objective_with(vit: &Vit, pixels: &Tensor, options: &ForwardOptions<'_>) -> Tensor {
    vit.forward_with(pixels, options).unwrap().sqr().unwrap().sum_all().unwrap()
}

#[test]
fn patches_kept_image_by_image_have_the_gradients_of_each_image_alone() {
    let config = tiny();
    let variables = variables(&config);
    let vit = Vit::new(&config, &parameters(&variables)).unwrap();
    let pixels = pixels(2, 32, 32);
    let lists = [[5_u32, 0, 11], [15, 7, 2]];
    let keep = Tensor::new(&lists, &Device::Cpu).unwrap();
    let together = ForwardOptions { keep: Some(Keep::PerImage(&keep)), branch_scales: None };
    let together = objective_with(&vit, &pixels, &together).backward().unwrap();
    let alone = lists.iter().enumerate().map(|(image, list)| {
        let options = ForwardOptions { keep: Some(Keep::Shared(list)), branch_scales: None };
        objective_with(&vit, &pixels.narrow(0, image, 1).unwrap(), &options).backward().unwrap()
    });
    let alone: Vec<_> = alone.collect();
    for (name, variable) in &variables {
        // The final norm has no part in this objective.
        let Some(both) = together.get(variable) else {
            assert!(name.starts_with("norm."), "{name}");
            continue;
        };
        let sum = (alone[0].get(variable).unwrap() + alone[1].get(variable).unwrap()).unwrap();
        let difference = (both - sum).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(difference < 1e-10, "{name}: {difference}");
    }
}

#[test]
fn branch_scales_are_of_a_block_a_branch_and_an_image() {
    let config = tiny();
    let vit = Vit::new(&config, &parameters(&variables(&config))).unwrap();
    let pixels = pixels(2, 32, 32);
    let run = |pixels: &Tensor, scales: &[f64]| {
        let scales = Tensor::from_slice(scales, (2, 2, pixels.dim(0).unwrap()), &Device::Cpu).unwrap();
        vit.forward_with(pixels, &ForwardOptions { keep: None, branch_scales: Some(&scales) }).unwrap()
    };
    let numbers = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    // Images do not see each other's.
    let both = run(&pixels, &[0.3, 1.1, 0.0, 2.0, 0.7, 0.2, 1.5, 0.9]);
    for (image, own) in [[0.3, 0.0, 0.7, 1.5], [1.1, 2.0, 0.2, 0.9]].iter().enumerate() {
        let alone = run(&pixels.narrow(0, image, 1).unwrap(), own);
        for (one, other) in numbers(&alone).iter().zip(numbers(&both.narrow(0, image, 1).unwrap())) {
            assert!((one - other).abs() < 1e-12);
        }
    }
    // The last block's MLP adds in proportion to its scale; nothing else does.
    let one = pixels.narrow(0, 0, 1).unwrap();
    for position in 0..4 {
        let at = |value: f64| {
            let mut scales = [1.0; 4];
            scales[position] = value;
            numbers(&run(&one, &scales))
        };
        let middle = at(0.0).iter().zip(at(1.0)).map(|(a, b)| f64::midpoint(*a, b)).collect::<Vec<_>>();
        let bend = at(0.5).iter().zip(middle).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        assert_eq!(bend < 1e-12, position == 3, "scale {position} bends by {bend}");
    }
}
