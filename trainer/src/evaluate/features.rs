//! One unit vector per image.

use crate::Error;
use crate::data::{ImageSet, Skipped};
use dozen_models::Encoder;
use dozen_models::image::{Filter, Preprocessor, Resize};
use rayon::prelude::*;

/// Where features come from.
pub enum FeatureSource {
    /// A loaded encoder.
    Encoder(Box<Encoder>),
    /// The pixels themselves, squashed to 32 × 32: the floor any encoder must beat.
    RawPixels,
}

/// Side of raw pixel features.
const RAW_SIDE: u32 = 32;
/// Images embedded in one call.
const BATCH: usize = 64;

/// Features of a set, with the names and labels of the images that could be read.
pub struct Features {
    /// Names, in the order of the set.
    pub names: Vec<String>,
    /// Position of each image's label in `classes`.
    pub labels: Vec<usize>,
    /// The labels, sorted.
    pub classes: Vec<String>,
    /// Unit vectors.
    pub vectors: Vec<Vec<f32>>,
}

impl FeatureSource {
    /// Name for tables.
    pub fn name(&self) -> String {
        match self {
            Self::Encoder(encoder) => encoder.info().name.clone(),
            Self::RawPixels => format!("raw pixels, {RAW_SIDE}×{RAW_SIDE}"),
        }
    }

    fn preprocessor(&self) -> Preprocessor {
        match self {
            Self::Encoder(encoder) => encoder.preprocessor().clone(),
            Self::RawPixels => Preprocessor {
                resize: Resize::Squash { size: RAW_SIDE },
                filter: Filter::Bilinear,
                mean: crate::views::MEAN,
                std: crate::views::STD,
            },
        }
    }

    /// Embeds every image that can be read, `progress` being told how many more are done. The others are returned.
    pub fn embed(
        &self,
        set: &ImageSet,
        progress: impl Fn(usize) + Sync,
    ) -> Result<(Features, Vec<Skipped>), Error> {
        let preprocessor = self.preprocessor();
        let positions: Vec<usize> = (0..set.len()).collect();
        let embedded: Vec<Vec<Result<Vec<f32>, Skipped>>> = positions
            .par_chunks(BATCH)
            .map(|positions| {
                let crops: Vec<_> = positions
                    .iter()
                    .map(|&position| set.image(position).map(|image| preprocessor.crop(&image)))
                    .collect();
                let readable: Vec<_> = crops.iter().filter_map(|crop| crop.as_ref().ok().cloned()).collect();
                let mut vectors = match self {
                    Self::Encoder(encoder) => encoder.embed(&readable, 1.0)?,
                    Self::RawPixels => raw_vectors(&preprocessor.normalise(&readable)),
                }
                .into_iter();
                progress(positions.len());
                let pair = |crop: Result<_, Skipped>| crop.map(|_| vectors.next().unwrap_or_default());
                Ok(crops.into_iter().map(pair).collect())
            })
            .collect::<Result<_, Error>>()?;
        Ok(gather(set, embedded.into_iter().flatten()))
    }
}

fn gather(
    set: &ImageSet,
    embedded: impl Iterator<Item = Result<Vec<f32>, Skipped>>,
) -> (Features, Vec<Skipped>) {
    let mut skipped = set.skipped().to_vec();
    let (mut names, mut found_labels, mut vectors) = (Vec::new(), Vec::new(), Vec::new());
    for (item, result) in set.items().iter().zip(embedded) {
        match result {
            Ok(vector) => {
                names.push(item.name.clone());
                found_labels.push(item.label.as_str());
                vectors.push(vector);
            }
            Err(reason) => skipped.push(reason),
        }
    }
    let mut classes: Vec<&str> = found_labels.clone();
    classes.sort_unstable();
    classes.dedup();
    let labels = found_labels.iter().map(|label| classes.partition_point(|class| class < label)).collect();
    let classes = classes.into_iter().map(str::to_owned).collect();
    (Features { names, labels, classes, vectors }, skipped)
}

/// Each image's pixels, less their mean, to unit length: what encoders' features go through as well.
fn raw_vectors(pixels: &[f32]) -> Vec<Vec<f32>> {
    let length = 3 * (RAW_SIDE * RAW_SIDE) as usize;
    let unit = |pixels: &[f32]| {
        let mean = pixels.iter().sum::<f32>() / length as f32;
        let norm = pixels.iter().map(|value| (value - mean).powi(2)).sum::<f32>().sqrt();
        if norm < 1e-6 {
            // An image of one colour has no direction: a constant one keeps it comparable.
            return vec![1.0 / (length as f32).sqrt(); length];
        }
        pixels.iter().map(|value| (value - mean) / norm).collect()
    };
    pixels.chunks_exact(length).map(unit).collect()
}
