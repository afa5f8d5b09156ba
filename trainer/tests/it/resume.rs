//! Stopping and going on.

use crate::micro;
use candle_core::Device;
use dozen_trainer::Error;
use dozen_trainer::config::Config;
use dozen_trainer::data::ImageSet;
use dozen_trainer::msn::Ranks;
use dozen_trainer::run::checkpoint::{FILE, PREVIOUS_FILE};
use dozen_trainer::run::{Checkpoint, Event, LogRecord, Outcome, RunOptions, Start, pretrain};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Runs until the end or, where given, until `stop_at` steps are taken.
fn train(
    config: &Config,
    set: &Arc<ImageSet>,
    out: &Path,
    start: Start,
    stop_at: Option<usize>,
) -> Result<Outcome, Error> {
    let stop = Arc::new(AtomicBool::new(false));
    let options = RunOptions {
        out: out.to_owned(),
        start,
        initial: None,
        ranks: Ranks::alone(),
        time_limit: None,
        stop: Arc::clone(&stop),
        monitor: None,
    };
    pretrain(config, set, &Device::Cpu, &options, &mut |event| {
        if let Event::Stepped { step } = event {
            stop.store(Some(step) == stop_at, Ordering::Relaxed);
        }
    })
}

fn tensors(dir: &Path) -> Vec<(String, Vec<f32>)> {
    let checkpoint = Checkpoint::load(&dir.join(FILE), &Device::Cpu).unwrap();
    let mut tensors: Vec<_> = checkpoint
        .tensors
        .into_iter()
        .map(|(name, tensor)| (name, tensor.flatten_all().unwrap().to_vec1().unwrap()))
        .collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

fn log(dir: &Path) -> Vec<LogRecord> {
    let text = std::fs::read_to_string(dir.join("log.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_resumed_run_ends_bit_for_bit_where_an_uninterrupted_one_does() {
    let root = tempfile::tempdir().unwrap();
    let config = micro::config(&[]);
    let set = micro::pictures(&root.path().join("pictures"), &config);
    let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));

    assert_eq!(train(&config, &set, &whole, Start::Fresh, None).unwrap(), Outcome::Finished);
    assert_eq!(train(&config, &set, &parts, Start::Fresh, Some(4)).unwrap(), Outcome::Stopped);
    let half = Checkpoint::load(&parts.join(FILE), &Device::Cpu).unwrap();
    assert_eq!((half.progress.step, half.progress.steps_per_epoch, half.progress.images), (4, 3, 24));
    // Threads decide only how fast the views are made.
    let one_thread = micro::config(&["data.threads=1"]);
    assert_eq!(train(&one_thread, &set, &parts, Start::Resume, None).unwrap(), Outcome::Finished);

    let (whole_tensors, parts_tensors) = (tensors(&whole), tensors(&parts));
    assert!(whole_tensors.iter().any(|(name, _)| name.starts_with("opt.v.")));
    for (ours, theirs) in whole_tensors.iter().zip(&parts_tensors) {
        assert!(ours == theirs, "{} differs from {}", ours.0, theirs.0);
    }
    assert_eq!(whole_tensors.len(), parts_tensors.len());

    let steps = |dir: &Path| log(dir).iter().map(|record| record.step).collect::<Vec<_>>();
    assert_eq!(steps(&whole), [2, 4, 6, 8, 9]);
    assert_eq!(steps(&parts), [2, 4, 6, 8, 9]);
    assert!((log(&whole)[3].loss - log(&parts)[3].loss).abs() < 1e-12);
    for record in log(&whole) {
        assert!(record.loss.is_finite() && record.gradient_norm > 0.0 && record.images_per_second > 0.0);
        assert!((1..=6).contains(&record.distinct_prototypes) && (0.0..=1.0).contains(&record.data_wait));
    }
}

/// Everything that can be turned on, and everything random, at once: none may depend on where a run was interrupted.
#[test]
fn so_does_a_run_with_every_switch_on() {
    let root = tempfile::tempdir().unwrap();
    for masks in ["image", "content"] {
        let masks = format!("views.masks=\"{masks}\"");
        let switches = [
            &masks[..],
            "model.drop_path=0.3",
            "head.count=2",
            "loss.koleo_weight=0.1",
            "loss.prior_exponent=0.25",
            "loss.start_sharpen=0.5",
            "loss.temperature_epochs=1.5",
            "optimisation.batch_size=4",
            "optimisation.accumulate=2",
            "optimisation.recompute=true",
        ];
        let config = micro::config(&switches);
        let pictures = root.path().join("pictures");
        let set = micro::pictures(&pictures, &config);
        let (whole, parts) = (root.path().join("whole"), root.path().join("parts"));
        for out in [&whole, &parts] {
            let _ = std::fs::remove_dir_all(out);
        }
        assert_eq!(train(&config, &set, &whole, Start::Fresh, None).unwrap(), Outcome::Finished);
        assert_eq!(train(&config, &set, &parts, Start::Fresh, Some(4)).unwrap(), Outcome::Stopped);
        assert_eq!(train(&config, &set, &parts, Start::Resume, None).unwrap(), Outcome::Finished);
        for (ours, theirs) in tensors(&whole).iter().zip(&tensors(&parts)) {
            assert!(ours == theirs, "{masks}: {} differs from {}", ours.0, theirs.0);
        }
        assert!(log(&whole).iter().all(|record| record.koleo.is_finite() && record.loss.is_finite()));
    }
}

#[test]
fn a_run_is_protected_from_other_settings_and_fresh_starts() {
    let root = tempfile::tempdir().unwrap();
    let config = micro::config(&[]);
    let set = micro::pictures(&root.path().join("pictures"), &config);
    let out = root.path().join("run");
    train(&config, &set, &out, Start::Fresh, Some(1)).unwrap();

    let refusal = train(&micro::config(&["loss.memax_weight=5.0"]), &set, &out, Start::Resume, None);
    let message = refusal.unwrap_err().to_string();
    assert!(message.contains("loss.memax_weight: 5.0 here, 4.0 there"), "{message}");
    let message = train(&config, &set, &out, Start::Fresh, None).unwrap_err().to_string();
    assert!(message.contains("--resume") && message.contains("--overwrite"), "{message}");
    assert_eq!(train(&config, &set, &out, Start::Overwrite, Some(2)).unwrap(), Outcome::Stopped);

    // Overwriting is for runs, not for whatever folder was named by mistake.
    let precious = root.path().join("precious");
    std::fs::create_dir(&precious).unwrap();
    std::fs::write(precious.join("thesis.txt"), "years of work").unwrap();
    assert!(matches!(train(&config, &set, &precious, Start::Overwrite, None), Err(Error::NotEmpty { .. })));
}

#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let root = tempfile::tempdir().unwrap();
    // Every step writes a checkpoint.
    let config = micro::config(&["run.checkpoint_minutes=1e-9"]);
    let set = micro::pictures(&root.path().join("pictures"), &config);
    let out = root.path().join("run");
    train(&config, &set, &out, Start::Fresh, Some(3)).unwrap();
    assert!(out.join(PREVIOUS_FILE).exists());

    let newest = out.join(FILE);
    let bytes = std::fs::read(&newest).unwrap();
    std::fs::write(&newest, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(Checkpoint::load_latest(&out, &Device::Cpu).unwrap().progress.step, 2);
    assert_eq!(train(&config, &set, &out, Start::Resume, Some(4)).unwrap(), Outcome::Stopped);
}

#[test]
fn numbers_that_blow_up_end_the_run_and_keep_the_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let config = micro::config(&[
        "run.checkpoint_minutes=1e-9",
        "optimisation.clip_gradient=0.0",
        "optimisation.start_learning_rate=1e30",
        "optimisation.learning_rate=1e30",
    ]);
    let set = micro::pictures(&root.path().join("pictures"), &config);
    let out = root.path().join("run");
    let message = train(&config, &set, &out, Start::Fresh, None).unwrap_err().to_string();
    assert!(message.contains("not finite") && message.contains("lower learning rate"), "{message}");
    assert!(Checkpoint::load_latest(&out, &Device::Cpu).unwrap().progress.step >= 1);
}

#[test]
fn too_few_images_are_refused_before_anything_is_written() {
    let root = tempfile::tempdir().unwrap();
    let config = micro::config(&["optimisation.batch_size=25"]);
    let set = micro::pictures(&root.path().join("pictures"), &config);
    let out = root.path().join("run");
    let message = train(&config, &set, &out, Start::Fresh, None).unwrap_err().to_string();
    assert!(message.contains("24 images do not fill a batch of 25"), "{message}");
    assert!(!out.exists());
}

#[test]
fn a_checkpoint_of_another_format_says_so_whatever_else_it_holds() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(FILE);
    let metadata = [("dozen_train".to_owned(), r#"{"format": 1, "step": 3}"#.to_owned())].into();
    let tensor = candle_core::Tensor::zeros(1, candle_core::DType::F32, &Device::Cpu).unwrap();
    let bytes = safetensors::serialize([("prototypes", tensor)], Some(metadata)).unwrap();
    std::fs::write(&path, bytes).unwrap();
    let message = Checkpoint::load(&path, &Device::Cpu).err().unwrap().to_string();
    assert!(message.contains("its format is 1, this version reads 2"), "{message}");
}
