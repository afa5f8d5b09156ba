//! The crate through its public face: against scikit-learn, and against models too simple to be wrong.

mod index;
mod logistic;
