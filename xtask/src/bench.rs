//! Benchmarks, with the programs they compare.

use crate::commands::{cargo, root, run};
use crate::cuda;
use crate::python::{Purpose, environment};
use anyhow::Result;
use std::path::PathBuf;

/// Runs `dozen-bench` optimised, with the programs it compares ready.
pub(crate) fn bench(arguments: &[String]) -> Result<()> {
    let mut command = cargo();
    command.args(["run", "--quiet", "--release", "--package", "dozen-bench", "--"]).args(arguments);
    match arguments.first().map(String::as_str) {
        Some("logistic") => {
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Learning)?);
        }
        Some("encoder") => {
            let release = build(&["--example", "bench_encoder"])?;
            command.env("DOZEN_BENCH_ENCODER", release.join("examples/bench_encoder"));
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Engines)?);
        }
        Some("budget") => {
            let release = build(&["--bin", "dozen-train", "--example", "bench_encoder"])?;
            command.env("DOZEN_BENCH_ENCODER", release.join("examples/bench_encoder"));
            command.env("DOZEN_BENCH_TRAINER", release.join("dozen-train"));
        }
        Some("fewshot") => {
            let release = build(&["--bin", "dozen-train"])?;
            command.env("DOZEN_BENCH_TRAINER", release.join("dozen-train"));
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Learning)?);
        }
        Some("serve") => {
            let release = build(&["--bin", "dozen", "--example", "bench_encoder"])?;
            command.env("DOZEN_BENCH_ENCODER", release.join("examples/bench_encoder"));
            command.env("DOZEN_BENCH_SERVER", release.join("dozen"));
        }
        Some("gpu") => {
            if !cuda::has_gpu() {
                println!(
                    "there is no NVIDIA GPU here: nothing was measured, and docs/performance.md is as it was"
                );
                return Ok(());
            }
            let release = build_with_cuda("dozen-models", &["--example", "bench_encoder"])?;
            command.env("DOZEN_BENCH_ENCODER", release.join("examples/bench_encoder"));
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Engines)?);
        }
        Some("preprocess") => {
            let release = build(&["--example", "bench_preprocess"])?;
            command.env("DOZEN_BENCH_PREPROCESS", release.join("examples/bench_preprocess"));
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Engines)?);
        }
        Some("train") => {
            let has_gpu = cuda::has_gpu();
            let example = ["--example", "bench_steps"];
            let release =
                if has_gpu { build_with_cuda("dozen-trainer", &example)? } else { build(&example)? };
            command.env("DOZEN_BENCH_STEPS", release.join("examples/bench_steps"));
            command.env("DOZEN_BENCH_CUDA", has_gpu.to_string());
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Tests)?);
        }
        Some("twin") => {
            let release = build(&["--bin", "dozen-train", "--example", "bench_feed"])?;
            command.env("DOZEN_BENCH_TRAINER", release.join("dozen-train"));
            command.env("DOZEN_BENCH_FEED", release.join("examples/bench_feed"));
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Tests)?);
        }
        Some("index") => {
            command.env("DOZEN_BENCH_PYTHON", environment(Purpose::Index)?);
        }
        _ => (),
    }
    run(&mut command)
}

/// Builds programs, optimised; the folder they are in. As parts of the whole workspace: for a package alone cargo chooses
/// other features of shared dependencies, and would compile them all again.
fn build(programs: &[&str]) -> Result<PathBuf> {
    run(cargo().args(["build", "--quiet", "--release", "--workspace"]).args(programs))?;
    Ok(root().join("target/release"))
}

fn build_with_cuda(package: &str, programs: &[&str]) -> Result<PathBuf> {
    let build = ["build", "--quiet", "--release", "--package", package, "--features", "cuda"];
    Ok(cuda::cargo_with_toolkit(&[&build[..], programs].concat())?.join("release"))
}
