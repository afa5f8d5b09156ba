//! The one error type of this crate.

use std::path::PathBuf;

/// Why data could not be read, or a run could not start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A tensor operation failed: a bug in this crate or an exhausted device.
    #[error("tensor operation failed: {0}")]
    Tensor(#[from] candle_core::Error),
    /// The model crate refused.
    #[error(transparent)]
    Model(#[from] dozen_models::Error),
    /// A head could not be fitted.
    #[error("fitting a head: {0}")]
    Head(#[from] dozen_fewshot::Error),
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The configuration cannot be used.
    #[error("{file}: {reason}")]
    Config {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing that looks like a picture.
    #[error("{path}: no .jpg, .png, .webp, .gif or .bmp files there, no .tar and no .parquet ({holds})", path = path.display())]
    NoImages {
        /// Where they were looked for.
        path: PathBuf,
        /// What is there, in words.
        holds: String,
    },
    /// A folder of archives and tables.
    #[error("{path}: holds tar archives and Parquet files; name those to read, for they may hold the same pictures", path = path.display())]
    Ambiguous {
        /// The folder.
        path: PathBuf,
    },
    /// A file of another kind, or one that cannot be opened as what it is.
    #[error("{path} {reason}", path = path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What it is, and what to do.
        reason: String,
    },
    /// An archive that does not end as it should.
    #[error(
        "{path}: not a tar archive, damaged, or cut short, at byte {position}, after {images} images ({reason}); \
         fetch or make it again, or unpack what there is and give the folder",
        path = path.display()
    )]
    DamagedArchive {
        /// The archive.
        path: PathBuf,
        /// How far it could be read, in bytes of the unpacked archive.
        position: u64,
        /// Pictures up to there.
        images: usize,
        /// What is wrong.
        reason: String,
    },
    /// A Parquet file without pictures.
    #[error("{path}: no column of pictures, binary or a struct with `bytes`, among {}; if one is, call it `image`", .columns.join(", "), path = path.display())]
    NoImageColumn {
        /// The file.
        path: PathBuf,
        /// Its columns.
        columns: Vec<String>,
    },
    /// Pictures, but none that can be decoded.
    #[error("none of the {images} images can be decoded")]
    NothingReadable {
        /// How many were tried.
        images: usize,
    },
    /// A compressed archive does not fit in memory.
    #[error("{path}: holds more than {limit} bytes of images (data.memory_mib); unpack it into a folder or an uncompressed .tar", path = path.display())]
    ArchiveTooLarge {
        /// The archive.
        path: PathBuf,
        /// The limit.
        limit: u64,
    },
    /// A resize was refused.
    #[error("resizing an image: {0}")]
    Resize(#[from] dozen_models::image::OutsideImage),
    /// The processes of a data-parallel run cannot find each other.
    #[error("data-parallel run: {0}")]
    Launch(String),
    /// Background threads could not be started, or ended early.
    #[error("background threads: {0}")]
    Threads(String),
    /// An evaluation cannot be carried out as asked.
    #[error("evaluation: {0}")]
    Evaluation(String),
    /// A trained tensor got no gradient: the graph is cut somewhere.
    #[error("`{name}` received no gradient")]
    NoGradient {
        /// The tensor.
        name: String,
    },
    /// Training left the numbers.
    #[error(
        "the {what} of step {step} is not finite; try a lower learning rate, more masking, or a smaller mean-entropy weight"
    )]
    NotFinite {
        /// Loss or gradient.
        what: &'static str,
        /// The step, from 1.
        step: u64,
    },
    /// Not enough images for one batch.
    #[error("{images} images do not fill a batch of {batch_size}; lower optimisation.batch_size")]
    TooFewImages {
        /// Readable images.
        images: usize,
        /// `optimisation.batch_size`.
        batch_size: usize,
    },
    /// The folder of a fresh run is not empty.
    #[error("{path} is not empty; continue the run in it with --resume, or start over with --overwrite", path = path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// A continued run differs from what was started.
    #[error("the checkpoint belongs to another run: {}; change it back, or start afresh in another folder", .differences.join("; "))]
    OtherRun {
        /// What differs.
        differences: Vec<String>,
    },
    /// The initial model is of another shape than the configuration.
    #[error("{}", .differences.join("; "))]
    OtherShape {
        /// What differs.
        differences: Vec<String>,
    },
    /// A checkpoint cannot be written or read.
    #[error("{path}: {reason}", path = path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

impl Error {
    /// A checkpoint cannot be written or read.
    pub(crate) fn checkpoint(path: &std::path::Path, reason: &dyn std::fmt::Display) -> Self {
        Self::Checkpoint { path: path.to_owned(), reason: reason.to_string() }
    }
}
