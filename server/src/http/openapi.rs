//! The API description, made from the handlers.

use super::responses::problem_schemas;
use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{ComponentsBuilder, OpenApi as Document, Required};

/// Paths under it name their collection.
pub(super) const COLLECTION_PREFIX: &str = "/collections/{collection}";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "dozen",
        description = "Label a dozen images per class, classify the rest.\n\n\
            Every refusal is an RFC 9457 problem with a stable `code`, what happened, and what to do about it. \
            Paths without `/collections/{collection}` act on the collection `default`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    tags(
        (name = "images", description = "Embed and classify"),
        (name = "classes", description = "The labels"),
        (name = "examples", description = "The labelled images a class is learnt from"),
        (name = "pool", description = "Images without a label, and which of them to label next"),
        (name = "training", description = "Better heads from the stored examples"),
        (name = "operations", description = "Health, metrics, what this server is")
    )
)]
struct Base;

/// The parts that no handler states.
pub(super) fn base() -> Document {
    let mut document = Base::openapi();
    let bearer = SecurityScheme::Http(
        HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("One of the server's API keys, if it has any."))
            .build(),
    );
    let components =
        ComponentsBuilder::new().security_scheme("key", bearer).schemas_from_iter(problem_schemas());
    document.components = Some(components.build());
    // Either nothing or a key: whether keys are asked for is the server's configuration.
    document.security =
        Some(vec![SecurityRequirement::default(), SecurityRequirement::new("key", Vec::<String>::new())]);
    document
}

/// Makes the operations under a collection differ from those on `default`: operation ids are unique in a document, and
/// the collection is a parameter.
pub(super) fn name_collections(document: &mut Document) {
    let parameter = ParameterBuilder::new()
        .name("collection")
        .parameter_in(ParameterIn::Path)
        .required(Required::True)
        .description(Some("Name of the collection; it appears with its first class, example or image"))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String).build()))
        .build();
    for (path, item) in &mut document.paths.paths {
        if path.starts_with(COLLECTION_PREFIX) {
            for operation in operations(item) {
                if let Some(id) = &mut operation.operation_id {
                    id.push_str("_in_collection");
                }
                operation.parameters.get_or_insert_default().insert(0, parameter.clone().into());
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
}
