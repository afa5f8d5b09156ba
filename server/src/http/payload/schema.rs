//! Bodies of calls that take images, as the API description shows them. What is read is [`super::Payload`].

use super::ImageInput;
use super::options::{ClassifyOptions, EmbedOptions, ExampleOptions, ImageOptions};
use serde::Serialize;
use utoipa::ToSchema;

/// Images to embed.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"images": ["data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"], "encoding_format": "float"}))]
pub struct EmbedRequest {
    /// One or more images.
    #[schema(min_items = 1)]
    pub images: Vec<ImageInput>,
    /// Options stand beside `images`.
    #[serde(flatten)]
    pub options: EmbedOptions,
}

/// Images to embed, as a form.
#[derive(Serialize, ToSchema)]
pub struct EmbedForm {
    /// One part per image; the part name `file` is understood too.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    pub image: Vec<Vec<u8>>,
    /// Options as JSON.
    #[schema(nullable = false)]
    pub options: Option<EmbedOptions>,
}

/// Labelled images to learn from.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"images": ["data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"], "on_error": "skip"}))]
pub struct ExamplesRequest {
    /// One or more images or vectors.
    #[schema(min_items = 1)]
    pub images: Vec<ImageInput>,
    /// Options stand beside `images`.
    #[serde(flatten)]
    pub options: ExampleOptions,
}

/// Labelled images to learn from, as a form.
#[derive(Serialize, ToSchema)]
pub struct ExamplesForm {
    /// One part per image; the part name `file` is understood too.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    pub image: Vec<Vec<u8>>,
    /// Options as JSON.
    #[schema(nullable = false)]
    pub options: Option<ExampleOptions>,
}

/// Images for the pool.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"images": ["data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"], "on_error": "skip"}))]
pub struct ImagesRequest {
    /// One or more images or vectors.
    #[schema(min_items = 1)]
    pub images: Vec<ImageInput>,
    /// Options stand beside `images`.
    #[serde(flatten)]
    pub options: ImageOptions,
}

/// Images for the pool, as a form.
#[derive(Serialize, ToSchema)]
pub struct ImagesForm {
    /// One part per image; the part name `file` is understood too.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    pub image: Vec<Vec<u8>>,
    /// Options as JSON.
    #[schema(nullable = false)]
    pub options: Option<ImageOptions>,
}

/// Images to classify.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"images": ["data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"], "top_k": 3, "min_confidence": 0.5}))]
pub struct ClassifyRequest {
    /// One or more images or vectors.
    #[schema(min_items = 1)]
    pub images: Vec<ImageInput>,
    /// Options stand beside `images`.
    #[serde(flatten)]
    pub options: ClassifyOptions,
}

/// Images to classify, as a form.
#[derive(Serialize, ToSchema)]
pub struct ClassifyForm {
    /// One part per image; the part name `file` is understood too.
    #[schema(value_type = Vec<String>, format = Binary, min_items = 1)]
    pub image: Vec<Vec<u8>>,
    /// Options as JSON.
    #[schema(nullable = false)]
    pub options: Option<ClassifyOptions>,
}
