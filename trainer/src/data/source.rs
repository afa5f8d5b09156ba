//! What the paths of a command line were recognised as.

use std::fmt;
use std::path::PathBuf;

/// A path and what was found there.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Source {
    /// As it was given.
    pub path: PathBuf,
    /// What it is.
    pub kind: SourceKind,
    /// Pictures found, readable or not.
    pub images: usize,
    /// What lies there too and is not read, in words.
    pub passed_over: Option<String>,
}

/// Layouts of data sets. Counts are of files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    /// A folder of pictures, or of folders of them.
    Folder,
    /// `.tar` archives of such folders.
    Archives(usize),
    /// WebDataset shards: `.tar` archives with a label beside each picture.
    WebDataset(usize),
    /// Parquet files with a column of pictures.
    Parquet(usize),
}

impl fmt::Display for SourceKind {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |files: usize, one: &str, many: &str| match files {
            1 => one.to_owned(),
            _ => format!("{files} {many}"),
        };
        formatter.write_str(&match *self {
            Self::Folder => "a folder".to_owned(),
            Self::Archives(files) => count(files, "a tar archive", "tar archives"),
            Self::WebDataset(files) => count(files, "a WebDataset shard", "WebDataset shards"),
            Self::Parquet(files) => count(files, "a Parquet file", "Parquet files"),
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}, {} images", self.path.display(), self.kind, self.images)?;
        self.passed_over.iter().try_for_each(|what| write!(formatter, "; {what}"))
    }
}
