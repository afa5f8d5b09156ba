//! Reading safetensors and PyTorch files.

use super::layout::{Assembly, Place, UNDERSTOOD, place};
use crate::Error;
use crate::vit::Parameters;
use candle_core::pickle::PthTensors;
use candle_core::safetensors::SliceSafetensors;
use candle_core::{DType, Device, Tensor};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

/// Every zip archive, so every file written by `torch.save` since PyTorch 1.6, starts with these bytes.
const ZIP_MAGIC: &[u8] = b"PK\x03\x04";

/// Where the trunk may lie inside a PyTorch file: facebook's MSN checkpoints, a bare state dict, and the two keys that
/// training scripts commonly wrap one in.
const PICKLE_KEYS: [Option<&str>; 4] = [Some("target_encoder"), None, Some("state_dict"), Some("model")];

/// Reads a trunk from `.safetensors`, `.bin`, `.pth` or `.pth.tar`: Hugging Face names (bare or `vit.`), facebook
/// `target_encoder` (`module.` stripped, `fc.*` ignored) or timm names. Returns canonical names, f32.
///
/// The format is recognised by content, not by the file's name.
pub fn load(path: &Path, device: &Device) -> Result<Parameters, Error> {
    let io = |source| Error::Io { path: path.to_owned(), source };
    let mut magic = [0; ZIP_MAGIC.len()];
    let is_zip = {
        use std::io::Read as _;
        let mut file = std::fs::File::open(path).map_err(io)?;
        file.read_exact(&mut magic).is_ok() && magic == *ZIP_MAGIC
    };
    let parameters = if is_zip {
        load_pickle(path, device)
    } else {
        load_safetensors(&std::fs::read(path).map_err(io)?, device)
    };
    parameters.map_err(|error| {
        if let Error::Checkpoint(reason) = &error {
            Error::Checkpoint(format!("{}: {reason}", path.display()))
        } else {
            error
        }
    })
}

/// The same from the bytes of a safetensors file.
pub fn load_safetensors(bytes: &[u8], device: &Device) -> Result<Parameters, Error> {
    let file = SliceSafetensors::new(bytes).map_err(|error| {
        Error::Checkpoint(format!(
            "neither a safetensors file nor a PyTorch file of version 1.6 or later ({error})"
        ))
    })?;
    let names: Vec<String> = file.tensors().into_iter().map(|(name, _)| name).collect();
    assemble(&names, device, |name| Ok(file.load(name, &Device::Cpu)?))
}

fn load_pickle(path: &Path, device: &Device) -> Result<Parameters, Error> {
    // candle's unpickler indexes into what the file claims; a malformed one must not take the process down.
    catch_unwind(AssertUnwindSafe(|| {
        let file = open_pickle(path)?;
        let mut names: Vec<String> = file.tensor_infos().keys().cloned().collect();
        names.sort_unstable();
        assemble(&names, device, |name| {
            file.get(name)?.ok_or_else(|| Error::Checkpoint(format!("{name} cannot be read")))
        })
    }))
    .unwrap_or_else(|_| Err(Error::Checkpoint("malformed PyTorch file".into())))
}

/// The first of [`PICKLE_KEYS`] that leads to tensors.
fn open_pickle(path: &Path) -> Result<PthTensors, Error> {
    let mut reason = None;
    for key in PICKLE_KEYS {
        match PthTensors::new(path, key) {
            Ok(file) if !file.tensor_infos().is_empty() => return Ok(file),
            // A key that is not there says nothing; that the whole file cannot be read does.
            Err(error) if key.is_none() => reason = Some(error),
            Ok(_) | Err(_) => {}
        }
    }
    Err(Error::Checkpoint(match reason {
        Some(error) => format!("cannot be read as a PyTorch file: {error}"),
        None => format!(
            "holds no state dict, neither bare nor as target_encoder, state_dict or model; {UNDERSTOOD}"
        ),
    }))
}

/// Reads the tensors that belong to the trunk, as f32.
fn assemble(
    names: &[String],
    device: &Device,
    read: impl Fn(&str) -> Result<Tensor, Error>,
) -> Result<Parameters, Error> {
    Assembly::check_names(names.iter().map(String::as_str))?;
    let mut assembly = Assembly::default();
    for name in names {
        if place(name) != Place::Ignored {
            let tensor = read(name)?.to_dtype(DType::F32)?.contiguous()?.to_device(device)?;
            assembly.insert(name, tensor)?;
        }
    }
    assembly.finish()
}
