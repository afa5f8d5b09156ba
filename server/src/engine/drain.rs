//! How fast the queue drains, so that a refused caller can be told when to come back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Weight of the newest batch: about ten batches decide the estimate, so it follows a change of load within seconds.
const NEWEST: f64 = 0.2;
/// What a caller is told at most; beyond a minute a better guess is of no use.
const LONGEST_SECONDS: f64 = 60.0;

/// Moving average of the seconds one image takes. Written by the encoder thread, read by any.
pub(super) struct DrainRate {
    /// Bits of an `f64`; 0 until the first batch.
    seconds_per_image: AtomicU64,
}

impl DrainRate {
    pub(super) fn new() -> Self {
        Self { seconds_per_image: AtomicU64::new(0) }
    }

    /// A batch left the queue `elapsed` after the one before it (or after its own arrival, when the queue was empty).
    pub(super) fn record(&self, images: usize, elapsed: Duration) {
        let now = elapsed.as_secs_f64() / images.max(1) as f64;
        let before = f64::from_bits(self.seconds_per_image.load(Ordering::Relaxed));
        let average = if before == 0.0 { now } else { before + NEWEST * (now - before) };
        self.seconds_per_image.store(average.to_bits(), Ordering::Relaxed);
    }

    /// Whole seconds, rounded up, until `images` have left the queue at the measured rate; 1 before any measurement.
    pub(super) fn seconds_for(&self, images: usize) -> u64 {
        let seconds = f64::from_bits(self.seconds_per_image.load(Ordering::Relaxed)) * images as f64;
        seconds.ceil().clamp(1.0, LONGEST_SECONDS) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_follow_the_measured_rate() {
        let rate = DrainRate::new();
        assert_eq!(rate.seconds_for(500), 1, "nothing measured yet");
        rate.record(10, Duration::from_secs(1));
        assert_eq!(rate.seconds_for(50), 5);
        assert_eq!(rate.seconds_for(51), 6, "rounded up");
        assert_eq!(rate.seconds_for(100_000), 60, "never longer than a minute");
        for _ in 0..50 {
            rate.record(10, Duration::from_millis(100));
        }
        assert_eq!(
            rate.seconds_for(500),
            6,
            "the estimate follows a faster encoder: 5 s and a rest of the old rate"
        );
    }
}
