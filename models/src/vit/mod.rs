//! The Vision Transformer: one description, several executions.

mod config;
pub mod interpolate;
pub mod reference;

pub use config::VitConfig;
