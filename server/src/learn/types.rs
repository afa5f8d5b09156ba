//! What goes into the loop and comes out of it.

use bytes::Bytes;
use dozen_fewshot::heads::LogisticOptions;
use serde_json::Value;

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
    /// Counts every change.
    pub revision: i64,
    /// RFC 3339, UTC.
    pub created_at: String,
}

impl Class {
    /// Another text after every change. The revision alone would be the same for a class that was deleted and made again.
    pub fn tag(&self) -> String {
        tag(&self.created_at, self.revision)
    }
}

/// [`Class::tag`] of a class's parts.
pub(super) fn tag(created_at: &str, revision: i64) -> String {
    format!("{created_at}/{revision}")
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
    /// Vector of the current encoder; scaled to length 1 if it is not a unit vector.
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

/// What to train.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct TrainRequest {
    /// `head`.
    pub scope: String,
    /// `logistic`.
    pub method: String,
    /// λ of the logistic head: (1/n) Σ −log p + λ/(2n)·‖W‖².
    pub l2: f64,
}

impl TrainRequest {
    /// One class alone leaves nothing to decide.
    pub const NEEDED_CLASSES: usize = 2;
}

impl Default for TrainRequest {
    /// The logistic head with that method's own default of λ.
    fn default() -> Self {
        Self { scope: "head".to_owned(), method: "logistic".to_owned(), l2: LogisticOptions::default().l2 }
    }
}
