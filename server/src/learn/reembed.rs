//! After a change of encoder: the stored images get vectors of the new one. Examples given as vectors cannot, and stay out
//! of index and heads until they are added again.

use super::core::detached;
use super::{LearnError, Learner};
use crate::store::{StoreError, examples};
use bytes::Bytes;
use dozen_fewshot::unit;
use serde_json::json;
use std::collections::BTreeMap;

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
}
