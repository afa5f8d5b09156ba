//! The patch budget: how much of an image is embedded.
//!
//! MSN trains a network to say the same of an image when most of its patches are hidden, and hidden patches are dropped,
//! not replaced: fewer patches cost less, by more than their share, and change the vector little (arXiv 2204.07141,
//! tables 15 and 16). What several masks disagree on tells how sure the network is.

use super::calibration;
use super::{Encoder, Selection};
use crate::Error;
use crate::image::RgbImage;
use crate::vit::cpu::Kept;
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};

/// Budgets that [`Keep::Auto`] chooses from: tenths of the patches.
const STEPS: u8 = 10;

/// Masks of one image at most.
const MOST_MASKS: usize = 64;

/// The share of an image's patches that is embedded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Keep {
    /// This share, in (0, 1].
    Share(f32),
    /// The least of ten shares at which the vectors of all calibration photos have at least this cosine to those of all
    /// their patches. Measured once for each rule, when first asked for.
    Auto {
        /// In (0, 1].
        least_cosine: f32,
    },
}

/// What of an image is embedded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Budget {
    /// How many of its patches.
    pub keep: Keep,
    /// Which of them.
    pub selection: Selection,
    /// How often: with two or more, each under a random mask of its own, and the answer is the mean of the vectors.
    pub masks: usize,
}

impl Default for Budget {
    /// All of it.
    fn default() -> Self {
        Self { keep: Keep::Share(1.0), selection: Selection::default(), masks: 1 }
    }
}

/// An image as a vector.
#[derive(Clone, Debug, PartialEq)]
pub struct Embedding {
    /// Unit vector.
    pub vector: Vec<f32>,
    /// Share of the patches that were embedded.
    pub keep: f32,
    /// With several masks: 1 less the length of the mean of their vectors, 0 where all agree.
    pub spread: Option<f32>,
}

/// Least cosine of the calibration photos at each share, by rule.
#[derive(Default)]
pub(super) struct Curves(Mutex<Vec<(Selection, [f32; STEPS as usize])>>);

impl Encoder {
    /// Embeds crops within a budget, in order.
    ///
    /// Several masks of an image share its patch embedding. They are the same of every image: those of the budget's
    /// seed and the numbers after it.
    pub fn embed_within(&self, crops: &[RgbImage], budget: &Budget) -> Result<Vec<Embedding>, Error> {
        let Budget { selection, masks, .. } = *budget;
        let keep = self.share(budget)?;
        self.check_crops(crops)?;
        let count = self.patches.share(keep);
        let single = |vector| Embedding { vector, keep, spread: None };
        if masks == 1 {
            let vectors = self.describe_selected(crops, selection, count)?;
            return Ok(vectors.into_iter().map(single).collect());
        }
        let Selection::Random { seed } = selection else {
            return Err(Error::Input(format!("{masks} masks are random ones; select at random")));
        };
        if !(1..=MOST_MASKS).contains(&masks) {
            return Err(Error::Input(format!("{masks} masks are asked for; ask for 1 to {MOST_MASKS}")));
        }
        let choose = |mask: usize| {
            let selection = Selection::Random { seed: seed.wrapping_add(mask as u64) };
            self.patches.shared(selection, count).unwrap_or_default()
        };
        let lists: Vec<Vec<u32>> = (0..masks).map(choose).collect();
        let lists: Vec<Vec<u32>> = crops.iter().flat_map(|_| lists.iter().cloned()).collect();
        let vectors = self.describe(crops, Kept::PerImage(&lists))?;
        let mean = |vectors| {
            let (vector, spread) = mean_and_spread(vectors)?;
            Ok(Embedding { vector, keep, spread: Some(spread) })
        };
        vectors.chunks_exact(masks).map(mean).collect()
    }

    fn describe_selected(
        &self,
        crops: &[RgbImage],
        selection: Selection,
        count: usize,
    ) -> Result<Vec<Vec<f32>>, Error> {
        if let Some(kept) = self.patches.shared(selection, count) {
            return self.describe(crops, Kept::Shared(&kept));
        }
        let kept: Vec<_> = crops.par_iter().map(|crop| self.patches.by_content(crop, count)).collect();
        self.describe(crops, Kept::PerImage(&kept))
    }

    /// The share of the patches that a budget means.
    fn share(&self, budget: &Budget) -> Result<f32, Error> {
        let checked = |value: f32, what: &str| {
            if value > 0.0 && value <= 1.0 {
                return Ok(value);
            }
            Err(Error::Input(format!("{what} is {value}; it must lie in (0, 1]")))
        };
        match budget.keep {
            Keep::Share(share) => checked(share, "the share of patches to keep"),
            Keep::Auto { least_cosine } => {
                let least_cosine = checked(least_cosine, "the least cosine")?;
                let curve = self.curve(budget.selection)?;
                let enough = curve.iter().position(|&cosine| cosine >= least_cosine);
                Ok(enough.map_or(1.0, |step| share_of(step as u8)))
            }
        }
    }

    /// The least cosine of the calibration photos at each step.
    fn curve(&self, selection: Selection) -> Result<[f32; STEPS as usize], Error> {
        // One random mask stands for all.
        let selection = match selection {
            Selection::Random { .. } => Selection::Random { seed: 0 },
            Selection::Spread | Selection::Centre | Selection::Content => selection,
        };
        // Locked while measuring: whoever asks meanwhile waits for the answer instead of measuring too.
        let mut curves = self.curves.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, curve)) = curves.iter().find(|(of, _)| *of == selection) {
            return Ok(*curve);
        }
        let crops = calibration::crops(self.preprocessor())?;
        let whole = self.describe_selected(&crops, selection, self.patches())?;
        let mut curve = [1.0; STEPS as usize];
        for (step, least) in (0..STEPS - 1).zip(&mut curve) {
            let count = self.patches.share(share_of(step));
            let part = self.describe_selected(&crops, selection, count)?;
            *least = calibration::Agreement::between(&whole, &part).least as f32;
        }
        curves.push((selection, curve));
        Ok(curve)
    }
}

fn share_of(step: u8) -> f32 {
    f32::from(step + 1) / f32::from(STEPS)
}

/// The direction of the mean of unit vectors, and 1 less its length.
fn mean_and_spread(vectors: &[Vec<f32>]) -> Result<(Vec<f32>, f32), Error> {
    let mut mean = vec![0.0; vectors.first().map_or(0, Vec::len)];
    for vector in vectors {
        mean.iter_mut().zip(vector).for_each(|(mean, value)| *mean += value / vectors.len() as f32);
    }
    let length = mean.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    Ok((super::unit(mean, false)?, (1.0 - length).clamp(0.0, 1.0) as f32))
}
