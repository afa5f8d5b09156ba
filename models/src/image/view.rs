//! Augmented views as data: drawn in one place, made in another, on the CPU or on a device.

use super::Cut;

/// What makes a square view out of an image, in this order.
#[derive(Clone, Debug, PartialEq)]
pub struct ViewPlan {
    /// What is resized to the view's side, antialiased bilinear.
    pub window: Cut,
    /// Whether left and right change places.
    pub flip: bool,
    /// What is done to colours: at most one operation of each kind.
    pub colours: Vec<ColourOperation>,
    /// Standard deviation in pixels of a Gaussian blur, edges repeated.
    pub blur: Option<f32>,
}

/// One change of an image's colours, with Pillow's rounding to 8 bits.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ColourOperation {
    /// Blends with black: the factor is the image's share, above 1 it leads away from black.
    Brightness(f32),
    /// Blends with the image's mean luma.
    Contrast(f32),
    /// Blends each pixel with its luma.
    Saturation(f32),
    /// Turns the hue by a share of the circle, in −0.5..=0.5.
    Hue(f32),
    /// Replaces each pixel by its luma.
    Grey,
}

impl ColourOperation {
    /// How many kinds there are.
    pub const KINDS: usize = 5;
}
