//! How images are shared out among passes, and how they lie in a pass's memory.

use super::plan::Plan;
use crate::image::RgbImage;
use crate::vit::cpu::Kept;
use rayon::prelude::*;
use std::ops::Range;

/// Images from which on a batch is made of several passes, so that one is copied while another is computed.
const WORTH_DIVIDING: usize = 32;

/// Numbers of images for which passes are prepared: powers of two, and one between any two.
pub(super) fn bucket(images: usize) -> usize {
    let power = images.next_power_of_two();
    let between = power / 4 * 3;
    if between >= images { between } else { power }
}

/// The largest bucket of at most so many images.
pub(super) fn bucket_within(most: usize) -> usize {
    (1..=most).rev().find(|&images| bucket(images) == images).unwrap_or(1)
}

/// Ranges of images, each of at most `most`.
pub(super) fn parts(images: usize, most: usize) -> Vec<Range<usize>> {
    let halved = if images >= WORTH_DIVIDING { images.div_ceil(2) } else { images };
    let most = bucket_within(most.min(bucket(halved)).max(1));
    (0..images).step_by(most).map(|first| first..images.min(first + most)).collect()
}

/// Crops, and how many images each of them is: one for each list of patches.
#[derive(Clone, Copy)]
pub(super) struct Images<'a> {
    pub(super) crops: &'a [RgbImage],
    pub(super) kept: Kept<'a>,
    pub(super) lists: usize,
}

/// Crops that hold a range of images.
fn crops_of(part: &Range<usize>, lists: usize) -> Range<usize> {
    part.start / lists..part.end.div_ceil(lists)
}

/// Bytes of a pass's memory that [`fill`] writes, from the first.
pub(super) fn filled(plan: &Plan, part: &Range<usize>, lists: usize, crop_bytes: usize) -> usize {
    plan.crops + crops_of(part, lists).len() * crop_bytes
}

/// Writes the table and the crops of some images. A pass may be of more images than there are: those are the last one
/// again, and nobody looks at them.
pub(super) fn fill(memory: &mut [u8], plan: &Plan, images: Images<'_>, part: &Range<usize>) {
    let Images { crops, kept, lists } = images;
    let crops = &crops[crops_of(part, lists)];
    let table = memory[plan.table..].chunks_exact_mut(size_of::<u32>() * plan.tokens).take(plan.images);
    for (number, row) in table.enumerate() {
        let image = (part.start + number).min(part.end - 1);
        let crop = (image / lists - part.start / lists) as u32;
        let words = std::iter::once(&crop).chain(kept.of(image));
        let (row, _) = row.as_chunks_mut();
        for (word, value) in row.iter_mut().zip(words) {
            *word = value.to_le_bytes();
        }
    }
    let Some(length) = crops.first().map(|crop| crop.pixels.len()) else { return };
    let places = memory[plan.crops..].par_chunks_exact_mut(length);
    places.zip(crops).for_each(|(place, crop)| place.copy_from_slice(&crop.pixels));
}
