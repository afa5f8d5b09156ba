//! Some images of a call, embedded together and stored in one transaction.

use crate::http::payload::Input;
use crate::http::problem::{Code, Problem};
use crate::http::state::Services;
use crate::http::vectors::{Vectored, vectorise_each};
use crate::learn::{AddedImage, NewImage, view_budget};
use axum::body::Bytes;
use dozen_models::Budget;
use std::time::Duration;

/// Pause before a batch tries again to enter a full queue.
const PATIENCE: Duration = Duration::from_millis(250);

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

/// What a batch does when the queue is full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The call is refused; and with `fail` also for the first bad image.
    Now {
        /// One bad image fails the call, and nothing is stored.
        fail: bool,
    },
    /// It waits for room: the file is here, and whoever sent it expects it to take a while.
    Waits,
}

/// Adds a batch, in order. Images that the pool has are recognised before they are decoded.
pub(super) async fn add(
    services: &Services,
    collection: &str,
    items: Vec<Item>,
    views: usize,
    admission: Admission,
) -> Result<Vec<Outcome>, Problem> {
    let images: Vec<Bytes> = items
        .iter()
        .filter_map(|item| match &item.input {
            Ok(Input::Image(bytes)) => Some(bytes.clone()),
            Ok(Input::Vector(_)) | Err(_) => None,
        })
        .collect();
    let mut known = services.learner.known_images(collection, images, views).await?.into_iter();
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
    let embedded = embed(services, unknown, views, admission).await?;
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
    if admission == (Admission::Now { fail: true })
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
    views: usize,
    admission: Admission,
) -> Result<Vec<Result<NewImage, Problem>>, Problem> {
    if inputs.is_empty() {
        return Ok(Vec::new());
    }
    let wholes = admitted(services, &inputs, Budget::default(), admission).await?;
    let mut images: Vec<Result<NewImage, Problem>> = wholes
        .into_iter()
        .map(|whole| {
            whole.map(|Vectored { vector, image, .. }| {
                let image = image.map(|(bytes, format)| (bytes, format.media_type()));
                NewImage { image, vector, views: Vec::new() }
            })
        })
        .collect();
    for view in 1..=views {
        let seen = |image: &Result<NewImage, Problem>| {
            image.as_ref().ok().and_then(|image| image.image.as_ref()).map(|(bytes, _)| bytes.clone())
        };
        let (places, again): (Vec<usize>, Vec<(usize, Input)>) = inputs
            .iter()
            .zip(&images)
            .enumerate()
            .filter_map(|(place, ((index, _), image))| Some((place, (*index, Input::Image(seen(image)?)))))
            .unzip();
        if again.is_empty() {
            break;
        }
        let parts = admitted(services, &again, view_budget(view), admission).await?;
        for (place, part) in places.into_iter().zip(parts) {
            match (part, &mut images[place]) {
                (Ok(part), Ok(image)) => image.views.push(part.vector),
                (Err(problem), image) => *image = Err(problem),
                (Ok(_), Err(_)) => {}
            }
        }
    }
    Ok(images)
}

/// Vectors, once the queue has room for the images or, unless the batch waits, if it has.
async fn admitted(
    services: &Services,
    inputs: &[(usize, Input)],
    budget: Budget,
    admission: Admission,
) -> Result<Vec<Result<Vectored, Problem>>, Problem> {
    loop {
        match vectorise_each(&services.engine, "images", inputs.to_vec(), budget).await {
            Err(problem) if problem.code == Code::QueueFull && admission == Admission::Waits => {
                tokio::time::sleep(PATIENCE).await;
            }
            vectors => return Ok(vectors?.items),
        }
    }
}
