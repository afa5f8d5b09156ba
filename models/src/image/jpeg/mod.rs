//! Parts of JPEG photos at a reduced scale.
//!
//! A photo much larger than the crop need not be decoded in full: its blocks of 8×8 pixels can be transformed to 4×4, 2×2
//! or 1×1 straight away, and those outside the crop's window need only be passed over. What is left is to read the Huffman
//! codes, and chroma planes of half the size come out at the size of the luma plane by a transform of twice the length.
//!
//! Only plain files are decoded here, and only while nothing is wrong with them: baseline, grey or YCbCr, one scan. All
//! others are left to the decoder that decodes everything and decides what damage is tolerable.

mod entropy;
mod header;
mod transform;

use entropy::{Bits, Entropy, read_block, read_difference};
use header::{Component, Header};
use std::ops::Range;
use transform::Transform;

use super::RgbImage;
use super::resample::Cut;

/// Samples that are converted at once.
const LANES: usize = 16;

/// How much smaller an image is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reduction {
    Half,
    Quarter,
    Eighth,
}

impl Reduction {
    /// Pixels of the image, along each axis, that become one.
    pub(super) fn factor(self) -> u32 {
        match self {
            Self::Half => 2,
            Self::Quarter => 4,
            Self::Eighth => 8,
        }
    }
}

/// A part of an image, reduced.
pub(super) struct Part {
    pub(super) image: RgbImage,
    /// Where it begins, in reduced pixels.
    pub(super) left: u32,
    pub(super) top: u32,
}

/// Decodes at least the pixels of `wanted`, and not many more; `None` if the file is not plain and whole.
///
/// `size` is what another decoder found in the header and the limits allow: it has to agree.
pub(super) fn decode_part(bytes: &[u8], size: (u32, u32), wanted: Cut, reduction: Reduction) -> Option<Part> {
    let header = header::read(bytes)?;
    if (header.width as u64, header.height as u64) != (u64::from(size.0), u64::from(size.1)) {
        return None;
    }
    let layout = Layout::new(&header, wanted, reduction)?;
    let entropy = Entropy::read(header.data)?;
    let pixels = Scan::new(&header, &layout, &entropy)?.run()?;
    let image = RgbImage { width: layout.width as u32, height: layout.height as u32, pixels };
    Some(Part { image, left: layout.left as u32, top: layout.top as u32 })
}

/// What is decoded, in MCUs and in reduced pixels.
struct Layout {
    /// MCUs of a row of the image, and rows of them.
    count: (usize, usize),
    /// Those wanted.
    columns: Range<usize>,
    rows: Range<usize>,
    /// Reduced pixels of a MCU.
    mcu: (usize, usize),
    left: usize,
    top: usize,
    width: usize,
    height: usize,
}

impl Layout {
    fn new(header: &Header<'_>, wanted: Cut, reduction: Reduction) -> Option<Self> {
        let blocks = header.components.first()?.blocks;
        let factor = reduction.factor() as usize;
        let axis = |size: usize, start: u32, length: u32, blocks: usize| {
            let mcu = 8 * blocks;
            let count = size.div_ceil(mcu);
            let first = start as usize / mcu;
            let last = (start as usize + length as usize).min(size).div_ceil(mcu);
            let reduced = mcu / factor;
            let origin = first * reduced;
            let end = (last * reduced).min(size.div_ceil(factor));
            (first < last).then(|| (count, first..last, reduced, origin, end - origin))
        };
        let horizontal = axis(header.width, wanted.left, wanted.width, blocks.0)?;
        let vertical = axis(header.height, wanted.top, wanted.height, blocks.1)?;
        Some(Self {
            count: (horizontal.0, vertical.0),
            columns: horizontal.1,
            rows: vertical.1,
            mcu: (horizontal.2, vertical.2),
            left: horizontal.3,
            top: vertical.3,
            width: horizontal.4,
            height: vertical.4,
        })
    }
}

/// A component on its way to samples.
struct Plane<'a> {
    component: &'a Component,
    transform: Transform,
    /// The last block's mean value, before quantisation is undone.
    mean: i32,
    /// Samples of one row of MCUs.
    samples: Vec<f32>,
    /// What samples are relative to.
    level: f32,
}

struct Scan<'a> {
    layout: &'a Layout,
    entropy: &'a Entropy,
    /// MCUs; beyond any image where there are no restart markers.
    interval: usize,
    planes: Vec<Plane<'a>>,
    stride: usize,
}

impl<'a> Scan<'a> {
    fn new(header: &'a Header<'_>, layout: &'a Layout, entropy: &'a Entropy) -> Option<Self> {
        let mcus = layout.count.0 * layout.count.1;
        let interval = if header.restart_interval == 0 { mcus } else { header.restart_interval };
        if entropy.intervals() != mcus.div_ceil(interval) {
            return None;
        }
        let stride = layout.columns.len() * layout.mcu.0;
        let planes = header.components.iter().enumerate().map(|(number, component)| {
            let size = (layout.mcu.0 / component.blocks.0, layout.mcu.1 / component.blocks.1);
            Some(Plane {
                component,
                transform: Transform::new(size, &component.quantisation)?,
                mean: 0,
                samples: vec![0.0; stride * layout.mcu.1],
                level: if number == 0 { 128.0 } else { 0.0 },
            })
        });
        Some(Self { layout, entropy, interval, planes: planes.collect::<Option<_>>()?, stride })
    }

    fn run(mut self) -> Option<Vec<u8>> {
        let layout = self.layout;
        let mut pixels = Vec::with_capacity(layout.width * layout.height * 3);
        let mut bits = self.entropy.interval(0)?;
        let (mut left_in_interval, mut interval) = (self.interval, 0);
        // What comes below the window is not even read.
        for row in 0..layout.rows.end {
            let is_wanted = row >= layout.rows.start;
            for column in 0..layout.count.0 {
                if left_in_interval == 0 {
                    if bits.is_exhausted() {
                        return None;
                    }
                    interval += 1;
                    bits = self.entropy.interval(interval)?;
                    left_in_interval = self.interval;
                    for plane in &mut self.planes {
                        plane.mean = 0;
                    }
                }
                left_in_interval -= 1;
                if is_wanted && layout.columns.contains(&column) {
                    let left = (column - layout.columns.start) * layout.mcu.0;
                    for plane in &mut self.planes {
                        plane.read_mcu(&mut bits, left, self.stride)?;
                    }
                } else {
                    for plane in &mut self.planes {
                        plane.skip_mcu(&mut bits)?;
                    }
                }
            }
            if bits.is_exhausted() {
                return None;
            }
            if is_wanted {
                self.write_rows(
                    (layout.height - pixels.len() / 3 / layout.width).min(layout.mcu.1),
                    &mut pixels,
                );
            }
        }
        Some(pixels)
    }

    /// Appends the first rows of a row of MCUs, as RGB.
    fn write_rows(&self, rows: usize, pixels: &mut Vec<u8>) {
        let width = self.layout.width;
        for start in (0..rows).map(|row| row * self.stride) {
            let line = |plane: usize| &self.planes[plane].samples[start..start + width];
            if self.planes.len() == 1 {
                pixels.extend(line(0).iter().flat_map(|&luma| [level(luma); 3]));
            } else {
                // Whole arrays of numbers first: the compiler makes vector instructions of that.
                let (luma, luma_rest) = line(0).as_chunks::<LANES>();
                let (blue, blue_rest) = line(1).as_chunks::<LANES>();
                let (red, red_rest) = line(2).as_chunks::<LANES>();
                for ((luma, blue), red) in luma.iter().zip(blue).zip(red) {
                    let mut chunk = [[0; 3]; LANES];
                    let [reds, greens, blues] = rgb(luma, blue, red);
                    for index in 0..LANES {
                        chunk[index] = [reds[index], greens[index], blues[index]];
                    }
                    pixels.extend_from_slice(chunk.as_flattened());
                }
                for ((&luma, &blue), &red) in luma_rest.iter().zip(blue_rest).zip(red_rest) {
                    pixels.extend(rgb(&[luma], &[blue], &[red]).as_flattened());
                }
            }
        }
    }
}

impl Plane<'_> {
    fn read_mcu(&mut self, bits: &mut Bits<'_>, left: usize, stride: usize) -> Option<()> {
        let (width, height) = self.transform.size;
        let mut block = [0.0; 64];
        for row in 0..self.component.blocks.1 {
            for column in 0..self.component.blocks.0 {
                self.mean = self.mean.wrapping_add(read_difference(bits, &self.component.dc)?);
                let (fours, _) = block.as_chunks_mut::<4>();
                for four in fours.iter_mut().take((width * height).div_ceil(4)) {
                    *four = [0.0; 4];
                }
                self.read_block(bits, &mut block)?;
                let start = row * height * stride + left + column * width;
                self.transform.inverse(&block, &mut self.samples[start..], stride);
            }
        }
        Some(())
    }

    /// In a function of its own, so that all it works with stays in registers.
    #[inline(never)]
    fn read_block(&self, bits: &mut Bits<'_>, block: &mut [f32; 64]) -> Option<()> {
        self.transform.put(block, 0, self.mean);
        block[0] += self.level;
        read_block(bits, &self.component.ac, self.transform.last, |position, value| {
            self.transform.put(block, position, value);
        })
    }

    fn skip_mcu(&mut self, bits: &mut Bits<'_>) -> Option<()> {
        for _ in 0..self.component.blocks.0 * self.component.blocks.1 {
            self.mean = self.mean.wrapping_add(read_difference(bits, &self.component.dc)?);
            read_block(bits, &self.component.ac, 0, |_, _| ())?;
        }
        Some(())
    }
}

/// JFIF's conversion (ITU-T T.871, section 7).
#[inline]
fn rgb<const N: usize>(luma: &[f32; N], blue: &[f32; N], red: &[f32; N]) -> [[u8; N]; 3] {
    [
        std::array::from_fn(|index| level(luma[index] + 1.402 * red[index])),
        std::array::from_fn(|index| level(luma[index] - 0.344_136 * blue[index] - 0.714_136 * red[index])),
        std::array::from_fn(|index| level(luma[index] + 1.772 * blue[index])),
    ]
}

/// Rounds to a level of 255.
fn level(sample: f32) -> u8 {
    /// Numbers from here on have no bits for fractions: the sum's lowest byte is the sample, rounded.
    const WHOLE: f32 = 8_388_608.0;
    (sample.clamp(0.0, 255.0) + WHOLE).to_bits() as u8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Limits, decode};

    fn source(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/image/source/");
        std::fs::read(format!("{folder}{name}.jpg")).unwrap()
    }

    fn part(bytes: &[u8], cut: Option<Cut>, reduction: Reduction) -> Option<Part> {
        let whole = decode(bytes, &Limits::default()).unwrap();
        let cut = cut.unwrap_or(Cut { left: 0, top: 0, width: whole.width, height: whole.height });
        decode_part(bytes, (whole.width, whole.height), cut, reduction)
    }

    #[test]
    fn reduced_pixels_are_about_the_means_of_whole_ones() {
        for name in
            ["photo-dress", "photo-sandals", "photo-shirt", "grey", "full-chroma", "half-chroma", "restarts"]
        {
            let bytes = source(name);
            let whole = decode(&bytes, &Limits::default()).unwrap();
            for reduction in [Reduction::Half, Reduction::Quarter, Reduction::Eighth] {
                let Part { image, left, top } = part(&bytes, None, reduction).unwrap();
                let factor = reduction.factor();
                assert_eq!((left, top), (0, 0), "{name}");
                assert_eq!(
                    (image.width, image.height),
                    (whole.width.div_ceil(factor), whole.height.div_ceil(factor))
                );
                let mut sum = 0.0;
                // Whole blocks only: what lies beyond the edge is the writer's choice.
                let (columns, rows) = (whole.width / factor, whole.height / factor);
                for (y, x) in (0..rows).flat_map(|y| (0..columns).map(move |x| (y, x))) {
                    for channel in 0..3 {
                        let at = |image: &RgbImage, x: u32, y: u32| {
                            f64::from(image.pixels[((y * image.width + x) * 3 + channel) as usize])
                        };
                        let block = (0..factor * factor)
                            .map(|n| at(&whole, x * factor + n % factor, y * factor + n / factor));
                        sum += (block.sum::<f64>() / f64::from(factor * factor) - at(&image, x, y)).abs();
                    }
                }
                let mean = sum / f64::from(columns * rows * 3);
                // Sharper than means, so not the same at edges.
                assert!(mean < 6.0, "{name} {reduction:?}: {mean} levels");
            }
        }
    }

    #[test]
    fn a_part_is_cut_from_the_whole() {
        for name in ["photo-dress", "half-chroma", "restarts"] {
            let bytes = source(name);
            let whole = part(&bytes, None, Reduction::Half).unwrap().image;
            let wanted = Cut { left: whole.width / 2, top: whole.height / 2, width: whole.width, height: 5 };
            let Part { image, left, top } = part(&bytes, Some(wanted), Reduction::Half).unwrap();
            assert!(left * 2 <= wanted.left && top * 2 <= wanted.top, "{name}: {left}, {top}");
            assert!((top + image.height) * 2 >= wanted.top + wanted.height, "{name}");
            for (row, pixels) in (top..).zip(image.pixels.chunks_exact(image.width as usize * 3)) {
                let start = ((row * whole.width + left) * 3) as usize;
                assert_eq!(pixels, &whole.pixels[start..start + pixels.len()], "{name}, row {row}");
            }
        }
    }

    #[test]
    fn what_is_not_plain_is_left_alone() {
        for name in ["progressive", "cmyk", "cmyk-without-adobe", "ycck", "rgb"] {
            assert!(part(&source(name), None, Reduction::Half).is_none(), "{name}");
        }
        let bytes = source("photo-dress");
        let cut = Cut { left: 0, top: 0, width: 8, height: 8 };
        assert!(
            decode_part(&bytes, (301, 300), cut, Reduction::Half).is_none(),
            "a size that does not agree"
        );
    }

    #[test]
    fn truncated_data_is_noticed() {
        let bytes = source("photo-shirt");
        let end = bytes.len() - 2;
        for missing in [1, 10, 100, 1000] {
            let cut = [&bytes[..end - missing], b"\xff\xd9".as_slice()].concat();
            let whole = decode(&bytes, &Limits::default()).unwrap();
            let all = Cut { left: 0, top: 0, width: whole.width, height: whole.height };
            let part = decode_part(&cut, (whole.width, whole.height), all, Reduction::Quarter);
            assert!(part.is_none() || missing == 1, "{missing} bytes");
        }
    }
}
