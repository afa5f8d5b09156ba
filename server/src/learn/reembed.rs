//! After a change of encoder: the stored images, examples and those of the pool, get vectors of the new one. What was given
//! as a vector cannot, and stays out of index, heads and pool until it is added again.

use super::core::detached;
use super::{LearnError, Learner, images as pool};
use crate::store::blobs::content_hash;
use crate::store::{StoreError, examples, images};
use bytes::Bytes;
use dozen_fewshot::unit;
use serde_json::json;
use std::collections::BTreeMap;

/// An image whose vectors are those of another encoder.
pub struct PendingImage {
    key: i64,
    collection: String,
    /// Its bytes.
    pub image: Bytes,
    /// How many views of it are to be embedded.
    pub views: usize,
}

impl PendingImage {
    /// Orders the pending images; see [`Learner::pending_images`].
    pub fn key(&self) -> i64 {
        self.key
    }
}

impl Learner {
    /// Up to `limit` live examples that have an image but no vector of the current encoder (after a change of encoder).
    ///
    /// One damaged image does not keep the others waiting: it is logged and passed over.
    pub async fn pending_embeddings(&self, limit: usize) -> Result<Vec<(String, Bytes)>, LearnError> {
        let core = self.core();
        let mut pending = Vec::new();
        let mut last = 0;
        while pending.len() < limit {
            let rows = {
                let mut reader = core.store.read().await?;
                examples::pending(&mut reader, core.store.encoder, last, limit - pending.len()).await?
            };
            if rows.is_empty() {
                break;
            }
            for (key, id, content_hash) in rows {
                last = key;
                match core.store.read_blob(content_hash).await {
                    Ok(bytes) => pending.push((id, bytes)),
                    Err(error @ StoreError::Damaged(_)) => {
                        tracing::error!(example = id, %error, "an example cannot be embedded again");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(pending)
    }

    /// Stores vectors for examples that lacked one, and puts them into index and heads.
    ///
    /// One transaction per collection. An example that has got a vector meanwhile keeps it; unknown ids are passed over.
    pub async fn set_embeddings(&self, vectors: Vec<(String, Vec<f32>)>) -> Result<(), LearnError> {
        let core = self.core();
        detached(async move {
            let mut by_collection: BTreeMap<String, Vec<(String, Vec<f32>)>> = BTreeMap::new();
            for (id, given) in vectors {
                let vector = unit(&given, core.encoder.dimensions)?;
                let mut reader = core.store.read().await?;
                if let Some(collection) = examples::collection_of(&mut reader, &id).await? {
                    by_collection.entry(collection).or_default().push((id, vector));
                }
            }
            for (collection, vectors) in by_collection {
                let mut write = core.begin(&collection).await?;
                let count = vectors.len();
                for (id, vector) in vectors {
                    let row =
                        examples::find_in_collection(&mut write.transaction, write.collection, &id).await?;
                    if let Some(row) = row {
                        write.complete(&row, vector).await?;
                    }
                }
                write
                    .record("embeddings.added", &json!({ "encoder": core.encoder.id, "count": count }))
                    .await?;
                write.commit().await?;
            }
            Ok(())
        })
        .await
    }

    /// Up to `limit` live images after a key (0 for the first) that have no vector of the current encoder.
    ///
    /// One damaged image does not keep the others waiting: it is logged and passed over.
    pub async fn pending_images(&self, after: i64, limit: usize) -> Result<Vec<PendingImage>, LearnError> {
        let core = self.core();
        let mut pending = Vec::new();
        let mut last = after;
        while pending.len() < limit {
            let missing = limit - pending.len();
            let rows = {
                let mut reader = core.store.read().await?;
                images::pending(&mut reader, core.store.encoder, last, missing).await?
            };
            let Some(newest) = rows.last() else { break };
            last = newest.key;
            for row in rows {
                match core.store.read_blob(row.content_hash).await {
                    Ok(image) => pending.push(PendingImage {
                        key: row.key,
                        collection: row.collection,
                        image,
                        views: row.views as usize,
                    }),
                    Err(error @ StoreError::Damaged(_)) => {
                        tracing::error!(image = row.id, %error, "an image cannot be embedded again");
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        }
        Ok(pending)
    }

    /// Stores vectors of pending images, each with its views, and gives them to examples with the same content that lack one.
    pub async fn set_image_vectors(
        &self,
        vectors: Vec<(PendingImage, Vec<f32>, Vec<Vec<f32>>)>,
    ) -> Result<(), LearnError> {
        let core = self.core();
        detached(async move {
            let mut by_collection: BTreeMap<String, Vec<_>> = BTreeMap::new();
            for (image, vector, views) in vectors {
                let hash = content_hash(&image.image);
                by_collection.entry(image.collection).or_default().push((image.key, hash, vector, views));
            }
            for (collection, vectors) in by_collection {
                let mut write = core.begin(&collection).await?;
                for (image, hash, vector, views) in vectors {
                    let dimensions = core.encoder.dimensions;
                    let vector = unit(&vector, dimensions)?;
                    let views: Vec<_> =
                        views.iter().map(|view| unit(view, dimensions)).collect::<Result<_, _>>()?;
                    pool::embed(&core, &mut write, image, &hash, vector, &views).await?;
                }
                write.commit().await?;
            }
            Ok(())
        })
        .await
    }
}
