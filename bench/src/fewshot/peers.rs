//! scikit-learn on the same draws, in a process of its own.

use super::data::{Draw, Set};
use crate::child::Program;
use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;
use std::process::Command;

/// A running peer that knows one set.
pub(super) struct Peer {
    process: Program,
    pub(super) version: String,
    /// The file of the vectors lives as long as the peer.
    _exchange: tempfile::TempDir,
}

/// What a peer's head makes of one draw.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct PeerMarks {
    pub(super) accuracy: f64,
    pub(super) calibration_error: f64,
    pub(super) brier: f64,
}

#[derive(Deserialize)]
struct Ready {
    version: String,
}

#[derive(Deserialize)]
struct Chosen {
    chosen: Vec<usize>,
}

impl Peer {
    pub(super) fn start(python: &Path, set: &Set) -> Result<Self> {
        let exchange = tempfile::tempdir()?;
        let file = exchange.path().join("vectors.f32");
        let mut out = std::io::BufWriter::new(std::fs::File::create(&file)?);
        for image in 0..set.labels.len() {
            for component in set.vector(image) {
                out.write_all(&component.to_le_bytes())?;
            }
        }
        out.flush()?;
        let labels = exchange.path().join("labels.json");
        std::fs::write(&labels, json!(set.labels).to_string())?;
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/fewshot_peer.py");
        let mut command = Command::new(python);
        command.arg(script).arg(&file).arg(&labels).arg(set.dimensions.to_string());
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (process, ready): (_, Ready) = Program::start("scikit-learn", &mut command, threads)?;
        Ok(Self { process, version: ready.version, _exchange: exchange })
    }

    /// Marks of every head by its name.
    pub(super) fn marks(&mut self, draw: &Draw, shots: usize) -> Result<BTreeMap<String, PeerMarks>> {
        let request = json!({ "labelled": draw.labelled(shots), "queries": draw.queries });
        let answer: Value = self.process.ask(&request.to_string())?;
        serde_json::from_value(answer).context("scikit-learn's marks")
    }

    /// Images nearest to the centres of as many clusters.
    pub(super) fn k_means(&mut self, pool: &[usize], clusters: usize, seed: u64) -> Result<Vec<usize>> {
        let request = json!({ "pool": pool, "clusters": clusters, "seed": seed });
        Ok(self.process.ask::<Chosen>(&request.to_string())?.chosen)
    }
}
