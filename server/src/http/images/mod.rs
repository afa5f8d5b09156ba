//! `/images`: the pool of images to learn from and to label.

pub(super) mod add;
mod batch;
mod bulk;
mod spool;

use super::examples::Example;
use super::extract::{CollectionPath, ImagePath, JsonBody, PathParams, QueryParams};
use super::paging::{self, ListOf};
use super::problem::{Code, Problem};
use super::responses::{BadJson, CommonProblems, NotFound, NotJson, stored_image};
use super::state::Services;
use crate::learn::{self, ImageFilter};
use axum::Json;
use axum::http::StatusCode;
use axum::response::IntoResponse;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// An image of the pool.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "content_hash": "blake3:6f1c…", "media_type": "image/jpeg",
    "labels": [{"class": "daisy", "example": "01JZ4X8A9B0C1D2E3F4G5H6J7K"}], "embedded": true,
    "created_at": "2026-01-01T00:00:00Z"
}))]
pub(super) struct Image {
    /// Id of the image.
    pub id: String,
    /// Hash of the image's bytes, or of the vector's.
    pub content_hash: String,
    /// Type of the image; absent for one given as a vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub media_type: Option<String>,
    /// The examples with its content: none while it is unlabelled, one as a rule.
    pub labels: Vec<ImageLabel>,
    /// It has a vector of the model in use. Another model embeds the pool again, in the background.
    pub embedded: bool,
    /// When it was added (RFC 3339, UTC).
    pub created_at: String,
    /// When it was deleted; absent for a live image.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub deleted_at: Option<String>,
}

/// A label of an image.
#[derive(Serialize, ToSchema)]
pub(super) struct ImageLabel {
    /// Id of the class.
    pub class: String,
    /// Id of the example; deleting that takes the label off.
    pub example: String,
}

impl From<learn::Image> for Image {
    fn from(image: learn::Image) -> Self {
        let learn::Image { id, content_hash, media_type, labels, embedded, created_at, deleted_at } = image;
        let labels =
            labels.into_iter().map(|learn::ImageLabel { class, example }| ImageLabel { class, example });
        Self { id, content_hash, media_type, labels: labels.collect(), embedded, created_at, deleted_at }
    }
}

/// Which images to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ImageQuery {
    /// Rows in this page; 50 unless given.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
    /// `next` of the page before; the first page unless given.
    #[param(nullable = false)]
    after: Option<String>,
    /// Only images with a label, or only those without; all unless given.
    #[param(nullable = false)]
    labelled: Option<bool>,
    /// Also list deleted images, which can be restored.
    include_deleted: bool,
}

/// The label of an image.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"class": "daisy"}))]
pub(super) struct NewLabel {
    /// Id of the class; created if it is not there.
    class: String,
}

/// List the pool
///
/// The collection's images, oldest first, a page at a time; deleted ones only with `include_deleted=true`.
#[utoipa::path(
    get, path = "/images", tag = "pool", params(ImageQuery),
    responses((status = 200, description = "A page of images", body = ListOf<Image>), CommonProblems)
)]
pub(super) async fn list_images(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    QueryParams(query): QueryParams<ImageQuery>,
) -> Result<Json<ListOf<Image>>, Problem> {
    let page = paging::page(query.limit, query.after)?;
    let filter = ImageFilter { labelled: query.labelled, include_deleted: query.include_deleted };
    Ok(Json(ListOf::from_paged(services.learner.images(&path.collection, filter, &page).await?)))
}

/// Get an image of the pool
///
/// Its labels, if it has any, and what is known of it. A deleted one is still there.
#[utoipa::path(
    get, path = "/images/{id}", tag = "pool",
    params(("id" = String, Path, description = "Id of the image")),
    responses((status = 200, description = "The image", body = Image), CommonProblems, NotFound)
)]
pub(super) async fn get_image(
    services: Services,
    PathParams(path): PathParams<ImagePath>,
) -> Result<Json<Image>, Problem> {
    Ok(Json(services.learner.image(&path.collection, &path.id).await?.into()))
}

/// Get the bytes of an image of the pool
///
/// The bytes as they were sent.
#[utoipa::path(
    get, path = "/images/{id}/image", tag = "pool",
    params(("id" = String, Path, description = "Id of the image")),
    responses((status = 200, description = "The image", content_type = "image/*"), CommonProblems, NotFound)
)]
pub(super) async fn image_bytes(
    services: Services,
    PathParams(ImagePath { collection, id }): PathParams<ImagePath>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let Some((bytes, media_type)) = services.learner.image_bytes(&collection, &id).await? else {
        return Err(Problem::new(
            Code::ImageHasNoBytes,
            format!("Image `{id}` was given as a vector. Only images given as such have bytes."),
        ));
    };
    Ok(stored_image(bytes, media_type))
}

/// Delete an image from the pool
///
/// It is suggested and learnt from no more. Its labels, which are examples of their own, stay. It can be restored.
#[utoipa::path(
    delete, path = "/images/{id}", tag = "pool",
    params(("id" = String, Path, description = "Id of the image")),
    responses((status = 204, description = "It is deleted"), CommonProblems, NotFound)
)]
pub(super) async fn delete_image(
    services: Services,
    PathParams(path): PathParams<ImagePath>,
) -> Result<StatusCode, Problem> {
    services.learner.delete_image(&path.collection, &path.id).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a deleted image
///
/// Takes the deletion back. Restoring a live image changes nothing.
#[utoipa::path(
    post, path = "/images/{id}/restore", tag = "pool",
    params(("id" = String, Path, description = "Id of the image")),
    responses((status = 200, description = "The image", body = Image), CommonProblems, NotFound)
)]
pub(super) async fn restore_image(
    services: Services,
    PathParams(path): PathParams<ImagePath>,
) -> Result<Json<Image>, Problem> {
    Ok(Json(services.learner.restore_image(&path.collection, &path.id).await?.into()))
}

/// Label an image of the pool
///
/// Makes it an example of the class, which is created if it is not there; the next answer knows it. Nothing is sent or
/// embedded again. An image with another label gets this one instead. Deleting the example takes the label off.
#[utoipa::path(
    post, path = "/images/{id}/label", tag = "pool", request_body = NewLabel,
    params(("id" = String, Path, description = "Id of the image")),
    responses((status = 201, description = "The example that it is now", body = Example),
        (status = 200, description = "It had this label", body = Example),
        CommonProblems, NotFound, BadJson, NotJson)
)]
pub(super) async fn label_image(
    services: Services,
    PathParams(path): PathParams<ImagePath>,
    JsonBody(label): JsonBody<NewLabel>,
) -> Result<(StatusCode, Json<Example>), Problem> {
    let (example, changed) = services.learner.label_image(&path.collection, &path.id, &label.class).await?;
    let status = if changed { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(example.into())))
}
