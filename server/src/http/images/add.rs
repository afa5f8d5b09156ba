//! `POST /images`: fills the pool, from any form images come in.

use super::batch::{self, Item, Options, Outcome};
use super::{bulk, spool};
use crate::http::extract::{CollectionPath, PathParams, media_type};
use crate::http::payload::options::{ImageOptions, OnError};
use crate::http::payload::schema::{ImagesForm, ImagesRequest};
use crate::http::payload::{self, Payload};
use crate::http::problem::Problem;
use crate::http::responses::ImageProblems;
use crate::http::state::{AppState, Services};
use crate::http::vectors::Admission;
use axum::Json;
use axum::extract::{FromRequest, Request, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use futures_util::StreamExt;
use serde::Serialize;
use std::pin::pin;
use tokio_stream::wrappers::ReceiverStream;
use utoipa::ToSchema;

/// Batches of one archive under way: while one is stored, the next is embedded.
const IN_FLIGHT: usize = 2;

/// What an add did.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "added": 1, "duplicates": 0, "failed": 1, "count": 120,
    "images": [{"id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "index": 0, "name": "photos/0001.jpg", "content_hash": "blake3:6f1c…",
        "duplicate": false, "created_at": "2026-01-01T00:00:00Z"}],
    "errors": [{"index": 1, "name": "photos/readme.txt", "error": {
        "type": "/problems/unsupported_image_format", "title": "The image format is not supported", "status": 415,
        "detail": "Image 1: not a JPEG, PNG, WebP, GIF or BMP image, judged by its first bytes: convert it to one of these.",
        "code": "unsupported_image_format", "index": 1}}]
}))]
pub(in crate::http) struct AddedImages {
    /// Images that are new.
    pub added: usize,
    /// Images the pool had already, by content.
    pub duplicates: usize,
    /// Images, or other files of an archive, that were left out.
    pub failed: usize,
    /// Images the pool has now, labelled ones included.
    pub count: usize,
    /// The images that are in the pool, in the caller's order.
    pub images: Vec<AddedImage>,
    /// What was left out, and why.
    pub errors: Vec<FailedImage>,
}

/// One image of an add.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct AddedImage {
    /// Id of the image: the new one, or the one that was there.
    pub id: String,
    /// Position in the call: of files in an archive, or of lines.
    pub index: usize,
    /// Its name in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Hash of the image's bytes, or of the vector's.
    pub content_hash: String,
    /// The pool had it already.
    pub duplicate: bool,
    /// When it was first added (RFC 3339, UTC).
    pub created_at: String,
}

/// What was left out.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct FailedImage {
    /// Position in the call.
    pub index: usize,
    /// Its name in the archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub name: Option<String>,
    /// Why.
    pub error: Problem,
}

/// Add images to the pool
///
/// Stores images without a label: to be suggested for labelling, and for the methods of training that learn from unlabelled
/// images too. Idempotent by content. Send a form, the bytes of one image, JSON, NDJSON (`application/x-ndjson`, one element
/// of `images` a line), or an archive: zip, tar, or tar packed by gzip or zstd. An archive is checked as a whole before
/// anything of it is stored. Then a bad file fails for itself alone, what is no image is left out, and both are listed under
/// `errors`. A call that breaks off keeps what it has stored; send it again, and what is there is recognised.
#[utoipa::path(
    post, path = "/images", tag = "pool", params(ImageOptions),
    request_body(description = "The images", content(
        (ImagesForm = "multipart/form-data"), (ImagesRequest = "application/json"), ("image/*"),
        (String = "application/x-ndjson", example = json!("\"data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7\"\n")),
        ("application/zip"), ("application/x-tar"), ("application/gzip"), ("application/zstd")
    )),
    responses(
        (status = 201, description = "At least one image is new", body = AddedImages),
        (status = 200, description = "None is new", body = AddedImages),
        ImageProblems
    )
)]
pub(in crate::http) async fn add_images(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    State(state): State<AppState>,
    request: Request,
) -> Result<impl IntoResponse + use<>, Problem> {
    let outcomes = match media_type(request.headers()).as_deref().and_then(bulk::Form::of) {
        Some(form) => add_bulk(&services, &path.collection, &state, form, request).await?,
        None => add_few(&services, &path.collection, &state, request).await?,
    };
    let mut body = AddedImages {
        added: 0,
        duplicates: 0,
        failed: 0,
        count: services.learner.image_count(&path.collection).await?,
        images: Vec::new(),
        errors: Vec::new(),
    };
    for outcome in outcomes {
        body.note(outcome);
    }
    let status = if body.added > 0 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(body)))
}

impl AddedImages {
    fn note(&mut self, Outcome { index, name, result }: Outcome) {
        match result {
            Ok(image) => {
                *if image.duplicate { &mut self.duplicates } else { &mut self.added } += 1;
                let crate::learn::AddedImage { id, content_hash, duplicate, created_at } = image;
                self.images.push(AddedImage { id, index, name, content_hash, duplicate, created_at });
            }
            Err(error) => {
                self.failed += 1;
                self.errors.push(FailedImage { index, name, error });
            }
        }
    }
}

/// A form, JSON or one image: all of it in memory, one transaction.
async fn add_few(
    services: &Services,
    collection: &str,
    state: &AppState,
    request: Request,
) -> Result<Vec<Outcome>, Problem> {
    let Payload { inputs, options } = Payload::<ImageOptions>::from_request(request, state).await?;
    let options = Options { views: options.views()?, on_error: options.on_error, admission: Admission::Now };
    let items = inputs.into_iter().enumerate();
    let items = items.map(|(index, input)| Item { index, name: None, input: Ok(input) }).collect();
    batch::add(services, collection, items, options).await
}

/// An archive or NDJSON: through a file, a batch at a time.
async fn add_bulk(
    services: &Services,
    collection: &str,
    state: &AppState,
    form: bulk::Form,
    request: Request,
) -> Result<Vec<Outcome>, Problem> {
    let views = payload::query_options::<ImageOptions>(request.uri())?.views()?;
    let options = Options { views, on_error: OnError::Skip, admission: Admission::Patient };
    let file = spool::receive(services, state, request).await?;
    let bounds = bulk::Bounds::of(services, state);
    let (batches, reading) = bulk::open(form, file, bounds).await?;
    let mut added = pin!(
        ReceiverStream::new(batches)
            .map(|items| batch::add(services, collection, items, options))
            .buffered(IN_FLIGHT)
    );
    let mut outcomes = Vec::new();
    while let Some(batch) = added.next().await {
        outcomes.extend(batch?);
    }
    reading.await.map_err(|error| spool::broke_off(&error))??;
    if outcomes.is_empty() { Err(payload::no_images()) } else { Ok(outcomes) }
}
