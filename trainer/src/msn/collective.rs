//! What the processes of a data-parallel run tell each other.
//!
//! Each rank takes its part of the batch. Wherever the step looks at the whole batch (BatchNorm's statistics, the mean
//! prediction, Sinkhorn's masses) it asks for a mean over the ranks, and gradients are averaged before the update: W ranks
//! with B images each compute what one rank computes with W·B.
//!
//! The published code sums the prototypes' gradients instead of averaging them. Under Adam the factor W cancels, except
//! against its ε; averaging keeps the equivalence exact.

use candle_core::op::BackpropOp;
use candle_core::{
    CpuStorage, CudaStorage, CustomOp1, DType, Layout, Result, Shape, Storage, Tensor, WithDType,
};
use std::sync::Arc;

/// A group of ranks that call the same operations in the same order.
pub trait Collective: Send + Sync {
    /// Number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// The element-wise sum of every rank's `tensor`, of the same shape everywhere; the same bits on every rank.
    fn sum(&self, tensor: &Tensor) -> Result<Tensor>;
}

/// A run of one process.
struct Alone;

impl Collective for Alone {
    fn rank(&self) -> usize {
        0
    }

    fn ranks(&self) -> usize {
        1
    }

    fn sum(&self, tensor: &Tensor) -> Result<Tensor> {
        Ok(tensor.clone())
    }
}

/// This process's place among the ranks, and the way to reach the others.
#[derive(Clone)]
pub struct Ranks(Arc<dyn Collective>);

impl std::fmt::Debug for Ranks {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "rank {} of {}", self.rank(), self.count())
    }
}

impl Ranks {
    /// No others.
    pub fn alone() -> Self {
        Self(Arc::new(Alone))
    }

    /// Others, reached through `collective`.
    pub fn new(collective: Arc<dyn Collective>) -> Self {
        Self(collective)
    }

    /// Number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.0.rank()
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.ranks()
    }

    /// The mean over the ranks. Its gradient is the mean over the ranks of the gradients, because every rank's loss depends
    /// on every rank's contribution.
    pub(super) fn mean(&self, tensor: &Tensor) -> Result<Tensor> {
        if self.count() == 1 {
            return Ok(tensor.clone());
        }
        tensor.force_contiguous()?.apply_op1(MeanOverRanks(self.clone()))
    }

    /// The means over the ranks of tensors that carry no gradient, in one exchange.
    pub(super) fn mean_all(&self, tensors: &[Tensor]) -> Result<Vec<Tensor>> {
        if self.count() == 1 {
            return Ok(tensors.to_vec());
        }
        let flat: Vec<Tensor> = tensors.iter().map(Tensor::flatten_all).collect::<Result<_>>()?;
        let mean = self.mean_of(&Tensor::cat(&flat, 0)?)?;
        let mut start = 0;
        let mut cut = |tensor: &Tensor| {
            let part = mean.narrow(0, start, tensor.elem_count())?.reshape(tensor.shape());
            start += tensor.elem_count();
            part
        };
        tensors.iter().map(&mut cut).collect()
    }

    /// Whether any rank says so.
    pub fn any(&self, here: bool, device: &candle_core::Device) -> Result<bool> {
        if self.count() == 1 {
            return Ok(here);
        }
        let flag = Tensor::new(&[f32::from(u8::from(here))], device)?;
        Ok(self.0.sum(&flag)?.to_vec1::<f32>()?[0] > 0.0)
    }

    fn mean_of(&self, tensor: &Tensor) -> Result<Tensor> {
        self.0.sum(&tensor.detach())? / self.count() as f64
    }
}

/// [`Ranks::mean`] as a differentiable operation.
struct MeanOverRanks(Ranks);

impl CustomOp1 for MeanOverRanks {
    fn name(&self) -> &'static str {
        "mean-over-ranks"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        let mean = if storage.dtype() == DType::F64 {
            self.on_cpu(storage.as_slice::<f64>()?, layout)?
        } else {
            self.on_cpu(storage.as_slice::<f32>()?, layout)?
        };
        let (storage, _) = mean.storage_and_layout();
        let Storage::Cpu(storage) = &*storage else {
            candle_core::bail!("the ranks of a CPU run answered with a device tensor");
        };
        Ok((storage.clone(), layout.shape().clone()))
    }

    fn cuda_fwd(&self, storage: &CudaStorage, layout: &Layout) -> Result<(CudaStorage, Shape)> {
        use candle_core::backend::BackendStorage as _;
        let copy = Storage::Cuda(storage.try_clone(layout)?);
        let mean = self.0.mean_of(&Tensor::from_storage(copy, layout.shape(), BackpropOp::none(), false))?;
        let (storage, mean_layout) = mean.storage_and_layout();
        let Storage::Cuda(storage) = &*storage else {
            candle_core::bail!("the ranks of a CUDA run answered with a CPU tensor");
        };
        Ok((storage.try_clone(mean_layout)?, layout.shape().clone()))
    }

    fn bwd(&self, _: &Tensor, _: &Tensor, gradient: &Tensor) -> Result<Option<Tensor>> {
        self.0.mean_of(&gradient.contiguous()?).map(Some)
    }
}

impl MeanOverRanks {
    fn on_cpu<T: WithDType>(&self, values: &[T], layout: &Layout) -> Result<Tensor> {
        let Some((start, end)) = layout.contiguous_offsets() else {
            candle_core::bail!("ranks exchange contiguous tensors");
        };
        let part = Tensor::from_slice(&values[start..end], layout.shape(), &candle_core::Device::Cpu)?;
        self.0.mean_of(&part)?.contiguous()
    }
}
