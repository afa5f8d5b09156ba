//! A loaded encoder: crops in, unit vectors out.

mod files;
mod patches;
#[cfg(test)]
mod tests;

pub use files::ModelFiles;

use crate::Error;
use crate::checkpoint::{Feature, ModelConfig, load_safetensors};
use crate::image::{Preprocessor, RgbImage};
use crate::vit::reference::{ForwardOptions, Keep, check_keep};
use crate::vit::{Kernels, Vit};
use candle_core::{Device, Tensor};

/// Floats that the activations of one forward pass may take: 256 MiB. Larger batches are run in parts.
const ACTIVATION_BUDGET: usize = 64 << 20;

/// Where to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceChoice {
    /// CUDA device 0 where this build and machine have one, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
}

impl DeviceChoice {
    fn open(self) -> Device {
        match self {
            // A machine without a usable GPU is no error: `Auto` means "the best there is".
            Self::Auto => Device::cuda_if_available(0).unwrap_or(Device::Cpu),
            Self::Cpu => Device::Cpu,
        }
    }
}

/// What callers need to know of a loaded encoder.
#[derive(Clone, Debug)]
pub struct EncoderInfo {
    /// Name from `config.json` (`dozen.name`), else the folder's.
    pub name: String,
    /// Identity of the vectors: hash of weights, configuration and preprocessing. Vectors of different ids never meet.
    pub id: String,
    /// Length of an embedding.
    pub dimensions: usize,
    /// Side of the square crop in pixels.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Type of the arithmetic, `f32`.
    pub dtype: String,
}

/// A loaded encoder. `&self` methods may be called from any one thread at a time or several; they hold no lock.
pub struct Encoder {
    info: EncoderInfo,
    preprocessor: Preprocessor,
    feature: Feature,
    vit: Vit,
    device: Device,
    /// Every patch of the grid once; a budget keeps the first so many.
    patch_order: Vec<u32>,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads weights, checks every tensor's shape, moves them to the device, and embeds one picture to see that the
    /// numbers are sound.
    pub fn load(files: &ModelFiles<'_>, device: DeviceChoice) -> Result<Self, Error> {
        let config = ModelConfig::from_json(&files.config)?;
        let preprocessor = Preprocessor::from_json(&files.preprocessor)?;
        let device = device.open();
        let parameters = load_safetensors(&files.weights, &device)?;
        let vit = Vit::with_kernels(&config.vit, &parameters, Kernels::Fused)?;
        let image_size = preprocessor.crop_size() as usize;
        let grid = image_size / config.vit.patch_size;
        if grid == 0 {
            return Err(Error::Config {
                file: crate::checkpoint::PREPROCESSOR_FILE.into(),
                reason: format!(
                    "a crop of {image_size} pixels holds no patch of {}; make the crop larger",
                    config.vit.patch_size
                ),
            });
        }
        let info = EncoderInfo {
            id: identity(&files.weights, &config, &preprocessor)?,
            name: config.name.unwrap_or_else(|| files.name.clone()),
            dimensions: config.vit.hidden_size,
            image_size,
            patch_size: config.vit.patch_size,
            parameters: Vit::parameter_shapes(&config.vit)
                .iter()
                .map(|(_, shape)| shape.iter().product::<usize>())
                .sum(),
            device: if device.is_cuda() { "cuda:0" } else { "cpu" }.to_owned(),
            dtype: "f32".to_owned(),
        };
        let patch_order = patches::spread_order(grid);
        let encoder = Self { info, preprocessor, feature: config.feature, vit, device, patch_order };
        encoder.embed(&[encoder.test_card()], 1.0)?;
        Ok(encoder)
    }

    /// Name, identity and sizes.
    pub fn info(&self) -> &EncoderInfo {
        &self.info
    }

    /// The preprocessing these weights expect.
    pub fn preprocessor(&self) -> &Preprocessor {
        &self.preprocessor
    }

    /// Embeds crops made by [`Preprocessor::crop`]: one unit vector (length `dimensions`) per crop, in order.
    ///
    /// `keep` in (0, 1] is the share of patches that are embedded (the patch budget); 1.0 embeds all. The patches kept
    /// are the same for every image and spread evenly over it.
    pub fn embed(&self, crops: &[RgbImage], keep: f32) -> Result<Vec<Vec<f32>>, Error> {
        if !(keep > 0.0 && keep <= 1.0) {
            return Err(Error::Input(format!(
                "the share of patches to keep is {keep}; it must lie in (0, 1]"
            )));
        }
        let kept = self.kept_patches(keep);
        let mut embeddings = Vec::with_capacity(crops.len());
        for part in crops.chunks(self.images_at_once(kept.len())) {
            let all = kept.len() == self.patch_order.len();
            let keep = if all { None } else { Some(Keep::Shared(kept)) };
            embeddings.extend(self.describe(part, keep)?);
        }
        Ok(embeddings)
    }

    /// Embeds crops of which each keeps patches of its own: as many lists as crops, all of the same length, of patches
    /// counted row by row from 0.
    pub fn embed_kept(&self, crops: &[RgbImage], kept: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        let count = kept.first().map_or(0, Vec::len);
        if kept.len() != crops.len() || kept.iter().any(|list| list.len() != count) {
            return Err(Error::Input("every crop needs a list of patches, all lists of one length".into()));
        }
        kept.iter().try_for_each(|list| check_keep(list, self.patch_order.len()))?;
        let mut embeddings = Vec::with_capacity(crops.len());
        let at_once = self.images_at_once(count);
        for (crops, kept) in crops.chunks(at_once).zip(kept.chunks(at_once)) {
            let keep = Tensor::from_vec(kept.concat(), (kept.len(), count), &self.device)?;
            embeddings.extend(self.describe(crops, Some(Keep::PerImage(&keep)))?);
        }
        Ok(embeddings)
    }

    /// Number of patches of a crop.
    pub fn patches(&self) -> usize {
        self.patch_order.len()
    }

    /// Normalised, `[B, 3, side, side]`.
    fn pixels(&self, crops: &[RgbImage]) -> Result<Tensor, Error> {
        let side = self.info.image_size;
        if let Some(crop) =
            crops.iter().find(|crop| crop.width as usize != side || crop.height as usize != side)
        {
            return Err(Error::Input(format!(
                "a crop is {}×{}; this encoder takes {side}×{side}",
                crop.width, crop.height
            )));
        }
        let shape = (crops.len(), 3, side, side);
        Ok(Tensor::from_vec(self.preprocessor.normalise(crops), shape, &self.device)?)
    }

    fn kept_patches(&self, keep: f32) -> &[u32] {
        let patches = self.patch_order.len();
        let count = (patches as f64 * f64::from(keep)).floor() as usize;
        &self.patch_order[..count.clamp(1, patches)]
    }

    /// How many images fit the activation budget: attention scores, and the widest layer with its surroundings.
    fn images_at_once(&self, patches: usize) -> usize {
        let (config, tokens) = (self.vit.config(), patches + 1);
        let scores = config.num_attention_heads * tokens * tokens;
        let widest = tokens * (4 * config.hidden_size + 2 * config.intermediate_size);
        (ACTIVATION_BUDGET / (2 * scores + widest)).max(1)
    }

    /// The vectors of crops that fit the device at once.
    fn describe(&self, crops: &[RgbImage], keep: Option<Keep<'_>>) -> Result<Vec<Vec<f32>>, Error> {
        let (pixels, options) = (self.pixels(crops)?, ForwardOptions { keep, branch_scales: None });
        let (vectors, centre) = match self.feature {
            Feature::ClsBeforeNorm => (self.vit.forward_cls(&pixels, &options)?, true),
            Feature::ClsAfterNorm => (self.vit.final_norm(&self.vit.forward_cls(&pixels, &options)?)?, false),
            Feature::MeanPatches => {
                let hidden = self.vit.forward_with(&pixels, &options)?;
                let patches = hidden.narrow(1, 1, hidden.dim(1)? - 1)?;
                (self.vit.final_norm(&patches.mean(1)?)?, false)
            }
        };
        vectors
            .to_device(&Device::Cpu)?
            .to_vec2::<f32>()?
            .into_iter()
            .map(|vector| unit(vector, centre))
            .collect()
    }

    /// Grey with a slope, so that no patch equals another.
    fn test_card(&self) -> RgbImage {
        let side = self.preprocessor.crop_size();
        let grey = |index: u32| 64 + (128 * (index / 3 % side + index / 3 / side) / (2 * side)) as u8;
        RgbImage { width: side, height: side, pixels: (0..side * side * 3).map(grey).collect() }
    }
}

/// Scales to length 1, after subtracting the vector's own mean where `centre` says so.
fn unit(mut vector: Vec<f32>, centre: bool) -> Result<Vec<f32>, Error> {
    if centre {
        let mean = vector.iter().copied().map(f64::from).sum::<f64>() / vector.len() as f64;
        for value in &mut vector {
            *value = (f64::from(*value) - mean) as f32;
        }
    }
    let length = vector.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    if !(length.is_finite() && length > f64::from(f32::MIN_POSITIVE)) {
        return Err(Error::Embedding(format!(
            "the network's output has length {length}: the weights are damaged, or were trained to divergence"
        )));
    }
    for value in &mut vector {
        *value = (f64::from(*value) / length) as f32;
    }
    Ok(vector)
}

/// The first 16 hexadecimal digits of a hash over everything that decides a vector. The name does not.
fn identity(weights: &[u8], config: &ModelConfig, preprocessor: &Preprocessor) -> Result<String, Error> {
    let nameless = ModelConfig { name: None, ..config.clone() };
    let mut hasher = blake3::Hasher::new();
    for part in [
        weights,
        nameless.to_json(crate::checkpoint::StoredDtype::F32)?.as_bytes(),
        preprocessor.to_json().as_bytes(),
    ] {
        // Lengths first, so that no two different triples give the same bytes.
        hasher.update(&(part.len() as u64).to_le_bytes());
        hasher.update(part);
    }
    Ok(hasher.finalize().to_hex()[..16].to_owned())
}
