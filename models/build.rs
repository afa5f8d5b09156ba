//! With feature `cuda`: compiles the kernels to PTX, which the driver turns into machine code where the program runs.

use std::env;
use std::error::Error;
use std::path::PathBuf;
use std::process::Command;

const SOURCES: &str = "src/vit/kernels/cuda/source";

/// Oldest devices the kernels are compiled for.
const ARCHITECTURE: &str = "compute_90";

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={SOURCES}");
    println!("cargo::rerun-if-env-changed=CUDA_HOME");
    println!("cargo::rerun-if-env-changed=NVCC_CCBIN");
    if env::var_os("CARGO_FEATURE_CUDA").is_none() {
        return Ok(());
    }
    let nvcc = env::var_os("CUDA_HOME").map_or("nvcc".into(), |home| PathBuf::from(home).join("bin/nvcc"));
    let ptx = PathBuf::from(env::var("OUT_DIR")?).join("kernels.ptx");
    let mut command = Command::new(&nvcc);
    command.args(["--ptx", "-std=c++17", "-O3", "-arch", ARCHITECTURE, "-o"]).arg(&ptx);
    if let Some(compiler) = env::var_os("NVCC_CCBIN") {
        command.args(["-allow-unsupported-compiler", "-ccbin"]).arg(compiler);
    }
    let status = command.arg(format!("{SOURCES}/kernels.cu")).status().map_err(|error| {
        format!(
            "{}: {error}; set CUDA_HOME to a CUDA toolkit, or build with `cargo xtask cuda`",
            nvcc.display()
        )
    })?;
    if !status.success() {
        return Err(format!("{} failed on {SOURCES}/kernels.cu", nvcc.display()).into());
    }
    Ok(())
}
