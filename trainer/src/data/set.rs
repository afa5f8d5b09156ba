//! Pictures that can be asked for by position.

use super::find::{Item, find};
use super::location::Location;
use super::source::Source;
use crate::Error;
use dozen_models::image::{Cut, Filter, Limits, Resampler, RgbImage, decode};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// How pictures are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataOptions {
    /// Decoded sets up to this size, in MiB, are kept in memory; larger ones are decoded batch by batch.
    pub memory_mib: u64,
    /// Pictures whose short side is longer are shrunk to it before they are cropped; 0 leaves all as they are. Saves
    /// memory and time where photos are much larger than the views.
    pub shrink_short_side: u32,
    /// Threads that decode and augment; 0 is one per processor.
    pub threads: usize,
}

/// A picture that could not be read, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Pictures in a fixed order.
pub struct ImageSet {
    sources: Vec<Source>,
    items: Vec<Item>,
    pictures: Pictures,
    skipped: Vec<Skipped>,
    shrink_short_side: u32,
}

/// As many as there are items.
enum Pictures {
    Decoded(Vec<RgbImage>),
    Encoded(Vec<Location>),
}

/// Pictures that are decoded to guess the size of the whole.
const SAMPLE: usize = 32;

impl ImageSet {
    /// Finds the pictures under `paths` and decodes them if they fit. Pictures that cannot be read are left out and
    /// listed in [`ImageSet::skipped`]; it fails only where none is left.
    pub fn open(paths: &[PathBuf], options: &DataOptions) -> Result<Self, Error> {
        let budget = options.memory_mib << 20;
        let (found, sources) = find(paths, budget)?;
        let (items, locations): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        let mut set = Self {
            sources,
            items,
            pictures: Pictures::Encoded(Vec::new()),
            skipped: Vec::new(),
            shrink_short_side: options.shrink_short_side,
        };
        let decoded = match set.estimated_bytes(&locations) {
            estimate if estimate <= budget => set.decode_all(&locations, budget),
            _ => None,
        };
        match decoded {
            Some(results) => set.keep(results),
            None => set.pictures = Pictures::Encoded(locations),
        }
        if set.items.is_empty() {
            return Err(Error::NothingReadable { images: set.skipped.len() });
        }
        Ok(set)
    }

    /// Opens a set of which only few pictures will be asked for: none is decoded beforehand, unless it is a compressed
    /// archive, which has to be read whole anyway.
    pub fn open_undecoded(paths: &[PathBuf], options: &DataOptions) -> Result<Self, Error> {
        match Self::open(paths, &DataOptions { memory_mib: 0, ..*options }) {
            Err(Error::ArchiveTooLarge { .. }) => Self::open(paths, options),
            opened => opened,
        }
    }

    /// Number of pictures.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether they are held decoded.
    pub fn in_memory(&self) -> bool {
        self.decoded().is_some()
    }

    /// All of them, where they are held decoded.
    pub fn decoded(&self) -> Option<&[RgbImage]> {
        match &self.pictures {
            Pictures::Decoded(images) => Some(images),
            Pictures::Encoded(_) => None,
        }
    }

    /// What the paths were recognised as, in their order.
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// Names and labels, in order.
    pub fn items(&self) -> &[Item] {
        &self.items
    }

    /// Pictures that could not be read when the set was opened.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// The picture at `position`.
    pub fn image(&self, position: usize) -> Result<Cow<'_, RgbImage>, Skipped> {
        match &self.pictures {
            Pictures::Decoded(images) => Ok(Cow::Borrowed(&images[position])),
            Pictures::Encoded(locations) => {
                self.decode(&self.items[position], &locations[position]).map(Cow::Owned)
            }
        }
    }

    /// The picture at `position`, or, where it cannot be read, the next one that can. Each unreadable picture is
    /// handed to `report`.
    pub fn image_or_next(
        &self,
        position: usize,
        report: impl Fn(Skipped),
    ) -> Result<Cow<'_, RgbImage>, Error> {
        for offset in 0..self.len() {
            match self.image((position + offset) % self.len()) {
                Ok(image) => return Ok(image),
                Err(skipped) => report(skipped),
            }
        }
        Err(Error::NothingReadable { images: self.len() })
    }

    fn decode(&self, item: &Item, location: &Location) -> Result<RgbImage, Skipped> {
        let skip = |reason: String| Skipped { name: item.name.clone(), reason };
        let bytes = location.read().map_err(|error| skip(error.to_string()))?;
        let image = decode(&bytes, &Limits::default()).map_err(|error| skip(error.to_string()))?;
        Ok(shrink(image, self.shrink_short_side))
    }

    fn estimated_bytes(&self, locations: &[Location]) -> u64 {
        let stride = self.items.len().div_ceil(SAMPLE).max(1);
        let sample: Vec<u64> = (0..self.items.len())
            .into_par_iter()
            .step_by(stride)
            .filter_map(|position| self.decode(&self.items[position], &locations[position]).ok())
            .map(|image| image.pixels.len() as u64)
            .collect();
        let mean = sample.iter().sum::<u64>() / sample.len().max(1) as u64;
        mean * self.items.len() as u64
    }

    /// Decodes everything; gives up where it proves larger than twice the budget after all.
    fn decode_all(&self, locations: &[Location], budget: u64) -> Option<Vec<Result<RgbImage, Skipped>>> {
        let used = AtomicU64::new(0);
        let decode = |(item, location)| {
            let result = self.decode(item, location);
            let bytes = result.as_ref().map_or(0, |image| image.pixels.len() as u64);
            (used.fetch_add(bytes, Ordering::Relaxed) <= budget.saturating_mul(2)).then_some(result)
        };
        self.items.par_iter().zip(locations).map(decode).collect()
    }

    /// Keeps what was decoded and lists the rest as skipped.
    fn keep(&mut self, results: Vec<Result<RgbImage, Skipped>>) {
        let mut images = Vec::with_capacity(results.len());
        let mut items = Vec::with_capacity(results.len());
        for (item, result) in std::mem::take(&mut self.items).into_iter().zip(results) {
            match result {
                Ok(image) => {
                    items.push(item);
                    images.push(image);
                }
                Err(skipped) => self.skipped.push(skipped),
            }
        }
        self.items = items;
        self.pictures = Pictures::Decoded(images);
    }
}

/// Width and height of a picture shrunk to a short side of `short_side`; `None` where it stays as it is.
pub(super) fn shrunk_size(width: u32, height: u32, short_side: u32) -> Option<(u32, u32)> {
    let short = width.min(height);
    let scaled = |side: u32| ((u64::from(side) * u64::from(short_side)) / u64::from(short)).max(1) as u32;
    (short_side > 0 && short > short_side).then(|| (scaled(width), scaled(height)))
}

/// Shrinks to a short side of `short_side`, antialiased; smaller pictures and 0 pass unchanged.
fn shrink(image: RgbImage, short_side: u32) -> RgbImage {
    let Some(size) = shrunk_size(image.width, image.height, short_side) else { return image };
    let whole = Cut { left: 0, top: 0, width: image.width, height: image.height };
    Resampler::default().cut(&image, whole, size, Filter::Bilinear).unwrap_or(image)
}
