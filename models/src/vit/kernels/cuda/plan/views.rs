//! Augmented views; see source/views.cuh.

use super::{Launch, THREADS};
use crate::image::{ColourOperation, ViewPlan};

/// 64-bit words of a view in the table.
const WORDS: usize = 10;
/// Numbers of the array between the two passes of a blur: views are made in as many parts as that takes.
const SCRATCH: usize = 1 << 24;
/// The most blocks a grid has along y.
const MOST_VIEWS: usize = 65_535;

/// Where an image lies among the bytes of all images.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) struct ImagePlace {
    /// Its first byte.
    pub(in super::super) start: usize,
    /// Its width in pixels.
    pub(in super::super) width: u32,
}

/// The table of views as the device reads it.
pub(in super::super) fn view_table(views: &[(ImagePlace, &ViewPlan)]) -> Vec<u64> {
    let mut words = Vec::with_capacity(WORDS * views.len());
    for (place, ViewPlan { window, flip, colours, blur }) in views {
        let mut kinds = [0; ColourOperation::KINDS];
        let mut amounts = [0.0_f32; ColourOperation::KINDS];
        for ((kind, amount), operation) in kinds.iter_mut().zip(&mut amounts).zip(colours) {
            (*kind, *amount) = match *operation {
                ColourOperation::Brightness(factor) => (1, factor),
                ColourOperation::Contrast(factor) => (2, factor),
                ColourOperation::Saturation(factor) => (3, factor),
                ColourOperation::Hue(turn) => (4, turn),
                ColourOperation::Grey => (5, 0.0),
            };
        }
        let place_and_window =
            [place.width, window.left, window.top, window.width, window.height, u32::from(*flip)];
        let sigma = blur.unwrap_or(0.0);
        let fields: Vec<u32> = place_and_window
            .into_iter()
            .chain(kinds)
            .chain(amounts.map(f32::to_bits))
            .chain([sigma.to_bits(), 0])
            .collect();
        words.push(place.start as u64);
        // Two 32-bit fields a word; CUDA devices are little-endian, as every host they are built for.
        words.extend(fields.chunks_exact(2).map(|pair| u64::from(pair[0]) | u64::from(pair[1]) << 32));
    }
    words
}

/// Views made at a time, of so many of `side` pixels.
pub(in super::super) fn views_at_a_time(count: usize, side: usize) -> usize {
    count.min(SCRATCH / (3 * side * side)).clamp(1, MOST_VIEWS)
}

/// `count` views `[count, 3, side, side]`, `most` at a time. `arrays` are the table, the images, scratch arrays of bytes and
/// of floats (`[most, side, side, 3]`), and the views; `mean` and `deviation` are of channels on the 0–1 scale.
pub(in super::super) fn views(
    count: usize,
    most: usize,
    side: usize,
    [table, images, bytes, floats, out]: [u64; 5],
    mean: [f32; 3],
    deviation: [f32; 3],
) -> Vec<Launch> {
    let tiles = (side * side).div_ceil(THREADS as usize);
    let scales = deviation.map(|deviation| 1.0 / (255.0 * deviation));
    let shifts = [0, 1, 2].map(|channel| mean[channel] / deviation[channel]);
    let part = |first: usize| {
        let views = most.min(count - first);
        let table = table + (first * WORDS * size_of::<u64>()) as u64;
        let out = out + (first * 3 * side * side * size_of::<f32>()) as u64;
        let launch = |kernel: &str| Launch::new(kernel.into(), [tiles, views, 1], THREADS);
        [
            launch("view_crop").addresses([table, images]).ints([side]).addresses([bytes]),
            view_colours(views, side * side, table, bytes),
            launch("view_blur_rows").addresses([table, bytes]).ints([side]).addresses([floats]),
            launch("view_blur_columns")
                .addresses([table, floats])
                .ints([side])
                .floats(scales)
                .floats(shifts)
                .addresses([out]),
        ]
    };
    (0..count).step_by(most).flat_map(part).collect()
}

/// The colours alone, of `area` pixels a view.
pub(in super::super) fn view_colours(views: usize, area: usize, table: u64, pixels: u64) -> Launch {
    Launch::new("view_colours".into(), [views, 1, 1], THREADS)
        .addresses([table])
        .ints([area])
        .addresses([pixels])
}
