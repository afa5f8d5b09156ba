use super::layout::{Place, hugging_face_names, place};
use super::*;
use crate::Error;
use crate::image::{Filter, Preprocessor, Resize};
use crate::vit::{Family, Positions, Vit, VitConfig};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;

fn tiny() -> VitConfig {
    VitConfig {
        hidden_size: 8,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        intermediate_size: 12,
        patch_size: 4,
        image_size: 12,
        num_channels: 3,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    }
}

fn preprocessor() -> Preprocessor {
    Preprocessor {
        resize: Resize::ShortSideThenCrop { short_side: 14, crop: 12 },
        filter: Filter::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

/// Multiples of 1/64 below 4 in absolute value, so that every stored type holds them exactly.
fn parameters(config: &VitConfig) -> HashMap<String, Tensor> {
    let mut next = 0_usize;
    Vit::parameter_shapes(config)
        .into_iter()
        .map(|(name, shape)| {
            let values: Vec<f32> = (0..shape.iter().product())
                .map(|_| {
                    next += 1;
                    ((next * 7919 % 255) as f32 - 127.0) / 64.0
                })
                .collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect()
}

fn bytes(tensors: HashMap<String, Tensor>) -> Vec<u8> {
    safetensors::serialize(tensors, None).unwrap()
}

fn assert_same(actual: &HashMap<String, Tensor>, expected: &HashMap<String, Tensor>) {
    assert_eq!(actual.len(), expected.len());
    for (name, expected) in expected {
        let actual = &actual[name];
        assert_eq!(actual.dims(), expected.dims(), "{name}");
        assert_eq!(actual.dtype(), DType::F32, "{name}");
        let flat = |tensor: &Tensor| tensor.flatten_all().unwrap().to_vec1::<f32>().unwrap();
        assert_eq!(flat(actual), flat(expected), "{name}");
    }
}

/// The same tensors under the names of another layout.
fn renamed(
    parameters: &HashMap<String, Tensor>,
    prefix: &str,
    hugging_face: bool,
) -> HashMap<String, Tensor> {
    let mut renamed = HashMap::new();
    for (name, tensor) in parameters {
        let names = if hugging_face { hugging_face_names(name) } else { vec![name.clone()] };
        let parts = tensor.chunk(names.len(), 0).unwrap();
        for (name, part) in names.into_iter().zip(parts) {
            renamed.insert(format!("{prefix}{name}"), part.contiguous().unwrap());
        }
    }
    renamed
}

#[test]
fn every_layout_gives_the_same_parameters() {
    let expected = parameters(&tiny());
    for (prefix, hugging_face) in
        [("", false), ("module.", false), ("", true), ("vit.", true), ("module.vit.", true)]
    {
        let file = bytes(renamed(&expected, prefix, hugging_face));
        assert_same(&load_safetensors(&file, &Device::Cpu).unwrap(), &expected);
    }
}

#[test]
fn the_names_transformers_5_holds_in_memory_are_understood() {
    for (name, expected) in [
        ("layers.3.attention.q_proj.weight", Place::Third("blocks.3.attn.qkv.weight".into(), 0)),
        ("vit.layers.3.attention.v_proj.bias", Place::Third("blocks.3.attn.qkv.bias".into(), 2)),
        ("layers.0.attention.o_proj.bias", Place::Whole("blocks.0.attn.proj.bias".into())),
        ("layers.0.mlp.fc1.weight", Place::Whole("blocks.0.mlp.fc1.weight".into())),
        ("layers.11.layernorm_after.weight", Place::Whole("blocks.11.norm2.weight".into())),
    ] {
        assert_eq!(place(name), expected, "{name}");
    }
}

#[test]
fn every_parameter_returns_from_its_hugging_face_names() {
    for (canonical, _) in Vit::parameter_shapes(&tiny()) {
        let names = hugging_face_names(&canonical);
        for (third, name) in names.iter().enumerate() {
            let expected = if names.len() == 3 {
                Place::Third(canonical.clone(), third)
            } else {
                Place::Whole(canonical.clone())
            };
            assert_eq!(place(name), expected, "{name}");
        }
    }
}

#[test]
fn heads_and_mask_tokens_are_left_out() {
    let expected = parameters(&tiny());
    let mut tensors = renamed(&expected, "module.", false);
    let counter = Tensor::new(&[7_i64], &Device::Cpu).unwrap();
    tensors.insert("module.fc.bn1.num_batches_tracked".into(), counter.clone());
    for name in
        ["module.fc.fc1.weight", "classifier.weight", "head.bias", "mask_token", "pooler.dense.weight"]
    {
        tensors.insert(name.into(), counter.clone());
    }
    assert_same(&load_safetensors(&bytes(tensors), &Device::Cpu).unwrap(), &expected);
}

fn refusal(tensors: HashMap<String, Tensor>) -> String {
    load_safetensors(&bytes(tensors), &Device::Cpu).unwrap_err().to_string()
}

#[test]
fn refusals_name_the_tensor_and_the_layouts() {
    let mut tensors = parameters(&tiny());
    let scale = Tensor::new(&[1_f32], &Device::Cpu).unwrap();
    tensors.insert("blocks.0.ls1.gamma".into(), scale.clone());
    let message = refusal(tensors);
    assert!(message.contains("\"blocks.0.ls1.gamma\"") && message.contains("target_encoder"), "{message}");

    let message = refusal(HashMap::from([("classifier.weight".into(), scale)]));
    assert!(message.contains("none of its 1 tensors"), "{message}");

    let mut tensors = renamed(&parameters(&tiny()), "", true);
    tensors.remove("encoder.layer.1.attention.attention.key.weight");
    let message = refusal(tensors);
    assert!(message.contains("blocks.1.attn.qkv.weight lacks its key"), "{message}");

    let mut tensors = parameters(&tiny());
    tensors.insert("layernorm.bias".into(), tensors["norm.bias"].clone());
    let message = refusal(tensors);
    assert!(message.contains("two tensors claim to be norm.bias"), "{message}");

    let message = load_safetensors(b"not weights", &Device::Cpu).unwrap_err().to_string();
    assert!(message.contains("neither a safetensors file nor a PyTorch file"), "{message}");
}

#[test]
fn an_exported_folder_reads_back_in_every_stored_type() {
    let (config, expected) = (tiny(), parameters(&tiny()));
    for dtype in [StoredDtype::F32, StoredDtype::Bf16, StoredDtype::F16] {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("model");
        export(&folder, "tiny", &config, &preprocessor(), &expected, dtype).unwrap();
        assert_same(&load(&folder.join(WEIGHTS_FILE), &Device::Cpu).unwrap(), &expected);
        let read =
            ModelConfig::from_json(&std::fs::read_to_string(folder.join(CONFIG_FILE)).unwrap()).unwrap();
        assert_eq!((read.vit, read.name.as_deref()), (config.clone(), Some("tiny")));
        let manifest = std::fs::read_to_string(folder.join(PREPROCESSOR_FILE)).unwrap();
        assert_eq!(Preprocessor::from_json(&manifest).unwrap(), preprocessor());
        // Nothing but the three files: no partial one is left behind.
        assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 3);
    }
}

#[test]
fn an_export_that_would_not_load_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let mut wrong = parameters(&tiny());
    wrong.insert("norm.bias".into(), Tensor::full(1e6_f32, 8, &Device::Cpu).unwrap());
    let attempt = |parameters: &HashMap<String, Tensor>, dtype| {
        export(dir.path(), "tiny", &tiny(), &preprocessor(), parameters, dtype)
    };
    let message = attempt(&wrong, StoredDtype::F16).unwrap_err().to_string();
    assert!(message.contains("norm.bias is not finite when stored as float16"), "{message}");
    attempt(&wrong, StoredDtype::Bf16).unwrap();
    wrong.remove("norm.bias");
    let message = attempt(&wrong, StoredDtype::F32).unwrap_err().to_string();
    assert!(message.contains("norm.bias is missing"), "{message}");
}

#[test]
fn a_configuration_is_read_off_the_shapes() {
    let config = tiny();
    assert_eq!(infer_config(&parameters(&config), Some(2)).unwrap(), config);
    let message = infer_config(&parameters(&config), None).unwrap_err().to_string();
    assert!(message.contains("width of 8"), "{message}");
    let wide = VitConfig { hidden_size: 128, ..config };
    assert_eq!(infer_config(&parameters(&wide), None).unwrap(), wide);
}

#[test]
fn a_missing_file_is_named() {
    let error = load(std::path::Path::new("/nowhere/model.safetensors"), &Device::Cpu).unwrap_err();
    assert!(matches!(error, Error::Io { .. }));
    assert!(error.to_string().contains("/nowhere/model.safetensors"));
}
