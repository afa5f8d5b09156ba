//! What the server tells about itself: log lines and Prometheus metrics.

pub mod logging;
pub mod metrics;
pub mod process;
