//! What a model *is*: the Vision Transformer, its checkpoints, and the image contract.
//!
//! candle types stay inside this crate and the trainer; the server sees [`Encoder`], which takes decoded crops and
//! returns plain vectors.

pub mod checkpoint;
pub mod encoder;
pub mod error;
pub mod image;
pub mod vit;

pub use encoder::{
    Agreement, Budget, DeviceChoice, DtypeChoice, Embedding, Encoder, EncoderInfo, Keep, ModelFiles,
    Selection,
};
pub use error::Error;
