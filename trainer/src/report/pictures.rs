//! What the target encoder makes of real images: which prototypes they are nearest to, and which images look alike to it.

use crate::Error;
use crate::data::order::{Purpose, keyed_rng};
use crate::data::{ImageSet, Skipped};
use crate::msn::TargetEncoder;
use crate::run::Checkpoint;
use crate::run::monitor::describe_crops;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use candle_core::Device;
use dozen_models::image::{Preprocessor, Resize, RgbImage, encode_jpeg};
use rand::seq::SliceRandom as _;
use rayon::prelude::*;

/// Images whose neighbours are shown.
const QUERIES: usize = 8;
/// Neighbours of each.
const NEIGHBOURS: usize = 7;
/// Side of a thumbnail in pixels: shown at 80, so that it is sharp on dense screens without growing the file much.
const SIDE: u32 = 96;
/// JPEG quality of a thumbnail.
const QUALITY: u8 = 75;

/// What was found in a sample of the training images.
#[derive(Debug)]
pub(super) struct Pictures {
    /// Images looked at.
    pub(super) images: usize,
    /// How many of them each prototype is nearest to, head after head.
    pub(super) wins: Vec<usize>,
    /// Some images and their neighbours.
    pub(super) sheets: Vec<Sheet>,
}

/// One image and those nearest to it.
#[derive(Debug)]
pub(super) struct Sheet {
    pub(super) query: Thumbnail,
    /// With their cosine similarity, nearest first.
    pub(super) neighbours: Vec<(Thumbnail, f32)>,
}

/// A small picture as a `data:` address.
#[derive(Debug)]
pub(super) struct Thumbnail {
    pub(super) name: String,
    pub(super) address: String,
}

/// Looks at `most` images of the set, drawn with the run's seed.
pub(super) fn look(
    checkpoint: &Checkpoint,
    set: &ImageSet,
    most: usize,
    device: &Device,
) -> Result<Pictures, Error> {
    let config = &checkpoint.progress.config;
    let mut positions: Vec<usize> = (0..set.len()).collect();
    positions.shuffle(&mut keyed_rng(config.run.seed, Purpose::Report, 0, 0, 0));
    positions.truncate(most);
    let preprocessor = config.preprocessor();
    let (positions, crops): (Vec<usize>, Vec<RgbImage>) = positions
        .into_par_iter()
        .filter_map(|position| Some((position, preprocessor.crop(&*set.image(position).ok()?))))
        .unzip();
    if crops.len() < 2 {
        return Err(Error::NothingReadable { images: set.len() });
    }
    let encoder = TargetEncoder::new(&config.msn(), &checkpoint.tensors, device)?;
    let described = describe_crops(&encoder, &preprocessor, &crops)?;
    let mut wins = vec![0; config.head.count * config.loss.prototypes];
    for &prototype in &described.prototypes {
        wins[prototype as usize] += 1;
    }
    let sheets = (0..crops.len().min(QUERIES))
        .map(|query| {
            let thumbnail = |place: usize| Thumbnail::of(set, positions[place], &preprocessor);
            let neighbours = nearest(&described.features, query)
                .into_iter()
                .map(|(place, similarity)| Ok((thumbnail(place)?, similarity)));
            Ok(Sheet { query: thumbnail(query)?, neighbours: neighbours.collect::<Result<_, Error>>()? })
        })
        .collect::<Result<_, Error>>()?;
    Ok(Pictures { images: crops.len(), wins, sheets })
}

/// Positions and cosines of the vectors nearest to one of them, without itself.
fn nearest(features: &[Vec<f32>], query: usize) -> Vec<(usize, f32)> {
    let cosine = |other: &[f32]| features[query].iter().zip(other).map(|(a, b)| a * b).sum::<f32>();
    let mut all: Vec<(usize, f32)> =
        features.iter().map(|other| cosine(other)).enumerate().filter(|&(other, _)| other != query).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1));
    all.truncate(NEIGHBOURS);
    all
}

impl Thumbnail {
    /// What the encoder's preprocessing takes of a picture, but at a thumbnail's size.
    fn of(set: &ImageSet, position: usize, preprocessor: &Preprocessor) -> Result<Self, Error> {
        let name = set.items()[position].name.clone();
        let unreadable = |skipped: Skipped| {
            Error::Evaluation(format!("{} cannot be read again: {}", skipped.name, skipped.reason))
        };
        let image = set.image(position).map_err(unreadable)?;
        let resize = Resize::ShortSideThenCrop { short_side: SIDE, crop: SIDE };
        let jpeg = encode_jpeg(&Preprocessor { resize, ..preprocessor.clone() }.crop(&image), QUALITY)?;
        Ok(Self { name, address: format!("data:image/jpeg;base64,{}", BASE64_STANDARD.encode(jpeg)) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_come_nearest_first_and_without_the_image_itself() {
        let angle = |degrees: f32| vec![degrees.to_radians().cos(), degrees.to_radians().sin()];
        let features: Vec<_> = [0.0, 50.0, 10.0, 90.0].into_iter().map(angle).collect();
        let found = nearest(&features, 0);
        assert_eq!(found.iter().map(|one| one.0).collect::<Vec<_>>(), [2, 1, 3]);
        assert!((found[0].1 - 10_f32.to_radians().cos()).abs() < 1e-6);
    }
}
