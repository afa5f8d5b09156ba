//! Writing model folders.

use super::layout::hugging_face_names;
use super::{CONFIG_FILE, Feature, ModelConfig, PREPROCESSOR_FILE, WEIGHTS_FILE};
use crate::Error;
use crate::image::Preprocessor;
use crate::vit::{Family, Parameters, Vit, VitConfig};
use candle_core::{DType, Device, Tensor};
use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;

/// Type the exported weights are stored in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredDtype {
    /// 4 bytes.
    F32,
    /// 2 bytes, 8 bits of mantissa.
    Bf16,
    /// 2 bytes, 11 bits of mantissa.
    F16,
}

impl StoredDtype {
    pub(super) fn torch_name(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::Bf16 => "bfloat16",
            Self::F16 => "float16",
        }
    }

    fn candle(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
            Self::F16 => DType::F16,
        }
    }
}

/// Writes a model folder that `transformers.ViTMSNModel.from_pretrained` loads: `model.safetensors` (bare Hugging Face
/// names), `config.json`, `preprocessor_config.json`.
///
/// Each file appears whole or not at all. Parameters beyond the trunk's are left out.
pub fn export(
    dir: &Path,
    name: &str,
    config: &VitConfig,
    preprocessor: &Preprocessor,
    parameters: &Parameters,
    dtype: StoredDtype,
) -> Result<(), Error> {
    if config.family != Family::Msn {
        return Err(Error::Checkpoint(
            "only trunks of MSN's architecture are exported; keep the folder this one came from".into(),
        ));
    }
    Vit::new(config, parameters)?;
    let mut tensors = Vec::new();
    for (canonical, _) in Vit::parameter_shapes(config) {
        let tensor =
            parameters.get(&canonical).ok_or_else(|| Error::Checkpoint(format!("{canonical} is missing")))?;
        let stored = store(&canonical, tensor, dtype)?;
        let names = hugging_face_names(&canonical);
        let parts = stored.chunk(names.len(), 0)?;
        for (name, part) in names.into_iter().zip(parts) {
            tensors.push((name, part.contiguous()?));
        }
    }
    let model = ModelConfig { vit: config.clone(), name: Some(name.to_owned()), feature: Feature::default() };
    std::fs::create_dir_all(dir).map_err(|source| Error::Io { path: dir.to_owned(), source })?;
    // The weights last: a folder with weights is a complete one.
    write_atomically(&dir.join(CONFIG_FILE), model.to_json(dtype)?.as_bytes())?;
    write_atomically(&dir.join(PREPROCESSOR_FILE), preprocessor.to_json().as_bytes())?;
    write_atomically(&dir.join(WEIGHTS_FILE), &serialise(tensors)?)
}

/// A safetensors file of canonical names, sorted, f32.
pub(crate) fn canonical_safetensors(parameters: Parameters) -> Result<Vec<u8>, Error> {
    serialise(parameters.into_iter().collect())
}

/// To the stored type, on the CPU; what is not finite afterwards would load as garbage.
fn store(name: &str, tensor: &Tensor, dtype: StoredDtype) -> Result<Tensor, Error> {
    let stored = tensor.detach().to_device(&Device::Cpu)?.to_dtype(dtype.candle())?;
    let total = stored.to_dtype(DType::F64)?.abs()?.sum_all()?.to_scalar::<f64>()?;
    if !total.is_finite() {
        return Err(Error::Checkpoint(format!(
            "{name} is not finite when stored as {}; if the values themselves are, store them as bfloat16 or float32",
            dtype.torch_name()
        )));
    }
    Ok(stored)
}

fn serialise(mut tensors: Vec<(String, Tensor)>) -> Result<Vec<u8>, Error> {
    tensors.sort_by(|(a, _), (b, _)| a.cmp(b));
    // transformers refuses a file that does not say which framework's conventions its tensors follow.
    let metadata = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    safetensors::serialize(tensors, Some(metadata)).map_err(|error| Error::Checkpoint(error.to_string()))
}

fn write_atomically(path: &Path, contents: &[u8]) -> Result<(), Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut partial = path.to_owned().into_os_string();
    partial.push(format!(".partial-{}", std::process::id()));
    let write = || {
        let mut file = std::fs::File::create(&partial)?;
        file.write_all(contents)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    };
    write().map_err(|source| {
        // The cause is what the caller needs; a leftover that cannot be removed either is no second error.
        let _ = std::fs::remove_file(&partial);
        io(source)
    })
}
