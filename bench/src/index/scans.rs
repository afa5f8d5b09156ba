//! Every vector compared: ours and faiss's.

use super::{Line, NEIGHBOURS, Run, anonymous_memory, ask_peer, compare, ids, peer, recall};
use anyhow::{Result, ensure};
use dozen_fewshot::index::{ExactIndex, VectorIndex};
use std::time::Instant;

/// Names in bench/python/index_peer.py: one query at a time, and all together.
const PEERS: [&str; 2] = ["faiss-flat", "faiss-flat-batch"];
const KIND: &str = "exact scan";

/// The true neighbours of every query, and the lines of the table.
pub(super) fn measure(run: &Run<'_>) -> Result<(Vec<Vec<u64>>, Vec<Line>)> {
    let (memory, start) = (anonymous_memory()?, Instant::now());
    let mut scan = ExactIndex::new(super::DIMENSIONS);
    run.data.each(|id, vector| Ok(scan.insert(id, vector)?))?;
    let build = start.elapsed().as_secs_f64();
    let line = |name, seconds, mebibytes| Line {
        name,
        kind: KIND,
        build: Some([seconds, mebibytes]),
        recall: 1.0,
        rates: Vec::new(),
        ratios: Vec::new(),
    };
    let mut lines = vec![line("ours, exact scan".to_owned(), build, anonymous_memory()? - memory)];
    let mut peers = Vec::new();
    for name in PEERS {
        let (process, name, built) = peer(run, name)?;
        lines.push(line(name, built.seconds, built.mebibytes));
        peers.push(process);
    }
    let ask = || -> Result<(f64, Vec<Vec<u64>>)> {
        let start = Instant::now();
        let answers = run.data.queries.iter().map(|query| scan.search(query, NEIGHBOURS, &|_| true));
        let answers: Vec<_> = answers.collect::<Result<_, _>>()?;
        Ok((start.elapsed().as_secs_f64(), answers.iter().map(|hits| ids(hits)).collect()))
    };
    let mut truth = Vec::new();
    let mut seconds = vec![Vec::new(); lines.len()];
    // Every round of the largest takes minutes, and scans vary little.
    for round in 0..if run.is_largest { 1 } else { run.rounds } {
        for turn in 0..lines.len() {
            // Whoever comes later finds the machine in another state: begin elsewhere every time.
            let side = (turn + round) % lines.len();
            let (taken, answers) = match side.checked_sub(1) {
                None => ask()?,
                Some(peer) => ask_peer(run, &mut peers[peer], 0, 1)?,
            };
            seconds[side].push(taken);
            if side == 0 {
                truth = answers;
            } else if !truth.is_empty() {
                lines[side].recall = recall(&answers, &truth);
                ensure!(lines[side].recall > 0.999, "{} finds other vectors than ours", lines[side].name);
            }
        }
    }
    let (rates, ratios) = compare(&seconds, 0);
    for (line, (rate, ratio)) in lines.iter_mut().zip(rates.into_iter().zip(ratios)) {
        (line.rates, line.ratios) = (vec![rate], vec![ratio]);
    }
    Ok((truth, lines))
}
