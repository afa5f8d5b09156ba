//! Examples and their vectors.

use super::{StoreError, now, vector_bytes};
use sqlx::SqliteConnection;

/// An example's row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ExampleRow {
    pub(crate) key: i64,
    pub(crate) id: String,
    pub(crate) class_key: i64,
    pub(crate) content_hash: String,
    pub(crate) media_type: Option<String>,
    pub(crate) created_at: String,
    pub(crate) deleted_at: Option<String>,
}

/// A live example with its vector of one encoder, if it has one.
#[derive(sqlx::FromRow)]
pub(crate) struct EmbeddedRow {
    pub(crate) key: i64,
    pub(crate) id: String,
    pub(crate) class_key: i64,
    pub(crate) content_hash: String,
    pub(crate) vector: Option<Vec<u8>>,
}

/// What is known of an example before it has a row.
pub(crate) struct NewRow<'a> {
    pub(crate) id: &'a str,
    pub(crate) collection: i64,
    pub(crate) class: i64,
    pub(crate) content_hash: &'a str,
    pub(crate) media_type: Option<&'a str>,
}

/// The live examples of a collection with their vectors, in order of creation.
pub(crate) fn embedded(
    connection: &mut SqliteConnection,
    collection: i64,
    encoder: i64,
) -> impl futures_util::Stream<Item = Result<EmbeddedRow, sqlx::Error>> {
    sqlx::query_as(
        "SELECT example.key, example.id, example.class_key, example.content_hash, embedding.vector FROM example
         LEFT JOIN embedding ON embedding.example_key = example.key AND embedding.encoder_key = $2
         WHERE example.collection_key = $1 AND example.deleted_at IS NULL ORDER BY example.key",
    )
    .bind(collection)
    .bind(encoder)
    .fetch(connection)
}

/// An example by id, live or deleted, in one class.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    class: i64,
    id: &str,
) -> Result<Option<ExampleRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, class_key, content_hash, media_type, created_at, deleted_at FROM example
         WHERE id = $2 AND class_key = $1",
    )
    .bind(class)
    .bind(id)
    .fetch_optional(connection)
    .await?)
}

/// An example by its key, live or deleted.
pub(crate) async fn find_key(
    connection: &mut SqliteConnection,
    example: i64,
) -> Result<Option<ExampleRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, class_key, content_hash, media_type, created_at, deleted_at FROM example WHERE key = $1",
    )
    .bind(example)
    .fetch_optional(connection)
    .await?)
}

/// An example by its key, live or deleted, with its class's slug.
pub(crate) async fn find_with_class(
    connection: &mut SqliteConnection,
    example: i64,
) -> Result<Option<(ExampleRow, String)>, StoreError> {
    let Some(row) = find_key(connection, example).await? else { return Ok(None) };
    let slug = sqlx::query_scalar("SELECT slug FROM class WHERE key = $1")
        .bind(row.class_key)
        .fetch_one(connection)
        .await?;
    Ok(Some((row, slug)))
}

/// The example of a class that has this content, live or deleted.
pub(crate) async fn find_content(
    connection: &mut SqliteConnection,
    class: i64,
    content_hash: &str,
) -> Result<Option<ExampleRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, class_key, content_hash, media_type, created_at, deleted_at FROM example
         WHERE class_key = $1 AND content_hash = $2",
    )
    .bind(class)
    .bind(content_hash)
    .fetch_optional(connection)
    .await?)
}

/// The live examples of a collection that have this content, in whichever class.
pub(crate) async fn live_content(
    connection: &mut SqliteConnection,
    collection: i64,
    content_hash: &str,
) -> Result<Vec<ExampleRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, class_key, content_hash, media_type, created_at, deleted_at FROM example
         WHERE collection_key = $1 AND content_hash = $2 AND deleted_at IS NULL ORDER BY key",
    )
    .bind(collection)
    .bind(content_hash)
    .fetch_all(connection)
    .await?)
}

/// Examples of a class after a key, in order of creation.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    class: i64,
    include_deleted: bool,
    after: i64,
    limit: usize,
) -> Result<Vec<ExampleRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, class_key, content_hash, media_type, created_at, deleted_at FROM example
         WHERE class_key = $1 AND key > $2 AND (deleted_at IS NULL OR $3) ORDER BY key LIMIT $4",
    )
    .bind(class)
    .bind(after)
    .bind(include_deleted)
    .bind(limit as i64)
    .fetch_all(connection)
    .await?)
}

/// Creates an example.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    new: &NewRow<'_>,
) -> Result<ExampleRow, StoreError> {
    Ok(sqlx::query_as(
        "INSERT INTO example (id, collection_key, class_key, content_hash, media_type, created_at)
         VALUES ($1, $2, $3, $4, $5, $6)
         RETURNING key, id, class_key, content_hash, media_type, created_at, deleted_at",
    )
    .bind(new.id)
    .bind(new.collection)
    .bind(new.class)
    .bind(new.content_hash)
    .bind(new.media_type)
    .bind(now())
    .fetch_one(connection)
    .await?)
}

/// Puts a tombstone on an example or takes it off.
pub(crate) async fn set_deleted(
    connection: &mut SqliteConnection,
    example: i64,
    deleted: bool,
) -> Result<ExampleRow, StoreError> {
    Ok(sqlx::query_as(
        "UPDATE example SET deleted_at = $2 WHERE key = $1
         RETURNING key, id, class_key, content_hash, media_type, created_at, deleted_at",
    )
    .bind(example)
    .bind(deleted.then(now))
    .fetch_one(connection)
    .await?)
}

/// Moves an example to another class of the collection, which must not have its content.
pub(crate) async fn set_class(
    connection: &mut SqliteConnection,
    example: i64,
    class: i64,
) -> Result<ExampleRow, StoreError> {
    Ok(sqlx::query_as(
        "UPDATE example SET class_key = $2 WHERE key = $1
         RETURNING key, id, class_key, content_hash, media_type, created_at, deleted_at",
    )
    .bind(example)
    .bind(class)
    .fetch_one(connection)
    .await?)
}

/// The bytes of an example's vector of one encoder.
pub(crate) async fn vector(
    connection: &mut SqliteConnection,
    example: i64,
    encoder: i64,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar("SELECT vector FROM embedding WHERE example_key = $1 AND encoder_key = $2")
        .bind(example)
        .bind(encoder)
        .fetch_optional(connection)
        .await?)
}

/// Stores an example's vector of one encoder, replacing the one that was there.
pub(crate) async fn set_vector(
    connection: &mut SqliteConnection,
    example: i64,
    encoder: i64,
    vector: &[f32],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO embedding (example_key, encoder_key, vector) VALUES ($1, $2, $3)
         ON CONFLICT (example_key, encoder_key) DO UPDATE SET vector = excluded.vector",
    )
    .bind(example)
    .bind(encoder)
    .bind(vector_bytes(vector))
    .execute(connection)
    .await?;
    Ok(())
}

/// Key, id and content hash of live examples after a key that have an image but no vector of this encoder, over all
/// collections.
pub(crate) async fn pending(
    connection: &mut SqliteConnection,
    encoder: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<(i64, String, String)>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT example.key, example.id, example.content_hash FROM example
         LEFT JOIN embedding ON embedding.example_key = example.key AND embedding.encoder_key = $1
         WHERE example.key > $2 AND example.deleted_at IS NULL AND example.media_type IS NOT NULL
             AND embedding.example_key IS NULL
         ORDER BY example.key LIMIT $3",
    )
    .bind(encoder)
    .bind(after)
    .bind(limit as i64)
    .fetch_all(connection)
    .await?)
}

/// The name of the collection an example is in.
pub(crate) async fn collection_of(
    connection: &mut SqliteConnection,
    id: &str,
) -> Result<Option<String>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT collection.name FROM example JOIN collection ON collection.key = example.collection_key
         WHERE example.id = $1",
    )
    .bind(id)
    .fetch_optional(connection)
    .await?)
}

/// An example by id, live or deleted, in one collection.
pub(crate) async fn find_in_collection(
    connection: &mut SqliteConnection,
    collection: i64,
    id: &str,
) -> Result<Option<ExampleRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, class_key, content_hash, media_type, created_at, deleted_at FROM example
         WHERE id = $2 AND collection_key = $1",
    )
    .bind(collection)
    .bind(id)
    .fetch_optional(connection)
    .await?)
}
