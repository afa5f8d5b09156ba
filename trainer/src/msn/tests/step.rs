//! One step and what it does to each part of the state.

#![expect(clippy::float_cmp, reason = "values that were copied, or are constants, are exact")]

use super::*;
use std::collections::HashMap;

fn fresh() -> Msn {
    Msn::new(tiny(), 0, DType::F32, &DEVICE, &Ranks::alone()).unwrap()
}

fn loss_of(msn: &Msn, views: &Views) -> f64 {
    msn.report(&[msn.evaluate(views, &rates()).unwrap()]).unwrap().loss
}

fn bits(tensor: &Tensor) -> Vec<u32> {
    tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
}

/// The state, copied.
fn snapshot(msn: &Msn) -> HashMap<String, Tensor> {
    msn.state().into_iter().map(|(name, value)| (name, value.copy().unwrap())).collect()
}

#[track_caller]
fn assert_same_bits(one: &HashMap<String, Tensor>, other: &HashMap<String, Tensor>) {
    assert_eq!(one.len(), other.len());
    for (name, value) in one {
        assert_eq!(bits(value), bits(&other[name]), "{name}");
    }
}

#[test]
fn networks_start_as_prescribed() {
    let state = fresh().state();
    for (name, value) in &state {
        if let Some(rest) = name.strip_prefix("target.") {
            assert_eq!(bits(value), bits(&state[&format!("anchor.{rest}")]), "{name}");
        }
    }
    let spread = |name: &str| {
        let values = numbers(&state[name]);
        (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt()
    };
    // Xavier's variance is 2 over inputs and outputs: 32 → 128 here, 32 → 32 for each of q, k, v, and 3·8·8 → 32.
    assert_near(spread("anchor.blocks.0.mlp.fc1.weight"), (2.0_f64 / 160.0).sqrt(), 5e-3);
    assert_near(spread("anchor.blocks.0.attn.qkv.weight"), (2.0_f64 / 64.0).sqrt(), 5e-3);
    assert_near(spread("anchor.patch_embed.proj.weight"), (2.0_f64 / 224.0).sqrt(), 5e-3);
    assert_near(spread("anchor.cls_token"), 0.02, 8e-3);
    let positions = numbers(&state["anchor.pos_embed"]);
    // CLS has none; the patch in column 1 of row 2 has sin 1 and cos 1, then sin 2 and cos 2, in its four quarters.
    assert!(positions[..32].iter().all(|value| *value == 0.0));
    let patch = &positions[(1 + 2 * 4 + 1) * 32..][..32];
    for (quarter, expected) in
        [1.0_f64.sin(), 1.0_f64.cos(), 2.0_f64.sin(), 2.0_f64.cos()].into_iter().enumerate()
    {
        assert_near(patch[quarter * 8], expected, 1e-6);
    }
    assert!(numbers(&state["anchor.blocks.1.norm1.weight"]).iter().all(|value| *value == 1.0));
    assert!(numbers(&state["anchor.fc.bn2.bias"]).iter().all(|value| *value == 0.0));
    let prototypes = numbers(&state["prototypes"]);
    assert!(prototypes.iter().all(|value| value.abs() <= 0.25));
    assert_near(spread("prototypes"), 0.25 / 3.0_f64.sqrt(), 0.02);
}

#[test]
fn weight_decay_falls_on_the_published_list() {
    let msn = fresh();
    let decayed: Vec<&str> =
        msn.parameters.iter().filter(|one| one.is_decayed()).map(|one| one.name.as_str()).collect();
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

#[test]
fn the_moving_average_moves_parameters_only() {
    let mut msn = fresh();
    let before = snapshot(&msn);
    msn.step(&[tiny_views(DType::F32)], &Rates { momentum: 0.75, ..rates() }).unwrap();
    let after = msn.state();
    for (name, value) in after.iter().filter(|(name, _)| name.starts_with("target.")) {
        let anchor = &after[&name.replace("target.", "anchor.")];
        if name.contains("running") {
            assert_ne!(bits(value), bits(anchor), "{name} follows its own batches");
            assert_ne!(bits(value), bits(&before[name]), "{name} is updated");
        } else {
            let old = numbers(&before[name]).into_iter().zip(numbers(anchor));
            let expected: Vec<f64> = old.map(|(old, anchor)| 0.75 * old + 0.25 * anchor).collect();
            assert_row(value, &expected, 1e-7);
        }
    }
    assert!(!after.contains_key("target.prototypes"));
    assert_ne!(bits(&after["prototypes"]), bits(&before["prototypes"]), "prototypes learn");
}

#[test]
fn the_target_moves_by_its_average_alone() {
    let mut msn = fresh();
    let before = snapshot(&msn);
    msn.step(&[tiny_views(DType::F32)], &Rates { momentum: 1.0, ..rates() }).unwrap();
    for (name, value) in msn.target_trunk() {
        assert_eq!(bits(&value), bits(&before[&format!("target.{name}")]), "{name}");
    }
}

#[test]
fn clipping_scales_the_encoders_gradient_only() {
    let after_a_step = |clip_gradient: f64| {
        let mut msn =
            Msn::new(MsnConfig { clip_gradient, ..tiny() }, 0, DType::F64, &DEVICE, &Ranks::alone()).unwrap();
        let report = msn.step(&[tiny_views(DType::F64)], &rates()).unwrap();
        (report, msn.state())
    };
    let (free, unclipped) = after_a_step(0.0);
    let (short, clipped) = after_a_step(1e-3);
    assert_near(free.clip_factor, 1.0, 0.0);
    assert_near(short.gradient_norm, free.gradient_norm, 0.0);
    assert_near(short.clip_factor, 1e-3 / (free.gradient_norm + 1e-6), 1e-12);
    for (name, value) in unclipped.iter().filter(|(name, _)| name.starts_with("opt.m.")) {
        let factor = if name == "opt.m.prototypes" { 1.0 } else { short.clip_factor };
        let expected: Vec<f64> = numbers(value).into_iter().map(|moment| moment * factor).collect();
        assert_row(&clipped[name], &expected, 1e-15);
    }
    // The first moment after one step is a tenth of the gradient.
    let encoder =
        unclipped.iter().filter(|(name, _)| name.starts_with("opt.m.") && !name.ends_with("prototypes"));
    let norm = encoder.map(|(_, moment)| (10.0 * length(moment)).powi(2)).sum::<f64>().sqrt();
    assert_near(norm, free.gradient_norm, 1e-9);
    assert_near(10.0 * length(&unclipped["opt.m.blocks.0.attn.qkv.weight"]), free.first_qkv_norm, 1e-12);
    assert_near(10.0 * length(&unclipped["opt.m.blocks.1.attn.qkv.weight"]), free.last_qkv_norm, 1e-12);
}

#[test]
fn running_statistics_see_random_then_focal_views() {
    let views = tiny_views(DType::F64);
    // Nothing is learnt, so that each run sees the same networks.
    let still = Rates { learning_rate: 0.0, momentum: 1.0, ..rates() };
    let statistics = |random: Option<&Tensor>, focal: Option<&Tensor>, keep: &[u32]| {
        let mut msn = Msn::new(tiny(), 0, DType::F64, &DEVICE, &Ranks::alone()).unwrap();
        let mask = Some(Mask::Shared(keep.to_vec()));
        let views = Views::new(views.target.clone(), random.cloned(), focal.cloned(), mask).unwrap();
        msn.step(&[views], &still).unwrap();
        let state = msn.state();
        ["mean", "var"].map(|kind| numbers(&state[&format!("anchor.fc.bn1.running_{kind}")]))
    };
    let [random, focal] = [0, 1].map(|group| Some(&views.anchors[group].pixels));
    let both = statistics(random, focal, &KEEP);
    let first = statistics(random, None, &KEEP);
    let second = statistics(None, focal, &[0, 1, 2, 3]);
    // From 0 or 1: a batch leaves a tenth of itself; the second batch shrinks what there is to nine tenths.
    for (index, initial) in [(0, 0.0), (1, 1.0)] {
        for ((both, first), second) in both[index].iter().zip(&first[index]).zip(&second[index]) {
            assert_near(*both, 0.9 * first + (second - 0.9 * initial), 1e-12);
        }
    }
}

#[test]
fn views_of_one_size_form_one_masked_group() {
    let msn = lively(tiny());
    let (first, second) = (pixels(4, 32, 0.53, DType::F64), pixels(4, 32, 0.71, DType::F64));
    let joined = Tensor::cat(&[&first, &second], 0).unwrap();
    let loss = |random: Tensor, focal: Option<Tensor>| {
        loss_of(&msn, &views(pixels(4, 32, 0.37, DType::F64), Some(random), focal))
    };
    assert_near(loss(first, Some(second)), loss(joined, None), 0.0);
}

#[test]
fn the_order_of_patches_and_of_images_does_not_matter() {
    let msn = lively(tiny());
    let plain = loss_of(&msn, &tiny_views(DType::F64));
    let mut other = tiny_views(DType::F64);
    let reversed = KEEP.into_iter().rev().collect();
    other.anchors[0].mask = Some(Mask::Shared(reversed));
    assert_near(loss_of(&msn, &other), plain, 1e-12);
    let reorder =
        |pixels: &Tensor, rows: &[u32]| pixels.index_select(&Tensor::new(rows, &DEVICE).unwrap(), 0).unwrap();
    let Views { target, anchors } = tiny_views(DType::F64);
    let permuted = views(
        reorder(&target, &[2, 0, 3, 1]),
        Some(reorder(&anchors[0].pixels, &[2, 0, 3, 1])),
        Some(reorder(&anchors[1].pixels, &[2, 0, 3, 1, 6, 4, 7, 5])),
    );
    assert_near(loss_of(&msn, &permuted), plain, 1e-12);
}

#[test]
fn health_metrics_are_of_the_targets() {
    let msn = lively(tiny());
    let views = tiny_views(DType::F64);
    let report = msn.report(&[msn.evaluate(&views, &rates()).unwrap()]).unwrap();
    let targets = msn.targets(&views, &rates()).unwrap().0[0].to_vec2::<f64>().unwrap();
    let largest: Vec<f64> = targets.iter().map(|row| row.iter().copied().fold(0.0, f64::max)).collect();
    assert_near(report.max_target, largest.iter().sum::<f64>() / 4.0, 1e-12);
    let winners: std::collections::BTreeSet<_> = targets
        .iter()
        .zip(&largest)
        .map(|(row, largest)| row.iter().position(|value| value == largest))
        .collect();
    assert_eq!(report.distinct_prototypes, winners.len());
    assert_near(report.loss, report.agreement + report.memax, 1e-12);
}

fn run(steps: usize) -> (Msn, Vec<f64>) {
    let mut msn = fresh();
    let views = [tiny_views(DType::F32)];
    let losses = (0..steps).map(|_| msn.step(&views, &rates()).unwrap().loss).collect();
    (msn, losses)
}

#[test]
fn training_lowers_the_loss_and_repeats_bit_for_bit() {
    let (first, losses) = run(20);
    assert!(losses[19] < losses[0] - 0.1, "{losses:?}");
    let (second, again) = run(20);
    assert_eq!(losses, again);
    assert_same_bits(&snapshot(&first), &snapshot(&second));
}

#[test]
fn another_seed_is_another_network() {
    let other = Msn::new(tiny(), 1, DType::F32, &DEVICE, &Ranks::alone()).unwrap();
    let weight = "anchor.blocks.0.mlp.fc1.weight";
    assert_ne!(bits(&fresh().state()[weight]), bits(&other.state()[weight]));
}

#[test]
fn a_saved_state_continues_bit_for_bit() {
    let (uninterrupted, _) = run(6);
    let (half, _) = run(3);
    let mut resumed = Msn::new(tiny(), 99, DType::F32, &DEVICE, &Ranks::alone()).unwrap();
    resumed.load_state(&snapshot(&half), half.steps()).unwrap();
    for _ in 0..3 {
        resumed.step(&[tiny_views(DType::F32)], &rates()).unwrap();
    }
    assert_eq!(resumed.steps(), uninterrupted.steps());
    assert_same_bits(&snapshot(&uninterrupted), &snapshot(&resumed));
}

#[test]
fn a_state_that_does_not_fit_is_refused_by_name() {
    let mut saved = snapshot(&fresh());
    let mut msn = fresh();
    saved.insert("prototypes".into(), Tensor::zeros((9, 16), DType::F32, &DEVICE).unwrap());
    let error = msn.load_state(&saved, 1).unwrap_err().to_string();
    assert!(error.contains("prototypes") && error.contains("[9, 16]"), "{error}");
    saved.remove("prototypes");
    let error = msn.load_state(&saved, 1).unwrap_err().to_string();
    assert!(error.contains("`prototypes` is missing"), "{error}");
}

#[test]
fn numbers_that_are_not_finite_change_nothing() {
    let mut msn = fresh();
    let before = snapshot(&msn);
    let mut views = tiny_views(DType::F32);
    views.anchors[0].pixels = (&views.anchors[0].pixels * f64::NAN).unwrap();
    let error = msn.step(&[views], &rates()).unwrap_err();
    assert!(error.to_string().contains("lower learning rate"), "{error}");
    assert_same_bits(&before, &snapshot(&msn));
    assert_eq!(msn.steps(), 0);
}

#[test]
fn a_step_needs_an_anchor() {
    let views = Views::new(pixels(4, 32, 0.37, DType::F32), None, None, None);
    assert!(views.err().unwrap().to_string().contains("no anchor view"));
}

/// Resident memory of this process in MiB.
fn resident() -> f64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<f64>().unwrap() * 4096.0 / f64::from(1 << 20)
}

/// Other tests allocate beside this one, so it looks at a process of its own: itself once more.
#[test]
#[cfg(target_os = "linux")]
fn memory_does_not_grow_with_the_steps() {
    const ALONE: &str = "DOZEN_TEST_ALONE";
    if std::env::var_os(ALONE).is_none() {
        let name = "msn::tests::step::memory_does_not_grow_with_the_steps";
        let mut again = std::process::Command::new(std::env::current_exe().unwrap());
        assert!(again.args([name, "--exact"]).env(ALONE, "1").status().unwrap().success());
        return;
    }
    let mut msn = Msn::new(tiny(), 3, DType::F32, &DEVICE, &Ranks::alone()).unwrap();
    let views = [tiny_views(DType::F32)];
    let mut go = |steps: usize| {
        for _ in 0..steps {
            msn.step(&views, &rates()).unwrap();
        }
        resident()
    };
    let (early, late) = (go(20), go(180));
    // Keeping one step's gradients would be 15 MiB by now.
    assert!(late - early < 4.0, "{early} MiB after 20 steps, {late} MiB after 200");
}
