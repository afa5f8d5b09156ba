//! The Vision Transformer: one description, several executions.

mod config;
pub mod interpolate;
pub mod kernels;
pub mod reference;

pub use config::VitConfig;
pub use kernels::Kernels;
