//! Gradients of the whole step.

use super::*;

/// BatchNorm subtracts the mean of its input, so constants added before it move nothing: the biases of the two linear
/// layers, and what the first of them makes of the final norm's bias.
fn is_cancelled(name: &str) -> bool {
    name == "norm.bias"
        || name.starts_with("fc.") && (name.ends_with(".fc1.bias") || name.ends_with(".fc2.bias"))
}

fn agree_with_finite_differences(config: MsnConfig) {
    let msn = lively(config);
    let views = tiny_views(DType::F64);
    let gradients = msn.evaluate(&views, &rates()).unwrap().gradients;
    // Targets carry no gradient, not even to the prototypes they share: they are held fixed.
    let (fixed, _) = msn.targets(&views, &rates()).unwrap();
    for (parameter, gradient) in msn.parameters.iter().zip(gradients) {
        let gradient = numbers(&gradient);
        let original = parameter.value.copy().unwrap();
        let values = numbers(&original);
        let largest =
            (0..values.len()).max_by(|a, b| gradient[*a].abs().total_cmp(&gradient[*b].abs())).unwrap();
        // A gradient of almost nothing is compared with the size that others have.
        let scale = gradient[largest].abs().max(1e-3);
        for position in [0, values.len() / 2, values.len() - 1, largest] {
            let at = |change: f64| {
                let mut moved = values.clone();
                moved[position] += change;
                parameter.value.set(&Tensor::from_vec(moved, original.shape(), &DEVICE).unwrap()).unwrap();
                let loss = number(&msn.objective(&views, fixed.clone(), &rates()).unwrap().total);
                parameter.value.set(&original).unwrap();
                loss
            };
            // Five points: the curvature along the small CLS token is too strong for three.
            let step = 1e-5;
            let difference = |step: f64| at(step) - at(-step);
            let numeric = (8.0 * difference(step) - difference(2.0 * step)) / (12.0 * step);
            let analytic = gradient[position];
            let name = &parameter.name;
            assert!(
                (numeric - analytic).abs() < 1e-6 * scale,
                "{name}[{position}]: {analytic}, not {numeric}"
            );
        }
    }
}

#[test]
fn of_every_tensor_agree_with_finite_differences() {
    agree_with_finite_differences(tiny());
}

#[test]
fn with_every_term_of_the_loss_agree_with_finite_differences() {
    let loss = LossOptions {
        entropy_weight: 0.5,
        label_smoothing: 0.1,
        koleo_weight: 0.3,
        ..loss_options(5.0, true)
    };
    agree_with_finite_differences(MsnConfig { loss, ..tiny() });
}

#[test]
fn of_an_ensemble_with_a_prior_agree_with_finite_differences() {
    let loss = LossOptions { prior_exponent: 0.5, ..loss_options(3.0, false) };
    agree_with_finite_differences(MsnConfig { heads: 2, loss, ..tiny() });
}

#[test]
fn reach_every_parameter() {
    for dtype in [DType::F64, DType::F32] {
        let msn = Msn::new(tiny(), 0, dtype, &DEVICE, &Ranks::alone()).unwrap();
        let gradients = msn.evaluate(&tiny_views(dtype), &rates()).unwrap().gradients;
        for (parameter, gradient) in msn.parameters.iter().zip(gradients) {
            let (name, length) = (&parameter.name, length(&gradient));
            assert_eq!(gradient.dims(), parameter.value.dims(), "{name}");
            assert!(length.is_finite(), "{name}: {length}");
            if !is_cancelled(name) {
                assert!(length > 1e-9, "{name}: {length}");
            } else if dtype == DType::F64 {
                assert!(length < 1e-12, "{name}: {length}");
            }
        }
    }
}
