//! `POST /classify`: which class is it?

use super::extract::{CollectionPath, PathParams};
use super::payload::Payload;
use super::payload::options::ClassifyOptions;
use super::payload::schema::{ClassifyForm, ClassifyRequest};
use super::problem::Problem;
use super::responses::ImageProblems;
use super::state::Services;
use super::vectors::{Outcome, Vectored, vectorise};
use crate::learn::{self, LearnError};
use crate::telemetry::metrics as names;
use axum::Json;
use axum::response::IntoResponse;
use serde::Serialize;
use utoipa::ToSchema;

/// Answers for the images of a call.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model": "dozen-vit-tiny-msn", "head": {"version": 3, "method": "logistic"},
    "data": [{"index": 0, "label": "daisy", "probability": 0.93, "margin": 0.89, "unknown": false,
        "likeness": {"p_value": 0.61, "distance": 0.94, "nearest": "daisy"},
        "set": {"labels": ["daisy"], "coverage": 0.9, "per_class": false, "examples": 48},
        "scores": [{"label": "daisy", "probability": 0.93, "similarity": 0.81},
            {"label": "tulip", "probability": 0.04, "similarity": 0.52}],
        "evidence": [{"example": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "label": "daisy", "similarity": 0.88}]}]
}))]
pub(super) struct ClassifyResponse {
    /// The model that embedded the images.
    pub model: String,
    /// The head that answered.
    pub head: HeadUsed,
    /// One item per image, in the caller's order.
    pub data: Vec<Outcome<Answer>>,
}

/// The head that answered.
#[derive(Serialize, ToSchema)]
pub(super) struct HeadUsed {
    /// 0 is the prototype head that is always there; trained heads count from 1.
    pub version: i64,
    /// `prototype`, `knn`, `discriminant`, `logistic` or `msn`.
    pub method: String,
}

impl From<learn::HeadUsed> for HeadUsed {
    fn from(learn::HeadUsed { version, method }: learn::HeadUsed) -> Self {
        Self { version, method }
    }
}

/// The answer for one image.
#[derive(Serialize, ToSchema)]
pub(super) struct Answer {
    /// Position in the call.
    pub index: usize,
    /// Id of the class, or null when `unknown`.
    pub label: Option<String>,
    /// Probability of the best candidate.
    pub probability: f32,
    /// What the best candidate is ahead of the second, in probability.
    pub margin: f32,
    /// There is no label; `reason` says why.
    pub unknown: bool,
    /// Why the answer is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub reason: Option<Reason>,
    /// How like the labelled examples the image is; absent while no class has two examples.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub likeness: Option<Likeness>,
    /// With `coverage`: the classes that together hold the truth with that probability.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub set: Option<LabelSet>,
    /// With `masks`: how far the vectors of the masks disagree, 0 (not at all) to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub spread: Option<f32>,
    /// Candidates, best first.
    pub scores: Vec<Score>,
    /// Nearest stored examples; absent with `explain=false`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub evidence: Option<Vec<Evidence>>,
}

/// Why an answer is unknown.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reason {
    /// `likeness.p_value` is not above `false_rejection_rate`.
    UnlikeExamples,
    /// The best probability is below `min_confidence`.
    LowConfidence,
}

/// How like the labelled examples an image is.
#[derive(Serialize, ToSchema)]
pub(super) struct Likeness {
    /// Share of the examples that are at least as far from their nearest class when they are left out of it.
    pub p_value: f32,
    /// Distance to the nearest class; 1 is typical of its examples.
    pub distance: f32,
    /// Id of the nearest class, while it exists.
    pub nearest: Option<String>,
}

/// Classes that together hold the truth with a promised probability.
#[derive(Serialize, ToSchema)]
pub(super) struct LabelSet {
    /// Ids of the classes, best first.
    pub labels: Vec<String>,
    /// The promise, as asked for.
    pub coverage: f64,
    /// The promise holds for the images of every class by itself, not only for all together.
    pub per_class: bool,
    /// Labelled examples that it rests on. With fewer than 1 / (1 − coverage) the set holds all candidates.
    pub examples: usize,
}

/// One candidate class.
#[derive(Serialize, ToSchema)]
pub(super) struct Score {
    /// Id of the class.
    pub label: String,
    /// Over the candidates; they sum to 1.
    pub probability: f32,
    /// Cosine between image and class, −1 to 1.
    pub similarity: f32,
}

/// A stored example near the image.
#[derive(Serialize, ToSchema)]
pub(super) struct Evidence {
    /// Id of the example.
    pub example: String,
    /// Id of its class.
    pub label: String,
    /// Cosine between image and example, −1 to 1.
    pub similarity: f32,
}

impl Answer {
    fn new(index: usize, spread: Option<f32>, answer: learn::Answer, explain: bool) -> Self {
        let learn::Answer { label, probability, margin, doubt, likeness, set, scores, evidence } = answer;
        let reason = doubt.map(|doubt| match doubt {
            learn::Doubt::UnlikeExamples => Reason::UnlikeExamples,
            learn::Doubt::LowConfidence => Reason::LowConfidence,
        });
        let likeness = likeness.map(|learn::Likeness { p_value, distance, nearest }| Likeness {
            p_value,
            distance,
            nearest,
        });
        let set = set.map(|learn::LabelSet { labels, coverage, per_class, examples }| LabelSet {
            labels,
            coverage,
            per_class,
            examples,
        });
        let scores = scores
            .into_iter()
            .map(|learn::Score { label, probability, similarity }| Score { label, probability, similarity })
            .collect();
        let evidence = evidence
            .into_iter()
            .map(|learn::Evidence { example, label, similarity }| Evidence { example, label, similarity })
            .collect();
        Self {
            index,
            label,
            probability,
            margin,
            unknown: reason.is_some(),
            reason,
            likeness,
            set,
            spread,
            scores,
            evidence: explain.then_some(evidence),
        }
    }
}

/// A candidate that does not exist is a bad option of this call, not a missing page.
fn of_candidates(error: LearnError) -> Problem {
    if let LearnError::UnknownClass { class } = error {
        return LearnError::ClassNotInHead { class }.into();
    }
    error.into()
}

/// Classify images
///
/// Answers the most probable class of each image with probabilities, how like the examples it is, the nearest stored
/// examples as evidence, and the head that answered; with `coverage` also a set of classes that holds the truth as often
/// as asked. Send a form with one part `image` per image, the raw bytes of one image, or JSON. Needs at least
/// one example; needs no training, which only makes the answers better.
#[utoipa::path(
    post, path = "/classify", tag = "images", params(ClassifyOptions),
    request_body(description = "The images", content(
        (ClassifyForm = "multipart/form-data"), (ClassifyRequest = "application/json"), ("image/*")
    )),
    responses((status = 200, description = "One answer per image", body = ClassifyResponse,
        headers(("server-timing" = String, description = "Milliseconds queued, decoding and in the encoder"))),
        ImageProblems)
)]
pub(super) async fn classify(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    payload: Payload<ClassifyOptions>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let Payload { inputs, options } = payload;
    let learn_options = options.to_learn()?;
    let budget = options.budget()?;
    let vectors = vectorise(&services.engine, "classify", inputs, budget, options.on_error).await?;
    let timing = vectors.server_timing();
    // Taken out, not cloned: the failures keep their places.
    let mut queries = Vec::with_capacity(vectors.items.len());
    let mut take = |Vectored { vector, spread, .. }| {
        queries.push(vector);
        spread
    };
    let outcomes: Vec<Result<Option<f32>, Problem>> =
        vectors.items.into_iter().map(|item| item.map(&mut take)).collect();
    let answered = services.learner.classify(&path.collection, &queries, &learn_options).await;
    let (head, answers) = answered.map_err(of_candidates)?;
    let mut answers = answers.into_iter();
    let mut data = Vec::with_capacity(outcomes.len());
    for (index, outcome) in outcomes.into_iter().enumerate() {
        match outcome {
            Err(problem) => data.push(Outcome::failed(index, problem)),
            Ok(spread) => data.extend(answers.next().map(|answer| {
                let known = if answer.doubt.is_some() { "unknown" } else { "known" };
                metrics::counter!(names::CLASSIFY_TOTAL, "outcome" => known).increment(1);
                Outcome::Done(Answer::new(index, spread, answer, learn_options.evidence > 0))
            })),
        }
    }
    Ok((
        timing,
        Json(ClassifyResponse { model: services.engine.info().name.clone(), head: head.into(), data }),
    ))
}
