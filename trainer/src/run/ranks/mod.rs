//! Joining the processes of a data-parallel run: one per GPU, started by whatever starts such jobs.

mod launch;
#[cfg(feature = "nccl")]
mod nccl;
#[cfg(any(feature = "nccl", test))]
mod rendezvous;

pub use launch::Launch;

use crate::Error;
use crate::msn::Ranks;
use candle_core::Device;

/// Reaches the other ranks; waits until all are there.
#[cfg(feature = "nccl")]
pub fn join(launch: &Launch, device: &Device) -> Result<Ranks, Error> {
    Ok(Ranks::new(std::sync::Arc::new(nccl::Nccl::join(launch, device)?)))
}

/// Several ranks need NCCL.
#[cfg(not(feature = "nccl"))]
pub fn join(launch: &Launch, _device: &Device) -> Result<Ranks, Error> {
    Err(Error::Launch(format!(
        "WORLD_SIZE is {}, but this build has no NCCL; build with `--features nccl`, or unset WORLD_SIZE",
        launch.world_size
    )))
}
