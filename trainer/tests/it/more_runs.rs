//! Sweeps, and going on from a trained model, through the real binary.

use crate::cli::{dozen_train, path, succeed};
use crate::micro;

#[test]
fn a_sweep_trains_each_variant_once_and_tables_them() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, out, file) =
        (root.path().join("pictures"), root.path().join("out"), root.path().join("sweep.toml"));
    micro::write_pictures(&pictures, 8);
    let variant =
        |name: &str, change: &str| format!("[[variant]]\nname = \"{name}\"\noverrides = [{change}]\n");
    let text = format!(
        "config = {:?}\noverrides = [\"schedule.epochs=1\"]\nshots = [\"1\", \"2\"]\ndraws = 2\nseed = 0\nl2 = [0.0025]\n{}{}",
        micro::config_path(),
        variant("base", ""),
        variant("heavy", "\"loss.memax_weight=5.0\""),
    );
    std::fs::write(&file, &text).unwrap();
    let arguments = [
        "sweep",
        "--file",
        path(&file),
        "--data",
        path(&pictures),
        "--labelled",
        path(&pictures),
        "--out",
        path(&out),
        "--device",
        "cpu",
    ];
    let (table, _) = succeed(&arguments);
    assert!(
        table.contains("| heavy | loss.memax_weight=5.0 |") && table.contains("logistic, λ = 0.0025, 2"),
        "{table}"
    );
    let log = std::fs::metadata(out.join("base/log.jsonl")).unwrap().modified().unwrap();
    let (again, _) = succeed(&arguments);
    assert_eq!(table, again);
    assert_eq!(log, std::fs::metadata(out.join("base/log.jsonl")).unwrap().modified().unwrap());
    let json = std::fs::read_to_string(out.join("sweep.json")).unwrap();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&json).unwrap().as_array().unwrap().len(), 2);
}

#[test]
fn adapting_starts_from_a_model_of_any_shape_and_leaves_one() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, run, model, adapted) = (
        root.path().join("pictures"),
        root.path().join("run"),
        root.path().join("model"),
        root.path().join("adapted"),
    );
    micro::write_pictures(&pictures, 8);
    let config = micro::config_path();
    succeed(&[
        "pretrain",
        "--config",
        path(&config),
        "--data",
        path(&pictures),
        "--out",
        path(&run),
        "--device",
        "cpu",
    ]);
    let checkpoint = run.join("checkpoint.safetensors");
    succeed(&["export", "--checkpoint", path(&checkpoint), "--out", path(&model)]);
    let small = ["--set", "optimisation.batch_size=8", "--set", "loss.prototypes=4", "--device", "cpu"];
    for init in [&model, &checkpoint] {
        let base = [
            "adapt",
            "--init",
            path(init),
            "--data",
            path(&pictures),
            "--out",
            path(&adapted),
            "--epochs",
            "2",
        ];
        let arguments = [&base[..], &small, &["--overwrite", "--progress", "ndjson"]].concat();
        let (events, _) = succeed(&arguments);
        let last: serde_json::Value = serde_json::from_str(events.lines().last().unwrap()).unwrap();
        assert_eq!((last["event"].as_str(), last["step"].as_u64()), (Some("finished"), Some(6)));
    }
    let result = adapted.join("model");
    let (table, _) =
        succeed(&["eval", "knn", "--model", path(&result), "--train", path(&pictures), "-n", "3"]);
    assert!(table.contains("adapted: 24 queries"), "{table}");

    // 24 pictures do not fill a batch of 128.
    let output = dozen_train(&["adapt", "--data", path(&pictures), "--out", path(&root.path().join("x"))]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("optimisation.batch_size"), "{said}");
}
