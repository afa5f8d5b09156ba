//! Runs that end as nobody planned: killed, or on a full disk.

#![cfg(unix)]

use crate::micro;
use candle_core::Device;
use dozen_trainer::run::Checkpoint;
use dozen_trainer::run::checkpoint::FILE;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Sixteen epochs of three steps with a checkpoint after each: long enough to be killed in the middle, also of a save.
fn pretrain(pictures: &Path, run: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_dozen-train"));
    command.args(["pretrain", "--device", "cpu", "--config"]).arg(micro::config_path());
    command.arg("--data").arg(pictures).arg("--out").arg(run);
    command.args(["--set", "schedule.epochs=16", "--set", "run.checkpoint_minutes=1e-9"]).args(more);
    command.stderr(Stdio::piped()).stdout(Stdio::null());
    command
}

fn tensors(run: &Path) -> Vec<(String, Vec<f32>)> {
    let checkpoint = Checkpoint::load_latest(run, &Device::Cpu).unwrap();
    let flat = |tensor: candle_core::Tensor| tensor.flatten_all().unwrap().to_vec1().unwrap();
    let mut tensors: Vec<_> =
        checkpoint.tensors.into_iter().map(|(name, tensor)| (name, flat(tensor))).collect();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    tensors
}

/// Starts or resumes the run, kills it (no chance to clean up) after `lines` lines of its output; true if it had ended by
/// itself.
fn run_and_kill(pictures: &Path, run: &Path, lines: usize) -> bool {
    let resume: &[&str] = if run.join(FILE).exists() { &["--resume"] } else { &["--overwrite"] };
    // Killed before its first checkpoint, a run left a folder that only a fresh start can use.
    if resume == ["--overwrite"] && run.exists() {
        std::fs::remove_dir_all(run).unwrap();
    }
    let mut child = pretrain(pictures, run, resume).spawn().unwrap();
    let said = BufReader::new(child.stderr.take().unwrap()).lines();
    let heard: Vec<String> = said.map(Result::unwrap).take(lines).collect();
    let killed = child.kill().is_ok();
    let status = child.wait().unwrap();
    assert!(killed || status.success(), "{heard:?}");
    heard.iter().any(|line| line.starts_with("finished"))
}

#[test]
fn a_run_killed_at_random_steps_ends_bit_for_bit_like_one_left_alone() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, whole, killed) =
        (root.path().join("pictures"), root.path().join("whole"), root.path().join("killed"));
    micro::write_pictures(&pictures, 8);
    assert!(pretrain(&pictures, &whole, &[]).output().unwrap().status.success());

    let mut random =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().subsec_nanos();
    let mut kills = Vec::new();
    loop {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // A step says one line, its checkpoint.
        let lines = 4 + (random >> 16) as usize % 24;
        kills.push(lines);
        if run_and_kill(&pictures, &killed, lines) {
            break;
        }
        assert!(kills.len() < 100, "it does not get on: {kills:?}");
    }
    assert!(kills.len() > 1, "it was never killed");
    for (ours, theirs) in tensors(&whole).iter().zip(&tensors(&killed)) {
        assert!(ours == theirs, "{} differs from {} after kills at {kills:?}", ours.0, theirs.0);
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_the_last_checkpoint() {
    let root = tempfile::tempdir().unwrap();
    let (pictures, run) = (root.path().join("pictures"), root.path().join("run"));
    micro::write_pictures(&pictures, 8);
    let output = pretrain(&pictures, &run, &["--max-minutes", "0"]).output().unwrap();
    assert!(output.status.success());
    let before = tensors(&run);

    // No file may grow beyond 8 kB: what writing to a full disk looks like, without one.
    let resume = pretrain(&pictures, &run, &["--resume"]);
    let arguments: Vec<PathBuf> = resume.get_args().map(PathBuf::from).collect();
    let output = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 16; exec \"$0\" \"$@\""])
        .arg(resume.get_program())
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert!(said.contains("checkpoint.safetensors.partial") && said.contains("make room"), "{said}");
    assert!(said.contains("the last good checkpoint is"), "{said}");
    assert!(!run.join("checkpoint.safetensors.partial").exists(), "what was not finished is removed");
    assert!(before == tensors(&run));
    let output = pretrain(&pictures, &run, &["--resume"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
