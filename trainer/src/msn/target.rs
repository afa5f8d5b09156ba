//! The target encoder by itself, to look at what it has learnt: the features that would be exported, and the prototype
//! each image is nearest to.

use super::MsnConfig;
use super::collective::Ranks;
use super::head::buffer_shapes;
use super::network::Network;
use super::optimizer::prototypes_name;
use crate::Error;
use candle_core::{D, DType, Device, Tensor, Var};
use dozen_models::vit::kernels::unit_rows;
use std::collections::HashMap;

/// Target network and prototypes of a state, as [`super::Msn::state`] gives it and a checkpoint keeps it.
pub struct TargetEncoder {
    network: Network,
    /// Of each head.
    prototypes: Vec<Tensor>,
    device: Device,
}

/// What the target encoder makes of some images.
#[derive(Clone, Debug, PartialEq)]
pub struct Described {
    /// Unit vectors: the features the exported encoder gives (CLS before the final norm, centred, scaled to length 1).
    pub features: Vec<Vec<f32>>,
    /// Of each head, the prototype with the largest cosine to the head's output, before any balancing; of the second head,
    /// counted on from K. Head after head.
    pub prototypes: Vec<u32>,
}

impl TargetEncoder {
    /// Takes `target.*` and `prototypes` out of a state; the parameters are shared where they are on `device` already.
    ///
    /// # Errors
    /// Where a tensor is missing or of another shape than `config` says.
    pub fn new(config: &MsnConfig, state: &HashMap<String, Tensor>, device: &Device) -> Result<Self, Error> {
        let get = |name: &str| -> Result<Tensor, Error> {
            let missing =
                || Error::Config { file: "checkpoint".into(), reason: format!("tensor `{name}` is missing") };
            Ok(state.get(name).ok_or_else(missing)?.detach().to_device(device)?)
        };
        let parameters = state
            .keys()
            .filter_map(|name| Some((name.strip_prefix("target.")?.to_owned(), name)))
            .map(|(own, name)| Ok((own, get(name)?)))
            .collect::<Result<HashMap<_, _>, Error>>()?;
        let buffers = (0..config.heads)
            .flat_map(|head| buffer_shapes(head, config.head_hidden))
            .map(|(name, _)| {
                let value = Var::from_tensor(&get(&format!("target.{name}"))?.copy()?)?;
                Ok((name, value))
            })
            .collect::<Result<HashMap<_, _>, Error>>()?;
        let network = Network::new(config, &parameters, &buffers, &Ranks::alone())?;
        let prototypes = (0..config.heads).map(|head| get(&prototypes_name(head)));
        Ok(Self { network, prototypes: prototypes.collect::<Result<_, _>>()?, device: device.clone() })
    }

    /// Describes the images whose pixels are given, `[B, 3, S, S]` in row-major order, B at least 2: as in training, the
    /// head's BatchNorm takes its statistics from the batch.
    pub fn describe(&self, pixels: Vec<f32>, size: usize) -> Result<Described, Error> {
        let images = pixels.len() / (3 * size * size);
        let pixels = Tensor::from_vec(pixels, (images, 3, size, size), &self.device)?
            .to_dtype(self.prototypes[0].dtype())?;
        let (cls, outputs) = self.network.describe(&pixels)?;
        let mean = cls.mean_keepdim(D::Minus1)?;
        let features = unit_rows(&cls.broadcast_sub(&mean)?)?;
        let mut nearest = Vec::with_capacity(images * outputs.len());
        for (head, (output, prototypes)) in outputs.iter().zip(&self.prototypes).enumerate() {
            let cosines = unit_rows(output)?.matmul(&unit_rows(prototypes)?.t()?)?;
            let before = (head * prototypes.dim(0)?) as u32;
            nearest.extend(cosines.argmax(D::Minus1)?.to_vec1::<u32>()?.into_iter().map(|own| before + own));
        }
        Ok(Described { features: features.to_dtype(DType::F32)?.to_vec2()?, prototypes: nearest })
    }
}
