//! What operators and probes ask: is it up, is it ready, what is it, how is it doing.

use super::problem::{Code, Problem};
use super::responses::CommonProblems;
use super::state::{AppState, Services};
use crate::learn::{LearnError, Learner};
use crate::telemetry::{metrics as names, process};
use axum::Json;
use axum::extract::State;
use axum::http::header;
use axum::response::IntoResponse;
use dozen_models::Agreement;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A healthy server.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"status": "ok"}))]
pub(super) struct Health {
    /// Always `ok`.
    pub status: &'static str,
}

const OK: Json<Health> = Json(Health { status: "ok" });

/// Is the process alive?
///
/// Answers as long as the process can answer at all. Needs no key.
#[utoipa::path(
    get, path = "/livez", tag = "operations",
    responses((status = 200, description = "It is", body = Health),
        (status = 500, description = "It is not", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn livez() -> Json<Health> {
    OK
}

/// Can calls be answered?
///
/// True once the model is loaded and the store is open, until the server shuts down. Needs no key.
#[utoipa::path(
    get, path = "/readyz", tag = "operations",
    responses((status = 200, description = "They can", body = Health),
        (status = 503, description = "Not yet, or not any more", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn readyz(State(state): State<AppState>) -> Result<Json<Health>, Problem> {
    state.services().map(|_| OK)
}

/// Can calls be answered? (other name)
///
/// The same as `/readyz`, for probes that expect this path. Needs no key.
#[utoipa::path(
    get, path = "/healthz", tag = "operations",
    responses((status = 200, description = "They can", body = Health),
        (status = 503, description = "Not yet, or not any more", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn healthz(state: State<AppState>) -> Result<Json<Health>, Problem> {
    readyz(state).await
}

/// Metrics
///
/// Prometheus text format.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "The metrics", body = String, content_type = "text/plain"), CommonProblems)
)]
pub(super) async fn metrics(State(state): State<AppState>) -> impl IntoResponse {
    if let Ok(services) = state.services() {
        metrics::gauge!(names::QUEUE_DEPTH).set(services.engine.depth() as f64);
        if let Err(error) = record_stored(&services.learner).await {
            tracing::warn!(%error, "what is stored cannot be counted; its metrics keep their last values");
        }
    }
    process::record();
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.recorder().render())
}

async fn record_stored(learner: &Learner) -> Result<(), LearnError> {
    let (classes, examples) = learner.sizes().await?;
    metrics::gauge!(names::CLASSES).set(classes as f64);
    metrics::gauge!(names::EXAMPLES).set(examples as f64);
    metrics::gauge!(names::POOL_IMAGES).set(learner.image_total().await? as f64);
    for (status, count) in learner.jobs().counts().await? {
        metrics::gauge!(names::JOBS, "state" => status.word()).set(count as f64);
    }
    Ok(())
}

/// What this server is.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "version": "0.1.0",
    "model": {"name": "dozen-vit-tiny-msn", "id": "blake3:0f3a…", "dimensions": 128, "image_size": 64, "patch_size": 8,
        "parameters": 1_223_040, "device": "cpu", "dtype": "int8",
        "agreement": {"mean_cosine": 0.9999, "least_cosine": 0.9998}},
    "limits": {"max_client_batch_size": 128, "max_queue": 512, "max_batch_size": 32, "payload_limit": 67_108_864,
        "bulk_limit": 2_147_483_648_u64, "max_bulk_images": 100_000,
        "max_image_bytes": 20_971_520, "max_image_side": 16_384, "max_image_pixels": 50_000_000}
}))]
pub(super) struct Info {
    /// Version of the server.
    pub version: &'static str,
    /// The loaded model.
    pub model: ModelInfo,
    /// What a call may ask for at most.
    pub limits: LimitInfo,
}

/// The loaded model.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelInfo {
    /// Name.
    pub name: String,
    /// Identity of the vectors: those of different ids do not compare.
    pub id: String,
    /// Length of an embedding.
    pub dimensions: usize,
    /// Side in pixels of the square crop it looks at.
    pub image_size: usize,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Number of parameters.
    pub parameters: usize,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// Type of the arithmetic.
    pub dtype: String,
    /// How far the vectors of another type of arithmetic agree with those of f32, where they were compared: that of the
    /// faster type, whether it was taken or not.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub agreement: Option<ModelAgreement>,
}

/// Cosines between the vectors that a faster type of arithmetic and f32 give the same photos.
#[derive(Serialize, ToSchema)]
pub(super) struct ModelAgreement {
    /// On average; 0.998 is asked for.
    pub mean_cosine: f64,
    /// Of the photo they agree on least; 0.99 is asked for.
    pub least_cosine: f64,
}

/// What a call may ask for at most.
#[derive(Serialize, ToSchema)]
pub(super) struct LimitInfo {
    /// Images in one call.
    pub max_client_batch_size: usize,
    /// Images admitted at a time, over all calls.
    pub max_queue: usize,
    /// Images per call of the encoder.
    pub max_batch_size: usize,
    /// Bytes of one request body.
    pub payload_limit: usize,
    /// Bytes of one archive or NDJSON body, as sent and unpacked.
    pub bulk_limit: usize,
    /// Images in one archive or NDJSON body.
    pub max_bulk_images: usize,
    /// Bytes of one image.
    pub max_image_bytes: usize,
    /// Width or height of an image in pixels.
    pub max_image_side: u32,
    /// Width × height of an image.
    pub max_image_pixels: u64,
}

/// What this server is
///
/// Version, model and limits.
#[utoipa::path(
    get, path = "/info", tag = "operations",
    responses((status = 200, description = "Version, model and limits", body = Info), CommonProblems)
)]
pub(super) async fn info(services: Services, State(state): State<AppState>) -> Json<Info> {
    let info = services.engine.info().clone();
    let engine = services.engine.options();
    let http = state.options();
    Json(Info {
        version: env!("CARGO_PKG_VERSION"),
        model: ModelInfo {
            name: info.name,
            id: info.id,
            dimensions: info.dimensions,
            image_size: info.image_size,
            patch_size: info.patch_size,
            parameters: info.parameters,
            device: info.device,
            dtype: info.dtype,
            agreement: info
                .agreement
                .map(|Agreement { mean, least }| ModelAgreement { mean_cosine: mean, least_cosine: least }),
        },
        limits: LimitInfo {
            max_client_batch_size: http.max_client_batch_size,
            max_queue: engine.max_queue,
            max_batch_size: engine.max_batch_size,
            payload_limit: http.payload_limit,
            bulk_limit: http.bulk_limit,
            max_bulk_images: http.max_bulk_images,
            max_image_bytes: engine.limits.max_bytes,
            max_image_side: engine.limits.max_side,
            max_image_pixels: engine.limits.max_pixels,
        },
    })
}

/// What a problem's code means.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "code": "queue_full", "status": 429, "title": "The queue is full",
    "description": "The queue has no room for these images now."
}))]
pub(super) struct ProblemKind {
    /// Stable code.
    pub code: Code,
    /// HTTP status it comes with.
    pub status: u16,
    /// Short title.
    pub title: &'static str,
    /// When it occurs.
    pub description: &'static str,
}

/// A problem code of the path.
#[derive(Deserialize)]
pub(super) struct ProblemPath {
    code: String,
}

/// Explain a problem code
///
/// What the `type` of a problem refers to. Needs no key.
#[utoipa::path(
    get, path = "/problems/{code}", tag = "operations",
    params(("code" = String, Path, description = "Code of a problem", example = "queue_full")),
    responses((status = 200, description = "What it means", body = ProblemKind),
        (status = 404, description = "There is no such code", body = Problem, content_type = "application/problem+json"))
)]
pub(super) async fn explain_problem(
    super::extract::PathParams(path): super::extract::PathParams<ProblemPath>,
) -> Result<Json<ProblemKind>, Problem> {
    let code = Code::ALL.iter().copied().find(|code| code.as_str() == path.code).ok_or_else(|| {
        Problem::new(
            Code::ProblemNotFound,
            format!("There is no problem `{}`. /docs lists the codes.", path.code),
        )
    })?;
    Ok(Json(ProblemKind {
        code,
        status: code.status().as_u16(),
        title: code.title(),
        description: code.description(),
    }))
}
