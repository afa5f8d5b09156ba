//! Building with CUDA where no CUDA is installed: the toolkit comes from PyPI's NVIDIA packages (xtask/cuda-env.sh).

use crate::commands::{cargo, root, run};
use anyhow::Result;
use std::path::PathBuf;
use std::process::Command;

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

/// Runs cargo where it finds the CUDA toolkit; returns its target folder.
pub(crate) fn cargo_with_toolkit(arguments: &[&str]) -> Result<PathBuf> {
    let target = root().join("target/cuda");
    // The script prints the `export` lines that cudarc, cudaforge and the linker read.
    let with_toolkit =
        "exports=$(bash xtask/cuda-env.sh target/cuda-toolkit) && eval \"$exports\" && exec \"$@\"";
    let mut command = Command::new("bash");
    command.current_dir(root()).args(["-c", with_toolkit, "with-toolkit"]).arg(cargo().get_program());
    run(command.args(arguments).args(["--locked", "--target-dir"]).arg(&target))?;
    Ok(target)
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
