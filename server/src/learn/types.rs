//! What goes into the loop and comes out of it.

use super::LearnError;
use bytes::Bytes;
use dozen_fewshot::ClassKey;
use dozen_fewshot::heads::{self, ClassWeights};
use dozen_fewshot::hygiene::AuditOptions;
use dozen_fewshot::readiness::{Accuracy, Forecast, Point};
use dozen_fewshot::training::{Method, TrainingOptions};
use serde_json::Value;
use std::collections::BTreeMap;

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
    /// Below this probability the answer is unknown.
    pub min_confidence: Option<f32>,
    /// Share of images of known classes that may be called unknown by mistake, because they are unlike the examples.
    pub false_rejection_rate: f32,
    /// Answers with the set of classes that holds the truth with this probability.
    pub coverage: Option<f64>,
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
    /// `None` when in doubt.
    pub label: Option<String>,
    /// Probability of the best candidate.
    pub probability: f32,
    /// What that is ahead of the second.
    pub margin: f32,
    /// Why there is no label.
    pub doubt: Option<Doubt>,
    /// How like the examples it is; `None` without any that differ.
    pub likeness: Option<Likeness>,
    /// If a coverage was asked for.
    pub set: Option<LabelSet>,
    /// Best first.
    pub scores: Vec<Score>,
    /// Nearest first.
    pub evidence: Vec<Evidence>,
}

/// Why an answer is unknown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// The image is less like the examples than nearly all of themselves are.
    UnlikeExamples,
    /// The best probability is below the minimum asked for.
    LowConfidence,
}

/// How like the labelled examples an image is.
#[derive(Clone, Debug, PartialEq)]
pub struct Likeness {
    /// Share of the examples that are at least as far from the nearest class, each left out of it.
    pub p_value: f32,
    /// Distance to the nearest class; 1 is typical of its examples.
    pub distance: f32,
    /// Slug of the nearest class, while it exists.
    pub nearest: Option<String>,
}

/// Classes that together hold the truth with a promised probability.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelSet {
    /// Slugs, best first.
    pub labels: Vec<String>,
    /// The promise.
    pub coverage: f64,
    /// It holds for the images of every class by itself, not only for all together.
    pub per_class: bool,
    /// Examples that it rests on.
    pub examples: usize,
}

/// Which head answered.
#[derive(Clone, Debug, PartialEq)]
pub struct HeadUsed {
    /// 0 is the always-current prototype head; trained heads count from 1.
    pub version: i64,
    /// `prototype`, `knn`, `discriminant`, `logistic` or `msn`.
    pub method: String,
}

/// A head version as callers see it.
#[derive(Clone, Debug)]
pub struct HeadVersion {
    /// Number within the collection.
    pub version: i64,
    /// `prototype`, `knn`, `discriminant`, `logistic` or `msn`.
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
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
#[serde(default)]
pub struct TrainRequest {
    /// `None` chooses.
    pub method: Option<Method>,
    /// λ of the logistic head; `None` chooses.
    pub l2: Option<f64>,
    /// What the examples of a class weigh in the logistic head.
    pub class_weights: ClassWeights,
    /// How the pool is spread over the classes, for the MSN head.
    pub class_prior: ClassPrior,
    /// Activate the version even where it does worse on the held-back slice.
    pub force: bool,
}

/// How the pool is spread over the classes.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClassPrior {
    /// As many of each class.
    #[default]
    Uniform,
    /// As the head finds them to be.
    Estimated,
    /// In proportion to these numbers, by slug.
    Given(BTreeMap<String, f64>),
}

impl TrainRequest {
    /// One class alone leaves nothing to decide.
    pub const NEEDED_CLASSES: usize = 2;

    /// The method as jobs say it.
    pub(crate) fn word(&self) -> &'static str {
        self.method.map_or("auto", Method::word)
    }

    /// With classes by their keys, which `key_of` knows for slugs of live classes.
    pub(crate) fn options(
        &self,
        key_of: impl Fn(&str) -> Option<ClassKey>,
    ) -> Result<TrainingOptions, LearnError> {
        let class_prior = match &self.class_prior {
            ClassPrior::Uniform => heads::ClassPrior::Uniform,
            ClassPrior::Estimated => heads::ClassPrior::Estimated,
            ClassPrior::Given(shares) => {
                let keyed = shares.iter().map(|(slug, share)| match key_of(slug) {
                    Some(key) => Ok((key, *share)),
                    None => Err(LearnError::UnknownClass { class: slug.clone() }),
                });
                heads::ClassPrior::Given(keyed.collect::<Result<_, _>>()?)
            }
        };
        let &Self { method, l2, class_weights, .. } = self;
        Ok(TrainingOptions { method, l2, class_weights, class_prior })
    }
}

/// What to look for in the labels.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct AuditRequest {
    /// Examples at least this similar (cosine) are near-duplicates.
    pub near_duplicate: f64,
}

impl Default for AuditRequest {
    fn default() -> Self {
        Self { near_duplicate: AuditOptions::default().near_duplicate }
    }
}

/// Something that may be wrong with the labels.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    /// Counts from 1 within the audit, the most pressing of a kind first.
    pub number: i64,
    /// `mislabel`, `exact_duplicate`, `near_duplicate`, `outlier` or `leakage`.
    pub kind: String,
    /// How pressing, within its kind.
    pub score: f64,
    /// The examples it is about.
    pub examples: Vec<FindingExample>,
    /// The examples that speak for it.
    pub evidence: Vec<FindingExample>,
    /// The likeliest right answer: `move`, `delete` or `accept`.
    pub action: String,
    /// Slug of the class to move to.
    pub to: Option<String>,
    /// `moved`, `deleted` or `accepted`; `None` while it is open.
    pub resolution: Option<String>,
    /// RFC 3339, UTC.
    pub resolved_at: Option<String>,
}

/// An example of a finding, as it is now.
#[derive(Clone, Debug, PartialEq)]
pub struct FindingExample {
    /// ULID.
    pub id: String,
    /// Slug of its class.
    pub class: String,
    /// It has been deleted.
    pub deleted: bool,
}

/// What to do about a finding.
#[derive(Clone, Debug, PartialEq)]
pub enum Resolution {
    /// Gives the examples another label; `None` is the one that the finding says.
    Move {
        /// Slug.
        to: Option<String>,
    },
    /// Deletes the examples, with undo as always.
    Delete,
    /// Nothing is wrong.
    Accept,
}

/// Have enough examples been labelled?
#[derive(Clone, Debug)]
pub struct Readiness {
    /// Whose method judged.
    pub head: HeadUsed,
    /// Live examples with a vector.
    pub examples: usize,
    /// Over all examples that could be judged.
    pub overall: Accuracy,
    /// One sentence on all.
    pub verdict: String,
    /// In order of creation.
    pub classes: Vec<ClassReadiness>,
}

/// What is known of one class.
#[derive(Clone, Debug)]
pub struct ClassReadiness {
    /// Slug.
    pub class: String,
    /// Live examples with a vector.
    pub examples: usize,
    /// Over its examples that could be judged.
    pub accuracy: Accuracy,
    /// Slugs of the classes its examples are taken for and how often, most often first.
    pub taken_for: Vec<(String, usize)>,
    /// Accuracy against the number of examples.
    pub curve: Vec<Point>,
    /// What more examples should bring.
    pub forecast: Option<Forecast>,
    /// One sentence.
    pub verdict: String,
}

/// How two heads answer the same images.
#[derive(Clone, Debug)]
pub struct Diff {
    /// The first.
    pub a: HeadUsed,
    /// The second.
    pub b: HeadUsed,
    /// Labelled examples compared.
    pub compared: usize,
    /// Those that the first answers rightly.
    pub a_right: usize,
    /// Those that the second answers rightly.
    pub b_right: usize,
    /// Those on which they differ.
    pub differing: usize,
    /// The first of these.
    pub data: Vec<Difference>,
    /// How they answer images without a label.
    pub pool: PoolDiff,
}

/// How two heads answer the same unlabelled images.
#[derive(Clone, Debug)]
pub struct PoolDiff {
    /// Images compared.
    pub compared: usize,
    /// Those on which they differ.
    pub differing: usize,
    /// The first of these, those that both are surest of first.
    pub data: Vec<PoolDifference>,
}

/// An unlabelled image on which two heads differ.
#[derive(Clone, Debug)]
pub struct PoolDifference {
    /// Image id.
    pub image: String,
    /// The first head's answer and its probability.
    pub a: (String, f32),
    /// The second head's.
    pub b: (String, f32),
}

/// An example on which two heads differ.
#[derive(Clone, Debug)]
pub struct Difference {
    /// Example id.
    pub example: String,
    /// Slug of its class.
    pub class: String,
    /// The first head's answer and its probability.
    pub a: (String, f32),
    /// The second head's.
    pub b: (String, f32),
}
