//! A trunk laid out for embedding images on CPUs.
//!
//! Weights are packed once, normalisation is folded into the patch embedding, and activations live in buffers that outlast
//! the call: nothing is allocated per image. Rows of tokens go through the linear maps of a block in runs short enough that
//! what lies between two maps stays in the second-level cache; heads attend one at a time on packed keys and values.
//!
//! Many images are shared out among rayon's threads, each taking its own through the whole network; of a few images the
//! threads share the rows. Neither changes a bit: every row is computed alike wherever it stands.

mod attention;
mod block;
mod dense;
mod patches;
#[cfg(test)]
pub(super) mod tests;
mod workspace;

use super::Vit;
use super::kernels::Outputs;
use super::kernels::packed::{BytePanels, Instructions, TILE_ROWS};
use crate::Error;
use crate::image::RgbImage;
use block::{Block, LayerNorm};
use patches::PatchEmbedding;
use rayon::prelude::*;
use std::sync::{Mutex, PoisonError};
use workspace::{Scratch, Workspace};

/// Floats of activations that one thread works on at a time where images are many: about its second-level cache.
const CACHE: usize = 1 << 17;

/// Floats of activations in one piece of work, however many images there are.
const MOST_ACTIVATIONS: usize = 1 << 25;

/// The patches of a crop that are embedded, counted row by row.
#[derive(Clone, Copy, Debug)]
pub enum Kept<'a> {
    /// The same of every image.
    Shared(&'a [u32]),
    /// As many lists as images, or several for each image in turn, all of one length.
    PerImage(&'a [Vec<u32>]),
}

impl<'a> Kept<'a> {
    /// Those of one image.
    pub(crate) fn of(self, image: usize) -> &'a [u32] {
        match self {
            Self::Shared(kept) => kept,
            Self::PerImage(lists) => &lists[image],
        }
    }

    /// How many lists there are for each of so many crops.
    pub(crate) fn lists(self, crops: usize) -> usize {
        match self {
            Self::Shared(_) => 1,
            Self::PerImage(lists) => lists.len() / crops,
        }
    }

    /// Those of some images.
    pub(crate) fn part(self, first: usize, count: usize) -> Self {
        match self {
            Self::Shared(_) => self,
            Self::PerImage(lists) => Self::PerImage(&lists[first..first + count]),
        }
    }
}

/// Type of the arithmetic inside a block's linear maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Floats throughout.
    F32,
    /// Weights as i8 with a scale for each output, activations as u8 with a scale for each token.
    Int8,
    /// Bytes, but floats in the second map of every MLP: what goes into it varies most, and one large channel of a token
    /// leaves the others few of a byte's levels.
    Mixed,
}

/// See the module.
pub struct CpuVit {
    width: usize,
    /// Sizes of a thread's working memory.
    sizes: workspace::Sizes,
    patches: PatchEmbedding,
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
    outputs: Outputs,
    workspaces: Pool<Workspace>,
    scratches: Pool<Scratch>,
}

/// Things that are handed out and come back.
struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    fn with<R>(&self, make: impl FnOnce() -> T, body: impl FnOnce(&mut T) -> R) -> R {
        let waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut one = waiting.unwrap_or_else(make);
        let result = body(&mut one);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(one);
        result
    }
}

/// How many crops, `most` at most but always one, a thread takes at a time, so that the busiest has as few as may be.
fn crops_at_once(crops: usize, threads: usize, most: usize) -> usize {
    let of_busiest = |size: &usize| crops.div_ceil(*size).div_ceil(threads) * size;
    (1..=most.min(crops)).rev().min_by_key(of_busiest).unwrap_or(1)
}

/// Who does the pieces of some work.
#[derive(Clone, Copy)]
enum Sharing {
    /// This thread, one after the other.
    Alone,
    /// Rayon's threads.
    Together,
}

impl Sharing {
    /// Hands `body` consecutive pieces of rows with the number of their first row: `pieces` of like size, each but the last
    /// of whole tiles.
    fn rows(self, rows: &mut [f32], width: usize, pieces: usize, body: &(impl Fn(usize, &mut [f32]) + Sync)) {
        self.rows_from(0, rows, width, pieces, body);
    }

    fn rows_from(
        self,
        first: usize,
        rows: &mut [f32],
        width: usize,
        pieces: usize,
        body: &(impl Fn(usize, &mut [f32]) + Sync),
    ) {
        if pieces <= 1 {
            return body(first, rows);
        }
        let (count, pieces_before) = (rows.len() / width, pieces / 2);
        let before = (count * pieces_before).div_ceil(pieces).next_multiple_of(TILE_ROWS);
        if before >= count {
            return body(first, rows);
        }
        let (one, other) = rows.split_at_mut(before * width);
        let mut one = || self.rows_from(first, one, width, pieces_before, body);
        let mut other = || self.rows_from(first + before, other, width, pieces - pieces_before, body);
        match self {
            Self::Alone => {
                one();
                other();
            }
            Self::Together => {
                rayon::join(one, other);
            }
        }
    }

    /// Hands `body` consecutive chunks of `values` with their numbers.
    fn chunks(self, values: &mut [f32], size: usize, body: impl Fn(usize, &mut [f32]) + Sync) {
        match self {
            Self::Alone => {
                values.chunks_mut(size).enumerate().for_each(|(number, chunk)| body(number, chunk));
            }
            Self::Together => {
                values.par_chunks_mut(size).enumerate().for_each(|(number, chunk)| body(number, chunk));
            }
        }
    }
}

impl CpuVit {
    /// Lays `vit` out for crops of `grid` × `grid` patches whose bytes are normalised by `mean` and `deviation` of channels
    /// on the 0–1 scale. `outputs` says whether the last block computes all tokens or CLS alone. `None` where the network
    /// has parts that this execution does not know: biases by position.
    pub fn new(
        vit: &Vit,
        grid: usize,
        mean: [f32; 3],
        deviation: [f32; 3],
        outputs: Outputs,
        precision: Precision,
    ) -> Result<Option<Self>, Error> {
        Self::with_instructions(vit, grid, [mean, deviation], outputs, precision, Instructions::best())
    }

    fn with_instructions(
        vit: &Vit,
        grid: usize,
        [mean, deviation]: [[f32; 3]; 2],
        outputs: Outputs,
        precision: Precision,
        instructions: Instructions,
    ) -> Result<Option<Self>, Error> {
        let config = vit.config();
        if vit.has_position_biases() || config.num_channels != 3 {
            return Ok(None);
        }
        let mut blocks = Vec::with_capacity(config.num_hidden_layers);
        for (index, parameters) in vit.blocks().iter().enumerate() {
            let is_last = index + 1 == config.num_hidden_layers;
            let outputs = if is_last { outputs } else { Outputs::All };
            blocks.push(Block::new(parameters, config, outputs, precision, instructions)?);
        }
        let patches = PatchEmbedding::new(vit, grid, mean, deviation, instructions)?;
        Ok(Some(Self {
            width: config.hidden_size,
            sizes: workspace::Sizes {
                tokens: grid * grid + 1,
                width: config.hidden_size,
                hidden: config.intermediate_size,
                head: config.hidden_size / config.num_attention_heads,
                patch: patches.inputs(),
                rows: workspace::most_rows(config.intermediate_size.max(patches.inputs())),
                precision,
                instructions,
            },
            patches,
            blocks,
            norm: vit
                .final_norm_parameters()
                .map(|norm| LayerNorm::new(norm, config.layer_norm_eps))
                .transpose()?,
            outputs,
            workspaces: Pool(Mutex::default()),
            scratches: Pool(Mutex::default()),
        }))
    }

    /// Whether this CPU computes faster with [`Precision::Int8`].
    pub fn bytes_are_fast() -> bool {
        BytePanels::are_fast()
    }

    /// Hidden states after the last block, before the final norm, of crops that each have `kept` patches: `[images, D]`
    /// (CLS alone) or `[images · (1 + kept), D]`. With several lists for each crop, in turn, there is an image for each.
    pub fn run(&self, crops: &[RgbImage], kept: Kept<'_>) -> Vec<f32> {
        let lists = kept.lists(crops.len());
        let (images, tokens) = (crops.len() * lists, 1 + kept.of(0).len());
        let rows = match self.outputs {
            Outputs::All => tokens,
            Outputs::First => 1,
        };
        let mut out = vec![0.0; images * rows * self.width];
        let threads = rayon::current_num_threads();
        let of_crop = lists * tokens * Workspace::FLOATS_PER_ROW * self.width;
        let alone = crops.len().is_multiple_of(threads) || crops.len() >= 4 * threads;
        let (crops_at_once, sharing) = if alone && crops.len() >= threads {
            (crops_at_once(crops.len(), threads, CACHE / of_crop), Sharing::Alone)
        } else {
            ((MOST_ACTIVATIONS / of_crop).max(1), Sharing::Together)
        };
        let part = |(number, out): (usize, &mut [f32])| {
            let first = number * crops_at_once;
            let crops = &crops[first..crops.len().min(first + crops_at_once)];
            self.run_part(out, crops, kept.part(first * lists, crops.len() * lists), sharing);
        };
        let size = crops_at_once * lists * rows * self.width;
        match sharing {
            Sharing::Alone => out.par_chunks_mut(size).enumerate().for_each(part),
            // From inside the pool: from outside, every piece of work would wake it anew and wait for it.
            Sharing::Together => rayon::scope(|_| out.chunks_mut(size).enumerate().for_each(part)),
        }
        out
    }

    /// The final LayerNorm of rows `[.., D]`, in place; none where the network has none.
    pub fn final_norm(&self, rows: &mut [f32]) {
        if let Some(norm) = &self.norm {
            let given = rows.to_vec();
            norm.forward(rows, &given);
        }
    }

    fn run_part(&self, out: &mut [f32], crops: &[RgbImage], kept: Kept<'_>, sharing: Sharing) {
        let (images, tokens) = (crops.len() * kept.lists(crops.len()), 1 + kept.of(0).len());
        self.workspaces.with(Workspace::default, |workspace| {
            workspace.make_room(images, tokens, self.width);
            let pass =
                block::Pass { images, tokens, sharing, scratches: &self.scratches, sizes: &self.sizes };
            self.patches.forward(workspace, crops, kept, &pass);
            for block in &self.blocks {
                block.forward(workspace, &pass);
            }
            let x = match self.outputs {
                Outputs::All => &workspace.x[..out.len()],
                Outputs::First => &workspace.cls[..out.len()],
            };
            out.copy_from_slice(x);
        });
    }
}
