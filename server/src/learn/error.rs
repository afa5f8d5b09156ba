//! Why a call of the loop is refused.

use crate::store::StoreError;

/// Why a call of the loop was refused. Mapped to HTTP in one place (`http/problem.rs`), exhaustively.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A collection or class name outside `[a-z0-9][a-z0-9._-]{0,63}`.
    #[error(
        "`{name}` is not a usable name: use 1 to 64 lower-case letters, digits, `.`, `_` or `-`, \
         beginning with a letter or digit"
    )]
    InvalidName {
        /// What was given.
        name: String,
    },
    /// No such class.
    #[error("there is no class `{class}`; add an example to create it")]
    UnknownClass {
        /// Slug.
        class: String,
    },
    /// No such example in that class.
    #[error(
        "there is no example `{example}` in class `{class}`; list the class's examples to see what is there"
    )]
    UnknownExample {
        /// Slug.
        class: String,
        /// Id.
        example: String,
    },
    /// No such image.
    #[error("there is no image `{image}`; list the images to see which there are")]
    UnknownImage {
        /// Id.
        image: String,
    },
    /// No such head version.
    #[error("there is no head version {version}; list the heads to see which there are")]
    UnknownHead {
        /// What was asked for.
        version: i64,
    },
    /// No such job.
    #[error("there is no job `{job}`; list the jobs to see which there are")]
    UnknownJob {
        /// Id.
        job: String,
    },
    /// No such finding of that audit.
    #[error("audit `{job}` has no finding {number}; list its findings to see which there are")]
    UnknownFinding {
        /// Id of the audit's job.
        job: String,
        /// What was asked for.
        number: i64,
    },
    /// Somebody has resolved the finding already.
    #[error("finding {number} of audit `{job}` is {done} already; undo that at the examples themselves")]
    FindingResolved {
        /// Id of the audit's job.
        job: String,
        /// What was asked for.
        number: i64,
        /// How it was resolved.
        done: String,
    },
    /// The finding names no class to move to, or that class is gone.
    #[error("finding {number} names no class that its examples could move to; name one in `to`")]
    NowhereToMove {
        /// What was asked for.
        number: i64,
    },
    /// Creating or renaming onto an existing class.
    #[error("class `{class}` exists already; choose another id or delete that class first")]
    ClassExists {
        /// Slug.
        class: String,
    },
    /// The class is not as the caller has seen it.
    #[error(
        "class `{class}` has changed since you read it; read it again and repeat the call if it still applies"
    )]
    ClassChanged {
        /// Its slug.
        class: String,
    },
    /// Classify before any example.
    #[error("no class has examples yet; add some to at least one class first")]
    NoExamples,
    /// Train with too little.
    #[error("{actual} classes have examples, at least {needed} are needed; add examples of another class")]
    TooFewClasses {
        /// What the method needs.
        needed: usize,
        /// What there is.
        actual: usize,
    },
    /// The candidate filter names a class that cannot be answered with.
    #[error("class `{class}` has no examples to answer from; add some or leave it out of the candidates")]
    ClassNotInHead {
        /// Slug.
        class: String,
    },
    /// A head fitted on another encoder's vectors.
    #[error("head version {version} was fitted for another encoder; train again or serve with that encoder")]
    HeadOfOtherEncoder {
        /// What was asked for.
        version: i64,
    },
    /// The job has ended already.
    #[error("job `{job}` is {status} already; there is nothing to cancel")]
    JobEnded {
        /// Id.
        job: String,
        /// How it ended.
        status: String,
    },
    /// A vector of the wrong size or not finite.
    #[error(transparent)]
    Vector(#[from] dozen_fewshot::Error),
    /// The paging cursor is not one of ours.
    #[error("the cursor is not one this server gave out for this list; start without one")]
    InvalidCursor,
    /// Database or blob store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}
