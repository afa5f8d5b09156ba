//! Ranks on GPUs, through NCCL.

use super::{Launch, rendezvous};
use crate::Error;
use crate::msn::Collective;
use candle_core::cuda_backend::cudarc::nccl::{Comm, Id, ReduceOp};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Device, Result, Storage, Tensor};
use std::sync::{Mutex, PoisonError};

/// One rank of a NCCL group, with a GPU of its own.
pub(super) struct Nccl {
    communicator: Mutex<Communicator>,
    device: CudaDevice,
    rank: usize,
    ranks: usize,
}

struct Communicator(Comm);

// SAFETY: NCCL lets any thread use a communicator as long as only one does at a time, which the mutex sees to; cudarc's
// type lacks the marker because it holds the raw handle.
#[expect(unsafe_code, reason = "a handle that the library declares movable between threads")]
unsafe impl Send for Communicator {}

impl Nccl {
    /// Waits for all ranks and forms the group on `device`.
    pub(super) fn join(launch: &Launch, device: &Device) -> std::result::Result<Self, Error> {
        let Device::Cuda(device) = device else {
            return Err(Error::Launch("several ranks train on CUDA devices; there is none here".into()));
        };
        let failed =
            |what: &str, error: &dyn std::fmt::Debug| Error::Launch(format!("NCCL {what}: {error:?}"));
        let identifier = rendezvous::share(launch, || {
            let identifier = Id::new().map_err(|error| failed("cannot make an identifier", &error))?;
            Ok(identifier.internal().map(|byte| byte as u8))
        })?;
        let identifier = Id::uninit(identifier.map(|byte| byte as std::ffi::c_char));
        let communicator = Comm::from_rank(device.cuda_stream(), launch.rank, launch.world_size, identifier)
            .map_err(|error| failed("cannot form the group", &error))?;
        Ok(Self {
            communicator: Mutex::new(Communicator(communicator)),
            device: device.clone(),
            rank: launch.rank,
            ranks: launch.world_size,
        })
    }
}

impl Collective for Nccl {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.ranks
    }

    fn sum(&self, tensor: &Tensor) -> Result<Tensor> {
        let values = tensor.to_dtype(DType::F32)?.contiguous()?;
        let (storage, layout) = values.storage_and_layout();
        let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            candle_core::bail!("NCCL sums contiguous CUDA tensors");
        };
        let values = storage.as_cuda_slice::<f32>()?.slice(start..end);
        let mut sum = self.device.alloc_zeros::<f32>(end - start)?;
        let communicator = self.communicator.lock().unwrap_or_else(PoisonError::into_inner);
        communicator
            .0
            .all_reduce(&values, &mut sum, &ReduceOp::Sum)
            .map_err(|error| candle_core::Error::Msg(format!("NCCL all-reduce: {error:?}")))?;
        let sum = CudaStorage::wrap_cuda_slice(sum, self.device.clone());
        Tensor::from_storage(Storage::Cuda(sum), tensor.shape(), BackpropOp::none(), false)
            .to_dtype(tensor.dtype())
    }
}
