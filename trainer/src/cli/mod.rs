//! The command line.

mod adapt;
mod data;
mod embed;
mod evaluate;
mod export;
mod pretrain;
mod report;
mod sweep;

use anyhow::{Context as _, Result};
use candle_core::Device;
use clap::{Parser, Subcommand, ValueEnum};
use dozen_trainer::data::{DataOptions, ImageSet, Skipped};
use std::path::PathBuf;

/// Pre-trains Vision Transformers on unlabelled images with Masked Siamese Networks, evaluates them with few labels, and
/// exports them.
#[derive(Parser)]
#[command(name = "dozen-train", version, max_term_width = 110)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Trains an encoder on unlabelled images.
    Pretrain(pretrain::Arguments),
    /// Trains a trained encoder a little further on your own unlabelled pictures.
    Adapt(adapt::Arguments),
    /// Trains and evaluates several variants of one configuration.
    Sweep(sweep::Arguments),
    /// Writes the vectors of images to a safetensors file.
    Embed(embed::Arguments),
    /// Measures an encoder.
    Eval {
        #[command(subcommand)]
        what: evaluate::Evaluation,
    },
    /// Looks after data sets.
    Data {
        #[command(subcommand)]
        what: DataCommand,
    },
    /// Writes a model folder from a training checkpoint.
    Export(export::Arguments),
    /// About the configuration of a run.
    Config {
        #[command(subcommand)]
        what: Configuration,
    },
    /// Writes a run's report again: curves, prototypes, nearest neighbours, warnings, on one HTML page.
    Report(report::Arguments),
}

#[derive(Subcommand)]
enum DataCommand {
    /// Reads every image once and says what a run will find: classes, sizes, duplicates, what cannot be read.
    Check(data::Arguments),
}

#[derive(Subcommand)]
enum Configuration {
    /// Prints a page with every key: its type, what is allowed, the default, what it does.
    Docs,
}

/// Where tensors live.
#[derive(Clone, Copy, ValueEnum)]
enum DeviceArgument {
    /// A CUDA device where this build and machine have one, otherwise the CPU.
    Auto,
    /// The CPU.
    Cpu,
}

impl DeviceArgument {
    /// `gpu` is the number of the CUDA device.
    fn open(self, gpu: usize) -> Result<Device> {
        match self {
            Self::Auto => Device::cuda_if_available(gpu).context("cannot use the CUDA device"),
            Self::Cpu => Ok(Device::Cpu),
        }
    }
}

/// Parses the arguments of the process and does what they say.
pub(crate) fn run() -> Result<()> {
    match Arguments::parse().command {
        Command::Pretrain(arguments) => pretrain::run(&arguments),
        Command::Adapt(arguments) => adapt::run(&arguments),
        Command::Sweep(arguments) => sweep::run(&arguments),
        Command::Embed(arguments) => embed::run(&arguments),
        Command::Eval { what } => evaluate::run(&what),
        Command::Data { what: DataCommand::Check(arguments) } => data::run(&arguments),
        Command::Export(arguments) => export::run(&arguments),
        Command::Config { what: Configuration::Docs } => {
            print(dozen_trainer::config::documentation().trim_end());
            Ok(())
        }
        Command::Report(arguments) => report::run(&arguments),
    }
}

/// Unreadable pictures named one by one; beyond this many only their number is given.
const NAMED: usize = 10;

/// Opens a set of images and says what was left out.
fn open_images(paths: &[PathBuf], options: &DataOptions) -> Result<ImageSet> {
    note(&format!("reading {}", join(paths)));
    let set = ImageSet::open(paths, options).context("cannot read the images")?;
    for source in set.sources() {
        note(&source.to_string());
    }
    warn_of(set.skipped());
    let place = if set.in_memory() { "decoded in memory" } else { "decoded batch by batch" };
    note(&format!("{} images, {place}", set.len()));
    Ok(set)
}

fn join(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

fn warn_of(skipped: &[Skipped]) {
    for Skipped { name, reason } in skipped.iter().take(NAMED) {
        note(&format!("warning: {name} is left out: {reason}"));
    }
    if skipped.len() > NAMED {
        note(&format!("warning: {} images are left out in all", skipped.len()));
    }
}

/// Says something to the person at the terminal.
#[expect(clippy::print_stderr, reason = "the command line's own voice; results go to stdout")]
fn note(message: &str) {
    eprintln!("{message}");
}

/// Prints a result.
#[expect(clippy::print_stdout, reason = "the results a caller asked for")]
fn print(result: &str) {
    println!("{result}");
}
