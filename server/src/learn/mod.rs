//! The few-shot loop without HTTP: collections, classes, examples, heads, answers.
//!
//! Every write is one transaction in the store and then, under the collection's lock, the same change to index and
//! prototype head, so the next answer sees it.

use crate::jobs::Job;
use crate::store::StoreError;
use bytes::Bytes;
use dozen_models::EncoderInfo;
use serde_json::Value;
use std::path::Path;

/// The collection that the paths without `/collections/{collection}` act on.
pub const DEFAULT_COLLECTION: &str = "default";

/// Why a call of the loop was refused. Mapped to HTTP in one place (`http/problem.rs`), exhaustively.
#[derive(Debug, thiserror::Error)]
pub enum LearnError {
    /// A collection or class name outside `[a-z0-9][a-z0-9._-]{0,63}`.
    #[error("`{name}` is not a usable name")]
    InvalidName { name: String },
    /// No such class.
    #[error("there is no class `{class}`")]
    UnknownClass { class: String },
    /// No such example in that class.
    #[error("there is no example `{example}` in class `{class}`")]
    UnknownExample { class: String, example: String },
    /// No such head version.
    #[error("there is no head version {version}")]
    UnknownHead { version: i64 },
    /// No such job.
    #[error("there is no job `{job}`")]
    UnknownJob { job: String },
    /// Renaming onto an existing class.
    #[error("class `{class}` exists already")]
    ClassExists { class: String },
    /// Classify before any example.
    #[error("no class has examples yet")]
    NoExamples,
    /// Train with too little.
    #[error("{actual} classes have examples, at least {needed} are needed")]
    TooFewClasses { needed: usize, actual: usize },
    /// The candidate filter names a class the head cannot answer with.
    #[error("class `{class}` has no examples the active head knows")]
    ClassNotInHead { class: String },
    /// A head fitted on another encoder's vectors.
    #[error("head version {version} belongs to another encoder")]
    HeadOfOtherEncoder { version: i64 },
    /// The job has ended already.
    #[error("job `{job}` is {status} already")]
    JobEnded { job: String, status: String },
    /// A vector of the wrong size or not finite.
    #[error(transparent)]
    Vector(#[from] dozen_fewshot::Error),
    /// The paging cursor is not one of ours.
    #[error("the cursor is not one this server gave out")]
    InvalidCursor,
    /// Database or blob store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Cursor paging: up to `limit` rows after `after`.
#[derive(Clone, Debug)]
pub struct Page {
    /// 1 to 1000.
    pub limit: usize,
    /// Opaque cursor of the previous page.
    pub after: Option<String>,
}

/// One page of rows.
#[derive(Clone, Debug)]
pub struct Paged<T> {
    /// Rows in stable order.
    pub data: Vec<T>,
    /// Cursor of the next page, if there is one.
    pub next: Option<String>,
}

/// A class as callers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    /// Slug.
    pub id: String,
    /// Display name; the slug unless given.
    pub name: String,
    /// Live examples.
    pub count: usize,
    /// Counts every change; the strong ETag.
    pub revision: i64,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// A stored example as callers see it.
#[derive(Clone, Debug, PartialEq)]
pub struct Example {
    /// ULID.
    pub id: String,
    /// Slug of its class.
    pub class: String,
    /// `blake3:<hex>` of the image bytes (or of the vector's bytes).
    pub content_hash: String,
    /// `image/jpeg`, …; `None` for an example given as a vector.
    pub media_type: Option<String>,
    /// RFC 3339, UTC.
    pub created_at: String,
    /// Set while deleted and restorable.
    pub deleted_at: Option<String>,
}

/// An example to add: already decoded and embedded by the engine, or given as a vector.
pub struct NewExample {
    /// The image as sent, and its media type; `None` for a vector.
    pub image: Option<(Bytes, &'static str)>,
    /// Unit vector of the current encoder.
    pub vector: Vec<f32>,
}

/// What became of each added example, in the caller's order.
pub struct AddedExample {
    /// The stored example: the new one, or the one that was there.
    pub example: Example,
    /// The content was in this class already.
    pub duplicate: bool,
}

/// What an add did.
pub struct Added {
    /// One per example.
    pub examples: Vec<AddedExample>,
    /// The class afterwards.
    pub class: Class,
}

/// Options of a classification.
#[derive(Clone, Debug)]
pub struct ClassifyOptions {
    /// Scores returned.
    pub top_k: usize,
    /// Candidate classes; `None` means all.
    pub classes: Option<Vec<String>>,
    /// Below this probability the answer is `unknown`.
    pub min_confidence: Option<f32>,
    /// Nearest stored examples returned.
    pub evidence: usize,
}

/// One class's score.
#[derive(Clone, Debug)]
pub struct Score {
    /// Slug.
    pub label: String,
    /// Over the candidates; sums to 1.
    pub probability: f32,
    /// Cosine.
    pub similarity: f32,
}

/// A near stored example.
#[derive(Clone, Debug)]
pub struct Evidence {
    /// Example id.
    pub example: String,
    /// Slug of its class.
    pub label: String,
    /// Cosine.
    pub similarity: f32,
}

/// The answer for one vector.
#[derive(Clone, Debug)]
pub struct Answer {
    /// `None` when unknown.
    pub label: Option<String>,
    /// Probability of the best candidate.
    pub probability: f32,
    /// True when the best probability is under `min_confidence`.
    pub unknown: bool,
    /// Best first.
    pub scores: Vec<Score>,
    /// Nearest first.
    pub evidence: Vec<Evidence>,
}

/// Which head answered.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadUsed {
    /// 0 is the always-current prototype head; trained heads count from 1.
    pub version: i64,
    /// `prototype` or `logistic`.
    pub method: String,
}

/// A head version as callers see it.
#[derive(Clone, Debug)]
pub struct HeadVersion {
    /// Number within the collection.
    pub version: i64,
    /// `prototype` or `logistic`.
    pub method: String,
    /// Answers calls now.
    pub active: bool,
    /// Options it was fitted with.
    pub parameters: Value,
    /// Examples, classes, objective, accuracy.
    pub metrics: Value,
    /// The version active when it was fitted.
    pub parent: Option<i64>,
    /// Encoder whose vectors it was fitted on.
    pub encoder: String,
    /// RFC 3339, UTC.
    pub created_at: String,
}

/// The loop over one data directory. Cheap to clone.
#[derive(Clone)]
pub struct Learner {}

impl Learner {
    /// Opens or creates the store under `data_dir`, migrates it, rebuilds index and heads for this encoder.
    pub async fn open(_data_dir: &Path, _encoder: &EncoderInfo) -> Result<Self, LearnError> {
        todo!()
    }

    /// Up to `limit` live examples that have an image but no vector of the current encoder (after a change of encoder).
    pub async fn pending_embeddings(&self, _limit: usize) -> Result<Vec<(String, Bytes)>, LearnError> {
        todo!()
    }

    /// Stores vectors for examples that lacked one, and puts them into index and heads.
    pub async fn set_embeddings(&self, _vectors: Vec<(String, Vec<f32>)>) -> Result<(), LearnError> {
        todo!()
    }

    /// Adds examples, creating collection and class if absent; idempotent by content within the class.
    pub async fn add_examples(
        &self,
        _collection: &str,
        _class: &str,
        _examples: Vec<NewExample>,
    ) -> Result<Added, LearnError> {
        todo!()
    }

    /// Creates an empty class; `ClassExists` if there.
    pub async fn create_class(&self, _collection: &str, _id: &str, _name: Option<&str>) -> Result<Class, LearnError> {
        todo!()
    }

    /// Classes in order of creation.
    pub async fn classes(&self, _collection: &str, _page: &Page) -> Result<Paged<Class>, LearnError> {
        todo!()
    }

    /// One class.
    pub async fn class(&self, _collection: &str, _id: &str) -> Result<Class, LearnError> {
        todo!()
    }

    /// Changes id (slug) and/or display name; heads keep answering, under the new name.
    pub async fn rename_class(
        &self,
        _collection: &str,
        _id: &str,
        _new_id: Option<&str>,
        _new_name: Option<&str>,
    ) -> Result<Class, LearnError> {
        todo!()
    }

    /// Deletes a class and its examples (tombstones).
    pub async fn delete_class(&self, _collection: &str, _id: &str) -> Result<(), LearnError> {
        todo!()
    }

    /// Examples of a class, newest last; deleted ones only if asked for.
    pub async fn examples(
        &self,
        _collection: &str,
        _class: &str,
        _include_deleted: bool,
        _page: &Page,
    ) -> Result<Paged<Example>, LearnError> {
        todo!()
    }

    /// One live or deleted example's stored image.
    pub async fn example_image(
        &self,
        _collection: &str,
        _class: &str,
        _example: &str,
    ) -> Result<Option<(Bytes, String)>, LearnError> {
        todo!()
    }

    /// Tombstones an example.
    pub async fn delete_example(&self, _collection: &str, _class: &str, _example: &str) -> Result<(), LearnError> {
        todo!()
    }

    /// Takes the tombstone off again.
    pub async fn restore_example(
        &self,
        _collection: &str,
        _class: &str,
        _example: &str,
    ) -> Result<Example, LearnError> {
        todo!()
    }

    /// Moves an example to another class, creating it if absent.
    pub async fn move_example(
        &self,
        _collection: &str,
        _class: &str,
        _example: &str,
        _to: &str,
    ) -> Result<Example, LearnError> {
        todo!()
    }

    /// Answers for several vectors with the active head. CPU-bound and brief; holds no lock across await points.
    pub async fn classify(
        &self,
        _collection: &str,
        _vectors: &[Vec<f32>],
        _options: &ClassifyOptions,
    ) -> Result<(HeadUsed, Vec<Answer>), LearnError> {
        todo!()
    }

    /// Head versions, newest first.
    pub async fn heads(&self, _collection: &str, _page: &Page) -> Result<Paged<HeadVersion>, LearnError> {
        todo!()
    }

    /// Makes a version (0 = prototype) answer from now on.
    pub async fn activate_head(&self, _collection: &str, _version: i64) -> Result<HeadVersion, LearnError> {
        todo!()
    }

    /// The jobs of this store.
    pub fn jobs(&self) -> crate::jobs::Jobs {
        todo!()
    }

    /// Stops the job worker (a running job is requeued) and closes the database.
    pub async fn close(&self) {
        todo!()
    }

    /// Persists a training job and wakes the worker. `TooFewClasses` is answered here, before a job exists.
    pub async fn train(&self, _collection: &str, _request: TrainRequest) -> Result<Job, LearnError> {
        todo!()
    }
}

/// What to train.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct TrainRequest {
    /// `head`.
    pub scope: String,
    /// `logistic`.
    pub method: String,
    /// λ of the logistic head (spec §5.1).
    pub l2: f64,
}
