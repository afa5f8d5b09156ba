//! Batches of views, made on background threads one step ahead of the training.

use super::batch::{Pixels, ViewBatch};
use crate::Error;
use crate::config::Config;
use crate::data::order::{Batches, Purpose, keyed_rng};
use crate::data::{ImageSet, Skipped};
use crate::msn::{Mask, MaskRule, contrasting_patches, kept_patches, random_patches};
use crate::views::{ViewRecipe, ViewRenderer};
use dozen_models::image::{RgbImage, ViewPlan};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

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

/// The images of one batch.
struct Part<'a> {
    /// Where they are in the set.
    positions: &'a [usize],
    step: u64,
    /// Number of the batch within its step, on this rank.
    micro: usize,
    /// Place of its first image among all of the step.
    first: usize,
}

/// What the background thread needs.
struct Worker {
    shard: Shard,
    set: Arc<ImageSet>,
    config: Config,
    order: Batches,
    pool: rayon::ThreadPool,
    unreadable: Arc<Mutex<Unreadable>>,
    plans_only: bool,
}

impl Loader {
    /// Starts making the batches of steps `first_step..last_step`: `optimisation.accumulate` for each step. `order` counts
    /// the images of all of them, on all ranks. With `plans_only`, views are drawn and left for the device to make.
    pub fn start(
        set: Arc<ImageSet>,
        config: &Config,
        order: Batches,
        shard: Shard,
        steps: std::ops::Range<usize>,
        plans_only: bool,
    ) -> Result<Self, Error> {
        let failed = |error: &dyn std::fmt::Display| Error::Threads(error.to_string());
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(config.data.threads)
            .thread_name(|number| format!("views-{number}"))
            .build()
            .map_err(|error| failed(&error))?;
        let unreadable = Arc::default();
        let config = config.clone();
        let worker =
            Worker { shard, set, config, order, pool, unreadable: Arc::clone(&unreadable), plans_only };
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
                let batch = self.pool.install(|| self.batch(positions, step as u64, micro));
                let stop = batch.is_err();
                if sender.send(batch).is_err() || stop {
                    return;
                }
            }
        }
    }

    /// This rank's part number `micro` of a step's images. What an image looks like depends on its place among all of them,
    /// not on how they are shared out.
    fn batch(&self, positions: &[usize], step: u64, micro: usize) -> Result<ViewBatch, Error> {
        let batch_size = self.config.optimisation.batch_size;
        let first = (micro * self.shard.count + self.shard.rank) * batch_size;
        let part = Part { positions: &positions[first..first + batch_size], step, micro, first };
        if self.plans_only { Ok(self.plan(&part)) } else { self.render(&part) }
    }

    /// Recipe and number of the views of each group: target, random, focal.
    fn groups(&self) -> [(ViewRecipe<'_>, usize); 3] {
        let views = &self.config.views;
        let recipe = |size, area| ViewRecipe { size, area, distortion: &views.distortion };
        let large = recipe(views.random_size, views.random_area);
        let small = recipe(views.focal_size, views.focal_area);
        [(large, 1), (large, views.random_views), (small, views.focal_views)]
    }

    /// Draws view number `view` of the image at a place of a step.
    fn draw(
        &self,
        recipe: &ViewRecipe<'_>,
        image: &RgbImage,
        (step, place, view): (u64, usize, usize),
    ) -> ViewPlan {
        let mut rng = keyed_rng(self.config.run.seed, Purpose::View, step, place as u32, view as u16);
        recipe.draw(image.width, image.height, &mut rng)
    }

    fn render(&self, part: &Part<'_>) -> Result<ViewBatch, Error> {
        let images = part.positions.len();
        let groups = self.groups();
        let [mut target, mut random, mut focal] =
            groups.map(|(recipe, views)| vec![0.0; views * images * 3 * recipe.size * recipe.size]);
        let buffers = [&mut target, &mut random, &mut focal];
        let outputs = per_image(buffers.into_iter().zip(&groups), images);
        outputs.into_par_iter().zip(part.positions).enumerate().try_for_each_init(
            ViewRenderer::default,
            |renderer, (place, (outputs, &position))| {
                let image = self.set.image_or_next(position, |skipped| self.report(skipped))?;
                for (view, (recipe, out)) in outputs.into_iter().enumerate() {
                    let plan = self.draw(recipe, &image, (part.step, part.first + place, view));
                    renderer.render(&image, &plan, recipe.size, out)?;
                }
                Ok::<(), Error>(())
            },
        )?;
        let mask = self.mask(&random, &focal, part);
        Ok(ViewBatch {
            target: Pixels::Made(target),
            random: Pixels::Made(random),
            focal: Pixels::Made(focal),
            mask,
        })
    }

    fn plan(&self, part: &Part<'_>) -> ViewBatch {
        let images = self.set.decoded().unwrap_or_default();
        let mut first_view = 0;
        let [target, random, focal] = self.groups().map(|(recipe, views)| {
            let number = |view, place: usize| (part.step, part.first + place, first_view + view);
            let plan = |view, (place, &position): (usize, &usize)| {
                (position, self.draw(&recipe, &images[position], number(view, place)))
            };
            let plan = &plan;
            let of_view = |view| part.positions.iter().enumerate().map(move |image| plan(view, image));
            let plans = (0..views).flat_map(of_view).collect();
            first_view += views;
            Pixels::Planned(plans)
        });
        ViewBatch { target, random, focal, mask: self.mask(&[], &[], part) }
    }

    /// The mask of a part; its anchors' pixels matter where they decide it.
    fn mask(&self, random: &[f32], focal: &[f32], part: &Part<'_>) -> Option<Mask> {
        let (views, seed) = (&self.config.views, self.config.run.seed);
        let (count, side) = match (views.random_views, views.focal_views) {
            (0, count) => (count, views.focal_size),
            (random, focal @ 1..) if views.focal_size == views.random_size => {
                (random + focal, views.random_size)
            }
            (count, _) => (count, views.random_size),
        };
        let patch = self.config.model.patch_size;
        let patches = (side / patch).pow(2);
        let kept = kept_patches(patches, views.patch_drop);
        if kept == patches {
            return None;
        }
        let shared = |key: usize| {
            let mut rng = keyed_rng(seed, Purpose::Mask, part.step, key as u32, 0);
            Mask::Shared(random_patches(patches, kept, &mut rng))
        };
        let per_view = |choose: &(dyn Fn(usize, &mut ChaCha8Rng) -> Vec<u32> + Sync)| {
            let images = part.positions.len();
            let chosen = (0..count * images).into_par_iter().flat_map_iter(|row| {
                let (place, number) = ((part.first + row % images) as u32, (1 + row / images) as u16);
                choose(row, &mut keyed_rng(seed, Purpose::Mask, part.step, place, number))
            });
            Mask::PerView { indices: chosen.collect(), kept }
        };
        Some(match views.masks {
            MaskRule::Batch => shared(part.micro),
            MaskRule::Rank => shared(part.micro * self.shard.count + self.shard.rank),
            MaskRule::Image => per_view(&|_, rng| random_patches(patches, kept, rng)),
            MaskRule::Content => {
                let rows: Vec<&[f32]> =
                    [random, focal].iter().flat_map(|group| group.chunks_exact(3 * side * side)).collect();
                per_view(&|row, rng| contrasting_patches(rows[row], side, patch, kept, rng))
            }
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
    groups: impl Iterator<Item = (&'a mut Vec<f32>, &'a (ViewRecipe<'a>, usize))>,
    images: usize,
) -> Vec<Vec<Output<'a>>> {
    let mut outputs: Vec<Vec<Output<'a>>> = (0..images).map(|_| Vec::new()).collect();
    for (buffer, (recipe, _)) in groups {
        for (row, out) in buffer.chunks_exact_mut(3 * recipe.size * recipe.size).enumerate() {
            outputs[row % images].push((recipe, out));
        }
    }
    outputs
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    /// Views that are left for the device are those the loader would have made.
    #[test]
    fn plans_are_of_the_views_that_are_made_otherwise() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let overrides = ["views.masks=\"image\"", "optimisation.accumulate=2"].map(str::to_owned);
        let config = Config::read(&root.join("tests/fixtures/train/micro.toml"), &overrides).unwrap();
        let set = ImageSet::open(&[root.join("server/demo/photos")], &config.data).unwrap();
        let set = Arc::new(set);
        let per_step = 2 * config.optimisation.batch_size;
        let start = |plans_only| {
            let order = Batches::new(set.len(), per_step, 0).unwrap();
            let shard = Shard { rank: 0, count: 1 };
            Loader::start(Arc::clone(&set), &config, order, shard, 0..2, plans_only).unwrap()
        };
        let (made, planned) = (start(false), start(true));
        let sizes = [config.views.random_size, config.views.random_size, config.views.focal_size];
        let mut views = 0;
        for _ in 0..4 {
            let (made, planned) = (made.next_batch().unwrap(), planned.next_batch().unwrap());
            assert_eq!(made.mask, planned.mask);
            let groups =
                [(made.target, planned.target), (made.random, planned.random), (made.focal, planned.focal)];
            for ((made, planned), size) in groups.into_iter().zip(sizes) {
                let (Pixels::Made(made), Pixels::Planned(planned)) = (made, planned) else { panic!() };
                let mut pixels = vec![0.0; 3 * size * size];
                for (made, (position, plan)) in made.chunks_exact(3 * size * size).zip(&planned) {
                    let image = set.image(*position).unwrap();
                    ViewRenderer::default().render(&image, plan, size, &mut pixels).unwrap();
                    assert_eq!(made, pixels);
                    views += 1;
                }
                assert_eq!(made.len(), planned.len() * 3 * size * size);
            }
        }
        let each = 1 + config.views.random_views + config.views.focal_views;
        assert_eq!(views, 2 * per_step * each);
    }
}
