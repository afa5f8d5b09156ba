//! Checks that every vector passes on its way in.

use crate::Error;

/// The vector scaled to length 1.
///
/// Callers pass unit vectors already; scaling again removes the encoder's rounding, so that a dot product *is* a cosine
/// and a vector's cosine with itself is 1 to within f32 rounding.
pub fn unit(vector: &[f32], dimensions: usize) -> Result<Vec<f32>, Error> {
    let norm = checked_norm(vector, dimensions)?;
    Ok(vector.iter().map(|&component| (f64::from(component) / norm) as f32).collect())
}

/// [`unit()`] before its rounding to f32.
pub(crate) fn unit_f64(vector: &[f32], dimensions: usize) -> Result<Vec<f64>, Error> {
    let norm = checked_norm(vector, dimensions)?;
    Ok(vector.iter().map(|&component| f64::from(component) / norm).collect())
}

/// Euclidean length, after refusing wrong sizes, NaN, infinities and zero.
pub(crate) fn checked_norm(vector: &[f32], dimensions: usize) -> Result<f64, Error> {
    if vector.len() != dimensions {
        return Err(Error::Dimensions { expected: dimensions, actual: vector.len() });
    }
    if let Some(position) = vector.iter().position(|component| !component.is_finite()) {
        return Err(Error::NotFinite { position });
    }
    // In f64 neither the square of f32::MAX overflows nor that of the smallest subnormal vanishes.
    let norm = vector.iter().map(|&component| f64::from(component).powi(2)).sum::<f64>().sqrt();
    if norm == 0.0 { Err(Error::ZeroVector) } else { Ok(norm) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_is_scaled_to_length_one() {
        assert_eq!(unit(&[3.0, 4.0], 2).unwrap(), [0.6, 0.8]);
        assert_eq!(unit(&[f32::MAX, 0.0], 2).unwrap(), [1.0, 0.0]);
        assert_eq!(unit(&[f32::from_bits(1), 0.0], 2).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        assert_eq!(unit(&[1.0], 2), Err(Error::Dimensions { expected: 2, actual: 1 }));
        assert_eq!(unit(&[1.0, f32::NAN], 2), Err(Error::NotFinite { position: 1 }));
        assert_eq!(unit(&[f32::INFINITY, 1.0], 2), Err(Error::NotFinite { position: 0 }));
        assert_eq!(unit(&[0.0, -0.0], 2), Err(Error::ZeroVector));
    }
}
