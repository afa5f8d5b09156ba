//! Folders, archives and damaged pictures.

mod archives;
mod tables;

use super::{DataOptions, ImageSet, Item};
use crate::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};

const ROOMY: DataOptions = DataOptions { memory_mib: 64, shrink_short_side: 0, threads: 0 };
/// Nothing fits, so that every picture is decoded when asked for.
const TIGHT: DataOptions = DataOptions { memory_mib: 0, ..ROOMY };

/// A 6 × 4 picture of one colour in the format of the name's extension.
fn picture(name: &str, level: u8) -> Vec<u8> {
    let format = image::ImageFormat::from_path(name).unwrap();
    let mut bytes = std::io::Cursor::new(Vec::new());
    image::RgbImage::from_pixel(6, 4, image::Rgb([level; 3])).write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

/// Name and contents of everything in the example set.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("train/dog/b.jpg", picture("b.jpg", 40)),
        ("train/cat/a.png", picture("a.png", 80)),
        ("train/cat/old/c.GIF", picture("c.gif", 120)),
        ("train/dog/d.webp", picture("d.webp", 160)),
        ("training/x.bmp", picture("x.bmp", 200)),
        ("top.png", picture("top.png", 240)),
        ("train/cat/._a.png", b"resource fork".to_vec()),
        ("train/notes.txt", b"not a picture".to_vec()),
    ]
}

fn write_folder(root: &Path, files: &[(&str, Vec<u8>)]) {
    for (name, contents) in files {
        let path = root.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, contents).unwrap();
    }
}

fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, contents) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(contents.len() as u64);
        header.set_mode(0o644);
        builder.append_data(&mut header, format!("./{name}"), contents.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn open(path: PathBuf, options: &DataOptions) -> Result<ImageSet, Error> {
    ImageSet::open(&[path], options)
}

fn items(set: &ImageSet) -> Vec<(&str, &str)> {
    set.items().iter().map(|Item { name, label }| (name.as_str(), label.as_str())).collect()
}

fn levels(set: &ImageSet) -> Vec<u8> {
    (0..set.len()).map(|position| set.image(position).unwrap().pixels[0]).collect()
}

#[test]
fn folders_and_archives_hold_the_same_pictures() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("pets");
    write_folder(&folder, &files());
    let archive = root.path().join("pets.tar");
    std::fs::write(&archive, tar(&files())).unwrap();
    let compressed = root.path().join("pets.tar.zst");
    std::fs::write(&compressed, zstd::encode_all(tar(&files()).as_slice(), 1).unwrap()).unwrap();

    let expected = [
        ("top.png", "pets"),
        ("train/cat/a.png", "cat"),
        ("train/cat/old/c.GIF", "old"),
        ("train/dog/b.jpg", "dog"),
        ("train/dog/d.webp", "dog"),
        ("training/x.bmp", "training"),
    ];
    for path in [&folder, &archive, &compressed] {
        for options in [ROOMY, DataOptions { memory_mib: 1, ..ROOMY }] {
            let set = open(path.clone(), &options).unwrap();
            assert_eq!(items(&set), expected, "{}", path.display());
            assert!(set.in_memory());
            let expected_levels = [240, 80, 120, 40, 160, 200];
            assert!(levels(&set).iter().zip(expected_levels).all(|(ours, level)| ours.abs_diff(level) <= 2));
        }
    }
    // Compressed archives cannot be read from the middle: theirs must fit in memory.
    for path in [&folder, &archive] {
        let set = open(path.clone(), &TIGHT).unwrap();
        assert!(!set.in_memory());
        assert_eq!(levels(&set), levels(&open(path.clone(), &ROOMY).unwrap()));
    }
    let Err(Error::ArchiveTooLarge { .. }) = open(compressed, &TIGHT) else { panic!("must not fit") };
}

#[test]
fn a_path_through_an_archive_takes_a_part_of_it() {
    let root = tempfile::tempdir().unwrap();
    let archive = root.path().join("pets.tar.zst");
    std::fs::write(&archive, zstd::encode_all(tar(&files()).as_slice(), 1).unwrap()).unwrap();
    let set = open(archive.join("train"), &ROOMY).unwrap();
    assert_eq!(set.len(), 4, "`training` is not below `train`");
    assert_eq!(items(&open(archive.join("train/dog"), &ROOMY).unwrap())[0], ("train/dog/b.jpg", "dog"));
    let Err(Error::NoImages { .. }) = open(archive.join("test"), &ROOMY) else {
        panic!("there is no `test`")
    };
}

#[test]
fn unreadable_pictures_are_skipped_and_named() {
    let root = tempfile::tempdir().unwrap();
    let cut_off = picture("a.png", 1)[..40].to_vec();
    write_folder(
        root.path(),
        &[
            ("a.png", picture("a.png", 10)),
            ("b.png", cut_off),
            ("c.jpg", b"<html>not found</html>".to_vec()),
            ("d.png", picture("d.png", 30)),
        ],
    );
    let set = open(root.path().to_owned(), &ROOMY).unwrap();
    assert_eq!(set.items().iter().map(|item| item.name.as_str()).collect::<Vec<_>>(), ["a.png", "d.png"]);
    assert_eq!(
        set.skipped().iter().map(|skipped| skipped.name.as_str()).collect::<Vec<_>>(),
        ["b.png", "c.jpg"]
    );
    assert!(set.skipped()[1].reason.contains("not a JPEG"), "{}", set.skipped()[1].reason);

    // Decoded when asked for, a batch takes the next readable one instead.
    let set = open(root.path().to_owned(), &TIGHT).unwrap();
    assert_eq!(set.len(), 4);
    let reported = std::cell::RefCell::new(Vec::new());
    let image = set.image_or_next(1, |skipped| reported.borrow_mut().push(skipped.name)).unwrap();
    assert_eq!(image.pixels[0], 30);
    assert_eq!(reported.into_inner(), ["b.png", "c.jpg"]);
}

#[test]
fn nothing_to_train_on_is_an_error_that_says_so() {
    let root = tempfile::tempdir().unwrap();
    let reason = |path: PathBuf| open(path, &ROOMY).err().unwrap().to_string();
    assert!(reason(root.path().join("absent")).contains("no such folder or archive"));
    assert!(reason(root.path().to_owned()).contains("no .jpg"));
    std::fs::File::create(root.path().join("broken.png")).unwrap().write_all(b"broken").unwrap();
    assert!(reason(root.path().to_owned()).contains("none of the 1 images can be decoded"));
}

#[test]
fn large_pictures_are_shrunk_once() {
    let root = tempfile::tempdir().unwrap();
    let photo = image::RgbImage::from_fn(90, 60, |x, _| image::Rgb([if x < 45 { 0 } else { 255 }; 3]));
    photo.save(root.path().join("photo.png")).unwrap();
    let set = open(root.path().to_owned(), &DataOptions { shrink_short_side: 20, ..ROOMY }).unwrap();
    let image = set.image(0).unwrap();
    assert_eq!((image.width, image.height), (30, 20));
    assert_eq!((image.pixels[0], image.pixels[29 * 3]), (0, 255));
}
