//! A loaded encoder: crops in, unit vectors out.

mod budget;
mod calibration;
mod files;
mod patches;
#[cfg(test)]
mod tests;

use budget::Curves;
pub use budget::{Budget, Embedding, Keep};
pub use calibration::Agreement;
pub use files::ModelFiles;
use patches::Patches;
pub use patches::Selection;

use crate::Error;
use crate::checkpoint::{Feature, ModelConfig, load_safetensors};
use crate::image::{Preprocessor, RgbImage};
use crate::vit::cpu::{CpuVit, Kept, Precision};
use crate::vit::kernels::Outputs;
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

/// Type of the arithmetic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DtypeChoice {
    /// Int8 where this CPU multiplies bytes faster than floats and the vectors stay what they are (see [`Agreement`]); if
    /// they do not, int8 with the most sensitive maps in f32; if that is no better, f32.
    Auto,
    /// Floats.
    F32,
    /// Bytes, whatever the vectors turn into; on the CPU.
    Int8,
}

impl std::str::FromStr for DtypeChoice {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        match text {
            "auto" => Ok(Self::Auto),
            "f32" => Ok(Self::F32),
            "int8" => Ok(Self::Int8),
            other => {
                Err(Error::Input(format!("`{other}` is no type of arithmetic here; take auto, f32 or int8")))
            }
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
    /// Type of the arithmetic: `f32`, `int8`, or `int8+f32` where sensitive maps stay in floats.
    pub dtype: String,
    /// How far int8's vectors agree with f32's, where they were compared.
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

/// What runs the network.
enum Execution {
    /// Packed weights and buffers of its own, on the CPU.
    Packed(Box<CpuVit>),
    /// Tensors, on any device: what the other does not know, and CUDA.
    Tensors(Vit, Device),
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
        Self::open(files, device, Precision::F32)
    }

    /// The same with a choice of arithmetic.
    pub fn load_as(files: &ModelFiles<'_>, device: DeviceChoice, dtype: DtypeChoice) -> Result<Self, Error> {
        let exact = Self::load(files, device)?;
        let can_quantise = matches!(exact.execution, Execution::Packed(_));
        let quantised = |precision| {
            let quantised = Self::open(files, device, precision)?;
            let agreement = calibration::agreement(&exact, &quantised)?;
            let info = EncoderInfo { agreement: Some(agreement), ..quantised.info.clone() };
            Ok::<_, Error>((Self { info, ..quantised }, agreement))
        };
        match dtype {
            DtypeChoice::Auto if can_quantise && CpuVit::bytes_are_fast() => {
                let mut last = None;
                for precision in [Precision::Int8, Precision::Mixed] {
                    let (quantised, agreement) = quantised(precision)?;
                    if agreement.is_good_enough() {
                        return Ok(quantised);
                    }
                    last = Some(agreement);
                }
                Ok(Self { info: EncoderInfo { agreement: last, ..exact.info.clone() }, ..exact })
            }
            DtypeChoice::Auto | DtypeChoice::F32 => Ok(exact),
            DtypeChoice::Int8 if can_quantise => Ok(quantised(Precision::Int8)?.0),
            DtypeChoice::Int8 => Err(Error::Input(
                "int8 is for models without relative position biases on the CPU; use f32".into(),
            )),
        }
    }

    fn open(files: &ModelFiles<'_>, device: DeviceChoice, precision: Precision) -> Result<Self, Error> {
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
            dtype: match precision {
                Precision::F32 => "f32".to_owned(),
                Precision::Int8 => "int8".to_owned(),
                Precision::Mixed => "int8+f32".to_owned(),
            },
            agreement: None,
        };
        let outputs = match config.feature {
            Feature::MeanPatches => Outputs::All,
            Feature::ClsBeforeNorm | Feature::ClsAfterNorm => Outputs::First,
        };
        let packed = if device.is_cpu() {
            CpuVit::new(&vit, grid, preprocessor.mean, preprocessor.std, outputs, precision)?
        } else {
            None
        };
        let execution =
            packed.map_or(Execution::Tensors(vit, device), |packed| Execution::Packed(Box::new(packed)));
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
