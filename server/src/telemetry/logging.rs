//! Log lines on standard error; standard output belongs to the start-up banner and to generated text.

use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Installs the process's log subscriber. `level` is a level (`info`) or a filter (`dozen=debug,tower_http=warn`).
///
/// A second call in one process leaves the first subscriber in place.
pub fn init(level: &str, json: bool) -> Result<(), tracing_subscriber::filter::ParseError> {
    let filter = EnvFilter::builder().parse(level)?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    let _installed_before =
        if json { builder.json().flatten_event(true).try_init() } else { builder.try_init() };
    Ok(())
}
