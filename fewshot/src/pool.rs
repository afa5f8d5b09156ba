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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_belong_to_images() {
        let pool = Pool::new(2, [&[1.0, 0.0][..], &[0.0, 2.0]]).unwrap();
        assert_eq!((pool.len(), pool.vectors()), (2, &[1.0, 0.0, 0.0, 1.0][..]));
        let views: [&[f32]; 2] = [&[0.0, 1.0], &[1.0, 0.0]];
        assert_eq!(pool.clone().with_views(2, views).unwrap().views(), [0.0, 1.0, 1.0, 0.0]);
        assert!(pool.with_views(2, [views[0]; 3]).is_err());
    }
}
