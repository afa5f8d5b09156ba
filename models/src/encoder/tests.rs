use super::*;
use crate::checkpoint::{CONFIG_FILE, StoredDtype, export};
use crate::image::{Filter, Resize};
use crate::vit::{Family, Positions, VitConfig};
use candle_core::DType;
use std::borrow::Cow;
use std::collections::HashMap;

const SIDE: u32 = 24;

fn config() -> VitConfig {
    VitConfig {
        hidden_size: 16,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        intermediate_size: 32,
        patch_size: 4,
        // Native grid 4×4 while the crop gives 6×6, so that positions are interpolated.
        image_size: 16,
        num_channels: 3,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    }
}

fn preprocessor() -> Preprocessor {
    Preprocessor {
        resize: Resize::Squash { size: SIDE },
        filter: Filter::Bilinear,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    }
}

fn parameters() -> HashMap<String, Tensor> {
    Vit::parameter_shapes(&config())
        .into_iter()
        .enumerate()
        .map(|(salt, (name, shape))| {
            let values: Vec<f32> = (0..shape.iter().product::<usize>())
                .map(|index| (0.3 * ((index * 7919 + salt * 104_729 + 1) as f64).sin()) as f32)
                .collect();
            (name, Tensor::from_vec(values, shape, &Device::Cpu).unwrap())
        })
        .collect()
}

fn files(parameters: &HashMap<String, Tensor>) -> ModelFiles<'static> {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny-folder");
    export(&folder, "tiny", &config(), &preprocessor(), parameters, StoredDtype::F32).unwrap();
    ModelFiles::read(&folder).unwrap()
}

fn encoder() -> Encoder {
    Encoder::load(&files(&parameters()), DeviceChoice::Cpu).unwrap()
}

fn crops(count: usize) -> Vec<RgbImage> {
    (0..count)
        .map(|salt| RgbImage {
            width: SIDE,
            height: SIDE,
            pixels: (0..SIDE as usize * SIDE as usize * 3)
                .map(|i| ((i * 31 + salt * 97) % 251) as u8)
                .collect(),
        })
        .collect()
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum()
}

#[test]
fn information_describes_the_model() {
    let encoder = encoder();
    let info = encoder.info();
    assert_eq!((info.name.as_str(), info.device.as_str(), info.dtype.as_str()), ("tiny", "cpu", "f32"));
    assert_eq!((info.dimensions, info.image_size, info.patch_size), (16, 24, 4));
    // 16·(1 + 17 + 3·16 + 1) + 2·(4·16 + 48·17 + 16·17 + 32·17 + 16·33) + 2·16
    assert_eq!(info.parameters, 1072 + 2 * 2224 + 32);
    assert_eq!(info.id.len(), 16);
}

#[test]
fn embeddings_are_centred_unit_vectors_in_order() {
    let encoder = encoder();
    let crops = crops(5);
    let together = encoder.embed(&crops, 1.0).unwrap();
    assert_eq!(together.len(), 5);
    for (crop, vector) in crops.iter().zip(&together) {
        assert_eq!(vector.len(), 16);
        assert!((dot(vector, vector) - 1.0).abs() < 1e-6);
        assert!(vector.iter().sum::<f32>().abs() < 1e-5);
        let alone = encoder.embed(std::slice::from_ref(crop), 1.0).unwrap();
        assert!((dot(&alone[0], vector) - 1.0).abs() < 1e-6);
    }
    assert!(dot(&together[0], &together[1]) < 0.999_999, "different pictures, same vector");
    assert!(encoder.embed(&[], 1.0).unwrap().is_empty());
}

#[test]
fn the_feature_is_the_papers_or_the_hubs() {
    let files = files(&parameters());
    let after = ModelFiles {
        config: Cow::Owned(files.config.replace("cls_before_norm", "cls_after_norm")),
        ..ModelFiles {
            name: "x".into(),
            weights: files.weights.clone(),
            config: "".into(),
            preprocessor: files.preprocessor.clone(),
        }
    };
    let (before, after) = (
        Encoder::load(&files, DeviceChoice::Cpu).unwrap(),
        Encoder::load(&after, DeviceChoice::Cpu).unwrap(),
    );
    assert_ne!(before.info().id, after.info().id);

    let crop = crops(1);
    let pixels = Tensor::from_vec(preprocessor().normalise(&crop), (1, 3, 24, 24), &Device::Cpu).unwrap();
    let vit = Vit::new(&config(), &parameters()).unwrap();
    let hidden = vit.forward(&pixels, None).unwrap();
    let normed = vit.final_norm(&hidden).unwrap();
    let cls = |states: &Tensor| states.get(0).unwrap().get(0).unwrap().to_vec1::<f32>().unwrap();
    for (encoder, states, centre) in [(&before, &hidden, true), (&after, &normed, false)] {
        let mut expected = cls(states);
        let mean = if centre { expected.iter().sum::<f32>() / 16.0 } else { 0.0 };
        for value in &mut expected {
            *value -= mean;
        }
        let length = dot(&expected, &expected).sqrt();
        let cosine = dot(&expected, &encoder.embed(&crop, 1.0).unwrap()[0]) / length;
        assert!((cosine - 1.0).abs() < 1e-6, "{cosine}");
    }
}

#[test]
fn a_patch_budget_changes_the_vector_and_repeats() {
    let encoder = encoder();
    let crop = crops(1);
    let full = encoder.embed(&crop, 1.0).unwrap();
    for (keep, patches) in [(1.0, 36), (0.5, 18), (0.1, 3), (0.001, 1)] {
        assert_eq!(encoder.patches.share(keep), patches);
    }
    let half = encoder.embed(&crop, 0.5).unwrap();
    assert_eq!(half, encoder.embed(&crop, 0.5).unwrap());
    assert_ne!(half, full);
}

#[test]
fn a_batch_over_the_budget_is_run_in_parts() {
    let encoder = encoder();
    let at_once = encoder.images_at_once(36);
    assert!(at_once >= 1000, "{at_once}");
    // Tokens of a 4-pixel patch at 1024 pixels: one image alone overruns the budget and must still be run.
    assert_eq!(encoder.images_at_once(256 * 256), 1);
}

#[test]
fn identity_follows_what_decides_a_vector_and_nothing_else() {
    let base = files(&parameters());
    let load = |files: &ModelFiles<'_>| Encoder::load(files, DeviceChoice::Cpu).unwrap();
    let id = load(&base).info().id.clone();
    let mut renamed = files(&parameters());
    renamed.config = Cow::Owned(renamed.config.replace("\"tiny\"", "\"other\""));
    assert_eq!((load(&renamed).info().name.as_str(), &load(&renamed).info().id), ("other", &id));
    let mut squashed = files(&parameters());
    squashed.preprocessor = Cow::Owned(squashed.preprocessor.replace("0.485", "0.5"));
    assert_ne!(load(&squashed).info().id, id);
    let mut other = parameters();
    other.insert("norm.bias".into(), Tensor::zeros(16, DType::F32, &Device::Cpu).unwrap());
    assert_ne!(load(&files(&other)).info().id, id);
}

#[test]
fn a_model_without_a_name_takes_its_folders() {
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("tiny-folder");
    export(&folder, "tiny", &config(), &preprocessor(), &parameters(), StoredDtype::F32).unwrap();
    let json = std::fs::read_to_string(folder.join(CONFIG_FILE)).unwrap();
    std::fs::write(folder.join(CONFIG_FILE), json.replace("\"name\": \"tiny\",", "")).unwrap();
    let encoder = Encoder::load(&ModelFiles::read(&folder).unwrap(), DeviceChoice::Cpu).unwrap();
    assert_eq!(encoder.info().name, "tiny-folder");
}

#[test]
fn wrong_input_and_damaged_weights_are_refused() {
    let encoder = encoder();
    let small = RgbImage { width: 8, height: 24, pixels: vec![0; 8 * 24 * 3] };
    let message = encoder.embed(&[small], 1.0).unwrap_err().to_string();
    assert!(message.contains("8×24") && message.contains("24×24"), "{message}");
    for keep in [0.0, -0.5, 1.5, f32::NAN] {
        assert!(matches!(encoder.embed(&crops(1), keep), Err(Error::Input(_))), "{keep}");
    }
    // Large finite weights that overflow in the first block.
    let mut damaged = parameters();
    damaged.insert("patch_embed.proj.bias".into(), Tensor::full(3e38_f32, 16, &Device::Cpu).unwrap());
    let error = Encoder::load(&files(&damaged), DeviceChoice::Cpu).unwrap_err();
    assert!(matches!(error, Error::Embedding(_)), "{error}");
}

#[test]
fn the_shipped_weights_load_and_tell_pictures_apart() {
    let encoder = Encoder::load(&ModelFiles::shipped(), DeviceChoice::Cpu).unwrap();
    let side = encoder.preprocessor().crop_size();
    let picture = |salt: usize| RgbImage {
        width: side,
        height: side,
        pixels: (0..(side * side * 3) as usize)
            .map(|i| ((i * 31 * (salt + 1) + salt * 97) % 251) as u8)
            .collect(),
    };
    let vectors = encoder.embed(&[picture(0), picture(1)], 1.0).unwrap();
    assert_eq!(vectors[0].len(), encoder.info().dimensions);
    assert!(dot(&vectors[0], &vectors[1]) < 0.9999);
}

#[test]
fn masks_of_an_image_are_averaged_and_their_spread_told() {
    let encoder = encoder();
    let crops = crops(3);
    let within = |keep, selection, masks| {
        encoder.embed_within(&crops, &Budget { keep: Keep::Share(keep), selection, masks })
    };
    let random = |seed| Selection::Random { seed };
    let masked = within(0.5, random(7), 4).unwrap();
    let alone: Vec<_> = (0..4).map(|mask| within(0.5, random(7 + mask), 1).unwrap()).collect();
    for (image, Embedding { vector, spread, .. }) in masked.iter().enumerate() {
        let mean: Vec<f32> = (0..vector.len())
            .map(|place| alone.iter().map(|vectors| vectors[image].vector[place]).sum::<f32>() / 4.0)
            .collect();
        let length = dot(&mean, &mean).sqrt();
        let spread = spread.unwrap();
        assert!((f64::from(spread) - (1.0 - length)).abs() < 2e-6 && spread > 1e-5, "{spread}");
        assert!((dot(vector, &mean) / length - 1.0).abs() < 1e-5);
    }
    assert!(alone.iter().flatten().all(|one| one.spread.is_none()), "one mask has no spread");
    // Nor have masks that hide nothing.
    assert!(within(1.0, random(7), 3).unwrap().iter().all(|one| one.spread.unwrap() < 1e-5));
    for (selection, masks) in
        [(random(7), 0), (random(7), 65), (Selection::Spread, 2), (Selection::Content, 3)]
    {
        assert!(matches!(within(0.5, selection, masks), Err(Error::Input(_))), "{selection:?}, {masks}");
    }
}

#[test]
fn an_automatic_budget_is_the_least_that_keeps_the_photos_vectors() {
    let encoder = Encoder::load(&ModelFiles::shipped(), DeviceChoice::Cpu).unwrap();
    let photos = super::calibration::crops(encoder.preprocessor()).unwrap();
    let whole = encoder.embed(&photos, 1.0).unwrap();
    for selection in [Selection::Spread, Selection::Content, Selection::Centre] {
        let mut shares = Vec::new();
        for least_cosine in [0.3, 0.9, 0.97, 1.0] {
            let budget = Budget { keep: Keep::Auto { least_cosine }, selection, masks: 1 };
            let part = encoder.embed_within(&photos, &budget).unwrap();
            for (part, whole) in part.iter().zip(&whole) {
                assert!(
                    dot(&part.vector, whole) >= f64::from(least_cosine) - 1e-4,
                    "{selection:?}: {least_cosine}"
                );
            }
            shares.push(part[0].keep);
        }
        assert!(shares.is_sorted() && shares[0] < shares[3], "{selection:?}: {shares:?}");
        assert!((shares[3] - 1.0).abs() < 1e-6, "{selection:?}: {shares:?}");
    }
    for least_cosine in [0.0, -1.0, 1.1, f32::NAN] {
        let budget = Budget { keep: Keep::Auto { least_cosine }, ..Budget::default() };
        assert!(matches!(encoder.embed_within(&photos, &budget), Err(Error::Input(_))), "{least_cosine}");
    }
}
