//! The one error type of this crate.

use std::path::PathBuf;

/// Why a model could not be read, built, run or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed: a bug in this crate or an exhausted device.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// A configuration file says something this crate cannot honour.
    #[error("{file}: {reason}")]
    Config {
        /// Its name, or its path where known.
        file: String,
        /// The field and the remedy.
        reason: String,
    },
    /// A checkpoint lacks a tensor, or holds one of another shape.
    #[error("checkpoint: {0}")]
    Checkpoint(String),
    /// Pixels or patch indices that the network cannot take.
    #[error("input: {0}")]
    Input(String),
    /// The network answered with numbers that are no direction: infinite, not a number, or all equal.
    #[error("embedding: {0}")]
    Embedding(String),
}
