//! The labelled vectors of a collection, read from the store, and the slice of them that judges heads.

use super::LearnError;
use super::core::Core;
use super::state::class_key;
use super::trained::TrainedHead;
use crate::store::{StoreError, collections, examples, read_vector};
use dozen_fewshot::training::{self, FittedHead, Standalone};
use dozen_fewshot::{ClassKey, Error, Examples, promotion};
use futures_util::TryStreamExt;

/// Live examples with a vector of the current encoder, in order of creation.
pub(crate) struct LabelledSet {
    /// Of the rows, ascending.
    pub(crate) keys: Vec<i64>,
    pub(crate) ids: Vec<String>,
    pub(crate) vectors: Examples,
    /// The slice that no head is judged on that was fitted on it.
    pub(crate) held_back: Vec<bool>,
}

impl LabelledSet {
    /// Reads a collection; empty where there is none.
    pub(crate) async fn read(core: &Core, collection: &str) -> Result<Self, LearnError> {
        let dimensions = core.encoder.dimensions;
        let mut reader = core.store.read().await?;
        let (mut keys, mut ids, mut hashes, mut vectors) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        if let Some(row) = collections::find(&mut reader, collection).await? {
            let mut rows = examples::embedded(&mut reader, row.key, core.store.encoder);
            while let Some(example) = rows.try_next().await.map_err(StoreError::from)? {
                let Some(bytes) = example.vector else { continue };
                vectors.push(read_vector(&example.id, &bytes, dimensions)?);
                // By content, so that the slice is the same on every server that has the same labels.
                hashes.push((class_key(example.class_key), first_bits(&example.content_hash)));
                keys.push(example.key);
                ids.push(example.id);
            }
        }
        let labelled = hashes.iter().zip(&vectors).map(|((class, _), vector)| (*class, vector.as_slice()));
        let vectors = Examples::new(dimensions, labelled)?;
        Ok(Self { keys, ids, vectors, held_back: promotion::held_back(&hashes) })
    }

    /// The class of an example.
    pub(crate) fn class(&self, position: usize) -> ClassKey {
        self.vectors.classes()[self.vectors.labels()[position]]
    }

    /// Which examples the head in use and its successor answer rightly, of those in the slice that neither was fitted on.
    ///
    /// `current` is `None` for the prototype head, which like all heads that follow the labels has seen no more than they
    /// have without the slice.
    pub(crate) fn compare(
        &self,
        current: Option<&TrainedHead>,
        successor: &FittedHead,
    ) -> Result<(Vec<bool>, Vec<bool>), Error> {
        let (known, _) = training::split(&self.vectors, &self.held_back)?;
        let unseen = |&position: &usize| {
            self.held_back[position]
                && current.is_none_or(|current| current.may_be_judged_by(self.keys[position]))
        };
        let slice: Vec<usize> = (0..self.keys.len()).filter(unseen).collect();
        let slice = self.vectors.subset(&slice);
        let twin = current.map_or(FittedHead::Prototype { shrinkage: 0.0 }, |head| head.twin().clone());
        let before = Standalone::new(twin, known.clone())?.right(&slice)?;
        let after = Standalone::new(successor.clone(), known)?.right(&slice)?;
        Ok((before, after))
    }
}

/// The first 64 bits of a hash in hexadecimal.
fn first_bits(hash: &str) -> u64 {
    hash.get(..16).and_then(|digits| u64::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
