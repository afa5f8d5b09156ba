//! Versions of trained heads.

use super::{StoreError, now};
use sqlx::SqliteConnection;

/// A head version without its weights.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct HeadRow {
    pub(crate) version: i64,
    pub(crate) method: String,
    pub(crate) parameters: String,
    pub(crate) metrics: String,
    pub(crate) parent: i64,
    pub(crate) encoder: String,
    pub(crate) encoder_key: i64,
    pub(crate) created_at: String,
}

/// What is known of a head before it has a version.
pub(crate) struct NewHead<'a> {
    pub(crate) collection: i64,
    pub(crate) method: &'a str,
    pub(crate) parameters: &'a str,
    pub(crate) metrics: &'a str,
    pub(crate) parent: i64,
    pub(crate) encoder: i64,
    pub(crate) weights: &'a [u8],
}

/// Stores a head as the collection's next version and returns that.
pub(crate) async fn create(connection: &mut SqliteConnection, head: &NewHead<'_>) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "INSERT INTO head
             (collection_key, version, method, parameters, metrics, parent, encoder_key, weights, created_at)
         SELECT $1, COALESCE(MAX(version), 0) + 1, $2, $3, $4, $5, $6, $7, $8 FROM head WHERE collection_key = $1
         RETURNING version",
    )
    .bind(head.collection)
    .bind(head.method)
    .bind(head.parameters)
    .bind(head.metrics)
    .bind(head.parent)
    .bind(head.encoder)
    .bind(head.weights)
    .bind(now())
    .fetch_one(connection)
    .await?)
}

/// Versions below `before`, newest first.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    collection: i64,
    before: i64,
    limit: usize,
) -> Result<Vec<HeadRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT version, method, parameters, metrics, parent, encoder.id AS encoder, encoder_key, head.created_at
         FROM head JOIN encoder ON encoder.key = head.encoder_key
         WHERE collection_key = $1 AND version < $2 ORDER BY version DESC LIMIT $3",
    )
    .bind(collection)
    .bind(before)
    .bind(limit as i64)
    .fetch_all(connection)
    .await?)
}

/// One version.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    collection: i64,
    version: i64,
) -> Result<Option<HeadRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT version, method, parameters, metrics, parent, encoder.id AS encoder, encoder_key, head.created_at
         FROM head JOIN encoder ON encoder.key = head.encoder_key WHERE collection_key = $1 AND version = $2",
    )
    .bind(collection)
    .bind(version)
    .fetch_optional(connection)
    .await?)
}

/// The stored form of a version's fitted head.
pub(crate) async fn weights(
    connection: &mut SqliteConnection,
    collection: i64,
    version: i64,
) -> Result<Vec<u8>, StoreError> {
    Ok(sqlx::query_scalar("SELECT weights FROM head WHERE collection_key = $1 AND version = $2")
        .bind(collection)
        .bind(version)
        .fetch_one(connection)
        .await?)
}
