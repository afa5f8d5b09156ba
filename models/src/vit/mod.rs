//! The Vision Transformer: one description, several executions.
//!
//! [`mod@reference`] holds the network itself. The few operations that cost time go through [`kernels`], so that faster
//! executions replace arithmetic without restating the architecture.

mod config;
pub mod cpu;
#[cfg(any(feature = "cuda", test))]
pub mod cuda;
pub mod interpolate;
pub mod kernels;
pub mod reference;
mod relative;

pub use config::{Family, Positions, RelativePositions, VitConfig};
pub use kernels::Kernels;
pub use reference::Vit;

use candle_core::Tensor;
use std::collections::HashMap;

/// A network's tensors by their canonical names (facebook's and timm's; see [`Vit`]).
pub type Parameters = HashMap<String, Tensor>;
