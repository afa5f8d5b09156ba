//! What `pretrain` tells people and programs: NDJSON, the report, the dry run.

use crate::cli::{dozen_train, path, succeed};
use crate::micro;
use serde_json::Value;
use std::path::Path;
use std::process::{Command, Stdio};

fn lines(printed: &str) -> Vec<Value> {
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn fields(line: &Value) -> Vec<&str> {
    line.as_object().unwrap().keys().map(String::as_str).collect()
}

fn pretrain<'a>(config: &'a str, pictures: &'a str, run: &'a str) -> Vec<&'a str> {
    vec!["pretrain", "--config", config, "--data", pictures, "--out", run, "--device", "cpu"]
}

/// A whole run with a labelled set, told in NDJSON: the fields are those the README promises.
#[test]
fn programs_are_told_in_json_lines() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, run) = (root.path().join("pictures"), root.path().join("run"));
    micro::write_pictures(&pictures, 8);
    std::fs::write(pictures.join("sky/broken.png"), b"broken").unwrap();
    let config = micro::config_path();
    let base = pretrain(path(&config), path(&pictures), path(&run));
    let more = ["--progress", "ndjson", "--monitor", path(&pictures)];
    let (printed, _) = succeed(&[&base[..], &more].concat());
    let lines = lines(&printed);
    let named = |event: &str| lines.iter().filter(|line| line["event"] == event).collect::<Vec<_>>();

    assert_eq!(named("unreadable")[0]["name"], "sky/broken.png");
    let started = named("started")[0];
    for (field, value) in [
        ("step", 0),
        ("steps", 9),
        ("steps_per_epoch", 3),
        ("epochs", 3),
        ("images", 24),
        ("images_per_step", 8),
    ] {
        assert_eq!(started[field], value, "{field}");
    }
    assert_eq!((&started["device"], &started["out"]), (&"cpu".into(), &path(&run).into()));
    let steps = named("step");
    assert_eq!(steps.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(), [2, 4, 6, 8, 9]);
    let expected = "data_wait distinct_prototypes entropy koleo epoch eta_seconds event first_qkv_gradient_norm \
         gradient_norm images_per_second last_qkv_gradient_norm learning_rate loss max_target me_max momentum msn step \
         steps weight_decay";
    for field in expected.split_whitespace() {
        assert!(fields(steps[0]).contains(&field), "{field} is missing");
    }
    assert_eq!(steps[4]["eta_seconds"], 0.0);
    let evaluations = named("evaluation");
    assert_eq!(
        evaluations.iter().map(|line| line["step"].as_u64().unwrap()).collect::<Vec<_>>(),
        [0, 3, 6, 9]
    );
    assert_eq!((&evaluations[0]["images"], &evaluations[0]["classes"]), (&24.into(), &3.into()));
    let accuracies = evaluations[3]["accuracies"].as_array().unwrap();
    assert_eq!(accuracies.len(), 4);
    assert_eq!(fields(&accuracies[0]), ["accuracy", "head", "interval", "shots"]);
    // Colours are told apart before the first step already.
    assert!(accuracies.iter().all(|one| one["accuracy"].as_f64().unwrap() > 1.0 / 3.0), "{accuracies:?}");
    assert_eq!(named("checkpoint")[0]["step"], 9);
    let finished = lines.last().unwrap();
    assert_eq!(fields(finished), ["checkpoint", "event", "report", "seconds", "step"]);
    assert_eq!((&finished["event"], &finished["step"]), (&"finished".into(), &9.into()));

    // The report has it all, and is made again where the images have gone.
    let report = Path::new(finished["report"].as_str().unwrap());
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.contains("24 images, 1 more cannot be read") && page.contains("(finished)"));
    assert_eq!(page.matches("data:image/jpeg;base64,").count(), 8 * 8);
    assert!(page.contains("of 6 prototypes are nearest to at least one of 24 images"));
    assert!(
        page.contains("logistic, 5 shots: from") && page.contains("Distinct prototypes over the epochs.")
    );
    assert!(page.len() < 2_000_000);
    std::fs::remove_file(report).unwrap();
    std::fs::rename(&pictures, root.path().join("moved")).unwrap();
    succeed(&["report", "--run", path(&run), "--device", "cpu"]);
    let page = std::fs::read_to_string(report).unwrap();
    assert!(page.contains("Not shown:") && page.contains("logistic, 5 shots: from"));
    let elsewhere = root.path().join("elsewhere.html");
    let moved = root.path().join("moved");
    let again =
        ["report", "--run", path(&run), "--data", path(&moved), "--out", path(&elsewhere), "--device", "cpu"];
    succeed(&again);
    assert!(std::fs::read_to_string(&elsewhere).unwrap().contains("data:image/jpeg;base64,"));
}

#[test]
fn programs_are_told_of_stops_and_failures() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, run) = (root.path().join("pictures"), root.path().join("run"));
    micro::write_pictures(&pictures, 8);
    let config = micro::config_path();
    let base = pretrain(path(&config), path(&pictures), path(&run));
    let tell = |more: &[&str]| {
        let output = dozen_train(&[&base[..], &["--progress", "ndjson"], more].concat());
        (output.status.success(), lines(std::str::from_utf8(&output.stdout).unwrap()))
    };
    let (success, told) = tell(&["--max-minutes", "0"]);
    let last = told.last().unwrap();
    assert_eq!((&last["event"], &last["reason"], success), (&"stopped".into(), &"time_limit".into(), true));
    let (success, told) = tell(&[]);
    let last = told.last().unwrap();
    assert!(!success && told.len() == 1 && last["event"] == "failed", "{told:?}");
    assert!(last["error"].as_str().unwrap().contains("--resume"), "{last}");
    assert!(last["checkpoint"].as_str().unwrap().ends_with("checkpoint.safetensors"));
    let (success, told) = tell(&["--overwrite", "--set", "optimisation.batch_size=1000"]);
    let last = told.last().unwrap();
    assert!(!success && last["error"].as_str().unwrap().contains("do not fill a batch"), "{last}");
}

#[test]
fn a_dry_run_counts_and_times_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, run) = (root.path().join("pictures"), root.path().join("run"));
    micro::write_pictures(&pictures, 8);
    let config = micro::config_path();
    let base = pretrain(path(&config), path(&pictures), path(&run));
    let (printed, _) = succeed(&[&base[..], &["--dry-run"]].concat());
    let value = |name: &str| {
        let line = printed.lines().find(|line| line.trim_start().starts_with(name));
        line.unwrap_or_else(|| panic!("{name} is missing:\n{printed}")).trim().to_owned()
    };
    // 16·(1 + 17 + 3·16 + 1) + 2·(4·16 + 48·17 + 16·17 + 32·17 + 16·33) + 2·16, 16·17 + 2·32 + 16·17 + 8·17, 6·8.
    assert!(value("trunk").ends_with("5,552"), "{printed}");
    assert!(value("head").ends_with("744"), "{printed}");
    assert!(value("prototypes").ends_with("48"), "{printed}");
    assert!(value("trained").ends_with("6,344"), "{printed}");
    assert!(value("target view").ends_with("1 × 17, 136 per step"), "{printed}");
    assert!(value("random views").ends_with("1 × 12, 96 per step"), "{printed}");
    assert!(value("focal views").ends_with("2 × 5, 80 per step"), "{printed}");
    assert!(value("per epoch").ends_with('3') && value("in 3 epochs").ends_with('9'), "{printed}");
    assert!(value("one step").ends_with('s') && !run.exists());
}

/// A run whose owner has gone ends by itself, with a checkpoint.
#[test]
fn a_run_that_nobody_listens_to_stops() {
    use std::io::{BufRead as _, BufReader};
    let root = tempfile::tempdir().unwrap();
    let (pictures, run) = (root.path().join("pictures"), root.path().join("run"));
    micro::write_pictures(&pictures, 8);
    let config = micro::config_path();
    let mut child = Command::new(env!("CARGO_BIN_EXE_dozen-train"))
        .args(pretrain(path(&config), path(&pictures), path(&run)))
        .args(["--progress", "ndjson", "--set", "schedule.epochs=1000000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert!(first.starts_with(r#"{"event":"started""#), "{first}");
    assert!(child.wait().unwrap().success());
    assert!(run.join("checkpoint.safetensors").exists());
}
