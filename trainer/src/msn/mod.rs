//! Masked Siamese Networks (arXiv 2204.07141): the mathematics of one training step.
//!
//! A masked and several small views of an image (anchors) must be assigned to the same prototypes as a full view (target)
//! that a slowly moving copy of the network sees. No labels, no reconstruction; sharpened targets and the entropy of the
//! mean assignment keep it from collapsing.

mod head;
mod initialise;
mod loss;
mod masking;
mod model;
mod network;
mod optimizer;
mod schedule;
#[cfg(test)]
mod tests;
mod update;

pub use loss::{Loss, LossOptions, loss, targets};
pub use masking::keep_indices;
pub use model::{Msn, MsnConfig, Rates, StepReport, StepTimes, Views};
pub use schedule::{ScheduleOptions, Schedules};
