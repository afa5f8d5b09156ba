//! One unit vector per image.

use crate::Error;
use crate::data::order::{Purpose, keyed_rng};
use crate::data::{ImageSet, Skipped};
use crate::msn::{kept_patches, random_patches};
use crate::views::ViewRenderer;
use dozen_models::image::{Filter, Preprocessor, Resize, RgbImage};
use dozen_models::{Budget, Encoder};
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

/// How images are seen.
#[derive(Clone, Copy, Debug, Default)]
pub enum Sight {
    /// As the model's preprocessing has it.
    #[default]
    Whole,
    /// So, but for a share of the patches, other ones of each image.
    Hiding {
        /// The share.
        share: f64,
        /// Seed of the choice.
        seed: u64,
    },
    /// So, but within a patch budget, as a server embeds.
    Within(Budget),
    /// A random crop of 8 to 100 % of the area, flipped or not: number `crop` of each image.
    RandomCrop {
        /// Which.
        crop: usize,
        /// Seed of the crops.
        seed: u64,
    },
}

/// Range of a random crop's share of the area (arXiv 2204.07141, linear evaluation).
const CROP_AREA: (f64, f64) = (0.08, 1.0);

/// Features of a set, with the names and labels of the images that could be read.
#[derive(Clone, Debug)]
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
        self.embed_seen(set, Sight::Whole, progress)
    }

    /// The same, seen in another way.
    pub fn embed_seen(
        &self,
        set: &ImageSet,
        sight: Sight,
        progress: impl Fn(usize) + Sync,
    ) -> Result<(Features, Vec<Skipped>), Error> {
        let preprocessor = self.preprocessor();
        let positions: Vec<usize> = (0..set.len()).collect();
        let embedded: Vec<Vec<Result<Vec<f32>, Skipped>>> = positions
            .par_chunks(BATCH)
            .map(|positions| {
                let mut crops = Vec::with_capacity(positions.len());
                for &position in positions {
                    crops.push(match set.image(position) {
                        Ok(image) => Ok((position, crop(&preprocessor, &image, sight, position)?)),
                        Err(skipped) => Err(skipped),
                    });
                }
                let (places, readable): (Vec<usize>, Vec<RgbImage>) =
                    crops.iter().filter_map(|crop| crop.as_ref().ok().cloned()).unzip();
                let mut vectors = self.vectors(&preprocessor, &readable, &places, sight)?.into_iter();
                progress(positions.len());
                let pair = |crop: Result<_, Skipped>| crop.map(|_| vectors.next().unwrap_or_default());
                Ok(crops.into_iter().map(pair).collect())
            })
            .collect::<Result<_, Error>>()?;
        Ok(gather(set, embedded.into_iter().flatten()))
    }

    /// Of crops of the images at `positions`.
    fn vectors(
        &self,
        preprocessor: &Preprocessor,
        crops: &[RgbImage],
        positions: &[usize],
        sight: Sight,
    ) -> Result<Vec<Vec<f32>>, Error> {
        match (self, sight) {
            (Self::Encoder(encoder), Sight::Hiding { share, seed }) => {
                let count = kept_patches(encoder.patches(), share);
                let kept = |&position: &usize| {
                    let mut rng = keyed_rng(seed, Purpose::Hide, position as u64, 0, 0);
                    random_patches(encoder.patches(), count, &mut rng)
                };
                Ok(encoder.embed_kept(crops, &positions.iter().map(kept).collect::<Vec<_>>())?)
            }
            (Self::Encoder(encoder), Sight::Within(budget)) => {
                let embeddings = encoder.embed_within(crops, &budget)?;
                Ok(embeddings.into_iter().map(|embedding| embedding.vector).collect())
            }
            (Self::Encoder(encoder), _) => Ok(encoder.embed(crops, 1.0)?),
            (Self::RawPixels, Sight::Hiding { .. } | Sight::Within(_)) => {
                Err(Error::Evaluation("raw pixels have no patches to drop".into()))
            }
            (Self::RawPixels, _) => Ok(raw_vectors(&preprocessor.normalise(crops))),
        }
    }
}

fn crop(
    preprocessor: &Preprocessor,
    image: &RgbImage,
    sight: Sight,
    position: usize,
) -> Result<RgbImage, Error> {
    let Sight::RandomCrop { crop, seed } = sight else { return Ok(preprocessor.crop(image)) };
    let mut rng = keyed_rng(seed, Purpose::View, position as u64, crop as u32, 0);
    let side = preprocessor.crop_size() as usize;
    let pixels = ViewRenderer::default().crop_and_flip(image, side, CROP_AREA, 0.5, &mut rng)?;
    Ok(RgbImage { width: side as u32, height: side as u32, pixels })
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
