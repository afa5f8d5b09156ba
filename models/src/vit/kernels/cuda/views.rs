//! Augmented views made on the device, from images that stay there.

use super::device::{Array, address_of, empty, launch};
use super::plan::{self, ImagePlace};
use crate::image::{RgbImage, ViewPlan};
use candle_core::{DType, Device, Result, Tensor, bail};

/// Images on the device.
pub struct DeviceImages {
    pixels: Array<u8>,
    images: Vec<Held>,
    device: Device,
}

struct Held {
    place: ImagePlace,
    height: u32,
}

impl DeviceImages {
    /// Copies images to the device.
    pub fn upload<'a>(images: impl Iterator<Item = &'a RgbImage> + Clone, device: &Device) -> Result<Self> {
        let length = images.clone().map(|image| image.pixels.len()).sum();
        let mut pixels = Array::empty(device.as_cuda_device()?, length)?;
        let (mut held, mut start) = (Vec::new(), 0);
        for image in images {
            pixels.write(start, &image.pixels)?;
            held.push(Held { place: ImagePlace { start, width: image.width }, height: image.height });
            start += image.pixels.len();
        }
        Ok(Self { pixels, images: held, device: device.clone() })
    }

    /// A view of each of the images with these numbers, `[views, 3, side, side]`, f32, normalised by `mean` and `deviation`
    /// of channels on the 0–1 scale.
    pub fn views(
        &self,
        views: &[(usize, ViewPlan)],
        side: usize,
        mean: [f32; 3],
        deviation: [f32; 3],
    ) -> Result<Tensor> {
        let mut placed = Vec::with_capacity(views.len());
        for (number, plan) in views {
            let window = plan.window;
            match self.images.get(*number) {
                Some(Held { place, height })
                    if window.left + window.width <= place.width && window.top + window.height <= *height =>
                {
                    placed.push((*place, plan));
                }
                _ => bail!("there is no {window:?} in image {number} on the device"),
            }
        }
        let device = self.device.as_cuda_device()?;
        let table = Array::upload(device, &plan::view_table(&placed))?;
        let most = plan::views_at_a_time(views.len(), side);
        let bytes = Array::<u8>::empty(device, most * 3 * side * side)?;
        let floats = empty(device, DType::F32, most * 3 * side * side)?;
        let out = empty(device, DType::F32, (views.len(), 3, side, side))?;
        let arrays = [
            table.address(),
            self.pixels.address(),
            bytes.address(),
            address_of(&floats)?,
            address_of(&out)?,
        ];
        launch(device, &plan::views(views.len(), most, side, arrays, mean, deviation))?;
        Ok(out)
    }
}
