//! What the black-box suites share: the real programs, started and spoken to as any client would.

#![expect(clippy::expect_used, clippy::panic, reason = "a test fails by panicking, in what it calls too")]

pub mod photos;
mod reply;
mod server;

pub use reply::Reply;
pub use server::{Server, image_form};

use std::path::{Path, PathBuf};
use std::process::Command;

/// The workspace's root folder.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// One of the workspace's programs, built by `cargo test --workspace` beside this test's own binary.
///
/// # Panics
/// When it has not been built.
pub fn program(name: &str) -> Command {
    let own = std::env::current_exe().unwrap_or_default();
    let path = own.ancestors().nth(2).map(|profile| profile.join(name)).unwrap_or_default();
    assert!(path.exists(), "{} is missing: run `cargo test --workspace`", path.display());
    Command::new(path)
}
