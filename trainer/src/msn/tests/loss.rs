//! The loss alone.

use super::*;
use crate::msn::loss::log_assignment;
use crate::msn::{loss as ensemble_loss, targets as targets_over};
use candle_core::Var;

/// Of one head in one process.
fn targets(
    outputs: &Tensor,
    prototypes: &Tensor,
    sharpen: f64,
    options: &LossOptions,
) -> candle_core::Result<Tensor> {
    targets_over(outputs, prototypes, sharpen, options, &Ranks::alone())
}

/// Of one head in one process.
fn loss(
    anchors: &Tensor,
    targets: &Tensor,
    prototypes: &Tensor,
    options: &LossOptions,
) -> candle_core::Result<Loss> {
    let head =
        HeadOutputs { anchors: anchors.clone(), targets: targets.clone(), prototypes: prototypes.clone() };
    ensemble_loss(&[head], 0.1, options, &Ranks::alone())
}

fn wave(count: usize, shape: (usize, usize), value: impl Fn(f64) -> f64) -> Tensor {
    let values: Vec<f64> = (0..count).map(|index| value(index as f64)).collect();
    Tensor::from_vec(values, shape, &DEVICE).unwrap()
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
    assert_near(length(anchor), expected.anchor_norm, 1e-8);
    assert_near(length(prototype), expected.prototype_norm, 1e-8);
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
    check_waves(&loss_options(1.0, true), &expected);
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
    check_waves(&loss_options(5.0, false), &expected);
}

/// Extreme values: anchors 6×3, targets 3×3, prototypes 4×3, probabilities down to 1e-32.
fn steep_waves() -> (Tensor, Tensor, Tensor) {
    (
        wave(18, (6, 3), |n| (1.0 + n).sin()),
        wave(9, (3, 3), |n| (2.0 + n).cos()),
        wave(12, (4, 3), |n| (0.5 * n + 0.3).sin()),
    )
}

#[test]
fn assignments_near_underflow() {
    let (anchors, outputs, prototypes) = steep_waves();
    let options = loss_options(1.0, true);
    let assignments = log_assignment(&anchors, &prototypes, &options).unwrap().exp().unwrap();
    let first = [4.646_641_062e-2, 9.535_334_322e-1, 1.536_507_509e-7, 3.570_300_177e-9];
    for (actual, expected) in numbers(&assignments).into_iter().zip(first) {
        assert_near(actual / expected, 1.0, 1e-9);
    }
    let mean = [0.165_703_132, 0.334_296_846, 0.185_661_568, 0.314_338_454];
    assert_row(&assignments.mean(0).unwrap(), &mean, 1e-9);
    let target = targets(&outputs, &prototypes, 0.25, &options).unwrap();
    let relative = |row: usize, expected: [f64; 4]| {
        for (actual, expected) in numbers(&target.get(row).unwrap()).into_iter().zip(expected) {
            // The tiniest are known to two or three digits.
            assert_near(actual / expected, 1.0, if expected > 1e-3 { 1e-9 } else { 2e-2 });
        }
    };
    relative(0, [1.05e-32, 6.07e-28, 0.134_103_616_8, 0.865_896_383_2]);
    relative(1, [0.5, 0.5, 2.6e-35, 4.2e-32]);
}

#[test]
fn loss_near_underflow() {
    let (anchors, outputs, prototypes) = steep_waves();
    let of = |options: &LossOptions| {
        let target = targets(&outputs, &prototypes, 0.25, options).unwrap();
        let parts = loss(&anchors, &target, &prototypes, options).unwrap();
        (number(&parts.agreement), number(&parts.memax), number(&parts.entropy), number(&parts.total))
    };
    let (agreement, memax, entropy, total) = of(&loss_options(1.0, true));
    assert_near(agreement, 9.408_979_165_2, 1e-9);
    assert_near(memax, 0.045_734_086_9, 1e-9);
    assert_near(entropy, 0.454_429_703_3, 1e-9);
    assert_near(total, 9.454_713_252_1, 1e-9);
    let (agreement, _, _, total) = of(&loss_options(5.0, false));
    assert_near(agreement, 8.903_146_886_8, 1e-9);
    assert_near(total, 9.131_817_321_3, 1e-9);
    let weighted = LossOptions { entropy_weight: 0.5, ..loss_options(1.0, true) };
    assert_near(of(&weighted).3, 9.681_928_103_7, 1e-9);
    let smoothed = LossOptions { label_smoothing: 0.1, ..loss_options(1.0, false) };
    let (agreement, memax, _, total) = of(&smoothed);
    assert_near(agreement, 2.131_695_536_8, 1e-9);
    assert_near(memax, 0.036_924_729_2, 1e-9);
    assert_near(total, 2.168_620_266_0, 1e-9);
}

#[test]
fn scaling_any_row_changes_nothing_and_gradients_are_orthogonal() {
    let (anchors, outputs, prototypes) = waves();
    let options = loss_options(5.0, false);
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
    let options = LossOptions { temperature: 1e-3, ..loss_options(1.0, false) };
    let target = targets(&prototypes, &prototypes, 0.25, &options).unwrap();
    let spread = loss(&prototypes, &target, &prototypes, &options).unwrap();
    assert_near(number(&spread.memax), 0.0, 1e-9);
    let one = prototypes.narrow(0, 0, 1).unwrap().repeat((4, 1)).unwrap();
    let collapsed = loss(&one, &target, &prototypes, &options).unwrap();
    assert_near(number(&collapsed.memax), 4.0_f64.ln(), 1e-9);
}

#[test]
fn sharpening_is_a_lower_temperature() {
    let (_, outputs, prototypes) = waves();
    let sharpened = targets(&outputs, &prototypes, 0.25, &loss_options(1.0, false)).unwrap();
    let colder = LossOptions { temperature: 0.025, ..loss_options(1.0, false) };
    let cold = targets(&outputs, &prototypes, 1.0, &colder).unwrap();
    assert_row(&sharpened, &numbers(&cold), 1e-12);
}

#[test]
fn smoothing_mixes_with_the_uniform_distribution() {
    let (anchors, _, prototypes) = waves();
    let plain = log_assignment(&anchors, &prototypes, &loss_options(1.0, false)).unwrap().exp().unwrap();
    let options = LossOptions { label_smoothing: 0.3, ..loss_options(1.0, false) };
    let smoothed = log_assignment(&anchors, &prototypes, &options).unwrap().exp().unwrap();
    let expected: Vec<f64> = numbers(&plain).into_iter().map(|p| 0.7 * p + 0.05).collect();
    assert_row(&smoothed, &expected, 1e-12);
}

#[test]
fn sinkhorn_gives_every_image_mass_one_and_evens_out_the_prototypes() {
    let (_, outputs, prototypes) = waves();
    let unevenness = |sinkhorn: bool| {
        let target = targets(&outputs, &prototypes, 0.25, &loss_options(1.0, sinkhorn)).unwrap();
        assert_row(&target.sum(1).unwrap(), &[1.0; 4], 1e-12);
        let masses = numbers(&target.sum(0).unwrap());
        masses.iter().map(|mass| (mass - 4.0 / 6.0).abs()).fold(0.0, f64::max)
    };
    assert!(unevenness(true) < 0.5 * unevenness(false));
}

/// In f32 a prototype far from every image gets exactly no mass; it must not turn the targets into NaN.
#[test]
fn sinkhorn_survives_a_prototype_without_mass() {
    let outputs = Tensor::new(&[[1.0_f32, 0.0], [1.0, 0.1]], &DEVICE).unwrap();
    let prototypes = Tensor::new(&[[1.0_f32, 0.0], [-1.0, 0.0]], &DEVICE).unwrap();
    let target = targets(&outputs, &prototypes, 0.05, &loss_options(1.0, true)).unwrap();
    assert_row(&target, &[1.0, 0.0, 1.0, 0.0], 1e-6);
}

#[test]
fn a_row_of_zeros_has_a_finite_gradient() {
    let (_, outputs, prototypes) = waves();
    let anchors = Var::from_tensor(&Tensor::zeros((4, 8), DType::F64, &DEVICE).unwrap()).unwrap();
    let options = loss_options(5.0, false);
    let target = targets(&outputs, &prototypes, 0.25, &options).unwrap();
    let gradients = loss(&anchors, &target, &prototypes, &options).unwrap().total.backward().unwrap();
    for variable in [&anchors, &prototypes] {
        assert!(length(gradients.get(variable).unwrap()).is_finite());
    }
}
