//! The HTTP surface: one file per resource, one table of problems, one way in for images.
//!
//! Handlers only translate: they extract, call the engine and the learner, and write the answer. What a caller may get
//! wrong is found by the extractors (`extract.rs`, `payload/`), which refuse with problems.

mod audit;
pub mod auth;
mod classes;
mod classify;
mod context;
mod embed;
mod events;
mod examples;
mod extract;
mod heads;
mod images;
mod jobs;
mod openapi;
mod operations;
mod paging;
pub mod payload;
pub mod problem;
mod problem_from;
mod readiness;
mod responses;
mod state;
mod suggest;
mod train;
mod vectors;

pub use state::{AppState, HttpOptions, Services};

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

/// Operations on a collection, mounted at the root for `default` and under a prefix for any.
fn collection_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::default()
        .routes(routes!(embed::embed))
        .routes(routes!(classify::classify))
        .routes(routes!(train::train))
        .routes(routes!(classes::create_class, classes::list_classes))
        .routes(routes!(classes::get_class, classes::rename_class, classes::delete_class))
        .routes(routes!(examples::add_examples, examples::list_examples))
        .routes(routes!(examples::delete_example))
        .routes(routes!(examples::restore_example))
        .routes(routes!(examples::move_example))
        .routes(routes!(examples::example_image))
        .routes(routes!(images::add::add_images, images::list_images))
        .routes(routes!(images::get_image, images::delete_image))
        .routes(routes!(images::image_bytes))
        .routes(routes!(images::restore_image))
        .routes(routes!(images::label_image))
        .routes(routes!(suggest::suggest))
        .routes(routes!(heads::list_heads))
        .routes(routes!(heads::activate_head))
        .routes(routes!(heads::diff_heads))
        .routes(routes!(readiness::readiness))
        .routes(routes!(audit::audit))
}

/// Operations on the server as a whole.
fn server_routes() -> OpenApiRouter<AppState> {
    OpenApiRouter::default()
        .routes(routes!(jobs::list_jobs))
        .routes(routes!(jobs::get_job))
        .routes(routes!(jobs::cancel_job))
        .routes(routes!(audit::list_findings))
        .routes(routes!(audit::resolve_finding))
        .routes(routes!(events::job_events))
        .routes(routes!(operations::livez))
        .routes(routes!(operations::readyz))
        .routes(routes!(operations::healthz))
        .routes(routes!(operations::metrics))
        .routes(routes!(operations::info))
        .routes(routes!(operations::explain_problem))
}

fn documented_routes() -> (Router<AppState>, OpenApi) {
    let (router, mut document) = OpenApiRouter::with_openapi(openapi::base())
        .merge(collection_routes())
        .nest(openapi::COLLECTION_PREFIX, collection_routes())
        .merge(server_routes())
        .split_for_parts();
    openapi::name_collections(&mut document);
    (router, document)
}

/// The API description.
pub fn openapi_document() -> OpenApi {
    documented_routes().1
}

/// The whole surface over a state. `cors_origins`: other origins whose pages may call, `*` for any.
pub fn router(state: &AppState, cors_origins: &[String]) -> Router {
    let (router, document) = documented_routes();
    // Outermost last. The request context writes the bodies of all problems, so it is outside of whatever refuses.
    let router = router
        .merge(SwaggerUi::new("/docs").url("/openapi.json", document))
        .layer(CatchPanicLayer::custom(context::panic_response))
        .layer(from_fn_with_state(state.clone(), auth::require_access))
        .layer(from_fn(context::request_metrics))
        .layer(DefaultBodyLimit::max(state.options().payload_limit));
    let router = if cors_origins.is_empty() { router } else { router.layer(cors(cors_origins)) };
    router.layer(from_fn(context::request_context)).with_state(state.clone())
}

fn cors(origins: &[String]) -> CorsLayer {
    let allowed = if origins.iter().any(|origin| origin == "*") {
        AllowOrigin::from(Any)
    } else {
        AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET, Method::POST, Method::PATCH, Method::DELETE])
        .allow_headers([
            header::AUTHORIZATION,
            header::CONTENT_TYPE,
            header::IF_NONE_MATCH,
            HeaderName::from_static("last-event-id"),
            context::X_REQUEST_ID,
        ])
        .expose_headers([
            header::ETAG,
            header::LOCATION,
            header::RETRY_AFTER,
            HeaderName::from_static("server-timing"),
            context::X_REQUEST_ID,
        ])
}
