//! Building with CUDA where no CUDA is installed: the toolkit comes from PyPI's NVIDIA packages (xtask/cuda-env.sh).

use crate::commands::{cargo, root, run};
use anyhow::Result;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Folders in the workspace's root.
const TARGET: &str = "target/cuda";
const TOOLKIT: &str = "target/cuda-toolkit";

/// What to build, under target/cuda.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Build {
    /// Everything, without linking.
    Check,
    /// Optimised programs; the trainer for several GPUs, which needs NCCL's library to start, or for one.
    Release {
        /// For several GPUs.
        nccl: bool,
    },
}

/// Compiles server and trainer with CUDA.
pub(crate) fn build(build: Build) -> Result<()> {
    let (mut arguments, nccl) = match build {
        Build::Check => {
            // Tests that run where there is a GPU, and our side of a benchmark.
            let of_models =
                ["check", "--package", "dozen-models", "--tests", "--examples", "--features", "cuda"];
            cargo_with_toolkit(&of_models)?;
            (vec!["check"], true)
        }
        Build::Release { nccl } => (vec!["build", "--release"], nccl),
    };
    arguments.extend(["--package", "dozen", "--package", "dozen-trainer", "--features"]);
    arguments.push(if nccl { "dozen/cuda,dozen-trainer/nccl" } else { "dozen/cuda,dozen-trainer/cuda" });
    cargo_with_toolkit(&arguments).map(drop)
}

/// Runs the tests for a CUDA device: on it, or where there is none on an emulated driver.
pub(crate) fn test() -> Result<()> {
    let tests =
        ["test", "--package", "dozen-models", "--features", "cuda", "--lib", "vit::cuda::tests::device"];
    if has_gpu() {
        return cargo_with_toolkit(&tests).map(drop);
    }
    cargo_with_toolkit(&[&tests[..], &["--no-run"]].concat())?;
    let emulator = root().join("target/cuda-emulator");
    let mut make = Command::new("bash");
    make.current_dir(root()).args(["xtask/cuda-emulator.sh", TOOLKIT]).arg(&emulator);
    run(&mut make)?;
    let mut command = with_toolkit(&tests);
    run(command.env("LD_LIBRARY_PATH", emulator))
}

/// Whether the driver has found a device.
pub(crate) fn has_gpu() -> bool {
    Path::new("/dev/nvidia0").exists()
}

/// Runs cargo where it finds the CUDA toolkit; returns its target folder.
pub(crate) fn cargo_with_toolkit(arguments: &[&str]) -> Result<PathBuf> {
    run(&mut with_toolkit(arguments))?;
    Ok(root().join(TARGET))
}

fn with_toolkit(arguments: &[&str]) -> Command {
    // The script prints the `export` lines that cudarc, cudaforge and the linker read.
    let with_toolkit =
        format!("exports=$(bash xtask/cuda-env.sh {TOOLKIT}) && eval \"$exports\" && exec \"$@\"");
    let mut command = Command::new("bash");
    command.current_dir(root()).args(["-c", &with_toolkit, "with-toolkit"]).arg(cargo().get_program());
    // Options of cargo itself come before the name of a test.
    let (chore, rest) = arguments.split_at(1.min(arguments.len()));
    command.args(chore).args(["--locked", "--target-dir", TARGET]).args(rest);
    command
}

/// The compile check as part of `cargo xtask test`; a machine without python3 and pip cannot fetch the toolkit.
pub(crate) fn check_if_possible() -> Result<()> {
    let pip = Command::new("python3").args(["-m", "pip", "--version"]).output();
    if !pip.is_ok_and(|pip| pip.status.success()) {
        println!("SKIPPED: the CUDA toolkit is fetched with python3 and pip, and they are not here");
        return Ok(());
    }
    build(Build::Check)
}
