//! Running class means.

use super::{Head, Score};
use crate::{ClassKey, Error};

/// The mean of each class's unit vectors, kept exact under insert and delete (f64 sums); answers by cosine.
#[derive(Clone, Debug)]
pub struct PrototypeHead {}

impl PrototypeHead {
    /// Without classes.
    pub fn new(_dimensions: usize) -> Self {
        todo!()
    }
    /// Adds one example's vector.
    pub fn add(&mut self, _class: ClassKey, _vector: &[f32]) -> Result<(), Error> {
        todo!()
    }
    /// Takes one example's vector out again; the class goes with its last.
    pub fn remove(&mut self, _class: ClassKey, _vector: &[f32]) -> Result<(), Error> {
        todo!()
    }
    /// Forgets a class.
    pub fn remove_class(&mut self, _class: ClassKey) {
        todo!()
    }
}

impl Head for PrototypeHead {
    fn classes(&self) -> Vec<ClassKey> {
        todo!()
    }
    fn predict(&self, _vector: &[f32], _accept: &dyn Fn(ClassKey) -> bool) -> Result<Vec<Score>, Error> {
        todo!()
    }
}
