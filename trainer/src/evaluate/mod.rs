//! How much a frozen encoder knows when labels are few: the low-shot protocols of arXiv 2204.07141, §5.

mod features;
mod low_shot;
mod split;
mod summary;

pub use features::{FeatureSource, Features};
pub use low_shot::{LowShotOptions, Protocol, low_shot};
pub use split::{Split, drawn_splits, listed_split};
pub use summary::{HeadKind, LowShotReport, Row};
