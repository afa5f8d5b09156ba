//! Pixels to a JPEG, for pages that show pictures.

use super::RgbImage;
use crate::Error;

/// A JPEG of `image`; `quality` from 1 to 100.
///
/// # Errors
/// Where the image has not the pixels its size promises, or a side longer than a JPEG can have (65,535 pixels).
pub fn encode_jpeg(image: &RgbImage, quality: u8) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let (width, height) = (image.width, image.height);
    if image.pixels.len() as u64 != 3 * u64::from(width) * u64::from(height) {
        return Err(Error::Input(format!("{width}×{height} pixels were promised, others are there")));
    }
    ::image::codecs::jpeg::JpegEncoder::new_with_quality(&mut bytes, quality)
        .encode(&image.pixels, width, height, ::image::ExtendedColorType::Rgb8)
        .map_err(|error| Error::Input(format!("a JPEG of {width}×{height} pixels: {error}")))?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::{Limits, decode};

    #[test]
    fn what_is_encoded_can_be_decoded() {
        let pixels: Vec<u8> = (0..16 * 12).flat_map(|place| [200, 60 + place as u8 / 2, 30]).collect();
        let image = RgbImage { width: 16, height: 12, pixels };
        let back = decode(&encode_jpeg(&image, 90).unwrap(), &Limits::default()).unwrap();
        assert_eq!((back.width, back.height), (16, 12));
        let error = image.pixels.iter().zip(&back.pixels).map(|(a, b)| u64::from(a.abs_diff(*b)));
        assert!(error.sum::<u64>() / (image.pixels.len() as u64) < 6);
        assert!(encode_jpeg(&RgbImage { width: 17, ..image }, 90).is_err());
    }
}
