//! Masked Siamese Networks (arXiv 2204.07141): the mathematics of one training step.
//!
//! A masked and several small views of an image (anchors) must be assigned to the same prototypes as a full view (target)
//! that a slowly moving copy of the network sees. No labels, no reconstruction; sharpened targets and the entropy of the
//! mean assignment keep it from collapsing.

mod collective;
mod drop_path;
mod head;
mod initialise;
mod koleo;
mod loss;
mod masking;
mod model;
mod network;
mod optimizer;
mod schedule;
mod size;
mod step;
mod target;
#[cfg(test)]
mod tests;
mod update;
mod views;

pub use collective::{Collective, Ranks};
pub(crate) use drop_path::branch_scales;
pub use loss::{HeadOutputs, Loss, LossOptions, loss, targets};
pub use masking::{Mask, MaskRule, contrasting_patches, kept_patches, random_patches};
pub use model::{Msn, MsnConfig};
pub use network::Precision;
pub use schedule::{ScheduleOptions, Schedules};
pub use size::ParameterCounts;
pub use step::{PendingReport, Rates, StepReport, StepTimes};
pub use target::{Described, TargetEncoder};
pub use views::{AnchorGroup, Views};
