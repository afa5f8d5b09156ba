//! The whole step against numbers computed elsewhere, finite differences, and the paper's invariants.

use super::*;
use candle_core::{DType, Device, Tensor, Var};
use dozen_models::vit::{Kernels, VitConfig};

const DEVICE: Device = Device::Cpu;

fn wave(count: usize, shape: (usize, usize), value: impl Fn(f64) -> f64) -> Tensor {
    let values: Vec<f64> = (0..count).map(|index| value(index as f64)).collect();
    Tensor::from_vec(values, shape, &DEVICE).unwrap()
}

fn options(memax_weight: f64, sinkhorn: bool) -> LossOptions {
    LossOptions { temperature: 0.1, memax_weight, entropy_weight: 0.0, label_smoothing: 0.0, sinkhorn }
}

fn number(tensor: &Tensor) -> f64 {
    tensor.to_scalar::<f64>().unwrap()
}

#[track_caller]
fn assert_near(actual: f64, expected: f64, tolerance: f64) {
    assert!((actual - expected).abs() <= tolerance, "{actual} instead of {expected}");
}

#[track_caller]
fn assert_row(actual: &Tensor, expected: &[f64], tolerance: f64) {
    let actual = actual.flatten_all().unwrap().to_vec1::<f64>().unwrap();
    for (actual, expected) in actual.iter().zip(expected) {
        assert_near(*actual, *expected, tolerance);
    }
}

/// Anchors 12×8, targets 4×8, prototypes 6×8 from sines; expected numbers computed in float64 and checked there against
/// central differences.
fn waves() -> (Var, Tensor, Var) {
    let anchors = Var::from_tensor(&wave(96, (12, 8), |n| (0.7 * n + 0.1).sin())).unwrap();
    let prototypes = Var::from_tensor(&wave(48, (6, 8), |n| (1.3 * n + 0.5).sin())).unwrap();
    (anchors, wave(32, (4, 8), |n| (0.3 * n + 0.2).cos()), prototypes)
}

struct Expected {
    agreement: f64,
    total: f64,
    anchor_norm: f64,
    prototype_norm: f64,
    anchor_row: [f64; 8],
    prototype_row: [f64; 8],
    target_row: [f64; 6],
}

#[track_caller]
fn check_waves(options: &LossOptions, expected: &Expected) {
    let (anchors, outputs, prototypes) = waves();
    let target = targets(&outputs, &prototypes, 0.25, options).unwrap();
    assert_row(&target.narrow(0, 0, 1).unwrap(), &expected.target_row, 1e-8);
    let loss = loss(&anchors, &target, &prototypes, options).unwrap();
    assert_near(number(&loss.agreement), expected.agreement, 1e-8);
    assert_near(number(&loss.memax), 0.023_604_208, 1e-8);
    assert_near(number(&loss.entropy), 1.129_658_547, 1e-8);
    assert_near(number(&loss.total), expected.total, 1e-8);
    let gradients = loss.total.backward().unwrap();
    let (anchor, prototype) = (gradients.get(&anchors).unwrap(), gradients.get(&prototypes).unwrap());
    assert_near(super::optimizer::norm(anchor).unwrap(), expected.anchor_norm, 1e-8);
    assert_near(super::optimizer::norm(prototype).unwrap(), expected.prototype_norm, 1e-8);
    assert_row(anchor, &expected.anchor_row, 1e-8);
    assert_row(prototype, &expected.prototype_row, 1e-8);
}

#[test]
fn loss_and_gradients_with_sinkhorn() {
    let expected = Expected {
        agreement: 3.448_038_451,
        total: 3.471_642_659,
        anchor_norm: 1.503_080_324,
        prototype_norm: 1.436_194_960,
        anchor_row: [
            -0.242_213_79,
            -0.171_371_60,
            0.114_670_49,
            0.182_856_29,
            -0.057_258_71,
            -0.225_449_40,
            -0.041_235_04,
            0.249_186_94,
        ],
        prototype_row: [
            0.105_418_32,
            -0.195_667_47,
            -0.261_097_18,
            -0.197_596_17,
            -0.181_512_25,
            -0.161_279_67,
            0.031_702_75,
            0.342_834_18,
        ],
        target_row: [0.378_993_813, 3.962_41e-7, 0.163_740_660, 0.049_008_127_8, 1.743_63e-7, 0.408_256_828],
    };
    check_waves(&options(1.0, true), &expected);
}

#[test]
fn loss_and_gradients_without_sinkhorn() {
    let expected = Expected {
        agreement: 3.440_853_520,
        total: 3.558_874_561,
        anchor_norm: 1.599_445_663,
        prototype_norm: 2.130_011_721,
        anchor_row: [
            -0.206_146_32,
            -0.128_316_03,
            0.109_316_21,
            0.147_613_35,
            -0.062_105_19,
            -0.190_238_40,
            -0.022_287_49,
            0.214_306_23,
        ],
        prototype_row: [
            0.081_210_87,
            -0.111_590_08,
            -0.157_711_39,
            -0.125_636_62,
            -0.126_518_31,
            -0.121_162_46,
            0.004_726_13,
            0.215_656_06,
        ],
        target_row: [0.210_386_031, 5.933_61e-8, 0.143_511_841, 0.031_820_023_3, 6.386_21e-8, 0.614_281_981],
    };
    check_waves(&options(5.0, false), &expected);
}

/// Extreme values: probabilities down to 1e-32.
#[test]
fn loss_near_underflow() {
    let anchors = wave(18, (6, 3), |n| (1.0 + n).sin());
    let outputs = wave(9, (3, 3), |n| (2.0 + n).cos());
    let prototypes = wave(12, (4, 3), |n| (0.5 * n + 0.3).sin());
    let of = |options: &LossOptions| {
        let target = targets(&outputs, &prototypes, 0.25, options).unwrap();
        let parts = loss(&anchors, &target, &prototypes, options).unwrap();
        (number(&parts.agreement), number(&parts.memax), number(&parts.entropy), number(&parts.total))
    };
    let (agreement, memax, entropy, total) = of(&options(1.0, true));
    assert_near(agreement, 9.408_979_165_2, 1e-9);
    assert_near(memax, 0.045_734_086_9, 1e-9);
    assert_near(entropy, 0.454_429_703_3, 1e-9);
    assert_near(total, 9.454_713_252_1, 1e-9);
    let (agreement, _, _, total) = of(&options(5.0, false));
    assert_near(agreement, 8.903_146_886_8, 1e-9);
    assert_near(total, 9.131_817_321_3, 1e-9);
    let weighted = LossOptions { entropy_weight: 0.5, ..options(1.0, true) };
    assert_near(of(&weighted).3, 9.681_928_103_7, 1e-9);
    let smoothed = LossOptions { label_smoothing: 0.1, ..options(1.0, false) };
    let (agreement, memax, _, total) = of(&smoothed);
    assert_near(agreement, 2.131_695_536_8, 1e-9);
    assert_near(memax, 0.036_924_729_2, 1e-9);
    assert_near(total, 2.168_620_266_0, 1e-9);
}

#[test]
fn scaling_any_row_changes_nothing_and_gradients_are_orthogonal() {
    let (anchors, outputs, prototypes) = waves();
    let options = options(5.0, false);
    let target = targets(&outputs, &prototypes, 0.25, &options).unwrap();
    let plain = loss(&anchors, &target, &prototypes, &options).unwrap().total;
    let scaled = loss(&(anchors.as_tensor() * 7.0).unwrap(), &target, &prototypes, &options).unwrap().total;
    assert_near(number(&plain), number(&scaled), 1e-12);
    let gradients = plain.backward().unwrap();
    let projections = (gradients.get(&anchors).unwrap() * anchors.as_tensor()).unwrap().sum(1).unwrap();
    assert_row(&projections, &[0.0; 12], 1e-12);
}

#[test]
fn memax_is_zero_for_uniform_use_and_log_k_for_one_prototype() {
    let prototypes = Tensor::eye(4, DType::F64, &DEVICE).unwrap();
    let options = LossOptions { temperature: 1e-3, ..options(1.0, false) };
    let target = targets(&prototypes, &prototypes, 0.25, &options).unwrap();
    let spread = loss(&prototypes, &target, &prototypes, &options).unwrap();
    assert_near(number(&spread.memax), 0.0, 1e-9);
    let one = prototypes.narrow(0, 0, 1).unwrap().repeat((4, 1)).unwrap();
    let collapsed = loss(&one, &target, &prototypes, &options).unwrap();
    assert_near(number(&collapsed.memax), 4.0_f64.ln(), 1e-9);
}

fn tiny() -> MsnConfig {
    MsnConfig {
        vit: VitConfig {
            hidden_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            intermediate_size: 128,
            patch_size: 8,
            image_size: 32,
            num_channels: 3,
            layer_norm_eps: 1e-6,
        },
        head_hidden: 64,
        head_output: 16,
        prototypes: 8,
        loss: options(1.0, false),
        clip_gradient: 3.0,
        kernels: Kernels::Reference,
    }
}

const KEEP: [u32; 11] = [3, 0, 15, 7, 9, 1, 12, 5, 10, 14, 2];

fn tiny_views(dtype: DType) -> Views {
    let pixels = |images: usize, side: usize, pace: f64| {
        let values: Vec<f64> = (0..images * 3 * side * side).map(|n| (pace * n as f64).sin() * 1.5).collect();
        Tensor::from_vec(values, (images, 3, side, side), &DEVICE).unwrap().to_dtype(dtype).unwrap()
    };
    Views { target: pixels(4, 32, 0.37), random: Some(pixels(4, 32, 0.53)), focal: Some(pixels(8, 16, 0.71)) }
}

fn rates() -> Rates {
    Rates { learning_rate: 1e-3, weight_decay: 0.05, momentum: 0.99, sharpen: 0.25 }
}

/// A network whose weights are large enough for every gradient to stand out of rounding.
fn lively() -> Msn {
    let msn = Msn::new(tiny(), 3, DType::F64, &DEVICE).unwrap();
    for parameter in msn.parameters() {
        let old = parameter.value.as_tensor().detach();
        let count = old.elem_count();
        let values: Vec<f64> = (0..count).map(|n| (n as f64 * 1.7).sin() * 0.05).collect();
        let nudge = Tensor::from_vec(values, old.shape(), &DEVICE).unwrap();
        parameter.value.set(&((old * 3.0).unwrap() + nudge).unwrap()).unwrap();
    }
    msn
}

#[test]
fn gradients_of_every_tensor_agree_with_finite_differences() {
    let msn = lively();
    let views = tiny_views(DType::F64);
    // The targets carry no gradient: the anchors' loss against fixed targets is what is differentiated. The target network
    // is another one, and the prototypes' part in the targets is held fixed below.
    let (_, gradients) = msn.evaluate(&views, &KEEP, 0.25).unwrap();
    let fixed = msn.prototype_targets(&views, 0.25);
    for parameter in msn.parameters() {
        let gradient =
            parameter.gradient(&gradients).unwrap().flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let original = parameter.value.copy().unwrap();
        let values = original.flatten_all().unwrap().to_vec1::<f64>().unwrap();
        let largest =
            (0..values.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs())).unwrap();
        for position in [0, values.len() / 2, values.len() - 1, largest] {
            let at = |change: f64| {
                let mut moved = values.clone();
                moved[position] += change;
                parameter.value.set(&Tensor::from_vec(moved, original.shape(), &DEVICE).unwrap()).unwrap();
                let loss = msn.loss_against(&views, &KEEP, &fixed);
                parameter.value.set(&original).unwrap();
                loss
            };
            let step = 1e-5;
            let numeric = (at(step) - at(-step)) / (2.0 * step);
            let analytic = gradient[position];
            let scale = gradient[largest].abs().max(1e-3);
            assert!(
                (numeric - analytic).abs() < 1e-6 * scale,
                "{}[{position}]: {analytic} against {numeric}",
                parameter.name
            );
        }
    }
}

#[test]
fn every_parameter_gets_a_finite_gradient_that_is_not_zero() {
    let msn = Msn::new(tiny(), 0, DType::F32, &DEVICE).unwrap();
    let (_, gradients) = msn.evaluate(&tiny_views(DType::F32), &KEEP, 0.25).unwrap();
    for parameter in msn.parameters() {
        let norm = super::optimizer::norm(parameter.gradient(&gradients).unwrap()).unwrap();
        assert!(norm.is_finite() && norm > 0.0, "{}: {norm}", parameter.name);
    }
}

#[test]
fn weight_decay_falls_on_the_published_list() {
    let msn = Msn::new(tiny(), 0, DType::F32, &DEVICE).unwrap();
    let decayed: Vec<&str> =
        msn.parameters().iter().filter(|one| one.is_decayed()).map(|one| one.name.as_str()).collect();
    let mut expected = vec!["cls_token".to_owned(), "pos_embed".into(), "patch_embed.proj.weight".into()];
    for block in 0..2 {
        expected.extend(
            ["attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2"]
                .map(|name| format!("blocks.{block}.{name}.weight")),
        );
    }
    expected.extend([1, 2, 3].map(|layer| format!("fc.fc{layer}.weight")));
    assert_eq!(decayed, expected);
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

#[test]
fn the_moving_average_moves_parameters_only() {
    let mut msn = Msn::new(tiny(), 0, DType::F32, &DEVICE).unwrap();
    let (views, before) = (tiny_views(DType::F32), msn.state());
    let before: std::collections::HashMap<_, _> =
        before.into_iter().map(|(name, value)| (name, value.copy().unwrap())).collect();
    // Momentum 0: the target becomes the anchor, if the average reaches it.
    msn.step(&views, &KEEP, &Rates { momentum: 0.0, ..rates() }).unwrap();
    let after = msn.state();
    for (name, value) in after.iter().filter(|(name, _)| name.starts_with("target.")) {
        let anchor = &after[&name.replace("target.", "anchor.")];
        if name.contains("running") {
            assert_ne!(bits(value), bits(anchor), "{name} follows its own batches");
            assert_ne!(bits(value), bits(&before[name]), "{name} is updated");
        } else {
            assert_eq!(bits(value), bits(anchor), "{name}");
        }
    }
    assert!(!after.contains_key("target.prototypes"));
}

#[test]
fn running_statistics_see_random_then_focal_views() {
    let msn = Msn::new(tiny(), 0, DType::F64, &DEVICE).unwrap();
    let views = tiny_views(DType::F64);
    msn.evaluate(&views, &KEEP, 0.25).unwrap();
    let both = msn.state()["anchor.fc.bn1.running_mean"].copy().unwrap();
    let alone = |random: Option<Tensor>, focal: Option<Tensor>| {
        let fresh = Msn::new(tiny(), 0, DType::F64, &DEVICE).unwrap();
        let keep: Vec<u32> = if random.is_some() { KEEP.to_vec() } else { (0..4).collect() };
        fresh.evaluate(&Views { target: views.target.clone(), random, focal }, &keep, 0.25).unwrap();
        fresh.state()["anchor.fc.bn1.running_mean"].clone()
    };
    let (random, focal) = (alone(views.random.clone(), None), alone(None, views.focal.clone()));
    // From zero: one batch leaves 0.1·mean; the second batch shrinks the first's part to 0.9 of it.
    let expected = ((random * 0.9).unwrap() + focal).unwrap();
    assert_row(&both, &expected.to_vec1::<f64>().unwrap(), 1e-12);
}

fn run(steps: usize) -> (Msn, Vec<f64>) {
    let mut msn = Msn::new(tiny(), 0, DType::F32, &DEVICE).unwrap();
    let views = tiny_views(DType::F32);
    let losses = (0..steps).map(|_| msn.step(&views, &KEEP, &rates()).unwrap().loss).collect();
    (msn, losses)
}

#[test]
fn training_lowers_the_loss_and_repeats_bit_for_bit() {
    let (first, losses) = run(20);
    assert!(losses[19] < losses[0], "{losses:?}");
    let (second, again) = run(20);
    assert_eq!(losses, again);
    for (name, value) in first.state() {
        assert_eq!(bits(&value), bits(&second.state()[&name]), "{name}");
    }
}

#[test]
fn a_saved_state_continues_bit_for_bit() {
    let (uninterrupted, _) = run(6);
    let (half, _) = run(3);
    let saved = half.state().into_iter().map(|(name, value)| (name, value.copy().unwrap())).collect();
    let mut resumed = Msn::new(tiny(), 99, DType::F32, &DEVICE).unwrap();
    resumed.load_state(&saved, half.steps()).unwrap();
    for _ in 0..3 {
        resumed.step(&tiny_views(DType::F32), &KEEP, &rates()).unwrap();
    }
    for (name, value) in uninterrupted.state() {
        assert_eq!(bits(&value), bits(&resumed.state()[&name]), "{name}");
    }
}

#[test]
fn a_loss_that_is_not_finite_changes_nothing() {
    let mut msn = Msn::new(tiny(), 0, DType::F32, &DEVICE).unwrap();
    let before: Vec<_> = msn.parameters().iter().map(|one| bits(one.value.as_tensor())).collect();
    let mut views = tiny_views(DType::F32);
    views.random = Some((views.random.unwrap() * f64::NAN).unwrap());
    let error = msn.step(&views, &KEEP, &rates()).unwrap_err();
    assert!(error.to_string().contains("lower learning rate"), "{error}");
    let after: Vec<_> = msn.parameters().iter().map(|one| bits(one.value.as_tensor())).collect();
    assert_eq!(before, after);
}

#[test]
fn the_order_of_kept_patches_does_not_matter() {
    let msn = lively();
    let views = tiny_views(DType::F64);
    let mut reversed = KEEP;
    reversed.reverse();
    let (one, _) = msn.evaluate(&views, &KEEP, 0.25).unwrap();
    let (other, _) = msn.evaluate(&views, &reversed, 0.25).unwrap();
    assert_near(one.loss, other.loss, 1e-12);
}
