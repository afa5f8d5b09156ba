//! Benchmarks: ours and its peers on the same inputs, in interleaved rounds of one run, as ratios.
#![expect(clippy::print_stdout, reason = "tables go to standard output")]

mod budget;
mod child;
mod encoder;
mod fewshot;
mod gpu;
mod index;
mod logistic;
mod preprocess;
mod report;
mod serve;
mod sides;
mod train;
mod twin;

use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Ours beside its peers. Use `cargo xtask bench`, which builds this with optimisation.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    bench: Bench,
}

#[derive(Subcommand)]
enum Bench {
    /// The vector index beside hnswlib, faiss, usearch and hnsw_rs; about 20 minutes, 5 GB of memory and 2 GB on disk.
    Index {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: index::Programs,
    },
    /// Fitting a logistic head beside scikit-learn and cyanure.
    Logistic {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: logistic::Programs,
    },
    /// Embedding images beside PyTorch, ONNX Runtime and OpenVINO.
    Encoder {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: sides::Programs,
    },
    /// Embedding images on a CUDA device beside PyTorch and ONNX Runtime.
    Gpu {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: sides::Programs,
    },
    /// Embedding some of an image's patches beside all of them.
    Budget {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        labelled: budget::Labelled,
        #[command(flatten)]
        programs: budget::Programs,
    },
    /// Heads on few labelled images beside scikit-learn's; writes docs/label-efficiency.md.
    Fewshot {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        labelled: fewshot::Labelled,
        #[command(flatten)]
        programs: fewshot::Programs,
    },
    /// A photo through the whole server beside decoding and embedding it alone.
    Serve {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: serve::Programs,
    },
    /// Decoding and cropping photos beside Pillow, OpenCV and torchvision.
    Preprocess {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: preprocess::Programs,
    },
    /// A training step beside the same step in PyTorch.
    Train {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        programs: train::Programs,
    },
    /// A whole run beside the same run in PyTorch: what each encoder knows at the end.
    Twin {
        #[command(flatten)]
        options: Options,
        #[command(flatten)]
        experiment: twin::Experiment,
        #[command(flatten)]
        programs: twin::Programs,
    },
}

#[derive(Args)]
struct Options {
    /// The smaller cases only, about a minute; leaves docs/performance.md as it is.
    #[arg(long)]
    quick: bool,
    /// Also write the rows to this file.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().bench {
        Bench::Index { options, programs } => index::run(&options, &programs),
        Bench::Logistic { options, programs } => logistic::run(&options, &programs),
        Bench::Encoder { options, programs } => encoder::run(&options, &programs),
        Bench::Budget { options, labelled, programs } => budget::run(&options, &labelled, &programs),
        Bench::Fewshot { options, labelled, programs } => fewshot::run(&options, &labelled, &programs),
        Bench::Serve { options, programs } => serve::run(&options, &programs),
        Bench::Gpu { options, programs } => gpu::run(&options, &programs),
        Bench::Preprocess { options, programs } => preprocess::run(&options, &programs),
        Bench::Train { options, programs } => train::run(&options, &programs),
        Bench::Twin { options, experiment, programs } => twin::run(&options, &experiment, &programs),
    }
}
