//! Zip archives. Their directory is at the end, so they are read from a file.

use super::{Bounds, Item, Sink, damaged, image, not_unpacked, shown};
use crate::http::problem::Problem;
use std::fs::File;
use std::io::BufReader;
use zip::ZipReadOptions;
use zip::read::Config;
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;

/// Goes through the directory.
pub(super) fn check(file: &mut File, bounds: &Bounds) -> Result<(), Problem> {
    let mut archive = open(file)?;
    bounds.check_images(archive.len())?;
    let mut bytes = 0_u64;
    for (number, member) in archive.files().map_err(|error| broken(0, &error))?.enumerate() {
        let member = member.map_err(|error| broken(number, &error))?;
        bytes = bytes.saturating_add(member.size());
        bounds.check_bytes(bytes)?;
    }
    Ok(())
}

/// Reads the files of an archive that has been checked. One that cannot be unpacked fails for itself.
pub(super) fn read(file: &mut File, bounds: &Bounds, sink: Sink<'_>) -> Result<(), Problem> {
    // The two share their place in the file; each seeks before it reads.
    let mut contents = BufReader::new(file.try_clone().map_err(super::disk)?);
    let mut archive = open(file)?;
    let mut index = 0;
    for member in archive.files().map_err(|error| broken(0, &error))? {
        let member = member.map_err(|error| broken(index, &error))?;
        if !member.is_file() {
            continue;
        }
        let name = member.name().map_or_else(|_| shown(member.name_raw()), |name| shown(name.as_bytes()));
        let size = member.size();
        let input = match member.with_reader(&mut contents, ZipReadOptions::default()) {
            Ok(mut reader) => image(&mut reader, size, index, bounds),
            Err(error) => Err(not_unpacked(index, &error.to_string())),
        };
        if sink(Item { index, name: Some(name), input }).is_break() {
            return Ok(());
        }
        index += 1;
    }
    Ok(())
}

/// The directory is read a member at a time: an archive of many small files costs no memory.
fn open(file: &mut File) -> Result<ZipIterable<BufReader<&mut File>>, Problem> {
    ZipIterable::try_new(BufReader::new(file), Config::default()).map_err(|error| broken(0, &error))
}

fn broken(members: usize, error: &ZipError) -> Problem {
    damaged(&format!("after {members} files"), &error.to_string())
}
