//! `cargo xtask test`: every check there is, cheapest first.

use crate::commands::{cargo, run};
use crate::{boundaries, cuda};
use anyhow::Result;
use std::time::Instant;

/// Runs all checks and stops at the first that fails.
pub(crate) fn all() -> Result<()> {
    let started = Instant::now();
    step("format", || run_cargo(&["fmt", "--all", "--check"]))?;
    step("boundaries and licences", boundaries::check)?;
    step("clippy", || {
        run_cargo(&["clippy", "--locked", "--workspace", "--all-targets", "--", "-D", "warnings"])
    })?;
    step("documentation", || {
        run(cargo()
            .args(["doc", "--locked", "--workspace", "--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "-D warnings"))
    })?;
    step("CUDA build", cuda::check_if_possible)?;
    // Builds the programs too, before any test runs: the black-box suites start them. A build of their own would unify features
    // differently and compile every dependency twice.
    step("tests", || run_cargo(&["test", "--locked", "--workspace"]))?;
    println!("all checks passed in {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}

fn run_cargo(arguments: &[&str]) -> Result<()> {
    run(cargo().args(arguments))
}

fn step(name: &str, check: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("── {name}");
    let started = Instant::now();
    check()?;
    println!("── {name}: ok, {:.0} s", started.elapsed().as_secs_f64());
    Ok(())
}
