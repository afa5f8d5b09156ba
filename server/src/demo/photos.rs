//! The photos the demo works on: shipped ones, or a folder's.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use dozen_models::image::Format;
use include_dir::{Dir, include_dir};
use std::path::Path;

/// 150 photos of clothing, CC0; see `server/demo/README.md`.
static SHIPPED: Dir<'_> = include_dir!("$CARGO_MANIFEST_DIR/demo/photos");

/// One image file.
#[derive(Clone)]
pub(super) struct Photo {
    /// Path below the class folder's parent, for people.
    pub(super) name: String,
    /// Contents.
    pub(super) bytes: Bytes,
}

/// A class and its photos, in order of their names.
pub(super) struct ClassPhotos {
    /// Class id as the server accepts it.
    pub(super) slug: String,
    photos: Vec<Photo>,
}

impl ClassPhotos {
    /// The photos that are labelled: at most `wanted`, and never so many that none is left to classify.
    pub(super) fn labelled(&self, wanted: usize) -> &[Photo] {
        &self.photos[..wanted.min(self.photos.len() - 1)]
    }

    /// The photos that are classified.
    pub(super) fn rest(&self, wanted: usize) -> &[Photo] {
        &self.photos[self.labelled(wanted).len()..]
    }
}

/// The photos compiled into the program.
pub(super) fn shipped() -> Vec<ClassPhotos> {
    let mut classes: Vec<_> = SHIPPED.dirs().map(shipped_class).collect();
    classes.sort_by(|left, right| left.slug.cmp(&right.slug));
    classes
}

fn shipped_class(folder: &Dir<'static>) -> ClassPhotos {
    let mut photos: Vec<_> = folder
        .files()
        .map(|file| Photo {
            name: file.path().display().to_string(),
            bytes: Bytes::from_static(file.contents()),
        })
        .collect();
    photos.sort_by(|left, right| left.name.cmp(&right.name));
    ClassPhotos { slug: slug(&folder.path().display().to_string()), photos }
}

/// Reads `folder/<class>/<image>`; files that are not images are left out, classes need two images.
pub(super) fn from_folder(folder: &Path) -> Result<Vec<ClassPhotos>> {
    let mut classes: Vec<ClassPhotos> = Vec::new();
    for path in entries(folder)?.into_iter().filter(|path| path.is_dir()) {
        let title = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut photos = Vec::new();
        for file in entries(&path)?.into_iter().filter(|file| file.is_file()) {
            let bytes = std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            if Format::sniff(&bytes).is_some() {
                let name =
                    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
                photos.push(Photo { name: format!("{title}/{name}"), bytes: bytes.into() });
            }
        }
        let slug = slug(&title);
        if photos.len() < 2 {
            bail!(
                "{} holds {} images; each class needs at least 2, better 13 or more",
                path.display(),
                photos.len()
            );
        }
        if classes.iter().any(|other| other.slug == slug) {
            bail!("two subfolders of {} are called `{slug}`", folder.display());
        }
        classes.push(ClassPhotos { slug, photos });
    }
    Ok(classes)
}

fn entries(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let read = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut paths = read
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("cannot read {}", folder.display()))?;
    paths.sort();
    Ok(paths)
}

/// A folder's name as a class id: lower case, other characters become `-`.
fn slug(title: &str) -> String {
    let kept: String = title
        .to_lowercase()
        .chars()
        .map(|letter| if letter.is_ascii_alphanumeric() || "._-".contains(letter) { letter } else { '-' })
        .take(64)
        .collect();
    let trimmed = kept.trim_start_matches(['.', '_', '-']);
    if trimmed.is_empty() { "class".into() } else { trimmed.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_photos_are_six_classes_of_twenty_five() {
        let classes = shipped();
        assert_eq!(classes.len(), 6);
        for class in classes {
            assert_eq!((class.labelled(12).len(), class.rest(12).len()), (12, 13), "{}", class.slug);
        }
    }

    #[test]
    fn one_photo_is_always_left_to_classify() {
        let photo = Photo { name: String::new(), bytes: Bytes::new() };
        let class = ClassPhotos { slug: "few".into(), photos: vec![photo; 3] };
        assert_eq!((class.labelled(12).len(), class.rest(12).len()), (2, 1));
    }

    #[test]
    fn folder_names_become_class_ids() {
        assert_eq!(slug("T-Shirt"), "t-shirt");
        assert_eq!(slug("Été 2024"), "t--2024");
        assert_eq!(slug("!!!"), "class");
    }
}
