//! Finding pictures under the paths of a command line.

use super::folder::{self, Contents};
use super::location::{Budget, Location};
use super::source::{Source, SourceKind};
use super::{archive, braces, table};
use crate::Error;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

/// A picture's name and label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Path inside the folder or archive it was found in, with `/` between the parts. Pictures of one of several
    /// archives or tables have its name in front.
    pub name: String,
    /// The label stored beside the picture (WebDataset, Parquet); otherwise the name of the folder that holds it, or the
    /// archive's or root folder's own name for pictures at the top.
    pub label: String,
}

/// Pictures and where they are.
pub(super) type Found = Vec<(Item, Location)>;

/// Pictures of one path.
struct Listing {
    found: Found,
    kind: SourceKind,
    passed_over: Option<String>,
}

impl Item {
    pub(super) fn new(root_name: &str, name: String) -> Self {
        let label = name.rsplit('/').nth(1).unwrap_or(root_name).to_owned();
        Self { name, label }
    }
}

/// Extensions that are taken for pictures.
const EXTENSIONS: [&str; 7] = ["jpg", "jpeg", "jpe", "png", "webp", "gif", "bmp"];

/// Whether a path inside a folder or archive names a picture: a known extension and no hidden part.
pub(super) fn is_picture(name: &str) -> bool {
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    !is_hidden(name) && EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))
}

/// Whether a part of the path begins with a dot: `._photo.jpg` is what macOS leaves in archives.
pub(super) fn is_hidden(name: &str) -> bool {
    name.split('/').any(|part| part.starts_with('.') && part != "." && part != "..")
}

/// A name out of an archive or table, which may hold anything: without `.`, `..` and leading slashes, which would make
/// labels nobody meant, and without control characters, which terminals obey.
pub(super) fn clean(name: &str) -> String {
    let parts: Vec<&str> = name.split('/').filter(|part| !matches!(*part, "" | "." | "..")).collect();
    parts.join("/").replace(char::is_control, "\u{fffd}")
}

/// Finds the pictures under each path, sorted by name within a path.
///
/// A path is a folder (of pictures, of archives, or of Parquet files), a `.tar` or `.tar.zst` archive, a Parquet file, a
/// brace pattern of either, or a path *through* an archive: `photos.tar.zst/train` takes the pictures under `train/` of
/// `photos.tar.zst`. Files are recognised by their first bytes. The bytes of compressed archives are held in memory, at
/// most `memory_bytes` of them in all.
pub(super) fn find(paths: &[PathBuf], memory_bytes: u64) -> Result<(Found, Vec<Source>), Error> {
    let mut budget = Budget::new(memory_bytes);
    let (mut all, mut sources) = (Vec::new(), Vec::new());
    for path in paths {
        let Listing { mut found, kind, passed_over } = list(path, &mut budget)?;
        if found.is_empty() {
            let holds = passed_over.unwrap_or_else(|| "nothing else either".to_owned());
            return Err(Error::NoImages { path: path.clone(), holds });
        }
        found.sort_by(|a, b| a.0.name.cmp(&b.0.name));
        sources.push(Source { path: path.clone(), kind, images: found.len(), passed_over });
        all.append(&mut found);
    }
    Ok((all, sources))
}

fn list(path: &Path, budget: &mut Budget) -> Result<Listing, Error> {
    if path.is_dir() {
        return in_folder(path, budget);
    }
    let expanded = path.to_str().filter(|_| !path.exists()).and_then(braces::expand);
    if let Some(names) = expanded {
        let files: Vec<PathBuf> = names.into_iter().map(PathBuf::from).collect();
        if let Some(missing) = files.iter().find(|file| !file.is_file()) {
            return Err(not_found(missing, "no such file, which the pattern names"));
        }
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        return in_files(&files, parent, budget);
    }
    let file = path.ancestors().find(|ancestor| ancestor.is_file());
    let file = file.ok_or_else(|| not_found(path, "no such folder or archive"))?;
    let prefix = path.strip_prefix(file).unwrap_or_else(|_| Path::new(""));
    let stem = file.file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    let (found, kind) =
        in_file(file, &forward_slashes(prefix), stem.split('.').next().unwrap_or_default(), budget)?;
    Ok(Listing { found, kind, passed_over: None })
}

fn not_found(path: &Path, reason: &'static str) -> Error {
    Error::Io { path: path.to_owned(), source: std::io::Error::new(std::io::ErrorKind::NotFound, reason) }
}

/// A folder's pictures; only where it has none, its archives or tables. Reading both would count pictures twice where
/// an archive lies beside its own contents.
fn in_folder(root: &Path, budget: &mut Budget) -> Result<Listing, Error> {
    let Contents { pictures, archives, tables, others, other } = folder::scan(root)?;
    if !pictures.is_empty() {
        let files = archives.len() + tables.len();
        let passed_over = (files > 0).then(|| format!("{files} archives or tables beside them are not read"));
        return Ok(Listing { found: pictures, kind: SourceKind::Folder, passed_over });
    }
    match (archives.is_empty(), tables.is_empty()) {
        (true, true) => {
            let found = other.map(|name| format!("{others} other files, such as {name}"));
            let passed_over = Some(found.unwrap_or_else(|| "it is empty".to_owned()));
            Ok(Listing { found: Vec::new(), kind: SourceKind::Folder, passed_over })
        }
        (false, false) => Err(Error::Ambiguous { path: root.to_owned() }),
        (false, true) => in_files(&archives, root, budget),
        (true, false) => in_files(&tables, root, budget),
    }
}

/// Archives or tables that make one data set; names carry the file's path below `root`.
fn in_files(files: &[PathBuf], root: &Path, budget: &mut Budget) -> Result<Listing, Error> {
    let root_name = folder::own_name(root);
    let mut all = Vec::new();
    let mut kinds = Vec::new();
    for file in files {
        let (found, kind) = in_file(file, "", &root_name, budget)?;
        let below = forward_slashes(file.strip_prefix(root).unwrap_or(file));
        all.extend(found.into_iter().map(|(item, location)| {
            (Item { name: format!("{below}/{}", item.name), label: item.label }, location)
        }));
        kinds.push(kind);
    }
    let kind = match kinds.iter().find(|kind| !matches!(kind, SourceKind::Archives(_))) {
        Some(SourceKind::Parquet(_)) => SourceKind::Parquet(files.len()),
        Some(_) => SourceKind::WebDataset(files.len()),
        None => SourceKind::Archives(files.len()),
    };
    Ok(Listing { found: all, kind, passed_over: None })
}

/// First bytes of what is not read, and what to do about it.
const FOREIGN: [(&[u8], &str); 4] = [
    (b"\x1f\x8b", "is compressed with gzip; unpack it (gunzip) or compress it with zstd instead"),
    (b"BZh", "is compressed with bzip2; unpack it (bunzip2) or compress it with zstd instead"),
    (b"\xfd7zXZ", "is compressed with xz; unpack it (unxz) or compress it with zstd instead"),
    (b"PK\x03\x04", "is a zip archive; unpack it and give the folder"),
];

fn in_file(
    file: &Path,
    prefix: &str,
    root_name: &str,
    budget: &mut Budget,
) -> Result<(Found, SourceKind), Error> {
    let failed = |source| Error::Io { path: file.to_owned(), source };
    let mut magic = Vec::new();
    File::open(file).map_err(failed)?.take(18).read_to_end(&mut magic).map_err(failed)?;
    let refused = |reason: &str| Error::Unusable { path: file.to_owned(), reason: reason.to_owned() };
    if magic.is_empty() {
        return Err(refused("is empty; fetch or make it again"));
    }
    if let Some((_, reason)) = FOREIGN.iter().find(|(start, _)| magic.starts_with(start)) {
        return Err(refused(reason));
    }
    if dozen_models::image::Format::sniff(&magic).is_some() {
        return Err(refused("is a single picture; give the folder it lies in"));
    }
    if magic.starts_with(table::MAGIC) {
        if !prefix.is_empty() {
            return Err(refused("is a Parquet file, which has no folders inside"));
        }
        return Ok((table::list(file, root_name, budget)?, SourceKind::Parquet(1)));
    }
    let compressed = magic.starts_with(&archive::ZSTD_MAGIC);
    let (found, labelled) = archive::list(file, compressed, prefix, root_name, budget)?;
    Ok((found, if labelled { SourceKind::WebDataset(1) } else { SourceKind::Archives(1) }))
}

pub(super) fn forward_slashes(path: &Path) -> String {
    let parts: Vec<_> = path.iter().map(|part| part.to_string_lossy()).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lose_what_could_lead_astray() {
        assert_eq!(clean("../../etc/./cat.jpg"), "etc/cat.jpg");
        assert_eq!(clean("/abs//a.png"), "abs/a.png");
        assert_eq!(clean("a\u{1b}[2Jb.png"), "a\u{fffd}[2Jb.png");
    }
}
