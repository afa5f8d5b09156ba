//! Where the bytes of a picture are, and how much memory may hold them.

use super::table::Row;
use crate::Error;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Where the bytes of a picture are.
#[derive(Clone, Debug)]
pub(super) enum Location {
    /// A file of its own.
    File(PathBuf),
    /// A stretch of an uncompressed archive, read when needed.
    Slice {
        /// The archive.
        archive: Arc<Path>,
        /// First byte.
        offset: u64,
        /// Number of bytes.
        length: u64,
    },
    /// A row of a Parquet file, read when needed.
    Row(Row),
    /// Bytes taken out of a compressed archive, which cannot be read from the middle.
    Memory(Arc<[u8]>),
}

impl Location {
    /// Reads the encoded picture.
    pub(super) fn read(&self) -> io::Result<Cow<'_, [u8]>> {
        match self {
            Self::File(path) => std::fs::read(path).map(Into::into),
            Self::Slice { archive, offset, length } => {
                let mut file = File::open(archive)?;
                file.seek(SeekFrom::Start(*offset))?;
                let mut bytes = Vec::new();
                file.take(*length).read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
            Self::Row(row) => row.read().map(Into::into),
            Self::Memory(bytes) => Ok(bytes.as_ref().into()),
        }
    }
}

/// What is left of the memory for encoded pictures, shared by everything a command line names.
pub(super) struct Budget {
    limit: u64,
    left: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { limit, left: limit }
    }

    /// Takes `bytes` for a picture of `path`, which has no other place to be.
    pub(super) fn take(&mut self, path: &Path, bytes: u64) -> Result<(), Error> {
        let exhausted = || Error::ArchiveTooLarge { path: path.to_owned(), limit: self.limit };
        self.left = self.left.checked_sub(bytes).ok_or_else(exhausted)?;
        Ok(())
    }

    /// Takes `bytes` if there are as many left.
    pub(super) fn try_take(&mut self, bytes: u64) -> bool {
        let left = self.left.checked_sub(bytes);
        self.left = left.unwrap_or(self.left);
        left.is_some()
    }
}
