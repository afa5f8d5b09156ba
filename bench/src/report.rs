//! Results as rows of JSON and as tables in docs/performance.md.

use anyhow::{Context, Result};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// One measured case.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) bench: &'static str,
    pub(crate) case: String,
    pub(crate) unit: &'static str,
    pub(crate) ours: f64,
    pub(crate) peer: String,
    pub(crate) peer_value: f64,
    /// Above 1 means that ours is better.
    pub(crate) ratio: f64,
    /// How far the two give the same answers, 1 being wholly.
    pub(crate) agreement: f64,
}

/// Writes the rows as a JSON list.
pub(crate) fn write_json(path: &Path, rows: &[Row]) -> Result<()> {
    let text = serde_json::to_string_pretty(rows)? + "\n";
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Puts a table between the markers of `bench` in docs/performance.md.
pub(crate) fn write_documentation(bench: &str, table: &str) -> Result<()> {
    write_page("docs/performance.md", bench, table)
}

/// Puts text between the markers of `bench` in a page of the repository.
pub(crate) fn write_page(page: &str, bench: &str, text: &str) -> Result<()> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(page);
    let page = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let page = between_markers(&page, bench, text)
        .with_context(|| format!("{} has no markers for bench:{bench}", path.display()))?;
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn between_markers(page: &str, bench: &str, table: &str) -> Option<String> {
    let (start, end) = (format!("<!-- bench:{bench} -->"), format!("<!-- /bench:{bench} -->"));
    let (before, rest) = page.split_once(&start)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{start}\n{table}{end}{after}"))
}

/// The processor, how many of its threads this process may use, and how busy they are.
pub(crate) fn machine() -> String {
    let processor = std::fs::read_to_string("/proc/cpuinfo").ok().and_then(|text| {
        let line = text.lines().find(|line| line.starts_with("model name"))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    });
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").ok();
    let load = load.as_deref().and_then(|text| text.split(' ').next()).unwrap_or("unknown");
    let processor = processor.as_deref().unwrap_or(std::env::consts::ARCH);
    format!("{processor} ({threads} threads, load average {load})")
}

/// The middle value; of an even number, the upper of the two.
pub(crate) fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_markers_changes() {
        let page = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb\n<!-- bench:y -->\n<!-- /bench:y -->\n";
        let once = between_markers(page, "x", "new\n").unwrap();
        assert_eq!(
            once,
            "a\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nb\n<!-- bench:y -->\n<!-- /bench:y -->\n"
        );
        assert_eq!(between_markers(&once, "x", "new\n").as_ref(), Some(&once));
        assert_eq!(between_markers(page, "z", "new\n"), None);
    }

    #[test]
    fn the_median_is_of_the_sorted_values() {
        assert!((median(vec![5.0, 1.0, 3.0]) - 3.0).abs() < f64::EPSILON);
    }
}
