//! The thread that builds or extends a graph while the index goes on answering and taking writes.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;

use crate::index::codes::Codes;
use crate::index::graph::Graph;

/// A graph that has proved how wide its searches must be.
pub(super) struct Usable {
    pub(super) graph: Arc<Graph>,
    /// Candidates that a search keeps.
    pub(super) width: usize,
    /// Its slots when that was measured.
    pub(super) measured_at: usize,
}

/// A build under way. Dropping it ends the thread.
pub(super) struct Build {
    /// Ids inserted since it began.
    pub(super) changed: BTreeSet<u64>,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    linked: AtomicUsize,
    cancelled: AtomicBool,
    /// Not set by a build that is cancelled.
    outcome: OnceLock<Result<Usable, String>>,
}

impl Build {
    /// Begins to add codes to a copy of a graph.
    pub(super) fn start(base: Arc<Graph>, codes: Codes, ids: Vec<u64>) -> Self {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("index-build".to_owned()).spawn(move || {
            let work = || build(base, codes, &ids, &theirs);
            // Nothing of what a panic leaves behind is used.
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            let outcome = outcome.unwrap_or_else(|_| Some(Err("building the graph panicked".to_owned())));
            if let Some(outcome) = outcome {
                theirs.outcome.get_or_init(|| outcome);
            }
        });
        let thread = match thread {
            Ok(thread) => Some(thread),
            Err(error) => {
                shared.outcome.get_or_init(|| Err(format!("no thread could be started: {error}")));
                None
            }
        };
        Self { changed: BTreeSet::new(), shared, thread }
    }

    #[cfg(test)]
    pub(super) fn failed(reason: &str) -> Self {
        let shared = Arc::new(Shared::default());
        shared.outcome.get_or_init(|| Err(reason.to_owned()));
        Self { changed: BTreeSet::new(), shared, thread: None }
    }

    #[cfg(test)]
    pub(super) fn watch(&self) -> std::sync::Weak<impl Sized + use<>> {
        Arc::downgrade(&self.shared)
    }

    /// Vectors linked so far.
    pub(super) fn linked(&self) -> usize {
        self.shared.linked.load(Ordering::Relaxed)
    }

    /// What has come of it, once it has ended.
    pub(super) fn outcome(&self) -> Option<&Result<Usable, String>> {
        self.shared.outcome.get()
    }

    /// Waits for its end.
    pub(super) fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            // Panics are caught inside.
            let _ = thread.join();
        }
    }

    /// What has come of it, and the ids inserted meanwhile.
    pub(super) fn finish(mut self) -> (Result<Usable, String>, BTreeSet<u64>) {
        self.wait();
        // The thread's own share of it is gone.
        let outcome = Arc::get_mut(&mut self.shared).and_then(|shared| shared.outcome.take());
        let outcome = outcome.unwrap_or_else(|| Err("building the graph was cancelled".to_owned()));
        (outcome, std::mem::take(&mut self.changed))
    }
}

impl Drop for Build {
    fn drop(&mut self) {
        self.shared.cancelled.store(true, Ordering::Relaxed);
        self.wait();
    }
}

/// The graph with more in it, or why it is not to be used; `None` if cancelled.
fn build(
    mut graph: Arc<Graph>,
    codes: Codes,
    ids: &[u64],
    shared: &Shared,
) -> Option<Result<Usable, String>> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let progress = |linked| {
        shared.linked.store(linked, Ordering::Relaxed);
        if shared.cancelled.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    };
    if !ids.is_empty() && Arc::make_mut(&mut graph).extend(codes, ids, threads, &progress).is_break() {
        return None;
    }
    if progress(graph.slots()).is_break() {
        return None;
    }
    let measured_at = graph.slots();
    let measured = graph.measure(threads, &shared.cancelled);
    if progress(measured_at).is_break() {
        return None;
    }
    Some(measured.map(|width| Usable { graph, width, measured_at }).map_err(|share| {
        format!("searches found only {share:.3} of the nearest neighbours of vectors in the graph")
    }))
}
