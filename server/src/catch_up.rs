//! After a change of encoder: the pool's images get vectors of the new one, in the background.
//!
//! A pool may be large and answers do not need it, so the server is ready meanwhile; images without a vector of the encoder
//! in use are simply not in the pool yet. Not when they are first asked for, either: that call would wait for all of them.

use crate::engine::{Embedded, Engine};
use crate::learn::{LearnError, Learner, PendingImage, view_budget};
use bytes::Bytes;
use dozen_models::Budget;
use tokio_util::sync::CancellationToken;

/// Images embedded at a time: few, so that callers find room beside them.
const BATCH: usize = 16;

/// Embeds every image that lacks a vector of the engine's encoder, then ends; stops early when told to.
pub(crate) async fn run(engine: Engine, learner: Learner, stop: CancellationToken) {
    let caught_up = stop.run_until_cancelled(embed_pending(&engine, &learner)).await;
    if let Some(Err(error)) = caught_up {
        tracing::error!(%error, "the pool cannot be embedded with the new encoder; the rest of it stays out until a restart");
    }
}

async fn embed_pending(engine: &Engine, learner: &Learner) -> Result<(), LearnError> {
    let mut last = 0;
    let mut done = 0;
    loop {
        let pending = learner.pending_images(last, BATCH).await?;
        let Some(newest) = pending.last() else { break };
        last = newest.key();
        if done == 0 {
            tracing::info!("embedding the pool with the new encoder");
        }
        let vectors = vectors(engine, pending).await;
        done += vectors.len();
        learner.set_image_vectors(vectors).await?;
    }
    if done > 0 {
        tracing::info!(images = done, "the pool is embedded");
    }
    Ok(())
}

/// Vectors of stored images and as many views as each has; one that fails is logged and left out.
async fn vectors(
    engine: &Engine,
    pending: Vec<PendingImage>,
) -> Vec<(PendingImage, Vec<f32>, Vec<Vec<f32>>)> {
    let contents = pending.iter().map(|image| image.image.clone()).collect();
    let wholes = embed(engine, contents, Budget::default()).await;
    let whole = |(image, whole): (_, Option<_>)| Some((image, whole?, Vec::new()));
    let mut images: Vec<(PendingImage, _, Vec<_>)> =
        pending.into_iter().zip(wholes).filter_map(whole).collect();
    for view in 1.. {
        let mut seen: Vec<_> = images.iter_mut().filter(|(image, ..)| image.views >= view).collect();
        if seen.is_empty() {
            break;
        }
        let contents = seen.iter().map(|(image, ..)| image.image.clone()).collect();
        for ((.., views), part) in seen.iter_mut().zip(embed(engine, contents, view_budget(view)).await) {
            views.extend(part);
        }
    }
    images
}

/// A vector for each image that has one.
async fn embed(engine: &Engine, images: Vec<Bytes>, budget: Budget) -> Vec<Option<Vec<f32>>> {
    let embedded = match engine.embed_patiently(&images, budget).await {
        Ok(embedded) => embedded,
        Err(error) => {
            tracing::error!(%error, "stored images cannot be embedded; they stay out of the pool");
            return vec![None; images.len()];
        }
    };
    let vector = |result: Result<Embedded, _>| match result {
        Ok(embedded) => Some(embedded.embedding.vector),
        Err(error) => {
            tracing::warn!(%error, "a stored image cannot be embedded; it stays out of the pool");
            None
        }
    };
    embedded.into_iter().map(vector).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::tests::{Fake, OPTIONS, picture};
    use crate::learn::{DEFAULT_COLLECTION, ImageFilter, NewImage, Page};
    use dozen_models::EncoderInfo;

    #[tokio::test]
    async fn the_pool_of_another_encoder_is_embedded_with_its_views() {
        let place = tempfile::tempdir().unwrap();
        let fake = Fake::new(None);
        let before = EncoderInfo { id: "before".to_owned(), ..fake.info.clone() };
        let learner = Learner::open(place.path(), &before).await.unwrap();
        let mut new: Vec<NewImage> = (1..20)
            .map(|number| NewImage {
                image: Some((picture(number, 9, 9), "image/bmp")),
                vector: vec![1.0, 0.0, 0.0],
                views: vec![vec![0.0, 1.0, 0.0]; usize::from(number == 7) * 2],
            })
            .collect();
        let text = NewImage { image: Some((Bytes::from_static(b"text"), "image/bmp")), ..new.remove(0) };
        new.push(text);
        learner.add_images(DEFAULT_COLLECTION, new).await.unwrap();
        learner.close().await;

        let learner = Learner::open(place.path(), &fake.info).await.unwrap();
        let engine = Engine::start(fake, OPTIONS).unwrap();
        run(engine.clone(), learner.clone(), CancellationToken::new()).await;
        let page = Page { limit: 100, after: None };
        let images = learner.images(DEFAULT_COLLECTION, ImageFilter::default(), &page).await.unwrap().data;
        let embedded: Vec<bool> = images.iter().map(|image| image.embedded).collect();
        assert_eq!(embedded, (0..19).map(|number| number < 18).collect::<Vec<_>>(), "all but the text");
        let known = learner.known_images(DEFAULT_COLLECTION, vec![picture(7, 9, 9)], 2).await.unwrap();
        assert!(known[0].is_some(), "as many views as it had");
        let known = learner.known_images(DEFAULT_COLLECTION, vec![picture(8, 9, 9)], 1).await.unwrap();
        assert!(known[0].is_none());
        // What cannot be embedded does not keep it from ending.
        run(engine, learner, CancellationToken::new()).await;
    }
}
