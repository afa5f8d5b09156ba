//! `dozen-train embed`.

use super::evaluate::{ModelArguments, embed, read_images};
use super::note;
use anyhow::{Context as _, Result};
use clap::Args;
use dozen_models::{Budget, Keep, Selection};
use dozen_trainer::evaluate::{Features, Sight};
use safetensors::tensor::{Dtype, TensorView};
use std::collections::HashMap;
use std::path::PathBuf;

#[derive(Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    model: ModelArguments,
    /// Images: folders (of classes), archives of them, WebDataset shards or Parquet files.
    #[arg(long, required = true, num_args = 1.., value_name = "PATH")]
    data: Vec<PathBuf>,
    /// The safetensors file to write: `vectors` (images × D), `views` (views × images × D) and `labels` (images); names of
    /// images and classes as JSON lists in its metadata.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Also embed each image so many times with patches hidden at random.
    #[arg(long, default_value_t = 0, value_name = "N")]
    views: u32,
    /// Share of the patches that a view keeps.
    #[arg(long, default_value_t = 0.5, value_name = "SHARE")]
    keep: f32,
    /// Seed of the views.
    #[arg(long, default_value_t = 0)]
    seed: u64,
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let source = arguments.model.load()?;
    let set = read_images(&arguments.data)?;
    let whole = embed(&source, &set, Sight::Whole)?;
    let mut views = Vec::new();
    for view in 0..u64::from(arguments.views) {
        let selection = Selection::Random { seed: arguments.seed + view };
        let budget = Budget { keep: Keep::Share(arguments.keep), selection, masks: 1 };
        views.extend(bytes(&embed(&source, &set, Sight::Within(budget))?));
    }
    let (images, width) = (whole.vectors.len(), whole.vectors.first().map_or(0, Vec::len));
    let vectors = bytes(&whole);
    let labels: Vec<u8> = whole.labels.iter().flat_map(|&label| (label as i64).to_le_bytes()).collect();
    let mut tensors = vec![
        ("vectors", TensorView::new(Dtype::F32, vec![images, width], &vectors)?),
        ("labels", TensorView::new(Dtype::I64, vec![images], &labels)?),
    ];
    if arguments.views > 0 {
        let shape = vec![arguments.views as usize, images, width];
        tensors.push(("views", TensorView::new(Dtype::F32, shape, &views)?));
    }
    let metadata = HashMap::from([
        ("model".to_owned(), source.name()),
        ("images".to_owned(), serde_json::to_string(&whole.names)?),
        ("classes".to_owned(), serde_json::to_string(&whole.classes)?),
    ]);
    let path = arguments.out.display();
    safetensors::serialize_to_file(tensors, Some(metadata), &arguments.out)
        .with_context(|| format!("cannot write {path}"))?;
    note(&format!("{path}: {images} vectors of {width} numbers, {} views of each", arguments.views));
    Ok(())
}

/// The vectors as little-endian f32.
fn bytes(features: &Features) -> Vec<u8> {
    features.vectors.iter().flatten().flat_map(|value| value.to_le_bytes()).collect()
}
