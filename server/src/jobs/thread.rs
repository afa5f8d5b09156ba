//! Long computations on a thread of their own, so that they neither hold up async work nor the end of the process.

use super::failure::Failure;
use crate::learn::LearnError;
use crate::store::StoreError;
use std::ops::ControlFlow;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::oneshot;

/// What a computation tells of itself and is told.
#[derive(Clone, Default)]
pub(super) struct Control {
    /// Bits of the share that is done.
    share: Arc<AtomicU64>,
    stopped: Arc<AtomicBool>,
}

impl Control {
    /// The share that is done, 0 to 1.
    pub(super) fn share(&self) -> f64 {
        f64::from_bits(self.share.load(Ordering::Relaxed))
    }

    /// Ends the computation at its next report.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// [`dozen_fewshot::Progress`].
    fn report(&self, share: f64) -> ControlFlow<()> {
        self.share.store(share.to_bits(), Ordering::Relaxed);
        if self.stopped.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }
}

/// Starts a computation; it is handed a callback for its progress. A panic in it is a failure.
pub(super) fn start<T: Send + 'static>(
    control: &Control,
    work: impl FnOnce(dozen_fewshot::Progress<'_>) -> Result<T, Failure> + Send + 'static,
) -> Result<oneshot::Receiver<Result<T, Failure>>, Failure> {
    let (done, outcome) = oneshot::channel();
    let control = control.clone();
    let work = move || {
        let result = guarded(|| work(&mut |share| control.report(share)));
        // Nobody waits any more when the server stops.
        let _ = done.send(result);
    };
    std::thread::Builder::new()
        .name("job".to_owned())
        .spawn(work)
        .map_err(|source| LearnError::from(StoreError::Io { path: "the thread of a job".into(), source }))?;
    Ok(outcome)
}

/// Turns a panic into a failure of the job.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failure>) -> Result<T, Failure> {
    std::panic::catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|panic| Err(Failure::Panicked(panic_message(panic.as_ref()))))
}

fn panic_message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_a_failure_with_its_message() {
        let failure = guarded::<()>(|| panic!("row {}", 7)).err().unwrap();
        let problem = failure.problem();
        assert_eq!(problem["code"], "panicked");
        assert_eq!(problem["message"], "the work panicked: row 7");
    }

    #[tokio::test]
    async fn a_computation_reports_and_can_be_stopped() {
        let control = Control::default();
        let endless = start(&control, |progress| -> Result<(), Failure> {
            let mut done: f64 = 0.0;
            while progress(done).is_continue() {
                done = (done + 0.25).min(0.5);
                std::thread::yield_now();
            }
            Err(dozen_fewshot::Error::Cancelled.into())
        });
        while control.share() < 0.5 {
            tokio::task::yield_now().await;
        }
        control.stop();
        let ended = endless.unwrap().await.unwrap();
        assert!(matches!(ended, Err(Failure::Learning(dozen_fewshot::Error::Cancelled))));
    }
}
