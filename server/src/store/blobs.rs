//! Images as files named by their content: `blobs/ab/cd/abcd…`, written so that a row never points at a file that a crash could lose.

use super::StoreError;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Prefix of a content hash as callers see it.
const HASH_PREFIX: &str = "blake3:";

/// Threads that write and fsync in one call.
const WRITERS: usize = 8;

/// BLAKE3 of some bytes in hexadecimal: the name of a blob.
pub(crate) fn content_hash(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// A stored hash as callers see it.
pub(crate) fn public_hash(hash: &str) -> String {
    format!("{HASH_PREFIX}{hash}")
}

/// The folder of blobs. All methods block.
#[derive(Clone, Debug)]
pub(crate) struct Blobs {
    root: PathBuf,
}

impl Blobs {
    /// Opens or creates the folder and clears what an interrupted write left behind.
    pub(crate) fn open(root: PathBuf) -> Result<Self, StoreError> {
        let blobs = Self { root };
        let temporary = blobs.temporary();
        match fs::remove_dir_all(&temporary) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(StoreError::Io { path: temporary, source });
            }
            Ok(()) | Err(_) => {}
        }
        fs::create_dir_all(&temporary).map_err(at(&temporary))?;
        sync_folder(&blobs.root)?;
        Ok(blobs)
    }

    /// Writes blobs that are not there yet and returns once all are on disk: each to a temporary file, fsync, rename,
    /// and at the end one fsync of every folder touched.
    pub(crate) fn write_all(&self, blobs: &[(String, Bytes)]) -> Result<(), StoreError> {
        let distinct: BTreeMap<&str, &Bytes> =
            blobs.iter().map(|(hash, bytes)| (hash.as_str(), bytes)).collect();
        let distinct: Vec<(&str, &Bytes)> = distinct.into_iter().collect();
        let mut touched = BTreeSet::new();
        for (hash, _) in &distinct {
            // Also where the file exists: whoever renamed it may have been killed before the fsync of the folder.
            let path = self.path(hash)?;
            let folders = path.ancestors().skip(1).take_while(|folder| folder.starts_with(&self.root));
            touched.extend(folders.map(Path::to_owned));
        }
        side_by_side(&distinct, |(hash, bytes)| self.write(hash, bytes))?;
        let touched: Vec<PathBuf> = touched.into_iter().collect();
        side_by_side(&touched, |folder| sync_folder(folder))
    }

    /// Writes one blob unless it is there. Its folder is not on disk yet.
    fn write(&self, hash: &str, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.path(hash)?;
        if path.exists() {
            return Ok(());
        }
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(at(folder))?;
        }
        let temporary = self.temporary().join(ulid::Ulid::generate().to_string());
        let mut file = File::create_new(&temporary).map_err(at(&temporary))?;
        file.write_all(bytes).map_err(at(&temporary))?;
        file.sync_all().map_err(at(&temporary))?;
        fs::rename(&temporary, &path).map_err(at(&path))
    }

    /// Reads a blob and checks that it is what was written.
    pub(crate) fn read(&self, hash: &str) -> Result<Bytes, StoreError> {
        let path = self.path(hash)?;
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == ErrorKind::NotFound => {
                return Err(StoreError::Damaged(format!("the image file {} is missing", path.display())));
            }
            Err(source) => return Err(StoreError::Io { path, source }),
        };
        if content_hash(&bytes) != hash {
            return Err(StoreError::Damaged(format!("the image file {} has other content", path.display())));
        }
        Ok(Bytes::from(bytes))
    }

    /// A file for passing use on the same disk. It has no name, and is gone with its handle.
    pub(crate) fn scratch(&self) -> Result<File, StoreError> {
        let folder = self.temporary();
        tempfile::tempfile_in(&folder).map_err(at(&folder))
    }

    /// Where a blob lies. Two levels of folders keep each small: 65,536 leaves.
    fn path(&self, hash: &str) -> Result<PathBuf, StoreError> {
        if hash.len() != 64 || !hash.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(StoreError::Damaged(format!("`{hash}` is not a content hash")));
        }
        Ok(self.root.join(&hash[..2]).join(&hash[2..4]).join(hash))
    }

    fn temporary(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

/// Does file work on several threads. An fsync is waiting, not work: the disk does several in the time of one.
fn side_by_side<T: Sync>(
    items: &[T],
    work: impl Fn(&T) -> Result<(), StoreError> + Sync,
) -> Result<(), StoreError> {
    let share = items.len().div_ceil(WRITERS).max(1);
    std::thread::scope(|scope| {
        let mut shares = items.chunks(share);
        let own = shares.next().unwrap_or_default();
        let others: Vec<_> = shares.map(|share| scope.spawn(|| share.iter().try_for_each(&work))).collect();
        let mut result = own.iter().try_for_each(&work);
        for other in others {
            result = result.and(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        result
    })
}

/// Makes renames in a folder durable.
fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    File::open(folder).and_then(|opened| opened.sync_all()).map_err(at(folder))
}

/// Names the path in an I/O error.
pub(crate) fn at(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + use<> {
    let path = path.to_owned();
    move |source| StoreError::Io { path, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blobs() -> (tempfile::TempDir, Blobs) {
        let folder = tempfile::tempdir().unwrap();
        let blobs = Blobs::open(folder.path().join("blobs")).unwrap();
        (folder, blobs)
    }

    fn named(content: &'static str) -> (String, Bytes) {
        (content_hash(content.as_bytes()), Bytes::from_static(content.as_bytes()))
    }

    #[test]
    fn what_is_written_is_read_and_written_once() {
        let (_folder, blobs) = blobs();
        let daisy = named("daisy");
        blobs.write_all(&[daisy.clone(), named("tulip"), daisy.clone()]).unwrap();
        assert_eq!(blobs.read(&daisy.0).unwrap(), daisy.1);
        let path = blobs.path(&daisy.0).unwrap();
        let before = fs::metadata(&path).unwrap().modified().unwrap();
        blobs.write_all(std::slice::from_ref(&daisy)).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), before);
        assert_eq!(fs::read_dir(blobs.temporary()).unwrap().count(), 0);
    }

    #[test]
    fn a_changed_or_missing_file_is_damage() {
        let (_folder, blobs) = blobs();
        let daisy = named("daisy");
        blobs.write_all(std::slice::from_ref(&daisy)).unwrap();
        fs::write(blobs.path(&daisy.0).unwrap(), b"dais?").unwrap();
        assert!(matches!(blobs.read(&daisy.0), Err(StoreError::Damaged(_))));
        fs::remove_file(blobs.path(&daisy.0).unwrap()).unwrap();
        assert!(matches!(blobs.read(&daisy.0), Err(StoreError::Damaged(_))));
        assert!(matches!(blobs.read("../../etc/passwd"), Err(StoreError::Damaged(_))));
    }

    #[test]
    fn opening_clears_interrupted_writes() {
        let (folder, blobs) = blobs();
        fs::write(blobs.temporary().join("half"), b"hal").unwrap();
        let again = Blobs::open(folder.path().join("blobs")).unwrap();
        assert_eq!(fs::read_dir(again.temporary()).unwrap().count(), 0);
    }
}
