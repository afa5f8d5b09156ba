//! Finding pictures under the paths of a command line.

use super::archive;
use crate::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A picture's name and label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Path inside the folder or archive it was found in, with `/` between the parts.
    pub name: String,
    /// Name of the folder that holds it; the archive's or root folder's own name for pictures at the top.
    pub label: String,
}

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
    /// Bytes taken out of a compressed archive, which cannot be read from the middle.
    Memory(Arc<[u8]>),
}

impl Item {
    pub(super) fn new(root_name: &str, name: String) -> Self {
        let label = name.rsplit('/').nth(1).unwrap_or(root_name).to_owned();
        Self { name, label }
    }
}

impl Location {
    /// Reads the encoded picture.
    pub(super) fn read(&self) -> std::io::Result<std::borrow::Cow<'_, [u8]>> {
        use std::io::{Read as _, Seek as _};
        match self {
            Self::File(path) => std::fs::read(path).map(Into::into),
            Self::Slice { archive, offset, length } => {
                let mut file = std::fs::File::open(archive)?;
                file.seek(std::io::SeekFrom::Start(*offset))?;
                let mut bytes = Vec::new();
                file.take(*length).read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
            Self::Memory(bytes) => Ok(bytes.as_ref().into()),
        }
    }
}

/// Extensions that are taken for pictures; everything else is passed over in silence.
const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp"];

/// Whether a path inside a folder or archive names a picture: a known extension and no hidden part (`._photo.jpg` is
/// what macOS leaves in archives).
pub(super) fn is_picture(name: &str) -> bool {
    let hidden = name.split('/').any(|part| part.starts_with('.') && part != "." && part != "..");
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    !hidden && EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Finds the pictures under each path, sorted by name within a path.
///
/// A path is a folder, a `.tar` or `.tar.zst` archive, or a path *through* an archive: `photos.tar.zst/train` takes the
/// pictures under `train/` of `photos.tar.zst`. The bytes of a compressed archive are held in memory, at most
/// `memory_bytes` of them.
pub(super) fn find(paths: &[PathBuf], memory_bytes: u64) -> Result<Vec<(Item, Location)>, Error> {
    let mut items = Vec::new();
    for path in paths {
        let mut found = if path.is_dir() {
            in_folder(path)?
        } else {
            let (file, prefix) = split_at_archive(path)?;
            archive::list(&file, &prefix, memory_bytes)?
        };
        if found.is_empty() {
            return Err(Error::NoImages { path: path.clone() });
        }
        found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        items.append(&mut found);
    }
    Ok(items)
}

/// Splits `dir/photos.tar.zst/train` into the file and the prefix inside it.
fn split_at_archive(path: &Path) -> Result<(PathBuf, String), Error> {
    let file = path.ancestors().find(|ancestor| ancestor.is_file()).ok_or_else(|| Error::Io {
        path: path.to_owned(),
        source: std::io::Error::new(std::io::ErrorKind::NotFound, "no such folder or archive"),
    })?;
    let prefix = path.strip_prefix(file).unwrap_or_else(|_| Path::new(""));
    Ok((file.to_owned(), forward_slashes(prefix)))
}

fn in_folder(root: &Path) -> Result<Vec<(Item, Location)>, Error> {
    let root_name =
        root.canonicalize().ok().and_then(|full| Some(full.file_name()?.to_string_lossy().into_owned()));
    let root_name = root_name.unwrap_or_default();
    let mut items = Vec::new();
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
            if is_picture(&name) {
                items.push((Item::new(&root_name, name), Location::File(path)));
            }
        }
    }
    Ok(items)
}

fn forward_slashes(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}
