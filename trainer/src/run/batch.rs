//! A batch of views on its way from the loader to the training step.

use super::device_images::DeviceImages;
use crate::Error;
use crate::config::Config;
use crate::data::ImageSet;
use crate::msn::{Mask, MaskRule, Views};
use crate::views::{MEAN, STD};
use candle_core::{Device, Tensor};
use dozen_models::image::ViewPlan;

/// The views of one batch of B images.
pub struct ViewBatch {
    /// Target views; side `views.random_size`.
    pub target: Pixels,
    /// Random anchors; the same side.
    pub random: Pixels,
    /// Focal anchors; side `views.focal_size`.
    pub focal: Pixels,
    /// Patches of the first group of anchors that stay; all where there is none.
    pub mask: Option<Mask>,
}

/// Views of one size; row v·B + i is view v of image i.
pub enum Pixels {
    /// Made: `[views·B, 3, side, side]`, row-major.
    Made(Vec<f32>),
    /// To be made on the device from the set's images with these numbers.
    Planned(Vec<(usize, ViewPlan)>),
}

/// Makes tensors of batches on the device of a run.
pub struct ViewMaker<'a> {
    config: &'a Config,
    device: &'a Device,
    images: Option<DeviceImages>,
}

impl<'a> ViewMaker<'a> {
    /// On a CUDA device, a set that is held decoded is copied there, and views are made there.
    pub fn new(set: &ImageSet, config: &'a Config, device: &'a Device) -> Result<Self, Error> {
        // Masks by content look at the views on the host.
        let on_device = device.is_cuda() && config.views.masks != MaskRule::Content;
        let images = set.decoded().filter(|_| on_device);
        let images = images.map(|images| DeviceImages::upload(images.iter(), device)).transpose()?;
        Ok(Self { config, device, images })
    }

    /// Whether it makes views from plans.
    pub fn takes_plans(&self) -> bool {
        self.images.is_some()
    }

    /// The views of a batch.
    pub fn views(&self, batch: ViewBatch) -> Result<Views, Error> {
        let sizes = &self.config.views;
        let target = self.tensor(batch.target, sizes.random_size)?;
        let optional =
            |pixels: Pixels, side| (!pixels.is_empty()).then(|| self.tensor(pixels, side)).transpose();
        let random = optional(batch.random, sizes.random_size)?;
        Views::new(target, random, optional(batch.focal, sizes.focal_size)?, batch.mask)
    }

    fn tensor(&self, pixels: Pixels, side: usize) -> Result<Tensor, Error> {
        match (pixels, &self.images) {
            (Pixels::Made(values), _) => {
                let rows = values.len() / (3 * side * side);
                Ok(Tensor::from_vec(values, (rows, 3, side, side), self.device)?)
            }
            (Pixels::Planned(plans), Some(images)) => Ok(images.views(&plans, side, MEAN, STD)?),
            (Pixels::Planned(_), None) => {
                let reason = "views were planned for a device that holds no images";
                Err(candle_core::Error::Msg(reason.into()).into())
            }
        }
    }
}

impl Pixels {
    fn is_empty(&self) -> bool {
        match self {
            Self::Made(values) => values.is_empty(),
            Self::Planned(plans) => plans.is_empty(),
        }
    }
}
