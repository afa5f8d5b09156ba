//! Images on a CUDA device; in a build without CUDA there are none.

#[cfg(feature = "cuda")]
pub(super) use dozen_models::vit::kernels::cuda::views::DeviceImages;

#[cfg(not(feature = "cuda"))]
pub(super) enum DeviceImages {}

#[cfg(not(feature = "cuda"))]
impl DeviceImages {
    pub(super) fn upload<'a>(
        _: impl Iterator<Item = &'a dozen_models::image::RgbImage>,
        _: &candle_core::Device,
    ) -> candle_core::Result<Self> {
        candle_core::bail!("this build has no CUDA; build with `--features cuda`")
    }

    pub(super) fn views(
        &self,
        _: &[(usize, dozen_models::image::ViewPlan)],
        _: usize,
        _: [f32; 3],
        _: [f32; 3],
    ) -> candle_core::Result<candle_core::Tensor> {
        match *self {}
    }
}
