//! Every pixel layout to 8-bit RGB.

use ::image::DynamicImage;

/// Converts to 8-bit RGB: grey is repeated, 16-bit samples are rounded, transparency is laid over white.
///
/// White, because that is what catalogue photos stand on and what most viewers show.
pub(super) fn flatten(image: DynamicImage) -> ::image::RgbImage {
    if !image.color().has_alpha() {
        return image.into_rgb8();
    }
    let image = image.into_rgba8();
    let (width, height) = image.dimensions();
    let mut flat = ::image::RgbImage::new(width, height);
    for (out, pixel) in flat.chunks_exact_mut(3).zip(image.chunks_exact(4)) {
        for (out, &sample) in out.iter_mut().zip(pixel) {
            *out = over_white(sample, pixel[3]);
        }
    }
    flat
}

/// `sample · alpha + 255 · (1 − alpha)`, rounded to nearest.
fn over_white(sample: u8, alpha: u8) -> u8 {
    let (sample, alpha) = (u32::from(sample), u32::from(alpha));
    ((sample * alpha + 255 * (255 - alpha) + 127) / 255) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alpha_blends_with_white() {
        assert_eq!(over_white(0, 0), 255);
        assert_eq!(over_white(17, 255), 17);
        assert_eq!(over_white(0, 128), 127);
        assert_eq!(over_white(255, 128), 255);
    }

    #[test]
    fn sixteen_bits_round_to_eight() {
        let grey = ::image::ImageBuffer::from_raw(3, 1, vec![0_u16, 128 * 257 + 100, 65_535]).unwrap();
        assert_eq!(
            flatten(DynamicImage::ImageLuma16(grey)).into_raw(),
            [0, 0, 0, 128, 128, 128, 255, 255, 255]
        );
    }
}
