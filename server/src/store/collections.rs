//! Collections, encoders and the history.

use super::{StoreError, now};
use dozen_models::EncoderInfo;
use serde_json::Value;
use sqlx::SqliteConnection;

/// A collection's row.
#[derive(sqlx::FromRow)]
pub(crate) struct CollectionRow {
    pub(crate) key: i64,
    pub(crate) name: String,
    pub(crate) active_head: i64,
    pub(crate) created_at: String,
}

/// All collections.
pub(crate) async fn all(connection: &mut SqliteConnection) -> Result<Vec<CollectionRow>, StoreError> {
    Ok(sqlx::query_as("SELECT key, name, active_head, created_at FROM collection ORDER BY key")
        .fetch_all(connection)
        .await?)
}

/// One collection.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    name: &str,
) -> Result<Option<CollectionRow>, StoreError> {
    Ok(sqlx::query_as("SELECT key, name, active_head, created_at FROM collection WHERE name = $1")
        .bind(name)
        .fetch_optional(connection)
        .await?)
}

/// Creates a collection and returns its key.
pub(crate) async fn create(connection: &mut SqliteConnection, name: &str) -> Result<i64, StoreError> {
    let key: i64 =
        sqlx::query_scalar("INSERT INTO collection (name, created_at) VALUES ($1, $2) RETURNING key")
            .bind(name)
            .bind(now())
            .fetch_one(&mut *connection)
            .await?;
    record(connection, key, "collection.created", &serde_json::json!({ "name": name })).await?;
    Ok(key)
}

/// Makes a head version the active one.
pub(crate) async fn set_active_head(
    connection: &mut SqliteConnection,
    collection: i64,
    version: i64,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE collection SET active_head = $2 WHERE key = $1")
        .bind(collection)
        .bind(version)
        .execute(&mut *connection)
        .await?;
    record(connection, collection, "head.activated", &serde_json::json!({ "version": version })).await
}

/// Appends to the history, in the transaction of the change.
pub(crate) async fn record(
    connection: &mut SqliteConnection,
    collection: i64,
    kind: &str,
    data: &Value,
) -> Result<(), StoreError> {
    sqlx::query("INSERT INTO event (collection_key, kind, data, created_at) VALUES ($1, $2, $3, $4)")
        .bind(collection)
        .bind(kind)
        .bind(data.to_string())
        .bind(now())
        .execute(connection)
        .await?;
    Ok(())
}

/// The encoder's key; its row is made on first use.
pub(crate) async fn register_encoder(
    connection: &mut SqliteConnection,
    encoder: &EncoderInfo,
) -> Result<i64, StoreError> {
    sqlx::query(
        "INSERT INTO encoder (id, name, dimensions, created_at) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO NOTHING",
    )
    .bind(&encoder.id)
    .bind(&encoder.name)
    .bind(encoder.dimensions as i64)
    .bind(now())
    .execute(&mut *connection)
    .await?;
    Ok(sqlx::query_scalar("SELECT key FROM encoder WHERE id = $1")
        .bind(&encoder.id)
        .fetch_one(connection)
        .await?)
}
