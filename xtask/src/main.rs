//! One entry for people and CI: `cargo xtask {test,fixtures,interop,openapi,bench,cuda}`.

#![expect(clippy::print_stdout, reason = "a command-line program that reports what it does")]

mod bench;
mod boundaries;
mod checks;
mod commands;
mod cuda;
mod python;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// The project's chores.
#[derive(Parser)]
#[command(name = "cargo xtask", version, about)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Every check there is: format, boundaries and licences, clippy, tests, docs, the CUDA build. CI runs nothing else.
    Test,
    /// Rewrites tests/fixtures with the Python packages our code is compared to (pinned, in a virtual environment).
    Fixtures {
        /// Only these topics, for example `vit`; all when none is named.
        topics: Vec<String>,
    },
    /// Proves the live directions: what we export loads in `transformers` and gives the same numbers.
    Interop,
    /// Rewrites openapi/openapi.json from the server's code.
    Openapi,
    /// Runs a benchmark beside its peers and writes its table into docs/performance.md.
    Bench {
        /// Arguments of the benchmark program: its name, `--quick`, `--json FILE`.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        arguments: Vec<String>,
    },
    /// Builds the server and the trainer with CUDA; needs no GPU and no CUDA installation, only python3 with pip.
    Cuda {
        /// Optimised programs in target/cuda/release instead of a compile check.
        #[arg(long)]
        release: bool,
        /// The trainer for several GPUs; it needs libnccl.so.2 where it runs.
        #[arg(long, requires = "release")]
        nccl: bool,
        /// Runs the tests for a GPU instead; where there is none, on an emulated driver.
        #[arg(long, conflicts_with = "release")]
        test: bool,
    },
}

fn main() -> Result<()> {
    match Arguments::parse().chore {
        Chore::Test => checks::all(),
        Chore::Fixtures { topics } => python::fixtures(&topics),
        Chore::Interop => python::interop(),
        Chore::Openapi => commands::write_openapi(),
        Chore::Bench { arguments } => bench::bench(&arguments),
        Chore::Cuda { test: true, .. } => cuda::test(),
        Chore::Cuda { release: true, nccl, .. } => cuda::build(cuda::Build::Release { nccl }),
        Chore::Cuda { release: false, .. } => cuda::build(cuda::Build::Check),
    }
}
