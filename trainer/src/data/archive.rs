//! Listing `.tar` and `.tar.zst` archives in one pass.

use super::find::{Item, Location, is_picture};
use crate::Error;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;
use std::sync::Arc;

/// First bytes of a zstd frame.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The pictures of an archive below `prefix` (empty for all), recognised by content as plain or zstd-compressed.
pub(super) fn list(path: &Path, prefix: &str, memory_bytes: u64) -> Result<Vec<(Item, Location)>, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let mut magic = Vec::new();
    File::open(path).map_err(failed)?.take(4).read_to_end(&mut magic).map_err(failed)?;
    let reader = BufReader::with_capacity(1 << 20, File::open(path).map_err(failed)?);
    if magic == ZSTD_MAGIC {
        let mut held: u64 = 0;
        let decoder = zstd::stream::read::Decoder::with_buffer(reader).map_err(failed)?;
        visit(path, decoder, prefix, |entry| {
            held += entry.size();
            if held > memory_bytes {
                return Err(Error::ArchiveTooLarge { path: path.to_owned(), limit: memory_bytes });
            }
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).map_err(failed)?;
            Ok(Location::Memory(bytes.into()))
        })
    } else {
        let archive: Arc<Path> = path.into();
        visit(path, reader, prefix, |entry| {
            let (offset, length) = (entry.raw_file_position(), entry.size());
            Ok(Location::Slice { archive: Arc::clone(&archive), offset, length })
        })
    }
}

fn visit<R: Read>(
    path: &Path,
    reader: R,
    prefix: &str,
    mut locate: impl FnMut(&mut tar::Entry<'_, R>) -> Result<Location, Error>,
) -> Result<Vec<(Item, Location)>, Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let root_name = path.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let root_name = root_name.split('.').next().unwrap_or_default();
    let mut items = Vec::new();
    for entry in tar::Archive::new(reader).entries().map_err(failed)? {
        let mut entry = entry.map_err(failed)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
        if !entry.header().entry_type().is_file() || !is_picture(&name) || !is_below(&name, prefix) {
            continue;
        }
        let location = locate(&mut entry)?;
        items.push((Item::new(root_name, name), location));
    }
    Ok(items)
}

/// Whether `name` lies below the folder `prefix`; `training/x.png` does not lie below `train`.
fn is_below(name: &str, prefix: &str) -> bool {
    prefix.is_empty() || name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('/'))
}
