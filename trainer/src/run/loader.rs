//! Batches of views, made on background threads one step ahead of the training.

use crate::Error;
use crate::config::Config;
use crate::data::order::{Batches, Purpose, keyed_rng};
use crate::data::{ImageSet, Skipped};
use crate::msn::{Mask, MaskRule, contrasting_patches, kept_patches, random_patches};
use crate::views::{ViewRecipe, ViewRenderer};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// The views of one batch of B images, `[views·B, 3, side, side]` in row-major order; row v·B + i is view v of image i.
pub struct ViewBatch {
    /// Target views; side `views.random_size`.
    pub target: Vec<f32>,
    /// Random anchors; the same side.
    pub random: Vec<f32>,
    /// Focal anchors; side `views.focal_size`.
    pub focal: Vec<f32>,
    /// Patches of the first group of anchors that stay; all where there is none.
    pub mask: Option<Mask>,
}

/// Makes the batches of consecutive steps.
pub struct Loader {
    batches: Option<Receiver<Result<ViewBatch, Error>>>,
    thread: Option<JoinHandle<()>>,
    unreadable: Arc<Mutex<Unreadable>>,
}

/// Pictures that failed while batches were made, each reported once.
#[derive(Default)]
struct Unreadable {
    known: BTreeSet<String>,
    unreported: Vec<Skipped>,
}

/// Which part of every step's images a loader makes: of `accumulate` batches for each of `count` ranks, those of `rank`.
#[derive(Clone, Copy, Debug)]
pub struct Shard {
    /// This rank.
    pub rank: usize,
    /// All ranks.
    pub count: usize,
}

/// What the background thread needs.
struct Worker {
    shard: Shard,
    set: Arc<ImageSet>,
    config: Config,
    order: Batches,
    pool: rayon::ThreadPool,
    unreadable: Arc<Mutex<Unreadable>>,
}

impl Loader {
    /// Starts making the batches of steps `first_step..last_step`: `optimisation.accumulate` for each step. `order` counts
    /// the images of all of them, on all ranks.
    pub fn start(
        set: Arc<ImageSet>,
        config: &Config,
        order: Batches,
        shard: Shard,
        steps: std::ops::Range<usize>,
    ) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Threads(error.to_string());
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.data.threads)
            .thread_name(|number| format!("views-{number}"))
            .build()
            .map_err(|error| failed(&error))?;
        let unreadable = Arc::default();
        let worker =
            Worker { shard, set, config: config.clone(), order, pool, unreadable: Arc::clone(&unreadable) };
        // One batch waits in the channel while the next is being made.
        let (sender, batches) = sync_channel(1);
        let thread = std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || worker.work(steps, &sender))
            .map_err(|error| failed(&error))?;
        Ok(Self { batches: Some(batches), thread: Some(thread), unreadable })
    }

    /// The next batch; waits for it.
    pub fn next_batch(&self) -> Result<ViewBatch, Error> {
        let gone = || Error::Threads("the loader ended early".into());
        self.batches.as_ref().and_then(|batches| batches.recv().ok()).ok_or_else(gone)?
    }

    /// Pictures that could not be read since the last call.
    pub fn take_unreadable(&self) -> Vec<Skipped> {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut unreadable.unreported)
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        // Closing the channel makes the thread's next send fail, which ends it.
        self.batches = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn work(&self, steps: std::ops::Range<usize>, sender: &SyncSender<Result<ViewBatch, Error>>) {
        let per_epoch = self.order.steps_per_epoch();
        let mut current = (usize::MAX, Vec::new());
        for step in steps {
            let epoch = step / per_epoch;
            if current.0 != epoch {
                current = (epoch, self.order.epoch_order(epoch));
            }
            let positions = self.order.batch(&current.1, step % per_epoch);
            for micro in 0..self.config.optimisation.accumulate {
                let batch = self.pool.install(|| self.render(positions, step as u64, micro));
                let stop = batch.is_err();
                if sender.send(batch).is_err() || stop {
                    return;
                }
            }
        }
    }

    /// This rank's part number `micro` of a step's images. What an image looks like depends on its place among all of them,
    /// not on how they are shared out.
    fn render(&self, positions: &[usize], step: u64, micro: usize) -> Result<ViewBatch, Error> {
        let batch_size = self.config.optimisation.batch_size;
        let part = micro * self.shard.count + self.shard.rank;
        let first = part * batch_size;
        let positions = &positions[first..first + batch_size];
        let views = &self.config.views;
        let recipe = |size, area| ViewRecipe { size, area, distortion: &views.distortion };
        let large = recipe(views.random_size, views.random_area);
        let small = recipe(views.focal_size, views.focal_area);
        let buffer = |count: usize, size: usize| vec![0.0; count * positions.len() * 3 * size * size];
        let mut batch = ViewBatch {
            target: buffer(1, views.random_size),
            random: buffer(views.random_views, views.random_size),
            focal: buffer(views.focal_views, views.focal_size),
            mask: None,
        };
        let buffers = [(&mut batch.target, &large), (&mut batch.random, &large), (&mut batch.focal, &small)];
        let outputs = per_image(buffers, positions.len());
        let seed = self.config.run.seed;
        outputs.into_par_iter().zip(positions).enumerate().try_for_each_init(
            ViewRenderer::default,
            |renderer, (place, (outputs, &position))| {
                let image = self.set.image_or_next(position, |skipped| self.report(skipped))?;
                for (view, (recipe, out)) in outputs.into_iter().enumerate() {
                    let mut rng = keyed_rng(seed, Purpose::View, step, (first + place) as u32, view as u16);
                    renderer.render(&image, recipe, &mut rng, out)?;
                }
                Ok::<(), Error>(())
            },
        )?;
        batch.mask = self.mask(&batch, step, micro, first);
        Ok(batch)
    }

    fn mask(&self, batch: &ViewBatch, step: u64, micro: usize, first: usize) -> Option<Mask> {
        let (views, seed) = (&self.config.views, self.config.run.seed);
        let (pixels, side) = match (views.random_views, views.focal_views) {
            (0, _) => (vec![&batch.focal], views.focal_size),
            (_, 1..) if views.focal_size == views.random_size => {
                (vec![&batch.random, &batch.focal], views.random_size)
            }
            _ => (vec![&batch.random], views.random_size),
        };
        let patch = self.config.model.patch_size;
        let patches = (side / patch).pow(2);
        let kept = kept_patches(patches, views.patch_drop);
        if kept == patches {
            return None;
        }
        let shared = |key: usize| {
            let mut rng = keyed_rng(seed, Purpose::Mask, step, key as u32, 0);
            Mask::Shared(random_patches(patches, kept, &mut rng))
        };
        let per_view = |choose: &(dyn Fn(&[f32], &mut ChaCha8Rng) -> Vec<u32> + Sync)| {
            let rows: Vec<&[f32]> =
                pixels.iter().flat_map(|group| group.chunks_exact(3 * side * side)).collect();
            let batch_size = self.config.optimisation.batch_size;
            let chosen = rows.into_par_iter().enumerate().flat_map_iter(|(row, view)| {
                let (place, number) = ((first + row % batch_size) as u32, (1 + row / batch_size) as u16);
                choose(view, &mut keyed_rng(seed, Purpose::Mask, step, place, number))
            });
            Mask::PerView { indices: chosen.collect(), kept }
        };
        Some(match views.masks {
            MaskRule::Batch => shared(micro),
            MaskRule::Rank => shared(micro * self.shard.count + self.shard.rank),
            MaskRule::Image => per_view(&|_, rng| random_patches(patches, kept, rng)),
            MaskRule::Content => per_view(&|view, rng| contrasting_patches(view, side, patch, kept, rng)),
        })
    }

    fn report(&self, skipped: Skipped) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        if unreadable.known.insert(skipped.name.clone()) {
            unreadable.unreported.push(skipped);
        }
    }
}

/// One view's recipe and the place its pixels go to.
type Output<'a> = (&'a ViewRecipe<'a>, &'a mut [f32]);

/// Cuts view-major buffers into the outputs of each image, in the order of the buffers.
fn per_image<'a>(
    buffers: [(&'a mut Vec<f32>, &'a ViewRecipe<'a>); 3],
    images: usize,
) -> Vec<Vec<Output<'a>>> {
    let mut outputs: Vec<Vec<Output<'a>>> = (0..images).map(|_| Vec::new()).collect();
    for (buffer, recipe) in buffers {
        for (row, out) in buffer.chunks_exact_mut(3 * recipe.size * recipe.size).enumerate() {
            outputs[row % images].push((recipe, out));
        }
    }
    outputs
}
