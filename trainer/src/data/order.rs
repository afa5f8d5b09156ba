//! Which images make which batch.

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_chacha::ChaCha8Rng;

/// Epochs of shuffled, full batches. What a step sees depends on the seed and the step alone, so that a resumed run goes
/// on where it stopped.
#[derive(Clone, Copy, Debug)]
pub struct Batches {
    images: usize,
    batch_size: usize,
    seed: u64,
}

impl Batches {
    /// Batches of `batch_size` out of `images`; `None` where there are fewer images than one batch holds.
    pub fn new(images: usize, batch_size: usize, seed: u64) -> Option<Self> {
        (batch_size > 0 && images >= batch_size).then_some(Self { images, batch_size, seed })
    }

    /// Full batches in one epoch; the images left over wait for the next shuffle.
    pub fn steps_per_epoch(&self) -> usize {
        self.images / self.batch_size
    }

    /// The order of one epoch.
    pub fn epoch_order(&self, epoch: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.images).collect();
        order.shuffle(&mut keyed_rng(self.seed, Purpose::Shuffle, epoch as u64, 0, 0));
        order
    }

    /// The part of an epoch's order that makes its batch number `batch`.
    pub fn batch<'a>(&self, order: &'a [usize], batch: usize) -> &'a [usize] {
        &order[batch * self.batch_size..(batch + 1) * self.batch_size]
    }
}

/// What a stream of random numbers is for; streams of different purposes never meet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Purpose {
    /// Order of an epoch.
    Shuffle = 1,
    /// One view of one image.
    View = 2,
    /// Labelled images of an evaluation's draw.
    Draw = 3,
    /// Patches that a step's masked views keep.
    Mask = 4,
    /// Branches that a step leaves out.
    DropPath = 5,
    /// Patches that an evaluation hides.
    Hide = 6,
    /// Everything random in training a classifier.
    Probe = 7,
    /// Images of the evaluation during a run.
    Monitor = 8,
    /// Images shown in a report.
    Report = 9,
}

/// A ChaCha8 stream that is a function of its key alone, whichever thread asks for it.
pub(crate) fn keyed_rng(seed: u64, purpose: Purpose, first: u64, second: u32, third: u16) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    key[8..16].copy_from_slice(&first.to_le_bytes());
    key[16..20].copy_from_slice(&second.to_le_bytes());
    key[20..22].copy_from_slice(&third.to_le_bytes());
    key[22] = purpose as u8;
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_epoch_shows_each_image_once_and_the_next_epoch_in_another_order() {
        let batches = Batches::new(11, 3, 7).unwrap();
        assert_eq!(batches.steps_per_epoch(), 3);
        let first = batches.epoch_order(0);
        let mut sorted = first.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..11).collect::<Vec<_>>());
        assert_eq!(first, batches.epoch_order(0));
        assert_ne!(first, batches.epoch_order(1));
        assert_ne!(first, Batches::new(11, 3, 8).unwrap().epoch_order(0));
        assert_eq!(batches.batch(&first, 1), &first[3..6]);
    }

    #[test]
    fn fewer_images_than_a_batch_make_none() {
        assert!(Batches::new(3, 4, 0).is_none());
        assert!(Batches::new(3, 0, 0).is_none());
    }
}
