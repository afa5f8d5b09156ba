//! Agreement with the `transformers` package on tests/fixtures/vit (made by xtask/python/fixtures/vit.py).

use candle_core::{Device, Tensor};
use dozen_models::checkpoint::{self, ModelConfig};
use dozen_models::vit::{Kernels, Vit};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Absolute, on hidden states of the order of 1 to 10.
const TOLERANCE: f32 = 1e-5;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/vit")
}

fn load(case: &str, weights: &str, kernels: Kernels) -> Vit {
    let folder = fixtures().join(case);
    let config =
        ModelConfig::from_json(&std::fs::read_to_string(folder.join("config.json")).unwrap()).unwrap();
    let parameters = checkpoint::load(&folder.join(weights), &Device::Cpu).unwrap();
    Vit::with_kernels(&config.vit, &parameters, kernels).unwrap()
}

fn expected(case: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(fixtures().join(case).join("expected.safetensors"), &Device::Cpu).unwrap()
}

fn largest_difference(ours: &Tensor, theirs: &Tensor) -> f32 {
    (ours - theirs).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap()
}

fn assert_agreement(vit: &Vit, expected: &HashMap<String, Tensor>, sizes: &[usize]) {
    for size in sizes {
        let ours = vit.forward(&expected[&format!("{size}.pixel_values")], None).unwrap();
        let difference = largest_difference(&ours, &expected[&format!("{size}.before_norm")]);
        assert!(difference < TOLERANCE, "{size} pixels, before the norm: {difference}");
        let ours = vit.final_norm(&ours).unwrap();
        let difference = largest_difference(&ours, &expected[&format!("{size}.after_norm")]);
        assert!(difference < TOLERANCE, "{size} pixels, after the norm: {difference}");
    }
}

#[test]
fn hidden_states_agree_at_native_and_other_sizes() {
    for (case, sizes) in [("plain", &[32][..]), ("odd", &[26]), ("interpolated", &[12, 20, 40])] {
        for kernels in [Kernels::Reference, Kernels::Fused] {
            assert_agreement(&load(case, "model.safetensors", kernels), &expected(case), sizes);
        }
    }
}

#[test]
fn every_way_of_storing_the_model_gives_the_same_hidden_states() {
    let expected = expected("plain");
    for weights in
        ["model.safetensors", "facebook.pth.tar", "pytorch_model.bin", "prefixed/model.safetensors"]
    {
        assert_agreement(&load("plain", weights, Kernels::Reference), &expected, &[32]);
    }
}

#[test]
fn an_archive_that_is_no_checkpoint_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("weights.pth");
    let whole = std::fs::read(fixtures().join("plain/facebook.pth.tar")).unwrap();
    for length in [5, 200, whole.len() / 2, whole.len() - 30] {
        std::fs::write(&path, &whole[..length]).unwrap();
        let message = checkpoint::load(&path, &Device::Cpu).unwrap_err().to_string();
        assert!(message.contains("weights.pth"), "{length} bytes: {message}");
    }
}

#[test]
fn a_hub_folder_without_safetensors_is_converted() {
    let dir = tempfile::tempdir().unwrap();
    for file in ["config.json", "pytorch_model.bin"] {
        std::fs::copy(fixtures().join("plain").join(file), dir.path().join(file)).unwrap();
    }
    let manifest = r#"{"do_normalize": true, "do_resize": true, "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5], "resample": 2, "size": 32}"#;
    std::fs::write(dir.path().join("preprocessor_config.json"), manifest).unwrap();
    let files = dozen_models::ModelFiles::read(dir.path()).unwrap();
    let encoder = dozen_models::Encoder::load(&files, dozen_models::DeviceChoice::Cpu).unwrap();
    assert_eq!((encoder.info().dimensions, encoder.info().image_size), (32, 32));
}
