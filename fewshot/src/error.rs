//! The one error type of this crate.

use crate::ClassKey;

/// Why a vector, a set of examples or a stored head was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A NaN or infinite component.
    #[error("component {position} of the vector is not finite; check the image or encoder it came from")]
    NotFinite {
        /// Index of the first such component.
        position: usize,
    },
    /// A vector of another length.
    #[error("the vector has {actual} dimensions, {expected} are expected; embed it with the encoder in use")]
    Dimensions {
        /// What the index or head holds.
        expected: usize,
        /// What came.
        actual: usize,
    },
    /// A zero vector has no direction.
    #[error("the vector has no length, so it has no direction to compare; check the encoder it came from")]
    ZeroVector,
    /// Fewer classes than the method needs.
    #[error("{actual} classes with examples, at least {needed} are needed; label examples of another class")]
    TooFewClasses {
        /// What the method needs.
        needed: usize,
        /// What came.
        actual: usize,
    },
    /// An example was taken out of a class that holds none.
    #[error("class {class} has no examples; add one before removing one")]
    EmptyClass {
        /// The class asked for.
        class: ClassKey,
    },
    /// A fitting option outside its range.
    #[error("option {name} is {value}; it must be {range}")]
    InvalidOption {
        /// The field's name.
        name: &'static str,
        /// What came.
        value: String,
        /// What is allowed.
        range: &'static str,
    },
    /// The optimiser did not reach its tolerance.
    #[error(
        "the solver stopped after {iterations} iterations at gradient norm {gradient_norm}; \
         allow more iterations, a larger tolerance or more regularisation"
    )]
    NotConverged {
        /// Iterations taken.
        iterations: usize,
        /// Largest gradient component at the end.
        gradient_norm: String,
    },
    /// The caller ended a fit.
    #[error("the fit was cancelled; nothing was changed")]
    Cancelled,
    /// A stored head that this version cannot use.
    #[error("the stored head cannot be used: {reason}; fit it again")]
    StoredHead {
        /// What is wrong with it.
        reason: String,
    },
}
