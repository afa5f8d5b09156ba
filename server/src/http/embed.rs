//! `POST /embed`: images to vectors.

use super::payload::options::{EmbedOptions, EncodingFormat};
use super::payload::schema::{EmbedForm, EmbedRequest};
use super::payload::{Input, Payload};
use super::problem::{Code, Problem};
use super::responses::ImageProblems;
use super::state::Services;
use super::vectors::{Outcome, normalise, vectorise};
use axum::Json;
use axum::response::IntoResponse;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use utoipa::ToSchema;

/// Vectors of the images of a call.
#[derive(Serialize, ToSchema)]
#[schema(example = json!({
    "model": "dozen-vit-tiny-msn", "dimensions": 128,
    "data": [{"index": 0, "embedding": [0.01, -0.02, 0.05]}], "usage": {"images": 1, "keep": 1.0}
}))]
pub(super) struct EmbedResponse {
    /// The model that made them.
    pub model: String,
    /// Length of each.
    pub dimensions: usize,
    /// One item per image, in the caller's order.
    pub data: Vec<Outcome<EmbeddedItem>>,
    /// What the call used.
    pub usage: Usage,
}

/// One image's vector.
#[derive(Serialize, ToSchema)]
pub(super) struct EmbeddedItem {
    /// Position in the call.
    pub index: usize,
    /// Unit vector.
    pub embedding: Embedding,
    /// With `masks`: how far their vectors disagree, 0 (not at all) to 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub spread: Option<f32>,
}

/// A vector as the call asked for it.
#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Embedding {
    /// Numbers.
    Float(Vec<f32>),
    /// Base64 of little-endian 32-bit floats.
    Base64(String),
}

/// What the call used.
#[derive(Serialize, ToSchema)]
pub(super) struct Usage {
    /// Images embedded.
    pub images: usize,
    /// Share of their patches that were embedded.
    pub keep: f32,
}

/// Embed images
///
/// Answers one unit vector per image, in the caller's order. Send a form with one part `image` per image, the raw bytes
/// of one image, or JSON. Vectors of one model compare by their dot product.
#[utoipa::path(
    post, path = "/embed", tag = "images", params(EmbedOptions),
    request_body(description = "The images", content(
        (EmbedForm = "multipart/form-data"), (EmbedRequest = "application/json"), ("image/*")
    )),
    responses((status = 200, description = "One vector per image", body = EmbedResponse,
        headers(("server-timing" = String, description = "Milliseconds queued, decoding and in the encoder"))),
        ImageProblems)
)]
pub(super) async fn embed(
    services: Services,
    payload: Payload<EmbedOptions>,
) -> Result<impl IntoResponse + use<>, Problem> {
    let Payload { inputs, options } = payload;
    let info = services.engine.info();
    if let Some(index) = inputs.iter().position(|input| matches!(input, Input::Vector(_))) {
        let detail = "a vector needs no embedding; send images";
        return Err(
            Problem::new(Code::InvalidRequest, format!("Image {index}: {detail}.")).at_image(index, detail)
        );
    }
    options.check()?;
    let budget = options.budget()?;
    let dimensions = options.output_dimensions(info.dimensions)?;
    let vectors = vectorise(&services.engine, "embed", inputs, budget, options.on_error).await?;
    let timing = vectors.server_timing();
    let usage =
        Usage { images: vectors.items.iter().filter(|item| item.is_ok()).count(), keep: vectors.keep };
    let data = vectors
        .items
        .into_iter()
        .enumerate()
        .map(|(index, item)| match item {
            Ok(item) => {
                let embedding = written(item.vector, dimensions, options.encoding_format);
                Outcome::Done(EmbeddedItem { index, embedding, spread: item.spread })
            }
            Err(problem) => Outcome::failed(index, problem),
        })
        .collect();
    Ok((timing, Json(EmbedResponse { model: info.name.clone(), dimensions, data, usage })))
}

fn written(mut vector: Vec<f32>, dimensions: usize, format: EncodingFormat) -> Embedding {
    if dimensions < vector.len() {
        vector.truncate(dimensions);
        normalise(&mut vector);
    }
    match format {
        EncodingFormat::Float => Embedding::Float(vector),
        EncodingFormat::Base64 => {
            let bytes: Vec<u8> = vector.iter().flat_map(|component| component.to_le_bytes()).collect();
            Embedding::Base64(STANDARD.encode(bytes))
        }
    }
}
