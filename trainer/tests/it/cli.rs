//! The binary.

use crate::micro;
use std::path::Path;
use std::process::{Command, Output};

pub(crate) fn dozen_train(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_dozen-train")).args(arguments).output().unwrap()
}

pub(crate) fn succeed(arguments: &[&str]) -> (String, String) {
    let output = dozen_train(arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    let (printed, said) = (text(output.stdout), text(output.stderr));
    assert!(output.status.success(), "{arguments:?} failed:\n{said}");
    (printed, said)
}

pub(crate) fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn pretrain_resume_export_and_evaluate() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, run, model) =
        (root.path().join("pictures"), root.path().join("run"), root.path().join("tiny"));
    micro::write_pictures(&pictures, 10);
    std::fs::write(pictures.join("sky/broken.png"), b"broken").unwrap();
    let config = micro::config_path();
    let train = |more: &[&str]| {
        let base = [
            "pretrain",
            "--config",
            path(&config),
            "--data",
            path(&pictures),
            "--out",
            path(&run),
            "--device",
            "cpu",
        ];
        dozen_train(&[&base, more].concat())
    };

    // No time at all: one step and a checkpoint.
    let output = train(&["--max-minutes", "0"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    assert!(said.contains("broken.png is left out") && said.contains("time limit"), "{said}");
    assert!(run.join("checkpoint.safetensors").exists() && run.join("config.toml").exists());

    let said = String::from_utf8(train(&[]).stderr).unwrap();
    assert!(said.contains("--resume"), "{said}");
    let said = String::from_utf8(train(&["--resume", "--set", "schedule.epochs=4"]).stderr).unwrap();
    assert!(said.contains("schedule.epochs: 4 here, 3 there"), "{said}");
    let output = train(&["--resume"]);
    assert!(output.status.success() && String::from_utf8(output.stderr).unwrap().contains("finished"));

    let checkpoint = run.join("checkpoint.safetensors");
    let (_, said) =
        succeed(&["export", "--checkpoint", path(&checkpoint), "--out", path(&model), "--dtype", "f16"]);
    assert!(said.contains("after 3.0 epochs"), "{said}");
    let manifest = std::fs::read_to_string(model.join("preprocessor_config.json")).unwrap();
    assert!(manifest.contains("16"), "{manifest}");

    let json = root.path().join("result.json");
    let untrained = format!("untrained:{}", path(&config));
    for model in [path(&model), &untrained, "raw-pixels"] {
        let arguments = [
            "eval",
            "low-shot",
            "--model",
            model,
            "--data",
            path(&pictures),
            "--shots",
            "1,3",
            "--draws",
            "3",
        ];
        let (printed, _) = succeed(&[&arguments[..], &["--json", path(&json), "--markdown"]].concat());
        assert!(
            printed.contains("| prototype | 1 |") && printed.contains("| logistic, λ = 0.0025 | 3 |"),
            "{printed}"
        );
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        assert_eq!((report["images"].as_u64(), report["classes"].as_u64()), (Some(30), Some(3)));
        let accuracy = report["rows"][2]["accuracy"].as_f64().unwrap();
        assert!(accuracy > 1.0 / 3.0, "{model} is no better than chance: {accuracy}");
    }
}

#[test]
fn every_evaluation_prints_a_table_and_writes_json() {
    let root = tempfile::tempdir().unwrap();
    let (train, val) = (root.path().join("train"), root.path().join("val"));
    micro::write_pictures(&train, 9);
    micro::write_pictures(&val, 4);
    let config = micro::config_path();
    let untrained = format!("untrained:{}", path(&config));
    let json = root.path().join("result.json");
    let evaluate = |arguments: &[&str]| {
        let all = [&["eval"], arguments, &["--json", path(&json), "--markdown"]].concat();
        let (printed, _) = succeed(&all);
        (printed, serde_json::from_slice::<serde_json::Value>(&std::fs::read(&json).unwrap()).unwrap())
    };
    let sets = ["--train", path(&train), "--val", path(&val)];

    let (printed, report) = evaluate(&[&["knn", "--model", "raw-pixels", "-n", "1,5"], &sets[..]].concat());
    assert!(printed.contains("| k = 5 |"), "{printed}");
    assert_eq!(report["queries"], 12);
    assert!(report["rows"][0]["accuracy"].as_f64().unwrap() > 0.9, "{report}");
    let (printed, _) = evaluate(&["knn", "--model", "raw-pixels", "-n", "3", "--train", path(&train)]);
    assert!(printed.contains("27 queries") && printed.contains("leave one out"), "{printed}");

    let probe = ["linear", "--model", "raw-pixels", "--epochs", "20", "--learning-rate", "1"];
    for crops in ["0", "2"] {
        let (printed, report) = evaluate(&[&probe[..], &["--crops", crops], &sets[..]].concat());
        assert!(printed.contains("seed 0"), "{printed}");
        assert!(report["rows"][0]["accuracy"].as_f64().unwrap() > 0.9, "{crops} crops: {report}");
    }

    let tune =
        ["finetune", "--model", &untrained, "--epochs", "12", "--warmup-epochs", "1", "--batch-size", "9"];
    let strong = ["--learning-rate", "0.1", "--layer-decay", "0.9", "--mixup", "0.2", "--device", "cpu"];
    let (printed, report) = evaluate(&[&tune[..], &strong, &sets].concat());
    assert!(printed.contains("fine-tuning, untrained: 12 queries, 3 classes"), "{printed}");
    assert!(report["rows"][0]["accuracy"].as_f64().unwrap() > 0.8, "{report}");
    assert_eq!(evaluate(&[&tune[..], &strong, &sets].concat()).1, report, "it repeats");

    let masks = ["robustness", "--model", &untrained, "--data", path(&train), "--shots", "3", "--draws", "3"];
    let (printed, report) = evaluate(&[&masks[..], &["--drop", "0,50"]].concat());
    assert!(printed.contains("| 50 % dropped |"), "{printed}");
    let cosine = |row: usize| report["rows"][row]["cosine"].as_f64().unwrap();
    assert!((cosine(0) - 1.0).abs() < 1e-5 && cosine(1) < 0.9999, "{report}");

    let shares =
        ["low-shot", "--model", "raw-pixels", "--data", path(&train), "--shots", "2,30%", "--draws", "3"];
    let (printed, report) = evaluate(&shares);
    assert!(printed.contains("| prototype | 30 % |"), "{printed}");
    assert_eq!(report["rows"][2]["shots"], "30 %");
}

#[cfg(unix)]
#[test]
fn a_termination_request_ends_with_a_checkpoint() {
    use std::io::{BufRead as _, BufReader};
    let root = tempfile::tempdir().unwrap();
    let (pictures, run) = (root.path().join("pictures"), root.path().join("run"));
    micro::write_pictures(&pictures, 8);
    let mut child = Command::new(env!("CARGO_BIN_EXE_dozen-train"))
        .args(["pretrain", "--config", path(&micro::config_path()), "--data", path(&pictures)])
        .args(["--out", path(&run), "--set", "schedule.epochs=1000000", "--device", "cpu"])
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().starts_with("step 0 of")));
    let killed = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(killed.success());
    let rest: Vec<String> = said.map(Result::unwrap).collect();
    assert!(child.wait().unwrap().success());
    assert!(rest.iter().any(|line| line.contains("--resume goes on")), "{rest:?}");
    assert!(run.join("checkpoint.safetensors").exists());
    let report = std::fs::read_to_string(run.join("report.html")).unwrap();
    assert!(report.contains("(not finished)") && report.ends_with("</html>"));
}

#[test]
fn mistakes_are_named() {
    let root = tempfile::tempdir().unwrap();
    let complain = |arguments: &[&str]| {
        let output = dozen_train(arguments);
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    let config = micro::config_path();
    let base =
        ["pretrain", "--config", path(&config), "--data", path(root.path()), "--out", path(root.path())];
    assert!(complain(&base).contains("no .jpg"));
    assert!(complain(&[&base[..], &["--set", "loss.lamda=1"]].concat()).contains("lamda"));
    let absent = root.path().join("absent.toml");
    assert!(
        complain(&["pretrain", "--config", path(&absent), "--data", ".", "--out", "x"])
            .contains("absent.toml")
    );
    let mut one_of_two = Command::new(env!("CARGO_BIN_EXE_dozen-train"));
    one_of_two.args(base).env("WORLD_SIZE", "2");
    let said = String::from_utf8(one_of_two.output().unwrap().stderr).unwrap();
    assert!(said.contains("RANK is not"), "{said}");
    #[cfg(not(feature = "nccl"))]
    {
        let said = String::from_utf8(one_of_two.env("RANK", "0").output().unwrap().stderr).unwrap();
        assert!(said.contains("--features nccl") && said.contains("WORLD_SIZE is 2"), "{said}");
    }
    let model = root.path().join("no-model");
    assert!(
        !complain(&["eval", "low-shot", "--model", path(&model), "--data", path(root.path())]).is_empty()
    );
}

#[test]
fn vectors_are_written_with_names_labels_and_views() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, file) = (root.path().join("pictures"), root.path().join("vectors.safetensors"));
    micro::write_pictures(&pictures, 2);
    std::fs::write(pictures.join("sky/broken.png"), b"broken").unwrap();
    let embed = ["embed", "--cpu", "--model", "shipped", "--views", "2", "--data"];
    let (_, said) = succeed(&[&embed[..], &[path(&pictures), "--out", path(&file)]].concat());
    assert!(
        said.contains("broken.png is left out") && said.contains("6 vectors of 128 numbers, 2 views"),
        "{said}"
    );

    let bytes = std::fs::read(&file).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    let metadata = header.metadata().as_ref().unwrap();
    assert_eq!(metadata["classes"], r#"["brick","grass","sky"]"#);
    assert_eq!(serde_json::from_str::<Vec<String>>(&metadata["images"]).unwrap().len(), 6);
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let floats = |name: &str, shape: &[usize]| -> Vec<f32> {
        let tensor = tensors.tensor(name).unwrap();
        assert_eq!(tensor.shape(), shape);
        tensor.data().as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
    };
    let (vectors, views) = (floats("vectors", &[6, 128]), floats("views", &[2, 6, 128]));
    for (place, view) in views.chunks_exact(128).enumerate() {
        let cosine: f32 = view.iter().zip(&vectors[place % 6 * 128..]).map(|(a, b)| a * b).sum();
        assert!((0.3..0.99999).contains(&cosine), "view {place}: {cosine}");
    }
    let labels = tensors.tensor("labels").unwrap();
    let labels: Vec<i64> = labels.data().as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect();
    assert_eq!(labels, [0, 0, 1, 1, 2, 2]);
}
