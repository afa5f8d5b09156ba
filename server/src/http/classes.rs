//! `/classes`: the labels of a collection.

use super::extract::{ClassPath, CollectionPath, JsonBody, PathParams, QueryParams};
use super::paging::{ListOf, PageQuery};
use super::problem::Problem;
use super::responses::{BadJson, Changed, CommonProblems, Conflict, NotFound, NotJson};
use super::state::Services;
use crate::learn;
use axum::Json;
use axum::extract::OriginalUri;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A class of a collection.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"id": "daisy", "name": "Daisy", "count": 12, "revision": 3, "created_at": "2026-01-01T00:00:00Z"}))]
pub(super) struct Class {
    /// What paths and answers call it.
    pub id: String,
    /// Name for people; the id unless given.
    pub name: String,
    /// Examples it has now.
    pub count: usize,
    /// Counts every change.
    pub revision: i64,
    /// When it was created (RFC 3339, UTC).
    pub created_at: String,
}

impl From<learn::Class> for Class {
    fn from(class: learn::Class) -> Self {
        let learn::Class { id, name, count, revision, created_at } = class;
        Self { id, name, count, revision, created_at }
    }
}

/// A class to create.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "daisy", "name": "Daisy"}))]
pub(super) struct NewClass {
    /// Lower-case letters, digits, `.`, `_` and `-`, at most 64; made up by the server unless given.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$", nullable = false)]
    id: Option<String>,
    /// Name for people; the id unless given.
    #[schema(nullable = false)]
    name: Option<String>,
}

/// What to change of a class.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"id": "oxeye-daisy", "name": "Oxeye daisy"}))]
pub(super) struct ClassChange {
    /// New id; examples and trained heads follow.
    #[schema(pattern = "^[a-z0-9][a-z0-9._-]{0,63}$", nullable = false)]
    id: Option<String>,
    /// New name for people.
    #[schema(nullable = false)]
    name: Option<String>,
}

fn entity_tag(class: &learn::Class) -> HeaderValue {
    HeaderValue::from_str(&format!("\"{}\"", class.tag())).unwrap_or(HeaderValue::from_static("\"\""))
}

/// The tags of `If-Match` (RFC 9110, §13.1.1); none where it is absent or `*`. Weak tags match nothing.
fn expected_tags(headers: &HeaderMap) -> Option<Vec<String>> {
    let text = headers.get(header::IF_MATCH)?.to_str().unwrap_or_default();
    if text.trim() == "*" {
        return None;
    }
    let tags = text.split(',').filter_map(|tag| tag.trim().strip_prefix('"')?.strip_suffix('"'));
    Some(tags.map(str::to_owned).collect())
}

fn answer(class: learn::Class) -> Response {
    ([(header::ETAG, entity_tag(&class))], Json(Class::from(class))).into_response()
}

/// Create a class
///
/// Creates a class without examples. Not needed before adding examples: the first example of a class creates it.
#[utoipa::path(
    post, path = "/classes", tag = "classes", request_body = NewClass,
    responses(
        (status = 201, description = "The new class", body = Class,
            headers(("location" = String, description = "Where it lives"))),
        CommonProblems, Conflict, BadJson, NotJson
    )
)]
pub(super) async fn create_class(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    OriginalUri(uri): OriginalUri,
    JsonBody(new): JsonBody<NewClass>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let id = new.id.unwrap_or_else(|| ulid::Ulid::generate().to_string().to_ascii_lowercase());
    let class = services.learner.create_class(&path.collection, &id, new.name.as_deref()).await?;
    let location = format!("{}/{id}", uri.path());
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], answer(class)))
}

/// List classes
///
/// In order of creation, a page at a time.
#[utoipa::path(
    get, path = "/classes", tag = "classes", params(PageQuery),
    responses((status = 200, description = "A page of classes", body = ListOf<Class>), CommonProblems)
)]
pub(super) async fn list_classes(
    services: Services,
    PathParams(path): PathParams<CollectionPath>,
    QueryParams(query): QueryParams<PageQuery>,
) -> Result<Json<ListOf<Class>>, Problem> {
    let classes = services.learner.classes(&path.collection, &query.page()?).await?;
    Ok(Json(ListOf::from_paged(classes)))
}

/// Get a class
///
/// With `If-None-Match` of an earlier answer's `ETag`, an unchanged class is answered with 304 and no body.
#[utoipa::path(
    get, path = "/classes/{id}", tag = "classes", params(("id" = String, Path, description = "Id of the class")),
    responses(
        (status = 200, description = "The class", body = Class,
            headers(("etag" = String, description = "Changes whenever the class or its examples do"))),
        (status = 304, description = "Unchanged since the `ETag` of `If-None-Match`"),
        CommonProblems, NotFound
    )
)]
pub(super) async fn get_class(
    services: Services,
    PathParams(path): PathParams<ClassPath>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let class = services.learner.class(&path.collection, &path.id).await?;
    let tag = entity_tag(&class);
    if headers.get(header::IF_NONE_MATCH) == Some(&tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(answer(class))
}

/// Rename a class
///
/// Changes its id, its name, or both. Examples and trained heads follow: they keep answering, under the new id. With
/// `If-Match`, only if the class still has that `ETag`.
#[utoipa::path(
    patch, path = "/classes/{id}", tag = "classes",
    params(("id" = String, Path, description = "Id of the class"),
        ("if-match" = Option<String>, Header, description = "`ETag` of the class as you have seen it")),
    request_body = ClassChange,
    responses(
        (status = 200, description = "The class as it is now", body = Class),
        CommonProblems, NotFound, Conflict, Changed, BadJson, NotJson
    )
)]
pub(super) async fn rename_class(
    services: Services,
    PathParams(path): PathParams<ClassPath>,
    headers: HeaderMap,
    JsonBody(change): JsonBody<ClassChange>,
) -> Result<Response, Problem> {
    let ClassChange { id, name } = change;
    services
        .learner
        .rename_class(&path.collection, &path.id, id.as_deref(), name.as_deref(), expected_tags(&headers))
        .await
        .map(answer)
        .map_err(Problem::from)
}

/// Delete a class
///
/// Deletes the class and its examples. Answers no longer name it from the next call on. With `If-Match`, only if the class
/// still has that `ETag`.
#[utoipa::path(
    delete, path = "/classes/{id}", tag = "classes",
    params(("id" = String, Path, description = "Id of the class"),
        ("if-match" = Option<String>, Header, description = "`ETag` of the class as you have seen it")),
    responses((status = 204, description = "It is gone"), CommonProblems, NotFound, Changed)
)]
pub(super) async fn delete_class(
    services: Services,
    PathParams(path): PathParams<ClassPath>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    services.learner.delete_class(&path.collection, &path.id, expected_tags(&headers)).await?;
    Ok(StatusCode::NO_CONTENT)
}
