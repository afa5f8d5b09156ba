//! Persisted jobs: `queued → running → succeeded | failed | cancelled`. A job found running at start runs again.
//!
//! One worker takes jobs in order. Each step is written before it is told: the row and the event of a change are one
//! transaction, and subscribers hear of it after the commit.

mod audit;
mod failure;
#[cfg(test)]
mod tests;
mod thread;
mod train;
mod types;
mod work;
mod worker;

pub use types::{Job, JobEvent, JobStatus};
pub(crate) use work::Request;

use crate::learn::core::{Core, detached};
use crate::learn::cursor::{self, List};
use crate::learn::{LearnError, Page, Paged};
use crate::store::StoreError;
use crate::store::jobs::{self, JobEventRow, JobRow, NewJob};
use serde_json::{Value, json};
use sqlx::{Sqlite, SqliteConnection, Transaction};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{Notify, RwLock, broadcast};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

/// Events a slow subscriber may fall behind before it has to replay from the store.
const BROADCAST_CAPACITY: usize = 1024;

/// Reads and steers jobs. Cheap to clone.
#[derive(Clone)]
pub struct Jobs {
    queue: Arc<Queue>,
    worker: Arc<Worker>,
}

/// What callers and worker share.
struct Queue {
    core: Arc<Core>,
    /// Wakes the worker.
    wake: Notify,
    /// Held for writing while a job's end is committed and its head swapped in, for reading while jobs are read: who reads
    /// that a job has succeeded is answered by its head.
    settling: RwLock<()>,
    events: broadcast::Sender<(String, JobEvent)>,
}

/// Stops the worker when the last handle is dropped.
struct Worker {
    task: Mutex<Option<JoinHandle<()>>>,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl Jobs {
    /// Starts the worker; it begins with jobs that were running when the last server ended.
    pub(crate) fn start(core: Arc<Core>) -> Self {
        let queue = Arc::new(Queue {
            core,
            wake: Notify::new(),
            settling: RwLock::default(),
            events: broadcast::Sender::new(BROADCAST_CAPACITY),
        });
        let stop = CancellationToken::new();
        let task = tokio::spawn(worker::run(Arc::clone(&queue), stop.clone()));
        let worker = Worker { task: Mutex::new(Some(task)), _stop_on_drop: stop.clone().drop_guard(), stop };
        Self { queue, worker: Arc::new(worker) }
    }

    /// Stops the worker and waits for it; a running job is back in the queue then.
    pub(crate) async fn stop(&self) {
        self.worker.stop.cancel();
        let task = self.worker.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the job worker ended badly");
        }
    }

    /// Puts a job into the queue.
    pub(crate) async fn submit(&self, collection: &str, request: Request) -> Result<Job, LearnError> {
        let queue = Arc::clone(&self.queue);
        let collection = collection.to_owned();
        detached(async move {
            let id = queue.core.store.new_id();
            let text = serde_json::to_string(&request).map_err(|error| sqlx::Error::Encode(error.into()));
            let new = NewJob {
                id: &id,
                collection: &collection,
                scope: request.scope(),
                method: request.method(),
                request: &text.map_err(StoreError::from)?,
            };
            let mut change = queue.begin().await?;
            let row = jobs::create(&mut change.transaction, &new).await?;
            change.event(&row, "progress", &json!({ "status": "queued", "progress": 0.0 })).await?;
            change.commit().await?;
            queue.wake.notify_one();
            types::public(row)
        })
        .await
    }

    /// Newest first.
    pub async fn list(&self, page: &Page) -> Result<Paged<Job>, LearnError> {
        let before = List::Jobs.after(page)?.unwrap_or(i64::MAX);
        let _settled = self.queue.settling.read().await;
        let mut reader = self.queue.core.store.read().await?;
        let rows = jobs::page(&mut reader, before, cursor::limit(page) + 1).await?;
        List::Jobs.paged(rows, page, |row| row.key, types::public)
    }

    /// How many jobs are in each state, all states listed.
    pub async fn counts(&self) -> Result<Vec<(JobStatus, i64)>, LearnError> {
        let mut reader = self.queue.core.store.read().await?;
        let counts = jobs::count_by_status(&mut reader).await?;
        let count = |status: JobStatus| {
            counts.iter().find(|(word, _)| word == status.word()).map_or(0, |(_, count)| *count)
        };
        Ok(JobStatus::ALL.map(|status| (status, count(status))).to_vec())
    }

    /// One job.
    pub async fn get(&self, id: &str) -> Result<Job, LearnError> {
        let _settled = self.queue.settling.read().await;
        let mut reader = self.queue.core.store.read().await?;
        types::public(find(&mut reader, id).await?)
    }

    /// A queued job is cancelled at once, a running one at its next check; an ended one is `JobEnded`.
    pub async fn cancel(&self, id: &str) -> Result<Job, LearnError> {
        let (queue, id) = (Arc::clone(&self.queue), id.to_owned());
        detached(async move {
            let mut change = queue.begin().await?;
            let row = find(&mut change.transaction, &id).await?;
            let row = match types::status(&row)? {
                JobStatus::Queued => change.finish(&row, JobStatus::Cancelled, None, None).await?,
                JobStatus::Running => jobs::request_cancel(&mut change.transaction, row.key).await?,
                JobStatus::Succeeded | JobStatus::Failed | JobStatus::Cancelled => {
                    return Err(LearnError::JobEnded { job: id, status: row.status });
                }
            };
            change.commit().await?;
            types::public(row)
        })
        .await
    }

    /// Events after a sequence number.
    pub async fn events_after(&self, id: &str, sequence: i64) -> Result<Vec<JobEvent>, LearnError> {
        let _settled = self.queue.settling.read().await;
        let mut reader = self.queue.core.store.read().await?;
        let job = find(&mut reader, id).await?;
        let rows = jobs::events_after(&mut reader, job.key, sequence).await?;
        rows.into_iter().map(types::public_event).collect()
    }

    /// Live events of all jobs as `(job id, event)`; subscribe first, then replay with [`Jobs::events_after`].
    pub fn subscribe(&self) -> broadcast::Receiver<(String, JobEvent)> {
        self.queue.events.subscribe()
    }
}

impl Queue {
    /// Starts a change to jobs.
    async fn begin(&self) -> Result<Change<'_>, LearnError> {
        Ok(Change { queue: self, transaction: self.core.store.begin().await?, events: Vec::new() })
    }

    /// Tells subscribers what has been committed.
    fn publish(&self, events: Vec<(String, JobEvent)>) {
        for event in events {
            // Fails only while nobody listens.
            let _ = self.events.send(event);
        }
    }
}

/// A change to jobs in progress: its transaction and the events to publish after it.
struct Change<'a> {
    queue: &'a Queue,
    transaction: Transaction<'static, Sqlite>,
    events: Vec<(String, JobEvent)>,
}

impl Change<'_> {
    async fn event(&mut self, job: &JobRow, kind: &str, data: &Value) -> Result<(), LearnError> {
        self.events.push(append(&mut self.transaction, job, kind, data).await?);
        Ok(())
    }

    async fn requeue(&mut self, job: &JobRow, reason: &str) -> Result<(), LearnError> {
        jobs::requeue(&mut self.transaction, job.key).await?;
        self.event(job, "log", &json!({ "message": reason })).await
    }

    async fn finish(
        &mut self,
        job: &JobRow,
        status: JobStatus,
        result: Option<&Value>,
        error: Option<&Value>,
    ) -> Result<JobRow, LearnError> {
        let (row, event) = finish(&mut self.transaction, job, status, result, error).await?;
        self.events.push(event);
        Ok(row)
    }

    async fn commit(self) -> Result<(), LearnError> {
        self.transaction.commit().await.map_err(StoreError::from)?;
        self.queue.publish(self.events);
        Ok(())
    }
}

async fn find(connection: &mut SqliteConnection, id: &str) -> Result<JobRow, LearnError> {
    jobs::find(connection, id).await?.ok_or_else(|| LearnError::UnknownJob { job: id.to_owned() })
}

/// Appends an event; it is to be published after the commit.
async fn append(
    connection: &mut SqliteConnection,
    job: &JobRow,
    kind: &str,
    data: &Value,
) -> Result<(String, JobEvent), LearnError> {
    let data = data.to_string();
    let sequence = jobs::append_event(connection, job.key, kind, &data).await?;
    // As it reads back: the live event and its replay are the same to the last digit.
    let event = types::public_event(JobEventRow { sequence, kind: kind.to_owned(), data })?;
    Ok((job.id.clone(), event))
}

/// Ends a job with its last event.
async fn finish(
    connection: &mut SqliteConnection,
    job: &JobRow,
    status: JobStatus,
    result: Option<&Value>,
    error: Option<&Value>,
) -> Result<(JobRow, (String, JobEvent)), LearnError> {
    let row = jobs::finish(connection, job.key, status.word(), result, error).await?;
    let data = json!({ "status": status.word(), "result": result, "error": error });
    let event = append(connection, job, "done", &data).await?;
    Ok((row, event))
}
