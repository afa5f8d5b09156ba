//! Some images of a call, embedded together and stored in one transaction.

use crate::http::payload::Input;
use crate::http::payload::options::OnError;
use crate::http::problem::Problem;
use crate::http::state::Services;
use crate::http::vectors::{Admission, Vectored, vectorise_each};
use crate::learn::{AddedImage, NewImage, view_budget};
use crate::telemetry::metrics as names;
use axum::body::Bytes;
use dozen_models::Budget;
use dozen_models::image::Format;

/// One image of a call, or why there is none.
pub(super) struct Item {
    /// Position in the call.
    pub(super) index: usize,
    /// In an archive.
    pub(super) name: Option<String>,
    pub(super) input: Result<Input, Problem>,
}

/// What became of it.
pub(super) struct Outcome {
    pub(super) index: usize,
    pub(super) name: Option<String>,
    pub(super) result: Result<AddedImage, Problem>,
}

/// How a batch is added.
#[derive(Clone, Copy)]
pub(super) struct Options {
    /// Views of each image.
    pub(super) views: usize,
    /// With `Fail` a bad image fails the batch, and nothing of it is stored.
    pub(super) on_error: OnError,
    pub(super) admission: Admission,
}

/// Adds a batch, in order. Images that the pool has are recognised before they are decoded.
pub(super) async fn add(
    services: &Services,
    collection: &str,
    items: Vec<Item>,
    options: Options,
) -> Result<Vec<Outcome>, Problem> {
    let images: Vec<Bytes> = items
        .iter()
        .filter_map(|item| match &item.input {
            Ok(Input::Image(bytes)) => Some(bytes.clone()),
            Ok(Input::Vector(_)) | Err(_) => None,
        })
        .collect();
    let mut known = services.learner.known_images(collection, images, options.views).await?.into_iter();
    let mut outcomes = Vec::with_capacity(items.len());
    let mut places = Vec::new();
    let mut unknown = Vec::new();
    for Item { index, name, input } in items {
        let found = match &input {
            Ok(Input::Image(_)) => known.next().flatten(),
            Ok(Input::Vector(_)) | Err(_) => None,
        };
        let result = match (found, input) {
            (Some(image), _) => Some(Ok(image)),
            (None, Err(problem)) => Some(Err(problem)),
            (None, Ok(input)) => {
                places.push(outcomes.len());
                unknown.push((index, input));
                None
            }
        };
        outcomes.push((index, name, result));
    }
    names::images(
        "images",
        "duplicate",
        outcomes.iter().filter(|(.., result)| matches!(result, Some(Ok(_)))).count(),
    );
    let embedded = embed(services, unknown, options).await?;
    let mut new = Vec::with_capacity(embedded.len());
    let mut stored_at = Vec::with_capacity(embedded.len());
    for (place, result) in places.into_iter().zip(embedded) {
        match result {
            Ok(image) => {
                new.push(image);
                stored_at.push(place);
            }
            Err(problem) => outcomes[place].2 = Some(Err(problem)),
        }
    }
    if options.on_error == OnError::Fail
        && let Some(problem) = outcomes.iter().find_map(|(.., result)| result.as_ref()?.as_ref().err())
    {
        return Err(problem.clone());
    }
    if !new.is_empty() {
        let added = services.learner.add_images(collection, new).await?;
        for (place, image) in stored_at.into_iter().zip(added) {
            outcomes[place].2 = Some(Ok(image));
        }
    }
    let finished = |(index, name, result): (_, _, Option<_>)| Some(Outcome { index, name, result: result? });
    Ok(outcomes.into_iter().filter_map(finished).collect())
}

/// Vectors of images, each with its views.
async fn embed(
    services: &Services,
    inputs: Vec<(usize, Input)>,
    Options { views, admission, .. }: Options,
) -> Result<Vec<Result<NewImage, Problem>>, Problem> {
    let embed =
        |operation, inputs, budget| vectorise_each(&services.engine, operation, inputs, budget, admission);
    let places: Vec<usize> = inputs.iter().map(|(index, _)| *index).collect();
    let whole = |Vectored { vector, image, .. }| {
        let image = image.map(|(bytes, format): (_, Format)| (bytes, format.media_type()));
        NewImage { image, vector, views: Vec::new() }
    };
    let wholes = embed("images", inputs, Budget::default()).await?.items;
    let mut images: Vec<_> = wholes.into_iter().map(|item| item.map(whole)).collect();
    for view in 1..=views {
        // Those that are images, and good ones.
        let seen = images.iter_mut().zip(&places).filter_map(|(image, index)| {
            let (bytes, _) = image.as_ref().ok()?.image.as_ref()?;
            Some(((*index, Input::Image(bytes.clone())), image))
        });
        let (inputs, seen): (Vec<_>, Vec<_>) = seen.unzip();
        let parts = embed("views", inputs, view_budget(view)).await?.items;
        for (image, part) in seen.into_iter().zip(parts) {
            match (part, image) {
                (Ok(part), Ok(image)) => image.views.push(part.vector),
                (Err(problem), image) => *image = Err(problem),
                (Ok(_), Err(_)) => {}
            }
        }
    }
    Ok(images)
}
