//! `dozen-train`: pre-train, evaluate, export.

mod cli;

fn main() -> anyhow::Result<()> {
    cli::run()
}
