//! Tar archives, from a stream.

use super::{Bounds, Item, Sink, damaged, image, shown};
use crate::http::problem::Problem;
use std::io::{self, Read};
use tar::{Archive, EntryType};

/// Tar archives are made of blocks this long: one for each header, and those of the contents.
const BLOCK: u64 = 512;

/// Longest name or attributes of a member, which the archive keeps like a member of its own, and which is read to memory.
const LONGEST_EXTENSION: u64 = 1 << 16;

/// Goes through all headers. What is compressed is unpacked up to the limit, and nowhere to.
pub(super) fn check(reader: impl Read, bounds: &Bounds) -> Result<(), Problem> {
    let mut archive = Archive::new(reader);
    let (mut members, mut images, mut bytes) = (0_usize, 0_usize, 0_u64);
    let broken =
        |members: usize, error: &io::Error| damaged(&format!("after {members} files"), &error.to_string());
    // Raw: extensions are met as they are, before their length is trusted.
    for member in archive.entries().map_err(|error| broken(0, &error))?.raw(true) {
        let member = member.map_err(|error| broken(members, &error))?;
        let (kind, size) = (member.header().entry_type(), member.size());
        if is_extension(kind) && size > LONGEST_EXTENSION {
            return Err(damaged(&format!("after {members} files"), "a name or attribute is too long"));
        }
        if kind == EntryType::GNUSparse {
            return Err(damaged(
                &format!("after {members} files"),
                "it holds a sparse file; pack without --sparse",
            ));
        }
        members += 1;
        images += usize::from(is_file(kind));
        bounds.check_images(images)?;
        bytes = bytes.saturating_add(BLOCK).saturating_add(size);
        bounds.check_bytes(bytes)?;
    }
    Ok(())
}

/// Reads the files of an archive that has been checked.
pub(super) fn read(reader: impl Read, bounds: &Bounds, sink: Sink<'_>) -> Result<(), Problem> {
    let mut archive = Archive::new(reader);
    let mut index = 0;
    for member in archive.entries().map_err(super::disk)? {
        let mut member = member.map_err(super::disk)?;
        if !is_file(member.header().entry_type()) {
            continue;
        }
        let name = Some(shown(&member.path_bytes()));
        let size = member.size();
        let input = image(&mut member, size, index, bounds);
        if sink(Item { index, name, input }).is_break() {
            return Ok(());
        }
        index += 1;
    }
    Ok(())
}

fn is_file(kind: EntryType) -> bool {
    matches!(kind, EntryType::Regular | EntryType::Continuous)
}

fn is_extension(kind: EntryType) -> bool {
    kind.is_gnu_longname()
        || kind.is_gnu_longlink()
        || kind.is_pax_local_extensions()
        || kind.is_pax_global_extensions()
}
