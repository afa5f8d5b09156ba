//! Learning from few labels, on images, beside scikit-learn: accuracy, honesty, unknowns, and which image to label next.

mod answers;
mod data;
mod labels;
mod page;
mod peers;
mod plot;
mod strangers;

use crate::Options;
use crate::report::write_json;
use answers::{Contestant, Marks, marks};
use anyhow::Result;
use data::Set;
use dozen_fewshot::heads::PrototypeHead;
use labels::{Curves, curves};
use peers::{Peer, PeerMarks};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;
use strangers::{Telling, telling};

/// Labelled images per class.
const SHOTS: [usize; 4] = [1, 2, 5, 13];
const DRAWS: u64 = 20;
const QUICK_SHOTS: [usize; 2] = [1, 5];
const QUICK_DRAWS: u64 = 2;
/// Shots at which unknowns are told.
const TOLD_AT: [usize; 2] = [5, 13];

/// What accuracy is measured on.
#[derive(clap::Args)]
pub(crate) struct Labelled {
    /// Labelled images: class folders or archives of them, one image set each.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    labelled: Vec<PathBuf>,
}

/// The programs; `cargo xtask bench fewshot` makes and names them.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// The trainer, which embeds.
    #[arg(long, env = "DOZEN_BENCH_TRAINER", value_name = "FILE")]
    trainer: PathBuf,
    /// A Python interpreter with scikit-learn.
    #[arg(long, env = "DOZEN_BENCH_PYTHON", value_name = "FILE")]
    python: PathBuf,
}

/// All that was measured on one image set.
struct Outcome {
    set: String,
    classes: usize,
    /// By contestant, then by shots: one for each draw.
    heads: Vec<(String, BTreeMap<usize, Vec<Marks>>)>,
    peers: BTreeMap<String, BTreeMap<usize, Vec<PeerMarks>>>,
    peer_version: String,
    strangers: BTreeMap<usize, Vec<Telling>>,
    curves: Vec<Curves>,
    /// Share of the pool's images whose nearest other image there is of their class.
    purity: f64,
}

pub(crate) fn run(options: &Options, labelled: &Labelled, programs: &Programs) -> Result<()> {
    let (draws, shots) = if options.quick { (QUICK_DRAWS, &QUICK_SHOTS[..]) } else { (DRAWS, &SHOTS[..]) };
    let mut outcomes = Vec::new();
    for images in &labelled.labelled {
        let set = Set::embed(&programs.trainer, images)?;
        let mut peer = Peer::start(&programs.python, &set)?;
        outcomes.push(measure(&set, &mut peer, draws, shots)?);
    }
    let tables = page::tables(&outcomes, draws as usize, update_microseconds()?);
    println!("{tables}");
    if let Some(path) = &options.json {
        write_json(path, &page::rows(&outcomes))?;
    }
    if !options.quick {
        page::write(&outcomes, &tables)?;
    }
    Ok(())
}

fn measure(set: &Set, peer: &mut Peer, draws: u64, shots: &[usize]) -> Result<Outcome> {
    let all = set.all_classes();
    let drawn: Vec<_> = (0..draws).map(|seed| set.draw(seed, &all)).collect();
    let mut heads = Vec::new();
    for contestant in Contestant::all() {
        let mut by_shots = BTreeMap::new();
        for &shots in shots {
            let marks: Vec<Marks> =
                drawn.par_iter().map(|draw| marks(set, draw, shots, contestant)).collect::<Result<_>>()?;
            by_shots.insert(shots, marks);
        }
        println!("{}: {}", set.name, contestant.name());
        heads.push((contestant.name(), by_shots));
    }
    let mut peers: BTreeMap<String, BTreeMap<usize, Vec<PeerMarks>>> = BTreeMap::new();
    for draw in &drawn {
        for &shots in shots {
            for (name, marks) in peer.marks(draw, shots)? {
                peers.entry(name).or_default().entry(shots).or_default().push(marks);
            }
        }
    }
    let mut told = BTreeMap::new();
    for shots in TOLD_AT {
        let tellings: Vec<Telling> =
            (0..draws).into_par_iter().map(|seed| telling(set, seed, shots)).collect::<Result<_>>()?;
        told.insert(shots, tellings);
    }
    let curves = drawn
        .iter()
        .enumerate()
        .map(|(seed, draw)| curves(set, draw, seed as u64, peer))
        .collect::<Result<_>>()?;
    Ok(Outcome {
        set: set.name.clone(),
        classes: set.classes,
        heads,
        peers,
        peer_version: peer.version.clone(),
        strangers: told,
        curves,
        purity: set.purity(&drawn[0].pool)?,
    })
}

/// What taking in one example of 384 dimensions costs the running class means.
fn update_microseconds() -> Result<f64> {
    const DIMENSIONS: usize = 384;
    const UPDATES: usize = 20_000;
    let mut head = PrototypeHead::new(DIMENSIONS);
    let vectors: Vec<Vec<f32>> =
        (0..97).map(|i| (0..DIMENSIONS).map(|d| ((i * 31 + d * 17) % 23) as f32 - 11.0).collect()).collect();
    let start = Instant::now();
    for update in 0..UPDATES {
        head.add((update % 1000) as u64, &vectors[update % vectors.len()])?;
    }
    Ok(1e6 * start.elapsed().as_secs_f64() / UPDATES as f64)
}
