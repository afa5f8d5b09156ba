//! A loaded encoder: crops in, unit vectors out.

mod arithmetic;
mod budget;
mod calibration;
mod execution;
mod files;
mod patches;
#[cfg(test)]
mod tests;

pub use arithmetic::DtypeChoice;
use arithmetic::{Arithmetic, Chosen};
use budget::Curves;
pub use budget::{Budget, Embedding, Keep};
pub use calibration::Agreement;
use execution::Execution;
pub use files::ModelFiles;
use patches::Patches;
pub use patches::Selection;

use crate::Error;
use crate::checkpoint::{Feature, ModelConfig, load_safetensors};
use crate::image::{Preprocessor, RgbImage};
use crate::vit::cpu::{CpuVit, Kept};
use crate::vit::reference::{ForwardOptions, Keep as KeptTokens, check_keep};
use crate::vit::{Kernels, Vit, VitConfig};
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
    /// Type of the arithmetic: `f32`; `int8` on CPUs, or `int8+f32` where sensitive maps stay in floats; `bf16`, `f16` or
    /// `tf32` on CUDA devices.
    pub dtype: String,
    /// How far its vectors (or those that were not good enough) agree with f32's, where they were compared.
    pub agreement: Option<Agreement>,
}

/// A loaded encoder. `&self` methods may be called from any one thread at a time or several; they hold no lock.
pub struct Encoder {
    info: EncoderInfo,
    preprocessor: Preprocessor,
    feature: Feature,
    config: VitConfig,
    execution: Execution,
    patches: Patches,
    curves: Curves,
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Encoder").field("info", &self.info).finish_non_exhaustive()
    }
}

impl Encoder {
    /// Loads weights, checks every tensor's shape, moves them to the device, and embeds one picture to see that the
    /// numbers are sound. Computes in f32.
    pub fn load(files: &ModelFiles<'_>, device: DeviceChoice) -> Result<Self, Error> {
        Self::open(files, device, Arithmetic::F32)
    }

    /// The same with a choice of arithmetic.
    pub fn load_as(files: &ModelFiles<'_>, device: DeviceChoice, dtype: DtypeChoice) -> Result<Self, Error> {
        let exact = Self::load(files, device)?;
        let (candidates, fallback) = match dtype.of(exact.execution.runs())? {
            Chosen::F32 => return Ok(exact),
            Chosen::FirstThatAgrees(candidates) => (candidates.to_vec(), true),
            Chosen::This(arithmetic) => (vec![arithmetic], false),
        };
        let mut last = None;
        for arithmetic in candidates {
            let faster = Self::open(files, device, arithmetic)?;
            let agreement = Some(calibration::agreement(&exact, &faster)?);
            if !fallback || agreement.is_some_and(|agreement| agreement.is_good_enough()) {
                return Ok(Self { info: EncoderInfo { agreement, ..faster.info.clone() }, ..faster });
            }
            last = agreement;
        }
        Ok(Self { info: EncoderInfo { agreement: last, ..exact.info.clone() }, ..exact })
    }

    fn open(files: &ModelFiles<'_>, device: DeviceChoice, arithmetic: Arithmetic) -> Result<Self, Error> {
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
            dtype: arithmetic.name().to_owned(),
            agreement: None,
        };
        let execution = Execution::new(vit, device, &preprocessor, config.feature, arithmetic)?;
        let patches = Patches::new(grid, config.vit.patch_size);
        let (feature, config) = (config.feature, config.vit);
        let curves = Curves::default();
        let encoder = Self { info, preprocessor, feature, config, execution, patches, curves };
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
        let vectors = self.embed_within(crops, &Budget { keep: Keep::Share(keep), ..Budget::default() })?;
        Ok(vectors.into_iter().map(|embedding| embedding.vector).collect())
    }

    /// Embeds crops of which each keeps patches of its own: as many lists as crops, all of the same length, of patches
    /// counted row by row from 0.
    pub fn embed_kept(&self, crops: &[RgbImage], kept: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, Error> {
        let count = kept.first().map_or(0, Vec::len);
        if kept.len() != crops.len() || kept.iter().any(|list| list.len() != count) {
            return Err(Error::Input("every crop needs a list of patches, all lists of one length".into()));
        }
        kept.iter().try_for_each(|list| check_keep(list, self.patches()))?;
        self.check_crops(crops)?;
        self.describe(crops, Kept::PerImage(kept))
    }

    /// Number of patches of a crop.
    pub fn patches(&self) -> usize {
        self.patches.count()
    }

    fn check_crops(&self, crops: &[RgbImage]) -> Result<(), Error> {
        let side = self.info.image_size;
        if let Some(crop) =
            crops.iter().find(|crop| crop.width as usize != side || crop.height as usize != side)
        {
            return Err(Error::Input(format!(
                "a crop is {}×{}; this encoder takes {side}×{side}",
                crop.width, crop.height
            )));
        }
        Ok(())
    }

    /// The vectors of crops of the right size.
    fn describe(&self, crops: &[RgbImage], kept: Kept<'_>) -> Result<Vec<Vec<f32>>, Error> {
        if crops.is_empty() {
            return Ok(Vec::new());
        }
        let features = match &self.execution {
            Execution::Packed(vit) => self.features(vit, crops, kept),
            #[cfg(feature = "cuda")]
            Execution::Cuda(vit) => vit.run(crops, kept)?,
            Execution::Tensors(vit, device) => self.features_of_tensors(vit, device, crops, kept)?,
        };
        let centre = self.feature == Feature::ClsBeforeNorm;
        features.chunks_exact(self.info.dimensions).map(|feature| unit(feature.to_vec(), centre)).collect()
    }

    /// A row for each crop.
    fn features(&self, vit: &CpuVit, crops: &[RgbImage], kept: Kept<'_>) -> Vec<f32> {
        let mut hidden = vit.run(crops, kept);
        match self.feature {
            Feature::ClsBeforeNorm => {}
            Feature::ClsAfterNorm => vit.final_norm(&mut hidden),
            Feature::MeanPatches => {
                let width = self.info.dimensions;
                let mean = |tokens: &[f32]| {
                    let (_cls, patches) = tokens.split_at(width);
                    let count = (patches.len() / width) as f32;
                    let mut mean = vec![0.0; width];
                    for patch in patches.chunks_exact(width) {
                        mean.iter_mut().zip(patch).for_each(|(mean, value)| *mean += value / count);
                    }
                    mean
                };
                hidden = hidden.chunks_exact((1 + kept.of(0).len()) * width).flat_map(mean).collect();
                vit.final_norm(&mut hidden);
            }
        }
        hidden
    }

    fn features_of_tensors(
        &self,
        vit: &Vit,
        device: &Device,
        crops: &[RgbImage],
        kept: Kept<'_>,
    ) -> Result<Vec<f32>, Error> {
        let (side, count, lists) = (self.info.image_size, kept.of(0).len(), kept.lists(crops.len()));
        let at_once = (self.images_at_once(count) / lists).max(1);
        let mut features = Vec::with_capacity(crops.len() * lists * self.info.dimensions);
        for (number, crops) in crops.chunks(at_once).enumerate() {
            let shape = (crops.len(), 1, 3, side, side);
            let pixels = Tensor::from_vec(self.preprocessor.normalise(crops), shape, device)?;
            let pixels = pixels.repeat((1, lists, 1, 1, 1))?.flatten(0, 1)?;
            let lists = match kept.part(number * at_once * lists, crops.len() * lists) {
                Kept::PerImage(lists) => {
                    Some(Tensor::from_vec(lists.concat(), (lists.len(), count), device)?)
                }
                Kept::Shared(_) => None,
            };
            let keep = match (&lists, kept) {
                (Some(lists), _) => Some(KeptTokens::PerImage(lists)),
                (None, Kept::Shared(kept)) if kept.len() < self.patches() => Some(KeptTokens::Shared(kept)),
                _ => None,
            };
            let options = ForwardOptions { keep, branch_scales: None };
            let of_part = match self.feature {
                Feature::ClsBeforeNorm => vit.forward_cls(&pixels, &options)?,
                Feature::ClsAfterNorm => vit.final_norm(&vit.forward_cls(&pixels, &options)?)?,
                Feature::MeanPatches => {
                    let hidden = vit.forward_with(&pixels, &options)?;
                    let patches = hidden.narrow(1, 1, hidden.dim(1)? - 1)?;
                    vit.final_norm(&patches.mean(1)?)?
                }
            };
            features.extend(of_part.to_device(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()?);
        }
        Ok(features)
    }

    /// How many images fit the activation budget: attention scores, and the widest layer with its surroundings.
    fn images_at_once(&self, patches: usize) -> usize {
        let (config, tokens) = (&self.config, patches + 1);
        let scores = config.num_attention_heads * tokens * tokens;
        let widest = tokens * (4 * config.hidden_size + 2 * config.intermediate_size);
        (ACTIVATION_BUDGET / (2 * scores + widest)).max(1)
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
