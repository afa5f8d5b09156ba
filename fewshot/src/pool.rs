//! Unlabelled vectors.

use crate::Error;
use crate::vector::unit;

/// Unit vectors nobody has labelled, each with any number of further views of the same image.
#[derive(Clone, Debug, Default)]
pub struct Pool {
    /// `[image][dimension]`.
    vectors: Vec<f32>,
    /// `[image][view][dimension]`: embeddings of the image with most of its patches hidden.
    views: Vec<f32>,
    len: usize,
}

impl Pool {
    /// Takes over vectors, scaled to length 1. Refuses what has no direction or another length.
    pub fn new<'a>(dimensions: usize, vectors: impl IntoIterator<Item = &'a [f32]>) -> Result<Self, Error> {
        let mut pool = Self::default();
        for vector in vectors {
            pool.vectors.extend(unit(vector, dimensions)?);
            pool.len += 1;
        }
        Ok(pool)
    }

    /// Adds as many views to every image: `views` has those of the first image, then those of the second, and so on.
    pub fn with_views<'a>(
        mut self,
        dimensions: usize,
        views: impl IntoIterator<Item = &'a [f32]>,
    ) -> Result<Self, Error> {
        self.check_dimensions(dimensions)?;
        for view in views {
            self.views.extend(unit(view, dimensions)?);
        }
        if !self.views.len().is_multiple_of(self.vectors.len().max(1)) {
            return Err(Error::InvalidOption {
                name: "views",
                value: (self.views.len() / dimensions.max(1)).to_string(),
                range: "the same number for every image of the pool",
            });
        }
        Ok(self)
    }

    /// Fails unless its vectors, if there are any, have so many dimensions.
    pub fn check_dimensions(&self, expected: usize) -> Result<(), Error> {
        match self.vectors.len().checked_div(self.len) {
            Some(actual) if actual != expected => Err(Error::Dimensions { expected, actual }),
            Some(_) | None => Ok(()),
        }
    }

    /// At most so many images, evenly spaced in this order.
    #[must_use]
    pub fn evenly_spaced(&self, most: usize) -> Self {
        if self.len <= most {
            return self.clone();
        }
        let (dimensions, viewed) = (self.vectors.len() / self.len, self.views.len() / self.len);
        let images = evenly_spaced(self.len, most);
        let of = |numbers: &[f32], size: usize| -> Vec<f32> {
            images.iter().flat_map(|image| &numbers[image * size..][..size]).copied().collect()
        };
        Self { vectors: of(&self.vectors, dimensions), views: of(&self.views, viewed), len: most }
    }

    /// Number of further views of each image.
    pub fn views_per_image(&self) -> usize {
        self.views.len() / self.vectors.len().max(1)
    }

    /// Number of images.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Without any.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All vectors, `[image][dimension]`.
    pub fn vectors(&self) -> &[f32] {
        &self.vectors
    }

    /// Views, `[image][view][dimension]`; empty without any.
    pub fn views(&self) -> &[f32] {
        &self.views
    }
}

/// At most `most` of the positions below `len`, evenly spaced: what a pool that is too large is represented by.
pub fn evenly_spaced(len: usize, most: usize) -> Vec<usize> {
    let kept = len.min(most);
    (0..kept).map(|place| (place as u128 * len as u128 / kept as u128) as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_belong_to_images() {
        let pool = Pool::new(2, [&[1.0, 0.0][..], &[0.0, 2.0]]).unwrap();
        assert_eq!((pool.len(), pool.vectors()), (2, &[1.0, 0.0, 0.0, 1.0][..]));
        let views: [&[f32]; 2] = [&[0.0, 1.0], &[1.0, 0.0]];
        assert_eq!(pool.clone().with_views(2, views).unwrap().views(), [0.0, 1.0, 1.0, 0.0]);
        assert!(pool.clone().with_views(2, [views[0]; 3]).is_err());
        let other = Error::Dimensions { expected: 1, actual: 2 };
        assert_eq!(pool.with_views(1, [&[1.0f32][..]; 4]).err(), Some(other));
        assert_eq!(Pool::default().check_dimensions(7), Ok(()));
    }

    #[test]
    fn positions_are_spread_over_the_whole() {
        assert_eq!(evenly_spaced(10, 4), [0, 2, 5, 7]);
        assert_eq!(evenly_spaced(3, 4), [0, 1, 2]);
        assert_eq!(evenly_spaced(1_000_000, 8192).len(), 8192);
        assert!(evenly_spaced(0, 4).is_empty() && evenly_spaced(4, 0).is_empty());
    }

    #[test]
    fn a_part_is_spread_over_the_whole() {
        let vectors: Vec<[f32; 2]> =
            (0..7).map(|i| if i % 3 == 0 { [0.0, 1.0] } else { [1.0, 0.0] }).collect();
        let pool = Pool::new(2, vectors.iter().map(|vector| &vector[..])).unwrap();
        let pool = pool.with_views(2, vectors.iter().map(|vector| &vector[..])).unwrap();
        let part = pool.evenly_spaced(3);
        assert_eq!((part.len(), part.views_per_image()), (3, 1));
        // Images 0, 2 and 4.
        assert_eq!(part.vectors(), [0.0, 1.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(part.views(), part.vectors());
        assert_eq!(pool.evenly_spaced(7).vectors(), pool.vectors());
    }
}
