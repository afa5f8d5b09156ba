//! How much an encoder knows: the protocols of arXiv 2204.07141, §5, with few labels and with many.

mod features;
mod finetune;
mod knn;
mod labelled;
mod linear;
mod low_shot;
mod report;
mod robustness;
mod source;
mod split;
mod summary;

pub use features::{FeatureSource, Features, Sight};
pub use finetune::{FinetuneOptions, finetune};
pub use knn::knn;
use labelled::Labelled;
pub use linear::{LinearOptions, linear};
pub use low_shot::{LowShotOptions, Protocol, low_shot};
pub use report::{Report, ReportRow};
pub use robustness::{Masked, RobustnessOptions, robustness};
pub use source::ModelSource;
pub use split::{Shots, Split, drawn_splits, listed_split};
pub use summary::{HeadKind, LowShotReport, Row};
