//! `preprocessor_config.json`, as Hugging Face transformers writes it.
//!
//! The file is a contract about what the weights saw in training. A key that would change the pixels and cannot be
//! honoured is an error, because embeddings that are quietly a little wrong are worse than none.

use serde::Serialize;
use serde_json::{Map, Value};

use super::{Filter, Preprocessor, Resize};
use crate::Error;

const FILE: &str = "preprocessor_config.json";

/// Largest side a manifest may ask for: beyond any Vision Transformer, and 200 MB a crop as `f32`.
const MAX_SIDE: u32 = 4096;

/// Pillow's resampling numbers.
const BILINEAR: u64 = 2;
const BICUBIC: u64 = 3;

/// Image processors that do what [`Preprocessor`] does when their keys say so.
const PROCESSORS: [&str; 10] = [
    "ViTImageProcessor",
    "ViTImageProcessorFast",
    "ViTImageProcessorPil",
    "ViTFeatureExtractor",
    "BitImageProcessor",
    "BitImageProcessorFast",
    "BitImageProcessorPil",
    "CLIPImageProcessor",
    "CLIPImageProcessorFast",
    "CLIPFeatureExtractor",
];

/// Keys that do not change what comes out: names, tensor layout, devices, and the conversion to RGB that is done anyway.
const IGNORED: [&str; 11] = [
    "_processor_class",
    "_valid_processor_keys",
    "auto_map",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    "do_convert_rgb",
    "input_data_format",
    "processor_class",
    "return_tensors",
];

/// Keys that are read.
const READ: [&str; 13] = [
    "crop_size",
    "do_center_crop",
    "do_normalize",
    "do_rescale",
    "do_resize",
    "feature_extractor_type",
    "image_mean",
    "image_processor_type",
    "image_std",
    "resample",
    "rescale_factor",
    "size",
    "transformers_version",
];

impl Preprocessor {
    /// Parses `preprocessor_config.json`.
    pub fn from_json(json: &str) -> Result<Self, Error> {
        parse(json).map_err(|reason| Error::Config { file: FILE.to_owned(), reason })
    }

    /// Writes `preprocessor_config.json`.
    ///
    /// The image processor named is the one of transformers with the same geometry: `BitImageProcessor` resizes the
    /// short side and crops, `ViTImageProcessor` squashes.
    pub fn to_json(&self) -> String {
        let (image_processor_type, size, crop_size) = match self.resize {
            Resize::ShortSideThenCrop { short_side, crop } => (
                "BitImageProcessor",
                Size::ShortestEdge { shortest_edge: short_side },
                Some(Size::square(crop)),
            ),
            Resize::Squash { size } => ("ViTImageProcessor", Size::square(size), None),
        };
        let manifest = Manifest {
            do_center_crop: crop_size.is_some(),
            crop_size,
            do_convert_rgb: true,
            do_normalize: true,
            do_rescale: true,
            do_resize: true,
            image_mean: self.mean,
            image_processor_type,
            image_std: self.std,
            resample: match self.filter {
                Filter::Bilinear => BILINEAR,
                Filter::Bicubic => BICUBIC,
            },
            rescale_factor: 1.0 / 255.0,
            size,
        };
        // Serialising numbers, strings and arrays into memory has no way to fail.
        serde_json::to_string_pretty(&manifest).unwrap_or_default() + "\n"
    }
}

/// The file as it is written.
#[expect(clippy::struct_excessive_bools, reason = "the format is transformers'")]
#[derive(Serialize)]
struct Manifest {
    #[serde(skip_serializing_if = "Option::is_none")]
    crop_size: Option<Size>,
    do_center_crop: bool,
    do_convert_rgb: bool,
    do_normalize: bool,
    do_rescale: bool,
    do_resize: bool,
    image_mean: [f32; 3],
    image_processor_type: &'static str,
    image_std: [f32; 3],
    resample: u64,
    rescale_factor: f64,
    size: Size,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Size {
    Exact { height: u32, width: u32 },
    ShortestEdge { shortest_edge: u32 },
}

impl Size {
    fn square(side: u32) -> Self {
        Self::Exact { height: side, width: side }
    }
}

/// Reads the manifest; the error says which key and what would be understood.
fn parse(json: &str) -> Result<Preprocessor, String> {
    let Value::Object(keys) = serde_json::from_str(json).map_err(|error| error.to_string())? else {
        return Err("not a JSON object; save it with the image processor of the model".to_owned());
    };
    refuse_unknown_keys(&keys)?;
    check_processor(&keys)?;
    check_rescale(&keys)?;
    if !flag(&keys, "do_resize", true)? {
        return Err("\"do_resize\" is false, and a model needs one image size: set it to true".to_owned());
    }
    let (mean, std) = if flag(&keys, "do_normalize", true)? {
        (channels(&keys, "image_mean")?, channels(&keys, "image_std")?)
    } else {
        ([0.0; 3], [1.0; 3])
    };
    if std.iter().any(|&std| std <= 0.0) {
        return Err("\"image_std\" must be above 0 in every channel".to_owned());
    }
    Ok(Preprocessor { resize: resize(&keys)?, filter: filter(&keys)?, mean, std })
}

/// Unknown keys pass only when they are switched off.
fn refuse_unknown_keys(keys: &Map<String, Value>) -> Result<(), String> {
    let unknown = keys.iter().find(|(key, value)| {
        !READ.contains(&key.as_str())
            && !IGNORED.contains(&key.as_str())
            && !matches!(value, Value::Null | Value::Bool(false))
    });
    match unknown {
        Some((key, value)) => {
            Err(format!("\"{key}\": {value} is not supported; remove it if it does not change the pixels"))
        }
        None => Ok(()),
    }
}

fn check_processor(keys: &Map<String, Value>) -> Result<(), String> {
    for key in ["image_processor_type", "feature_extractor_type"] {
        match keys.get(key) {
            None | Some(Value::Null) => {}
            Some(Value::String(name)) if PROCESSORS.contains(&name.as_str()) => {}
            Some(other) => {
                return Err(format!(
                    "\"{key}\": {other} is not supported; one of {} is",
                    PROCESSORS.join(", ")
                ));
            }
        }
    }
    Ok(())
}

fn check_rescale(keys: &Map<String, Value>) -> Result<(), String> {
    if !flag(keys, "do_rescale", true)? {
        return Err(
            "\"do_rescale\" is false; only models on the 0–1 scale are supported: set it to true".to_owned()
        );
    }
    match keys.get("rescale_factor") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Number(factor))
            if factor.as_f64().is_some_and(|factor| (factor * 255.0 - 1.0).abs() < 1e-5) =>
        {
            Ok(())
        }
        Some(other) => {
            Err(format!("\"rescale_factor\": {other} is not supported; 1/255 = 0.00392156862745098 is"))
        }
    }
}

/// Both crops the hub has: squash, or short side and centre crop.
fn resize(keys: &Map<String, Value>) -> Result<Resize, String> {
    let size =
        keys.get("size").ok_or("\"size\" is missing: set {\"height\": 224, \"width\": 224} or the like")?;
    if !flag(keys, "do_center_crop", false)? {
        if let Some(name) = processor_that_keeps_the_aspect(keys)
            && size.is_u64()
        {
            return Err(format!(
                "\"size\": {size} is the short side for {name}, and without \"do_center_crop\" the result is not square: \
                 set \"do_center_crop\" and \"crop_size\", or spell \"size\" as height and width"
            ));
        }
        return Ok(Resize::Squash { size: square("size", size)? });
    }
    let crop = keys.get("crop_size").ok_or("\"crop_size\" is missing, and \"do_center_crop\" needs it")?;
    let crop = square("crop_size", crop)?;
    let short_side = match size.get("shortest_edge") {
        Some(edge) if size.as_object().is_some_and(|edges| edges.len() == 1) => {
            side("size.shortest_edge", edge)?
        }
        None if size.is_number() => side("size", size)?,
        _ => {
            return Err(format!(
                "\"size\": {size} is not supported with \"do_center_crop\"; {{\"shortest_edge\": 256}} is"
            ));
        }
    };
    if short_side < crop {
        return Err(format!(
            "\"crop_size\" {crop} is larger than the short side {short_side} in \"size\": padding is not supported"
        ));
    }
    Ok(Resize::ShortSideThenCrop { short_side, crop })
}

/// The name of a processor that reads a plain number in `size` as the short side.
fn processor_that_keeps_the_aspect(keys: &Map<String, Value>) -> Option<&str> {
    ["image_processor_type", "feature_extractor_type"]
        .iter()
        .filter_map(|key| keys.get(*key)?.as_str())
        .find(|name| name.starts_with("Bit") || name.starts_with("CLIP"))
}

fn filter(keys: &Map<String, Value>) -> Result<Filter, String> {
    match keys.get("resample") {
        Some(value) if value.as_u64() == Some(BILINEAR) => Ok(Filter::Bilinear),
        Some(value) if value.as_u64() == Some(BICUBIC) => Ok(Filter::Bicubic),
        Some(value) => {
            Err(format!("\"resample\": {value} is not supported; 2 (bilinear) and 3 (bicubic) are"))
        }
        None => Err("\"resample\" is missing: set 2 (bilinear) or 3 (bicubic)".to_owned()),
    }
}

/// A square given as one number or as equal height and width.
fn square(key: &str, value: &Value) -> Result<u32, String> {
    if let Value::Object(sides) = value
        && let (2, Some(height), Some(width)) = (sides.len(), sides.get("height"), sides.get("width"))
        && height == width
    {
        return side(key, height);
    }
    if value.is_number() {
        return side(key, value);
    }
    Err(format!(
        "\"{key}\": {value} is not supported; a square such as {{\"height\": 224, \"width\": 224}} is"
    ))
}

fn side(key: &str, value: &Value) -> Result<u32, String> {
    value
        .as_u64()
        .and_then(|side| u32::try_from(side).ok())
        .filter(|side| (1..=MAX_SIDE).contains(side))
        .ok_or_else(|| format!("\"{key}\": {value} is not a whole number from 1 to {MAX_SIDE}"))
}

fn flag(keys: &Map<String, Value>, key: &str, default: bool) -> Result<bool, String> {
    match keys.get(key) {
        None | Some(Value::Null) => Ok(default),
        Some(Value::Bool(flag)) => Ok(*flag),
        Some(other) => Err(format!("\"{key}\": {other} is neither true nor false")),
    }
}

fn channels(keys: &Map<String, Value>, key: &str) -> Result<[f32; 3], String> {
    let value = keys.get(key).ok_or_else(|| format!("\"{key}\" is missing: set one number per channel"))?;
    let numbers: Option<Vec<f32>> = value
        .as_array()
        .and_then(|values| values.iter().map(|value| value.as_f64().map(|number| number as f32)).collect());
    numbers
        .filter(|numbers| numbers.iter().all(|number| number.is_finite()))
        .and_then(|numbers| <[f32; 3]>::try_from(numbers).ok())
        .ok_or_else(|| format!("\"{key}\": {value} is not a list of three numbers"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HUB: &str = r#"{"do_normalize": true, "do_resize": true, "feature_extractor_type": "ViTFeatureExtractor",
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 2, "size": 224}"#;

    fn paper() -> Preprocessor {
        Preprocessor {
            resize: Resize::ShortSideThenCrop { short_side: 256, crop: 224 },
            filter: Filter::Bilinear,
            mean: [0.485, 0.456, 0.406],
            std: [0.229, 0.224, 0.225],
        }
    }

    /// The hub's manifest with one key changed or removed.
    fn hub_with(key: &str, value: Option<Value>) -> String {
        let mut keys: Map<String, Value> = serde_json::from_str(HUB).unwrap();
        keys.remove(key);
        keys.extend(value.map(|value| (key.to_owned(), value)));
        Value::Object(keys).to_string()
    }

    #[test]
    fn the_hub_squashes() {
        let squash = Preprocessor { resize: Resize::Squash { size: 224 }, ..paper() };
        assert_eq!(Preprocessor::from_json(HUB).unwrap(), squash);
        let newer = r#"{"do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": true, "do_resize": true,
            "do_convert_rgb": null, "image_processor_type": "ViTImageProcessor", "size": {"height": 224, "width": 224},
            "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225], "resample": 2}"#;
        assert_eq!(Preprocessor::from_json(newer).unwrap(), squash);
    }

    #[test]
    fn the_paper_crops() {
        for crop in ["224", r#"{"height": 224, "width": 224}"#] {
            for size in ["256", r#"{"shortest_edge": 256}"#] {
                let json = format!(
                    r#"{{"size": {size}, "do_center_crop": true, "crop_size": {crop}, "resample": 2,
                    "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}}"#
                );
                assert_eq!(Preprocessor::from_json(&json).unwrap(), paper(), "{json}");
            }
        }
    }

    #[test]
    fn what_cannot_be_honoured_is_named() {
        let cases = [
            ("size", None),
            ("size", Some(serde_json::json!({"height": 224, "width": 192}))),
            ("size", Some(serde_json::json!({"shortest_edge": 224}))),
            ("size", Some(serde_json::json!({"longest_edge": 224}))),
            ("size", Some(serde_json::json!(0))),
            ("size", Some(serde_json::json!(1e9))),
            ("resample", None),
            ("resample", Some(serde_json::json!(1))),
            ("image_mean", None),
            ("image_mean", Some(serde_json::json!([0.5]))),
            ("image_std", Some(serde_json::json!([0.5, 0.5, 0.0]))),
            ("image_std", Some(serde_json::json!([0.5, 0.5, 1e99]))),
            ("do_resize", Some(serde_json::json!(false))),
            ("do_resize", Some(serde_json::json!("yes"))),
            ("do_rescale", Some(serde_json::json!(false))),
            ("rescale_factor", Some(serde_json::json!(0.5))),
            ("do_center_crop", Some(serde_json::json!(true))),
            ("feature_extractor_type", Some(serde_json::json!("ConvNextFeatureExtractor"))),
            ("image_processor_type", Some(serde_json::json!("SiglipImageProcessor"))),
            ("crop_pct", Some(serde_json::json!(0.875))),
            ("do_pad", Some(serde_json::json!(true))),
        ];
        for (key, value) in cases {
            let json = hub_with(key, value);
            let error = Preprocessor::from_json(&json).expect_err(&json).to_string();
            assert!(error.starts_with("preprocessor_config.json: "), "{error}");
            assert!(error.contains(key), "{error} does not name {key}");
        }
    }

    #[test]
    fn a_short_side_without_crop_is_refused() {
        let json = HUB.replace("ViTFeatureExtractor", "CLIPFeatureExtractor");
        assert!(Preprocessor::from_json(&json).unwrap_err().to_string().contains("do_center_crop"));
    }

    #[test]
    fn a_crop_beyond_the_short_side_is_refused() {
        let json = paper().to_json().replace("256", "200");
        assert!(Preprocessor::from_json(&json).unwrap_err().to_string().contains("padding"));
    }

    #[test]
    fn keys_switched_off_pass() {
        assert!(Preprocessor::from_json(&hub_with("do_pad", Some(Value::Bool(false)))).is_ok());
        assert!(Preprocessor::from_json(&hub_with("pad_size", Some(Value::Null))).is_ok());
    }

    #[test]
    fn unnormalised_models_keep_the_0_to_1_scale() {
        let plain = Preprocessor::from_json(&hub_with("do_normalize", Some(Value::Bool(false)))).unwrap();
        assert_eq!((plain.mean, plain.std), ([0.0; 3], [1.0; 3]));
    }

    #[test]
    fn means_are_written_as_people_write_them() {
        let json: Value = serde_json::from_str(&paper().to_json()).unwrap();
        assert_eq!(json["image_mean"].to_string(), "[0.485,0.456,0.406]");
        assert_eq!(json["size"].to_string(), r#"{"shortest_edge":256}"#);
        assert_eq!(json["rescale_factor"].to_string(), "0.00392156862745098");
    }

    fn any_preprocessor() -> impl Strategy<Value = Preprocessor> {
        let resize = prop_oneof![
            (1..=MAX_SIDE).prop_map(|size| Resize::Squash { size }),
            (1..=MAX_SIDE).prop_flat_map(|short_side| {
                (1..=short_side).prop_map(move |crop| Resize::ShortSideThenCrop { short_side, crop })
            }),
        ];
        let filter = prop_oneof![Just(Filter::Bilinear), Just(Filter::Bicubic)];
        (
            resize,
            filter,
            [-10.0..10.0_f32, -10.0..10.0, -10.0..10.0],
            [0.01..10.0_f32, 0.01..10.0, 0.01..10.0],
        )
            .prop_map(|(resize, filter, mean, std)| Preprocessor { resize, filter, mean, std })
    }

    proptest! {
        #[test]
        fn written_manifests_read_back(preprocessor in any_preprocessor()) {
            prop_assert_eq!(Preprocessor::from_json(&preprocessor.to_json()).unwrap(), preprocessor);
        }

        #[test]
        fn arbitrary_text_is_an_error_or_a_manifest(text in ".{0,200}") {
            let _ = Preprocessor::from_json(&text);
        }
    }
}
