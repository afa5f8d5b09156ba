//! Bytes straight to the crop, without the upright photo in between.
//!
//! [`decode`](super::decode()) and [`Preprocessor::crop`] say what the crop is. Here it is made with less work: a photo
//! much larger than the crop is decoded at a reduced scale, and what its orientation asks for is done to the crop.

use ::image::ImageDecoder;
use ::image::metadata::Orientation;

use super::decode::{catching_panics, open, recognise, stored};
use super::jpeg::{self, Part, Reduction};
use super::preprocess::{Order, crop_window};
use super::resample::{Cut, Window};
use super::{Filter, Format, ImageError, Limits, Preprocessor, RgbImage};

/// Decoded pixels, along each axis, that a pixel of the crop is made of at least. The less there are, the more the reduced
/// scale shows.
const LEAST_PER_PIXEL: f64 = 2.0;

impl Preprocessor {
    /// Decodes and crops: what [`decode`](super::decode()) and [`crop`](Self::crop) make of the bytes, faster.
    ///
    /// Where the photo is not reduced, pixels differ by one level at most, and only where its orientation turns or mirrors
    /// it. JPEG photos of at least four pixels to one of the crop are decoded at 1/2, 1/4 or 1/8 of their size, which
    /// changes a photograph's pixels by less than half a level in the mean. Errors are those of `decode`, except that damage
    /// in a reduced photo may pass where the crop does not look.
    pub fn decode_crop(&self, bytes: &[u8], limits: &Limits) -> Result<(RgbImage, Format), ImageError> {
        let format = recognise(bytes, limits)?;
        catching_panics(format, || {
            let mut decoder = open(format, bytes, limits)?;
            // Unreadable metadata is no reason to refuse readable pixels.
            let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
            let view = View::new(self, decoder.dimensions(), orientation);
            let part = if format == Format::Jpeg { view.reduced(bytes) } else { None };
            let crop = match part {
                Some((part, reduction)) => view.crop_part(&part, reduction),
                None => view.crop(&stored(format, decoder)?.into(), view.window),
            };
            Ok((view.turn.upright(crop), format))
        })
    }
}

/// What a crop shows of the pixels as they are stored.
struct View {
    size: (u32, u32),
    window: Window,
    crop_size: u32,
    filter: Filter,
    order: Order,
    turn: Turn,
}

impl View {
    fn new(preprocessor: &Preprocessor, size: (u32, u32), orientation: Orientation) -> Self {
        let turn = Turn::of(orientation);
        let (width, height) = if turn.is_transposed { (size.1, size.0) } else { size };
        let upright = preprocessor.resize.window(width, height);
        let order = Order::of(preprocessor.filter);
        Self {
            size,
            window: turn.stored(upright, width, height),
            crop_size: preprocessor.crop_size(),
            filter: preprocessor.filter,
            order: if turn.is_transposed { order.other() } else { order },
            turn,
        }
    }

    /// Pixels of the image to one of the crop, horizontally and vertically.
    fn scales(&self) -> [f64; 2] {
        [self.window.width, self.window.height].map(|length| length / f64::from(self.crop_size))
    }

    /// The strongest reduction that leaves enough pixels.
    fn reduction(&self) -> Option<Reduction> {
        let [horizontal, vertical] = self.scales();
        let most = horizontal.min(vertical) / LEAST_PER_PIXEL;
        let reductions = [Reduction::Eighth, Reduction::Quarter, Reduction::Half];
        reductions.into_iter().find(|reduction| f64::from(reduction.factor()) <= most)
    }

    /// The part of a JPEG photo that the crop is made of, where that can be had at a reduced scale.
    fn reduced(&self, bytes: &[u8]) -> Option<(Part, Reduction)> {
        let reduction = self.reduction()?;
        let [horizontal, vertical] = self.scales().map(|scale| self.filter.support() * scale);
        let axis = |start: f64, length: f64, reach: f64, size: u32| {
            // One more for what rounding may do.
            let reach = reach + f64::from(reduction.factor());
            let first = (start - reach).floor().max(0.0);
            let last = (start + length + reach).ceil().min(f64::from(size));
            (first as u32, (last - first) as u32)
        };
        let (left, width) = axis(self.window.left, self.window.width, horizontal, self.size.0);
        let (top, height) = axis(self.window.top, self.window.height, vertical, self.size.1);
        let part = jpeg::decode_part(bytes, self.size, Cut { left, top, width, height }, reduction)?;
        Some((part, reduction))
    }

    fn crop_part(&self, part: &Part, reduction: Reduction) -> RgbImage {
        let factor = f64::from(reduction.factor());
        let window = Window {
            left: self.window.left / factor - f64::from(part.left),
            top: self.window.top / factor - f64::from(part.top),
            width: self.window.width / factor,
            height: self.window.height / factor,
        };
        self.crop(&part.image, window)
    }

    /// The crop, not yet upright.
    fn crop(&self, image: &RgbImage, window: Window) -> RgbImage {
        crop_window(image, window, self.crop_size, self.filter, self.order)
    }
}

/// How to come from upright coordinates to stored ones: first mirror, then exchange x and y.
struct Turn {
    mirrors_x: bool,
    mirrors_y: bool,
    is_transposed: bool,
}

impl Turn {
    fn of(orientation: Orientation) -> Self {
        let (mirrors_x, mirrors_y, is_transposed) = match orientation {
            Orientation::NoTransforms => (false, false, false),
            Orientation::FlipHorizontal => (true, false, false),
            Orientation::Rotate180 => (true, true, false),
            Orientation::FlipVertical => (false, true, false),
            Orientation::Rotate90FlipH => (false, false, true),
            Orientation::Rotate90 => (true, false, true),
            Orientation::Rotate270FlipH => (true, true, true),
            Orientation::Rotate270 => (false, true, true),
        };
        Self { mirrors_x, mirrors_y, is_transposed }
    }

    /// A window of an upright image of `width` × `height`, in the stored one.
    fn stored(&self, window: Window, width: u32, height: u32) -> Window {
        let Window { mut left, mut top, width: window_width, height: window_height } = window;
        if self.mirrors_x {
            left = (f64::from(width) - left - window_width).max(0.0);
        }
        if self.mirrors_y {
            top = (f64::from(height) - top - window_height).max(0.0);
        }
        if self.is_transposed {
            Window { left: top, top: left, width: window_height, height: window_width }
        } else {
            Window { left, top, width: window_width, height: window_height }
        }
    }
    /// A square of stored pixels, upright.
    fn upright(&self, crop: RgbImage) -> RgbImage {
        if !(self.mirrors_x || self.mirrors_y || self.is_transposed) {
            return crop;
        }
        let side = crop.width as usize;
        let (pixels, _) = crop.pixels.as_chunks::<3>();
        let upright = (0..side * side).flat_map(|position| {
            let (x, y) = (position % side, position / side);
            let x = if self.mirrors_x { side - 1 - x } else { x };
            let y = if self.mirrors_y { side - 1 - y } else { y };
            pixels[if self.is_transposed { x * side + y } else { y * side + x }]
        });
        RgbImage { pixels: upright.collect(), ..crop }
    }
}
