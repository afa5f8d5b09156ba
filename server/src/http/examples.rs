//! `/classes/{id}/examples`: the labelled images a class is learnt from.

use super::extract::{ClassPath, ExamplePath, JsonBody, PathParams, QueryParams};
use super::paging::{self, ListOf};
use super::payload::Payload;
use super::payload::options::ExampleOptions;
use super::payload::schema::{ExamplesForm, ExamplesRequest};
use super::problem::{Code, Problem};
use super::responses::{BadJson, CommonProblems, ImageProblems, NotFound, NotJson, stored_image};
use super::state::Services;
use super::vectors::{Outcome, vectorise};
use crate::learn::{self, NewExample};
use axum::Json;
use axum::extract::OriginalUri;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use dozen_models::Budget;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// What an add did.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "class": "daisy", "added": 1, "duplicates": 0, "count": 12,
    "examples": [{"id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "index": 0, "content_hash": "blake3:6f1c…", "duplicate": false,
        "created_at": "2026-01-01T00:00:00Z"}]
}))]
pub(super) struct AddedExamples {
    /// Id of the class.
    pub class: String,
    /// Examples that are new.
    pub added: usize,
    /// Examples the class had already, by content.
    pub duplicates: usize,
    /// Examples the class has now.
    pub count: usize,
    /// One item per image, in the caller's order.
    pub examples: Vec<Outcome<AddedExample>>,
}

/// One example of an add.
#[derive(Serialize, ToSchema)]
pub(super) struct AddedExample {
    /// Id of the example: the new one, or the one that was there.
    pub id: String,
    /// Position in the call.
    pub index: usize,
    /// Hash of the image's bytes, or of the vector's.
    pub content_hash: String,
    /// The class had it already.
    pub duplicate: bool,
    /// When it was first added (RFC 3339, UTC).
    pub created_at: String,
}

/// A stored example.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "id": "01JZ4X7W3K8M2N5P6Q9R0S1T2V", "class": "daisy", "content_hash": "blake3:6f1c…", "media_type": "image/jpeg",
    "created_at": "2026-01-01T00:00:00Z"
}))]
pub(super) struct Example {
    /// Id of the example.
    pub id: String,
    /// Id of its class.
    pub class: String,
    /// Hash of the image's bytes, or of the vector's.
    pub content_hash: String,
    /// Type of the image; absent for an example given as a vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub media_type: Option<String>,
    /// When it was added (RFC 3339, UTC).
    pub created_at: String,
    /// When it was deleted; absent for a live example.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<String>,
}

impl From<learn::Example> for Example {
    fn from(example: learn::Example) -> Self {
        let learn::Example { id, class, content_hash, media_type, created_at, deleted_at } = example;
        Self { id, class, content_hash, media_type, created_at, deleted_at }
    }
}

/// Which examples to list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ExampleQuery {
    /// Rows in this page; 50 unless given.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<usize>,
    /// `next` of the page before; the first page unless given.
    #[param(nullable = false)]
    after: Option<String>,
    /// Also list deleted examples, which can be restored.
    include_deleted: bool,
}

/// Where an example moves.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"class": "tulip"}))]
pub(super) struct MoveTarget {
    /// Id of the other class; created if it is not there.
    class: String,
}

/// Add examples to a class
///
/// Stores labelled images and learns from them at once: the next classification knows them. The class is created if it
/// is not there. Idempotent by content: an image the class has already is answered with its old id and counted under
/// `duplicates`. One bad image fails the whole call, and nothing is stored, unless `on_error` is `skip`.
#[utoipa::path(
    post, path = "/classes/{id}/examples", tag = "examples",
    params(("id" = String, Path, description = "Id of the class"), ExampleOptions),
    request_body(description = "The images", content(
        (ExamplesForm = "multipart/form-data"), (ExamplesRequest = "application/json"), ("image/*")
    )),
    responses(
        (status = 201, description = "At least one example is new", body = AddedExamples,
            headers(("location" = String, description = "Where the class's examples are listed"))),
        (status = 200, description = "The class had all of them already", body = AddedExamples),
        ImageProblems
    )
)]
pub(super) async fn add_examples(
    services: Services,
    PathParams(path): PathParams<ClassPath>,
    OriginalUri(uri): OriginalUri,
    payload: Payload<ExampleOptions>,
) -> Result<Response, Problem> {
    let Payload { inputs, options } = payload;
    let vectors =
        vectorise(&services.engine, "examples", inputs, Budget::default(), options.on_error).await?;
    let timing = vectors.server_timing();
    let mut examples = Vec::new();
    let mut places = Vec::new();
    let mut failures = Vec::new();
    for (index, item) in vectors.items.into_iter().enumerate() {
        match item {
            Ok(item) => {
                let image = item.image.map(|(bytes, format)| (bytes, format.media_type()));
                examples.push(NewExample { image, vector: item.vector });
                places.push(index);
            }
            Err(problem) => failures.push((index, problem)),
        }
    }
    if examples.is_empty()
        && let Some((_, problem)) = failures.first()
    {
        // Nothing to store, so there is no class to answer about.
        return Err(problem.clone());
    }
    let added = services.learner.add_examples(&path.collection, &path.id, examples).await?;
    let body = added_body(added, &places, failures);
    let status = if body.added > 0 { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, [(header::LOCATION, uri.path().to_owned())], timing, Json(body)).into_response())
}

/// Puts what was added and what failed back into the caller's order.
fn added_body(added: learn::Added, places: &[usize], failures: Vec<(usize, Problem)>) -> AddedExamples {
    let duplicates = added.examples.iter().filter(|example| example.duplicate).count();
    let new = added.examples.len() - duplicates;
    let done = added.examples.into_iter().zip(places).map(|(added, &index)| {
        let learn::Example { id, content_hash, created_at, .. } = added.example;
        (
            index,
            Outcome::Done(AddedExample { id, index, content_hash, duplicate: added.duplicate, created_at }),
        )
    });
    let failed = failures.into_iter().map(|(index, problem)| (index, Outcome::failed(index, problem)));
    let mut items: Vec<_> = done.chain(failed).collect();
    items.sort_by_key(|(index, _)| *index);
    AddedExamples {
        class: added.class.id,
        added: new,
        duplicates,
        count: added.class.count,
        examples: items.into_iter().map(|(_, item)| item).collect(),
    }
}

/// List the examples of a class
///
/// Oldest first, a page at a time; deleted ones only with `include_deleted=true`.
#[utoipa::path(
    get, path = "/classes/{id}/examples", tag = "examples",
    params(("id" = String, Path, description = "Id of the class"), ExampleQuery),
    responses((status = 200, description = "A page of examples", body = ListOf<Example>), CommonProblems, NotFound)
)]
pub(super) async fn list_examples(
    services: Services,
    PathParams(path): PathParams<ClassPath>,
    QueryParams(query): QueryParams<ExampleQuery>,
) -> Result<Json<ListOf<Example>>, Problem> {
    let page = paging::page(query.limit, query.after)?;
    let examples =
        services.learner.examples(&path.collection, &path.id, query.include_deleted, &page).await?;
    Ok(Json(ListOf::from_paged(examples)))
}

/// Delete an example
///
/// Forgets the example from the next answer on. It stays restorable.
#[utoipa::path(
    delete, path = "/classes/{id}/examples/{example}", tag = "examples",
    params(("id" = String, Path, description = "Id of the class"), ("example" = String, Path, description = "Id of the example")),
    responses((status = 204, description = "It is deleted"), CommonProblems, NotFound)
)]
pub(super) async fn delete_example(
    services: Services,
    PathParams(path): PathParams<ExamplePath>,
) -> Result<StatusCode, Problem> {
    services.learner.delete_example(&path.collection, &path.id, &path.example).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Restore a deleted example
///
/// Takes the deletion back; the next answer knows the example again. Restoring a live example changes nothing.
#[utoipa::path(
    post, path = "/classes/{id}/examples/{example}/restore", tag = "examples",
    params(("id" = String, Path, description = "Id of the class"), ("example" = String, Path, description = "Id of the example")),
    responses((status = 200, description = "The example", body = Example), CommonProblems, NotFound)
)]
pub(super) async fn restore_example(
    services: Services,
    PathParams(path): PathParams<ExamplePath>,
) -> Result<Json<Example>, Problem> {
    let example = services.learner.restore_example(&path.collection, &path.id, &path.example).await?;
    Ok(Json(example.into()))
}

/// Move an example to another class
///
/// Corrects a label: the example leaves this class and joins the other, which is created if it is not there.
#[utoipa::path(
    post, path = "/classes/{id}/examples/{example}/move", tag = "examples", request_body = MoveTarget,
    params(("id" = String, Path, description = "Id of the class"), ("example" = String, Path, description = "Id of the example")),
    responses((status = 200, description = "The example in its new class", body = Example),
        CommonProblems, NotFound, BadJson, NotJson)
)]
pub(super) async fn move_example(
    services: Services,
    PathParams(path): PathParams<ExamplePath>,
    JsonBody(target): JsonBody<MoveTarget>,
) -> Result<Json<Example>, Problem> {
    let ExamplePath { collection, id, example } = path;
    let example = services.learner.move_example(&collection, &id, &example, &target.class).await?;
    Ok(Json(example.into()))
}

/// Get an example's image
///
/// The bytes as they were sent.
#[utoipa::path(
    get, path = "/classes/{id}/examples/{example}/image", tag = "examples",
    params(("id" = String, Path, description = "Id of the class"), ("example" = String, Path, description = "Id of the example")),
    responses((status = 200, description = "The image", content_type = "image/*"), CommonProblems, NotFound)
)]
pub(super) async fn example_image(
    services: Services,
    PathParams(path): PathParams<ExamplePath>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let ExamplePath { collection, id, example } = path;
    let Some((bytes, media_type)) = services.learner.example_image(&collection, &id, &example).await? else {
        return Err(Problem::new(
            Code::ExampleHasNoImage,
            format!("Example `{example}` was given as a vector. Only examples given as images have one."),
        ));
    };
    Ok(stored_image(bytes, media_type))
}
