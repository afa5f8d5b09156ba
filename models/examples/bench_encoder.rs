//! Our side of `cargo xtask bench encoder` and `bench gpu`.
//!
//! `write DIR CASE` writes a model, crops of photos and a photo for all sides. `serve DIR cpu|cuda DTYPE` prints a line of JSON when ready, then
//! answers every line of its input with one: `go BATCH N` embeds N batches, `go BATCH N KEEP RULE` does so within a patch
//! budget, `photo N` decodes and embeds the photo N times, `vectors` gives the unit vectors of the first crops, `matmul` measures a large matrix product.
#![expect(clippy::print_stdout, reason = "lines of JSON are the answers")]

use candle_core::{DType, Device, Tensor};
use dozen_models::checkpoint::{ModelConfig, StoredDtype, export, load_safetensors};
use dozen_models::image::{Filter, Limits, Preprocessor, Resize, RgbImage, decode, encode_jpeg};
use dozen_models::vit::{Family, Parameters, Positions, Vit, VitConfig};
use dozen_models::{Budget, DeviceChoice, DtypeChoice, Encoder, Error, Keep, ModelFiles, Selection};
use std::collections::HashMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Crops that batches are taken from, and crops that peers calibrate with.
const CROPS: usize = 32;
/// Vectors that are compared.
const COMPARED: usize = 8;
/// Side of the square matrices whose product tells the machine's rate.
const MATRIX: usize = 2048;
/// The same on a GPU, which smaller ones do not fill.
const LARGE_MATRIX: usize = 8192;
/// Name of the photo's file.
const PHOTO: &str = "photo.jpg";

fn main() -> Result<(), Error> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", directory, case] => write(Path::new(directory), case),
        ["serve", directory, device, dtype] => serve(Path::new(directory), device, dtype),
        _ => Err(Error::Input("give `write DIR CASE` or `serve DIR cpu|cuda DTYPE`".into())),
    }
}

fn write(directory: &Path, case: &str) -> Result<(), Error> {
    let (config, preprocessor, parameters) = match case {
        "shipped" => {
            let files = ModelFiles::shipped();
            let config = ModelConfig::from_json(&files.config)?.vit;
            let preprocessor = Preprocessor::from_json(&files.preprocessor)?;
            (config, preprocessor, load_safetensors(&files.weights, &Device::Cpu)?)
        }
        "vit-s-16" => random(384, 6)?,
        "vit-b-16" => random(768, 12)?,
        other => return Err(Error::Input(format!("there is no case `{other}`"))),
    };
    write_photo(directory)?;
    export(&directory.join("model"), case, &config, &preprocessor, &parameters, StoredDtype::F32)?;
    let crops = crops(&preprocessor)?;
    let side = preprocessor.crop_size() as usize;
    let tensor = |crops: &[RgbImage]| {
        Tensor::from_vec(preprocessor.normalise(crops), (crops.len(), 3, side, side), &Device::Cpu)
    };
    let (timed, calibration) = crops.split_at(CROPS);
    let bytes = timed.iter().flat_map(|crop| crop.pixels.iter().copied()).collect::<Vec<u8>>();
    let tensors = HashMap::from([
        ("pixels", tensor(timed)?),
        ("calibration", tensor(calibration)?),
        ("crops", Tensor::from_vec(bytes, (CROPS, side, side, 3), &Device::Cpu)?),
        ("mean", Tensor::new(&preprocessor.mean, &Device::Cpu)?),
        ("deviation", Tensor::new(&preprocessor.std, &Device::Cpu)?),
    ]);
    Ok(candle_core::safetensors::save(&tensors, directory.join("pixels.safetensors"))?)
}

/// A ViT of patches of 16 and images of 224, with weights as they are before training, LayerNorms as they are after it.
fn random(width: usize, heads: usize) -> Result<(VitConfig, Preprocessor, Parameters), Error> {
    let config = VitConfig {
        hidden_size: width,
        num_hidden_layers: 12,
        num_attention_heads: heads,
        intermediate_size: 4 * width,
        patch_size: 16,
        image_size: 224,
        num_channels: 3,
        layer_norm_eps: 1e-6,
        family: Family::Msn,
        positions: Positions::default(),
    };
    let mut state = 1_u64;
    // xorshift64*; the sum of four uniform numbers is normal enough.
    let mut uniform = move || {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 40) as f32 / (1_u64 << 24) as f32 - 0.5
    };
    let mut parameters = Parameters::new();
    for (name, shape) in Vit::parameter_shapes(&config) {
        let count = shape.iter().product();
        let centre = if name.contains("norm") && name.ends_with("weight") { 1.0 } else { 0.0 };
        let scale = if shape.len() > 1 { 1.7 * (3.0 / width as f32).sqrt() } else { 0.1 };
        let normal =
            (0..count).map(|_| centre + scale * (uniform() + uniform() + uniform() + uniform()) / 2.0);
        parameters.insert(name, Tensor::from_vec(normal.collect::<Vec<f32>>(), shape, &Device::Cpu)?);
    }
    let preprocessor = Preprocessor {
        resize: Resize::ShortSideThenCrop { short_side: 256, crop: 224 },
        filter: Filter::Bicubic,
        mean: [0.485, 0.456, 0.406],
        std: [0.229, 0.224, 0.225],
    };
    Ok((config, preprocessor, parameters))
}

/// The demo's photos.
fn photos_of_demo() -> Result<Vec<PathBuf>, Error> {
    let photos = Path::new(env!("CARGO_MANIFEST_DIR")).join("../server/demo/photos");
    let mut files = Vec::new();
    let mut folders = vec![photos];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).map_err(|source| Error::Io { path: folder, source })?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// Of the demo's photos, as often as it takes, mirrored every other time.
fn crops(preprocessor: &Preprocessor) -> Result<Vec<RgbImage>, Error> {
    let crop = |path: &PathBuf| {
        let bytes = std::fs::read(path).map_err(|source| Error::Io { path: path.clone(), source })?;
        Ok(preprocessor.crop(&decoded(&bytes)?))
    };
    let crops = photos_of_demo()?.iter().map(crop).collect::<Result<Vec<_>, Error>>()?;
    let mirrored = |crop: &RgbImage| {
        let (pixels, _) = crop.pixels.as_chunks::<3>();
        let rows = pixels.chunks_exact(crop.width as usize);
        RgbImage {
            pixels: rows.flat_map(|row| row.iter().rev().flatten().copied()).collect(),
            ..crop.clone()
        }
    };
    let both: Vec<RgbImage> = crops.iter().cloned().chain(crops.iter().map(mirrored)).collect();
    Ok(both.iter().cycle().take(both.len().max(2 * CROPS)).cloned().collect())
}

fn serve(directory: &Path, device: &str, dtype: &str) -> Result<(), Error> {
    let dtype: DtypeChoice = dtype.parse()?;
    let on_cuda = device == "cuda";
    let files = ModelFiles::read(&directory.join("model"))?;
    let choice = if on_cuda { DeviceChoice::Auto } else { DeviceChoice::Cpu };
    let encoder = Encoder::load_as(&files, choice, dtype)?;
    if on_cuda && encoder.info().device == "cpu" {
        return Err(Error::Input("there is no CUDA device here, or this is a build without CUDA".into()));
    }
    let mut crops = crops(encoder.preprocessor())?;
    let path = directory.join(PHOTO);
    let photo = std::fs::read(&path).map_err(|source| Error::Io { path, source })?;
    println!("{}", serde_json::json!({ "dtype": encoder.info().dtype }));
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|source| Error::Io { path: "standard input".into(), source })?;
        let answer = match line.split(' ').collect::<Vec<_>>()[..] {
            ["go", batch, count] => go(&encoder, &mut crops, batch, count, &Budget::default())?,
            ["go", batch, count, keep, rule] => {
                let keep = Keep::Share(number(keep)?);
                let selection = match rule {
                    "spread" => Selection::Spread,
                    "content" => Selection::Content,
                    other => {
                        return Err(Error::Input(format!("`{other}` is neither `spread` nor `content`")));
                    }
                };
                go(&encoder, &mut crops, batch, count, &Budget { keep, selection, masks: 1 })?
            }
            ["photo", count] => photos(&encoder, &photo, number(count)?)?,
            ["vectors"] => serde_json::json!({ "vectors": encoder.embed(&crops[..COMPARED], 1.0)? }),
            ["matmul"] => serde_json::json!({ "multiply_adds_per_second": matmul(on_cuda)? }),
            _ => return Err(Error::Input(format!("`{line}` is neither `go`, `vectors` nor `matmul`"))),
        };
        println!("{answer}");
    }
    Ok(())
}

fn number<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
    text.parse().map_err(|_| Error::Input(format!("`{text}` is no such number")))
}

/// Embeds `count` batches; the seconds of one.
fn go(
    encoder: &Encoder,
    crops: &mut Vec<RgbImage>,
    batch: &str,
    count: &str,
    budget: &Budget,
) -> Result<serde_json::Value, Error> {
    let (batch, count): (usize, usize) = (number(batch)?, number(count)?);
    // Larger batches have some crops several times.
    while crops.len() < batch {
        crops.extend_from_within(..crops.len().min(batch - crops.len()));
    }
    let started = Instant::now();
    for _ in 0..count {
        encoder.embed_within(&crops[..batch], budget)?;
    }
    Ok(serde_json::json!({ "seconds": started.elapsed().as_secs_f64() / count as f64 }))
}

/// Decodes and embeds a photo `count` times; the seconds of one.
fn photos(encoder: &Encoder, photo: &[u8], count: usize) -> Result<serde_json::Value, Error> {
    let started = Instant::now();
    for _ in 0..count {
        let cropped = encoder.preprocessor().decode_crop(photo, &Limits::default());
        let (crop, _) = cropped.map_err(|error| Error::Input(error.to_string()))?;
        encoder.embed(&[crop], 1.0)?;
    }
    Ok(serde_json::json!({ "seconds": started.elapsed().as_secs_f64() / count as f64 }))
}

fn decoded(photo: &[u8]) -> Result<RgbImage, Error> {
    decode(photo, &Limits::default()).map_err(|error| Error::Input(error.to_string()))
}

/// A photo as cameras of old made them, 500×375 pixels.
fn write_photo(directory: &Path) -> Result<(), Error> {
    let source = photos_of_demo()?.swap_remove(0);
    let bytes = std::fs::read(&source).map_err(|error| Error::Io { path: source, source: error })?;
    let RgbImage { width, height, pixels } = decoded(&bytes)?;
    let photo = image::RgbImage::from_raw(width, height, pixels).unwrap_or_default();
    let photo = image::imageops::resize(&photo, 500, 375, image::imageops::FilterType::CatmullRom);
    let photo = RgbImage { width: 500, height: 375, pixels: photo.into_raw() };
    let path = directory.join(PHOTO);
    std::fs::write(&path, encode_jpeg(&photo, 90)?).map_err(|source| Error::Io { path, source })
}

/// Multiply-adds per second of a large product, the best of a few: of floats on the CPU, of bf16 on a CUDA device.
fn matmul(on_cuda: bool) -> Result<f64, Error> {
    let (device, dtype, side) = if on_cuda {
        (Device::new_cuda(0)?, DType::BF16, LARGE_MATRIX)
    } else {
        (Device::Cpu, DType::F32, MATRIX)
    };
    let matrix = |pace: f64| {
        let values: Vec<f32> = (0..side * side).map(|n| (pace * n as f64).sin() as f32).collect();
        Tensor::from_vec(values, (side, side), &device)?.to_dtype(dtype)
    };
    let (left, right) = (matrix(0.37)?, matrix(0.53)?);
    let mut best = f64::INFINITY;
    for _ in 0..5 {
        device.synchronize()?;
        let started = Instant::now();
        std::hint::black_box(left.matmul(&right)?);
        device.synchronize()?;
        best = best.min(started.elapsed().as_secs_f64());
    }
    Ok(side.pow(3) as f64 / best)
}
