//! `dozen demo` does the main job by itself.

use dozen_tests::{program, root};

#[test]
fn on_the_shipped_photos() {
    let output = program("dozen").arg("demo").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let mean =
        text.lines().find(|line| line.starts_with("mean accuracy")).unwrap_or_else(|| panic!("{text}"));
    let shares: Vec<f64> = mean.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    assert_eq!(shares.len(), 2, "{text}");
    assert!(shares[1] >= 26.0, "the trained head measures 32 %, chance is 17 %: {text}");
    assert!(text.contains("nearest labelled photo: "), "{text}");
}

#[test]
fn on_ones_own_folder() {
    let folder = root().join("server/demo/photos");
    let output = program("dozen").args(["demo", "--images"]).arg(folder).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_folder_without_classes_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let output = program("dozen").args(["demo", "--images"]).arg(folder.path()).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("one subfolder of images per class"));
}
