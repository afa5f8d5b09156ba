//! From the images of a call to unit vectors, in the caller's order.

use super::payload::Input;
use super::payload::options::OnError;
use super::problem::{Code, Problem};
use super::problem_from::image_problem;
use crate::engine::{Embedded, Engine, Timings};
use crate::telemetry::metrics as names;
use axum::body::Bytes;
use axum::http::HeaderValue;
use dozen_models::image::Format;
use dozen_models::{Budget, Embedding};
use serde::Serialize;
use utoipa::ToSchema;

/// One image as the rest of the call needs it.
pub(super) struct Vectored {
    /// Unit vector of the loaded encoder.
    pub(super) vector: Vec<f32>,
    /// With several masks: how far their vectors disagree.
    pub(super) spread: Option<f32>,
    /// The image as sent and what it is; `None` for a vector.
    pub(super) image: Option<(Bytes, Format)>,
}

/// All images of a call, each with its own outcome, and where the time went.
pub(super) struct Vectors {
    pub(super) items: Vec<Result<Vectored, Problem>>,
    pub(super) timings: Timings,
    /// Share of the images' patches that were embedded.
    pub(super) keep: f32,
}

impl Vectors {
    /// `Server-Timing`: the slowest image of each stage, in milliseconds.
    pub(super) fn server_timing(&self) -> [(&'static str, HeaderValue); 1] {
        let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        let Timings { queue, decode, infer } = self.timings;
        let text = format!(
            "queue;dur={:.2}, decode;dur={:.2}, infer;dur={:.2}",
            milliseconds(queue),
            milliseconds(decode),
            milliseconds(infer)
        );
        [("server-timing", HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("")))]
    }
}

/// Embeds a call's images and checks its vectors. With [`OnError::Fail`] the first bad one fails the call.
///
/// Cancel safety: nothing is kept; dropping the future drops images still queued.
pub(super) async fn vectorise(
    engine: &Engine,
    operation: &'static str,
    inputs: Vec<Input>,
    budget: Budget,
    on_error: OnError,
) -> Result<Vectors, Problem> {
    let inputs = inputs.into_iter().enumerate().collect();
    let vectors = vectorise_each(engine, operation, inputs, budget, Admission::Now).await?;
    if on_error == OnError::Fail
        && let Some(problem) = vectors.items.iter().find_map(|item| item.as_ref().err())
    {
        return Err(problem.clone());
    }
    Ok(vectors)
}

/// What images do when the queue has no room for them.
#[derive(Clone, Copy)]
pub(super) enum Admission {
    /// They are refused.
    Now,
    /// They wait: their call is expected to take a while.
    Patient,
}

/// The same for some of a call's images, each with its position in the call; bad ones fail for themselves.
pub(super) async fn vectorise_each(
    engine: &Engine,
    operation: &'static str,
    inputs: Vec<(usize, Input)>,
    budget: Budget,
    admission: Admission,
) -> Result<Vectors, Problem> {
    let images: Vec<Bytes> = inputs
        .iter()
        .filter_map(|(_, input)| match input {
            Input::Image(bytes) => Some(bytes.clone()),
            Input::Vector(_) => None,
        })
        .collect();
    let embedded = match admission {
        Admission::Now => engine.embed(images, budget).await?,
        Admission::Patient => engine.embed_patiently(&images, budget).await?,
    };
    let mut embedded = embedded.into_iter();
    let mut timings = Timings::default();
    let mut keep = 1.0;
    let mut items = Vec::with_capacity(inputs.len());
    for (index, input) in inputs {
        items.push(match input {
            Input::Vector(vector) => unit_vector(index, vector, engine.info().dimensions)
                .map(|vector| Vectored { vector, spread: None, image: None }),
            Input::Image(bytes) => match embedded.next() {
                Some(Ok(Embedded { embedding, format, timings: own })) => {
                    keep = embedding.keep;
                    timings.queue = timings.queue.max(own.queue);
                    timings.decode = timings.decode.max(own.decode);
                    timings.infer = timings.infer.max(own.infer);
                    let Embedding { vector, spread, .. } = embedding;
                    Ok(Vectored { vector, spread, image: Some((bytes, format)) })
                }
                Some(Err(error)) => Err(image_problem(index, &error)),
                None => {
                    Err(Problem::new(Code::Internal, "The engine answered fewer images than it was given."))
                }
            },
        });
    }
    let bad = items.iter().filter(|item| item.is_err()).count();
    names::images(operation, "error", bad);
    names::images(operation, "ok", items.len() - bad);
    Ok(Vectors { items, timings, keep })
}

/// A given vector, checked and scaled to unit length.
fn unit_vector(index: usize, mut vector: Vec<f32>, dimensions: usize) -> Result<Vec<f32>, Problem> {
    let refused = |error: dozen_fewshot::Error| {
        let detail = error.to_string();
        let mut problem = Problem::from(error).at_image(index, detail);
        problem.detail = format!("Image {index}: {}", problem.detail);
        problem
    };
    if vector.len() != dimensions {
        return Err(refused(dozen_fewshot::Error::Dimensions { expected: dimensions, actual: vector.len() }));
    }
    if let Some(position) = vector.iter().position(|component| !component.is_finite()) {
        return Err(refused(dozen_fewshot::Error::NotFinite { position }));
    }
    if !normalise(&mut vector) {
        return Err(refused(dozen_fewshot::Error::ZeroVector));
    }
    Ok(vector)
}

/// Scales to unit length; false for a vector without direction.
pub(super) fn normalise(vector: &mut [f32]) -> bool {
    // In f64, where the squares of the largest and smallest f32 neither overflow nor vanish.
    let length = vector.iter().map(|&component| f64::from(component).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 {
        return false;
    }
    for component in vector {
        *component = (f64::from(*component) / length) as f32;
    }
    true
}

/// The outcome of one image of a call with `on_error=skip`.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Outcome<T> {
    /// It worked.
    Done(T),
    /// It did not; the others are unaffected.
    Failed(FailedItem),
}

/// A bad image of a call with `on_error=skip`.
#[derive(Serialize, ToSchema)]
pub(super) struct FailedItem {
    /// Position in the call.
    pub index: usize,
    /// What is wrong with it.
    pub error: Problem,
}

impl<T> Outcome<T> {
    pub(super) fn failed(index: usize, error: Problem) -> Self {
        Self::Failed(FailedItem { index, error })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_scaled_to_unit_length_even_at_the_ends_of_the_range() {
        for scale in [1.0, 1e30, 1e-30, f32::MAX / 2.0, f32::MIN_POSITIVE] {
            let vector = unit_vector(0, vec![3.0 / 5.0 * scale, 4.0 / 5.0 * scale], 2).unwrap();
            assert!((vector[0] - 0.6).abs() < 1e-6 && (vector[1] - 0.8).abs() < 1e-6, "{scale}: {vector:?}");
        }
    }

    #[test]
    fn unusable_vectors_are_refused_with_their_place() {
        for vector in [vec![1.0], vec![f32::NAN, 1.0], vec![f32::INFINITY, 1.0], vec![0.0, 0.0]] {
            let problem = unit_vector(3, vector, 2).unwrap_err();
            assert_eq!((problem.code, problem.index), (Code::InvalidVector, Some(3)));
            assert_eq!(problem.errors[0].pointer, "/images/3");
        }
    }
}
