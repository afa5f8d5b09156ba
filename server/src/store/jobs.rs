//! Jobs and their events.

use super::{StoreError, now};
use serde_json::Value;
use sqlx::SqliteConnection;

/// A job's row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct JobRow {
    pub(crate) key: i64,
    pub(crate) id: String,
    pub(crate) collection: String,
    pub(crate) status: String,
    pub(crate) scope: String,
    pub(crate) method: String,
    pub(crate) request: String,
    pub(crate) progress: f64,
    pub(crate) cancel_requested: bool,
    pub(crate) result: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) created_at: String,
    pub(crate) started_at: Option<String>,
    pub(crate) finished_at: Option<String>,
}

/// What is known of a job before it has a row.
pub(crate) struct NewJob<'a> {
    pub(crate) id: &'a str,
    pub(crate) collection: &'a str,
    pub(crate) scope: &'a str,
    pub(crate) method: &'a str,
    pub(crate) request: &'a str,
}

/// An event's row.
#[derive(sqlx::FromRow)]
pub(crate) struct JobEventRow {
    pub(crate) sequence: i64,
    pub(crate) kind: String,
    pub(crate) data: String,
}

/// Creates a queued job.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    job: &NewJob<'_>,
) -> Result<JobRow, StoreError> {
    Ok(sqlx::query_as(
        "INSERT INTO job (id, collection, status, scope, method, request, progress, created_at)
         VALUES ($1, $2, 'queued', $3, $4, $5, 0, $6) RETURNING *",
    )
    .bind(job.id)
    .bind(job.collection)
    .bind(job.scope)
    .bind(job.method)
    .bind(job.request)
    .bind(now())
    .fetch_one(connection)
    .await?)
}

/// One job.
pub(crate) async fn find(connection: &mut SqliteConnection, id: &str) -> Result<Option<JobRow>, StoreError> {
    Ok(sqlx::query_as("SELECT * FROM job WHERE id = $1").bind(id).fetch_optional(connection).await?)
}

/// Jobs below a key, newest first.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    before: i64,
    limit: usize,
) -> Result<Vec<JobRow>, StoreError> {
    Ok(sqlx::query_as("SELECT * FROM job WHERE key < $1 ORDER BY key DESC LIMIT $2")
        .bind(before)
        .bind(limit as i64)
        .fetch_all(connection)
        .await?)
}

/// The oldest queued job, now running.
pub(crate) async fn claim(connection: &mut SqliteConnection) -> Result<Option<JobRow>, StoreError> {
    Ok(sqlx::query_as(
        "UPDATE job SET status = 'running', started_at = $1
         WHERE key = (SELECT MIN(key) FROM job WHERE status = 'queued') RETURNING *",
    )
    .bind(now())
    .fetch_optional(connection)
    .await?)
}

/// The jobs in one state.
pub(crate) async fn in_status(
    connection: &mut SqliteConnection,
    status: &str,
) -> Result<Vec<JobRow>, StoreError> {
    Ok(sqlx::query_as("SELECT * FROM job WHERE status = $1 ORDER BY key")
        .bind(status)
        .fetch_all(connection)
        .await?)
}

/// How many jobs are in each state that has any.
pub(crate) async fn count_by_status(
    connection: &mut SqliteConnection,
) -> Result<Vec<(String, i64)>, StoreError> {
    Ok(sqlx::query_as("SELECT status, COUNT(*) FROM job GROUP BY status").fetch_all(connection).await?)
}

/// Puts a running job back into the queue.
pub(crate) async fn requeue(connection: &mut SqliteConnection, job: i64) -> Result<(), StoreError> {
    sqlx::query("UPDATE job SET status = 'queued', progress = 0, started_at = NULL WHERE key = $1")
        .bind(job)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes how far a running job is.
pub(crate) async fn set_progress(
    connection: &mut SqliteConnection,
    job: i64,
    share: f64,
) -> Result<JobRow, StoreError> {
    Ok(sqlx::query_as("UPDATE job SET progress = $2 WHERE key = $1 RETURNING *")
        .bind(job)
        .bind(share)
        .fetch_one(connection)
        .await?)
}

/// Asks a running job to stop at its next check.
pub(crate) async fn request_cancel(
    connection: &mut SqliteConnection,
    job: i64,
) -> Result<JobRow, StoreError> {
    Ok(sqlx::query_as("UPDATE job SET cancel_requested = 1 WHERE key = $1 RETURNING *")
        .bind(job)
        .fetch_one(connection)
        .await?)
}

/// Ends a job.
pub(crate) async fn finish(
    connection: &mut SqliteConnection,
    job: i64,
    status: &str,
    result: Option<&Value>,
    error: Option<&Value>,
) -> Result<JobRow, StoreError> {
    Ok(sqlx::query_as(
        "UPDATE job SET status = $2, result = $3, error = $4, finished_at = $5,
             progress = CASE WHEN $2 = 'succeeded' THEN 1 ELSE progress END
         WHERE key = $1 RETURNING *",
    )
    .bind(job)
    .bind(status)
    .bind(result.map(Value::to_string))
    .bind(error.map(Value::to_string))
    .bind(now())
    .fetch_one(connection)
    .await?)
}

/// Appends an event and returns its number.
pub(crate) async fn append_event(
    connection: &mut SqliteConnection,
    job: i64,
    kind: &str,
    data: &str,
) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO job_event (job_key, sequence, kind, data, created_at)
         SELECT $1, COALESCE(MAX(sequence), 0) + 1, $2, $3, $4 FROM job_event WHERE job_key = $1 RETURNING sequence",
    )
    .bind(job)
    .bind(kind)
    .bind(data)
    .bind(now())
    .fetch_one(connection)
    .await?)
}

/// A job's events after a number.
pub(crate) async fn events_after(
    connection: &mut SqliteConnection,
    job: i64,
    sequence: i64,
) -> Result<Vec<JobEventRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT sequence, kind, data FROM job_event WHERE job_key = $1 AND sequence > $2 ORDER BY sequence",
    )
    .bind(job)
    .bind(sequence)
    .fetch_all(connection)
    .await?)
}
