//! Checkpoints of DINO and data2vec against `transformers`: tests/fixtures/families (made by
//! xtask/python/fixtures/families.py).

use candle_core::{Device, Tensor};
use dozen_models::checkpoint::{Feature, ModelConfig, StoredDtype, export, load};
use dozen_models::vit::reference::{ForwardOptions, Keep};
use dozen_models::vit::{Kernels, Vit};
use dozen_models::{DeviceChoice, Encoder, ModelFiles};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

const TOLERANCE: f32 = 2e-5;

fn folder(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/families").join(case)
}

fn config(case: &str) -> ModelConfig {
    ModelConfig::from_json(&std::fs::read_to_string(folder(case).join("config.json")).unwrap()).unwrap()
}

fn vit(case: &str, kernels: Kernels) -> Vit {
    let parameters = load(&folder(case).join("model.safetensors"), &Device::Cpu).unwrap();
    Vit::with_kernels(&config(case).vit, &parameters, kernels).unwrap()
}

fn expected(case: &str) -> HashMap<String, Tensor> {
    candle_core::safetensors::load(folder(case).join("expected.safetensors"), &Device::Cpu).unwrap()
}

#[track_caller]
fn assert_near(what: &str, ours: &Tensor, theirs: &Tensor) {
    let difference: f32 = (ours - theirs).unwrap().abs().unwrap().max_all().unwrap().to_scalar().unwrap();
    assert!(difference < TOLERANCE, "{what}: {difference}");
}

#[test]
fn hidden_states_agree_with_transformers() {
    for (case, sizes) in [
        ("dino", &[32, 48][..]),
        ("vit-with-pooler", &[32]),
        ("data2vec", &[32, 48, 16]),
        ("data2vec-classifier", &[32]),
        ("data2vec-shared-cls", &[32]),
        ("data2vec-absolute", &[32, 40]),
    ] {
        let expected = expected(case);
        for kernels in [Kernels::Reference, Kernels::Fused] {
            let vit = vit(case, kernels);
            for size in sizes {
                let hidden = vit.forward(&expected[&format!("{size}.pixel_values")], None).unwrap();
                assert_near(&format!("{case} at {size}"), &hidden, &expected[&format!("{size}.before_norm")]);
                if case == "data2vec-classifier" {
                    let patches = hidden.narrow(1, 1, hidden.dim(1).unwrap() - 1).unwrap().mean(1).unwrap();
                    assert_near(
                        case,
                        &vit.final_norm(&patches).unwrap(),
                        &expected[&format!("{size}.pooled")],
                    );
                } else {
                    let normed = vit.final_norm(&hidden).unwrap();
                    assert_near(
                        &format!("{case} at {size}"),
                        &normed,
                        &expected[&format!("{size}.after_norm")],
                    );
                }
            }
        }
    }
}

#[test]
fn folders_load_as_encoders_with_the_feature_of_their_family() {
    for (case, feature) in [
        ("dino", Feature::ClsAfterNorm),
        ("data2vec", Feature::MeanPatches),
        ("data2vec-classifier", Feature::MeanPatches),
        ("data2vec-shared-cls", Feature::ClsAfterNorm),
    ] {
        assert_eq!(config(case).feature, feature, "{case}");
        let encoder = Encoder::load(&ModelFiles::read(&folder(case)).unwrap(), DeviceChoice::Cpu).unwrap();
        assert_eq!((encoder.info().dimensions, encoder.info().image_size), (16, 32), "{case}");
    }
}

/// Relative positions must follow the patches that stay: dropping patches in the middle of the network's input is the same
/// as never having had them, whichever way they are listed.
#[test]
fn dropped_patches_take_their_biases_along() {
    for case in ["data2vec", "data2vec-shared-cls", "data2vec-absolute", "dino"] {
        let vit = vit(case, Kernels::Fused);
        let pixels = &expected(case)["32.pixel_values"];
        let pair = Tensor::cat(&[pixels, &pixels.flip(&[3]).unwrap()], 0).unwrap();
        let lists = [[9_u32, 2, 14, 3], [0, 7, 8, 15]];
        let keep = Tensor::new(&lists, &Device::Cpu).unwrap();
        let options = ForwardOptions { keep: Some(Keep::PerImage(&keep)), branch_scales: None };
        let together = vit.forward_with(&pair, &options).unwrap();
        for (image, list) in lists.iter().enumerate() {
            let alone = vit.forward(&pair.narrow(0, image, 1).unwrap(), Some(list)).unwrap();
            assert_near(case, &together.narrow(0, image, 1).unwrap(), &alone);
        }
        let mut reordered = lists[0];
        reordered.reverse();
        let cls = |list: &[u32]| vit.forward(pixels, Some(list)).unwrap().narrow(1, 0, 1).unwrap();
        assert_near(case, &cls(&lists[0]), &cls(&reordered));
    }
}

#[test]
fn ones_as_branch_scales_change_nothing_and_zeros_leave_the_tokens_as_they_came() {
    let vit = vit("dino", Kernels::Fused);
    let pixels = &expected("dino")["32.pixel_values"];
    let scaled = |value: f32| {
        let scales = Tensor::full(value, (2, 2, 1), &Device::Cpu).unwrap();
        vit.forward_with(pixels, &ForwardOptions { keep: None, branch_scales: Some(&scales) }).unwrap()
    };
    assert_near("ones", &scaled(1.0), &vit.forward(pixels, None).unwrap());
    // CLS comes in as token plus position, the same for every image.
    let parameters = load(&folder("dino").join("model.safetensors"), &Device::Cpu).unwrap();
    let cls = (&parameters["cls_token"] + parameters["pos_embed"].narrow(1, 0, 1).unwrap()).unwrap();
    assert_near("zeros", &scaled(0.0).narrow(1, 0, 1).unwrap(), &cls);
}

#[test]
fn only_msn_is_exported() {
    let parameters = load(&folder("data2vec").join("model.safetensors"), &Device::Cpu).unwrap();
    let files = ModelFiles::read(&folder("data2vec")).unwrap();
    let encoder = Encoder::load(&files, DeviceChoice::Cpu).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (config, preprocessor) = (config("data2vec").vit, encoder.preprocessor());
    let error = export(dir.path(), "x", &config, preprocessor, &parameters, StoredDtype::F32).unwrap_err();
    assert!(error.to_string().contains("MSN"), "{error}");
}
