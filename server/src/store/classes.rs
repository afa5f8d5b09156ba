//! Classes.

use super::{StoreError, now};
use sqlx::SqliteConnection;

/// A live class's row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ClassRow {
    pub(crate) key: i64,
    pub(crate) slug: String,
    pub(crate) name: String,
    pub(crate) revision: i64,
    pub(crate) created_at: String,
}

/// The live classes of a collection in order of creation.
pub(crate) async fn live(
    connection: &mut SqliteConnection,
    collection: i64,
) -> Result<Vec<ClassRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, slug, name, revision, created_at FROM class
         WHERE collection_key = $1 AND deleted_at IS NULL ORDER BY key",
    )
    .bind(collection)
    .fetch_all(connection)
    .await?)
}

/// A live class by its slug.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    collection: i64,
    slug: &str,
) -> Result<Option<ClassRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, slug, name, revision, created_at FROM class
         WHERE collection_key = $1 AND slug = $2 AND deleted_at IS NULL",
    )
    .bind(collection)
    .bind(slug)
    .fetch_optional(connection)
    .await?)
}

/// A live class by its key.
pub(crate) async fn find_key(
    connection: &mut SqliteConnection,
    class: i64,
) -> Result<Option<ClassRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, slug, name, revision, created_at FROM class WHERE key = $1 AND deleted_at IS NULL",
    )
    .bind(class)
    .fetch_optional(connection)
    .await?)
}

/// Creates a class. The slug must be free.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    collection: i64,
    slug: &str,
    name: &str,
) -> Result<ClassRow, StoreError> {
    Ok(sqlx::query_as(
        "INSERT INTO class (collection_key, slug, name, revision, created_at) VALUES ($1, $2, $3, 1, $4)
         RETURNING key, slug, name, revision, created_at",
    )
    .bind(collection)
    .bind(slug)
    .bind(name)
    .bind(now())
    .fetch_one(connection)
    .await?)
}

/// Sets slug and name and counts the revision up. The slug must be free or the class's own.
pub(crate) async fn update(
    connection: &mut SqliteConnection,
    class: i64,
    slug: &str,
    name: &str,
) -> Result<ClassRow, StoreError> {
    Ok(sqlx::query_as(
        "UPDATE class SET slug = $2, name = $3, revision = revision + 1 WHERE key = $1
         RETURNING key, slug, name, revision, created_at",
    )
    .bind(class)
    .bind(slug)
    .bind(name)
    .fetch_one(connection)
    .await?)
}

/// Counts the revision up after a change to the class's examples.
pub(crate) async fn touch(connection: &mut SqliteConnection, class: i64) -> Result<ClassRow, StoreError> {
    Ok(sqlx::query_as(
        "UPDATE class SET revision = revision + 1 WHERE key = $1 RETURNING key, slug, name, revision, created_at",
    )
    .bind(class)
    .fetch_one(connection)
    .await?)
}

/// Puts a tombstone on a class and its live examples.
pub(crate) async fn delete(connection: &mut SqliteConnection, class: i64) -> Result<(), StoreError> {
    let now = now();
    sqlx::query("UPDATE example SET deleted_at = $2 WHERE class_key = $1 AND deleted_at IS NULL")
        .bind(class)
        .bind(&now)
        .execute(&mut *connection)
        .await?;
    sqlx::query("UPDATE class SET deleted_at = $2, revision = revision + 1 WHERE key = $1")
        .bind(class)
        .bind(&now)
        .execute(connection)
        .await?;
    Ok(())
}
