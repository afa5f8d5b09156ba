//! What lies below a folder.

use super::find::{Found, Item, forward_slashes, is_hidden, is_picture};
use super::location::Location;
use crate::Error;
use std::path::{Path, PathBuf};

/// Files below a folder, by what they are; hidden ones are left out.
#[derive(Default)]
pub(super) struct Contents {
    pub(super) pictures: Found,
    /// `.tar` and `.tar.zst`, sorted.
    pub(super) archives: Vec<PathBuf>,
    /// `.parquet`, sorted.
    pub(super) tables: Vec<PathBuf>,
    /// How many others there are.
    pub(super) others: usize,
    /// One of them.
    pub(super) other: Option<String>,
}

/// The name a folder has in its parent, however it was written.
pub(super) fn own_name(root: &Path) -> String {
    let full = root.canonicalize().ok();
    full.and_then(|full| Some(full.file_name()?.to_string_lossy().into_owned())).unwrap_or_default()
}

/// Looks through a folder and the folders below it. A folder that cannot be opened is an error: it may hold half the
/// data.
pub(super) fn scan(root: &Path) -> Result<Contents, Error> {
    let root_name = own_name(root);
    let mut contents = Contents::default();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        let failed = |source| Error::Io { path: folder.clone(), source };
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let path = entry.path();
            // Links to folders are not followed: they can form circles.
            if entry.file_type().map_err(failed)?.is_dir() {
                folders.push(path);
                continue;
            }
            let name = forward_slashes(path.strip_prefix(root).unwrap_or(&path));
            let lower = name.to_ascii_lowercase();
            let ends = |extensions: &[&str]| extensions.iter().any(|extension| lower.ends_with(extension));
            if is_hidden(&name) {
                continue;
            }
            if is_picture(&name) {
                contents.pictures.push((Item::new(&root_name, name), Location::File(path)));
            } else if ends(&[".tar", ".tar.zst", ".tzst"]) {
                contents.archives.push(path);
            } else if ends(&[".parquet"]) {
                contents.tables.push(path);
            } else {
                contents.others += 1;
                contents.other = contents.other.take().into_iter().chain([name]).min();
            }
        }
    }
    contents.archives.sort();
    contents.tables.sort();
    Ok(contents)
}
