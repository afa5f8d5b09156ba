//! WebDataset shards, sets of archives, and archives that are not what they should be.

use super::*;
use crate::data::SourceKind;

/// Three samples of a shard; `first` numbers them.
fn shard(first: u8) -> Vec<u8> {
    let mut files = Vec::new();
    let names: Vec<[String; 2]> = (first..first + 3)
        .map(|number| {
            [
                format!("{number:04}.jpg"),
                format!("{number:04}.{}", ["cls", "json", "txt"][(number - first) as usize]),
            ]
        })
        .collect();
    let labels = [b"7\n".to_vec(), br#"{"width": 6, "label": "heron"}"#.to_vec(), b"a caption".to_vec()];
    for (number, ([picture_name, label_name], label)) in names.iter().zip(labels).enumerate() {
        files.push((picture_name.as_str(), picture("a.jpg", 20 * (first + number as u8))));
        files.push((label_name.as_str(), label));
    }
    tar(&files)
}

fn reason(path: PathBuf) -> String {
    open(path, &ROOMY).err().unwrap().to_string()
}

#[test]
fn shards_take_their_labels_from_the_files_beside_the_pictures() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("birds");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("s-000.tar"), shard(0)).unwrap();
    std::fs::write(folder.join("s-001.tar.zst"), zstd::encode_all(shard(3).as_slice(), 1).unwrap()).unwrap();

    let expected = [
        ("s-000.tar/0000.jpg", "7"),
        ("s-000.tar/0001.jpg", "heron"),
        ("s-000.tar/0002.jpg", "birds"),
        ("s-001.tar.zst/0003.jpg", "7"),
        ("s-001.tar.zst/0004.jpg", "heron"),
        ("s-001.tar.zst/0005.jpg", "birds"),
    ];
    let set = open(folder.clone(), &ROOMY).unwrap();
    assert_eq!(items(&set), expected);
    assert_eq!((set.sources()[0].kind, set.sources()[0].images), (SourceKind::WebDataset(2), 6));
    assert!(levels(&set).iter().zip([0, 20, 40, 60, 80, 100]).all(|(ours, level)| ours.abs_diff(level) <= 2));

    let pattern = open(folder.join("s-{000,001}.tar"), &ROOMY).err().unwrap().to_string();
    assert!(pattern.contains("s-001.tar") && pattern.contains("no such file"), "{pattern}");
    std::fs::write(folder.join("s-001.tar"), shard(3)).unwrap();
    let set = open(folder.join("s-{000..001}.tar"), &TIGHT).unwrap();
    assert_eq!((set.len(), items(&set)[3]), (6, ("s-001.tar/0003.jpg", "7")));
    assert!(!set.in_memory() && levels(&set)[5].abs_diff(100) <= 2);
}

#[test]
fn pictures_win_over_archives_beside_them() {
    let root = tempfile::tempdir().unwrap();
    write_folder(root.path(), &[("a.png", picture("a.png", 1)), ("all.tar", tar(&files()))]);
    let set = open(root.path().to_owned(), &ROOMY).unwrap();
    assert_eq!((set.len(), set.sources()[0].kind), (1, SourceKind::Folder));
    assert!(set.sources()[0].to_string().contains("1 archives or tables beside them are not read"));
    std::fs::remove_file(root.path().join("a.png")).unwrap();
    std::fs::write(root.path().join("b.parquet"), b"PAR1").unwrap();
    assert!(reason(root.path().to_owned()).contains("name those to read"));
}

#[test]
fn archives_cut_short_are_errors_wherever_the_cut_is() {
    let root = tempfile::tempdir().unwrap();
    let (plain, compressed) = (root.path().join("cut.tar"), root.path().join("cut.tar.zst"));
    let whole = tar(&files());
    // Inside a header, inside a picture, after the first entry's padding, before the end marker.
    let end = whole.len() - 1024;
    for length in [200, 512 + 30, end - 700, end] {
        std::fs::write(&plain, &whole[..length]).unwrap();
        std::fs::write(&compressed, zstd::encode_all(&whole[..length], 1).unwrap()).unwrap();
        for path in [&plain, &compressed] {
            let reason = reason(path.clone());
            assert!(
                reason.contains("cut.tar")
                    && reason.contains("cut short")
                    && reason.contains("make it again"),
                "{length}: {reason}"
            );
        }
    }
    // The compressed stream itself.
    let stream = zstd::encode_all(whole.as_slice(), 1).unwrap();
    for length in [10, stream.len() - 3] {
        std::fs::write(&compressed, &stream[..length]).unwrap();
        assert!(reason(compressed.clone()).contains("cut short"));
    }
    let mut damaged = stream;
    damaged[12..40].fill(0xff);
    std::fs::write(&compressed, damaged).unwrap();
    assert!(reason(compressed).contains("damaged"));
}

#[test]
fn a_hole_in_an_archive_is_no_end() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("hole.tar");
    let mut archive = tar(&files());
    // The second header becomes zeros, as an end marker is.
    let second = 512 + picture("b.jpg", 40).len().next_multiple_of(512);
    archive[second..second + 512].fill(0);
    std::fs::write(&path, &archive).unwrap();
    assert!(reason(path.clone()).contains("more after its end marker"));
    std::fs::write(&path, [tar(&files()), tar(&files())].concat()).unwrap();
    assert!(reason(path).contains("--concatenate"));
}

/// One entry with any name and announced size.
fn entry(name: &str, size: u64, contents: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_gnu();
    header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
    header.set_size(size);
    header.set_entry_type(tar::EntryType::Regular);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(contents);
    bytes.resize(bytes.len().next_multiple_of(512) + 1024, 0);
    bytes
}

#[test]
fn hostile_archives_do_no_harm() {
    let root = tempfile::tempdir().unwrap();
    let (plain, compressed) = (root.path().join("evil.tar"), root.path().join("evil.tar.zst"));
    let image = picture("a.png", 9);
    std::fs::write(&plain, entry("../../../up/\x1b[2Ja.png", image.len() as u64, &image)).unwrap();
    let set = open(plain.clone(), &ROOMY).unwrap();
    assert_eq!(items(&set), [("up/\u{fffd}[2Ja.png", "up")]);
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1, "nothing is unpacked");

    for size in [1 << 50, u64::MAX - 5] {
        let archive = entry("a.png", size, &image);
        std::fs::write(&plain, &archive).unwrap();
        assert!(reason(plain.clone()).contains("cut short"), "{size}");
        std::fs::write(&compressed, zstd::encode_all(archive.as_slice(), 1).unwrap()).unwrap();
        let reason = reason(compressed.clone());
        assert!(reason.contains("unpack it into a folder") || reason.contains("size overflow"), "{reason}");
    }
}

#[test]
fn other_kinds_of_files_are_named_for_what_they_are() {
    let root = tempfile::tempdir().unwrap();
    for (name, contents, wanted) in [
        ("a.tar.gz", b"\x1f\x8b\x08\0rest".to_vec(), "gunzip"),
        ("a.zip", b"PK\x03\x04rest".to_vec(), "unpack it"),
        ("a.png", picture("a.png", 1), "single picture"),
        ("a.tar", Vec::new(), "is empty"),
        ("a.txt", b"just some words".to_vec(), "not a tar archive"),
    ] {
        let path = root.path().join(name);
        std::fs::write(&path, contents).unwrap();
        let reason = reason(path);
        assert!(reason.contains(wanted) && reason.contains(name), "{reason}");
    }
    let notes = root.path().join("notes");
    write_folder(&notes, &[("x/a.heic", b"?".to_vec()), ("x/b.txt", b"?".to_vec())]);
    assert!(reason(notes).contains("2 other files, such as x/a.heic"));
}

#[cfg(unix)]
#[test]
fn files_that_may_not_be_read_are_skipped_and_listed() {
    use crate::data::{UNREADABLE_FILE, UnreadableList};
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("photos");
    write_folder(&folder, &[("a.png", picture("a.png", 1)), ("locked.png", picture("a.png", 2))]);
    symlink(root.path().join("gone.png"), folder.join("dangling.png")).unwrap();
    let locked = folder.join("locked.png");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o000)).unwrap();
    // The administrator may read everything.
    let refused = std::fs::read(&locked).is_err();
    let set = open(folder, &ROOMY).unwrap();
    assert_eq!(set.len(), if refused { 1 } else { 2 });
    assert_eq!(set.skipped()[0].name, "dangling.png");
    assert_eq!(set.skipped().len(), if refused { 2 } else { 1 });

    for _ in 0..2 {
        UnreadableList::open(root.path()).unwrap().add(set.skipped()).unwrap();
    }
    let list = std::fs::read_to_string(root.path().join(UNREADABLE_FILE)).unwrap();
    assert_eq!(list.lines().count(), set.skipped().len(), "a run that goes on names none twice");
    assert!(list.starts_with("dangling.png\tNo such file"), "{list}");
}
