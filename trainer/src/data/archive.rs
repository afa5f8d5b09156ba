//! Listing `.tar` and `.tar.zst` archives in one pass, labels of WebDataset shards included.
//!
//! Nothing is unpacked. An archive that is damaged or cut short is an error, even where only its end marker is missing:
//! training on half a data set without a word is worse than not starting.

use super::find::{Found, Item, clean, is_picture};
use super::location::{Budget, Location};
use super::sidecar::Sidecars;
use crate::Error;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek as _, SeekFrom};
use std::path::Path;
use std::sync::Arc;

/// First bytes of a zstd frame.
pub(super) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Tar archives are made of blocks this long, and end with blocks of zeros.
const BLOCK: u64 = 512;

/// The pictures of an archive below `prefix` (empty for all), and whether labels lie beside them.
pub(super) fn list(
    path: &Path,
    compressed: bool,
    prefix: &str,
    root_name: &str,
    budget: &mut Budget,
) -> Result<(Found, bool), Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let mut listing = Listing::new(path, prefix);
    if compressed {
        let decoder = zstd::stream::read::Decoder::new(file).map_err(failed)?;
        let mut archive = tar::Archive::new(Counted { inner: decoder, bytes: 0 });
        let entries = archive.entries().map_err(failed)?;
        listing.visit(entries, u64::MAX, |entry| {
            budget.take(path, entry.size())?;
            Ok(read_whole(entry).map(|bytes| Location::Memory(bytes.into())))
        })?;
        let rest = archive.into_inner();
        let marked = rest.bytes > listing.end;
        listing.check_end(rest, marked)?;
    } else {
        let length = file.metadata().map_err(failed)?.len();
        let shared: Arc<Path> = path.into();
        // Headers are a block each; a larger buffer would be filled for nothing after each seek over a picture.
        let mut archive = tar::Archive::new(BufReader::with_capacity(4096, file));
        let entries = archive.entries_with_seek().map_err(failed)?;
        listing.visit(entries, length, |entry| {
            let (offset, length) = (entry.raw_file_position(), entry.size());
            Ok(Ok(Location::Slice { archive: Arc::clone(&shared), offset, length }))
        })?;
        let mut rest = archive.into_inner();
        rest.seek(SeekFrom::Start(listing.end)).map_err(failed)?;
        listing.check_end(rest, false)?;
    }
    Ok(listing.finish(root_name))
}

/// What has been listed so far.
struct Listing<'a> {
    path: &'a Path,
    prefix: &'a str,
    pictures: Vec<(String, Location)>,
    sidecars: Sidecars,
    /// Where the entries listed so far end.
    end: u64,
}

impl<'a> Listing<'a> {
    fn new(path: &'a Path, prefix: &'a str) -> Self {
        Self { path, prefix, pictures: Vec::new(), sidecars: Sidecars::default(), end: 0 }
    }

    /// Goes through the entries of an archive of `length` bytes. `locate` fails where a picture cannot be held, and
    /// within where it cannot be read.
    fn visit<'e, R: Read + 'e>(
        &mut self,
        entries: tar::Entries<'e, R>,
        length: u64,
        mut locate: impl FnMut(&mut tar::Entry<'e, R>) -> Result<io::Result<Location>, Error>,
    ) -> Result<(), Error> {
        for entry in entries {
            let mut entry = entry.map_err(|error| self.damaged(&error.to_string()))?;
            let end = entry.raw_file_position().checked_add(entry.size()).filter(|end| *end <= length);
            let name = clean(&String::from_utf8_lossy(&entry.path_bytes()));
            let Some(end) = end else {
                let size = entry.size();
                return Err(self.damaged(&format!("{name} should have {size} bytes, more than there are")));
            };
            if entry.header().entry_type().is_file() && is_below(&name, self.prefix) {
                if is_picture(&name) {
                    let located = locate(&mut entry)?;
                    let located = located.map_err(|error| self.damaged(&format!("{name}: {error}")))?;
                    self.pictures.push((name, located));
                } else {
                    let read = self.sidecars.offer(&name, &mut entry);
                    read.map_err(|error| self.damaged(&format!("{name}: {error}")))?;
                }
            }
            self.end = end.next_multiple_of(BLOCK);
        }
        Ok(())
    }

    /// Makes sure that nothing but the end marker follows. `marked` says that a part of it has been read already.
    fn check_end(&self, mut rest: impl Read, marked: bool) -> Result<(), Error> {
        let mut buffer = vec![0; 1 << 16];
        let mut zeros = 0;
        loop {
            let read = rest.read(&mut buffer).map_err(|error| self.damaged(&error.to_string()))?;
            if buffer[..read].iter().any(|byte| *byte != 0) {
                return Err(self.damaged(
                    "there is more after its end marker (`cat` does not join archives, `tar --concatenate` does)",
                ));
            }
            zeros += read as u64;
            if read == 0 {
                let complete = marked || zeros >= BLOCK;
                return if complete { Ok(()) } else { Err(self.damaged("its end is missing")) };
            }
        }
    }

    fn damaged(&self, reason: &str) -> Error {
        Error::DamagedArchive {
            path: self.path.to_owned(),
            position: self.end,
            images: self.pictures.len(),
            reason: reason.to_owned(),
        }
    }

    fn finish(self, root_name: &str) -> (Found, bool) {
        let mut labelled = false;
        let item = |(name, location): (String, Location)| {
            let mut item = Item::new(root_name, name);
            if let Some(label) = self.sidecars.label(&item.name) {
                label.clone_into(&mut item.label);
                labelled = true;
            }
            (item, location)
        };
        (self.pictures.into_iter().map(item).collect(), labelled)
    }
}

/// Reads an entry; fewer bytes than its header promises are an error.
fn read_whole<R: Read>(entry: &mut tar::Entry<'_, R>) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes)?;
    if bytes.len() as u64 == entry.size() { Ok(bytes) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.bytes += read as u64;
        Ok(read)
    }
}

/// Whether `name` lies below the folder `prefix`; `training/x.png` does not lie below `train`.
fn is_below(name: &str, prefix: &str) -> bool {
    prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}
