//! The unlabelled images as learning reads them, and which of them to label next.

use super::core::Core;
use super::labelled::LabelledSet;
use super::{LearnError, Learner, name};
use crate::store::{StoreError, blocking, collections, images, read_vector};
use dozen_fewshot::select::{self, SuggestOptions};
use dozen_fewshot::{Pool, evenly_spaced};
use futures_util::TryStreamExt;
use std::ops::ControlFlow;
use tokio_util::sync::CancellationToken;

/// Unlabelled images of a collection.
#[derive(Default)]
pub(crate) struct Unlabelled {
    /// Ids of the images, in the order of the pool.
    pub(crate) ids: Vec<String>,
    /// Their vectors, and their views where all of them have some.
    pub(crate) pool: Pool,
    /// Images these stand for: with a vector of the current encoder, and no label.
    pub(crate) total: usize,
    /// Images without a label that wait for a vector of the current encoder.
    pub(crate) pending: usize,
}

/// What to label next.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Suggestions {
    /// The most helpful first.
    pub images: Vec<Suggestion>,
    /// Unlabelled images with a vector of the current encoder.
    pub pool: usize,
    /// Those of them that were looked at.
    pub considered: usize,
    /// Unlabelled images that wait for such a vector.
    pub pending: usize,
}

/// An image to label.
#[derive(Clone, Debug, PartialEq)]
pub struct Suggestion {
    /// Id.
    pub image: String,
    /// Share of the pool's uncertainty, 0 to 1, that it covers beyond the labelled and those before it.
    pub gain: f64,
    /// Chance that its present answer is wrong, 0 to 1.
    pub uncertainty: f64,
}

impl Learner {
    /// Up to `count` unlabelled images whose labels would help most ([`mod@dozen_fewshot::select`]); works without labels.
    ///
    /// A pool larger than [`SuggestOptions::candidates`] is represented by so many of its images, evenly spaced. One at a time
    /// per collection; a caller that goes away ends the work.
    pub async fn suggest(&self, collection: &str, count: usize) -> Result<Suggestions, LearnError> {
        name::check(collection)?;
        let core = self.core();
        let Some(turn) = core.advising(collection).await else { return Ok(Suggestions::default()) };
        let options = SuggestOptions::default();
        let Unlabelled { ids, pool, total, pending } = core.pool(collection, options.candidates).await?;
        let examples = LabelledSet::read(&core, collection).await?.vectors;
        let abandoned = CancellationToken::new();
        let _abandon = abandoned.clone().drop_guard();
        let chosen = blocking(move || {
            // Held by the work, not by the caller, so that nothing piles up behind a caller that has gone.
            let _turn = turn;
            select::suggest(&examples, &pool, count, &options, &mut |_| {
                if abandoned.is_cancelled() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            })
        })
        .await??;
        let public = |chosen: &select::Suggestion| Suggestion {
            image: ids[chosen.position].clone(),
            gain: chosen.gain,
            uncertainty: chosen.uncertainty,
        };
        let images = chosen.iter().map(public).collect();
        Ok(Suggestions { images, pool: total, considered: ids.len(), pending })
    }
}

impl Core {
    /// The unlabelled live images with a vector of the current encoder, in order of creation; evenly spaced ones if there are
    /// more than `most`. Only those are read. Each has as many views as the one of them with the fewest.
    pub(crate) async fn pool(&self, collection: &str, most: usize) -> Result<Unlabelled, LearnError> {
        let mut reader = self.store.read().await?;
        let Some(row) = collections::find(&mut reader, collection).await? else {
            return Ok(Unlabelled::default());
        };
        let (mut ready, mut pending) = (Vec::new(), 0);
        let mut rows = images::unlabelled(&mut reader, row.key, self.store.encoder);
        while let Some((key, embedded)) = rows.try_next().await.map_err(StoreError::from)? {
            if embedded {
                ready.push(key);
            } else {
                pending += 1;
            }
        }
        drop(rows);
        let total = ready.len();
        let keys: Vec<i64> = evenly_spaced(total, most).into_iter().map(|position| ready[position]).collect();
        let (mut ids, mut vectors, mut views) = (Vec::new(), Vec::new(), Vec::new());
        let mut rows = images::vectors(&mut reader, self.store.encoder, &keys);
        while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
            let vector = read_vector(&row.id, &row.vector, self.encoder.dimensions)?;
            if row.view == 0 {
                ids.push(row.id);
                vectors.push(vector);
                views.push(Vec::new());
            } else if let Some(views) = views.last_mut() {
                views.push(vector);
            }
        }
        let dimensions = self.encoder.dimensions;
        let common = views.iter().map(Vec::len).min().unwrap_or(0);
        let views = views.iter().flat_map(|views| views.iter().take(common)).map(Vec::as_slice);
        let pool = Pool::new(dimensions, vectors.iter().map(Vec::as_slice))?.with_views(dimensions, views)?;
        Ok(Unlabelled { ids, pool, total, pending })
    }
}
