//! Whether a faster arithmetic is good enough for a network: its vectors beside f32's on a few photos.

use super::Encoder;
use crate::Error;
use crate::image::{Limits, RgbImage, decode};

/// See models/calibration/README.md.
const PHOTOS: [&[u8]; 8] = [
    include_bytes!("../../calibration/01.jpg"),
    include_bytes!("../../calibration/02.jpg"),
    include_bytes!("../../calibration/03.jpg"),
    include_bytes!("../../calibration/04.jpg"),
    include_bytes!("../../calibration/05.jpg"),
    include_bytes!("../../calibration/06.jpg"),
    include_bytes!("../../calibration/07.jpg"),
    include_bytes!("../../calibration/08.jpg"),
];

/// Least mean cosine, and least cosine of any photo.
const GOOD_ENOUGH: Agreement = Agreement { mean: 0.998, least: 0.99 };

/// Cosines between the vectors that two executions of a network give the same photos.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// On average.
    pub mean: f64,
    /// Of the photo that they agree on least.
    pub least: f64,
}

impl Agreement {
    /// Whether vectors of both may meet.
    pub fn is_good_enough(&self) -> bool {
        self.mean >= GOOD_ENOUGH.mean && self.least >= GOOD_ENOUGH.least
    }
}

/// How far two encoders that differ in their arithmetic agree.
pub(super) fn agreement(one: &Encoder, other: &Encoder) -> Result<Agreement, Error> {
    let crops = PHOTOS.iter().map(|bytes| Ok(one.preprocessor().crop(&photo(bytes)?)));
    let crops = crops.collect::<Result<Vec<RgbImage>, Error>>()?;
    let (one, other) = (one.embed(&crops, 1.0)?, other.embed(&crops, 1.0)?);
    let cosine = |(one, other): (&Vec<f32>, &Vec<f32>)| {
        one.iter().zip(other).map(|(one, other)| f64::from(*one) * f64::from(*other)).sum::<f64>()
    };
    let cosines: Vec<f64> = one.iter().zip(&other).map(cosine).collect();
    let mean = cosines.iter().sum::<f64>() / cosines.len() as f64;
    Ok(Agreement { mean, least: cosines.into_iter().fold(1.0, f64::min) })
}

fn photo(bytes: &[u8]) -> Result<RgbImage, Error> {
    decode(bytes, &Limits::default()).map_err(|error| Error::Input(format!("a calibration photo: {error}")))
}
