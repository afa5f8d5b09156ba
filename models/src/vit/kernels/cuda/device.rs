//! Arrays on a CUDA device, and launches over them.
//!
//! All work of a device goes through one stream, so that an array may be given back while a kernel that reads it is still
//! in the queue: what takes its place is written later.

use super::plan::{Argument, Element, Launch};
use candle_core::backend::BackendStorage as _;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, DevicePtr, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Layout, Result, Shape, Storage, Tensor, bail};
use half::bf16;

/// PTX of source/kernels.cu for compute capability 9.0; the driver compiles it for newer devices too.
pub(in crate::vit) const KERNELS: &str = include_str!(concat!(env!("OUT_DIR"), "/kernels.ptx"));
const MODULE: &str = "dozen_kernels";

/// Arrays must begin at multiples of this, for 16-byte loads. Fresh allocations do.
const ALIGNMENT: u64 = 16;

/// The kernels' name for a type of activations; `None` for those without kernels.
pub(super) fn element(tensor: &Tensor) -> Option<Element> {
    match tensor.dtype() {
        DType::F32 => Some(Element::F32),
        DType::BF16 => Some(Element::Bf16),
        _ => None,
    }
}

pub(super) fn dtype(element: Element) -> DType {
    match element {
        Element::F32 => DType::F32,
        Element::Bf16 => DType::BF16,
        Element::F16 => DType::F16,
    }
}

/// The tensor itself, or a contiguous copy where a kernel could not read it in place.
pub(super) fn packed(tensor: &Tensor) -> Result<Tensor> {
    let bytes = tensor.layout().start_offset() * tensor.dtype().size_in_bytes();
    let aligned = (bytes as u64).is_multiple_of(ALIGNMENT);
    if aligned { tensor.contiguous() } else { tensor.force_contiguous() }
}

/// The same without its history.
pub(super) fn packed_detached(tensor: &Tensor) -> Result<Tensor> {
    packed(&tensor.detach())
}

/// Address of the elements behind a contiguous layout.
pub(super) fn address(storage: &CudaStorage, layout: &Layout) -> Result<u64> {
    let Some((start, _)) = layout.contiguous_offsets() else {
        bail!("a CUDA kernel was handed a tensor that is not contiguous");
    };
    let address = match storage.dtype() {
        DType::F32 => first::<f32>(storage)? + (start * 4) as u64,
        DType::BF16 => first::<bf16>(storage)? + (start * 2) as u64,
        other => bail!("there are no CUDA kernels for {other:?}; use f32 or bf16"),
    };
    if !address.is_multiple_of(ALIGNMENT) {
        bail!("a CUDA kernel was handed a tensor that does not begin at a multiple of {ALIGNMENT} bytes");
    }
    Ok(address)
}

fn first<T: CudaDType>(storage: &CudaStorage) -> Result<u64> {
    let stream = storage.device().cuda_stream();
    let (address, _on_this_stream) = storage.as_cuda_slice::<T>()?.device_ptr(&stream);
    Ok(address)
}

/// Address of a contiguous CUDA tensor's elements; valid while the tensor is.
pub(super) fn address_of(tensor: &Tensor) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    match &*storage {
        Storage::Cuda(storage) => address(storage, layout),
        _ => bail!("a CUDA kernel was handed a tensor of another device"),
    }
}

/// An array that is yet to be written.
pub(super) fn allocate(device: &CudaDevice, dtype: DType, length: usize) -> Result<CudaStorage> {
    #[expect(unsafe_code, reason = "fresh device memory is not initialised")]
    // SAFETY: every plan writes the whole of an output before anything reads it (the emulator's arrays begin as NaN).
    let storage = unsafe {
        match dtype {
            DType::F32 => CudaStorage::wrap_cuda_slice(device.alloc::<f32>(length)?, device.clone()),
            DType::BF16 => CudaStorage::wrap_cuda_slice(device.alloc::<bf16>(length)?, device.clone()),
            other => bail!("there are no CUDA kernels for {other:?}; use f32 or bf16"),
        }
    };
    Ok(storage)
}

/// Address of a whole array.
pub(super) fn whole(storage: &CudaStorage) -> Result<u64> {
    address(storage, &Layout::contiguous(1))
}

/// A tensor that owns an array.
pub(super) fn tensor(storage: CudaStorage, shape: impl Into<Shape>) -> Tensor {
    Tensor::from_storage(Storage::Cuda(storage), shape, BackpropOp::none(), false)
}

/// A tensor that is yet to be written.
pub(super) fn empty(device: &CudaDevice, dtype: DType, shape: impl Into<Shape>) -> Result<Tensor> {
    let shape = shape.into();
    Ok(tensor(allocate(device, dtype, shape.elem_count())?, shape))
}

/// An array that is no tensor.
pub(super) struct Array<T> {
    memory: CudaSlice<T>,
    device: CudaDevice,
}

impl<T: DeviceRepr + 'static> Array<T> {
    /// Of values of the host.
    pub(super) fn upload(device: &CudaDevice, values: &[T]) -> Result<Self> {
        Ok(Self { memory: device.clone_htod(values)?, device: device.clone() })
    }

    /// Yet to be written.
    pub(super) fn empty(device: &CudaDevice, length: usize) -> Result<Self> {
        #[expect(unsafe_code, reason = "fresh device memory is not initialised")]
        // SAFETY: as in `allocate`.
        let memory = unsafe { device.alloc(length)? };
        Ok(Self { memory, device: device.clone() })
    }

    /// Replaces a part.
    pub(super) fn write(&mut self, start: usize, values: &[T]) -> Result<()> {
        self.device.memcpy_htod(values, &mut self.memory.slice_mut(start..start + values.len()))
    }

    pub(super) fn address(&self) -> u64 {
        self.memory.device_ptr(&self.device.cuda_stream()).0
    }
}

/// Queues launches, in order.
pub(super) fn launch(device: &CudaDevice, launches: &[Launch]) -> Result<()> {
    for Launch { kernel, grid: [x, y, z], threads, arguments } in launches {
        let function = device.get_or_load_custom_func(kernel, MODULE, KERNELS)?;
        let mut builder = function.builder();
        for argument in arguments {
            match argument {
                Argument::Address(address) => builder.arg(address),
                Argument::Int(value) => builder.arg(value),
                Argument::Long(value) => builder.arg(value),
                Argument::Float(value) => builder.arg(value),
            };
        }
        let grid = LaunchConfig { grid_dim: (*x, *y, *z), block_dim: (*threads, 1, 1), shared_mem_bytes: 0 };
        #[expect(unsafe_code, reason = "the driver cannot check what a kernel does with its arguments")]
        // SAFETY: plans pass the number and types of arguments the kernels declare and stay within arrays of the lengths
        // they state (both checked by the emulator); callers pass addresses of live arrays of those lengths.
        unsafe { builder.launch(grid) }.w()?;
    }
    Ok(())
}

/// What `cpu_fwd` of these operations answers.
pub(super) fn only_cuda<T>(operation: &str) -> Result<T> {
    bail!("{operation} runs on CUDA devices only")
}
