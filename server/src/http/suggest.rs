//! `POST /suggest`: which images of the pool to label next.

use super::extract::{CollectionPath, JsonBody, PathParams};
use super::problem::Problem;
use super::responses::{BadJson, CommonProblems, NotJson};
use super::state::Services;
use crate::learn;
use axum::Json;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Images suggested at a time, at most.
const MOST: usize = 1000;

/// How many images to suggest. Everything may be left out.
#[derive(Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(example = json!({"count": 10}))]
pub(super) struct SuggestBody {
    /// How many at most.
    #[schema(minimum = 1, maximum = 1000)]
    count: usize,
}

impl Default for SuggestBody {
    fn default() -> Self {
        Self { count: 10 }
    }
}

/// What to label next.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "data": [{"image": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "gain": 0.07, "uncertainty": 0.64}],
    "pool": 20_000, "considered": 8192, "pending": 0
}))]
pub(super) struct SuggestResponse {
    /// The most helpful first. Fewer than asked for where the rest resembles these or what is labelled.
    pub data: Vec<Suggestion>,
    /// Images of the pool without a label.
    pub pool: usize,
    /// Those of them that were compared: all, or evenly spaced ones of a pool that is too large for that.
    pub considered: usize,
    /// Images without a label that wait to be embedded by the model in use, and are not in `pool` before.
    pub pending: usize,
}

/// An image to label.
#[derive(Serialize, ToSchema)]
pub(super) struct Suggestion {
    /// Id of the image, for `POST /images/{id}/label`.
    pub image: String,
    /// Share of the pool's uncertainty, 0 to 1, that its label would settle beyond those before it.
    pub gain: f64,
    /// Chance that its present answer is wrong, 0 to 1; 1 while there is nothing to judge by.
    pub uncertainty: f64,
}

/// Suggest images to label
///
/// The unlabelled images of the pool whose labels would help most: typical and different ones at the start, when there may
/// be no label at all, and those in doubt once the labels say where doubt is. Near-duplicates never come together. A pool of
/// more than 8192 images is represented by so many of them, evenly spaced in order of their adding. The same pool and labels
/// give the same answer.
#[utoipa::path(
    post, path = "/suggest", tag = "pool", request_body = SuggestBody,
    responses((status = 200, description = "What to label next; nothing where the pool is empty", body = SuggestResponse),
        CommonProblems, BadJson, NotJson)
)]
pub(super) async fn suggest(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    JsonBody(body): JsonBody<SuggestBody>,
) -> Result<Json<SuggestResponse>, Problem> {
    if !(1..=MOST).contains(&body.count) {
        return Err(Problem::invalid("/count", format!("is {}, it has to be 1 to {MOST}", body.count)));
    }
    let learn::Suggestions { images, pool, considered, pending } =
        services.learner.suggest(&path.collection, body.count).await?;
    let data = images.into_iter().map(|learn::Suggestion { image, gain, uncertainty }| Suggestion {
        image,
        gain,
        uncertainty,
    });
    Ok(Json(SuggestResponse { data: data.collect(), pool, considered, pending }))
}
