//! The pool of images and their vectors.

use super::{StoreError, now, vector_bytes};
use futures_util::Stream;
use sqlx::SqliteConnection;

/// An image's row.
#[derive(Clone, Debug, sqlx::FromRow)]
pub(crate) struct ImageRow {
    pub(crate) key: i64,
    pub(crate) id: String,
    pub(crate) content_hash: String,
    pub(crate) media_type: Option<String>,
    pub(crate) created_at: String,
    pub(crate) deleted_at: Option<String>,
}

/// What is known of an image before it has a row.
pub(crate) struct NewImageRow<'a> {
    pub(crate) id: &'a str,
    pub(crate) collection: i64,
    pub(crate) content_hash: &'a str,
    pub(crate) media_type: Option<&'a str>,
}

/// A live image without a vector of the encoder in use.
#[derive(sqlx::FromRow)]
pub(crate) struct PendingRow {
    pub(crate) key: i64,
    pub(crate) id: String,
    pub(crate) collection: String,
    pub(crate) content_hash: String,
    /// Views it has of the encoder that has most of them.
    pub(crate) views: i64,
}

/// A live example with an image's content.
#[derive(sqlx::FromRow)]
pub(crate) struct LabelRow {
    pub(crate) content_hash: String,
    pub(crate) class: String,
    pub(crate) example: String,
}

/// A vector of an image.
#[derive(sqlx::FromRow)]
pub(crate) struct VectorRow {
    pub(crate) id: String,
    pub(crate) view: i64,
    pub(crate) vector: Vec<u8>,
}

/// Which images a page lists.
#[derive(Clone, Copy)]
pub(crate) struct Filter {
    pub(crate) labelled: Option<bool>,
    pub(crate) include_deleted: bool,
}

/// An image by id, live or deleted.
pub(crate) async fn find(
    connection: &mut SqliteConnection,
    collection: i64,
    id: &str,
) -> Result<Option<ImageRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, content_hash, media_type, created_at, deleted_at FROM image
         WHERE id = $2 AND collection_key = $1",
    )
    .bind(collection)
    .bind(id)
    .fetch_optional(connection)
    .await?)
}

/// The image of a collection that has this content, live or deleted.
pub(crate) async fn find_content(
    connection: &mut SqliteConnection,
    collection: i64,
    content_hash: &str,
) -> Result<Option<ImageRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, content_hash, media_type, created_at, deleted_at FROM image
         WHERE collection_key = $1 AND content_hash = $2",
    )
    .bind(collection)
    .bind(content_hash)
    .fetch_optional(connection)
    .await?)
}

/// Creates an image.
pub(crate) async fn create(
    connection: &mut SqliteConnection,
    new: &NewImageRow<'_>,
) -> Result<ImageRow, StoreError> {
    Ok(sqlx::query_as(
        "INSERT INTO image (id, collection_key, content_hash, media_type, created_at) VALUES ($1, $2, $3, $4, $5)
         RETURNING key, id, content_hash, media_type, created_at, deleted_at",
    )
    .bind(new.id)
    .bind(new.collection)
    .bind(new.content_hash)
    .bind(new.media_type)
    .bind(now())
    .fetch_one(connection)
    .await?)
}

/// Puts a tombstone on an image or takes it off.
pub(crate) async fn set_deleted(
    connection: &mut SqliteConnection,
    image: i64,
    deleted: bool,
) -> Result<ImageRow, StoreError> {
    Ok(sqlx::query_as(
        "UPDATE image SET deleted_at = $2 WHERE key = $1
         RETURNING key, id, content_hash, media_type, created_at, deleted_at",
    )
    .bind(image)
    .bind(deleted.then(now))
    .fetch_one(connection)
    .await?)
}

/// The bytes of the vector of the whole image.
pub(crate) async fn vector(
    connection: &mut SqliteConnection,
    image: i64,
    encoder: i64,
) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT vector FROM image_embedding WHERE image_key = $1 AND encoder_key = $2 AND view = 0",
    )
    .bind(image)
    .bind(encoder)
    .fetch_optional(connection)
    .await?)
}

/// Stores the vector of the whole image, or of a view of it, unless it is there.
pub(crate) async fn add_vector(
    connection: &mut SqliteConnection,
    image: i64,
    encoder: i64,
    view: usize,
    vector: &[f32],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO image_embedding (image_key, encoder_key, view, vector) VALUES ($1, $2, $3, $4)
         ON CONFLICT (image_key, encoder_key, view) DO NOTHING",
    )
    .bind(image)
    .bind(encoder)
    .bind(view as i64)
    .bind(vector_bytes(vector))
    .execute(connection)
    .await?;
    Ok(())
}

/// The live image with this content that has a vector of the encoder and at least so many views.
pub(crate) async fn find_embedded(
    connection: &mut SqliteConnection,
    collection: i64,
    encoder: i64,
    content_hash: &str,
    views: usize,
) -> Result<Option<ImageRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT key, id, content_hash, media_type, created_at, deleted_at FROM image
         WHERE collection_key = $1 AND content_hash = $3 AND deleted_at IS NULL
             AND (SELECT COUNT(*) FROM image_embedding WHERE image_key = image.key AND encoder_key = $2) > $4",
    )
    .bind(collection)
    .bind(encoder)
    .bind(content_hash)
    .bind(views as i64)
    .fetch_optional(connection)
    .await?)
}

/// Images of a collection after a key, in order of creation.
pub(crate) async fn page(
    connection: &mut SqliteConnection,
    collection: i64,
    filter: Filter,
    after: i64,
    limit: usize,
) -> Result<Vec<ImageRow>, StoreError> {
    // Labelled images are few in a large pool and found by their labels; among the others a page is soon full.
    let sql = match filter.labelled {
        None => {
            "SELECT key, id, content_hash, media_type, created_at, deleted_at FROM image
             WHERE collection_key = $1 AND key > $2 AND (deleted_at IS NULL OR $3) ORDER BY key LIMIT $4"
        }
        Some(true) => {
            "SELECT key, id, content_hash, media_type, created_at, deleted_at FROM image
             WHERE collection_key = $1 AND key > $2 AND (deleted_at IS NULL OR $3) AND content_hash IN
                 (SELECT content_hash FROM example WHERE collection_key = $1 AND deleted_at IS NULL)
             ORDER BY key LIMIT $4"
        }
        Some(false) => {
            "SELECT key, id, content_hash, media_type, created_at, deleted_at FROM image
             WHERE collection_key = $1 AND key > $2 AND (deleted_at IS NULL OR $3) AND NOT EXISTS
                 (SELECT 1 FROM example WHERE example.collection_key = $1
                     AND example.content_hash = image.content_hash AND example.deleted_at IS NULL)
             ORDER BY key LIMIT $4"
        }
    };
    Ok(sqlx::query_as(sql)
        .bind(collection)
        .bind(after)
        .bind(filter.include_deleted)
        .bind(limit as i64)
        .fetch_all(connection)
        .await?)
}

/// The labels of some contents in a collection.
pub(crate) async fn labels(
    connection: &mut SqliteConnection,
    collection: i64,
    content_hashes: &[&str],
) -> Result<Vec<LabelRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT example.content_hash, class.slug AS class, example.id AS example
         FROM example JOIN class ON class.key = example.class_key
         WHERE example.collection_key = $1 AND example.content_hash IN (SELECT value FROM json_each($2))
             AND example.deleted_at IS NULL
         ORDER BY example.id",
    )
    .bind(collection)
    .bind(serde_json::json!(content_hashes).to_string())
    .fetch_all(connection)
    .await?)
}

/// Those of some images that have a vector of the encoder.
pub(crate) async fn embedded(
    connection: &mut SqliteConnection,
    encoder: i64,
    images: &[i64],
) -> Result<Vec<i64>, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT image_key FROM json_each($2) AS wanted
         JOIN image_embedding ON image_key = wanted.value AND encoder_key = $1 AND view = 0",
    )
    .bind(encoder)
    .bind(serde_json::json!(images).to_string())
    .fetch_all(connection)
    .await?)
}

/// Live images of a collection.
pub(crate) async fn count(connection: &mut SqliteConnection, collection: i64) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM image WHERE collection_key = $1 AND deleted_at IS NULL")
        .bind(collection)
        .fetch_one(connection)
        .await?)
}

/// Live images over all collections.
pub(crate) async fn count_all(connection: &mut SqliteConnection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar("SELECT COUNT(*) FROM image WHERE deleted_at IS NULL")
        .fetch_one(connection)
        .await?)
}

/// Keys of a collection's live images without a label, ascending, and whether each has a vector of the encoder.
pub(crate) fn unlabelled(
    connection: &mut SqliteConnection,
    collection: i64,
    encoder: i64,
) -> impl Stream<Item = Result<(i64, bool), sqlx::Error>> {
    sqlx::query_as(
        "SELECT image.key, embedding.view IS NOT NULL FROM image
         LEFT JOIN image_embedding AS embedding
             ON embedding.image_key = image.key AND embedding.encoder_key = $2 AND embedding.view = 0
         WHERE image.collection_key = $1 AND image.deleted_at IS NULL AND image.key NOT IN
             (SELECT labelled.key FROM example JOIN image AS labelled
                 ON labelled.collection_key = $1 AND labelled.content_hash = example.content_hash
              WHERE example.collection_key = $1 AND example.deleted_at IS NULL)
         ORDER BY image.key",
    )
    .bind(collection)
    .bind(encoder)
    .fetch(connection)
}

/// The vectors of some images, by image in order of the keys, then by view.
pub(crate) fn vectors(
    connection: &mut SqliteConnection,
    encoder: i64,
    images: &[i64],
) -> impl Stream<Item = Result<VectorRow, sqlx::Error>> {
    sqlx::query_as(
        "SELECT image.id, embedding.view, embedding.vector FROM json_each($2) AS wanted
         JOIN image ON image.key = wanted.value
         JOIN image_embedding AS embedding ON embedding.image_key = image.key AND embedding.encoder_key = $1
         ORDER BY image.key, embedding.view",
    )
    .bind(encoder)
    .bind(serde_json::json!(images).to_string())
    .fetch(connection)
}

/// Live images after a key that have a file but no vector of the encoder, over all collections.
pub(crate) async fn pending(
    connection: &mut SqliteConnection,
    encoder: i64,
    after: i64,
    limit: usize,
) -> Result<Vec<PendingRow>, StoreError> {
    Ok(sqlx::query_as(
        "SELECT image.key, image.id, collection.name AS collection, image.content_hash,
             COALESCE((SELECT MAX(view) FROM image_embedding WHERE image_key = image.key), 0) AS views
         FROM image JOIN collection ON collection.key = image.collection_key
         WHERE image.key > $2 AND image.deleted_at IS NULL AND image.media_type IS NOT NULL AND NOT EXISTS
             (SELECT 1 FROM image_embedding WHERE image_key = image.key AND encoder_key = $1 AND view = 0)
         ORDER BY image.key LIMIT $3",
    )
    .bind(encoder)
    .bind(after)
    .bind(limit as i64)
    .fetch_all(connection)
    .await?)
}
