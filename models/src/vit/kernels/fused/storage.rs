//! Slices in and out of candle tensors.

use candle_core::{CpuStorage, DType, Layout, Result, Shape, Storage, Tensor, bail};

/// Whether the fused kernels can run on these tensors: f32 on the CPU, none of them empty.
pub(super) fn supported(tensors: &[&Tensor]) -> bool {
    tensors
        .iter()
        .all(|tensor| tensor.device().is_cpu() && tensor.dtype() == DType::F32 && tensor.elem_count() > 0)
}

/// The elements behind a contiguous layout. Callers make their tensors contiguous first.
pub(super) fn slice<'a>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [f32]> {
    let Some((start, end)) = layout.contiguous_offsets() else {
        bail!("a fused kernel was handed a tensor that is not contiguous");
    };
    Ok(&storage.as_slice::<f32>()?[start..end])
}

/// Runs `body` on the elements of contiguous CPU tensors.
pub(super) fn with_slices<const N: usize, R>(
    tensors: [&Tensor; N],
    body: impl FnOnce([&[f32]; N]) -> R,
) -> Result<R> {
    let guards = tensors.map(Tensor::storage_and_layout);
    let mut slices: [&[f32]; N] = [&[]; N];
    for (slot, (storage, layout)) in slices.iter_mut().zip(&guards) {
        let Storage::Cpu(storage) = &**storage else {
            bail!("a fused CPU kernel was handed a device tensor")
        };
        *slot = slice(storage, layout)?;
    }
    Ok(body(slices))
}

/// What `cpu_fwd` of a custom operation returns.
pub(super) fn output(values: Vec<f32>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (CpuStorage::F32(values), shape.into())
}

/// A CPU tensor that owns `values`.
pub(super) fn tensor(values: Vec<f32>, shape: &Shape) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &candle_core::Device::Cpu)
}

/// `[.., width]` as `(rows, width)`.
pub(super) fn rows_of(shape: &Shape) -> Result<(usize, usize)> {
    let Some(&width) = shape.dims().last() else { bail!("a fused kernel was handed a scalar") };
    Ok((shape.elem_count() / width.max(1), width))
}
