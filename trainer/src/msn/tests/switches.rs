//! What the configuration can turn on beyond the paper's step.

use super::*;

fn row(values: [f64; 3]) -> Tensor {
    Tensor::new(&[values], &DEVICE).unwrap()
}

/// Two heads of one image; the first is sure of its target, the second is not.
#[test]
fn an_ensemble_listens_to_the_head_that_is_sure() {
    let prototypes = Tensor::eye(3, DType::F64, &DEVICE).unwrap();
    let head = |targets: [f64; 3]| HeadOutputs {
        anchors: row([1.0, 0.5, 0.2]),
        targets: row(targets),
        prototypes: prototypes.clone(),
    };
    let options = loss_options(0.0, false);
    let agreement = |heads: &[HeadOutputs], temperature: f64| {
        number(&loss(heads, temperature, &options, &Ranks::alone()).unwrap().agreement)
    };
    let (sure, unsure) = ([0.98, 0.01, 0.01], [0.3, 0.3, 0.4]);
    let alone = [agreement(&[head(sure)], 1.0), agreement(&[head(unsure)], 1.0)];
    assert_near(agreement(&[head(sure), head(unsure)], 1e-3), alone[0], 1e-9);
    assert_near(agreement(&[head(sure), head(unsure)], 1e6), f64::midpoint(alone[0], alone[1]), 1e-5);
    // At temperature γ the odds are exp of the difference in entropy over γ.
    let entropy = |target: [f64; 3]| -target.into_iter().map(|p: f64| p * p.ln()).sum::<f64>();
    let odds = ((entropy(unsure) - entropy(sure)) / 0.5).exp();
    let expected = (odds * alone[0] + alone[1]) / (odds + 1.0);
    assert_near(agreement(&[head(sure), head(unsure)], 0.5), expected, 1e-9);
}

/// The mean prediction of a known batch against a power law; values computed in float64 from the formula.
#[test]
fn a_prior_is_a_divergence_from_a_power_law() {
    let mean = [0.165_703_132_f64, 0.334_296_846, 0.185_661_568, 0.314_338_454];
    // One anchor whose prediction is exactly that mean: logits are its logarithms, up to a constant.
    let prototypes = Tensor::eye(4, DType::F64, &DEVICE).unwrap();
    let logits: Vec<f64> = mean.iter().map(|p| p.ln() + 3.0).collect();
    let length = logits.iter().map(|value| value * value).sum::<f64>().sqrt();
    let anchors = Tensor::from_vec(logits, (1, 4), &DEVICE).unwrap();
    let with = |prior_exponent: f64| {
        let head = HeadOutputs {
            anchors: anchors.clone(),
            targets: Tensor::full(0.25_f64, (1, 4), &DEVICE).unwrap(),
            prototypes: prototypes.clone(),
        };
        let options = LossOptions { temperature: 1.0 / length, prior_exponent, ..loss_options(1.0, false) };
        number(&loss(&[head], 1.0, &options, &Ranks::alone()).unwrap().memax)
    };
    assert_near(with(0.25), 0.073_597_951_7, 1e-8);
    assert_near(with(0.0), 0.045_734_086_9, 1e-8);
    assert_near(with(1e-12), with(0.0), 1e-10);
}

#[test]
fn accumulation_averages_the_gradients_of_its_batches() {
    let batches = || {
        [0.0, 0.3].map(|shift| {
            views(
                pixels(4, 32, 0.37 + shift, DType::F64),
                Some(pixels(4, 32, 0.53 + shift, DType::F64)),
                Some(pixels(8, 16, 0.71 + shift, DType::F64)),
            )
        })
    };
    let config = MsnConfig { clip_gradient: 0.0, ..tiny() };
    let fresh = || Msn::new(config.clone(), 0, DType::F64, &DEVICE, &Ranks::alone()).unwrap();
    let mut msn = fresh();
    let gradients = batches().map(|views| fresh().evaluate(&views, &rates()).unwrap().gradients);
    let losses = batches().map(|views| {
        let msn = fresh();
        msn.report(&[msn.evaluate(&views, &rates()).unwrap()]).unwrap().loss
    });
    let report = msn.step(&batches(), &rates()).unwrap();
    assert_near(report.loss, f64::midpoint(losses[0], losses[1]), 1e-12);
    let state = msn.state();
    for (index, parameter) in msn.parameters.iter().enumerate() {
        let both = numbers(&gradients[0][index]).into_iter().zip(numbers(&gradients[1][index]));
        // The first moment after one step is a tenth of the gradient.
        let expected: Vec<f64> = both.map(|(one, other)| 0.1 * f64::midpoint(one, other)).collect();
        assert_row(&state[&format!("opt.m.{}", parameter.name)], &expected, 1e-12);
    }
}

#[test]
fn one_mask_for_each_view_may_be_the_same_mask() {
    let msn = lively(tiny());
    let loss_with = |mask: Mask| {
        let mut views = tiny_views(DType::F64);
        views.anchors[0].mask = Some(mask);
        msn.report(&[msn.evaluate(&views, &rates()).unwrap()]).unwrap().loss
    };
    let shared = loss_with(Mask::Shared(KEEP.to_vec()));
    let per_view = |indices: Vec<u32>| loss_with(Mask::PerView { indices, kept: KEEP.len() });
    assert_near(per_view(KEEP.repeat(4)), shared, 1e-12);
    let mut others = KEEP.repeat(3);
    others.extend(4..15);
    assert!((per_view(others) - shared).abs() > 1e-6);
}

#[test]
fn branches_that_all_stay_change_nothing() {
    let msn = lively(tiny());
    let loss_with = |scales: Option<f32>| {
        let mut views = tiny_views(DType::F64);
        for group in &mut views.anchors {
            let rows = group.pixels.dim(0).unwrap();
            let full = |scale: f32| {
                Tensor::full(scale, (2, 2, rows), &DEVICE).unwrap().to_dtype(DType::F64).unwrap()
            };
            group.branch_scales = scales.map(full);
        }
        msn.report(&[msn.evaluate(&views, &rates()).unwrap()]).unwrap().loss
    };
    assert_near(loss_with(Some(1.0)), loss_with(None), 1e-12);
    assert!((loss_with(Some(0.0)) - loss_with(None)).abs() > 1e-6);
}

#[test]
fn the_heads_of_an_ensemble_have_names_of_their_own() {
    let config = MsnConfig { heads: 3, ..tiny() };
    let mut msn = Msn::new(config, 0, DType::F32, &DEVICE, &Ranks::alone()).unwrap();
    let report = msn.step(&[tiny_views(DType::F32)], &rates()).unwrap();
    assert!((3..=12).contains(&report.distinct_prototypes), "{report:?}");
    let state = msn.state();
    for name in [
        "prototypes",
        "prototypes.2",
        "anchor.fc.fc1.weight",
        "target.fc.2.fc3.bias",
        "target.fc.1.bn2.running_var",
    ] {
        assert!(state.contains_key(name), "{name}");
    }
    assert!(msn.target_trunk().keys().all(|name| !name.starts_with("fc.")));
    assert_ne!(numbers(&state["prototypes"]), numbers(&state["prototypes.1"]));
}

#[test]
fn a_run_can_start_from_a_trunk() {
    let mut msn = Msn::new(tiny(), 0, DType::F32, &DEVICE, &Ranks::alone()).unwrap();
    let trunk = Msn::new(tiny(), 1, DType::F32, &DEVICE, &Ranks::alone()).unwrap().target_trunk();
    let head = numbers(&msn.state()["anchor.fc.fc1.weight"]);
    msn.start_from(&trunk).unwrap();
    for (name, value) in &trunk {
        for group in ["anchor", "target"] {
            assert_eq!(numbers(&msn.state()[&format!("{group}.{name}")]), numbers(value), "{group}.{name}");
        }
    }
    assert_eq!(numbers(&msn.state()["anchor.fc.fc1.weight"]), head);
    let mut other = trunk.clone();
    other.insert("norm.weight".into(), Tensor::zeros(7, DType::F32, &DEVICE).unwrap());
    let error = msn.start_from(&other).unwrap_err().to_string();
    assert!(error.contains("norm.weight") && error.contains("[7]"), "{error}");
}

#[test]
fn features_are_spread_where_asked() {
    let spread_after = |koleo_weight: f64| {
        let loss = LossOptions { koleo_weight, ..loss_options(1.0, false) };
        let mut msn =
            Msn::new(MsnConfig { loss, ..tiny() }, 0, DType::F32, &DEVICE, &Ranks::alone()).unwrap();
        (0..15).map(|_| msn.step(&[tiny_views(DType::F32)], &rates()).unwrap().koleo).collect::<Vec<_>>()
    };
    let with = spread_after(1.0);
    assert!(with[14] < with[0] - 0.05, "{with:?}");
    assert!(spread_after(0.0).iter().all(|koleo| *koleo == 0.0));
}
