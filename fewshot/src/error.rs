//! The one error type of this crate.

/// Why a vector, a set of examples or a stored head was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A NaN or infinite component.
    #[error("component {position} of the vector is not finite")]
    NotFinite { position: usize },
    /// A vector of another length.
    #[error("the vector has {actual} dimensions, {expected} are expected")]
    Dimensions { expected: usize, actual: usize },
    /// A zero vector has no direction.
    #[error("the vector has no length")]
    ZeroVector,
    /// Fewer classes than the method needs.
    #[error("{actual} classes with examples, at least {needed} are needed")]
    TooFewClasses { needed: usize, actual: usize },
    /// The optimiser did not reach its tolerance.
    #[error("the solver stopped after {iterations} iterations at gradient norm {gradient_norm}")]
    NotConverged { iterations: usize, gradient_norm: String },
}
