//! Offline pre-training of Vision Transformers with Masked Siamese Networks (MSN, arXiv 2204.07141), and its
//! evaluation with few labels.

pub mod config;
pub mod data;
pub mod error;
pub mod evaluate;
pub mod export;
pub mod initial;
pub mod msn;
mod random;
pub mod report;
pub mod run;
pub mod sweep;
pub mod views;

pub use error::Error;
