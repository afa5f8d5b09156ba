//! `dozen-train data check`, and the list of what a run could not read.

use crate::cli::{dozen_train, path, succeed};
use crate::micro;

#[test]
fn a_check_describes_the_set_and_fails_where_a_run_would() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, json) = (root.path().join("pictures"), root.path().join("report.json"));
    micro::write_pictures(&pictures, 4);
    std::fs::write(pictures.join("sky/broken.png"), b"broken").unwrap();
    std::fs::copy(pictures.join("sky/00.png"), pictures.join("grass/sky.png")).unwrap();

    let config = micro::config_path();
    let check = ["data", "check", path(&pictures), "--json", path(&json), "--config", path(&config)];
    let (printed, said) = succeed(&check);
    for line in [
        "a folder, 14 images",
        "images: 13 readable, 1 not",
        "classes: 3; largest grass with 5",
        "grass/sky.png",
    ] {
        assert!(printed.contains(line), "{line} is not in\n{printed}");
    }
    assert!(said.contains("sky/broken.png is left out") && said.contains("different labels"), "{said}");
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["unreadable"][0]["name"], "sky/broken.png");
    assert_eq!(report["exact_duplicates"], serde_json::json!([["grass/sky.png", "sky/00.png"]]));
    assert_eq!(report["label_conflicts"][0]["images"][0]["label"], "grass");
    assert_eq!(report["classes"]["images"]["brick"], 4);

    let output = dozen_train(&[&check[..], &["--set", "optimisation.batch_size=14"]].concat());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("13 images do not fill a batch of 14"), "{said}");
    assert!(!output.stdout.is_empty(), "what was found is shown all the same");

    let output = dozen_train(&["data", "check", path(&root.path().join("absent"))]);
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("no such folder or archive"));
}

#[test]
fn a_run_lists_what_it_could_not_read() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, run) = (root.path().join("pictures"), root.path().join("run"));
    micro::write_pictures(&pictures, 4);
    std::fs::write(pictures.join("sky/broken.png"), b"broken").unwrap();
    let config = micro::config_path();
    let train = ["pretrain", "--config", path(&config), "--data", path(&pictures), "--out", path(&run)];
    // Found when the set is decoded at the start, and when batches are made: one of all pictures, so that it is met.
    let by_batch = ["--set", "data.memory_mib=0", "--set", "optimisation.batch_size=13", "--overwrite"];
    for more in [&["--set", "data.memory_mib=64"][..], &by_batch] {
        let (_, said) = succeed(&[&train[..], &["--device", "cpu"], more].concat());
        assert!(said.contains("a folder, 13 images"), "{said}");
        let list = std::fs::read_to_string(run.join("unreadable.txt")).unwrap();
        assert_eq!(list.lines().count(), 1);
        assert!(list.starts_with("sky/broken.png\t") && list.contains("not a JPEG"), "{list}");
    }
}
