//! What audits suspect.

use super::{StoreError, now};
use sqlx::SqliteConnection;

/// A finding's row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct FindingRow {
    pub(crate) key: i64,
    pub(crate) number: i64,
    pub(crate) kind: String,
    pub(crate) score: f64,
    pub(crate) examples: String,
    pub(crate) evidence: String,
    pub(crate) action: String,
    pub(crate) to_class: Option<i64>,
    pub(crate) resolution: Option<String>,
    pub(crate) resolved_at: Option<String>,
}

/// A finding before it has a number.
pub(crate) struct NewFinding {
    pub(crate) kind: &'static str,
    pub(crate) score: f64,
    /// Keys, ascending.
    pub(crate) examples: Vec<i64>,
    pub(crate) evidence: Vec<i64>,
    pub(crate) action: &'static str,
    pub(crate) to_class: Option<i64>,
}

/// Stores a job's findings but those that were accepted once about the same examples; returns how many there are.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    job: i64,
    collection: i64,
    findings: &[NewFinding],
) -> Result<i64, StoreError> {
    let mut number = 0;
    for finding in findings {
        let stored = sqlx::query(
            "INSERT INTO finding
                 (job_key, collection_key, number, kind, score, examples, evidence, action, to_class)
             SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9 WHERE NOT EXISTS
                 (SELECT 1 FROM finding WHERE collection_key = $2 AND kind = $4 AND examples = $6
                  AND resolution = 'accepted')",
        )
        .bind(job)
        .bind(collection)
        .bind(number + 1)
        .bind(finding.kind)
        .bind(finding.score)
        .bind(list(&finding.examples))
        .bind(list(&finding.evidence))
        .bind(finding.action)
        .bind(finding.to_class)
        .execute(&mut *connection)
        .await?;
        number += i64::from(stored.rows_affected() > 0);
    }
    Ok(number)
}

fn list(keys: &[i64]) -> String {
    serde_json::json!(keys).to_string()
}

/// A job's findings after a number.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    job: i64,
    open_only: bool,
    after: i64,
    limit: usize,
) -> Result<Vec<FindingRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT * FROM finding WHERE job_key = $1 AND number > $2 AND (resolution IS NULL OR NOT $3)
         ORDER BY number LIMIT $4",
    )
    .bind(job)
    .bind(after)
    .bind(open_only)
    .bind(limit as i64)
    .fetch_all(connection)
    .await?)
}

/// One of a job's findings.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    job: i64,
    number: i64,
) -> Result<Option<FindingRow>, StoreError> {
    Ok(sqlx::query_as("SELECT * FROM finding WHERE job_key = $1 AND number = $2")
        .bind(job)
        .bind(number)
        .fetch_optional(connection)
        .await?)
}

/// Notes what was done about a finding.
pub(crate) async fn resolve(
    connection: &mut SqliteConnection,
    finding: i64,
    resolution: &str,
) -> Result<FindingRow, StoreError> {
    Ok(sqlx::query_as("UPDATE finding SET resolution = $2, resolved_at = $3 WHERE key = $1 RETURNING *")
        .bind(finding)
        .bind(resolution)
        .bind(now())
        .fetch_one(connection)
        .await?)
}
